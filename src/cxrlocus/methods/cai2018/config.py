"""Config of attention mining: every choice, with its default. NOTES.md has the readings behind them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal

from cxrlocus.errors import check_rules
from cxrlocus.methods.options import ClassifierConfig
from cxrlocus.models.msa import Activation, Upsampling

LAYERS = ("3", "4", "msa", "classifier")
"""Layers whose outputs knowledge preservation may hold: the last two stages, MSA, and the classifier's logits."""


@dataclass(frozen=True)
class CaiConfig(ClassifierConfig):
    """Attention mining; FitConfig's fields are those of the first stage, the base network.

    Args:
        stride: pixels a cell of its last features, 32 or 16.
        magnify: films at so many times that side, in batches so many times smaller (the 1024 px rows of Table 1: 2).
        augment: shift, turn, zoom and change the exposure of training films.
        msa: multi-scale aggregation: "none", "bilinear" or "deconv" upsampling.
        msa_act: behind its 1x1 convolutions: "none", "relu" or "bn_relu".
        msa_last, msa_before: channels of these convolutions, on the last stage and on the one before.
        msa_epochs: of the new layers alone, with all below them fixed.
        joint_epochs: at most, of the whole network with MSA.
        joint_patience: epochs without a lower validation loss that end them; 0 never does.
        joint_rate: their learning rate as a share of ``lr``.
        steps: T, mining steps, each with a training of its own; 0 leaves the network as it was before mining.
        mine_epochs: of the training at each mining step.
        mine_patience: epochs without a better figure that end it; 0 never does.
        mine_rate: its learning rate as a share of ``lr``.
        mine_select: the validation figure that chooses its checkpoint, of films erased as in training (of every
            finding, with ``erase`` "positive" too: validation reads no labels to erase by).
        tune: what mining trains: "all" of the network, or the layers above the backbone ("top"; not in the paper).
        kp: knowledge preservation: "none" (all films of a batch are mined), "vanilla" (a share is), "kp" (and the rest
            is held to what the network said before mining).
        mined_share: n/N, the share of each batch that "vanilla" and "kp" mine.
        kp_lambda: weight of L_KP.
        kp_weight: "fixed" at kp_lambda, or L_KP scaled at each step to kp_lambda times L_cls ("share").
        kp_over: norm of eq. 4 over the "batch", or over each "film" and averaged.
        kp_squared: square it.
        kp_layers: some of 3, 4, msa, classifier, with commas between.
        masks: whose erasures a mining step trains with: those of the networks that earlier steps left ("frozen"), or of
            the network as it learns ("current").
        erase: on mined films, the regions of "all" findings or of "positive" ones only.
        scale: before a map's threshold: "minmax" over its open cells, or "relu" (negative to 0, greatest to 1).
        threshold: of the region of the peak, on that scale.
        connectivity: 8 or 4.
        norm: batch normalization while mining: "frozen" statistics, or those of the "batch".
        maps_from: H_t from the network as step t left it ("each"), or every H_t from the last one ("last").
        combine: eq. 8 on "raw" maps, or on maps "scaled" one by one.
    """

    stride: int = 32
    magnify: int = 1
    augment: bool = True
    msa: Literal["none", "bilinear", "deconv"] = "bilinear"
    msa_act: Activation = "none"
    msa_last: int = 512
    msa_before: int = 256
    msa_epochs: int = 10
    joint_epochs: int = 50
    joint_patience: int = 3
    joint_rate: float = 0.1
    steps: int = 3
    mine_epochs: int = 5
    mine_patience: int = 0
    mine_rate: float = 0.1
    mine_select: str = "val_loss"
    tune: Literal["all", "top"] = "all"
    kp: Literal["none", "vanilla", "kp"] = "kp"
    mined_share: float = 0.125
    kp_lambda: float = 0.5
    kp_weight: Literal["fixed", "share"] = "fixed"
    kp_over: Literal["film", "batch"] = "batch"
    kp_squared: bool = False
    kp_layers: str = "3,4,msa,classifier"
    masks: Literal["frozen", "current"] = "frozen"
    erase: Literal["all", "positive"] = "all"
    scale: Literal["minmax", "relu"] = "minmax"
    threshold: float = 0.5
    connectivity: int = 8
    norm: Literal["frozen", "batch"] = "frozen"
    maps_from: Literal["each", "last"] = "each"
    combine: Literal["raw", "scaled"] = "raw"

    def __post_init__(self) -> None:
        super().__post_init__()
        rules = {
            "magnify": (
                self.magnify >= 1 and self.size * self.magnify <= 8192,
                "at least 1, and size x magnify <= 8192",
            ),
            "msa_last": (self.msa_last >= 1, "at least 1"),
            "msa_before": (self.msa_before >= 1, "at least 1"),
            "msa_epochs": (self.msa_epochs >= 1, "at least 1"),
            "joint_epochs": (self.joint_epochs >= 1, "at least 1"),
            "joint_patience": (self.joint_patience >= 0, "at least 0"),
            "joint_rate": (0 < self.joint_rate < math.inf, "positive"),
            "steps": (self.steps >= 0, "at least 0"),
            "mine_epochs": (self.mine_epochs >= 1, "at least 1"),
            "mine_patience": (self.mine_patience >= 0, "at least 0"),
            "mine_rate": (0 < self.mine_rate < math.inf, "positive"),
            "mined_share": (0 < self.mined_share < 1, "in (0, 1)"),
            "kp_lambda": (0 <= self.kp_lambda < math.inf, "at least 0"),
            "kp_layers": (bool(self.layers) and set(self.layers) <= set(LAYERS), f"some of {', '.join(LAYERS)}"),
            "threshold": (0 <= self.threshold < 1, "in [0, 1)"),
            "connectivity": (self.connectivity in (4, 8), "4 or 8"),
        }
        check_rules(self, rules)

    @property
    def layers(self) -> tuple[str, ...]:
        """The names in ``kp_layers``."""
        return tuple(name.strip() for name in self.kp_layers.split(","))

    @property
    def side(self) -> int:
        """Side of the films that the network sees, pixels."""
        return self.size * self.magnify

    @property
    def upsampling(self) -> Upsampling:
        """How MSA upsamples, where there is one."""
        return "deconv" if self.msa == "deconv" else "bilinear"


BASE, LAYERS_ALONE, JOINT, MINE = "base", "msa", "joint", "mine"
"""The stages' folders; mining has one for each step: mine1, mine2, ..."""

_OF_MSA = ("msa", "msa_act", "msa_last", "msa_before", "msa_epochs")
_OF_JOINT = ("joint_epochs", "joint_patience", "joint_rate")
_OF_PREDICTION = ("steps", "maps_from", "combine")
_OF_MINING = (
    "mine_epochs", "mine_patience", "mine_rate", "mine_select", "tune", "setting", "kp", "mined_share", "kp_lambda",
    "kp_weight", "kp_over", "kp_squared", "kp_layers", "masks", "erase", "scale", "threshold", "connectivity", "norm",
)  # fmt: skip


def stages_of(config: CaiConfig) -> tuple[str, ...]:
    """The stages of a Config's training, in order.

    Example:
        >>> stages_of(CaiConfig(steps=2)), stages_of(CaiConfig(msa="none", steps=0))
        (('base', 'msa', 'joint', 'mine1', 'mine2'), ('base',))
    """
    before = (BASE,) if config.msa == "none" else (BASE, LAYERS_ALONE, JOINT)
    return (*before, *(f"{MINE}{step}" for step in range(1, config.steps + 1)))


def stage_config(config: CaiConfig, stage: str) -> CaiConfig:
    """A stage's own Config: its epochs and rates in FitConfig's fields, and what it does not depend on at its default.

    So runs that differ in what comes later have the same stage, with the same manifest.

    Example:
        >>> one, other = CaiConfig(kp="none", mine_epochs=2), CaiConfig(kp="vanilla", steps=1, joint_rate=0.5)
        >>> stage_config(one, "msa") == stage_config(other, "msa"), stage_config(one, "joint").select
        (True, 'val_loss')
        >>> stage_config(one, "mine2").epochs
        2
    """
    one = replace(
        config, size=config.side, magnify=1, batch_size=max(1, config.batch_size // config.magnify),
        **_defaults(*_OF_PREDICTION),
    )  # fmt: skip
    if stage == BASE:
        return replace(one, **_defaults(*_OF_MSA, *_OF_JOINT, *_OF_MINING))
    if stage == LAYERS_ALONE:
        return replace(one, epochs=one.msa_epochs, patience=0, **_defaults(*_OF_JOINT, *_OF_MINING))
    if stage == JOINT:
        return replace(
            one, epochs=one.joint_epochs, patience=one.joint_patience, lr=one.lr * one.joint_rate, select="val_loss",
            **_defaults(*_OF_MINING),
        )  # fmt: skip
    return replace(
        one, epochs=one.mine_epochs, patience=one.mine_patience, lr=one.lr * one.mine_rate, select=one.mine_select
    )


def stage_configs(config: CaiConfig) -> dict[str, dict[str, Any]]:
    """What each stage depends on, in order."""
    return {stage: asdict(stage_config(config, stage)) for stage in stages_of(config)}


def _defaults(*names: str) -> dict[str, Any]:
    return {f.name: f.default for f in fields(CaiConfig) if f.name in names}


PRESETS: Mapping[str, Mapping[str, Any]] = {
    # The paper's network, batch, rate and epochs; optimizer, schedule and what follows the base network are ours.
    "paper": {
        "pretrained": True,
        "optimizer": "sgd",
        "lr": 0.1,
        "weight_decay": 1e-4,
        "epochs": 50,
        "batch_size": 64,
    },
    # Small pretrained network for a two-core machine; give its weights with --init. They want films in [-1, 1].
    "cpu": {
        "backbone": "mobilenetv2_100",
        "mean": 0.5,
        "std": 0.5,
        "size": 256,
        "epochs": 4,
        "batch_size": 16,
        "lr": 3e-4,
        "head_lr": 5.0,
        "weight_decay": 0.05,
        "warmup": 0.1,
        "msa_epochs": 1,
        "joint_epochs": 2,
        "joint_rate": 0.3,
        "mine_epochs": 1,
        "mine_rate": 1.0,
    },
    # A tiny network from scratch, in minutes on two cores, for phantom films.
    "demo": {
        "backbone": "test_resnet",
        "stem": "adapt",
        "size": 128,
        "epochs": 12,
        "lr": 4e-3,
        "msa_last": 64,
        "msa_before": 32,
        "msa_epochs": 2,
        "joint_epochs": 6,
        "joint_patience": 3,
        "joint_rate": 0.3,
        "mine_epochs": 2,
        "mine_rate": 0.3,
    },
}

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "": {},
    # Table 1: before mining, at one resolution and at its double.
    "msa-none": {"msa": "none", "steps": 0},
    "msa-bilinear": {"msa": "bilinear", "steps": 0},
    "msa-deconv": {"msa": "deconv", "steps": 0},
    "double-none": {"msa": "none", "steps": 0, "magnify": 2},
    "double-bilinear": {"msa": "bilinear", "steps": 0, "magnify": 2},
    "double-deconv": {"msa": "deconv", "steps": 0, "magnify": 2},
    # Table 2: the baseline; "ours" is "".
    "base": {"steps": 1, "kp": "vanilla"},
    # Table 3: steps, and knowledge preservation; t = 3 and KP are "".
    "t1": {"steps": 1},
    "t2": {"steps": 2},
    "kp-none": {"kp": "none"},
    "kp-vanilla": {"kp": "vanilla"},
    # The paper's setting: the films that will be measured are mined, by their labels alone.
    "transductive": {"setting": "transductive"},
    # Beyond the paper, one pass through the backbone for all steps: only the layers above it learn between them.
    "top": {"tune": "top"},
    # Eq. 7 and 8 with one network for all steps; raw maps would then give its plain evidence back (eq. 8).
    "one-network": {"maps_from": "last", "combine": "scaled"},
    # The same, trained on masks of the network as it learns: no pass beyond the plain one but the teacher's.
    "one-pass": {"masks": "current", "maps_from": "last", "combine": "scaled"},
}
