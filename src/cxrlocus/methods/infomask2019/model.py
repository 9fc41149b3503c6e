"""The networks of InfoMask and of its baseline; what a Config makes of them."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cxrlocus.functional.evidence import linear_evidence, pool_then_linear
from cxrlocus.functional.variational import clipped_mask, positive_sigma, reparameterize
from cxrlocus.methods.infomask2019.config import InfoMaskConfig
from cxrlocus.methods.infomask2019.layers import ClassificationBlock, PaperEncoder
from cxrlocus.methods.options import PAPER
from cxrlocus.models.backbones import Backbone
from cxrlocus.models.camnet import CamNet
from cxrlocus.models.modes import evaluating


class Latents(NamedTuple):
    """Mean mu, standard deviation sigma and attention A >= 0 of the latent map, each (N, C, H, W), float32."""

    mu: Tensor
    sigma: Tensor
    attention: Tensor


class Masked(NamedTuple):
    """Logits (N, C), mask M (N, C, H, W) in [0, 1 - tau] and the latents it was made of."""

    logits: Tensor
    mask: Tensor
    latents: Latents


class Verdict(nn.Module):
    """The last layer: 64 pooled features of each finding's own map to that finding's logit.

    ``s_c = w_c . p_c + b_c``. The paper's softmax over two classes depends on the difference of two such numbers only,
    so for each finding it is the sigmoid of one.
    """

    def __init__(self, channels: int, findings: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(findings, channels))
        self.bias = nn.Parameter(torch.zeros(findings))
        nn.init.uniform_(self.weight, -1 / math.sqrt(channels), 1 / math.sqrt(channels))

    def forward(self, pooled: Tensor) -> Tensor:
        """Logits (N, C) of features (N, D) of all findings, or (N, C, D) of each."""
        if pooled.ndim == 2:
            return pool_then_linear(pooled, self.weight, self.bias)
        return (pooled * self.weight).sum(dim=-1) + self.bias


class InfoMaskNet(nn.Module):
    """Encoder, attention map, latent map, mask, classification block (InfoMask, fig. 1, eq. 3 and 4).

    ``A = up(ReLU(w * f))``, ``mu = conv(A)``, ``sigma = activation(conv(A))``, ``z = mu + sigma eps``,
    ``M = R(sigmoid(z) - tau)``; the block sees M and nothing else. With C findings each has its own map, which the
    block, shared by all, sees alone: no finding can be told from another's map, and the maps stay their own.

    Args:
        encoder: films (N, 1, H, W) to features (N, D, h, w).
        channels: D.
        findings: C.
        config: the rest.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> config = InfoMaskConfig(width=0.25)
        >>> out = build_infomask(config, findings=2)(torch.rand(3, 1, 32, 32))
        >>> out.logits.shape, out.mask.shape, bool((out.mask <= 0.5).all())
        (torch.Size([3, 2]), torch.Size([3, 2, 32, 32]), True)
    """

    def __init__(self, encoder: nn.Module, channels: int, findings: int, config: InfoMaskConfig) -> None:
        super().__init__()
        self.config = config
        self.encoder = encoder
        self.attend = nn.Conv2d(channels, findings, 1)
        k = config.kernel
        self.to_mu = nn.Conv2d(findings, findings, k, padding=k // 2, groups=findings)
        self.to_sigma = nn.Conv2d(findings, findings, k, padding=k // 2, groups=findings)
        self.block = ClassificationBlock(1, findings, width=config.width, norm=config.norm, again=config.checkpoint)
        self.verdict = Verdict(self.block.channels, findings)
        if not config.sample and (config.penalty != "kl" or config.alpha == 0):
            # Nothing reads sigma then, and several GPUs wait forever for the gradient of what is not used.
            self.to_sigma.requires_grad_(False)

    def forward(self, images: Tensor, eps: Tensor | None = None, tau: float | None = None) -> Masked:
        """Logits, mask and latents of films (N, 1, H, W) in [0, 1].

        Args:
            images: the films.
            eps: a sample of N(0, 1) that broadcasts to (N, C, H, W); None takes the mean, z = mu.
            tau: threshold in place of the Config's.
        """
        latents = self.latents(images)
        return self.judge(images, latents, eps, tau)

    def latents(self, images: Tensor) -> Latents:
        """Mean, deviation and attention at the films' size: what Fig. 4 shows, and the map's own uncertainty."""
        attention = F.relu(self.attend(self.encoder(images)))
        size = images.shape[-2:]
        if self.config.upsampling == "nearest":
            attention = F.interpolate(attention, size, mode="nearest")
        else:
            attention = F.interpolate(attention, size, mode="bilinear", align_corners=False)
        # float32 from here on: the KL subtracts nearly equal numbers, and bfloat16 has three digits.
        with torch.autocast(attention.device.type, enabled=False):
            attention = attention.float()
            raw = self.to_sigma(attention)
            sigma = positive_sigma(raw, self.config.sigma, self.config.sigma_shift)
            return Latents(self.to_mu(attention), sigma, attention)

    def judge(self, images: Tensor, latents: Latents, eps: Tensor | None = None, tau: float | None = None) -> Masked:
        """Mask and logits of latents that are there already."""
        z = latents.mu if eps is None else reparameterize(latents.mu, latents.sigma, eps)
        mask = clipped_mask(z, self.config.tau if tau is None else tau, self.config.straight_through)
        seen = {"m": mask, "mz": mask * z, "mx": mask * images}[self.config.represent]
        # One finding after the other: with `checkpoint` only one map's features (N, 128, H, W) exist at a time.
        pooled = torch.stack([self.block(seen[:, c : c + 1], c) for c in range(seen.shape[1])], dim=1)
        return Masked(self.verdict(pooled), mask, latents)

    @torch.no_grad()
    def open_up(self, images: Tensor) -> None:
        """First weights that leave attention and mask alive, in place of PyTorch's own; used by ``start`` "open".

        Convolutions as He et al. 2015, without bias: PyTorch's own lose the film over ten layers without normalization.
        A averages the features, so that A > 0 where there are any: with random signs it begins closed on part of the
        film, seldom on all of it. mu is A smoothed, then scaled and shifted once (as Mishkin and Matas 2016 do with
        every layer) to mean 0 and variance 1 over these films, each finding's by itself: it begins at the prior, half
        the mask open. Sigma begins the same everywhere.

        Args:
            images: some films (N, 1, H, W) in [0, 1].
        """
        start_as_he(self)
        nn.init.uniform_(self.attend.weight, 0.0, 2.0 / self.attend.in_channels)
        self.to_mu.weight.fill_(1.0 / self.config.kernel**2)
        self.to_sigma.weight.zero_()
        zero_bias(self.attend, self.to_mu, self.to_sigma)
        self._centre(images)

    @torch.no_grad()
    def warm_up(self, encoder: nn.Module, direction: Tensor, images: Tensor) -> None:
        """First weights behind an encoder that has learned: A begins as what its features say of each finding.

        ``A_c = ReLU(w_c . f + b_c)`` with w_c along ``direction`` and b_c such that A is open but for the lowest (two
        standard deviations below the mean over these films); mu is brought to the prior as in ``open_up``.

        Args:
            encoder: of the same kind as this network's.
            direction: (C, D), as ``label_directions`` has them.
            images: some films (N, 1, H, W) in [0, 1].
        """
        self.open_up(images)
        self.encoder.load_state_dict(encoder.state_dict())
        with evaluating(self):
            length = direction.abs().sum(dim=1, keepdim=True)
            weight = torch.where(length > 0, direction / length, 1.0 / direction.shape[1])
            said = linear_evidence(self.encoder(images), weight)
            level, spread = said.mean(dim=(0, 2, 3)), said.std(dim=(0, 2, 3))
            self.attend.weight.copy_(weight[:, :, None, None])
            if self.attend.bias is not None:
                self.attend.bias.copy_(2 * spread - level)
            self.to_mu.weight.fill_(1.0 / self.config.kernel**2)
            zero_bias(self.to_mu)
            self._centre(images)

    def _centre(self, images: Tensor) -> None:
        """Scale and shift mu to mean 0 and variance 1 over these films."""
        mu = self.latents(images).mu
        deviation = mu.std(dim=(0, 2, 3)).clamp(min=1e-6)
        self.to_mu.weight /= deviation[:, None, None, None]
        if self.to_mu.bias is not None:
            self.to_mu.bias.copy_(-mu.mean(dim=(0, 2, 3)) / deviation)


class BaselineNet(nn.Module):
    """The baseline: encoder and classification block without attention map, latent map and mask.

    Args:
        backbone: the encoder, films (N, 1, H, W) to features (N, D, h, w).
        channels: D.
        findings: C.
        config: the rest.
    """

    def __init__(self, backbone: nn.Module, channels: int, findings: int, config: InfoMaskConfig) -> None:
        super().__init__()
        self.backbone = backbone
        self.block = ClassificationBlock(channels, width=config.width, norm=config.norm, again=config.checkpoint)
        self.verdict = Verdict(self.block.channels, findings)

    def classify(self, features: Tensor) -> Tensor:
        """Logits (N, C) of the encoder's features."""
        logits: Tensor = self.verdict(self.block(features))
        return logits


@torch.no_grad()
def start_as_he(net: nn.Module) -> None:
    """Weights of the 3x3 convolutions of the paper's stacks as He et al. 2015, biases zero; timm models stay."""
    own = [m for m in net.modules() if isinstance(m, (PaperEncoder, ClassificationBlock))]
    for layer in (layer for stack in own for layer in stack.modules() if isinstance(layer, nn.Conv2d)):
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        zero_bias(layer)


def zero_bias(*layers: nn.Conv2d) -> None:
    """Set the biases of convolutions to zero."""
    for layer in layers:
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def build_infomask(config: InfoMaskConfig, findings: int) -> InfoMaskNet:
    """InfoMask with PyTorch's first weights (a timm encoder: those that ``pretrained`` says)."""
    encoder = build_encoder(config)
    return InfoMaskNet(encoder, encoder.channels, findings, config)


def build_baseline(config: InfoMaskConfig, findings: int) -> BaselineNet:
    """The baseline with PyTorch's first weights."""
    encoder = build_encoder(config)
    return BaselineNet(encoder, encoder.channels, findings, config)


def build_cam(config: InfoMaskConfig, findings: int) -> CamNet:
    """CheXCAM's network: backbone, global average, one linear layer (Rajpurkar et al. 2017 with a DenseNet-121)."""
    encoder = build_encoder(config)
    if not isinstance(encoder, Backbone):
        raise TypeError("network=cam has a timm backbone")
    return CamNet(encoder, findings)


def build_net(config: InfoMaskConfig, findings: int) -> InfoMaskNet | BaselineNet | CamNet:
    """The network that a Config names, with its first weights."""
    if config.network == "infomask":
        return build_infomask(config, findings)
    return build_baseline(config, findings) if config.network == "baseline" else build_cam(config, findings)


def build_encoder(config: InfoMaskConfig) -> PaperEncoder | Backbone:
    """The paper's encoder, or a timm model in its place."""
    if config.backbone == PAPER:
        return PaperEncoder(
            width=config.width, norm=config.norm, mean=config.mean, std=config.std, again=config.checkpoint
        )
    return Backbone(
        config.backbone, stride=config.stride, stem=config.stem, mean=config.mean, std=config.std,
        pretrained=config.pretrained,
    )  # fmt: skip


def parameter_count(net: nn.Module) -> int:
    """Numbers that a network holds and can learn: 703,158 for InfoMask as the paper lists it, one finding.

    Example:
        >>> parameter_count(build_infomask(InfoMaskConfig(), findings=1))
        703158
    """
    return sum(p.numel() for p in net.parameters())
