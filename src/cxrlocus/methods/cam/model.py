"""The CAM localizer: one forward pass, all findings' maps."""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from cxrlocus.methods.cam.config import CamConfig
from cxrlocus.models.backbones import Backbone
from cxrlocus.models.camnet import CamNet, MapNet
from cxrlocus.models.modes import evaluating
from cxrlocus.models.pools import pool_options
from cxrlocus.models.registration import centre_offset, registered
from cxrlocus.training.checkpoint import load_weights
from cxrlocus.training.machine import placed, resolve_precision
from cxrlocus.training.run import RunInfo
from cxrlocus.types import Explained, Findings, Fit, FloatArray

STAGE = "base"


class CamLocalizer:
    """A trained CamNet as a Localizer.

    Args:
        net: the network, by default a CamNet; ``explain`` leaves its train or eval mode as it finds it.
        findings: its vocabulary.
        size: side of the films it was trained on.
        fit: how they were made square.
        bf16: whether to compute under bfloat16 autocast.
    """

    def __init__(self, net: MapNet, findings: Findings, *, size: int, fit: Fit, bf16: bool) -> None:
        self.net, self.findings, self.size, self.fit, self.bf16 = net, findings, size, fit, bf16

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.net.weight.device

    @cached_property
    def offset(self) -> float:
        """How far from its own centre a cell looks (``models.registration``); 0 leaves maps on the plain grid."""
        return centre_offset(self.net.backbone)

    @property
    def target_layer(self) -> nn.Module:
        """The layer that gradient maps look at by default: the one that the head reads."""
        return self.net.backbone

    def logits(self, images: Tensor) -> Tensor:
        """Logits (N, C), with gradient, in float32."""
        features = self.net.backbone(images.to(self.device))
        return self.net.classify(features)

    @torch.no_grad()
    def explain(self, images: Tensor, frames: FloatArray) -> Explained:
        """Probabilities (N, C) and CAMs (N, C, h, w), kind "logit", on the CPU in float32."""
        with evaluating(self.net), torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            out = self.net(images.to(self.device))
        prob, maps = torch.sigmoid(out.logits.float()).cpu(), out.maps.float().cpu()
        return Explained(prob, maps, registered(frames, self.offset, maps.shape[2:]), "logit")


def build(config: CamConfig, findings: int) -> CamNet:
    """The network of a Config, with fresh weights or timm's pretrained ones."""
    backbone = Backbone(
        config.backbone,
        stride=config.stride,
        stem=config.stem,
        mean=config.mean,
        std=config.std,
        pretrained=config.pretrained,
    )
    return CamNet(backbone, findings, **asdict(pool_options(config)))


def load_cam(folder: Path, info: RunInfo) -> CamLocalizer:
    """The localizer of a trained run folder."""
    config = CamConfig(**{**info.config, "pretrained": False})
    net = build(config, len(info.findings))
    load_weights(folder / STAGE / "weights.safetensors", net)
    placed(net, channels_last=config.channels_last)
    findings = Findings(tuple(info.findings))
    bf16 = resolve_precision(config.precision) == "bf16"
    return CamLocalizer(net, findings, size=config.size, fit=config.fit, bf16=bf16)
