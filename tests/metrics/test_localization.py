"""MaxBoxAcc's overlaps, PxAP and the pointing game: by hand, in loops, in limits, invariances."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrlocus.metrics.localization import best_at_levels, pixel_average_precision, pointing_share, value_counts
from cxrlocus.metrics.ranking import average_precision

SEED = st.integers(0, 10**6)


def counts_of(values, truth):
    """Counts by value, from lists of values."""
    levels = sorted(set(values))
    return [[sum(v == x and t == side for v, t in zip(values, truth, strict=True)) for x in levels] for side in (0, 1)]


@given(SEED)
def test_reference_pxap_is_the_average_precision_of_single_cells(seed):
    rng = np.random.default_rng(seed)
    values, truth = rng.integers(0, 8, 40).tolist(), rng.integers(0, 2, 40).tolist()
    got = float(pixel_average_precision(counts_of(values, truth)))
    assert got == pytest.approx(average_precision(truth, values), nan_ok=True)


def test_reference_pxap_by_hand():
    # From the top: false, true (1 of 2), true (2 of 3), one of each (3 of 5), false.
    values, truth = [0.1, 0.2, 0.2, 0.5, 0.7, 0.9], [0, 1, 0, 1, 1, 0]
    assert float(pixel_average_precision(counts_of(values, truth))) == pytest.approx((1 / 2 + 2 / 3 + 3 / 5) / 3)


def test_limits_of_pxap():
    assert float(pixel_average_precision([[5, 0], [0, 3]])) == 1.0
    # A constant map has the precision of marking everything.
    assert float(pixel_average_precision([[6], [2]])) == 0.25
    assert np.isnan(pixel_average_precision([[6], [0]]))
    assert pixel_average_precision(np.zeros((3, 2, 4))).shape == (3,)


@given(SEED)
def test_invariance_pxap_asks_for_the_order_of_values_and_for_shares_alone(seed):
    counts = np.random.default_rng(seed).integers(0, 9, (2, 12)).astype(float)
    wide = np.insert(counts, [0, 5, 12], 0, axis=1)
    assert float(pixel_average_precision(counts)) == pytest.approx(float(pixel_average_precision(wide)), nan_ok=True)
    assert float(pixel_average_precision(7.5 * counts)) == pytest.approx(
        float(pixel_average_precision(counts)), nan_ok=True
    )


@given(SEED, st.integers(1, 30))
def test_reference_value_counts_one_by_one(seed, bins):
    rng = np.random.default_rng(seed)
    values, truth = rng.integers(0, 65, (5, 6)) / 64, rng.random((5, 6)) < 0.4
    expected = np.zeros((2, bins), dtype=int)
    for v, t in zip(values.ravel().tolist(), truth.ravel().tolist(), strict=True):
        expected[int(t), min(int(v * bins), bins - 1)] += 1
    np.testing.assert_array_equal(value_counts(values, truth, bins), expected)


def test_best_at_levels_in_loops():
    rng = np.random.default_rng(0)
    level, overlap = rng.integers(0, 5, 20), rng.random((20, 3))
    got = best_at_levels(level, overlap, 6)
    for m in range(3):
        for k in range(6):
            assert got[m, k] == max((overlap[i, m] for i in range(20) if level[i] == k), default=0.0)


def test_the_pointing_game_by_hand():
    box = [[10, 10, 20, 30]]
    inside, corner, edge = [15, 20], [10, 10], [20, 20]
    assert [pointing_share([p], box) for p in (inside, corner, edge)] == [1, 1, 0]
    # 3 to the left and 4 above the corner: 5 away.
    assert [pointing_share([[7, 6]], box, tolerance) for tolerance in (4.9, 5.0)] == [0, 1]
    assert pointing_share([inside, [0, 0], [1, 1], corner], box) == 0.5
    assert pointing_share([inside], [[0, 0, 1, 1], *box]) == 1
    assert np.isnan(pointing_share([], box))
    assert pointing_share([inside], []) == 0


@given(SEED, st.floats(0, 30))
def test_invariance_the_pointing_game_moves_and_mirrors_with_the_film(seed, tolerance):
    rng = np.random.default_rng(seed)
    # Odd quarters meet no edge, which is in on one side of a box and out on the other.
    points, corner = rng.integers(0, 50, (4, 2)) + 0.25, rng.integers(0, 40, (2, 2))
    boxes = np.concatenate([corner, corner + rng.integers(1, 20, (2, 2))], axis=1).astype(float)
    got = pointing_share(points, boxes, tolerance)
    assert pointing_share(points + 7, boxes + 7, tolerance) == got
    mirror = np.stack([100 - boxes[:, 2], boxes[:, 1], 100 - boxes[:, 0], boxes[:, 3]], axis=1)
    assert pointing_share(np.stack([100 - points[:, 0], points[:, 1]], axis=1), mirror, tolerance) == got
    assert pointing_share(points, boxes, tolerance + 1) >= got


@given(st.floats().filter(lambda x: not 0 <= x <= 1))
def test_a_value_off_the_scale_is_refused(value):
    with pytest.raises(ValueError, match=r"values must be in \[0, 1\]"):
        value_counts([[0.5, value]], np.array([[True, False]]), 10)


@given(st.floats(max_value=-1e-9) | st.just(float("nan")))
def test_negative_counts_overlaps_and_tolerances_are_refused(value):
    with pytest.raises(ValueError, match="counts must be"):
        pixel_average_precision([[1.0, value], [0.0, 1.0]])
    with pytest.raises(ValueError, match="level and overlap must be"):
        best_at_levels([0], [[value]], 1)
    with pytest.raises(ValueError, match="tolerance at least 0"):
        pointing_share([[0, 0]], [[0, 0, 1, 1]], value)


def test_bad_shapes_are_refused():
    with pytest.raises(ValueError, match="level must be below 2; got 0 to 2"):
        best_at_levels([0, 2], [[0.1], [0.1]], 2)
    with pytest.raises(ValueError, match="values and truth must be"):
        value_counts([[0.5]], [[1]], 10)
    with pytest.raises(ValueError, match="points and boxes must be"):
        pointing_share([0, 0], [[0, 0, 1, 1]])
