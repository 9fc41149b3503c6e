"""The methods: one explicit dict. A further method is a folder beside these and a line here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cxrlocus.errors import ConfigError, RunError
from cxrlocus.methods.base import MethodSpec, check_options
from cxrlocus.methods.cai2018 import CAI
from cxrlocus.methods.cam import CAM
from cxrlocus.methods.drawn import DRAWN
from cxrlocus.methods.infomask2019 import INFOMASK
from cxrlocus.methods.kim2021 import KIM
from cxrlocus.methods.yao2018 import YAO
from cxrlocus.training.run import RunInfo, read_run
from cxrlocus.types import Localizer

METHODS: dict[str, MethodSpec[Any]] = {
    "cai2018": CAI,
    "cam": CAM,
    "drawn": DRAWN,
    "infomask2019": INFOMASK,
    "kim2021": KIM,
    "yao2018": YAO,
}


def get_method(name: str) -> MethodSpec[Any]:
    """A method by name.

    Raises:
        ConfigError: there is none of that name.
    """
    if name not in METHODS:
        raise ConfigError(f"method must be one of {', '.join(METHODS)}; got {name!r}.")
    return METHODS[name]


def load_run(folder: Path) -> tuple[Localizer, RunInfo]:
    """The localizer that a run folder holds, and what the run was.

    Raises:
        RunError: the folder is missing, incomplete, damaged, or of another version.
    """
    info = read_run(folder)
    if info.method not in METHODS:
        raise RunError(f"{folder}: trained with method {info.method!r}, which this version does not have.")
    method = METHODS[info.method]
    try:
        check_options(method.config, info.config)
        return method.load(folder, info), info
    except (TypeError, ValueError, ConfigError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(f"{folder}/run.json: config is not one of this version's ({reason}). Train again.") from error
