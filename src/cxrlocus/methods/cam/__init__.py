"""CAM (Zhou et al. 2016; Wang et al. 2017): the plain classifier whose evidence maps localize; everybody's baseline."""

from cxrlocus.methods.base import MethodSpec
from cxrlocus.methods.cam.config import PRESETS, VARIANTS, CamConfig
from cxrlocus.methods.cam.model import load_cam
from cxrlocus.methods.cam.recipe import train_cam

CAM = MethodSpec(
    name="cam",
    paper="Wang et al., ChestX-ray8, CVPR 2017; Zhou et al., Learning Deep Features, CVPR 2016",
    config=CamConfig,
    presets=PRESETS,
    variants=VARIANTS,
    train=train_cam,
    load=load_cam,
)

__all__ = ["CAM", "CamConfig"]
