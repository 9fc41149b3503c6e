"""Config of the method that learns where from drawn films: every choice, with its default."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cxrlocus.errors import check_rules
from cxrlocus.methods.options import ClassifierConfig


@dataclass(frozen=True)
class DrawnConfig(ClassifierConfig):
    """The network and its teachers; training is FitConfig's. ``batch_size`` counts the real films of a step.

    Args:
        drawn: films of the phantom in each step, a new one each time.
        planted: real normal films with lesions planted in them, in each step.
        label_weight: of the labels of the real films.
        cell_weight: of the masks: of the phantom's films, of planted ones, and, empty, of real normal films.
        rare: how much more a lesion's cell counts than an empty one.
        lse_r: sharpness of the pool (log-sum-exp over map logits) from cells to a film's label.
        plainness: contrast of planted lesions, from this share of the phantom's range up to its top.
        noise: largest standard deviation of the noise that is added to training films.
        level: let every film have one mean and deviation, at the network's door; else exposure is left as it is.
        width: channels that each of the last two stages is brought to.
        head: channels that the linear head reads.
        augment: shift, turn, zoom and change the exposure of training films.
        networks: trained one after the other on the same films, each from a seed of its own; cells say the mean of
            what theirs say.
    """

    drawn: int = 10
    planted: int = 6
    label_weight: float = 1.0
    cell_weight: float = 8.0
    rare: float = 3.0
    lse_r: float = 4.0
    plainness: float = 0.2
    noise: float = 0.02
    level: bool = True
    width: int = 128
    head: int = 96
    augment: bool = True
    networks: int = 1
    select: str = "cell_loss"

    def __post_init__(self) -> None:
        super().__post_init__()
        rules = {
            "drawn": (self.drawn >= 0, "at least 0"),
            "planted": (self.planted >= 0, "at least 0"),
            "label_weight": (0 <= self.label_weight < math.inf, "at least 0"),
            "cell_weight": (0 <= self.cell_weight < math.inf, "at least 0"),
            "rare": (0 < self.rare < math.inf, "positive"),
            "lse_r": (0 < self.lse_r < math.inf, "positive"),
            "plainness": (0 <= self.plainness <= 1, "in [0, 1]"),
            "noise": (0 <= self.noise <= 1, "in [0, 1]"),
            "width": (self.width >= 1, "at least 1"),
            "head": (self.head >= 1, "at least 1"),
            "networks": (self.networks >= 1, "at least 1"),
            "select": (
                self.select != "cell_loss" or self.drawn + self.planted > 0,
                "a figure of labels, as auroc, where nothing is drawn (drawn and planted are 0)",
            ),
        }
        check_rules(self, rules)


_ONE = {
    "backbone": "mobilenetv2_100",
    "mean": 0.5,
    "std": 0.5,
    "size": 256,
    "epochs": 10,
    "batch_size": 8,
    "lr": 3e-4,
    "head_lr": 5.0,
    "weight_decay": 0.05,
    "warmup": 0.06,
}

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # A large backbone for a GPU, ImageNet weights by name; not measured.
    "paper": {"pretrained": True, "lr": 1e-4, "head_lr": 10.0, "weight_decay": 0.05, "batch_size": 16},
    # About a thousand labelled films, ImageNet weights with --init: what docs/results/small-data.md measures.
    "small-data": {**_ONE, "networks": 3},
    "cpu": _ONE,
    # A tiny network from scratch.
    "demo": {
        "backbone": "test_resnet",
        "stem": "adapt",
        "size": 128,
        "epochs": 12,
        "batch_size": 8,
        "lr": 4e-3,
        "width": 32,
        "head": 32,
    },
}

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "": {},
    # What each teacher adds.
    "no-labels": {"label_weight": 0.0},
    "no-drawn": {"drawn": 0},
    "no-planted": {"planted": 0},
    "labels": {"drawn": 0, "planted": 0, "cell_weight": 0.0, "select": "auroc"},
}
