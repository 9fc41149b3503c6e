"""A trained classifier as a Localizer: maps on the aligned film, and the frames that take them back to the film."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from cxrlocus.methods.kim2021.config import KimConfig, stages_of
from cxrlocus.methods.kim2021.model import KimNet, build
from cxrlocus.models.modes import evaluating
from cxrlocus.models.registration import composed, registered
from cxrlocus.training.checkpoint import load_weights
from cxrlocus.training.machine import placed, resolve_precision
from cxrlocus.training.run import RunInfo
from cxrlocus.types import Explained, Findings, FloatArray

SHOWN = 128
"""Longest side of a panel."""


class KimLocalizer:
    """A trained network as a Localizer; its maps are S' of eq. 5, raw, on the aligned film.

    Args:
        net: the network; ``explain`` leaves its train or eval mode as it finds it.
        findings: its vocabulary.
        config: what it was trained with.
        bf16: whether to compute under bfloat16 autocast.
    """

    def __init__(self, net: KimNet, findings: Findings, config: KimConfig, *, bf16: bool) -> None:
        self.net, self.findings, self.config, self.bf16 = net, findings, config, bf16
        self.size, self.fit = config.size, config.fit

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.net.weight.device

    @cached_property
    def offset(self) -> float:
        """How far from its own centre a cell looks (``models.registration``); 0 leaves maps on the plain grid."""
        return self.net.offset()

    @torch.no_grad()
    def explain(self, images: Tensor, frames: FloatArray) -> Explained:
        """Probabilities (N, C) and maps (N, C, h, w), kind "logit", on the CPU in float32.

        Their frames are those given, composed with each film's alignment and with where cells look.
        """
        with evaluating(self.net), self._autocast():
            aligned, affine = self.net.align(images.to(self.device))
            maps = self.net.evidence(self.net.features(aligned))
        prob = torch.sigmoid(maps.mean(dim=(-2, -1)) + self.net.bias)
        if self.net.aligner is not None:
            frames = composed(frames, affine.double().cpu().numpy())
        return Explained(
            prob.float().cpu(), maps.float().cpu(), registered(frames, self.offset, maps.shape[2:]), "logit"
        )

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)


class PlainLocalizer(KimLocalizer):
    """One of films as they are, which gradient maps may look into: their frames are the films'."""

    @property
    def target_layer(self) -> nn.Module:
        """The layer that gradient maps look at by default: the one that the head reads."""
        return self.net.features

    def logits(self, images: Tensor) -> Tensor:
        """Logits (N, C), with gradient, in float32."""
        return self.net.classify(self.net.features(images.to(self.device)))


class AlignedLocalizer(KimLocalizer):
    """One of aligned films, with the panels of Fig. 3 and 4."""

    @torch.no_grad()
    def panels(self, images: Tensor) -> dict[str, NDArray[np.float32]]:
        """The aligned film, the disease mask psi and the evidence S before its gate, each (N, C, h, w), raw.

        The film is on its own square, the others on that of the maps, whose frames say where cells look; h = w, at most
        128.
        """
        net, side = self.net, min(SHOWN, images.shape[-1])
        with evaluating(net), self._autocast():
            aligned, _ = net.align(images.to(self.device))
            attended = net.evidence(net.features(aligned))
        shape = (len(images), len(self.findings), side, side)
        film = F.interpolate(aligned.float(), size=(side, side), mode="area").expand(shape)
        mask = _grown(net.masks[None], side).expand(shape)
        evidence = _grown(attended / (1 + net.masks), side)
        shown = {"aligned film": film, "disease mask": mask, "evidence S": evidence}
        return {name: np.ascontiguousarray(values.cpu().numpy()) for name, values in shown.items()}


def _grown(maps: Tensor, side: int) -> Tensor:
    return F.interpolate(maps.float(), size=(side, side), mode="bilinear", align_corners=False)


def load_kim(folder: Path, info: RunInfo) -> KimLocalizer:
    """The localizer of a trained run folder: its last stage."""
    config = KimConfig(**{**info.config, "pretrained": False})
    findings = Findings(tuple(info.findings))
    net = build(config, len(findings))
    load_weights(folder / stages_of(config)[-1] / "weights.safetensors", net)
    placed(net, channels_last=config.channels_last)
    kind = AlignedLocalizer if config.align else PlainLocalizer
    return kind(net, findings, config, bf16=resolve_precision(config.precision) == "bf16")
