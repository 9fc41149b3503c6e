"""Disease masks (Kim et al. 2021): align the chest, learn where each finding occurs, and look there."""

from cxrlocus.methods.base import MethodSpec
from cxrlocus.methods.kim2021.config import PRESETS, VARIANTS, KimConfig, stage_configs
from cxrlocus.methods.kim2021.localizer import AlignedLocalizer, KimLocalizer, load_kim
from cxrlocus.methods.kim2021.recipe import train_kim

KIM = MethodSpec(
    name="kim2021",
    paper="Kim et al., Weakly Supervised Thoracic Disease Localization via Disease Masks, 2021",
    config=KimConfig,
    presets=PRESETS,
    variants=VARIANTS,
    train=train_kim,
    load=load_kim,
    stages=stage_configs,
)

__all__ = ["KIM", "AlignedLocalizer", "KimConfig", "KimLocalizer"]
