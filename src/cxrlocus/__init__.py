"""cxrlocus: weakly supervised localization in chest radiographs. From image-level labels, say where.

Import what you need from here: ``load`` a run, ``find_boxes`` in its maps by a rule (``PeakComponent``,
``FixedThresholds``, ``SeveralThresholds``), ``open_index`` of a data set, ``read_predictions`` of a folder. Names are
looked up when first used, so importing the package does not import torch.
"""

import importlib

from cxrlocus import runtime

__version__ = "0.1.0"

_HOMES = {
    "FixedThresholds": "cxrlocus.regions.rules",
    "Model": "cxrlocus.api",
    "PeakComponent": "cxrlocus.regions.rules",
    "SeveralThresholds": "cxrlocus.regions.rules",
    "find_boxes": "cxrlocus.prediction.boxing",
    "load": "cxrlocus.api",
    "open_index": "cxrlocus.data",
    "read_predictions": "cxrlocus.prediction.store",
}

__all__ = [
    "FixedThresholds",
    "Model",
    "PeakComponent",
    "SeveralThresholds",
    "find_boxes",
    "load",
    "open_index",
    "read_predictions",
]

runtime.prepare()


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'cxrlocus' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)
