"""What the alignment network minimizes (Kim et al. 2021, eq. 6 to 9), and its figures on held-out films."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from cxrlocus.functional.alignment import blur, coverage, euclidean_loss, perceptual_loss, pose_affine, warp
from cxrlocus.methods.classification import Part
from cxrlocus.methods.kim2021.config import KimConfig
from cxrlocus.models.aligner import AlignmentNet, StageFeatures
from cxrlocus.models.modes import evaluating
from cxrlocus.types import Batch

LEAST_COVERED = 0.5
"""An aligned film of which less lies on the film counts as degenerate."""


class AlignmentObjective(nn.Module):
    """``L_total = L_e + L_p`` between the anchor and the blurred, aligned film (Kim et al. 2021, eq. 9).

    Args:
        aligner: the network that learns.
        anchor: (1, 1, S, S), the mean film.
        stages: of a trained classifier, frozen, on the anchor's device; no part of what is trained or saved.
        config: of the stage.

    Example:
        >>> from cxrlocus.methods.kim2021.model import build_aligner, build_backbone
        >>> _ = torch.manual_seed(0)
        >>> config = KimConfig(backbone="test_resnet", align_backbone="test_resnet", size=64)
        >>> stages = StageFeatures(build_backbone(config)).eval()
        >>> objective = AlignmentObjective(build_aligner(config), torch.rand(1, 1, 64, 64), stages, config)
        >>> batch = Batch(torch.rand(4, 1, 64, 64), torch.ones(4, 2), torch.ones(4, 2).bool(), torch.arange(4))
        >>> sorted(objective(batch))
        ['euclidean', 'perceptual']
    """

    def __init__(self, aligner: AlignmentNet, anchor: Tensor, stages: StageFeatures, config: KimConfig) -> None:
        super().__init__()
        self.aligner, self.config = aligner, config
        self._stages, self._anchor = (stages,), anchor
        with torch.no_grad():
            self._of_anchor = [f.float() for f in stages(anchor)] if config.perceptual_weight else []

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``{loss name: scalar}``, the perceptual loss already weighted."""
        return self.losses(batch.images, self.aligner(batch.images))

    def losses(self, images: Tensor, pose: Tensor) -> dict[str, Tensor]:
        """The losses of films (N, 1, S, S) seen in poses (N, 5)."""
        config = self.config
        seen = blur(warp(images, pose_affine(pose), config.align_border), config.blur)
        if config.level == "matched":
            seen = match_level(seen, self._anchor)
        rim = round(config.euclidean_margin * seen.shape[-1])
        middle = (..., slice(rim, seen.shape[-2] - rim), slice(rim, seen.shape[-1] - rim))
        losses = {"euclidean": euclidean_loss(self._anchor[middle], seen[middle], config.euclidean)}
        if config.perceptual_weight:
            features = self._stages[0](seen)
            losses["perceptual"] = config.perceptual_weight * perceptual_loss(
                self._of_anchor, [f.float() for f in features], config.perceptual
            )
        return losses


def match_level(films: Tensor, anchor: Tensor) -> Tensor:
    """Films (N, 1, H, W) with the anchor's mean and standard deviation: exposure is no difference of place.

    Example:
        >>> film, anchor = torch.tensor([[[[1.0, 3.0]]]]), torch.tensor([[[[0.2, 0.4]]]])
        >>> match_level(film, anchor)
        tensor([[[[0.2000, 0.4000]]]])
    """

    def moments(x: Tensor) -> tuple[Tensor, Tensor]:
        return x.mean(dim=(-2, -1), keepdim=True), x.std(dim=(-2, -1), keepdim=True, correction=0).clamp(min=1e-6)

    (mean, std), (wanted, wide) = moments(films), moments(anchor)
    return (films - mean) * (wide / std) + wanted


def alignment_figures(fabric: Fabric, objective: AlignmentObjective, part: Part) -> Callable[[], Mapping[str, float]]:
    """Figures on the held-out films, of all ranks.

    "val_loss": of eq. 9; "at_bound": share of films with a number of their pose at its bound; "off_film": share of
    films whose aligned square lies on the film by less than a half; "moved": mean distance, in shares of the side, that
    the corners of the square move.
    """
    aligner = objective.aligner

    @torch.no_grad()
    def validate() -> dict[str, float]:
        sums = torch.zeros(5, dtype=torch.float64, device=fabric.device)
        with evaluating(aligner):
            for batch in part.loader.batches(0):
                images = fabric.to_device(batch.images)
                with fabric.autocast():
                    pose = aligner(images)
                    loss = torch.stack(list(objective.losses(images, pose).values())).sum()
                affine, films = pose_affine(pose), len(images)
                each = (
                    loss * films,
                    aligner.at_bound(pose).sum(),
                    (coverage(affine) < LEAST_COVERED).sum(),
                    corner_shift(affine).sum(),
                    torch.tensor(films),
                )
                sums += torch.stack([one.to(sums) for one in each])
        if fabric.world_size > 1:
            sums = cast(Tensor, fabric.all_reduce(sums, reduce_op="sum"))
        *totals, films_seen = sums.tolist()
        names = ("val_loss", "at_bound", "off_film", "moved")
        return {name: total / films_seen for name, total in zip(names, totals, strict=True)}

    return validate


def corner_shift(affine: Tensor) -> Tensor:
    """Mean distance (N,) that the unit square's corners move under an affine (N, 2, 3), in sides of the square.

    Example:
        >>> corner_shift(torch.tensor([[[1.0, 0.0, 0.3], [0.0, 1.0, 0.4]]]))
        tensor([0.5000])
    """
    corners = affine.new_tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    moved = (affine[:, None, :, :2] * corners[:, None, :]).sum(-1) + affine[:, None, :, 2]
    distance: Tensor = torch.linalg.vector_norm(moved - corners, dim=-1)
    return distance.mean(1)
