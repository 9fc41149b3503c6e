"""Multi-scale aggregation (Cai et al. 2018, sec. 2.3): the last two stages of a backbone on the finer one's grid."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cxrlocus.errors import ConfigError
from cxrlocus.models.backbones import Backbone

Upsampling = Literal["bilinear", "deconv"]
Activation = Literal["none", "relu", "bn_relu"]


class LastTwoStages(nn.Module):
    """A backbone that also gives what its last but one stage says: films to (X_{k-1}, X_k).

    X_k are the features as the backbone gives them; X_{k-1} is the output of the stage before, as timm's
    ``feature_info`` names it.

    Args:
        backbone: films to features.

    Raises:
        ConfigError: timm does not say where that stage is, or its grid is not as fine or twice as fine as the last.

    Example:
        >>> stages = LastTwoStages(Backbone("test_resnet"))
        >>> before, last = stages(torch.zeros(2, 1, 64, 64))
        >>> before.shape, last.shape, stages.channels, stages.factor
        (torch.Size([2, 192, 4, 4]), torch.Size([2, 96, 2, 2]), (192, 96), 2)
    """

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self._layer, before = _last_but_one(backbone)
        self.channels = (before, backbone.channels)
        self.factor = self._factor()

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, D_{k-1}, h', w') and (N, D_k, h, w) of images (N, 1, H, W) in [0, 1]; h' is h or 2 h."""
        kept: list[Tensor] = []

        def keep(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            kept.append(output)

        # Hooked for this call only: the module keeps no tensor, and copies of it have nothing to forget.
        handle = self.backbone.net.get_submodule(self._layer).register_forward_hook(keep)
        try:
            last = self.backbone(images)
        finally:
            handle.remove()
        before = kept[0]
        return before.permute(0, 3, 1, 2) if self.backbone.channels_last else before, last

    def _factor(self) -> int:
        side = 128
        was_training = self.training
        self.eval()
        with torch.no_grad():
            before, last = self(torch.zeros(1, 1, side, side))
        self.train(was_training)
        factor, rest = divmod(before.shape[-1], last.shape[-1])
        if rest or factor not in (1, 2) or before.shape[1] != self.channels[0]:
            raise ConfigError(
                f"backbone {self.backbone.name!r}: the stage before the last must have a grid of the same size or "
                f"twice as fine; at {side} px they give {tuple(before.shape)} and {tuple(last.shape)}. Choose another."
            )
        return int(factor)


class MultiScale(nn.Module):
    """``X = [up(conv1x1(X_k)), conv1x1(X_{k-1})]`` (Cai et al. 2018, sec. 2.3).

    Args:
        channels: D_{k-1} and D_k.
        factor: how much finer the grid of X_{k-1} is, 1 or 2; at 1 nothing is upsampled.
        up: "bilinear", or "deconv", a transposed 3x3 convolution.
        width: channels of the two 1x1 convolutions, first that of X_k.
        act: behind them: nothing (the text names convolutions only), "relu", or batch normalization and ReLU.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> msa = MultiScale((192, 96))
        >>> msa(torch.rand(2, 192, 8, 8), torch.rand(2, 96, 4, 4)).shape
        torch.Size([2, 768, 8, 8])
    """

    def __init__(
        self,
        channels: tuple[int, int],
        *,
        factor: int = 2,
        up: Upsampling = "bilinear",
        width: tuple[int, int] = (512, 256),
        act: Activation = "none",
    ) -> None:
        super().__init__()
        self.factor, self.channels = factor, sum(width)
        self.last = nn.Sequential(nn.Conv2d(channels[1], width[0], 1), *_activation(act, width[0]))
        self.before = nn.Sequential(nn.Conv2d(channels[0], width[1], 1), *_activation(act, width[1]))
        self.deconv: nn.Module | None = None
        if up == "deconv" and factor > 1:
            self.deconv = nn.ConvTranspose2d(
                width[0], width[0], 3, stride=factor, padding=1, output_padding=factor - 1
            )  # fmt: skip

    def forward(self, before: Tensor, last: Tensor) -> Tensor:
        """(N, sum(width), h', w') of X_{k-1} (N, D_{k-1}, h', w') and X_k (N, D_k, h, w)."""
        coarse: Tensor = self.last(last)
        if self.deconv is not None:
            coarse = self.deconv(coarse)
        elif self.factor > 1:
            coarse = F.interpolate(coarse, scale_factor=self.factor, mode="bilinear", align_corners=False)
        return torch.cat([coarse, self.before(before)], dim=1)


def _activation(act: Activation, channels: int) -> list[nn.Module]:
    norm: list[nn.Module] = [nn.BatchNorm2d(channels)] if act == "bn_relu" else []
    return [] if act == "none" else [*norm, nn.ReLU()]


def _last_but_one(backbone: Backbone) -> tuple[str, int]:
    """Name and channels of the last but one stage."""
    info: Any = getattr(backbone.net, "feature_info", None)
    rows = info if isinstance(info, list) else getattr(info, "info", [])
    if len(rows) < 2 or not {"module", "num_chs"} <= set(rows[-2]):
        raise ConfigError(
            f"backbone {backbone.name!r}: timm does not say where its stages are, and the last but one is needed. "
            "Choose another backbone."
        )
    return str(rows[-2]["module"]), int(rows[-2]["num_chs"])
