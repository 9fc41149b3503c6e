"""Box rules: reference, limits, invariances, frames, bad input; each holds for every rule in RULES."""

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cxrlocus.regions.boxes import iou
from cxrlocus.regions.maps import to_film
from cxrlocus.regions.rules import RULES, AbsoluteLevel, FixedThresholds, PeakComponent, SeveralThresholds
from cxrlocus.types import Frame

SIZE = (1024, 1024)
FILM = Frame.of_size(*SIZE).matrix
rules = pytest.mark.parametrize("rule", [kind() for kind in RULES.values()], ids=list(RULES))


def blob(x, y, radius, grid=32):
    """A map with one round spot centred at (x, y) of its unit square; half its height at ``radius``."""
    v, u = (np.indices((grid, grid)) + 0.5) / grid
    return np.exp(-np.log(2) * ((u - x) ** 2 + (v - y) ** 2) / radius**2)


@given(st.integers(0, 10**6), st.sampled_from([(16, 16), (7, 7), (12, 20)]))
@settings(max_examples=40)
def test_reference_wang_rule_by_scipy(seed, grid):
    values = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=grid), 1.0)
    raster, _ = to_film(values, FILM, SIZE, 128)
    raster = raster.astype(np.float64)
    scaled = 255 * (raster - raster.min()) / (raster.max() - raster.min())
    # A cell within rounding of a level is on either side of it, in float32 here and float64 there.
    assume(min(np.abs(scaled - level).min() for level in (60, 180)) > 1e-3)
    want = {}
    for level in (60, 180):
        labels, _ = ndimage.label(scaled > level, structure=np.ones((3, 3)))
        for k, (ys, xs) in enumerate(ndimage.find_objects(labels), start=1):
            box = (xs.start * 8, ys.start * 8, xs.stop * 8, ys.stop * 8)
            want[box] = max(raster[labels == k].mean(), want.get(box, -np.inf))
    found = FixedThresholds()(values, FILM, SIZE)
    assert {tuple(box) for box in found.xyxy.tolist()} == set(want)
    np.testing.assert_allclose(found.score, [want[tuple(b)] for b in found.xyxy.tolist()], atol=1e-5)


def test_reference_a_round_spot_is_boxed_at_its_half_height():
    for rule in (PeakComponent(threshold=0.5), FixedThresholds(levels=(127.5,)), SeveralThresholds(levels=(0.5,))):
        found = rule(blob(0.4, 0.6, 0.1), FILM, SIZE)
        want = [[0.3 * 1024, 0.5 * 1024, 0.5 * 1024, 0.7 * 1024]]
        np.testing.assert_allclose(found.xyxy, want, atol=10)


def test_fixed_thresholds_box_every_spot_and_the_others_only_the_peak():
    two = blob(0.25, 0.25, 0.06) + 0.9 * blob(0.75, 0.7, 0.06)
    fixed = FixedThresholds()(two, FILM, SIZE)
    assert len(fixed) == 4
    peak = PeakComponent()(two, FILM, SIZE)
    assert len(peak) == 1
    assert peak.xyxy[0, 2] < 512
    nested = SeveralThresholds()(two, FILM, SIZE)
    assert (nested.xyxy[:, 2] < 512).all()


def test_nested_boxes_stand_best_first_and_inside_each_other():
    found = SeveralThresholds(levels=(0.3, 0.5, 0.7))(blob(0.5, 0.5, 0.1), FILM, SIZE)
    assert len(found) == 3
    assert (np.diff(found.score) < 0).all()
    assert (found.xyxy[1:, :2] <= found.xyxy[:-1, :2]).all()
    assert (found.xyxy[1:, 2:] >= found.xyxy[:-1, 2:]).all()


def test_the_same_box_at_two_levels_is_kept_once():
    step = np.zeros((16, 16))
    step[4:8, 4:8] = 1.0
    found = FixedThresholds(raster=16)(step, FILM, SIZE)
    assert found.xyxy.tolist() == [[256, 256, 512, 512]]
    assert SeveralThresholds(raster=16)(step, FILM, SIZE).xyxy.tolist() == [[256, 256, 512, 512]]


def test_scores_are_raw_so_a_weak_map_scores_below_a_strong_one():
    strong, weak = (PeakComponent()(k * blob(0.5, 0.5, 0.1) - 1, FILM, SIZE).score[0] for k in (5.0, 2.0))
    assert strong > weak
    assert strong == pytest.approx(5 * (weak + 1) / 2 - 1, rel=1e-4)


@rules
@pytest.mark.parametrize("value", [0.0, 0.1, -7.0, 3e4, np.nan])
@pytest.mark.parametrize("frame", [FILM, np.array([[900.0, 100, 0], [-100, 900, 0]])], ids=["straight", "turned"])
def test_limit_a_constant_or_absent_map_gives_no_box(rule, value, frame):
    found = rule(np.full((16, 16), value), frame, SIZE)
    assert (found.xyxy.shape, found.score.shape) == ((0, 4), (0,))


@rules
def test_limit_one_hot_cell_is_boxed_alone(rule):
    values = np.zeros((16, 16))
    values[3, 12] = 1.0
    found = rule(values, FILM, SIZE)
    assert len(found)
    centre = (found.xyxy[:, :2] + found.xyxy[:, 2:]) / 2
    np.testing.assert_allclose(centre, np.tile([12.5 * 64, 3.5 * 64], (len(found), 1)), atol=1e-9)


@rules
def test_limit_a_map_that_is_mostly_zero_does_not_box_the_film(rule):
    found = rule(np.maximum(blob(0.5, 0.5, 0.1) - 0.5, 0), FILM, SIZE)
    assert (found.xyxy[:, 0] > 300).all()


@rules
@given(seed=st.integers(0, 10**6), power=st.integers(-6, 6), offset=st.floats(-5, 5))
@settings(max_examples=25)
def test_invariance_boxes_do_not_depend_on_scale_and_offset(rule, seed, power, offset):
    values = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(16, 16)), 1.5) * 10
    plain, moved = rule(values, FILM, SIZE), rule((values + offset) * 2.0**power, FILM, SIZE)
    best = iou(plain.xyxy, moved.xyxy).max(axis=1)
    # A cell within rounding of the level may fall on its other side.
    assert np.median(best) == 1.0


@rules
@given(seed=st.integers(0, 10**6))
@settings(max_examples=25)
def test_invariance_a_mirrored_map_in_a_mirrored_frame_has_the_same_boxes(rule, seed):
    values = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(16, 16)), 1.5)
    flip = Frame(FILM).then_crop(1.0, 0.0, 0.0, 1.0).matrix
    plain, mirrored = rule(values, FILM, SIZE), rule(values[:, ::-1], flip, SIZE)
    assert np.median(iou(plain.xyxy, mirrored.xyxy).max(axis=1)) > 0.95


@rules
@given(seed=st.integers(0, 10**6), width=st.integers(1, 3000), height=st.integers(1, 3000))
@settings(max_examples=40)
def test_boxes_have_area_lie_on_the_film_and_stand_best_first(rule, seed, width, height):
    rng = np.random.default_rng(seed)
    turn = np.diag([width, height]) @ (np.eye(2) + rng.normal(size=(2, 2)) * 0.2)
    frame = np.hstack([turn, rng.normal(size=(2, 1)) * 50])
    found = rule(rng.normal(size=(9, 9)), frame, (width, height))
    assert (found.xyxy[:, 2:] > found.xyxy[:, :2]).all()
    assert (found.xyxy >= 0).all()
    assert (found.xyxy[:, [2, 3]] <= np.array([width, height]) * (1 + 1e-12)).all()
    assert (np.diff(found.score) <= 0).all()


@pytest.mark.parametrize(
    "frame",
    [
        np.array([[1024.0, 0, 0], [0, 1280.0, -128]]),
        np.array([[-1024.0, 0, 1024], [0, 1024.0, 0]]),
        np.array([[900.0, 160.0, 10], [-160.0, 900.0, 120]]),
        np.array([[600.0, 0, 300], [0, 500.0, 200]]),
    ],
    ids=["letterbox", "flip", "rotation", "crop"],
)
@pytest.mark.parametrize("grid", [7, 16, 64])
def test_convention_boxes_are_on_the_film_whatever_the_frame(frame, grid):
    spot = np.array([0.55, 0.45])
    found = PeakComponent()(blob(*spot, 0.12, grid), frame, SIZE)
    centre = (found.xyxy[0, :2] + found.xyxy[0, 2:]) / 2
    np.testing.assert_allclose(centre, frame[:, :2] @ spot + frame[:, 2], atol=25)


def test_a_peak_off_the_film_does_not_set_the_scale():
    off = blob(0.1, 0.5, 0.05) * 10 + blob(0.7, 0.5, 0.08)
    right_half = np.array([[2048.0, 0, -1024], [0, 1024.0, 0]])
    found = PeakComponent()(off, right_half, SIZE)
    centre = (found.xyxy[0, 0] + found.xyxy[0, 2]) / 2
    assert centre == pytest.approx(0.4 * 1024, abs=10)


def test_no_box_where_the_map_lies_beside_the_film():
    assert len(FixedThresholds()(blob(0.5, 0.5, 0.1), np.array([[100.0, 0, 2000], [0, 100, 0]]), SIZE)) == 0


def test_min_area_leaves_small_regions_out():
    two = blob(0.25, 0.25, 0.15) + blob(0.8, 0.8, 0.03)
    assert len(FixedThresholds(levels=(127.5,))(two, FILM, SIZE)) == 2
    assert len(FixedThresholds(levels=(127.5,), min_area=0.01)(two, FILM, SIZE)) == 1
    assert len(PeakComponent(min_area=0.9)(two, FILM, SIZE)) == 0


@rules
@given(st.sampled_from([np.nan, np.inf, -np.inf]))
@settings(max_examples=5)
def test_a_map_with_holes_is_refused(rule, broken):
    values = blob(0.5, 0.5, 0.1)
    values[3, 3] = broken
    with pytest.raises(ValueError, match="a map must be finite"):
        rule(values, FILM, SIZE)


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (FixedThresholds, {"levels": ()}, "levels must name at least one"),
        (FixedThresholds, {"levels": (60, 255)}, r"a threshold must be in \[0, 255\); got 255"),
        (FixedThresholds, {"levels": (-1,)}, "got -1"),
        (FixedThresholds, {"of": 0}, "of must be a positive number"),
        (FixedThresholds, {"levels": (float("nan"),)}, "got nan"),
        (PeakComponent, {"threshold": 1.0}, r"in \[0, 1\); got 1.0"),
        (PeakComponent, {"raster": 0}, "raster must be at least 1"),
        (SeveralThresholds, {"connectivity": 6}, "connectivity 4 or 8"),
        (SeveralThresholds, {"min_area": 1.0}, r"min_area in \[0, 1\)"),
    ],
)
def test_bad_options_are_refused_by_name(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options)


def test_a_score_may_be_the_mean_of_the_whole_box():
    # An L of five cells in a box of nine: 3 in the L, 1 in the rest of the box, 0 elsewhere.
    corner = np.zeros((16, 16))
    corner[4:7, 4:7], corner[4:7, 4], corner[6, 4:7] = 1.0, 3.0, 3.0
    for rule, levels in ((PeakComponent, {"threshold": 0.5}), (SeveralThresholds, {"levels": (0.5,)})):
        region, box = (rule(**levels, raster=16, mean_of=m)(corner, FILM, SIZE) for m in ("region", "box"))
        assert region.xyxy.tolist() == box.xyxy.tolist()
        assert (region.score[0], box.score[0]) == pytest.approx((3.0, (5 * 3 + 4 * 1) / 9))


def test_the_mean_of_a_box_counts_only_cells_that_the_map_covers():
    # The map covers the left half of the film; a box that ends there has no cell beyond.
    left = Frame.of_size(*SIZE).then_crop(0.0, 0.0, 0.5, 1.0).matrix
    ramp = np.tile(np.linspace(0, 1, 8), (16, 1))
    found = PeakComponent(0.5, raster=16, mean_of="box")(ramp, left, SIZE)
    assert found.xyxy[0, 2] == SIZE[0] / 2
    assert found.score[0] > 0.5


@pytest.mark.parametrize("parts", ["each", "peak", "extent"])
def test_an_absolute_level_does_not_look_at_the_maps_range(parts):
    two = np.zeros((16, 16))
    two[2:5, 2:5], two[10:14, 8:12] = 0.6, 0.8
    boxes = {"each": [[8, 10, 12, 14], [2, 2, 5, 5]], "peak": [[8, 10, 12, 14]], "extent": [[2, 2, 12, 14]]}[parts]
    rule = AbsoluteLevel(0.5, parts, raster=16)
    assert (rule(two, FILM, SIZE).xyxy / (SIZE[0] / 16)).tolist() == boxes
    # Another cell far above, or below, changes what a share of the range is, and nothing here.
    lowered = two.copy()
    lowered[0, 15] = -9.0
    assert rule(lowered, FILM, SIZE).xyxy.tolist() == rule(two, FILM, SIZE).xyxy.tolist()
    assert len(AbsoluteLevel(0.8, parts, raster=16)(two, FILM, SIZE)) == 0


@pytest.mark.parametrize("parts", ["each", "peak", "extent"])
def test_a_constant_map_is_the_film_above_the_level_and_nothing_below(parts):
    flat = np.full((4, 4), 0.5)
    whole = AbsoluteLevel(0.4, parts)(flat, FILM, SIZE)
    assert whole.xyxy.tolist() == [[0, 0, *SIZE]]
    assert whole.score.tolist() == pytest.approx([0.5])
    assert len(AbsoluteLevel(0.5, parts)(flat, FILM, SIZE)) == 0
    assert len(AbsoluteLevel(0.4, parts)(np.full((4, 4), np.nan), FILM, SIZE)) == 0


def test_the_extent_is_scored_by_the_marked_cells_alone_and_specks_may_be_left_out():
    two = np.zeros((16, 16))
    two[2, 2], two[10:14, 8:12] = 0.6, 0.8
    extent = AbsoluteLevel(0.5, "extent", raster=16)(two, FILM, SIZE)
    assert extent.score.tolist() == pytest.approx([(0.6 + 16 * 0.8) / 17])
    big = AbsoluteLevel(0.5, raster=16, min_area=2 / 256)(two, FILM, SIZE)
    assert big.score.tolist() == pytest.approx([0.8])


def test_options_of_an_absolute_level_out_of_range_are_refused():
    for options, match in (({"level": np.nan}, "level must be a finite number"),
                           ({"level": 0.5, "parts": "all"}, "parts must be one of each, peak, extent; got 'all'"),
                           ({"level": 0.5, "raster": 0}, "raster must be at least 1")):  # fmt: skip
        with pytest.raises(ValueError, match=match):
            AbsoluteLevel(**options)
    for rule in (PeakComponent, SeveralThresholds):
        with pytest.raises(ValueError, match="mean_of must be one of region, box; got 'film'"):
            rule(mean_of="film")
    broken = np.zeros((4, 4))
    broken[1, 1] = np.inf
    with pytest.raises(ValueError, match="a map must be finite"):
        AbsoluteLevel(0.5)(broken, FILM, SIZE)
