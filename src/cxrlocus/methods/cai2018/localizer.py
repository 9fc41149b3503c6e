"""A trained chain of networks as a Localizer: look, erase, look again, and one map of it all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cxrlocus.functional.mining import Mined, final_map, mine_maps, steps_found, unit_scale
from cxrlocus.methods.cai2018.config import MINE, CaiConfig, stages_of
from cxrlocus.methods.cai2018.model import MiningNet, build
from cxrlocus.models.modes import evaluating
from cxrlocus.models.registration import centre_offset, registered
from cxrlocus.training.checkpoint import load_weights
from cxrlocus.training.machine import placed, resolve_precision
from cxrlocus.training.run import RunInfo
from cxrlocus.types import Explained, Findings, FloatArray, MapKind


class Looked(NamedTuple):
    """What a localizer found on N films: logits (N, C), the mining steps, and the final map H_f (N, C, h, w)."""

    logits: Tensor
    mined: Mined
    final: Tensor


class CaiLocalizer:
    """A trained attention mining: its maps are H_f of eq. 8, its probabilities the last network's on the whole film.

    Args:
        nets: the network as each mining step left it, in order; one for all steps if there is only one.
        findings: their vocabulary.
        config: what they were trained with.
        bf16: whether to compute under bfloat16 autocast.
    """

    def __init__(self, nets: Sequence[MiningNet], findings: Findings, config: CaiConfig, *, bf16: bool) -> None:
        self.nets, self.net = tuple(nets), nn.ModuleList(nets)
        self.findings, self.config, self.bf16 = findings, config, bf16
        self.size, self.fit = config.side, config.fit

    @property
    def last(self) -> MiningNet:
        """The network as the last step left it."""
        return self.nets[-1]

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.last.weight.device

    @cached_property
    def offset(self) -> float:
        """How far from its own centre a cell looks (``models.registration``); 0 leaves maps on the plain grid.

        Under MSA it is the mean of both scales', which bilinear upsampling joins half a fine cell apart.
        """
        return centre_offset(self.last, lambda net, images: net.features(images))

    @property
    def target_layer(self) -> nn.Module:
        """The layer that gradient maps look at by default: the one that the last network's head reads."""
        return self.last.stages.backbone if self.last.msa is None else self.last.msa

    def logits(self, images: Tensor) -> Tensor:
        """Logits (N, C) of the last network on whole films, with gradient."""
        return self.last.classify(self.last.features(images.to(self.device)))

    @torch.no_grad()
    def explain(self, images: Tensor, frames: FloatArray) -> Explained:
        """Probabilities (N, C) and final maps (N, C, h, w), on the CPU in float32.

        Their kind is "logit"; with combine=scaled they are in [0, 1], kind "mask".
        """
        return self.explain_steps(images, frames)[0]

    @torch.no_grad()
    def explain_steps(self, images: Tensor, frames: FloatArray) -> tuple[Explained, Tensor]:
        """What ``explain`` gives, and the mining step (N, C, h, w), from 1, that found each cell.

        A cell that no step singled out has step 1, as all cells have without mining.
        """
        looked = self.look(images)
        prob, maps = torch.sigmoid(looked.logits).cpu(), looked.final.cpu()
        said = Explained(prob, maps, registered(frames, self.offset, maps.shape[2:]), self.kind)
        return said, steps_found(looked.mined.open).cpu()

    def panels(self, images: Tensor) -> dict[str, NDArray[np.float32]]:
        """Fig. 2: what each step saw and found, and the final map, each (N, C, h, w), raw.

        "H_t" is the evidence with what was found before t erased (0), "found t" the region (1) that step t erases,
        "H_f" the map of eq. 8.
        """
        looked = self.look(images)
        shown: dict[str, NDArray[np.float32]] = {}
        for t, (heat, before, after) in enumerate(_steps(looked.mined), start=1):
            shown[f"H_{t}"] = heat.cpu().numpy()
            shown[f"found {t}"] = (before & ~after).float().cpu().numpy()
        return {**shown, "H_f": looked.final.cpu().numpy()}

    @property
    def kind(self) -> MapKind:
        """Of the maps."""
        return "mask" if self.config.combine == "scaled" else "logit"

    @torch.no_grad()
    def look(self, images: Tensor) -> Looked:
        """All mining steps on images (N, 1, size, size) in [0, 1], on the network's device."""
        config = self.config
        with evaluating(self.net), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            logits, evidence = self._evidence(images.to(self.device))
        mined = mine_maps(
            evidence, threshold=config.threshold, scale=config.scale, connectivity=config.connectivity
        )  # fmt: skip
        if config.combine == "raw":
            return Looked(logits, mined, final_map(mined))
        scaled = [unit_scale(h, m, config.scale) for h, m in zip(mined.maps, mined.open[:-1], strict=True)]
        return Looked(logits, mined, final_map(Mined(torch.stack(scaled), mined.open)))

    def _evidence(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The last network's logits, and the evidence of each step."""
        nets = self.nets
        # One network has no more to say at a later step: it is asked once. Neither has a backbone that did not learn.
        shared = nets[0].look(images) if self.config.tune == "top" or len(nets) == 1 else None
        maps: list[Tensor] = []
        for net in nets:
            x = net.top(net.look(images) if shared is None else shared)
            maps.append(net.evidence(x).float().contiguous())
        logits = net.classify(x).float()
        return logits, maps if len(nets) > 1 else maps * max(1, self.config.steps)


def _steps(mined: Mined) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Of each step its map, and the open cells before and after it."""
    return zip(mined.maps, mined.open[:-1], mined.open[1:], strict=True)


def load_cai(folder: Path, info: RunInfo) -> CaiLocalizer:
    """The localizer of a trained run folder."""
    config = CaiConfig(**{**info.config, "pretrained": False})
    stages = stages_of(config)
    mining = [name for name in stages if name.startswith(MINE)]
    chosen = mining if mining and config.maps_from == "each" else [stages[-1]]
    nets = [_ready(folder / name / "weights.safetensors", config, len(info.findings)) for name in chosen]
    bf16 = resolve_precision(config.precision) == "bf16"
    return CaiLocalizer(nets, Findings(tuple(info.findings)), config, bf16=bf16)


def _ready(weights: Path, config: CaiConfig, findings: int) -> MiningNet:
    net = build(replace(config, pretrained=False), findings)
    load_weights(weights, net)
    return placed(net, channels_last=config.channels_last)
