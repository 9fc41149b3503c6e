"""The network: a pyramid, a head that every cell shares, a pool over the cells' probabilities."""

from __future__ import annotations

from torch import nn

from cxrlocus.errors import ConfigError
from cxrlocus.methods.options import PAPER
from cxrlocus.methods.yao2018.config import YaoConfig
from cxrlocus.methods.yao2018.down import ResNetDown, TimmDown
from cxrlocus.methods.yao2018.pyramid import Pyramid
from cxrlocus.models.backbones import Backbone
from cxrlocus.models.camnet import MapNet
from cxrlocus.models.pools import pool_options


class YaoNet(MapNet):
    """``S = sigmoid(W F^0)`` cell by cell, ``P = LSE-LBA(S)`` (Yao et al. 2018, sec. 3.6).

    Args:
        pyramid: films to F^0.
        findings: number K of findings.
        config: of the pool and of the head's bias.

    Example:
        >>> import torch
        >>> _ = torch.manual_seed(0)
        >>> config = YaoConfig(size=64, resolution=16, lowest=4, width=2, growth=4, fused=8)
        >>> net = build(config, findings=3).eval()
        >>> out = net(torch.rand(2, 1, 64, 64))
        >>> out.logits.shape, out.maps.shape
        (torch.Size([2, 3]), torch.Size([2, 3, 16, 16]))
    """

    backbone: Pyramid

    def __init__(self, pyramid: Pyramid, findings: int, config: YaoConfig) -> None:
        super().__init__(pyramid, pyramid.channels, findings, pool_options(config))
        self.bias.requires_grad_(config.bias != "none")

    def sharpness(self) -> list[float] | None:
        """The adaptive pool's r, one or one for each finding; None where the pool has none that is learned."""
        sharpness = getattr(self.pooling, "sharpness", None)
        return None if sharpness is None else sharpness().detach().reshape(-1).tolist()


def build(config: YaoConfig, findings: int) -> YaoNet:
    """The network of a Config, with fresh weights or, on the way down, timm's pretrained ones."""
    down = _timm(config) if config.backbone != PAPER else _resnet(config)
    pyramid = Pyramid(
        down, layers=config.dense_layers, growth=config.growth, fused=config.fused, upsampling=config.upsampling,
        again=config.checkpoint,
    )  # fmt: skip
    return YaoNet(pyramid, findings, config)


def _resnet(config: YaoConfig) -> ResNetDown:
    return ResNetDown(
        config.strides, width=config.width, max_width=config.max_width, blocks=config.blocks, mean=config.mean,
        std=config.std, again=config.checkpoint,
    )  # fmt: skip


def _timm(config: YaoConfig) -> TimmDown:
    if config.strides[-1] > 32:
        raise ConfigError(
            f"lowest must be at least size / 32 = {config.size // 32} with backbone {config.backbone!r}; got "
            f"{config.lowest}."
        )
    body = Backbone(
        config.backbone, stem=config.stem, mean=config.mean, std=config.std, pretrained=config.pretrained
    )  # fmt: skip
    return TimmDown(body, config.strides)


def parameter_count(net: nn.Module) -> int:
    """Numbers that a network holds and can learn.

    Example:
        >>> parameter_count(nn.Linear(3, 2))
        8
    """
    return sum(p.numel() for p in net.parameters())
