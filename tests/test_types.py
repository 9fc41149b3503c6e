"""Small frozen values: valid once built."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import FrozenInstanceError

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cxrlocus.types import BOXED8, NIH14, Findings, Frame

numbers = st.floats(-1e3, 1e3)
# A diagonal that outweighs the rest keeps an affine invertible.
affines = arrays(np.float64, (2, 3), elements=st.floats(-10, 10)).map(lambda m: m + 30 * np.eye(2, 3))
points = arrays(np.float64, (4, 2), elements=st.floats(-2, 2))


def test_the_fourteen_findings_begin_with_the_eight_that_have_boxes() -> None:
    assert NIH14.names[:8] == BOXED8.names
    assert (len(BOXED8), len(NIH14)) == (8, 14)
    assert [NIH14.index(name) for name in NIH14] == list(range(14))


@pytest.mark.parametrize("names", [("Mass", "Mass"), ("Mass", "", "Nodule")])
def test_findings_are_distinct_and_named(names: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="findings must"):
        Findings(names)


def test_an_unknown_finding_is_named() -> None:
    with pytest.raises(KeyError, match="finding 'Gout' is not one of Atelectasis"):
        BOXED8.index("Gout")


def test_values_are_frozen() -> None:
    frame = Frame.of_size(4, 4)
    with pytest.raises(FrozenInstanceError):
        frame.matrix = np.zeros((2, 3))  # type: ignore[misc]  # wrong on purpose
    with pytest.raises(ValueError, match="read-only"):
        frame.matrix[0, 0] = 1.0


def test_a_frame_keeps_its_own_copy() -> None:
    given_matrix = np.array([[2.0, 0, 0], [0, 2, 0]])
    frame = Frame(given_matrix)
    given_matrix[:] = 7
    assert frame.matrix.tolist() == [[2.0, 0.0, 0.0], [0.0, 2.0, 0.0]]


def test_the_unit_squares_corners_are_the_films() -> None:
    corners = Frame.of_size(300, 200).to_pixels(np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    assert corners.tolist() == [[0.0, 0.0], [300.0, 0.0], [0.0, 200.0], [300.0, 200.0]]


@given(affines, points)
def test_to_unit_undoes_to_pixels(matrix: np.ndarray, uv: np.ndarray) -> None:
    frame = Frame(matrix)
    np.testing.assert_allclose(frame.to_unit(frame.to_pixels(uv)), uv, atol=1e-5)


@given(affines, affines, points)
def test_compose_is_one_after_the_other(outer: np.ndarray, inner: np.ndarray, uv: np.ndarray) -> None:
    together = Frame(outer).compose(inner).to_pixels(uv)
    np.testing.assert_allclose(together, Frame(outer).to_pixels(Frame(inner).to_pixels(uv)), rtol=1e-9, atol=1e-6)


@given(affines, arrays(np.float64, (3, 4), elements=st.integers(0, 8).map(float)))
def test_a_carried_box_is_the_tightest_around_its_corners(matrix: np.ndarray, boxes: np.ndarray) -> None:
    frame = Frame(matrix)
    for carried, carry in (
        (frame.boxes_to_pixels(boxes), frame.to_pixels),
        (frame.boxes_to_unit(boxes), frame.to_unit),
    ):
        for (x0, y0, x1, y1), got in zip(boxes, carried, strict=True):
            xy = carry(np.array([[a, b] for a in (x0, x1) for b in (y0, y1)]))
            np.testing.assert_allclose(got, [*xy.min(axis=0), *xy.max(axis=0)], rtol=1e-9, atol=1e-9)


def test_crops_nest_and_flips_turn_back() -> None:
    film = Frame.of_size(1000, 500)
    quarter = film.then_crop(0.5, 0, 1, 1).then_crop(0, 0.5, 1, 1)
    assert quarter.to_pixels(np.array([[0.0, 0.0], [1.0, 1.0]])).tolist() == [[500.0, 250.0], [1000.0, 500.0]]
    flipped = film.then_crop(1, 0, 0, 1)
    assert flipped.to_pixels(np.array([[0.0, 0.0]])).tolist() == [[1000.0, 0.0]]
    assert np.array_equal(flipped.then_crop(1, 0, 0, 1).matrix, film.matrix)


@given(
    st.one_of(
        arrays(np.float64, st.tuples(st.integers(0, 3), st.integers(0, 3)).filter(lambda s: s != (2, 3))),
        arrays(np.float64, (2, 3), elements=st.sampled_from([np.nan, np.inf, 1.0])).filter(
            lambda m: not np.isfinite(m).all()
        ),
        numbers.map(lambda k: np.array([[1.0, k, 0.0], [2.0, 2 * k, 0.0]])),
    )
)
def test_a_frame_that_is_none_is_refused(matrix: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"Frame\.matrix must be"):
        Frame(matrix)


def test_types_and_errors_need_no_torch() -> None:
    code = "import sys, cxrlocus.types, cxrlocus.errors; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
