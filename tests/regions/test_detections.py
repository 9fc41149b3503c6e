"""Detections: a table of boxes that is valid once built."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrlocus.regions.detections import Detections
from cxrlocus.types import Findings

IMAGES, FINDINGS = ("a", "b"), Findings(("Mass", "Nodule"))
BOX = [0.0, 0.0, 2.0, 3.0]


def made(**columns: object) -> Detections:
    plain = {"image": [0, 1, 0], "finding": [0, 1, 0], "xyxy": [BOX, [1, 1, 2, 2], [5, 5, 9, 9]], "score": [1, 2, 3]}
    return Detections(IMAGES, FINDINGS, **{**plain, **columns})  # type: ignore[arg-type]  # lists will do


def test_boxes_of_a_film_and_finding_in_order() -> None:
    assert made().of(0, 0).tolist() == [BOX, [5.0, 5.0, 9.0, 9.0]]
    assert made().of(1, 1).tolist() == [[1.0, 1.0, 2.0, 2.0]]
    assert made().of(1, 0).shape == (0, 4)
    assert len(made()) == 3


def test_columns_have_one_type_whatever_came_in() -> None:
    table = made()
    assert (table.image.dtype, table.finding.dtype) == (np.int64, np.int64)
    assert (table.xyxy.dtype, table.score.dtype) == (np.float64, np.float64)


def test_no_box_is_a_table_too() -> None:
    empty = Detections(IMAGES, FINDINGS, [], [], [], [])  # type: ignore[arg-type]  # lists will do
    assert len(empty) == 0
    assert empty.xyxy.shape == (0, 4)
    assert empty.of(0, 0).shape == (0, 4)


@pytest.mark.parametrize("column", ["image", "finding", "score"])
def test_columns_of_other_lengths_are_refused(column: str) -> None:
    with pytest.raises(ValueError, match="must have one row a box"):
        made(**{column: [0, 0]})


@given(
    st.sampled_from(["image", "finding"]),
    st.integers().filter(lambda k: not 0 <= k < 2).filter(lambda k: abs(k) < 2**62),
)
def test_positions_out_of_range_are_refused(column: str, position: int) -> None:
    with pytest.raises(ValueError, match=f"{column} must be a position below 2"):
        made(**{column: [0, 0, position]})


@given(st.integers(0, 3), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_corners_that_are_no_numbers_are_refused(corner: int, value: float) -> None:
    box = list(BOX)
    box[corner] = value
    with pytest.raises(ValueError, match="xyxy and score must be numbers"):
        made(xyxy=[BOX, BOX, box])


def test_a_score_may_be_infinite_but_not_nan() -> None:
    assert made(score=[np.inf, -np.inf, 0]).score[0] == np.inf
    with pytest.raises(ValueError, match="xyxy and score must be numbers"):
        made(score=[0, 0, np.nan])


@given(st.floats(-100, 100), st.floats(-100, 100), st.floats(0, 100), st.floats(0, 100))
def test_a_box_is_refused_exactly_when_it_is_empty(x: float, y: float, w: float, h: float) -> None:
    box = [x, y, x + w, y + h]
    if box[2] > box[0] and box[3] > box[1]:
        assert made(xyxy=[box] * 3).of(0, 0)[0].tolist() == box
        return
    with pytest.raises(ValueError, match="a box must have x1 > x0 and y1 > y0"):
        made(xyxy=[BOX, BOX, box])
