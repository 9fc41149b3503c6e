"""Components against scipy's and against a flood fill in plain Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cxrlocus.regions.components import component_at, components

STRUCTURE = {8: np.ones((3, 3)), 4: None}


def expected(mask, values, connectivity):
    labels, _ = ndimage.label(mask, structure=STRUCTURE[connectivity])
    rows = []
    for k, (ys, xs) in enumerate(ndimage.find_objects(labels), start=1):
        cells = values[labels == k].astype(np.float64)
        rows.append(((xs.start, ys.start, xs.stop, ys.stop), cells.size, cells.max(), cells.mean()))
    return sorted(rows, key=lambda row: (row[0][1], row[0][0], row[1:]))


@given(st.integers(0, 10**6), st.floats(0.02, 0.98), st.sampled_from([4, 8]), st.integers(1, 24), st.integers(1, 24))
@settings(max_examples=100)
def test_reference_scipy(seed, share, connectivity, h, w):
    rng = np.random.default_rng(seed)
    mask, values = rng.random((h, w)) < share, rng.normal(size=(h, w)).astype(np.float32)
    found = components(mask, values, connectivity)
    columns = (map(tuple, found.boxes.tolist()), found.area.tolist(), found.peak.tolist(), found.mean.tolist())
    rows = sorted(zip(*columns, strict=True), key=lambda row: (row[0][1], row[0][0], row[1:]))
    want = expected(mask, values, connectivity)
    assert [row[:3] for row in rows] == [row[:3] for row in want]
    np.testing.assert_allclose([row[3] for row in rows], [row[3] for row in want], atol=1e-5)


@given(st.integers(0, 10**6), st.floats(0.2, 0.8), st.sampled_from([4, 8]))
@settings(max_examples=60)
def test_the_component_at_a_cell_is_a_flood_fill_from_it(seed, share, connectivity):
    rng = np.random.default_rng(seed)
    mask, values = rng.random((12, 15)) < share, rng.normal(size=(12, 15)).astype(np.float32)
    row, column = int(rng.integers(12)), int(rng.integers(15))
    seen, todo = set(), [(row, column)] if mask[row, column] else []
    while todo:
        y, x = todo.pop()
        if (y, x) in seen or not (0 <= y < 12 and 0 <= x < 15) or not mask[y, x]:
            continue
        seen.add((y, x))
        steps = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1) if connectivity == 8 or abs(dy) + abs(dx) == 1]
        todo += [(y + dy, x + dx) for dy, dx in steps]
    found = component_at(mask, values, row, column, connectivity)
    assert found.area.tolist() == ([len(seen)] if seen else [])
    if seen:
        ys, xs = zip(*seen, strict=True)
        assert found.boxes.tolist() == [[min(xs), min(ys), max(xs) + 1, max(ys) + 1]]


def test_convention_corners_join_by_default():
    mask, values = np.eye(4, dtype=bool), np.zeros((4, 4), np.float32)
    assert len(components(mask, values)) == 1
    assert len(components(mask, values, connectivity=4)) == 4


def test_limits_empty_full_and_thousands_of_specks():
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert len(components(np.zeros((3, 4), bool), values)) == 0
    full = components(np.ones((3, 4), bool), values)
    assert (full.boxes.tolist(), full.area.tolist(), full.peak.tolist(), full.mean.tolist()) == (
        [[0, 0, 4, 3]],
        [12],
        [11.0],
        [5.5],
    )
    checkers = np.indices((400, 400)).sum(0) % 2 == 0
    assert len(components(checkers, np.zeros((400, 400), np.float32), connectivity=4)) == 80_000


def test_a_region_in_the_hole_of_another_is_its_own():
    mask = np.ones((7, 7), bool)
    mask[1:6, 1:6] = False
    mask[3, 3] = True
    assert components(mask, mask.astype(np.float32)).boxes.tolist() == [[0, 0, 7, 7], [3, 3, 4, 4]]


def test_invariance_transposing():
    rng = np.random.default_rng(5)
    mask, values = rng.random((30, 20)) < 0.3, rng.normal(size=(30, 20)).astype(np.float32)
    straight, turned = components(mask, values), components(mask.T, values.T)
    assert sorted(map(tuple, straight.boxes.tolist())) == sorted((b, a, d, c) for a, b, c, d in turned.boxes.tolist())


def test_bad_input_is_refused_by_name():
    mask, values = np.ones((3, 3), bool), np.zeros((3, 3), np.float32)
    with pytest.raises(ValueError, match=r"same \(h, w\); got \(3, 3\) and \(2, 3\)"):
        components(mask, values[:2])
    with pytest.raises(ValueError, match="connectivity must be 4 or 8; got 6"):
        components(mask, values, connectivity=6)
    with pytest.raises(ValueError, match=r"got \(3, 0\)"):
        component_at(mask, values, 3, 0)
