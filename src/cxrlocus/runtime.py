"""What must happen before torch is imported, and the one repair that torchvision needs beside a CPU-only torch."""

from __future__ import annotations

import ctypes
import importlib
import os
import sys
from typing import Any

M_MMAP_THRESHOLD = -3
M_TRIM_THRESHOLD = -1


def prepare() -> None:
    """Set what only works before torch starts its threads; called when ``cxrlocus`` is imported.

    ``OMP_WAIT_POLICY=PASSIVE`` (unless the user set it) keeps idle threads from spinning: with another busy process on
    the machine a training step is several times faster. On Linux glibc is told to keep large blocks instead of giving
    them back to the kernel after each step, which halves the time of a large CPU step.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if sys.platform == "linux":
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(M_MMAP_THRESHOLD, 1 << 30)
            mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def guard_torchvision() -> bool:
    """Make ``import torchvision`` (which timm does) work beside a CPU-only torch; True if the repair was needed.

    The wheel on the public index is linked against CUDA. Without CUDA its operators are not registered, and importing
    it raises RuntimeError. Declaring the two operators' schemas first is enough for its models and transforms; its
    ``nms`` and ``io`` stay unusable, and nothing here uses them. Where torchvision loads by itself, or is absent,
    nothing happens.
    """
    import torch  # the command line imports this module before parsing and must stay cheap

    try:
        importlib.import_module("torchvision")
    except ImportError:
        return False
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        for name in [m for m in sys.modules if m.partition(".")[0] == "torchvision"]:
            del sys.modules[name]
        library: Any = torch.library.Library("torchvision", "DEF")  # type: ignore[no-untyped-call]  # torch's gap
        library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _KEEP.append(library)
        importlib.import_module("torchvision")
        return True
    return False


# A torch.library.Library withdraws its operators when it is collected.
_KEEP: list[object] = []
