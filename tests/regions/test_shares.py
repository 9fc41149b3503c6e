"""Maps on one grid and one scale: against SciPy's ranks, limits, what changes nothing, and bad inputs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from cxrlocus.regions.maps import to_film
from cxrlocus.regions.shares import SCALES, on_unit_square, share_scale, weighted_mean

WHOLE = np.array([[100.0, 0.0, 0.0], [0.0, 60.0, 0.0]])


def maps(seed: int, side: int = 6) -> np.ndarray:
    return np.random.default_rng(seed).integers(-3, 4, (side, side)).astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_ranks_are_scipys_with_ties_averaged(seed: int) -> None:
    grid = maps(seed)
    grid[0, :2] = np.nan
    there = ~np.isnan(grid)
    expected = (rankdata(grid[there]) - 0.5) / there.sum()
    assert share_scale(grid, "rank")[there] == pytest.approx(expected, abs=1e-6)
    assert share_scale(grid, "tail")[there] == pytest.approx(-np.log(1 - expected) / np.log(72), abs=1e-6)
    assert np.isnan(share_scale(grid)[~there]).all()


def test_the_tail_scale_gives_each_halving_of_the_area_the_same_room() -> None:
    """Of 64 x 64 cells the hottest 2**k are above a height that falls by a fixed step as k rises."""
    grid = np.arange(4096, dtype=np.float32).reshape(64, 64)
    ranked = np.sort(share_scale(grid).ravel())[::-1]
    assert ranked[0] == pytest.approx(1.0)
    heights = [float(ranked[2**k - 1] + ranked[2**k]) / 2 for k in range(3, 12)]
    # log 2 / log 8192
    assert np.diff(heights) == pytest.approx(-np.log(2) / np.log(8192), abs=1e-3)
    assert float((share_scale(grid) > 0.5).mean()) == pytest.approx(0.011, abs=0.0005)


@pytest.mark.parametrize("scale", SCALES)
@given(seed=st.integers(0, 1000), gain=st.sampled_from([0.25, 2.0, 1024.0]), shift=st.integers(-8, 8))
def test_only_the_order_of_cells_counts(scale: str, seed: int, gain: float, shift: int) -> None:
    grid = maps(seed)
    changed = share_scale(gain * grid + shift, scale)  # type: ignore[arg-type]  # parametrized
    assert np.array_equal(share_scale(grid, scale), changed)  # type: ignore[arg-type]  # parametrized
    assert changed.min() >= 0
    assert changed.max() <= 1 + 1e-6


def test_a_map_without_a_range_is_one_tie() -> None:
    almost = np.full((4, 4), 7.0, np.float32)
    almost[0, 0] = np.nextafter(np.float32(7), np.float32(8))
    assert np.unique(share_scale(almost, "rank")).tolist() == [0.5]
    assert np.isnan(share_scale(np.full((2, 2), np.nan, np.float32))).all()


def test_bad_grids_are_refused() -> None:
    with pytest.raises(ValueError, match="scale must be one of tail, rank"):
        share_scale(np.zeros((2, 2), np.float32), "half")  # type: ignore[arg-type]  # on purpose
    with pytest.raises(ValueError, match="finite"):
        share_scale(np.array([[0.0, np.inf]], np.float32))


def test_a_map_of_the_whole_film_is_resized_whatever_the_films_shape() -> None:
    grid = maps(1, 4)
    square = on_unit_square(grid, WHOLE, (100, 60), 8)
    assert np.array_equal(square, to_film(grid, np.array([[8.0, 0, 0], [0, 8.0, 0]]), (8, 8), 8)[0])


def test_a_letterboxed_map_is_cropped_to_the_film_and_a_small_one_leaves_the_rest_open() -> None:
    tall = np.array([[100.0, 0.0, 0.0], [0.0, 100.0, -20.0]])
    rows = np.repeat(np.arange(5.0)[:, None], 5, axis=1)
    # The film covers rows 1 to 3 of the map, each by two cells of the grid.
    assert on_unit_square(rows, tall, (100, 60), 6)[:, 0] == pytest.approx(
        [0.75, 1.25, 1.75, 2.25, 2.75, 3.25], abs=1e-4
    )
    half = on_unit_square(rows, np.array([[50.0, 0.0, 50.0], [0.0, 60.0, 0.0]]), (100, 60), 4)
    assert np.isnan(half[:, :2]).all()
    assert not np.isnan(half[:, 2:]).any()


def test_a_turned_map_lands_where_its_frame_says() -> None:
    """A quarter turn: the map's right edge is the film's bottom."""
    turned = np.array([[0.0, -10.0, 10.0], [10.0, 0.0, 0.0]])
    grid = np.zeros((4, 4), np.float32)
    grid[0, 3] = 1.0
    assert np.unravel_index(on_unit_square(grid, turned, (10, 10), 4).argmax(), (4, 4)) == (3, 3)


def test_a_fine_map_is_averaged_not_sampled() -> None:
    fine = np.indices((64, 64)).sum(axis=0) % 2
    assert on_unit_square(fine.astype(np.float32), WHOLE, (100, 60), 8) == pytest.approx(0.5)


@given(seed=st.integers(0, 1000), k=st.integers(1, 4))
def test_the_mean_of_equals_is_themselves_and_weights_scale_freely(seed: int, k: int) -> None:
    one = maps(seed)
    weights = np.random.default_rng(seed).random(k) + 0.1
    assert weighted_mean(np.stack([one] * k), weights) == pytest.approx(one, abs=1e-5)
    several = np.stack([maps(seed + i) for i in range(k)])
    assert weighted_mean(several, weights) == pytest.approx(weighted_mean(several, 7 * weights), abs=1e-5)
    assert weighted_mean(several, np.eye(k)[0]) == pytest.approx(several[0])


def test_a_map_that_does_not_reach_a_cell_has_no_say_there() -> None:
    two = np.array([[[0.0, 1.0]], [[np.nan, 0.5]]])
    assert weighted_mean(two, np.array([1.0, 1.0])).tolist() == [[0.0, 0.75]]
    assert np.isnan(weighted_mean(np.full((2, 1, 2), np.nan), np.ones(2))).all()


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=1, max_size=4))
def test_weights_that_are_none_are_refused(weights: list[float]) -> None:
    given_weights = np.array(weights)
    if len(weights) == 2 and np.isfinite(given_weights).all() and (given_weights >= 0).all():
        return
    with pytest.raises(ValueError, match="weights must be 2 finite numbers"):
        weighted_mean(np.zeros((2, 3, 3)), given_weights)
