"""Effects of method, policy and seed: by hand, in limits, and alike under what changes no difference."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrlocus.metrics.effects import effect_of, mean_difference, means_of, order_agreement

VALUES = {
    "a": {"fixed": [0.1, 0.3], "validation": [0.5, 0.5], "oracle": [0.6, 0.6]},
    "b": {"fixed": [0.4, 0.4], "validation": [0.4, 0.6], "oracle": [0.5, 0.7]},
    "c": {"fixed": [0.9, 0.9], "validation": [0.1, 0.1], "oracle": [0.1, 0.1]},
}


def test_reference_by_hand() -> None:
    effect = effect_of(VALUES)
    # Means under fixed .2 .4 .9: pairs differ by .2, .7, .5.
    assert effect.methods["fixed"] == pytest.approx(1.4 / 3)
    assert effect.methods["validation"] == pytest.approx(0.8 / 3)
    assert effect.policies["fixed", "validation"] == pytest.approx((0.3 + 0.1 + 0.8) / 3)
    assert effect.policies["validation", "oracle"] == pytest.approx((0.1 + 0.1 + 0.0) / 3)
    assert effect.seeds == pytest.approx((0.2 + 0 + 0 + 0 + 0.2 + 0.2 + 0 + 0 + 0) / 9)
    # Ranks 1 2 3 under fixed, and 2.5 2.5 1 under validation, where a and b tie: -1.5 / sqrt(2 * 1.5).
    assert effect.orders["fixed", "validation"] == pytest.approx(-1.5 / math.sqrt(3))


def test_order_against_the_textbook_formula() -> None:
    # 1 - 6 sum d^2 / (n (n^2 - 1)) with ranks 1 2 3 4 and 2 1 4 3.
    one, other = dict(zip("abcd", (1, 2, 3, 4), strict=True)), dict(zip("abcd", (2, 1, 4, 3), strict=True))
    assert order_agreement(one, other) == pytest.approx(1 - 6 * 4 / (4 * 15))


def test_limits() -> None:
    nothing = effect_of({})
    assert nothing.methods == {}
    assert math.isnan(nothing.seeds)
    assert all(math.isnan(v) for v in (*nothing.policies.values(), *nothing.orders.values()))
    alone = effect_of({"a": {"fixed": [0.3]}})
    assert math.isnan(alone.methods["fixed"])
    assert math.isnan(order_agreement({"a": 1, "b": 2}, {"a": 1, "b": 2}))
    assert math.isnan(order_agreement({"a": 1, "b": 1, "c": 1}, {"a": 1, "b": 2, "c": 3}))


def test_a_seed_without_a_number_is_left_out_and_a_method_without_any_is_not_there() -> None:
    means = means_of({"a": {"fixed": [0.2, math.nan, 0.4]}, "b": {"fixed": [math.nan]}})
    assert means == {"a": {"fixed": pytest.approx(0.3)}, "b": {}}
    assert math.isnan(effect_of({"a": {"fixed": [0.2]}, "b": {"fixed": [math.nan]}}).methods["fixed"])


@given(st.lists(st.floats(0, 1), min_size=2, max_size=8), st.floats(-1, 1))
def test_differences_are_alike_when_all_is_moved_and_scale_with_it(values: list[float], by: float) -> None:
    difference = mean_difference(values)
    assert mean_difference([v + by for v in values]) == pytest.approx(difference, abs=1e-9)
    assert mean_difference([v * by for v in values]) == pytest.approx(abs(by) * difference, abs=1e-9)
    # Each pair differs by no more than the range, and some by it.
    assert np.ptp(values) / math.comb(len(values), 2) <= difference + 1e-12 <= np.ptp(values) + 1e-9


@given(st.dictionaries(st.text("abcdef", min_size=1, max_size=2), st.floats(0, 1), min_size=3, max_size=6))
def test_an_order_agrees_with_itself_and_with_what_grows_with_it(values: dict[str, float]) -> None:
    if len(set(values.values())) > 1:
        assert order_agreement(values, values) == pytest.approx(1)
        assert order_agreement(values, {k: -v for k, v in values.items()}) == pytest.approx(-1)
