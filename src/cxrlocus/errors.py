"""One tree of errors. Every message names the argument or file, the rule, the value and the remedy.

CxrlocusError
├── DataError            a data set's lists, labels, boxes or folder are not what they must be
│   └── LeakError        a patient stands on both sides of a split
├── ImageError           one film cannot be read
├── ConfigError          an option or argument is off
├── RunError             a run folder is missing, incomplete, or of another version
└── PredictionsError     a predictions folder or box list is not what it must be
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


class CxrlocusError(Exception):
    """Base of all errors that a user can cause and mend; the command line prints it as one line."""


class DataError(CxrlocusError):
    """A data set's lists, labels, boxes or folder break a rule."""


class LeakError(DataError):
    """Patients stand on both sides of a split."""


class ImageError(CxrlocusError):
    """One film cannot be read.

    Args:
        path: the file.
        reason: why, in one line.

    Example:
        >>> str(ImageError(Path("a.png"), "the file is empty"))
        'a.png: the file is empty'
    """

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class ConfigError(CxrlocusError):
    """An option or argument is off."""


class RunError(CxrlocusError):
    """A run folder is missing, incomplete, or of another version."""


class PredictionsError(CxrlocusError):
    """A predictions folder or a list of boxes is not what it must be."""


def check_rules(options: object, rules: Mapping[str, tuple[bool, str]]) -> None:
    """See that options keep their rules, each ``name: (whether it holds, the rule in words)``.

    Raises:
        ConfigError: one does not; the message names it, its rule and its value.

    Example:
        >>> check_rules(Path("a.png"), {"suffix": (False, "one of .dcm, .jpg")})
        Traceback (most recent call last):
            ...
        cxrlocus.errors.ConfigError: suffix must be one of .dcm, .jpg; got '.png'.
    """
    for name, (holds, rule) in rules.items():
        if not holds:
            raise ConfigError(f"{name} must be {rule}; got {getattr(options, name)!r}.")
