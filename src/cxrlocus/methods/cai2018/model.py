"""The network: backbone, multi-scale aggregation, and a linear head whose weights are also the maps'."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from cxrlocus.functional.evidence import linear_evidence, pool_then_linear
from cxrlocus.functional.pooling import average_pool
from cxrlocus.methods.cai2018.config import CaiConfig
from cxrlocus.models.backbones import Backbone
from cxrlocus.models.msa import LastTwoStages, MultiScale


class Stages(NamedTuple):
    """X_{k-1} (N, D_{k-1}, h', w') and X_k (N, D_k, h, w) of a backbone."""

    before: Tensor
    last: Tensor


class MiningNet(nn.Module):
    """Films to the features X that the head reads; with MSA on the grid of the last stage but one.

    Args:
        stages: the backbone.
        msa: what makes X of its last two stages; None takes the last one.
        findings: number C of findings.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> config = CaiConfig(backbone="test_resnet", msa_last=8, msa_before=4)
        >>> net = build(config, findings=3).eval()
        >>> features = net.backbone(torch.rand(2, 1, 64, 64))
        >>> net.evidence(features).shape
        torch.Size([2, 3, 4, 4])
        >>> torch.allclose(net.classify(features), net.evidence(features).mean((-2, -1)) + net.bias, atol=1e-5)
        True
    """

    def __init__(self, stages: LastTwoStages, msa: MultiScale | None, findings: int) -> None:
        super().__init__()
        self.stages, self.msa = stages, msa
        channels = stages.channels[1] if msa is None else msa.channels
        self.weight = nn.Parameter(torch.empty(findings, channels))
        self.bias = nn.Parameter(torch.zeros(findings))
        nn.init.normal_(self.weight, std=0.01)

    @property
    def backbone(self) -> Callable[[Tensor], Tensor]:
        """Images (N, 1, H, W) in [0, 1] to X (N, D, h, w): everything below the head."""
        return self.features

    def features(self, images: Tensor) -> Tensor:
        """X (N, D, h, w) of images (N, 1, H, W) in [0, 1]."""
        return self.top(self.look(images))

    def look(self, images: Tensor) -> Stages:
        """The last two stages of images (N, 1, H, W) in [0, 1]."""
        return Stages(*self.stages(images))

    def top(self, stages: Stages) -> Tensor:
        """X (N, D, h, w) of the last two stages."""
        if self.msa is None:
            return stages.last
        x: Tensor = self.msa(stages.before, stages.last)
        return x

    def evidence(self, x: Tensor) -> Tensor:
        """Raw evidence maps (N, C, h, w) of X."""
        return linear_evidence(x, self.weight)

    def classify(self, x: Tensor) -> Tensor:
        """Logits (N, C) of X with nothing erased, never below float32."""
        return self._logits(average_pool(x))

    def pooled(self, stages: Stages, x: Tensor, layers: tuple[str, ...]) -> list[Tensor]:
        """GAP features (N, D_k) of the layers named, for knowledge preservation; without MSA there is no "msa".

        Never below float32: the norm of a difference has a gradient of one length however small it is, so where
        nothing has moved yet the rounding of averages would be what is learned.
        """
        pooled = average_pool(x)
        of: dict[str, Callable[[], Tensor]] = {
            "3": lambda: average_pool(stages.before),
            "4": lambda: average_pool(stages.last),
            "classifier": lambda: self._logits(pooled),
        }
        if self.msa is not None:
            of["msa"] = lambda: pooled
        return [of[name]() for name in layers if name in of]

    def _logits(self, pooled: Tensor) -> Tensor:
        return pool_then_linear(pooled, self.weight, self.bias)


def build(config: CaiConfig, findings: int) -> MiningNet:
    """The network of a Config, with fresh weights or timm's pretrained ones."""
    backbone = Backbone(
        config.backbone,
        stride=config.stride,
        stem=config.stem,
        mean=config.mean,
        std=config.std,
        pretrained=config.pretrained,
    )
    stages = LastTwoStages(backbone)
    msa = None
    if config.msa != "none":
        msa = MultiScale(
            stages.channels,
            factor=stages.factor,
            up=config.upsampling,
            width=(config.msa_last, config.msa_before),
            act=config.msa_act,
        )
    return MiningNet(stages, msa, findings)
