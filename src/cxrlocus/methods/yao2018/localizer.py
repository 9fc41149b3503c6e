"""A trained pyramid as a Localizer: its maps are the cells' probabilities S."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from cxrlocus.methods.yao2018.config import YaoConfig
from cxrlocus.methods.yao2018.model import YaoNet, build
from cxrlocus.models.modes import evaluating
from cxrlocus.training.checkpoint import load_weights
from cxrlocus.training.machine import placed, resolve_precision
from cxrlocus.training.run import RunInfo
from cxrlocus.types import Explained, Findings, FloatArray

STAGE = "base"

AT_ONCE = 16 * 512 * 512
"""Pixels a forward pass in prediction, for a map at the film's resolution."""


class YaoLocalizer:
    """A trained YaoNet as a Localizer.

    Args:
        net: the network; every method leaves its train or eval mode as it finds it.
        findings: its vocabulary.
        config: what it was trained with.
        bf16: whether to compute under bfloat16 autocast.
    """

    offset = 0.0
    """Maps lie on the plain grid: cells of the finest level look a pixel or two beside their centres."""

    def __init__(self, net: YaoNet, findings: Findings, config: YaoConfig, *, bf16: bool) -> None:
        self.net, self.findings, self.config, self.bf16 = net, findings, config, bf16
        self.size, self.fit = config.size, config.fit

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.net.weight.device

    @property
    def target_layer(self) -> nn.Module:
        """The layer that gradient maps look at by default: the pyramid's last features."""
        return self.net.backbone

    def logits(self, images: Tensor) -> Tensor:
        """Logits (N, C), with gradient, in float32."""
        return self.net.classify(self.net.backbone(images.to(self.device)))

    @torch.no_grad()
    def explain(self, images: Tensor, frames: FloatArray) -> Explained:
        """Probabilities P (N, C) and maps S (N, C, resolution, resolution), on the CPU in float32."""
        prob, maps = [], []
        at_once = max(1, AT_ONCE // (images.shape[-2] * images.shape[-1]))
        with evaluating(self.net), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            for some in torch.split(images, at_once):
                features = self.net.backbone(some.to(self.device))
                cells = self.net.map_logits(features)
                prob.append(torch.sigmoid(self.net.pooling(cells, features).float()).cpu())
                maps.append(torch.sigmoid(cells).cpu())
        return Explained(torch.cat(prob), torch.cat(maps), frames, "probability")


def load_yao(folder: Path, info: RunInfo) -> YaoLocalizer:
    """The localizer of a trained run folder."""
    config = YaoConfig(**{**info.config, "pretrained": False, "checkpoint": False})
    net = build(config, len(info.findings))
    load_weights(folder / STAGE / "weights.safetensors", net)
    placed(net, channels_last=config.channels_last)
    bf16 = resolve_precision(config.precision) == "bf16"
    return YaoLocalizer(net, Findings(tuple(info.findings)), config, bf16=bf16)
