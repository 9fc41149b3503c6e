"""Boxes at many levels: against scipy's components, against a box rule, limits, invariance, bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cxrlocus.regions.levels import boxes_above, shares_of_range
from cxrlocus.regions.rules import FixedThresholds

SEED = st.integers(0, 10**6)


def grid_of(seed, h=14, w=17):
    """Noise, smoothed or not, on few values so that levels meet values."""
    rng = np.random.default_rng(seed)
    grid = ndimage.gaussian_filter(rng.random((h, w)), rng.choice([0.0, 0.7, 1.5]))
    return np.round(grid / grid.max(), 1).astype(np.float32)


def by_scipy(grid, levels):
    """(level, box, filled area) of every component, by another library."""
    out = []
    for k, level in enumerate(levels):
        labels, _ = ndimage.label(grid > np.float32(level), np.ones((3, 3)))
        for number, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
            # A hole is closed where only corners of cells touch: it is reached by sides alone.
            filled = ndimage.binary_fill_holes(labels == number)
            out.append((k, columns.start, rows.start, columns.stop, rows.stop, int(filled.sum())))
    return sorted(out)


@given(SEED)
@settings(max_examples=60)
def test_reference_scipys_components_and_filled_areas(seed):
    grid, levels = grid_of(seed), [0.0, 0.25, 0.5, 0.75, 0.95]
    found = boxes_above(grid, levels)
    rows = zip(found.level.tolist(), found.boxes.tolist(), found.area.tolist(), strict=True)
    assert sorted((k, *box, area) for k, box, area in rows) == by_scipy(grid, levels)


@given(SEED, st.sampled_from([0.1, 0.35, 0.6, 0.8]))
@settings(max_examples=30)
def test_boxes_are_those_of_the_rule_of_fixed_thresholds(seed, share):
    grid = grid_of(seed, 12, 12)
    film = np.array([[12.0, 0, 0], [0, 12.0, 0]])
    rule = FixedThresholds((share,), of=1.0, raster=12)(grid, film, (12, 12))
    found = boxes_above(grid, shares_of_range((float(grid.min()), float(grid.max())), [share]))
    # The rule keeps a box that two regions share once.
    assert sorted({tuple(b) for b in found.boxes.tolist()}) == sorted(map(tuple, rule.xyxy.tolist()))


def test_limits_nothing_everything_one_cell_and_cells_that_are_nan():
    assert len(boxes_above(np.zeros((4, 4)), [0.0, 1.0])) == 0
    whole = boxes_above(np.ones((3, 5)), [0.0])
    assert (whole.boxes.tolist(), whole.area.tolist()) == ([[0, 0, 5, 3]], [15])
    one = np.zeros((4, 4))
    one[2, 1] = 1.0
    assert boxes_above(one, [0.5]).area.tolist() == [1]
    assert len(boxes_above(np.full((4, 4), np.nan), [0.0])) == 0
    assert len(boxes_above(one, [])) == 0


def test_a_component_within_a_hole_is_one_and_the_ring_counts_its_hole():
    ring = np.ones((7, 7))
    ring[1:6, 1:6] = 0
    ring[3, 3] = 1
    found = boxes_above(ring, [0.5])
    assert sorted(found.area.tolist()) == [1, 49]
    assert found.boxes[found.largest].tolist() == [[0, 0, 7, 7]]


@given(SEED)
@settings(max_examples=25)
def test_invariance_a_mirrored_map_has_mirrored_boxes(seed):
    grid, levels = grid_of(seed), [0.2, 0.6]
    found, mirrored = boxes_above(grid, levels), boxes_above(np.ascontiguousarray(grid[:, ::-1]), levels)
    width = grid.shape[1]
    turned = [(k, width - b[2], b[1], width - b[0], b[3]) for k, b in zip(found.level, found.boxes, strict=True)]
    assert sorted(turned) == sorted((k, *b) for k, b in zip(mirrored.level, mirrored.boxes, strict=True))


def test_the_largest_of_equals_is_the_topmost_then_the_leftmost():
    spots = np.zeros((5, 5))
    spots[4, 0:2] = spots[1, 3:5] = spots[1, 0:2] = 1
    found = boxes_above(spots, [0.5])
    assert found.boxes[found.largest].tolist() == [[0, 1, 2, 2]]


def test_cells_off_the_film_are_in_no_component():
    inside = np.ones((3, 4), dtype=bool)
    inside[:, 2] = False
    assert len(boxes_above(np.ones((3, 4)), [0.5], inside)) == 2


@given(st.floats().filter(lambda x: not 0 <= x < 1))
def test_bad_shares_are_refused(share):
    with pytest.raises(ValueError, match="shares must be in"):
        shares_of_range((0.0, 1.0), [0.5, share])


@pytest.mark.parametrize("shapes", [((3,), (1,), None), ((3, 3), (1, 1), None), ((3, 3), (1,), (3, 2))])
def test_bad_shapes_are_refused(shapes):
    values, levels, inside = (None if s is None else np.zeros(s, dtype=bool) for s in shapes)
    with pytest.raises(ValueError, match="values, levels and inside must be"):
        boxes_above(values, levels, inside)
