"""The options that every method has: its films, its backbone, and how it is trained."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from cxrlocus.errors import check_rules
from cxrlocus.models.backbones import Stem
from cxrlocus.training.fit import FitConfig
from cxrlocus.types import Fit

PAPER = "paper"
"""The backbone that is no timm model: a paper's own network, from scratch."""


MADE_FOR_WEIGHTS = ("cpu", "small-data")
"""The presets whose backbone is meant to begin with weights of `--init`."""


class ScratchWarning(UserWarning):
    """A preset that is made for pretrained weights begins from random numbers."""


@dataclass(frozen=True)
class ClassifierConfig(FitConfig):
    """A classifier of films; training is FitConfig's.

    Args:
        backbone: a timm model that gives a feature grid.
        stem: of a timm model: one channel "repeat"ed three times, or the first convolution "adapt"ed to one.
        mean, std: of the first layer's normalization, for films in [0, 1]; those of the pretrained weights, if any.
        pretrained: start from timm's own ImageNet weights (needs network); `--init FILE` starts from a local file.
        size: side of the square film, pixels.
        fit: how a film that is not square becomes one.
        loss: "bce", or "weighted_bce" (Wang's W-CEL, Kim's eq. 10).
        setting: what is learned from: "inductive", the training films; "transductive", the boxed films of split "test"
            too, by their labels alone, as Cai et al. mine them. Their predictions then say so.
        val_fraction: share of the training patients held out to choose the checkpoint, when there is no "val" split.

    Raises:
        ConfigError: a value is out of its range.
    """

    backbone: str = "resnet50"
    stem: Stem = "repeat"
    mean: float = 0.449
    std: float = 0.226
    pretrained: bool = False
    size: int = 512
    fit: Fit = "letterbox"
    loss: Literal["bce", "weighted_bce"] = "bce"
    setting: Literal["inductive", "transductive"] = "inductive"
    val_fraction: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        rules = {
            "size": (32 <= self.size <= 4096 and not self.size % 32, "a multiple of 32 pixels from 32 to 4096"),
            "val_fraction": (0 < self.val_fraction < 1, "in (0, 1)"),
            "mean": (math.isfinite(self.mean), "a finite number"),
            "std": (0 < self.std < math.inf, "positive"),
        }
        check_rules(self, rules)
