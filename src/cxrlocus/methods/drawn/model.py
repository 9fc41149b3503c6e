"""The network: a backbone's last two stages on the finer one's grid, and a linear head that reads every cell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from cxrlocus.methods.cam.model import STAGE, CamLocalizer
from cxrlocus.methods.drawn.config import DrawnConfig
from cxrlocus.models.backbones import Backbone
from cxrlocus.models.camnet import MapNet
from cxrlocus.models.msa import LastTwoStages, MultiScale
from cxrlocus.models.pools import PoolOptions
from cxrlocus.training.checkpoint import load_weights
from cxrlocus.training.machine import placed, resolve_precision
from cxrlocus.training.run import RunInfo
from cxrlocus.types import Findings

LEVEL = (0.5, 0.25)
"""Mean and deviation that every film is brought to."""

_FLAT = 0.02


class FineFeatures(nn.Module):
    """Films (N, 1, H, W) in [0, 1] to features (N, D, h, w) on the grid of the last stage but one.

    Args:
        backbone: films to features.
        width: channels of each of the two stages.
        head: D.
        level: bring films to one mean and deviation first.

    Example:
        >>> features = FineFeatures(Backbone("test_resnet"), width=8, head=4, level=True)
        >>> features(torch.rand(2, 1, 64, 64)).shape
        torch.Size([2, 4, 4, 4])
    """

    def __init__(self, backbone: Backbone, *, width: int, head: int, level: bool) -> None:
        super().__init__()
        self.stages, self.level = LastTwoStages(backbone), level
        self.joined = MultiScale(self.stages.channels, factor=self.stages.factor, width=(width, width), act="bn_relu")
        self.mix = nn.Sequential(
            nn.Conv2d(self.joined.channels, head, 3, padding=1, bias=False), nn.BatchNorm2d(head), nn.ReLU()
        )

    def forward(self, images: Tensor) -> Tensor:
        """Features of films."""
        before, last = self.stages(levelled(images) if self.level else images)
        mixed: Tensor = self.mix(self.joined(before, last))
        return mixed

    def new_parameters(self) -> Iterator[nn.Parameter]:
        """Those that no pretrained backbone brings."""
        yield from self.joined.parameters()
        yield from self.mix.parameters()


def levelled(images: Tensor) -> Tensor:
    """Films (N, 1, H, W), each with the mean and deviation of ``LEVEL``: how a film was exposed says nothing.

    Example:
        >>> film = levelled(torch.tensor([[[[0.0, 0.2]]]]) + 0.3)
        >>> torch.allclose(film.mean(), torch.tensor(0.5))
        True
    """
    mean = images.mean(dim=(-2, -1), keepdim=True)
    deviation = images.std(dim=(-2, -1), keepdim=True, correction=0)
    return (images - mean) / (deviation + _FLAT) * LEVEL[1] + LEVEL[0]


class CellNet(MapNet):
    """Cells say where, their log-sum-exp says what: ``z = LSE_r(w . F_ij + b) + a``.

    The bias b belongs to the cells, few of which a lesion covers; a (C,) moves the film's odds without moving theirs.

    Args:
        features: the network below the head.
        channels: of the features.
        findings: number C.
        lse_r: r.
    """

    def __init__(self, features: nn.Module, channels: int, findings: int, lse_r: float) -> None:
        super().__init__(features, channels, findings, PoolOptions(pool="lse", pool_on="logit", lse_r=lse_r))
        self.odds = nn.Parameter(torch.zeros(findings))

    def classify(self, features: Tensor) -> Tensor:
        """Logits (N, C) of features (N, D, h, w)."""
        return super().classify(features) + self.odds


class DrawnNet(CellNet):
    """A CellNet on fine features: what is trained.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> net = build(DrawnConfig(backbone="test_resnet", width=8, head=4), findings=3).eval()
        >>> out = net(torch.rand(2, 1, 64, 64))
        >>> out.logits.shape, out.maps.shape
        (torch.Size([2, 3]), torch.Size([2, 3, 4, 4]))
    """

    backbone: FineFeatures


class SideBySide(nn.Module):
    """Several networks' features of the same films, channel behind channel."""

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, D1 + D2 + ..., h, w)."""
        return torch.cat([part(images) for part in self.parts], dim=1)


def joined(nets: Sequence[DrawnNet], lse_r: float) -> CellNet:
    """Networks of one shape as one, whose cells say the mean of what theirs say: heads are linear, so it is a CellNet.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> config = DrawnConfig(backbone="test_resnet", width=8, head=4)
        >>> nets = [build(config, findings=3).eval() for _ in range(2)]
        >>> both, films = joined(nets, config.lse_r).eval(), torch.rand(2, 1, 64, 64)
        >>> torch.allclose(both(films).maps, (nets[0](films).maps + nets[1](films).maps) / 2, atol=1e-5)
        True
    """
    weights: list[Tensor] = [net.weight for net in nets]
    out = CellNet(SideBySide([net.backbone for net in nets]), sum(w.shape[1] for w in weights), len(weights[0]), lse_r)
    with torch.no_grad():
        out.weight.copy_(torch.cat(weights, dim=1) / len(nets))
        out.bias.copy_(torch.stack([net.bias for net in nets]).mean(dim=0))
        out.odds.copy_(torch.stack([net.odds for net in nets]).mean(dim=0))
    return out


def stage_of(k: int) -> str:
    """The stage of the k-th network, from 0.

    Example:
        >>> stage_of(0), stage_of(1)
        ('base', 'base2')
    """
    return STAGE if k == 0 else f"{STAGE}{k + 1}"


def build(config: DrawnConfig, findings: int) -> DrawnNet:
    """The network of a Config, with fresh weights or timm's pretrained ones."""
    backbone = Backbone(
        config.backbone, stem=config.stem, mean=config.mean, std=config.std, pretrained=config.pretrained
    )
    features = FineFeatures(backbone, width=config.width, head=config.head, level=config.level)
    return DrawnNet(features, config.head, findings, config.lse_r)


class DrawnLocalizer(CamLocalizer):
    """A trained DrawnNet as a Localizer: maps are logits of cells, on the plain grid.

    Masks taught each cell to speak for its own place, so there is no offset to undo.
    """

    offset = 0.0


def load_drawn(folder: Path, info: RunInfo) -> DrawnLocalizer:
    """The localizer of a trained run folder."""
    config = DrawnConfig(**{**info.config, "pretrained": False})
    nets = [build(config, len(info.findings)) for _ in range(config.networks)]
    for k, one in enumerate(nets):
        load_weights(folder / stage_of(k) / "weights.safetensors", one)
    net = nets[0] if len(nets) == 1 else joined(nets, config.lse_r)
    placed(net, channels_last=config.channels_last)
    bf16 = resolve_precision(config.precision) == "bf16"
    return DrawnLocalizer(net, Findings(tuple(info.findings)), size=config.size, fit=config.fit, bf16=bf16)
