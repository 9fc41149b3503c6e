"""Attention mining (Cai et al. 2018): erase what was found and look again, without forgetting, on two scales."""

from cxrlocus.methods.base import MethodSpec
from cxrlocus.methods.cai2018.config import PRESETS, VARIANTS, CaiConfig, stage_configs
from cxrlocus.methods.cai2018.films import setting_of
from cxrlocus.methods.cai2018.localizer import CaiLocalizer, load_cai
from cxrlocus.methods.cai2018.recipe import train_cai

CAI = MethodSpec(
    name="cai2018",
    paper="Cai et al., Iterative Attention Mining for Weakly Supervised Thoracic Disease Pattern Localization in Chest "
    "X-Rays, MICCAI 2018",
    config=CaiConfig,
    presets=PRESETS,
    variants=VARIANTS,
    train=train_cai,
    load=load_cai,
    stages=stage_configs,
)

__all__ = ["CAI", "CaiConfig", "CaiLocalizer", "setting_of"]
