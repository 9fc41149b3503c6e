"""Yao et al. 2018: learn at several resolutions, and pool the map's probabilities by a log-sum-exp that stays sharp."""

from cxrlocus.methods.base import MethodSpec
from cxrlocus.methods.yao2018.config import PRESETS, VARIANTS, YaoConfig
from cxrlocus.methods.yao2018.localizer import YaoLocalizer, load_yao
from cxrlocus.methods.yao2018.recipe import train_yao

YAO = MethodSpec(
    name="yao2018",
    paper="Yao et al., Weakly Supervised Medical Diagnosis and Localization from Multiple Resolutions, 2018, "
    "arXiv:1803.07703",
    config=YaoConfig,
    presets=PRESETS,
    variants=VARIANTS,
    train=train_yao,
    load=load_yao,
)

__all__ = ["YAO", "YaoConfig", "YaoLocalizer"]
