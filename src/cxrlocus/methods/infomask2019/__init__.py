"""InfoMask (Taghanaki et al. 2019): a variational attention map, masked, is all that the classifier sees."""

from cxrlocus.methods.base import MethodSpec
from cxrlocus.methods.infomask2019.config import PRESETS, VARIANTS, InfoMaskConfig, stage_configs
from cxrlocus.methods.infomask2019.localizer import InfoMaskLocalizer, load_infomask
from cxrlocus.methods.infomask2019.recipe import DeadMaskWarning, train_infomask

INFOMASK = MethodSpec(
    name="infomask2019",
    paper="Asgari Taghanaki et al., InfoMask: Masked Variational Latent Representation to Localize Chest Disease, "
    "MICCAI 2019",
    config=InfoMaskConfig,
    presets=PRESETS,
    variants=VARIANTS,
    train=train_infomask,
    load=load_infomask,
    stages=stage_configs,
)

__all__ = ["INFOMASK", "DeadMaskWarning", "InfoMaskConfig", "InfoMaskLocalizer"]
