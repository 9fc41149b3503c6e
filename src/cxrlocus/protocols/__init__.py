"""Published protocols of measurement, each a function from detections and truth to Results."""

from __future__ import annotations

from collections.abc import Callable

from cxrlocus.protocols import wang2017 as _wang2017
from cxrlocus.protocols.result import Result

PROTOCOLS: dict[str, Callable[..., list[Result]]] = {"wang2017": _wang2017.wang2017}
"""Every protocol by name."""
