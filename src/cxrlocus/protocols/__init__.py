"""Published protocols of measurement, each a function from detections or maps, and truth, to Results."""

from __future__ import annotations

from collections.abc import Callable

from cxrlocus.protocols import infomask2019 as _infomask2019
from cxrlocus.protocols import wang2017 as _wang2017
from cxrlocus.protocols.result import Result

PROTOCOLS: dict[str, Callable[..., list[Result]]] = {"wang2017": _wang2017.wang2017}
"""Every protocol of boxes by name: called with Detections."""

PIXEL_PROTOCOLS: dict[str, Callable[..., list[Result]]] = {"infomask2019": _infomask2019.infomask2019}
"""Every protocol of pixels by name: called with Predictions, whose maps it cuts, or with Detections and sizes."""
