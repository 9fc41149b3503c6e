"""What the network minimizes: the labels of real films, the masks of drawn ones, and nothing on normal films."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional as F

from cxrlocus.functional.losses import LOSSES, cell_bce
from cxrlocus.methods.drawn.config import DrawnConfig
from cxrlocus.methods.drawn.films import DrawnBatch
from cxrlocus.methods.drawn.model import DrawnNet
from cxrlocus.models.modes import evaluating

_FILMS_AT_ONCE = 32


class DrawnObjective(nn.Module):
    """``label_weight L_labels(real) + cell_weight L_cells(drawn, planted and, with empty masks, real normal films)``.

    Args:
        net: the network.
        config: of the stage.
        columns: (K,) which of the C findings have masks.
    """

    def __init__(self, net: DrawnNet, config: DrawnConfig, columns: Tensor) -> None:
        super().__init__()
        self.net, self.config = net, config
        self.columns: Tensor
        self.register_buffer("columns", columns, persistent=False)

    def forward(self, batch: DrawnBatch) -> dict[str, Tensor]:
        """``{loss name: scalar}``, already weighted."""
        config, real = self.config, len(batch.images)
        films = torch.cat([batch.images, batch.drawn])
        films = noisy(films, config.noise)
        features = self.net.backbone(films)
        losses = {}
        if config.label_weight:
            logits = self.net.classify(features[:real]).float()
            losses["labels"] = config.label_weight * LOSSES[config.loss](logits, batch.target, batch.known)
        if config.cell_weight:
            losses["cells"] = config.cell_weight * self._cells(features, batch)
        return losses

    def _cells(self, features: Tensor, batch: DrawnBatch) -> Tensor:
        logits = self.net.map_logits(features)
        shares = on_grid(batch.masks, logits)
        empty = (batch.known & (batch.target < 0.5)).all(dim=1)
        counts = torch.cat([empty, empty.new_ones(len(batch.drawn))])
        wanted = logits.new_zeros(logits.shape)
        wanted[len(empty) :, self.columns] = shares
        told = counts[:, None].expand(-1, logits.shape[1]).clone()
        # A drawn film says nothing of a finding that nobody draws.
        drawn_columns = torch.zeros(logits.shape[1], dtype=torch.bool, device=told.device)
        drawn_columns[self.columns] = True
        told[len(empty) :] &= drawn_columns
        return cell_bce(logits, wanted, told, self.config.rare)


def on_grid(masks: Tensor, logits: Tensor) -> Tensor:
    """Masks (N, K, s, s) as shares of the coarser cells of maps (N, C, h, w).

    Example:
        >>> on_grid(torch.tensor([[[[1.0, 0.0], [0.0, 0.0]]]]), torch.zeros(1, 3, 1, 1)).item()
        0.25
    """
    height, width = logits.shape[-2:]
    # Under bfloat16 Fabric hands on every number so; shares are not to be rounded twice.
    return F.adaptive_avg_pool2d(masks.float(), (height, width))


def noisy(films: Tensor, most: float) -> Tensor:
    """Films with Gaussian noise of a deviation drawn in [0, most] for each."""
    if not most:
        return films
    deviation = most * torch.rand(len(films), 1, 1, 1, device=films.device)
    return (films + deviation * torch.randn_like(films)).clamp(0.0, 1.0)


def cell_figures(
    fabric: Fabric, objective: DrawnObjective, films: Tensor, masks: Tensor
) -> Callable[[], Mapping[str, float]]:
    """``{"cell_loss": L_cells}`` on held-out drawn films (M, 1, S, S) with masks (M, K, s, s); all are each rank's."""
    net, columns = objective.net, objective.columns

    @torch.no_grad()
    def figures() -> dict[str, float]:
        total = 0.0
        with evaluating(net):
            for start in range(0, len(films), _FILMS_AT_ONCE):
                part = slice(start, start + _FILMS_AT_ONCE)
                with fabric.autocast():
                    logits = net.map_logits(net.backbone(films[part]))[:, columns].float()
                wanted = on_grid(masks[part], logits)
                told = torch.ones(logits.shape[:2], dtype=torch.bool, device=logits.device)
                total += len(logits) * float(cell_bce(logits, wanted, told, objective.config.rare))
        return {"cell_loss": total / len(films)}

    return figures
