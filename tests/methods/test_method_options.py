"""The options that every method has: refused where they cannot be, by every method in the same words."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrlocus.errors import ConfigError
from cxrlocus.methods import METHODS
from cxrlocus.methods.options import ClassifierConfig

WRONG = (
    ("size", 0, "a multiple of 32 pixels from 32 to 4096"),
    ("size", 100, "a multiple of 32 pixels from 32 to 4096"),
    ("size", 8192, "a multiple of 32 pixels from 32 to 4096"),
    ("val_fraction", 0.0, r"in \(0, 1\)"),
    ("val_fraction", 1.0, r"in \(0, 1\)"),
    ("mean", math.nan, "a finite number"),
    ("std", 0.0, "positive"),
    ("std", math.inf, "positive"),
)


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_them(method: str) -> None:
    config = METHODS[method].config
    assert issubclass(config, ClassifierConfig)
    assert {f.name for f in fields(ClassifierConfig)} <= {f.name for f in fields(config)}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("name", "value", "rule"), WRONG)
def test_wrong_values_are_named_with_their_rule(method: str, name: str, value: float, rule: str) -> None:
    with pytest.raises(ConfigError, match=rf"{name} must be {rule}; got {value!r}\."):
        METHODS[method].config(**{name: value})


@given(size=st.integers(-100, 10_000))
def test_a_size_is_taken_or_refused_by_the_rule(size: int) -> None:
    if size in range(32, 4097, 32):
        assert ClassifierConfig(size=size).size == size
    else:
        with pytest.raises(ConfigError, match="size must be a multiple of 32"):
            ClassifierConfig(size=size)
