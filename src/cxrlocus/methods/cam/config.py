"""Config of the CAM classifier: every choice, with its default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cxrlocus.methods.options import ClassifierConfig
from cxrlocus.models.pools import PoolOptions


@dataclass(frozen=True)
class CamConfig(ClassifierConfig, PoolOptions):
    """The classifier; training is FitConfig's, the pool PoolOptions' (by default the average of each feature).

    Args:
        stride: pixels a map cell, 32 or 16.
        augment: shift, turn, zoom and change the exposure of training films.
    """

    stride: int = 32
    augment: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        PoolOptions.__post_init__(self)


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
