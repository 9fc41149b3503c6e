"""Who is better than whom: every pair from both sides, and words that say so."""

from __future__ import annotations

import math

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cxrlocus.study.paired import Difference
from cxrlocus.study.standing import Standing, standing_table, standings

NAN = math.nan


def pair(
    first: str, second: str, a: float, b: float, half: float, quantity: str = "accuracy_iou", finding: str = "mean"
) -> Difference:
    d = a - b
    return Difference(
        first, second, "wang2017", "toy", finding, quantity, 0.3, "validation", "", a, b, d, d - half, d + half, 0.1, 9
    )


PAIRS = [pair("a", "b", 0.2, 0.5, 0.1), pair("a", "c", 0.2, 0.25, 0.1), pair("b", "c", 0.5, 0.25, 0.1)]


def test_the_best_stands_first_and_every_pair_is_told_from_both_sides() -> None:
    assert standings(PAIRS, "accuracy_iou", 0.3) == [
        Standing("b", 0.5, ("a", "c"), (), ()),
        Standing("c", 0.25, (), ("b",), ("a",)),
        Standing("a", 0.2, (), ("b",), ("c",)),
    ]


def test_controls_are_others_and_have_no_line() -> None:
    told = standings(PAIRS, "accuracy_iou", 0.3, {"b"})
    assert [(s.name, s.worse) for s in told] == [("c", ("b",)), ("a", ("b",))]
    assert "*b*" in standing_table(told, {"b"})


def test_other_quantities_thresholds_and_findings_do_not_count() -> None:
    assert standings(PAIRS, "mask_dice", NAN) == standings(PAIRS, "accuracy_iou", 0.5) == []
    noise = [pair("a", "b", 0.9, 0.1, 0.1, finding="Mass"), pair("a", "b", 0.9, 0.1, 0.1, quantity="fpr")]
    assert standings(PAIRS + noise, "accuracy_iou", 0.3) == standings(PAIRS, "accuracy_iou", 0.3)


def test_where_less_is_better_the_lesser_is() -> None:
    (first, second) = standings([pair("a", "b", 0.5, 0.2, 0.1, quantity="fpr")], "fpr", 0.3)
    assert (first.name, first.worse, second.better) == ("a", ("b",), ("a",))


def test_an_undefined_number_stands_last_and_is_told_from_nothing() -> None:
    told = standings([*PAIRS, *(pair("x", o, NAN, 0.3, NAN) for o in "abc")], "accuracy_iou", 0.3)
    assert told[-1].name == "x"
    assert set(told[-1].open) == {"a", "b", "c"}
    assert "| x |  |" in standing_table(told)


@settings(suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.floats(0, 1), min_size=2, max_size=5), st.floats(0.001, 0.5))
def test_better_and_worse_are_two_sides_of_one_pair(values: list[float], half: float) -> None:
    names = [f"m{k}" for k in range(len(values))]
    pairs = [
        pair(names[i], names[j], values[i], values[j], half)
        for i in range(len(names))
        for j in range(i + 1, len(names))
    ]
    told = {s.name: s for s in standings(pairs, "accuracy_iou", 0.3)}
    for name, s in told.items():
        assert len(s.better) + len(s.worse) + len(s.open) == len(names) - 1
        assert all(name in told[other].worse for other in s.better)
        assert all(name in told[other].open for other in s.open)
    order = [s.value for s in standings(pairs, "accuracy_iou", 0.3)]
    assert order == sorted(order, reverse=True)


@pytest.mark.parametrize("controls", [set(), {"b"}])
def test_a_table_has_a_line_for_each(controls: set[str]) -> None:
    told = standings(PAIRS, "accuracy_iou", 0.3, controls)
    assert len(standing_table(told, controls).splitlines()) == 2 + len(told)
