"""Published protocols of measurement, each a function from detections or maps, and truth, to Results."""

from __future__ import annotations

from collections.abc import Callable

from cxrlocus.protocols import cai2018 as _cai2018
from cxrlocus.protocols import infomask2019 as _infomask2019
from cxrlocus.protocols import kim2021 as _kim2021
from cxrlocus.protocols import modern as _modern
from cxrlocus.protocols import wang2017 as _wang2017
from cxrlocus.protocols import yao2018 as _yao2018
from cxrlocus.protocols.result import Result

PROTOCOLS: dict[str, Callable[..., list[Result]]] = {"wang2017": _wang2017.wang2017}
"""Every protocol of boxes by name: called with Detections, boxed beforehand by the policy."""

PIXEL_PROTOCOLS: dict[str, Callable[..., list[Result]]] = {
    "infomask2019": _infomask2019.infomask2019,
    "yao2018": _yao2018.yao2018,
    "cai2018": _cai2018.cai2018,
    "kim2021": _kim2021.kim2021,
    "modern": _modern.modern,
}
"""Every protocol that looks at the maps itself, by name: called with Predictions, whose maps it cuts or boxes by its
own rule, or with Detections that came without maps and the sizes of their films."""
