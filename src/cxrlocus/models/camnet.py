"""Classifiers whose evidence maps are part of them: features, linear head, pool (Zhou 2016; Wang 2017; Yao 2018)."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from cxrlocus.functional.evidence import linear_evidence, pool_then_linear
from cxrlocus.models.backbones import Backbone
from cxrlocus.models.pools import PoolName, PoolOptions, build_pool


class CamOutput(NamedTuple):
    """Logits (N, C), raw evidence maps (N, C, h, w) and features (N, D, h, w) of one forward pass."""

    logits: Tensor
    maps: Tensor
    features: Tensor


class MapNet(nn.Module):
    """Features to a film's logits by way of a linear head and a pool.

    On the scale "feature" (Wang et al. 2017) each feature channel is pooled and the head reads the result,
    ``z = w . pool(F) + b``; on "logit" and "probability" (Yao et al. 2018) the head reads each cell, and its map logits
    are pooled, ``z = pool(w . F_ij + b)``. With average pooling of features or of logits the two are the same.

    Args:
        backbone: images (N, 1, H, W) to features (N, D, h, w).
        channels: D.
        findings: number C of findings.
        options: of the pool.
    """

    def __init__(self, backbone: nn.Module, channels: int, findings: int, options: PoolOptions) -> None:
        super().__init__()
        self.backbone = backbone
        self.pool, self.pool_on = options.pool, options.pool_on
        self.weight = nn.Parameter(torch.empty(findings, channels))
        self.bias = nn.Parameter(torch.zeros(findings))
        nn.init.normal_(self.weight, std=0.01)
        self.pooling = build_pool(options, findings=findings, channels=channels)

    def forward(self, images: Tensor) -> CamOutput:
        """Logits, maps (without the bias) and features of images (N, 1, H, W) in [0, 1]."""
        features = self.backbone(images)
        return CamOutput(self.classify(features), linear_evidence(features, self.weight), features)

    def classify(self, features: Tensor) -> Tensor:
        """Logits (N, C) of features (N, D, h, w)."""
        if self.pool_on == "feature":
            return pool_then_linear(self.pooling(features, features), self.weight, self.bias)
        logits: Tensor = self.pooling(self.map_logits(features), features)
        return logits

    def map_logits(self, features: Tensor) -> Tensor:
        """What the head says of each cell, (N, C, h, w), with its bias, in float32."""
        return linear_evidence(features, self.weight).float() + self.bias.float()[:, None, None]

    @torch.no_grad()
    def start_at(self, logits: Tensor, cells: int) -> None:
        """Let the bias begin where a film of ``cells`` equal cells gets these logits (C,): log odds, say."""
        self.bias.copy_(logits if self.pool_on == "feature" else self.pooling.level(logits, cells))


class CamNet(MapNet):
    """A timm backbone, pooled over its grid, with one linear head; the head's weights cell by cell are the maps.

    Args:
        backbone: films to features.
        findings: number C of findings.
        pool: a name in POOLS; by default over each feature channel, as in Wang et al. 2017 (between transition and
            prediction layer).
        options: the other fields of PoolOptions, e.g. ``lse_r`` and ``pool_on``.

    Raises:
        ConfigError: the pool's options are not PoolOptions.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> net = CamNet(Backbone("resnet10t"), findings=3).eval()
        >>> out = net(torch.rand(2, 1, 64, 64))
        >>> torch.allclose(out.logits, out.maps.mean((-2, -1)) + net.bias, atol=1e-5)
        True
    """

    backbone: Backbone

    def __init__(self, backbone: Backbone, findings: int, *, pool: PoolName = "average", **options: Any) -> None:
        super().__init__(backbone, backbone.channels, findings, PoolOptions(pool, **options))
