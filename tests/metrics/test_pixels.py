"""Masks against boxes: IoP, FPR, FNR, DICE by reference, limits, invariances and plain loops."""

import math
import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cxrlocus.metrics.pixels import (
    Overlap,
    box_mask,
    dice,
    dice_from,
    fnr,
    fpr,
    iop,
    mask_overlap,
    overlap_above,
    soft_dice,
)

MEASURES = {"iop": iop, "fpr": fpr, "fnr": fnr, "dice": dice}
grids = st.integers(1, 7).flatmap(
    lambda w: st.lists(st.lists(st.booleans(), min_size=w, max_size=w), min_size=1, max_size=7)
)


@st.composite
def pairs(draw):
    """A mask and a truth of one shape."""
    mask = np.array(draw(grids))
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    return mask, rng.random(mask.shape) < draw(st.floats(0, 1))


def second_reading(mask, truth):
    """The definitions cell by cell."""
    tp = fp = fn = tn = 0
    for i in range(len(mask)):
        for j in range(len(mask[0])):
            if mask[i][j] and truth[i][j]:
                tp += 1
            elif mask[i][j]:
                fp += 1
            elif truth[i][j]:
                fn += 1
            else:
                tn += 1
    return {
        "iop": tp / (tp + fp) if tp + fp else math.nan,
        "fpr": fp / (fp + tn) if fp + tn else math.nan,
        "fnr": fn / (fn + tp) if fn + tp else math.nan,
        "dice": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else math.nan,
    }


def measured(mask, truth):
    counts = mask_overlap(mask, truth)
    return {name: float(measure(counts)) for name, measure in MEASURES.items()}


@given(pairs())
def test_measures_are_those_of_a_double_loop(pair):
    assert measured(*pair) == pytest.approx(second_reading(pair[0].tolist(), pair[1].tolist()), nan_ok=True)


def test_reference_values():
    """From scikit-learn 1.9.1, with m and t the mask and truth below, flat:
    (tn, fp), (fn, tp) = confusion_matrix(t, m); precision_score(t, m), fp / (fp + tn), fn / (fn + tp), f1_score(t, m)
    """
    rng = np.random.default_rng(7)
    mask, truth = rng.random((6, 8)) < 0.4, rng.random((6, 8)) < 0.3
    assert measured(mask, truth) == pytest.approx(
        {"iop": 0.2631578947368421, "fpr": 0.3888888888888889, "fnr": 0.5833333333333334, "dice": 0.3225806451612903},
        abs=1e-12,
    )


def test_limit_the_mask_is_the_box():
    truth = box_mask([[10, 20, 50, 90]], (100, 100), (50, 50))
    assert measured(truth, truth) == {"iop": 1, "fpr": 0, "fnr": 0, "dice": 1}


def test_limit_the_whole_film_is_marked():
    truth = box_mask([[0, 0, 25, 100]], (100, 100), (20, 20))
    assert measured(np.ones((20, 20)), truth) == {"iop": 0.25, "fpr": 1, "fnr": 0, "dice": 0.4}


def test_limit_nothing_is_marked():
    truth = box_mask([[0, 0, 25, 100]], (100, 100), (20, 20))
    assert measured(np.zeros((20, 20)), truth) == pytest.approx(
        {"iop": math.nan, "fpr": 0, "fnr": 1, "dice": 0}, nan_ok=True
    )


def test_what_is_undefined_is_nan():
    none, every = np.zeros((2, 2)), np.ones((2, 2))
    assert math.isnan(measured(every, every)["fpr"])
    assert math.isnan(measured(every, none)["fnr"])
    assert math.isnan(measured(none, none)["dice"])


@given(pairs(), st.integers(0, 3), st.integers(2, 3))
def test_invariance_to_turning_mirroring_and_refining_the_grid(pair, turns, factor):
    mask, truth = (np.rot90(g, turns)[:, ::-1] for g in pair)
    fine = np.ones((factor, factor), dtype=bool)
    for mask_, truth_ in ((mask, truth), (np.kron(pair[0], fine), np.kron(pair[1], fine))):
        assert measured(mask_, truth_) == pytest.approx(measured(*pair), nan_ok=True)


@given(pairs())
def test_the_complement_of_the_mask_swaps_hits_and_misses(pair):
    mask, truth = pair
    assume(truth.any() and not truth.all())
    one, other = measured(mask, truth), measured(~mask, truth)
    assert one["fpr"] + other["fpr"] == pytest.approx(1)
    assert one["fnr"] + other["fnr"] == pytest.approx(1)


@given(pairs())
def test_padding_a_film_lowers_fpr_alone(pair):
    mask, truth = pair
    wide = [np.pad(g, ((0, 0), (0, 5))) for g in pair]
    one, other = measured(mask, truth), measured(*wide)
    assert {k: other[k] for k in ("iop", "fnr", "dice")} == pytest.approx(
        {k: one[k] for k in ("iop", "fnr", "dice")}, nan_ok=True
    )
    assert math.isnan(one["fpr"]) or other["fpr"] <= one["fpr"]


@given(pairs(), st.lists(st.floats(-1, 2), max_size=5), st.integers(0, 10**6))
def test_many_thresholds_are_as_many_masks(pair, thresholds, seed):
    values, truth = np.random.default_rng(seed).random(pair[0].shape).astype(np.float32).round(1), pair[1]
    counts = overlap_above(values, truth, np.array(thresholds))
    assert counts.marked.shape == (len(thresholds),)
    for k, t in enumerate(thresholds):
        one = mask_overlap(values > np.float64(t), truth)
        assert (counts.common[k], counts.marked[k], counts.true, counts.cells) == one


def test_convention_a_value_at_the_threshold_is_not_above_it_and_nan_is_above_none():
    counts = overlap_above(np.array([[0.5, np.nan, 0.6]]), np.array([[True, True, False]]), np.array([-np.inf, 0.5]))
    assert (counts.common.tolist(), counts.marked.tolist()) == ([1, 0], [2, 1])


a_box = st.tuples(st.integers(-4, 24), st.integers(-4, 24), st.integers(1, 9), st.integers(1, 9))
boxes_on_a_film = st.lists(a_box.map(lambda b: [b[0], b[1], b[0] + b[2], b[1] + b[3]]), max_size=4)


@given(boxes_on_a_film, st.integers(1, 21), st.integers(1, 17), st.integers(1, 9), st.integers(1, 9))
@settings(max_examples=60)
def test_cells_of_boxes_are_those_whose_centres_lie_in_one(boxes, width, height, gh, gw):
    got = box_mask(boxes, (width, height), (gh, gw))
    for i in range(gh):
        for j in range(gw):
            x, y = (j + 0.5) * (width / gw), (i + 0.5) * (height / gh)
            assert got[i, j] == any(x0 <= x < x1 and y0 <= y < y1 for x0, y0, x1, y1 in boxes)


def test_convention_boxes_are_half_open_and_count_once():
    assert box_mask([[0.5, 0, 1.5, 1]], (3, 1), (1, 3)).tolist() == [[True, False, False]]
    twice = box_mask([[0, 0, 2, 2], [1, 1, 3, 3]], (4, 4), (4, 4))
    assert twice.sum() == 7
    assert not box_mask([], (4, 4), (4, 4)).any()
    assert not box_mask([[10, 10, 20, 20], [-5, -5, 0, 0]], (4, 4), (4, 4)).any()


def test_a_fine_grid_has_the_areas_of_the_boxes():
    share = box_mask([[12.3, 45.6, 78.9, 90.1]], (100, 120), (1200, 1000)).mean()
    assert share == pytest.approx((78.9 - 12.3) * (90.1 - 45.6) / (100 * 120), abs=2e-3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: box_mask([[1, 2, 3]], (4, 4), (4, 4)), "boxes must be (n, 4) xyxy numbers; got shape (1, 3)"),
        (lambda: box_mask([[1, 2, 3, np.nan]], (4, 4), (4, 4)), "boxes must be (n, 4) xyxy numbers"),
        (lambda: box_mask([], (0, 4), (4, 4)), "size and shape must be positive; got (0, 4) and (4, 4)"),
        (lambda: box_mask([], (4, 4), (4, 0)), "size and shape must be positive; got (4, 4) and (4, 0)"),
        (lambda: overlap_above(np.ones((2, 2)), np.ones((2, 2)), [0]), "got (2, 2), float64 (2, 2) and (1,)"),
        (lambda: overlap_above(np.ones((2, 2)), np.ones((2, 3), bool), [0]), "got (2, 2), bool (2, 3) and (1,)"),
        (lambda: overlap_above(np.ones((2, 2)), np.ones((2, 2), bool), 0), "got (2, 2), bool (2, 2) and ()"),
        (lambda: mask_overlap([[0.5]], [[1]]), "mask and truth must be 0 or 1"),
        (lambda: mask_overlap([[1]], [[2]]), "mask and truth must be 0 or 1"),
        (lambda: mask_overlap([[1]], [[1, 0]]), "must be (gh, gw), bool (gh, gw)"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call()


@given(st.tuples(*[st.integers(0, 5)] * 4))
def test_measures_broadcast_over_counts_and_stay_in_range(cells):
    tp, fp, fn, _ = cells
    true, every = np.array(tp + fn), np.array(sum(cells))
    both = Overlap(np.array([tp, 0]), np.array([tp + fp, fp]), true, every)
    for measure in MEASURES.values():
        value = np.broadcast_to(measure(both), (2,))
        alone = [float(measure(Overlap(both.common[k], both.marked[k], true, every))) for k in (0, 1)]
        assert value.tolist() == pytest.approx(alone, nan_ok=True)
        assert all(0 <= v <= 1 or math.isnan(v) for v in alone)


@given(st.floats().filter(lambda v: v not in (0, 1)), st.booleans())
def test_a_mask_that_is_not_binary_is_refused(value, in_truth):
    pair = [np.zeros((2, 3)), np.ones((2, 3))]
    pair[in_truth][1, 2] = value
    with pytest.raises(ValueError, match="mask and truth must be 0 or 1"):
        mask_overlap(*pair)


@given(st.tuples(st.integers(1, 4), st.integers(1, 4)), st.tuples(st.integers(1, 4), st.integers(1, 4)))
def test_grids_of_two_shapes_are_refused(one, other):
    assume(one != other)
    with pytest.raises(ValueError, match=re.escape(f"got {one}, bool {other} and (1,)")):
        overlap_above(np.zeros(one), np.zeros(other, bool), [0.5])


def test_soft_dice_of_a_mask_is_dice():
    rng = np.random.default_rng(3)
    mask, truth = rng.random((6, 8)) < 0.4, rng.random((6, 8)) < 0.3
    assert soft_dice(mask, truth) == pytest.approx(float(dice(mask_overlap(mask, truth))))


def test_soft_dice_reference_value():
    """From torch 2.13, with s and g the map and truth below as tensors:
    2 * torch.einsum("ij,ij", s, g) / (s.norm() ** 2 + g.norm() ** 2)
    """
    rng = np.random.default_rng(11)
    values, truth = rng.random((6, 8)), (rng.random((6, 8)) < 0.3).astype(float)
    assert soft_dice(values, truth) == pytest.approx(0.4774176290749121, abs=1e-12)


@given(p=st.floats(1e-3, 1), share=st.integers(1, 15))
def test_soft_dice_limit_a_map_that_is_p_in_the_truth(p, share):
    truth = np.zeros((4, 4))
    truth.ravel()[:share] = 1
    assert soft_dice(p * truth, truth) == pytest.approx(2 * p / (p * p + 1))
    assert soft_dice(p * (1 - truth), truth) == 0
    assert math.isnan(soft_dice(0 * truth, 0 * truth))


@given(pairs(), st.integers(0, 10**6))
def test_soft_dice_does_not_depend_on_the_order_of_cells_and_is_symmetric(pair, seed):
    truth = pair[1]
    assume(truth.any())
    rng = np.random.default_rng(seed)
    values, order = rng.random(truth.shape), rng.permutation(truth.size)
    got = soft_dice(values, truth)
    assert 0 <= got <= 1
    turned = values.ravel()[order].reshape(truth.shape), truth.ravel()[order].reshape(truth.shape)
    assert soft_dice(*turned) == pytest.approx(got)
    assert soft_dice(truth, values) == pytest.approx(got)


@given(st.floats().filter(lambda v: not 0 <= v <= 1))
def test_soft_dice_refuses_what_is_no_probability(value):
    with pytest.raises(ValueError, match=r"values must be in \[0, 1\]"):
        soft_dice([[0.5, value]], [[0, 1]])
    with pytest.raises(ValueError, match=r"truth must be in \[0, 1\]"):
        soft_dice([[0.5, 0.5]], [[0, value]])
    with pytest.raises(ValueError, match="values and truth must be"):
        soft_dice([[0.5, 0.5]], [[0.5]])


@given(pairs())
def test_dice_from_iop_and_fnr_is_dice(pair):
    counts = mask_overlap(*pair)
    expected = dice(counts) if pair[1].any() else np.nan
    np.testing.assert_allclose(dice_from(iop(counts), fnr(counts)), expected, atol=1e-12)


def test_dice_from_limits():
    np.testing.assert_array_equal(dice_from([1.0, np.nan, 0.0, np.nan], [0.0, 1.0, 1.0, np.nan]), [1, 0, 0, np.nan])
