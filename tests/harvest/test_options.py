"""What is asked for, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrlocus.data.records import Record
from cxrlocus.errors import ConfigError
from cxrlocus.harvest.options import Options, make_rule
from cxrlocus.regions.rules import RULES, FixedThresholds, PeakComponent, SeveralThresholds
from cxrlocus.types import Findings

NAMES = ("Mass", "Nodule", "Edema", "Hernia")
FINDINGS = Findings(NAMES)


@given(st.sets(st.sampled_from(NAMES)), st.sets(st.sampled_from(NAMES)))
def test_only_named_findings_and_never_unknown_ones(positive: set[str], unknown: set[str]) -> None:
    record = Record("a", Path("a"), "1", positive=frozenset(positive), unknown=frozenset(unknown))
    assert [FINDINGS.names[c] for c in Options().wanted(record, FINDINGS)] == [
        name for name in NAMES if name in positive and name not in unknown
    ]
    assert Options(unlabelled=True).wanted(record, FINDINGS) == [0, 1, 2, 3]


@given(st.floats().filter(lambda p: not 0 <= p <= 1))
def test_a_probability_outside_0_1_is_refused(p: float) -> None:
    with pytest.raises(ConfigError, match=r"min-prob must be in \[0, 1\]; got"):
        Options(min_prob=p)


@given(st.integers(max_value=0))
def test_no_films_a_batch_or_shard_is_refused(n: int) -> None:
    for options in ({"batch": n}, {"shard": n}):
        with pytest.raises(ConfigError, match=f"must be at least 1 film; got .*{n}"):
            Options(**options)


def test_rules_have_their_defaults_and_take_thresholds_from_0_to_1() -> None:
    assert [make_rule(name) for name in RULES] == [rule() for rule in RULES.values()]
    assert make_rule("peak_component", [0.25]) == PeakComponent(threshold=0.25)
    assert make_rule("fixed_thresholds", [0.25, 0.5]) == FixedThresholds(levels=(0.25, 0.5), of=1.0)
    assert make_rule("several_thresholds", [0.25]) == SeveralThresholds(levels=(0.25,))
    assert make_rule("peak_component", [0.0]) == PeakComponent(threshold=0.0)


@given(st.sampled_from(sorted(RULES)), st.floats().filter(lambda h: not 0 <= h < 1))
def test_a_threshold_outside_0_1_is_refused(name: str, threshold: float) -> None:
    with pytest.raises(ConfigError, match=r"a threshold must be in \[0, 1\); got"):
        make_rule(name, [threshold])


def test_unknown_rules_and_spare_thresholds_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"rule must be one of fixed_thresholds, peak_component, .*; got 'otsu'"):
        make_rule("otsu")
    with pytest.raises(ConfigError, match=r"peak_component takes one; got 2\. Use several_thresholds"):
        make_rule("peak_component", [0.2, 0.3])


def test_the_key_tells_rules_apart() -> None:
    keys = [Options(rule=rule()).key() for rule in RULES.values()]
    assert [key["rule"]["name"] for key in keys] == list(RULES)
    assert keys[0]["rule"]["levels"] == (60.0, 180.0)
    assert keys[0]["unlabelled"] is False
