"""Ranked boxes: FROC and average precision against plain loops over repeated patients, literals, limits, invariance."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrlocus.metrics.froc import RATES, Ranking, found_at, greedy_hits, weighted_detection_ap, weighted_froc

SEED = st.integers(0, 10**6)


def world(seed, patients=5, truths=8, boxes=25):
    """Boxes and true boxes of some patients, one film each: scores on few values, overlaps of one patient's pairs."""
    rng = np.random.default_rng(seed)
    score, unit = rng.integers(0, 8, boxes) / 8, rng.integers(0, patients, boxes)
    truth_unit = rng.integers(0, patients, truths)
    pairs = [(k, m) for k in range(boxes) for m in range(truths) if unit[k] == truth_unit[m]]
    box, truth = (np.array([p[side] for p in pairs], dtype=int) for side in (0, 1))
    draws = np.concatenate([np.ones((1, patients)), rng.multinomial(patients, np.full(patients, 1 / patients), 4)])
    return score, unit, truth_unit, box, truth, rng.random(len(pairs)) ** 2, draws, np.ones(patients)


def curve_in_loops(score, false, unit, found, truth_unit, weight, films, rates):
    """Patients are repeated as often as they are drawn; the curve is read with straight lines between its points."""
    boxes = [(s, f) for s, f, u in zip(score, false, unit, strict=True) for _ in range(int(weight[u]))]
    truths = [s for s, u in zip(found, truth_unit, strict=True) for _ in range(int(weight[u]))]
    n = sum(weight * films)
    if not truths or not n:
        return [np.nan] * len(rates)
    points = [(0.0, 0.0)]
    for cut in sorted(set(score.tolist()), reverse=True):
        points.append((sum(f for s, f in boxes if s >= cut) / n, sum(s >= cut for s in truths) / len(truths)))
    out = []
    for rate in rates:
        k = max(i for i, (x, _) in enumerate(points) if x <= rate)
        (x0, y0), (x1, y1) = points[k], points[min(k + 1, len(points) - 1)]
        out.append(y0 + (rate - x0) / (x1 - x0) * (y1 - y0) if x1 > x0 else y0)
    return out


def area_in_loops(score, hit, unit, truth_unit, weight):
    boxes = [(s, h) for s, h, u in zip(score, hit, unit, strict=True) for _ in range(int(weight[u]))]
    total = sum(weight[u] for u in truth_unit)
    if not total:
        return np.nan
    cuts = sorted({s for s, _ in boxes}, reverse=True)
    points = [(sum(h for s, h in boxes if s >= c) / total, np.mean([h for s, h in boxes if s >= c])) for c in cuts]
    area, before = 0.0, 0.0
    for k, (recall, _) in enumerate(points):
        area, before = area + (recall - before) * max(p for _, p in points[k:]), recall
    return area


@given(SEED, st.sampled_from([0.1, 0.3, 0.5]))
@settings(max_examples=60)
def test_reference_froc_in_plain_loops_with_patients_repeated(seed, threshold):
    score, unit, truth_unit, box, truth, overlap, draws, films = world(seed)
    false = np.ones(len(score), dtype=bool)
    false[box[overlap > threshold]] = False
    found = found_at(box, truth, overlap, score, len(truth_unit), threshold)
    got = weighted_froc(Ranking(score, unit, draws), false, found, truth_unit, films)
    expected = [curve_in_loops(score, false, unit, found, truth_unit, w, films, RATES) for w in draws]
    np.testing.assert_allclose(got, expected, atol=1e-12)


@given(SEED, st.sampled_from([0.1, 0.3, 0.5]))
@settings(max_examples=60)
def test_reference_average_precision_in_plain_loops_with_patients_repeated(seed, threshold):
    score, unit, truth_unit, box, truth, overlap, draws, _ = world(seed)
    hit = greedy_hits(score, box, truth, overlap, threshold)
    truths = np.bincount(truth_unit, minlength=draws.shape[1])
    got = weighted_detection_ap(Ranking(score, unit, draws), hit, truths)
    np.testing.assert_allclose(got, [area_in_loops(score, hit, unit, truth_unit, w) for w in draws], atol=1e-12)


def test_reference_by_hand():
    # Hit, false, hit, false, hit of 4 true boxes: precisions 1, 1/2, 2/3, 2/4, 3/5, their envelope 1, 2/3, 2/3, .6, .6.
    hit = np.array([True, False, True, False, True])
    ranking = Ranking(np.array([0.9, 0.8, 0.7, 0.6, 0.5]), np.zeros(5, int), np.ones((1, 1)))
    assert weighted_detection_ap(ranking, hit, [4])[0] == pytest.approx((1 + 2 / 3 + 0.6) / 4)
    # Two films: 1/2 a film at the first false box, 1 at the second.
    found, unit = np.array([0.9, 0.7, 0.5, -np.inf]), np.zeros(4, int)
    got = weighted_froc(ranking, ~hit, found, unit, [2.0], [0.0, 0.25, 0.5, 0.75, 1.0, 8.0])
    np.testing.assert_allclose(got[0], [0.25, 0.25, 0.5, 0.5, 0.75, 0.75])


def test_greedy_hits_by_hand():
    # The best box takes the true box it overlaps most, the second what is left, the third comes too late.
    box, truth, overlap = [0, 0, 1, 1, 2], [0, 1, 0, 1, 0], [0.6, 0.7, 0.9, 0.8, 0.9]
    assert greedy_hits([0.9, 0.5, 0.1], box, truth, overlap, 0.3).tolist() == [True, True, False]
    assert greedy_hits([0.1, 0.5, 0.9], box, truth, overlap, 0.3).tolist() == [False, True, True]
    # An overlap of exactly the threshold is no hit.
    assert greedy_hits([0.5], [0], [0], [0.3], 0.3).tolist() == [False]


@given(SEED)
@settings(max_examples=30)
def test_one_hit_a_true_box_and_one_a_box(seed):
    score, _, _, box, truth, overlap, _, _ = world(seed)
    hit = greedy_hits(score, box, truth, overlap, 0.2)
    close = overlap > 0.2
    assert hit.sum() <= len(set(truth[close].tolist()))
    # The first to choose finds all true boxes free.
    if close.any():
        assert hit[box[close][score[box[close]].argmax()]]


@given(SEED)
@settings(max_examples=30)
def test_invariance_only_the_order_of_scores_matters_and_not_that_of_rows(seed):
    score, unit, truth_unit, box, truth, overlap, draws, films = world(seed)
    # No two scores alike: among equals the order of rows decides who is matched.
    score = np.random.default_rng(seed).permutation(len(score)) / len(score)
    order = np.random.default_rng(seed + 1).permutation(len(score))
    place = np.argsort(order)

    def numbers(s, u, b):
        false = np.ones(len(s), dtype=bool)
        false[b[overlap > 0.2]] = False
        found = found_at(b, truth, overlap, s, len(truth_unit), 0.2)
        hit = greedy_hits(s, b, truth, overlap, 0.2)
        truths = np.bincount(truth_unit, minlength=draws.shape[1])
        ranking = Ranking(s, u, draws)
        return np.append(
            weighted_froc(ranking, false, found, truth_unit, films), weighted_detection_ap(ranking, hit, truths)
        )

    base = numbers(score, unit, box)
    np.testing.assert_allclose(numbers(np.exp(5 * score), unit, box), base)
    np.testing.assert_allclose(numbers(score[order], unit[order], place[box]), base)


def test_limits_perfect_none_and_undefined():
    both = np.ones((1, 2))
    perfect = Ranking(np.array([0.9, 0.8]), np.array([0, 1]), both)
    none = Ranking(np.zeros(0), np.zeros(0, int), both)
    unit, everyone = np.array([0, 1]), np.array([1.0, 1.0])
    found = np.array([0.9, 0.8])
    assert (weighted_froc(perfect, np.zeros(2, bool), found, unit, everyone) == 1).all()
    assert weighted_detection_ap(perfect, np.ones(2, bool), [1, 1]).tolist() == [1.0]
    lost = np.full(2, -np.inf)
    assert (weighted_froc(none, np.zeros(0, bool), lost, unit, everyone) == 0).all()
    assert weighted_detection_ap(none, np.zeros(0, bool), [1, 1]).tolist() == [0.0]
    # No true box, or no film, says nothing.
    assert np.isnan(weighted_froc(none, np.zeros(0, bool), np.zeros(0), np.zeros(0, int), everyone)).all()
    assert np.isnan(weighted_froc(perfect, np.zeros(2, bool), found, unit, [0.0, 0.0])).all()
    assert np.isnan(weighted_detection_ap(perfect, np.zeros(2, bool), [0, 0])).all()
    assert weighted_froc(
        Ranking(np.zeros(0), np.zeros(0, int), np.zeros((0, 2))), np.zeros(0, bool), lost, unit, everyone
    ).shape == (0, 7)


def test_boxes_of_one_score_are_drawn_at_random_between_all_and_none():
    # 10 films, each with a false box, 5 also with a hit, all of score 1: at f false positives a film a share f is in.
    score, unit = np.ones(15), np.append(np.arange(10), np.arange(5))
    false, found = np.arange(15) < 10, np.where(np.arange(10) < 5, 1.0, -np.inf)
    got = weighted_froc(Ranking(score, unit, np.ones((1, 10))), false, found, np.arange(10), np.ones(10))
    np.testing.assert_allclose(got[0], [0.5 * min(rate, 1) for rate in RATES])


def test_bad_input_is_refused():
    with pytest.raises(ValueError, match="unit must give each of 1 one of 1 patients"):
        Ranking(np.zeros(1), np.array([1]), np.ones((1, 1)))
    with pytest.raises(ValueError, match="draws must be"):
        Ranking(np.zeros(1), np.array([0]), -np.ones((1, 1)))
    with pytest.raises(ValueError, match="score must be"):
        Ranking(np.array([np.nan]), np.array([0]), np.ones((1, 1)))
    with pytest.raises(ValueError, match="box must be a position below 1"):
        greedy_hits([0.5], [1], [0], [0.5], 0.3)
    with pytest.raises(ValueError, match="must be \\(Q,\\) alike"):
        greedy_hits([0.5], [0], [0, 0], [0.5], 0.3)
    with pytest.raises(ValueError, match="truth must be a position below 1"):
        found_at([0], [1], [0.5], [0.5], 1, 0.3)
    ranking = Ranking(np.zeros(1), np.array([0]), np.ones((1, 1)))
    with pytest.raises(ValueError, match="false and films must be"):
        weighted_froc(ranking, np.zeros(2, bool), np.zeros(1), np.zeros(1, int), [1])
    with pytest.raises(ValueError, match="hit and truths must be"):
        weighted_detection_ap(ranking, np.zeros(1, bool), [1, 1])
