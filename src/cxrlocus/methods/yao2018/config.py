"""Config of the multi-resolution model: every choice, with its default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cxrlocus.data.transforms import Augmentation
from cxrlocus.errors import check_rules
from cxrlocus.methods.options import PAPER, ClassifierConfig
from cxrlocus.methods.yao2018.down import strides_of
from cxrlocus.methods.yao2018.layers import Upsampling
from cxrlocus.models.pools import PoolName, PoolOptions, Scale

AUGMENTATIONS: Mapping[str, Augmentation | None] = {
    "ours": Augmentation(),
    # 50 pixels of 512; the exposure is left alone.
    "paper": Augmentation(
        rotation=25.0, shift=50 / 512, zoom=0.0, scale=(0.25, 0.75), brightness=0.0, contrast=0.0, gamma=0.0
    ),
    "none": None,
}
"""Augmentations by name."""


@dataclass(frozen=True)
class YaoConfig(ClassifierConfig, PoolOptions):
    """The pyramid; training is FitConfig's, the pool PoolOptions'. NOTES.md has what the paper leaves open.

    Args:
        backbone: "paper" (a ResNet from scratch), or a timm model whose stages become the way down.
        resolution: cells N along a side of the map.
        lowest: cells along a side at the bottom, at least 2; size, resolution and lowest are powers of two apart.
        width: channels of the paper's path a pixel of its stride: at 8 pixels a cell, 8 times as many.
        max_width: most channels of that path.
        blocks: residual blocks a halving of that path.
        dense_layers: 3x3 layers of the dense block at each resolution.
        growth: channels of each of these layers (no more than come down to the level).
        fused: most channels that a resolution hands up, and that the head reads.
        upsampling: "nearest", "bilinear" or "transposed".
        bias: of the head: "none" (as in the text), or one that begins at "zero" or at the training films' "odds".
        checkpoint: compute the pyramid's blocks again in the backward pass instead of keeping them.
        augment: of training films: "ours" (shift, turn, zoom and change the exposure a little), "paper" (as printed:
            shrunk to 25 to 75 %, shifted by up to 50 of 512 px, turned by up to 25 degrees) or "none".

    Example:
        >>> YaoConfig(resolution=128).strides
        (4, 8, 16, 32)
    """

    pool: PoolName = "lse_lba"
    pool_on: Scale = "probability"
    r0: float = 5.0
    backbone: str = PAPER
    resolution: int = 64
    lowest: int = 16
    width: int = 16
    max_width: int = 512
    blocks: int = 2
    dense_layers: int = 4
    growth: int = 32
    fused: int = 128
    upsampling: Upsampling = "nearest"
    bias: Literal["none", "zero", "odds"] = "none"
    checkpoint: bool = False
    augment: Literal["ours", "paper", "none"] = "ours"
    val_fraction: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        PoolOptions.__post_init__(self)
        counts = ("width", "max_width", "blocks", "dense_layers", "growth", "fused")
        rules = {
            # One cell a film: batch normalization has nothing to normalize in a step of one film.
            "lowest": (self.lowest >= 2, "at least 2"),
            "augment": (self.augment in AUGMENTATIONS, f"one of {', '.join(AUGMENTATIONS)}"),
            "pool_on": (self.pool_on != "feature", "probability or logit for a map of this method"),
            **{name: (getattr(self, name) >= 1, "at least 1") for name in counts},
        }
        check_rules(self, rules)
        strides_of(self.size, self.resolution, self.lowest)

    @property
    def strides(self) -> tuple[int, ...]:
        """Pixels a cell at each level, the map's first."""
        return strides_of(self.size, self.resolution, self.lowest)


_TRAINING = {"optimizer": "adam", "lr": 1e-3, "weight_decay": 1e-5, "schedule": "constant", "warmup": 0.0}
"""Sec. 4.2: Adam at a constant rate, L2 on the weights, early stopping on the mean AUROC (``select``)."""

_SMALL = {"width": 8, "max_width": 128, "blocks": 1, "dense_layers": 3, "growth": 12, "fused": 32}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # Sec. 4: 512 px, N = 64. Batch size, epochs and patience are ours, it gives none.
    "paper": {**_TRAINING, "batch_size": 16, "epochs": 60, "patience": 8},
    # A thin pyramid of 256 px films, N = 64, for a two-core machine.
    "cpu": {
        **_TRAINING, **_SMALL, "size": 256, "resolution": 64, "lowest": 8, "batch_size": 16, "epochs": 12, "lr": 3e-3,
        "schedule": "cosine", "warmup": 0.05, "val_fraction": 0.15,
    },
    # Minutes on two cores, for phantom films.
    "demo": {
        **_TRAINING, **_SMALL, "size": 128, "resolution": 32, "lowest": 4, "batch_size": 16, "epochs": 20, "lr": 3e-3,
        "schedule": "cosine", "warmup": 0.05, "val_fraction": 0.15,
    },
}  # fmt: skip

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    # The method itself has r0 = 5; these are the other columns of Tables 2 and 3.
    "": {},
    "r0_0": {"r0": 0.0},
    "r0_10": {"r0": 10.0},
    # Sec. 3.4 and beyond: the other pools.
    "average": {"pool": "average"},
    "max": {"pool": "max"},
    # Thousands of cells at a half are surely one: without a start at the odds its first steps only unlearn that.
    "noisy_or": {"pool": "noisy_or", "bias": "odds"},
    "gm": {"pool": "gm"},
    "gm_adaptive": {"pool": "gm_adaptive", "r0": 0.0},
    "lse": {"pool": "lse"},
    "pcam": {"pool": "pcam", "pool_on": "logit"},
    "gated_attention": {"pool": "gated_attention", "pool_on": "logit"},
    # Sec. 3.3: other upsamplings.
    "bilinear": {"upsampling": "bilinear"},
    "transposed": {"upsampling": "transposed"},
    "shared_beta": {"beta": "shared"},
    # A pretrained way down; give its weights with --init.
    "timm": {"backbone": "mobilenetv2_100", "mean": 0.5, "std": 0.5},
}
