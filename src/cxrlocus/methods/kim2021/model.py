"""The networks: a classifier that sees aligned films and gates its evidence by disease masks, and the aligner."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor, nn

from cxrlocus.functional.alignment import pose_affine, warp
from cxrlocus.functional.evidence import linear_evidence
from cxrlocus.functional.masks import attend
from cxrlocus.methods.kim2021.config import KimConfig
from cxrlocus.models.aligner import AlignmentNet
from cxrlocus.models.backbones import Backbone
from cxrlocus.models.modes import evaluating
from cxrlocus.models.registration import centre_offset


class KimNet(nn.Module):
    """Films to the findings' evidence on the aligned film: ``S'_c = (1 + psi_c) S_c``, and its mean to logits.

    With masks of zeros, as they are at first, it is the plain classifier; without an aligner, one of unaligned films.

    Args:
        features: films to features.
        findings: number C of findings.
        cells: side of the feature grid.
        aligner: a trained one, which learns no more; None for films as they are.
        border: what the aligned film shows beyond the film.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> net = build(KimConfig(backbone="test_resnet", size=64, align=False), findings=3).eval()
        >>> features = net.backbone(torch.rand(2, 1, 64, 64))
        >>> torch.allclose(net.classify(features), net.evidence(features).mean((-2, -1)) + net.bias, atol=1e-5)
        True
    """

    masks: Tensor

    def __init__(
        self, features: Backbone, findings: int, cells: int, aligner: AlignmentNet | None = None, border: str = "zeros"
    ) -> None:
        super().__init__()
        self.features, self.aligner, self.border = features, aligner, border
        self.weight = nn.Parameter(torch.empty(findings, features.channels))
        self.bias = nn.Parameter(torch.zeros(findings))
        nn.init.normal_(self.weight, std=0.01)
        self.register_buffer("masks", torch.zeros(findings, cells, cells))
        if aligner is not None:
            aligner.requires_grad_(False)

    @property
    def backbone(self) -> Callable[[Tensor], Tensor]:
        """Images (N, 1, H, W) in [0, 1] to features (N, D, h, w) of the aligned films."""
        return lambda images: self.features(self.align(images)[0])

    @torch.no_grad()
    def align(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Aligned films (N, 1, H, W), and the affines (N, 2, 3) from their unit square to that of the films."""
        if self.aligner is None:
            return images, torch.eye(2, 3, device=images.device).expand(len(images), 2, 3)
        # Also while the classifier trains: the aligner's statistics stay what they are.
        with evaluating(self.aligner):
            affine = pose_affine(self.aligner(images))
        return warp(images, affine, self.border), affine

    def evidence(self, features: Tensor) -> Tensor:
        """Attended evidence (N, C, h, w), raw, without the bias."""
        return attend(linear_evidence(features, self.weight).float(), self.masks)

    def classify(self, features: Tensor) -> Tensor:
        """Logits (N, C), float32."""
        return self.evidence(features).mean(dim=(-2, -1)) + self.bias.float()

    def offset(self) -> float:
        """How far from its own centre a cell of the maps looks, on the aligned film (``models.registration``)."""
        return centre_offset(self.features)


def build(config: KimConfig, findings: int) -> KimNet:
    """The classifier of a Config, with fresh weights or timm's pretrained ones; its aligner has fresh weights."""
    features = build_backbone(config)
    aligner = build_aligner(config) if config.align else None
    return KimNet(features, findings, config.size // config.stride, aligner, config.align_border)


def build_backbone(config: KimConfig) -> Backbone:
    """The classifier's backbone."""
    return Backbone(
        config.backbone,
        stride=config.stride,
        stem=config.stem,
        mean=config.mean,
        std=config.std,
        pretrained=config.pretrained,
    )


def build_aligner(config: KimConfig) -> AlignmentNet:
    """The alignment network, with fresh weights."""
    backbone = Backbone(config.align_backbone, stem=config.align_stem, mean=config.mean, std=config.std)
    return AlignmentNet(
        backbone,
        scale=config.scale_bound,
        shift=config.shift_bound,
        angle=config.angle_bound,
        side=config.align_side if config.align_side != config.size else 0,
        head=config.align_head,
    )


def without_alignment(config: KimConfig) -> KimConfig:
    """The Config of the classifier on unaligned films."""
    return replace(config, align=False)
