"""A classifier whose evidence maps are part of it: backbone, pool, linear head (Zhou et al. 2016; Wang et al. 2017)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from cxrlocus.functional.evidence import linear_evidence, pool_then_linear
from cxrlocus.functional.pooling import POOLS, lse_pool
from cxrlocus.models.backbones import Backbone


class CamOutput(NamedTuple):
    """Logits (N, C), raw evidence maps (N, C, h, w) and features (N, D, h, w) of one forward pass."""

    logits: Tensor
    maps: Tensor
    features: Tensor


class CamNet(nn.Module):
    """Features pooled over their grid, one linear head; the head's weights applied cell by cell are the maps.

    Args:
        backbone: films to features.
        findings: number C of findings.
        pool: "average", "max" or "lse" over each feature channel, as in Wang et al. 2017 (between transition and
            prediction layer).
        lse_r: sharpness of "lse".

    Example:
        >>> _ = torch.manual_seed(0)
        >>> net = CamNet(Backbone("resnet10t"), findings=3).eval()
        >>> out = net(torch.rand(2, 1, 64, 64))
        >>> torch.allclose(out.logits, out.maps.mean((-2, -1)) + net.bias, atol=1e-5)
        True
    """

    def __init__(self, backbone: Backbone, findings: int, *, pool: str = "average", lse_r: float = 10.0) -> None:
        super().__init__()
        self.backbone = backbone
        self.pool, self.lse_r = pool, lse_r
        self.weight = nn.Parameter(torch.empty(findings, backbone.channels))
        self.bias = nn.Parameter(torch.zeros(findings))
        nn.init.normal_(self.weight, std=0.01)

    def forward(self, images: Tensor) -> CamOutput:
        """Logits, maps and features of images (N, 1, H, W) in [0, 1]."""
        features = self.backbone(images)
        return CamOutput(self.classify(features), linear_evidence(features, self.weight), features)

    def classify(self, features: Tensor) -> Tensor:
        """Logits (N, C) of features (N, D, h, w)."""
        pooled = lse_pool(features.float(), self.lse_r) if self.pool == "lse" else POOLS[self.pool](features)
        return pool_then_linear(pooled, self.weight, self.bias)
