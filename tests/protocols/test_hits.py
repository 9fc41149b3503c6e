"""True boxes hit and boxes wasted, as rows: by hand, by narrowing, by what is undefined. (More by wang2017's tests.)"""

import math

import numpy as np
import pytest
from box_worlds import film, found, index_of

from cxrlocus.protocols.hits import accuracy_rows, box_case, false_rows, judge, mean_rows, only_findings
from cxrlocus.protocols.shared import FilmBoxes, RunLabel
from cxrlocus.regions.boxes import paired_iou

LABEL = RunLabel("made", "", "toy", "fixed", "a note")


def world():
    index = index_of([
        film("a", ("Mass", 0, 0, 10, 10), ("Nodule", 0, 0, 10, 10)), film("b", ("Mass", 0, 0, 10, 10)), film("c")
    ])  # fmt: skip
    boxes = found("abc", [(0, "Mass", 0, 0, 10, 6), (0, "Nodule", 20, 0, 30, 10), (2, "Mass", 0, 0, 10, 10)])
    return index, box_case(boxes, index, LABEL, 0, 0)


def cells(rows):
    return {(r.finding, r.threshold): (r.value, r.n) for r in rows}


def test_hits_and_wasted_boxes_of_three_films_by_hand():
    index, case = world()
    hit, false = judge(case, paired_iou, (0.5, 0.6))
    assert hit.tolist() == [[True, False], [False, False], [False, False]]
    # The box on the film that has no true box is not counted.
    assert false.tolist() == [[False, True], [True, True]]
    got = cells(accuracy_rows("p", case, "q", (0.5, 0.6), hit))
    assert got["Mass", 0.5] == (0.5, 2)
    assert got["Nodule", 0.5] == (0.0, 1)
    assert got["mean", 0.5] == (0.25, 3)
    assert got["pooled", 0.5] == (pytest.approx(1 / 3), 3)
    every = np.bincount(case.patient[case.truth.film])[:, None]
    assert cells(false_rows("p", case, "q", (0.5, 0.6), false, every))["Nodule", 0.5] == (pytest.approx(1 / 3), 3)
    own = np.array([[1, 1], [1, 0]])
    assert cells(false_rows("p", case, "q", (0.5, 0.6), false, own))["Nodule", 0.5] == (1.0, 1)
    assert {f: k for f, k in zip(index.findings, case.column.tolist(), strict=True) if k >= 0} == {
        "Mass": 0,
        "Nodule": 1,
    }


def test_narrowing_leaves_a_finding_out_of_everything_and_lists_it():
    _, case = world()
    narrow = only_findings(case, {"Nodule"}, "not asked for")
    hit, _ = judge(narrow, paired_iou, (0.5,))
    rows = accuracy_rows("p", narrow, "q", (0.5,), hit, note="and so", detail="x=1")
    assert cells(rows)["mean", 0.5] == cells(rows)["pooled", 0.5] == (0.0, 1)
    (mass,) = [r for r in rows if r.finding == "Mass"]
    assert math.isnan(mass.value)
    assert (mass.n, mass.note) == (0, "a note; not asked for")
    assert {r.detail for r in rows} == {"x=1"}
    assert next(r.note for r in rows if r.finding == "Nodule") == "a note; and so"
    none = only_findings(narrow, (), "nor this")
    rows = accuracy_rows("p", none, "q", (0.5,), hit)
    assert {r.finding: r.n for r in rows} == {"mean": 0, "pooled": 0, "Mass": 0, "Nodule": 0}
    assert all(math.isnan(r.value) for r in rows)


def test_a_mean_leaves_out_what_is_undefined():
    _, case = world()
    of = FilmBoxes(np.array([0, 1, 0]), case.truth.finding[[0, 2, 1]], np.zeros((3, 4)))
    got = cells(mean_rows("p", case, "q", (0.5,), np.array([[0.25], [math.nan], [0.75]]), of))
    assert got["Mass", 0.5] == (0.25, 1)
    assert got["pooled", 0.5] == (0.5, 2)
    assert got["mean", 0.5] == (0.5, 2)
