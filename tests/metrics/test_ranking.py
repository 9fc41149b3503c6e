"""AUROC and average precision: reference values, limits, invariances, bad input; weightings against repeated films."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrlocus.metrics import ranking
from cxrlocus.metrics.ranking import auroc, average_precision, weighted_auroc, weighted_average_precision


def sample():
    rng = np.random.default_rng(7)
    target = rng.integers(0, 2, 40)
    score = rng.integers(0, 12, 40) / 11 + 0.2 * target
    return target, score, rng.integers(0, 4, 40)


def films(seed, n=30, ties=6):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 2, n), rng.integers(0, ties, n) / 4, rng.integers(0, 4, n)


def test_reference_values():
    # scikit-learn 1.9: roc_auc_score(target, score[, sample_weight=weight]), and average_precision_score likewise.
    target, score, weight = sample()
    weighing = weight[None], np.arange(40)
    assert auroc(target, score) == pytest.approx(0.7630208333333333, rel=1e-12)
    assert average_precision(target, score) == pytest.approx(0.8530011961078137, rel=1e-12)
    assert weighted_auroc(target, score, *weighing)[0] == pytest.approx(0.7268673355629877, rel=1e-12)
    assert weighted_average_precision(target, score, *weighing)[0] == pytest.approx(0.8427995310652989, rel=1e-12)


@given(st.integers(0, 10**6))
@settings(max_examples=60)
def test_auroc_counts_pairs(seed):
    target, score, _ = films(seed)
    pairs = [(p > n) + (p == n) / 2 for p in score[target == 1] for n in score[target == 0]]
    assert auroc(target, score) == pytest.approx(np.mean(pairs) if pairs else math.nan, nan_ok=True)


@given(st.integers(0, 10**6))
@settings(max_examples=60)
def test_average_precision_walks_down_the_thresholds(seed):
    target, score, _ = films(seed)
    total, recall = 0.0, 0.0
    for threshold in sorted(set(score), reverse=True):
        taken = target[score >= threshold]
        now = taken.sum() / max(target.sum(), 1)
        total, recall = total + (now - recall) * taken.mean(), now
    assert average_precision(target, score) == pytest.approx(total if target.any() else math.nan, nan_ok=True)


@pytest.mark.parametrize("measure", [(auroc, weighted_auroc), (average_precision, weighted_average_precision)])
@given(seed=st.integers(0, 10**6))
@settings(max_examples=60)
def test_a_weight_is_a_number_of_copies(measure, seed):
    plain, weighted = measure
    target, score, weight = films(seed)
    patient = np.random.default_rng(seed).integers(0, 9, 30)
    want = plain(np.repeat(target, weight[patient]), np.repeat(score, weight[patient]))
    assert weighted(target, score, weight[None], patient)[0] == pytest.approx(want, nan_ok=True)


@pytest.mark.parametrize("measure", [auroc, average_precision])
@given(seed=st.integers(0, 10**6))
@settings(max_examples=30)
def test_invariance_order_of_films_and_any_rising_scale(measure, seed):
    target, score, _ = films(seed)
    want = measure(target, score)
    order = np.random.default_rng(seed).permutation(30)
    assert measure(target[order], score[order]) == pytest.approx(want, nan_ok=True)
    assert measure(target, np.exp(3 * score)) == pytest.approx(want, nan_ok=True)


@given(st.integers(0, 10**6))
def test_turning_the_score_around_turns_auroc_around(seed):
    target, score, _ = films(seed)
    assert auroc(target, -score) == pytest.approx(1 - auroc(target, score), nan_ok=True)


@pytest.mark.parametrize("measure", [auroc, average_precision])
def test_limits(measure):
    assert measure([0, 0, 1, 1], [1, 2, 3, 4]) == 1.0
    assert measure([0, 1, 0, 1], [2, 2, 2, 2]) == 0.5
    assert measure([1, 1, 0, 0], [-np.inf, 1, 1, np.inf]) < 0.6
    assert math.isnan(measure([0, 0], [1, 2]))
    assert math.isnan(measure([], []))
    assert math.isnan(measure([0, 1], [1, 2], known=[False, False]))


def test_convention_an_undefined_metric_is_nan():
    assert math.isnan(auroc([1, 1], [0.1, 0.9]))
    assert np.isnan(weighted_auroc([0, 1], [0, 1], [[1, 0], [0, 1]], [0, 1])).all()
    assert np.isnan(weighted_auroc([], [], [[1.0], [1.0]], np.zeros(0, int))).tolist() == [True, True]


@pytest.mark.parametrize("measure", [auroc, average_precision])
def test_convention_unknown_is_not_negative(measure):
    target, score, _ = sample()
    known = np.arange(40) % 3 > 0
    unusual = np.where(known, target, 7)
    score = np.where(known, score, np.nan)
    assert measure(unusual, score, known) == measure(target[known], score[known])


def test_resamples_in_turn_are_as_all_at_once(monkeypatch):
    target, score, _ = sample()
    weights = np.random.default_rng(0).integers(0, 3, (17, 40))
    whole = weighted_auroc(target, score, weights, np.arange(40))
    monkeypatch.setattr(ranking, "CHUNK", 100)
    np.testing.assert_array_equal(weighted_auroc(target, score, weights, np.arange(40)), whole)


@pytest.mark.parametrize("measure", [auroc, average_precision])
@given(bad=st.sampled_from([2, -1, 0.5, np.nan]))
def test_bad_targets_are_refused(measure, bad):
    with pytest.raises(ValueError, match="target must be 0 or 1"):
        measure([0, 1, bad], [0.1, 0.2, 0.3])


def test_bad_input_is_refused_by_name():
    with pytest.raises(ValueError, match="score must be a number"):
        auroc([0, 1], [0.1, np.nan])
    with pytest.raises(ValueError, match=r"got \(2,\), \(3,\) and \(2,\)"):
        auroc([0, 1], [0.1, 0.2, 0.3])
    with pytest.raises(ValueError, match=r"weights must be \(R, P\)"):
        weighted_auroc([0, 1], [0.1, 0.2], [1, 1], [0, 1])
    with pytest.raises(ValueError, match="not negative"):
        weighted_auroc([0, 1], [0.1, 0.2], [[1, -1]], [0, 1])
    with pytest.raises(ValueError, match=r"unit must give each film a column of weights, 0 to 1"):
        weighted_auroc([0, 1], [0.1, 0.2], [[1, 1]], [0, 2])
