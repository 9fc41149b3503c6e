"""Places: means within boxes to the cell's share, evidence in the map's own units, the likeliest hit."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrlocus.regions.places import (
    LikeliestPlace,
    best_place,
    box_means,
    expected_hits,
    mirrored,
    read_places,
    spread_places,
)
from cxrlocus.types import Frame

FILM = Frame.of_size(80, 40).matrix
SIZE = (80, 40)
TENTHS = st.integers(0, 39)


@st.composite
def boxes(draw: st.DrawFn) -> list[float]:
    x0, y0 = draw(TENTHS), draw(TENTHS)
    x1, y1 = draw(st.integers(x0 + 1, 40)), draw(st.integers(y0 + 1, 40))
    return [x0 / 40, y0 / 40, x1 / 40, y1 / 40]


def test_a_mean_of_cells_weighs_them_by_their_share() -> None:
    # (.5 * 1 + 1 * 2 + .5 * 4) / 2 along the upper row.
    grid = np.array([[1.0, 2.0, 4.0, 8.0], [9.0, 9.0, 9.0, 9.0]])
    assert box_means(grid, [[0.125, 0.0, 0.625, 0.5]]) == pytest.approx([2.25])


@given(boxes(), st.integers(0, 9))
def test_a_mean_is_that_of_the_grid_drawn_large(box: list[float], seed: int) -> None:
    grid = np.random.default_rng(seed).normal(size=(4, 5))
    large = np.kron(grid, np.ones((10, 8)))
    x0, y0, x1, y1 = (round(40 * v) for v in box)
    assert box_means(grid, [box])[0] == pytest.approx(large[y0:y1, x0:x1].mean(), abs=1e-9)


def test_a_box_beyond_the_grid_counts_as_far_as_it_is_on_it() -> None:
    grid = np.arange(6.0).reshape(2, 3)
    inside, outside = box_means(grid, [[-3.0, -1.0, 9.0, 2.0], [1.0, 0.0, 2.0, 1.0]])
    assert inside == pytest.approx(grid.mean())
    assert np.isnan(outside)


@given(boxes())
def test_a_mirror_image_of_a_mirror_image_is_the_box(box: list[float]) -> None:
    assert mirrored(mirrored([box])) == pytest.approx(np.array([box]))
    grid = np.random.default_rng(0).normal(size=(4, 5))
    assert box_means(grid[:, ::-1], mirrored([box])) == pytest.approx(box_means(grid, [box]), abs=1e-9)


@given(st.floats(0.01, 100), st.floats(-100, 100))
def test_evidence_is_the_same_for_a_map_scaled_and_moved(scale: float, shift: float) -> None:
    draw = np.random.default_rng(1)
    values, places = draw.normal(size=(6, 6)), [[0.1, 0.1, 0.4, 0.6], [0.5, 0.0, 1.0, 1.0]]
    one, two = (read_places(v, FILM, SIZE, places) for v in (values, scale * values + shift))
    assert one is not None
    assert two is not None
    assert two.evidence == pytest.approx(one.evidence, rel=1e-3, abs=1e-3)
    assert two.means == pytest.approx(scale * one.means + shift, rel=1e-4, abs=1e-4 * (scale + abs(shift)))


def test_evidence_is_in_standard_deviations_of_the_map_on_the_film() -> None:
    # Half 0 and half 2: mean 1, deviation 1.
    said = read_places(np.array([[0.0, 0.0, 2.0, 2.0]]), FILM, SIZE, [[0.75, 0.0, 1.0, 1.0], [0.0, 0.0, 1.0, 0.5]], 4)
    assert said is not None
    assert said.evidence == pytest.approx([1.0, 0.0])
    assert (said.middle, said.spread) == pytest.approx((1.0, 1.0))


def test_a_place_that_the_map_does_not_reach_has_no_evidence() -> None:
    left = np.array([[40.0, 0.0, 0.0], [0.0, 40.0, 0.0]])
    values = np.array([[0.0, 2.0], [0.0, 2.0]])
    said = read_places(values, left, SIZE, [[0.6, 0.0, 0.9, 1.0], [0.25, 0.0, 0.75, 1.0], [0.0, 0.0, 1.0, 1.0]], 8)
    assert said is not None
    assert np.isnan(said.means[0])
    assert said.evidence[0] == 0
    # Only the quarter that the map covers speaks: its right half.
    assert said.evidence[1] > 0.8
    assert said.evidence[2] == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("values", [np.full((3, 3), 0.7), np.full((3, 3), np.nan)])
def test_a_map_that_says_nothing_gives_no_box(values: np.ndarray) -> None:
    assert read_places(values, FILM, SIZE, [[0.0, 0.0, 1.0, 1.0]]) is None
    found = LikeliestPlace([[0.0, 0.0, 1.0, 1.0]])(values, FILM, SIZE)
    assert (found.xyxy.shape, found.score.shape) == ((0, 4), (0,))


def test_without_trust_every_place_counts_alike() -> None:
    hits = np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]])
    assert expected_hits([5.0, -5.0, 9.0], hits, 0.0) == pytest.approx([2 / 3, 1 / 3])


def test_with_much_trust_only_the_best_place_counts() -> None:
    assert expected_hits([5.0, -5.0, 9.0], np.eye(3), 1e6) == pytest.approx([0.0, 0.0, 1.0])


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=6), st.floats(0, 50), st.randoms(use_true_random=False))
def test_expectations_are_shares_and_follow_their_places(z: list[float], trust: float, random: object) -> None:
    order = np.random.default_rng(len(z)).permutation(len(z))
    hits = np.triu(np.ones((len(z), len(z))))
    expected = expected_hits(z, hits, trust)
    assert (expected >= 0).all()
    assert (expected <= 1 + 1e-12).all()
    assert expected[0] == pytest.approx(1.0)
    assert expected_hits(np.array(z)[order], hits[:, order], trust) == pytest.approx(expected)


def test_a_place_between_two_likely_ones_can_be_the_best() -> None:
    # The middle box is a hit of either neighbour; alone it has the least evidence.
    hits = np.array([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0], [0.0, 1.0, 1.0]])
    z = np.array([1.0, 0.0, 1.0])
    assert best_place(z, hits, 1.0) == 1
    assert best_place(z, hits, 1.0, [1.0, 0.01, 1.0]) == 1
    assert best_place(z, np.eye(3), 1.0, [1.0, 9.0, 1.0]) == 1
    assert best_place(z, np.eye(3), 1.0, [1.0, 1.0, 2.0]) == 2


def test_the_rule_takes_the_place_under_the_hill() -> None:
    rule = LikeliestPlace([[0.0, 0.0, 0.25, 1.0], [0.25, 0.0, 0.5, 1.0], [0.75, 0.0, 1.5, 1.0]])
    values = np.array([[0.0, 0.0, 0.0, 3.0]])
    found = rule(values, FILM, SIZE)
    assert found.xyxy.tolist() == [[60.0, 0.0, 80.0, 40.0]]
    assert found.score == pytest.approx(read_places(values, FILM, SIZE, rule.places).means[2:])  # type: ignore[union-attr]  # the map is not constant
    assert LikeliestPlace(rule.places, trust=0.0)(values, FILM, SIZE).xyxy.tolist() == [[0.0, 0.0, 20.0, 40.0]]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"places": np.zeros((0, 4))}, "places must have at least one"),
        ({"places": [[0.5, 0.5, 0.5, 0.9]]}, "x1 > x0"),
        ({"places": [[2.0, 0.0, 3.0, 1.0]]}, "x1 > x0"),
        ({"trust": -1.0}, "trust"),
        ({"trust": np.inf}, "trust"),
        ({"overlap": 1.0}, "overlap"),
        ({"raster": 0}, "raster"),
        ({"spread": -0.1}, "spread"),
    ],
)
def test_what_is_no_rule_is_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        LikeliestPlace(**{"places": [[0.0, 0.0, 1.0, 1.0]], **wrong})  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(("z", "trust"), [([], 1.0), ([np.nan], 1.0), ([-np.inf, 0.0], 1.0), ([0.0], -1.0)])
def test_evidence_that_is_none_is_refused(z: list[float], trust: float) -> None:
    with pytest.raises(ValueError, match=r"must"):
        expected_hits(z, np.ones((1, len(z))), trust)


def test_a_grid_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="grid"):
        box_means(np.zeros(4), [[0, 0, 1, 1]])


def test_weights_count_before_the_map_is_seen() -> None:
    # >>> import numpy as np; p = np.array([3 * np.e**2, 1 * np.e**-1]); print(p / p.sum())
    expected = [0.9836752313352459, 0.016324768664754092]
    assert expected_hits([1.0, -0.5], np.eye(2), 2.0, [3.0, 1.0]) == pytest.approx(expected, abs=1e-9)
    # A weight of 2 is the same place twice.
    twice = expected_hits([1.0, 1.0, -0.5], np.array([[1.0, 1.0, 0.0], [0.0, 0.0, 1.0]]), 1.5)
    assert expected_hits([1.0, -0.5], np.eye(2), 1.5, [2.0, 1.0]) == pytest.approx(twice)


@pytest.mark.parametrize("weights", [[1.0], [1.0, 0.0], [1.0, -1.0], [1.0, np.nan], [1.0, np.inf]])
def test_weights_that_are_none_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weights must have a positive number for each place"):
        expected_hits([0.0, 1.0], np.eye(2), 1.0, weights)


@given(st.lists(boxes(), min_size=1, max_size=4), st.floats(0.01, 0.5), st.integers(0, 3))
def test_places_spread_over_the_film_and_keep_their_size(places: list[list[float]], spread: float, steps: int) -> None:
    around = spread_places(places, spread, steps)
    own = np.array(places)[around.source]
    assert around.boxes[: len(places)] == pytest.approx(np.array(places))
    assert around.boxes[:, 2:] - around.boxes[:, :2] == pytest.approx(own[:, 2:] - own[:, :2], abs=1e-9)
    assert ((around.boxes >= 0) & (around.boxes <= 1)).all()
    away = (around.boxes - own)[:, :2] / spread
    assert around.weights == pytest.approx(np.exp(-0.5 * (away**2).sum(axis=1)), rel=1e-6)
    assert len(around.boxes) <= len(places) * (2 * steps + 1) ** 2
    alone = spread_places(places, 0.0)
    assert alone.boxes == pytest.approx(np.array(places))
    assert (alone.weights == 1).all()


def test_a_mirrored_film_spreads_its_places_as_in_a_mirror() -> None:
    places = np.array([[0.25, 0.125, 0.5, 0.5]])
    one, other = spread_places(places, 0.0625), spread_places(mirrored(places), 0.0625)
    left = sorted(
        (*box, round(w, 9)) for box, w in zip(mirrored(one.boxes).tolist(), one.weights.tolist(), strict=True)
    )
    right = sorted((*box, round(w, 9)) for box, w in zip(other.boxes.tolist(), other.weights.tolist(), strict=True))
    assert left == right


def test_a_spread_place_reaches_what_no_place_does() -> None:
    values = np.zeros((8, 8))
    values[2:4, 5:7] = 1.0
    place = [[0.5, 0.125, 0.75, 0.375]]
    film = Frame.of_size(80, 80).matrix
    alone, spread = LikeliestPlace(place, trust=8.0), LikeliestPlace(place, trust=8.0, spread=0.125)
    assert alone(values, film, (80, 80)).xyxy.tolist() == [[40.0, 10.0, 60.0, 30.0]]
    assert spread(values, film, (80, 80)).xyxy.tolist() == [[50.0, 20.0, 70.0, 40.0]]
    still = LikeliestPlace(place, trust=0.0, spread=0.125)
    assert still(values, film, (80, 80)).xyxy.tolist() == [[40.0, 10.0, 60.0, 30.0]]


@pytest.mark.parametrize(("spread", "steps"), [(-0.1, 1), (np.nan, 1), (np.inf, 1), (0.1, -1)])
def test_a_spread_that_is_none_is_refused(spread: float, steps: int) -> None:
    with pytest.raises(ValueError, match="spread must be a number of at least 0"):
        spread_places([[0.0, 0.0, 1.0, 1.0]], spread, steps)
