"""drawn: where is taught by drawn lesions, whose masks are exact; what is taught by the labels of real films."""

from cxrlocus.methods.base import MethodSpec
from cxrlocus.methods.drawn.config import PRESETS, VARIANTS, DrawnConfig
from cxrlocus.methods.drawn.model import load_drawn
from cxrlocus.methods.drawn.recipe import train_drawn

DRAWN = MethodSpec(
    name="drawn",
    paper="ours: labels of real films, masks of drawn ones",
    config=DrawnConfig,
    presets=PRESETS,
    variants=VARIANTS,
    train=train_drawn,
    load=load_drawn,
)

__all__ = ["DRAWN", "DrawnConfig"]
