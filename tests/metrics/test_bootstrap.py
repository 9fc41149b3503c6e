"""Intervals of resampled ratios: by hand, in limits, and against the textbook's standard error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrlocus.metrics.bootstrap import interval, nanmean, resampled_ratio, share_beyond_zero


def test_reference_by_repeating_patients():
    hits, boxes = np.array([[1.0, 0], [2, 1], [0, 0]]), np.array([[1.0, 1], [3, 1], [1, 0]])
    got = resampled_ratio(hits, boxes, [[2, 0, 1], [1, 1, 1], [0, 0, 3]])
    np.testing.assert_array_equal(got, [[2 / 3, 0 / 2], [3 / 5, 1 / 2], [0.0, np.nan]])


def test_one_denominator_serves_many_numerators():
    got = resampled_ratio(np.ones((2, 3, 4)), np.array([2.0, 4.0])[:, None, None], [[1, 1], [2, 0]])
    assert got.shape == (2, 3, 4)
    assert (got[0] == 2 / 6).all()
    assert (got[1] == 0.5).all()


@given(st.integers(0, 10**6))
def test_invariance_order_of_patients(seed):
    rng = np.random.default_rng(seed)
    hits, boxes, draws = rng.integers(0, 3, 9), rng.integers(3, 6, 9), rng.integers(0, 3, (5, 9))
    order = rng.permutation(9)
    got = resampled_ratio(hits[order], boxes[order], draws[:, order])
    np.testing.assert_allclose(got, resampled_ratio(hits, boxes, draws))


def test_limit_patients_who_agree_leave_no_width():
    draws = np.random.default_rng(0).multinomial(20, np.full(20, 0.05), size=200)
    lo, hi = interval(resampled_ratio(np.ones(20), np.full(20, 2.0), draws))
    assert (float(lo), float(hi)) == (0.5, 0.5)


def test_reference_width_of_a_proportion():
    # 79 of 790 boxes of 790 patients: 1.96 sqrt(.1 * .9 / 790) = .0209.
    draws = np.random.default_rng(1).multinomial(790, np.full(790, 1 / 790), size=4000)
    lo, hi = interval(resampled_ratio(np.arange(790) < 79, np.ones(790), draws))
    assert (hi - lo) / 2 == pytest.approx(1.96 * np.sqrt(0.09 / 790), rel=0.06)


def test_interval_leaves_undefined_resamples_out():
    samples = np.array([[0.2, np.nan, np.nan], [0.4, 0.7, np.nan], [np.nan, np.nan, np.nan]])
    lo, hi = interval(samples, level=0.5)
    np.testing.assert_allclose(lo, [0.25, np.nan, np.nan])
    np.testing.assert_allclose(hi, [0.35, np.nan, np.nan])


def test_no_resamples_no_interval():
    lo, hi = interval(np.zeros((0, 3)))
    assert np.isnan(lo).all()
    assert np.isnan(hi).all()


def test_nanmean_is_the_mean_of_what_is_defined():
    np.testing.assert_array_equal(nanmean([[1, np.nan], [3, np.nan]], axis=0), [2, np.nan])
    np.testing.assert_array_equal(nanmean(np.zeros((2, 0)), axis=1), [np.nan, np.nan])


def test_bad_input_is_refused_by_name():
    with pytest.raises(ValueError, match=r"got \(2,\), \(3,\) and \(1, 2\)"):
        resampled_ratio([1, 2], [1, 2, 3], [[1, 1]])
    with pytest.raises(ValueError, match="level must be between 0 and 1; got 95"):
        interval(np.zeros((3, 1)), level=95)


def test_share_beyond_zero_by_hand_and_in_limits():
    assert share_beyond_zero(np.arange(-1, 99)).tolist() == 0.04
    assert share_beyond_zero([[1.0, -1.0, 0.0], [2.0, -2.0, 0.0]]).tolist() == [0.0, 0.0, 1.0]
    np.testing.assert_array_equal(share_beyond_zero([[np.nan, 1.0, 1.0], [1.0, -1.0, np.nan]]), [np.nan, 1.0, np.nan])
    assert np.isnan(share_beyond_zero(np.zeros((0, 2)))).all()


@given(st.integers(0, 10**6))
def test_share_beyond_zero_has_no_side_and_no_unit(seed):
    samples = np.random.default_rng(seed).normal(0.5, 1, (50, 3))
    np.testing.assert_array_equal(share_beyond_zero(samples), share_beyond_zero(-3 * samples))


@given(st.integers(0, 10**6))
def test_share_beyond_zero_agrees_with_the_interval(seed):
    samples = np.random.default_rng(seed).normal(0, 1, 401) + np.linspace(-4, 4, 17)[seed % 17]
    lo, hi = interval(samples)
    assert (share_beyond_zero(samples) < 0.05) == bool(lo > 0 or hi < 0)
