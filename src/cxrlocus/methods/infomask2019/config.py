"""Config of InfoMask and of its rivals: every choice, with its default."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from cxrlocus.errors import check_rules
from cxrlocus.methods.options import PAPER, ClassifierConfig

STAGE = "base"
"""The stage of a masked network, or of CheXCAM."""

BASELINE = "baseline"
"""The stage of the baseline, by itself or for a masked network to start from."""


@dataclass(frozen=True)
class InfoMaskConfig(ClassifierConfig):
    """InfoMask; training is FitConfig's. The paper gives no value for most of these: NOTES.md has the readings.

    Args:
        finding: what is told from the rest: one finding of the data set, several with commas between, or "all".
        network: "infomask" (masked; also FeatureMask and RegL1), "baseline" (encoder and classification block without
            a mask, mapped by Grad-CAM) or "cam" (backbone, average, linear head, mapped by Grad-CAM; CheXCAM).
        backbone: "paper", or any timm model that gives a feature grid.
        stride: pixels a feature cell of a timm model, 32 or 16; the paper's encoder has 4.
        width: share of the paper's channel counts, for small machines; 1 is the paper's.
        norm: "batch" or "group" adds that normalization behind the 3x3 convolutions; not in the paper.
        start: first weights: "open" (attention, mu and mask begin alive), "warm" (so too, and the encoder is that of
            the baseline, trained before: stage ``baseline``) or "torch" (PyTorch's own).
        warm_epochs: of the baseline that a masked network starts from.
        penalty: "kl", "l1" (on the mask) or "none".
        alpha: weight of the penalty.
        reduction: of the penalty over the pixels of a film: their "mean" or "sum".
        tau: threshold of the mask, in [0, 1).
        sigma: activation behind sigma: "softplus" or "exp".
        sigma_shift: added before that activation; Alemi et al. have -5 with softplus.
        kernel: side of the convolutions from A to mu and sigma, odd.
        upsampling: of A to the film's size: "bilinear" or "nearest".
        represent: what is classified: the mask ("m"), mask times latent ("mz") or mask times film ("mx").
        sample: draw z in training; without it z = mu.
        samples: draws to average when predicting; 0 takes the mean, z = mu.
        straight_through: pass gradients where the mask is zero; not in the paper.
        alpha_warmup, tau_warmup: share of all steps in which alpha (tau) grows linearly from 0; not in the paper.
        map_stride: side of the blocks of pixels that a stored mask is averaged over; 1 keeps it at the film's size.
        cam_layer: of the baseline, where Grad-CAM looks: the last layer of the "encoder" or of the "classifier".
        checkpoint: compute full-resolution layers again in the backward pass instead of keeping them.
        augment: shift, turn, zoom and change the exposure of training films.
        choose: what the checkpoint is chosen by: "labels" (the best epoch by ``select``) or the paper's rule, "boxes":
            of the best epochs by ``select`` (the paper's is "accuracy") the one whose maps agree best with the boxes of
            the validation films. The run then knows boxes, and says so.
        finalists: with boxes, how many epochs their maps are compared of; the paper's N, which it does not give.
        criterion: with boxes, what agrees best: the least mean of FPR and FNR ("fpr_fnr"), the greatest IoP ("iop") or
            DICE ("dice"), each at the level that is best for these boxes.
    """

    finding: str = "Pneumonia"
    network: Literal["infomask", "baseline", "cam"] = "infomask"
    backbone: str = PAPER
    stride: int = 32
    width: float = 1.0
    norm: Literal["none", "group", "batch"] = "none"
    start: Literal["open", "warm", "torch"] = "open"
    warm_epochs: int = 10
    penalty: Literal["kl", "l1", "none"] = "kl"
    alpha: float = 0.01
    reduction: Literal["mean", "sum"] = "mean"
    tau: float = 0.5
    sigma: Literal["softplus", "exp"] = "softplus"
    sigma_shift: float = 0.0
    kernel: int = 3
    upsampling: Literal["bilinear", "nearest"] = "bilinear"
    represent: Literal["m", "mz", "mx"] = "m"
    sample: bool = True
    samples: int = 0
    straight_through: bool = False
    alpha_warmup: float = 0.0
    tau_warmup: float = 0.0
    map_stride: int = 1
    cam_layer: Literal["encoder", "classifier"] = "encoder"
    checkpoint: bool = False
    augment: bool = True
    choose: Literal["labels", "boxes"] = "labels"
    finalists: int = 5
    criterion: Literal["fpr_fnr", "iop", "dice"] = "fpr_fnr"

    def __post_init__(self) -> None:
        super().__post_init__()
        rules = {
            "map_stride": (self.map_stride >= 1 and self.size % self.map_stride == 0, f"a divisor of size {self.size}"),
            "width": (0 < self.width < math.inf, "positive"),
            "alpha": (0 <= self.alpha < math.inf, "at least 0"),
            "tau": (0 <= self.tau < 1, "in [0, 1)"),
            "sigma_shift": (math.isfinite(self.sigma_shift), "a number"),
            "kernel": (self.kernel >= 1 and self.kernel % 2 == 1, "odd and positive"),
            "samples": (self.samples >= 0, "at least 0"),
            "alpha_warmup": (0 <= self.alpha_warmup <= 1, "in [0, 1]"),
            "tau_warmup": (0 <= self.tau_warmup <= 1, "in [0, 1]"),
            "warm_epochs": (self.warm_epochs >= 1, "at least 1"),
            "finalists": (self.finalists >= 1, "at least 1"),
            "backbone": (self.network != "cam" or self.backbone != PAPER, "a timm model for network=cam"),
        }
        check_rules(self, rules)


_OF_BASELINE = frozenset({f.name for f in fields(ClassifierConfig)}) | {
    *("finding", "network", "stride", "width", "norm", "start", "checkpoint", "augment"),
}
_OF_CHOICE = frozenset({"choose", "finalists", "criterion", "cam_layer"})


def baseline_config(config: InfoMaskConfig) -> InfoMaskConfig:
    """The Config of stage ``baseline``: what it does not depend on is at its default, so runs may have it in common.

    Example:
        >>> masked = InfoMaskConfig(start="warm", warm_epochs=7, epochs=5, alpha=1.0)
        >>> baseline_config(masked) == baseline_config(InfoMaskConfig(network="baseline", epochs=7, tau=0.1))
        True
    """
    itself = config.network == "baseline"
    kept = _OF_BASELINE | (_OF_CHOICE if itself else frozenset())
    given = {name: value for name, value in asdict(config).items() if name in kept}
    start = "open" if config.start == "warm" else config.start
    epochs = config.epochs if itself else config.warm_epochs
    return InfoMaskConfig(**{**given, "network": "baseline", "start": start, "epochs": epochs})


def stage_configs(config: InfoMaskConfig) -> Mapping[str, Mapping[str, Any]]:
    """What each stage of a Config's training depends on, in order.

    Example:
        >>> list(stage_configs(InfoMaskConfig())), list(stage_configs(InfoMaskConfig(start="warm")))
        (['base'], ['baseline', 'base'])
        >>> list(stage_configs(InfoMaskConfig(start="warm", network="baseline")))
        ['baseline']
    """
    before = {BASELINE: asdict(baseline_config(config))}
    if config.network == "baseline":
        return before
    return {**(before if config.network == "infomask" and config.start == "warm" else {}), STAGE: asdict(config)}


PRESETS: Mapping[str, Mapping[str, Any]] = {
    # The paper's layers at full width; size, rate and epochs are ours, it gives none. timm models start from ImageNet.
    "paper": {"pretrained": True, "batch_size": 8, "epochs": 30, "lr": 3e-4, "weight_decay": 0.0, "patience": 10},
    # A quarter of the channels for a two-core machine. In so few steps the layers learn with batch normalization only,
    # and the masked networks only from an encoder that has seen the finding.
    "cpu": {
        "size": 256,
        "width": 0.25,
        "norm": "batch",
        "start": "warm",
        "batch_size": 16,
        "epochs": 10,
        "lr": 1e-3,
        "weight_decay": 0.0,
    },
    # Minutes on two cores, for phantom films.
    "demo": {
        "size": 96,
        "width": 0.25,
        "norm": "batch",
        "batch_size": 16,
        "epochs": 12,
        "lr": 1e-3,
        "weight_decay": 0.0,
    },
}

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "": {},
    # The rivals of Table 1.
    "gradcam": {"network": "baseline"},
    "featuremask": {"penalty": "none"},
    "regl1": {"penalty": "l1"},
    "chexcam": {"network": "cam", "backbone": "densenet121"},
    # Beyond the paper: a stronger encoder (its own future work), and one mask a finding.
    "timm": {"backbone": "mobilenetv2_100", "stride": 16, "mean": 0.5, "std": 0.5},
    "all": {"finding": "all", "checkpoint": True},
}
