"""Config of the CAM classifier: every choice, with its default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cxrlocus.errors import ConfigError
from cxrlocus.models.backbones import Stem
from cxrlocus.models.pools import PoolOptions
from cxrlocus.training.fit import FitConfig
from cxrlocus.types import Fit


@dataclass(frozen=True)
class CamConfig(FitConfig, PoolOptions):
    """The classifier; training is FitConfig's, the pool PoolOptions' (by default the average of each feature).

    Args:
        backbone: a timm model that gives a feature grid.
        stride: pixels a map cell, 32 or 16.
        stem: one channel "repeat"ed three times, or the first convolution "adapt"ed to one.
        mean, std: of the first layer's normalization, for films in [0, 1]; those of the pretrained weights, if any.
        pretrained: start from timm's own ImageNet weights (needs network); `--init FILE` starts from a local file.
        size: side of the square film, pixels.
        fit: how a film that is not square becomes one.
        loss: "bce", or "weighted_bce" (Wang's W-CEL).
        augment: shift, turn, zoom and change the exposure of training films.
        val_fraction: share of the training patients held out to choose the checkpoint, when there is no "val" split.
    """

    backbone: str = "resnet50"
    stride: int = 32
    stem: Stem = "repeat"
    mean: float = 0.449
    std: float = 0.226
    pretrained: bool = False
    size: int = 512
    fit: Fit = "letterbox"
    loss: Literal["bce", "weighted_bce"] = "bce"
    augment: bool = True
    val_fraction: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        PoolOptions.__post_init__(self)
        if not 32 <= self.size <= 4096 or self.size % 32:
            raise ConfigError(f"size must be a multiple of 32 pixels from 32 to 4096; got {self.size}.")
        if not 0 < self.val_fraction < 1:
            raise ConfigError(f"val_fraction must be in (0, 1); got {self.val_fraction}.")


PRESETS: Mapping[str, Mapping[str, Any]] = {
    # Wang et al.'s network on a GPU, ImageNet weights by name.
    "paper": {"pretrained": True, "lr": 1e-4, "head_lr": 10.0, "epochs": 10, "patience": 3},
    # Small pretrained network for a two-core machine; give its weights with --init. They want films in [-1, 1].
    "cpu": {
        "backbone": "mobilenetv2_100",
        "mean": 0.5,
        "std": 0.5,
        "size": 320,
        "epochs": 8,
        "batch_size": 16,
        "lr": 3e-4,
        "head_lr": 5.0,
        "weight_decay": 0.05,
        "warmup": 0.1,
    },
    # A tiny network from scratch, in minutes on two cores, for phantom films; what `cxrlocus demo` runs.
    "demo": {
        "backbone": "test_resnet",
        "stem": "adapt",
        "stride": 16,
        "size": 128,
        "epochs": 12,
        "lr": 4e-3,
    },
}

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "": {},
    "max": {"pool": "max"},
    "lse": {"pool": "lse"},
    "weighted": {"loss": "weighted_bce"},
    "wang2017": {"pool": "lse", "loss": "weighted_bce"},
    # The pools that came later; POOLS has them all.
    "lse_lba": {"pool": "lse_lba", "pool_on": "probability", "r0": 5.0},
    "noisy_or": {"pool": "noisy_or", "pool_on": "probability"},
    "gm": {"pool": "gm", "pool_on": "probability"},
    "gm_adaptive": {"pool": "gm_adaptive", "pool_on": "probability"},
    "pcam": {"pool": "pcam", "pool_on": "logit"},
    "gated_attention": {"pool": "gated_attention", "pool_on": "logit"},
}
