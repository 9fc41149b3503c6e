"""Config of alignment and disease masks: every choice, with its default. NOTES.md has the readings behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from cxrlocus.errors import ConfigError, check_rules
from cxrlocus.methods.options import ClassifierConfig
from cxrlocus.models.aligner import PoseHead
from cxrlocus.models.backbones import Stem
from cxrlocus.types import BOXED8, NIH14, Findings


@dataclass(frozen=True)
class KimConfig(ClassifierConfig):
    """Alignment and disease masks; FitConfig's fields are those of the classifiers, on unaligned and on aligned films.

    Args:
        stride: pixels a map cell, 32 or 16.
        mean, std: .5 and .5 take films to the paper's [-1, 1].
        loss: "weighted_bce" is eq. 10.
        augment: shift, turn, zoom and change the exposure of training films, before they are aligned.
        align: align films before they are classified.
        anchor_films: at most so many films make the anchor.
        anchor_from: "normal" films (all labels known, none positive), or "all".
        anchor_rounds: how often an anchor is made and aligned to; the paper's is 1. A later round's anchor is the mean
            of the same films as the round before aligned them, and its alignment network goes on from there.
        align_backbone: the timm model that predicts the pose.
        align_stem: as ``stem``, of the alignment network.
        align_side: side in pixels of what that model sees; 0 is ``size``.
        align_head: it reads the "average" of each feature (a ResNet as it is), or a "grid" of 4 x 4 averages.
        align_epochs, align_batch, align_optimizer, align_lr: of its training.
        align_border: beyond the film its edge is repeated ("border"), or all is black ("zeros").
        scale_bound: largest zoom and its inverse the least.
        shift_bound: largest shift, share of the side.
        angle_bound: largest turn, degrees.
        blur: side of the average pooling of eq. 6, pixels of the film.
        perceptual: norm of eq. 7: "squared", or to the "letter".
        perceptual_weight: of eq. 7 in eq. 9; 0 leaves it out.
        euclidean: eq. 8 as a "mean" over pixels, to the letter as a "sum", or as a mean of "squared" differences.
        euclidean_margin: share of the side along each edge that eq. 8 leaves out; 0 compares whole films.
        level: compare films and anchor as they are ("raw"), or each with the anchor's mean and deviation ("matched").
        masks: "learned" from maps, "drawn" from plain anatomy, "blank" (retrain without any), or "none" (stop before).
        mask_findings: which findings have one: "boxed" (the eight that NIH has boxes for), "all", or names with commas.
        asymmetric: names, with commas, of the findings whose maps are not mirrored.
        mirror: the others' are mirrored about the middle of the "film" that cells look at, or of their "grid".
        mask_prob: maps of labelled training films with at least this probability make a learned mask.
        mask_least: where these are fewer, the ``mask_best`` most probable labelled films do.
        mask_best: K of that rule.
        mask_threshold: T of eq. 3.
        mask_keep: above T a learned mask has its values ("soft"), or ones ("binary").
        mask_rescale: take each mean map to [0, 1] before T.
        retrain_epochs: of the retraining under masks.
        retrain_rate: its learning rate as a share of ``lr``.
    """

    stride: int = 32
    mean: float = 0.5
    std: float = 0.5
    loss: Literal["bce", "weighted_bce"] = "weighted_bce"
    augment: bool = True
    align: bool = True
    anchor_films: int = 2000
    anchor_from: Literal["normal", "all"] = "normal"
    anchor_rounds: int = 1
    align_backbone: str = "resnet18"
    align_stem: Stem = "adapt"
    align_side: int = 0
    align_head: PoseHead = "average"
    align_epochs: int = 5
    align_batch: int = 16
    align_optimizer: Literal["adamw", "adam", "sgd"] = "sgd"
    align_lr: float = 1e-3
    align_border: Literal["zeros", "border"] = "border"
    scale_bound: float = 1.5
    shift_bound: float = 0.25
    angle_bound: float = 20.0
    blur: int = 16
    perceptual: Literal["squared", "letter"] = "squared"
    perceptual_weight: float = 1.0
    euclidean: Literal["mean", "sum", "squared"] = "mean"
    euclidean_margin: float = 0.0
    level: Literal["raw", "matched"] = "raw"
    masks: Literal["learned", "drawn", "blank", "none"] = "learned"
    mask_findings: str = "boxed"
    asymmetric: str = "Cardiomegaly"
    mirror: Literal["film", "grid"] = "film"
    mask_prob: float = 0.8
    mask_least: int = 10
    mask_best: int = 20
    mask_threshold: float = 0.5
    mask_keep: Literal["soft", "binary"] = "soft"
    mask_rescale: bool = True
    retrain_epochs: int = 5
    retrain_rate: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        rules = {
            "anchor_films": (self.anchor_films >= 1, "at least 1"),
            "anchor_rounds": (1 <= self.anchor_rounds <= 9, "in 1 to 9"),
            "align_side": (self.align_side == 0 or 32 <= self.align_side <= 4096, "0, or from 32 to 4096 pixels"),
            "align_epochs": (self.align_epochs >= 1, "at least 1"),
            "align_batch": (self.align_batch >= 1, "at least 1"),
            "align_lr": (0 < self.align_lr < math.inf, "positive"),
            "scale_bound": (1 <= self.scale_bound <= 4, "in [1, 4]"),
            "shift_bound": (0 <= self.shift_bound <= 1, "in [0, 1]"),
            "angle_bound": (0 <= self.angle_bound < 180, "in [0, 180)"),
            "blur": (self.blur >= 1 and not self.size % max(1, self.blur), f"a divisor of size ({self.size})"),
            "perceptual_weight": (0 <= self.perceptual_weight < math.inf, "at least 0"),
            "euclidean_margin": (0 <= self.euclidean_margin < 0.5, "in [0, 0.5)"),
            "mask_findings": (bool(self.mask_findings.strip(" ,")), "boxed, all, or names of findings"),
            "mask_prob": (0 <= self.mask_prob <= 1, "in [0, 1]"),
            "mask_least": (self.mask_least >= 1, "at least 1"),
            "mask_best": (self.mask_best >= 1, "at least 1"),
            "mask_threshold": (0 <= self.mask_threshold < 1, "in [0, 1)"),
            "retrain_epochs": (self.retrain_epochs >= 1, "at least 1"),
            "retrain_rate": (0 < self.retrain_rate < math.inf, "positive"),
        }
        check_rules(self, rules)

    def masked(self, findings: Findings) -> tuple[str, ...]:
        """The findings of a data set that have a mask.

        Raises:
            ConfigError: a name is not one of its findings, or none has a mask.

        Example:
            >>> findings = Findings(("Mass", "Edema"))
            >>> KimConfig().masked(findings), KimConfig(mask_findings="all").masked(findings)
            (('Mass',), ('Mass', 'Edema'))
        """
        if self.masks in ("none", "blank"):
            return ()
        named = {"boxed": BOXED8.names, "all": findings.names}.get(self.mask_findings) or _names(self.mask_findings)
        strange = [name for name in named if name not in findings and name not in BOXED8]
        chosen = tuple(name for name in findings if name in named)
        if strange or not chosen:
            raise ConfigError(
                f"mask_findings={self.mask_findings} must name findings of the data set ({', '.join(findings)})"
                f"{'; got ' + strange[0] if strange else ', and names none'}. Use mask_findings=all, or masks=blank."
            )
        return chosen

    def mirrored(self, findings: Findings) -> tuple[bool, ...]:
        """Which findings' maps are mirrored, in the order of the vocabulary.

        Raises:
            ConfigError: ``asymmetric`` names none of the data set's findings or NIH's.
        """
        strange = [name for name in _names(self.asymmetric) if name not in findings and name not in NIH14]
        if strange:
            raise ConfigError(f"asymmetric must name findings ({', '.join(findings)}); got {strange[0]!r}.")
        return tuple(name not in _names(self.asymmetric) for name in findings)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


BASE, ANCHOR, ALIGN, ALIGNED, MASKS, RETRAIN = "base", "anchor", "align", "aligned", "masks", "retrain"
"""The stages' folders; later rounds of anchor and alignment have their number behind the name: anchor2, align2."""

_OF_ANCHOR = ("align", "anchor_films", "anchor_from")
_OF_ALIGN = (
    "align_backbone", "align_stem", "align_side", "align_head", "align_epochs", "align_batch", "align_optimizer",
    "align_lr", "align_border", "scale_bound", "shift_bound", "angle_bound", "blur", "perceptual", "perceptual_weight",
    "euclidean", "euclidean_margin", "level", "anchor_rounds",
)  # fmt: skip
_OF_MASKS = (
    "masks", "mask_findings", "asymmetric", "mirror", "mask_prob", "mask_least", "mask_best", "mask_threshold",
    "mask_keep", "mask_rescale",
)  # fmt: skip
_OF_RETRAIN = ("retrain_epochs", "retrain_rate")


def in_round(stage: str, number: int) -> str:
    """The folder of stage ``anchor`` or ``align`` in a round, from 1.

    Example:
        >>> in_round("align", 1), in_round("align", 2)
        ('align', 'align2')
    """
    return stage if number == 1 else f"{stage}{number}"


def round_of(stage: str) -> tuple[str, int]:
    """The stage that a folder is of, and its round.

    Example:
        >>> round_of("align2"), round_of("masks")
        (('align', 2), ('masks', 1))
    """
    name = stage.rstrip("23456789")
    return name, int(stage.removeprefix(name) or 1)


def stages_of(config: KimConfig) -> tuple[str, ...]:
    """The stages of a Config's training, in order.

    Example:
        >>> stages_of(KimConfig())
        ('base', 'anchor', 'align', 'aligned', 'masks', 'retrain')
        >>> stages_of(KimConfig(anchor_rounds=2))[1:6]
        ('anchor', 'align', 'anchor2', 'align2', 'aligned')
        >>> stages_of(KimConfig(align=False, masks="none")), stages_of(KimConfig(align=False))
        (('base',), ('base', 'masks', 'retrain'))
    """
    rounds = (in_round(stage, r + 1) for r in range(config.anchor_rounds) for stage in (ANCHOR, ALIGN))
    aligning = (*rounds, ALIGNED) if config.align else ()
    return (BASE, *aligning, *((MASKS, RETRAIN) if config.masks != "none" else ()))


def stage_config(config: KimConfig, stage: str) -> KimConfig:
    """A stage's own Config: its epochs and rates in FitConfig's fields, and what it does not depend on at its default.

    So runs that differ in what comes later have the same stage, with the same manifest.

    Example:
        >>> one, other = KimConfig(masks="drawn", blur=8), KimConfig(masks="none", blur=8, retrain_rate=0.5)
        >>> stage_config(one, "aligned") == stage_config(other, "aligned"), stage_config(one, "align").select
        (True, 'val_loss')
        >>> stage_config(one, "base") == stage_config(KimConfig(align=False, blur=4), "base")
        True
        >>> stage_config(KimConfig(anchor_rounds=3), "align2") == stage_config(KimConfig(anchor_rounds=2), "align2")
        True
    """
    name, number = round_of(stage)
    later: dict[str, tuple[str, ...]] = {
        BASE: (*_OF_ANCHOR, *_OF_ALIGN, *_OF_MASKS, *_OF_RETRAIN),
        ANCHOR: (*_OF_ALIGN, *_OF_MASKS, *_OF_RETRAIN),
        ALIGN: (*_OF_MASKS, *_OF_RETRAIN),
        ALIGNED: (*_OF_MASKS, *_OF_RETRAIN),
        MASKS: _OF_RETRAIN,
        RETRAIN: (),
    }
    later[ANCHOR] = later[ANCHOR] if number == 1 else later[ALIGN]
    defaults: dict[str, Any] = {f.name: f.default for f in fields(KimConfig) if f.name in later[name]}
    one = replace(config, **defaults)
    if name in (ANCHOR, ALIGN):
        one = replace(one, anchor_rounds=number)
    if name == ALIGN:
        return replace(
            one, epochs=one.align_epochs, batch_size=one.align_batch, optimizer=one.align_optimizer, lr=one.align_lr,
            head_lr=1.0, patience=0, select="val_loss",
        )  # fmt: skip
    if stage == RETRAIN:
        return replace(one, epochs=one.retrain_epochs, lr=one.lr * one.retrain_rate)
    return one


def stage_configs(config: KimConfig) -> dict[str, dict[str, Any]]:
    """What each stage depends on, in order."""
    return {stage: asdict(stage_config(config, stage)) for stage in stages_of(config)}


PRESETS: Mapping[str, Mapping[str, Any]] = {
    # The paper's networks, sizes, batches, optimizers, rates and epochs; the schedule is ours.
    "paper": {
        "pretrained": True,
        "optimizer": "adam",
        "lr": 1e-4,
        "weight_decay": 0.0,
        "epochs": 5,
        "batch_size": 32,
    },
    # Small pretrained network for a two-core machine; give its weights with --init. They want films in [-1, 1].
    "cpu": {
        "backbone": "mobilenetv2_100",
        "size": 256,
        "epochs": 6,
        "batch_size": 16,
        "lr": 3e-4,
        "head_lr": 5.0,
        "weight_decay": 0.05,
        "warmup": 0.1,
        "align_backbone": "resnet10t",
        "align_side": 128,
        "align_head": "grid",
        "align_epochs": 8,
        "align_optimizer": "adamw",
        "align_lr": 1e-4,
        "blur": 8,
        "level": "matched",
        "retrain_epochs": 3,
        "retrain_rate": 0.3,
    },
    # A tiny network from scratch, in minutes on two cores, for phantom films.
    "demo": {
        "backbone": "test_resnet",
        "stem": "adapt",
        "stride": 16,
        "mean": 0.449,
        "std": 0.226,
        "size": 128,
        "epochs": 12,
        "lr": 4e-3,
        "align_backbone": "test_resnet",
        "align_head": "grid",
        "align_epochs": 16,
        "align_optimizer": "adamw",
        "align_lr": 2e-3,
        "blur": 4,
        "level": "matched",
        "retrain_epochs": 6,
        "retrain_rate": 0.5,
    },
}

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    # ResNet-50 + Alignment + DM.
    "": {},
    # Tables 1 and 4: ResNet-50, and ResNet-50 + Alignment.
    "resnet": {"align": False, "masks": "none"},
    "alignment": {"masks": "none"},
    # Table 2: base model (on aligned films) + PDM.
    "pdm": {"masks": "drawn"},
    # Beyond the paper: masks without alignment, and the further epochs without masks (what they alone bring).
    "dm-unaligned": {"align": False},
    # Beyond the paper, what brings landmarks closest: squares of the middle of the film, an anchor of aligned films.
    "sharp": {"euclidean": "squared", "euclidean_margin": 0.125, "perceptual_weight": 0.0, "anchor_rounds": 3},
    "blank": {"masks": "blank"},
}
