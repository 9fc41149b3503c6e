"""Disease masks from the maps of many films, as a stream: memory does not grow with the archive."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from cxrlocus.errors import RunError
from cxrlocus.files import writing_whole
from cxrlocus.functional.masks import disease_mask, place_maps, stream_mean
from cxrlocus.methods.kim2021.anatomy import draw_mask
from cxrlocus.methods.kim2021.config import KimConfig
from cxrlocus.types import Findings

FILE = "masks.safetensors"


class MapStream:
    """Each finding's mean map over its probable films, and the maps of its most probable ones in case those are few.

    Args:
        config: of the stage.
        findings: their vocabulary.
        side: of the maps.
        offset: how far from its own centre a cell looks, in cells.

    Example:
        >>> config = KimConfig(mask_best=2, mask_least=1, asymmetric="Mass")
        >>> stream = MapStream(config, Findings(("Mass",)), side=2)
        >>> maps, prob = torch.eye(2).expand(3, 1, 2, 2), torch.tensor([[0.9], [0.9], [0.2]])
        >>> stream.add(maps, prob, torch.tensor([[True], [False], [True]]))
        >>> mean, told = stream.means()
        >>> mean[0].tolist(), told
        ([[1.0, 0.0], [0.0, 1.0]], {'Mass': {'films': 1, 'rule': 'P >= 0.8'}})
    """

    def __init__(self, config: KimConfig, findings: Findings, side: int, offset: float = 0.0) -> None:
        self.config, self.findings = config, findings
        self.offset = offset if config.mirror == "film" else 0.0
        chosen = config.masked(findings)
        self.wanted = torch.tensor([name in chosen for name in findings])
        self.mirrored = torch.tensor(config.mirrored(findings))
        count, best = len(findings), config.mask_best
        self.state = {
            "mean": torch.zeros(count, side, side, dtype=torch.float64),
            "count": torch.zeros(count, dtype=torch.int64),
            "best": torch.zeros(best, count, side, side),
            "prob": torch.full((best, count), -1.0),
        }

    def add(self, evidence: Tensor, prob: Tensor, labelled: Tensor) -> None:
        """Take in films: raw maps (N, C, h, w), probabilities (N, C), and which findings are labelled (N, C) bool."""
        state, maps = self.state, place_maps(evidence, self.mirrored, self.offset)
        labelled = labelled & self.wanted
        probable = labelled & (prob >= self.config.mask_prob)
        state["mean"], state["count"] = stream_mean(state["mean"], state["count"], maps, probable)
        # A film that is not labelled is less probable than any that is, and than the empty places.
        everyone = torch.cat([state["prob"], torch.where(labelled, prob.float(), -1.0)])
        order = everyone.sort(dim=0, descending=True, stable=True).indices[: self.config.mask_best]
        state["prob"] = everyone.gather(0, order)
        places = order[:, :, None, None].expand(-1, -1, *maps.shape[2:])
        state["best"] = torch.cat([state["best"], maps]).gather(0, places)

    def means(self) -> tuple[Tensor, dict[str, dict[str, Any]]]:
        """Mean maps (C, h, w) in [0, 1], zeros where there is none; and by finding, of how many films it is and why."""
        state, told = self.state, {}
        mean = torch.zeros_like(state["mean"], dtype=torch.float32)
        for c, name in enumerate(self.findings):
            if not self.wanted[c]:
                continue
            count, there = int(state["count"][c]), int((state["prob"][:, c] >= 0).sum())
            if count >= self.config.mask_least:
                mean[c] = state["mean"][c].float()
                told[name] = {"films": count, "rule": f"P >= {self.config.mask_prob:g}"}
            elif there:
                mean[c] = state["best"][:there, c].mean(0)
                told[name] = {
                    "films": there,
                    "rule": f"the most probable, as {count} have P >= {self.config.mask_prob:g}",
                }
            else:
                told[name] = {"films": 0, "rule": "none: no labelled film"}
        return mean, told

    def save(self, path: Path, step: int) -> None:
        """Write the stream as it stands after so many batches."""
        with writing_whole(path) as part:
            save_file(self.state, part, metadata={"step": str(step)})

    def load(self, path: Path) -> int:
        """Read what ``save`` wrote, and the number of batches.

        Raises:
            RunError: it is damaged, or of other masks.
        """
        try:
            with safe_open(path, "pt") as file:
                step = int(file.metadata()["step"])
                state = {name: file.get_tensor(name) for name in self.state}
            if any(state[name].shape != kept.shape for name, kept in self.state.items()):
                raise ValueError("other shapes")
        except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
            raise RunError(
                f"{path}: cannot be resumed from ({error}). Delete the file to start the stage again."
            ) from error
        self.state = state
        return step


def threshold(mean: Tensor, told: Mapping[str, Mapping[str, Any]], config: KimConfig, findings: Findings) -> Tensor:
    """The masks psi (C, h, w) of mean maps: T of eq. 3, and zeros for findings without one."""
    masks = disease_mask(mean, config.mask_threshold, config.mask_keep, rescale=config.mask_rescale)
    there = torch.tensor([told.get(name, {}).get("films", 0) > 0 for name in findings])
    return torch.where(there[:, None, None], masks, 0.0)


def drawn_masks(
    config: KimConfig, findings: Findings, side: int, offset: float = 0.0
) -> tuple[Tensor, dict[str, dict[str, Any]]]:
    """Pseudo masks (C, side, side) from plain anatomy, zeros for findings without one, and what is told of them.

    ``offset`` is how far from its own centre a cell looks, in cells.

    Example:
        >>> masks, told = drawn_masks(KimConfig(masks="drawn"), Findings(("Cardiomegaly", "Edema")), 8)
        >>> masks.sum(dim=(1, 2)).tolist(), told
        ([6.0, 0.0], {'Cardiomegaly': {'rule': 'drawn'}})
    """
    masks, told, chosen = torch.zeros(len(findings), side, side), {}, config.masked(findings)
    for c, name in enumerate(findings):
        if name in chosen:
            drawn = draw_mask(name, side, offset)
            told[name] = {"rule": "drawn" if drawn is not None else "none: its place is not written down"}
            if drawn is not None:
                masks[c] = torch.from_numpy(drawn)
    return masks, told


def save_masks(folder: Path, masks: Tensor, mean: Tensor) -> None:
    """Write psi and the mean maps that it was cut from, both (C, h, w)."""
    with writing_whole(folder / FILE) as part:
        # Clones: drawn masks are their own mean, and safetensors refuses tensors that share memory.
        save_file({"masks": masks.contiguous().clone(), "mean": mean.contiguous().clone()}, part)


def load_masks(folder: Path) -> Tensor:
    """Read psi (C, h, w).

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        return load_file(folder / FILE)["masks"]
    except (OSError, SafetensorError, KeyError) as error:
        raise RunError(f"{folder / FILE}: cannot be read ({error}). Train again.") from error
