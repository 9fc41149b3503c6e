"""A localizer that needs no training: its map is the film itself, averaged over the cells of a grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from cxrlocus.prediction.store import Predictions
from cxrlocus.types import Explained, Findings, Fit, FloatArray, Frame, MapKind


class SeesBrightness:
    """Maps are the film averaged to ``grid`` cells a side, one for each finding, scaled apart."""

    def __init__(
        self, size: int = 64, grid: int = 16, fit: Fit = "letterbox", findings: tuple[str, ...] = ("Mass",)
    ) -> None:
        self.findings, self.size, self.fit, self.grid = Findings(findings), size, fit, grid
        self.calls = 0

    def explain(self, images: Tensor, frames: FloatArray) -> Explained:
        self.calls += 1
        maps = F.adaptive_avg_pool2d(images, self.grid).expand(-1, len(self.findings), -1, -1)
        maps = maps * torch.arange(1, len(self.findings) + 1)[:, None, None]
        return Explained(maps.mean((-2, -1)).clamp(0, 1), maps, frames, "logit")


def made_up(
    n: int = 3, findings: tuple[str, ...] = ("Mass", "Nodule"), seed: int = 0, kind: MapKind = "logit", **meta: Any
) -> Predictions:
    draw = np.random.default_rng(seed)
    return Predictions(
        {"method": "cam", "variant": "", "dataset": "some", **meta},
        tuple(f"{i}.png" for i in range(n)),
        Findings(findings),
        draw.random((n, len(findings))).astype(np.float32),
        draw.normal(size=(n, len(findings), 4, 5)).astype(np.float16),
        np.stack([Frame.of_size(100 + i, 80).matrix for i in range(n)]),
        np.array([[100 + i, 80] for i in range(n)], dtype=np.int64),
        kind,
    )
