"""cxrlocus: weakly supervised localization in chest radiographs. From image-level labels, say where."""

__version__ = "0.1.0"

from cxrlocus import runtime

runtime.prepare()
