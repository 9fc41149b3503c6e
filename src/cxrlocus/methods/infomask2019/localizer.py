"""Trained networks as Localizers: InfoMask by its mask, the baseline and CheXCAM by Grad-CAM."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from cxrlocus.errors import ConfigError, RunError
from cxrlocus.methods.baselines.gradcam import GradCamLocalizer
from cxrlocus.methods.cam.model import CamLocalizer
from cxrlocus.methods.infomask2019.config import InfoMaskConfig, stage_configs
from cxrlocus.methods.infomask2019.model import (
    BaselineNet,
    InfoMaskNet,
    Latents,
    Masked,
    build_net,
)
from cxrlocus.models.camnet import CamNet
from cxrlocus.models.modes import evaluating
from cxrlocus.training.checkpoint import load_weights
from cxrlocus.training.machine import placed, resolve_precision
from cxrlocus.training.run import RunInfo
from cxrlocus.types import Explained, Findings, FloatArray, Localizer

Net = TypeVar("Net", bound=nn.Module)

AT_ONCE = 8 * 512 * 512
"""Pixels a forward pass in prediction: the block's first layer holds half a kilobyte for each."""

NOISE_SEED = 2019
"""Seed of the draws of z in prediction."""


def chosen_findings(config: InfoMaskConfig, known: Findings) -> Findings:
    """The findings that a Config's ``finding`` names among those of a data set.

    Raises:
        ConfigError: one is not of the data set.

    Example:
        >>> chosen_findings(InfoMaskConfig(finding="Mass"), Findings(("Mass", "Nodule"))).names
        ('Mass',)
    """
    if config.finding == "all":
        return known
    names = tuple(name.strip() for name in config.finding.split(","))
    strange = [name for name in names if name not in known]
    if strange or len(set(names)) != len(names):
        raise ConfigError(
            f"finding must be 'all' or different ones of {', '.join(known)}; got {config.finding!r}. "
            "Give one with --set finding=NAME."
        )
    return Findings(names)


def infer(net: InfoMaskNet, images: Tensor, samples: int) -> Masked:
    """Logits and mask of films (N, 1, H, W) without training's draw: of the mean, or averaged over draws of z.

    Averaged are probabilities (their log odds come back) and masks. The draws are the same for every film and every
    call, and leave the random numbers of the process alone: a film's map does not depend on its batch.
    """
    latents = net.latents(images)
    if samples == 0:
        return net.judge(images, latents)
    generator = torch.Generator().manual_seed(NOISE_SEED)
    prob, mask = torch.zeros(()), torch.zeros(())
    for _ in range(samples):
        eps = torch.randn((1, *latents.mu.shape[1:]), generator=generator).to(latents.mu.device)
        out = net.judge(images, latents, eps)
        prob = prob.to(eps.device) + torch.sigmoid(out.logits.float()) / samples
        mask = mask.to(eps.device) + out.mask / samples
    return Masked(torch.logit(prob, eps=1e-6), mask, latents)


class InfoMaskLocalizer:
    """A trained InfoMask (or FeatureMask, or RegL1): its maps are the masks M, kind "mask".

    Args:
        net: the network; every method leaves its train or eval mode as it finds it.
        findings: what it tells from the rest, in the order of its columns.
        config: what it was trained with.
        bf16: whether to compute under bfloat16 autocast.
    """

    offset = 0.0
    """Maps lie on the plain grid: cells of the paper's encoder look two pixels beside their centres."""

    def __init__(self, net: InfoMaskNet, findings: Findings, config: InfoMaskConfig, *, bf16: bool) -> None:
        self.net, self.findings, self.config, self.bf16 = net, findings, config, bf16
        self.size, self.fit = config.size, config.fit

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.net.verdict.weight.device

    @property
    def target_layer(self) -> nn.Module:
        """The encoder's last layer, where gradient maps look by default."""
        return self.net.encoder

    def logits(self, images: Tensor) -> Tensor:
        """Logits (N, C) of the mean latent, with gradient."""
        logits: Tensor = self.net(images.to(self.device)).logits
        return logits

    @torch.no_grad()
    def explain(self, images: Tensor, frames: FloatArray) -> Explained:
        """Probabilities (N, C) and masks (N, C, h, w) in [0, 1 - tau], on the CPU in float32.

        h and w are the films' size over ``map_stride``; every cell is the mean of its pixels.
        """
        stride, prob, maps = self.config.map_stride, [], []
        at_once = max(1, AT_ONCE // (images.shape[-2] * images.shape[-1]))
        with evaluating(self.net), self._autocast():
            for some in torch.split(images, at_once):
                out = infer(self.net, some.to(self.device), self.config.samples)
                mask = F.avg_pool2d(out.mask, stride) if stride > 1 else out.mask
                prob.append(torch.sigmoid(out.logits.float()).cpu())
                maps.append(mask.float().cpu())
        return Explained(torch.cat(prob), torch.cat(maps), frames, "mask")

    @torch.no_grad()
    def latents(self, images: Tensor) -> Latents:
        """Mean mu, deviation sigma (the map's uncertainty) and attention A, each (N, C, H, W), on the CPU (Fig. 4)."""
        with evaluating(self.net), self._autocast():
            latents: Latents = self.net.latents(images.to(self.device))
        return Latents(*(part.cpu() for part in latents))

    def panels(self, images: Tensor) -> dict[str, NDArray[np.float32]]:
        """Fig. 4's panels beside the mask: attention A, mean mu and uncertainty sigma, each (N, C, H, W)."""
        latents = self.latents(images)
        return {
            "attention A": latents.attention.numpy(),
            "mean mu": latents.mu.numpy(),
            "uncertainty sigma": latents.sigma.numpy(),
        }

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)


class BaselineLocalizer:
    """The trained baseline, to be looked into by Grad-CAM: it has no maps of its own.

    Args:
        net: the network.
        findings: what it tells from the rest.
        config: what it was trained with.
        bf16: whether to compute under bfloat16 autocast.
    """

    offset = 0.0
    """Maps lie on the plain grid: cells of the paper's encoder look two pixels beside their centres."""

    def __init__(self, net: BaselineNet, findings: Findings, config: InfoMaskConfig, *, bf16: bool) -> None:
        self.net, self.findings, self.config, self.bf16 = net, findings, config, bf16
        self.size, self.fit = config.size, config.fit

    @property
    def target_layer(self) -> nn.Module:
        """The last layer of the encoder, or of the classification block before its last pooling."""
        return self.net.backbone if self.config.cam_layer == "encoder" else self.net.block.layers[-2]

    def logits(self, images: Tensor) -> Tensor:
        """Logits (N, C), with gradient."""
        device = self.net.verdict.weight.device
        with torch.autocast(device.type, torch.bfloat16, enabled=self.bf16):
            return self.net.classify(self.net.backbone(images.to(device)))

    def explain(self, images: Tensor, frames: FloatArray) -> Explained:
        """Probabilities and Grad-CAMs of all findings."""
        return GradCamLocalizer(self).explain(images, frames)


class CheXCamLocalizer(CamLocalizer):
    """A trained CamNet whose maps are Grad-CAMs of the backbone's last layer: CheXCAM with a DenseNet-121."""

    def explain(self, images: Tensor, frames: FloatArray) -> Explained:
        """Probabilities and Grad-CAMs of all findings, >= 0, kind "logit"."""
        return GradCamLocalizer(self).explain(images, frames)


def load_infomask(folder: Path, info: RunInfo) -> Localizer:
    """The localizer of a trained run folder, whichever variant it is."""
    config = replace(InfoMaskConfig(**info.config), pretrained=False)
    try:
        findings = chosen_findings(config, Findings(tuple(info.findings)))
    except ConfigError as error:
        raise RunError(f"{folder}/run.json: {error}") from error
    net = _ready(build_net(config, len(findings)), folder, config)
    return localizer_of(net, findings, config)


def localizer_of(net: InfoMaskNet | BaselineNet | CamNet, findings: Findings, config: InfoMaskConfig) -> Localizer:
    """A network as it stands, as it predicts."""
    bf16 = resolve_precision(config.precision) == "bf16"
    if isinstance(net, InfoMaskNet):
        return InfoMaskLocalizer(net, findings, config, bf16=bf16)
    if isinstance(net, BaselineNet):
        return BaselineLocalizer(net, findings, config, bf16=bf16)
    return CheXCamLocalizer(net, findings, size=config.size, fit=config.fit, bf16=bf16)


def _ready(net: Net, folder: Path, config: InfoMaskConfig) -> Net:
    load_weights(folder / [*stage_configs(config)][-1] / "weights.safetensors", net)
    return placed(net, channels_last=config.channels_last)
