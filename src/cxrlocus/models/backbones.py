"""Backbones: any timm network that gives a grid of features, for films of one channel."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import timm
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from timm.models import adapt_input_conv
from torch import Tensor, nn

from cxrlocus.errors import ConfigError
from cxrlocus.models.depthwise import depthwise_in_float32

Stem = Literal["repeat", "adapt"]


class Backbone(nn.Module):
    """A timm network without its head: films (N, 1, H, W) in [0, 1] to features (N, D, h, w).

    Its first layer is the normalization ``(x - mean) / std``; then the one channel is repeated three times
    (stem "repeat") or the first convolution has one input channel, its weights summed over RGB (stem "adapt").

    Args:
        name: a timm model that gives a feature grid, e.g. "resnet50", "densenet121", "mobilenetv2_100".
        stride: 32 or 16 input pixels a cell; 16 dilates the last stage and keeps the pretrained weights.
        stem: "repeat" or "adapt".
        mean, std: of the normalization, for films in [0, 1].
        pretrained: take timm's own pretrained weights (needs network or timm's cache).

    Raises:
        ConfigError: timm has no such model, it gives no feature grid, or it does not offer the stride.

    Example:
        >>> backbone = Backbone("resnet10t", stride=16)
        >>> backbone(torch.zeros(2, 1, 64, 64)).shape == (2, backbone.channels, 4, 4)
        True
    """

    def __init__(
        self,
        name: str,
        *,
        stride: int = 32,
        stem: Stem = "repeat",
        mean: float = 0.449,
        std: float = 0.226,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        if std <= 0:
            raise ConfigError(f"std must be positive; got {std}.")
        self.name, self.stem, self.mean, self.std = name, stem, mean, std
        self.net: Any = _create(name, stride, in_chans=3 if stem == "repeat" else 1, pretrained=pretrained)
        depthwise_in_float32(self.net)
        self.channels: int = self.net.num_features
        self.channels_last = getattr(self.net, "output_fmt", "NCHW") == "NHWC"
        self._check_grid(stride)

    def forward(self, images: Tensor) -> Tensor:
        """Features (N, D, h, w) of images (N, 1, H, W) in [0, 1]."""
        x = (images - self.mean) / self.std
        if self.stem == "repeat":
            x = x.expand(-1, 3, -1, -1)
        features: Tensor = self.net.forward_features(x)
        return features.permute(0, 3, 1, 2) if self.channels_last else features

    def load(self, path: Path) -> None:
        """Load weights of the whole timm model (its classifier is left out) from a safetensors file.

        Raises:
            ConfigError: the file is missing, is not safetensors, or lacks or misshapes a weight of this backbone.
        """
        state = read_weights(path)
        own = self.net.state_dict()
        first = next(k for k, v in own.items() if v.ndim == 4)
        if first in state and state[first].shape[1] != own[first].shape[1]:
            state[first] = adapt_input_conv(own[first].shape[1], state[first])
        state = {k: v for k, v in state.items() if k in own}
        missing = [k for k in own if k not in state and not k.endswith("num_batches_tracked")]
        misshaped = [k for k, v in state.items() if v.shape != own[k].shape]
        if missing or misshaped:
            raise ConfigError(
                f"{path}: not the weights of {self.name}: {len(missing)} missing, {len(misshaped)} of another shape"
                f" (first: {(missing + misshaped)[0]}). Give weights of this backbone in timm's key names."
            )
        self.net.load_state_dict(state, strict=False)

    def _check_grid(self, stride: int) -> None:
        # Four cells a side at the asked stride: a backbone that ignores the stride, or gives tokens, shows itself.
        side = 4 * stride
        was_training = self.training
        self.eval()
        try:
            with torch.enable_grad():
                features = self(torch.zeros(1, 1, side, side))
                features.sum().backward()
            shape = tuple(features.shape)
        except (AssertionError, RuntimeError, IndexError) as error:
            raise ConfigError(
                f"backbone {self.name!r} gives no feature grid for films of any size ({error})."
            ) from error
        self.train(was_training)
        # A head's norm, say: it never learns here, and DDP waits forever for the gradient of what is not used.
        for parameter in self.net.parameters():
            parameter.requires_grad_(parameter.grad is not None)
            parameter.grad = None
        if shape != (1, self.channels, 4, 4):
            raise ConfigError(
                f"backbone {self.name!r} must give (1, {self.channels}, 4, 4) for a film of {side} px at stride "
                f"{stride}; it gave {shape}. Choose a convolutional backbone, or stride 32."
            )


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file by name.

    Raises:
        ConfigError: the file is missing or is not safetensors.
    """
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise ConfigError(f"{path}: cannot be read as safetensors weights ({error}).") from error


def _create(name: str, stride: int, **options: Any) -> Any:
    if stride not in (16, 32):
        raise ConfigError(f"stride must be 16 or 32; got {stride}.")
    if stride == 16:
        options["output_stride"] = 16
    try:
        net = timm.create_model(name, num_classes=0, global_pool="", **options)
    except (OSError, ConnectionError) as error:
        raise ConfigError(
            f"the pretrained weights of {name!r} cannot be fetched ({type(error).__name__}). Give weights with --init "
            "FILE, train from scratch with --set pretrained=false, or connect this machine to the network once."
        ) from error
    except (RuntimeError, TypeError, ValueError, AssertionError, NotImplementedError) as error:
        first_line = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ConfigError(
            f"backbone {name!r} at stride {stride} cannot be made by timm ({first_line}). "
            "`timm.list_models()` names its models."
        ) from error
    return net
