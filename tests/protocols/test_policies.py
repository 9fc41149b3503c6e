"""Threshold policies: fixed is fixed, validation never sees its own half, the oracle is a bound."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrlocus.data.records import Index, Record, TruthBox
from cxrlocus.data.splits import kfold_of_patients
from cxrlocus.errors import DataError, PredictionsError
from cxrlocus.prediction.boxing import find_boxes
from cxrlocus.prediction.store import Predictions
from cxrlocus.protocols.policies import CHOOSING_IOU, HEIGHTS, boxes_by_policy, check_halves, hits_by_film
from cxrlocus.regions.boxes import iou
from cxrlocus.regions.detections import Detections
from cxrlocus.regions.rules import FixedThresholds, PeakComponent
from cxrlocus.types import Findings, Frame

FINDINGS = Findings(("Mass", "Nodule"))
SIDE = 160


def world(n: int = 10, seed: int = 0) -> tuple[Predictions, Index]:
    """Films of 160 px with one or two boxes, and maps that are hills near them, each of its own width."""
    draw = np.random.default_rng(seed)
    v, u = np.meshgrid(*((np.arange(16) + 0.5) * 10,) * 2, indexing="ij")
    maps, records = np.zeros((n, 2, 16, 16), np.float32), []
    for i in range(n):
        boxes = []
        for c, finding in enumerate(FINDINGS):
            x, y = draw.uniform(20, 90, 2)
            w, h = draw.uniform(20, 50, 2)
            shift, wide = draw.uniform(-15, 15, 2), draw.uniform(0.3, 1.2)
            distance = ((u - x - w / 2 - shift[0]) / w) ** 2 + ((v - y - h / 2 - shift[1]) / h) ** 2
            maps[i, c] = np.exp(-distance / wide)
            if draw.random() < 0.8:
                boxes.append(TruthBox(finding, (x, y, x + w, y + h)))
        records.append(Record(f"{i}.png", Path(f"{i}.png"), f"p{i // 2}", boxes=tuple(boxes)))
    index = Index("some", Path(), FINDINGS, tuple(records))
    frames = np.tile(Frame.of_size(SIDE, SIDE).matrix, (n, 1, 1))
    sizes = np.full((n, 2), SIDE, np.int64)
    prob = np.full((n, 2), 0.5, np.float32)
    return Predictions({"method": "hills"}, index.images, FINDINGS, prob, maps, frames, sizes, "logit"), index


def rows(found: Detections, image: int) -> list[list[float]]:
    return sorted(
        [*map(float, (c, *box, s))]
        for i, c, box, s in zip(found.image, found.finding, found.xyxy, found.score, strict=True)
        if i == image
    )


def hits(found: Detections, index: Index) -> np.ndarray:
    return hits_by_film(found, index, CHOOSING_IOU).sum(axis=0)


def test_fixed_is_wangs_levels_and_needs_no_boxes() -> None:
    predictions, index = world()
    found, note = boxes_by_policy(predictions, index, "fixed")
    expected = find_boxes(predictions, FixedThresholds(levels=(60.0, 180.0), of=255.0))
    assert np.array_equal(found.xyxy, expected.xyxy)
    assert np.array_equal(found.score, expected.score)
    assert "60 and 180" in note
    bare = replace(index, records=tuple(replace(r, boxes=()) for r in index.records))
    assert np.array_equal(boxes_by_policy(predictions, bare, "fixed")[0].xyxy, found.xyxy)


def test_the_oracle_takes_each_findings_best_height() -> None:
    predictions, index = world()
    found, note = boxes_by_policy(predictions, index, "oracle")
    by_height = np.array([hits(find_boxes(predictions, PeakComponent(h)), index) for h in HEIGHTS])
    assert hits(found, index).tolist() == by_height.max(axis=0).tolist()
    chosen = [HEIGHTS[k] for k in by_height.argmax(axis=0)]
    assert note == f"heights from these test boxes: Mass {chosen[0]:g}; Nodule {chosen[1]:g}"
    for c in range(2):
        alone = find_boxes(predictions, PeakComponent(chosen[c]))
        for i in range(len(predictions)):
            assert np.array_equal(found.of(i, c), alone.of(i, c))


def test_validation_takes_the_other_halfs_best_height() -> None:
    predictions, index = world(12)
    found, note = boxes_by_policy(predictions, index, "validation", seed=3)
    fold = kfold_of_patients(index.patients, 2, seed=3)
    by_height = [find_boxes(predictions, PeakComponent(h)) for h in HEIGHTS]
    per_film = np.stack([hits_by_film(d, index, CHOOSING_IOU) for d in by_height])
    for half in (0, 1):
        best = per_film[:, fold != half].sum(axis=1).argmax(axis=0)
        for i in np.flatnonzero(fold == half):
            for c in range(2):
                assert np.array_equal(found.of(i, c), by_height[best[c]].of(i, c))
    assert note.startswith("heights from the boxes of the other half of the patients: Mass 0.")


@settings(max_examples=10)
@given(st.integers(0, 1000), st.integers(0, 1))
def test_a_halfs_own_boxes_never_move_its_boxes(seed: int, half: int) -> None:
    predictions, index = world(10, seed)
    fold = kfold_of_patients(index.patients, 2, seed=0)
    elsewhere = TruthBox("Mass", (0.0, 0.0, 3.0, 3.0))
    moved = tuple(replace(r, boxes=(elsewhere,)) if f == half else r for r, f in zip(index.records, fold, strict=True))
    before, _ = boxes_by_policy(predictions, index, "validation")
    after, _ = boxes_by_policy(predictions, replace(index, records=moved), "validation")
    for i in np.flatnonzero(fold == half):
        assert rows(before, i) == rows(after, i)


def test_the_other_halfs_boxes_do_move_them() -> None:
    predictions, index = world()
    fold = kfold_of_patients(index.patients, 2, seed=0)
    bare = tuple(replace(r, boxes=()) if f == 0 else r for r, f in zip(index.records, fold, strict=True))
    before, _ = boxes_by_policy(predictions, index, "validation")
    after, _ = boxes_by_policy(predictions, replace(index, records=bare), "validation")
    assert any(rows(before, i) != rows(after, i) for i in np.flatnonzero(fold == 1))


@settings(max_examples=15)
@given(st.integers(0, 10_000))
def test_the_oracle_hits_at_least_what_validation_hits(seed: int) -> None:
    predictions, index = world(8, seed)
    oracle, _ = boxes_by_policy(predictions, index, "oracle")
    validation, _ = boxes_by_policy(predictions, index, "validation")
    assert (hits(oracle, index) >= hits(validation, index)).all()


def test_a_patients_films_share_a_half() -> None:
    predictions, index = world(12)
    one = replace(index, records=tuple(replace(r, patient=f"p{i % 2}") for i, r in enumerate(index.records)))
    found, _ = boxes_by_policy(predictions, one, "validation")
    per_film = np.stack([hits_by_film(find_boxes(predictions, PeakComponent(h)), one, CHOOSING_IOU) for h in HEIGHTS])
    for parity in (0, 1):
        best = per_film[:, 1 - parity :: 2].sum(axis=1).argmax(axis=0)
        alone = find_boxes(predictions, PeakComponent(HEIGHTS[best[0]]))
        assert all(np.array_equal(found.of(i, 0), alone.of(i, 0)) for i in range(parity, 12, 2))


def test_predicted_films_without_truth_keep_a_box() -> None:
    predictions, index = world()
    for policy in ("oracle", "validation"):
        found, _ = boxes_by_policy(predictions, index.subset([0, 1, 2, 3, 4, 5]), policy)  # type: ignore[arg-type]  # a Literal
        assert found.images == predictions.images
        assert len(found.of(9, 0)) == 1


def test_a_finding_that_a_half_has_no_box_of_takes_the_height_of_all_and_says_so() -> None:
    predictions, index = world(12)
    fold = kfold_of_patients(index.patients, 2, seed=0)
    lone = tuple(
        replace(r, boxes=tuple(b for b in r.boxes if b.finding == "Mass" or f == 1))
        for r, f in zip(index.records, fold, strict=True)
    )
    index = replace(index, records=lone)
    found, note = boxes_by_policy(predictions, index, "validation")
    by_height = [find_boxes(predictions, PeakComponent(h)) for h in HEIGHTS]
    # By hand: the first half's hits, of Mass alone as it has no other, choose for both findings of the second.
    best = np.array([hits(d, index.subset(np.flatnonzero(fold == 0).tolist())).sum() for d in by_height]).argmax()
    assert best > 0
    for i in np.flatnonzero(fold == 1).tolist():
        assert all(np.array_equal(found.of(i, c), by_height[best].of(i, c)) for c in (0, 1))
    assert "Nodule" in note
    assert note.endswith("(by all findings' boxes, there being none of it)")
    assert note.count("by all findings") == 1


def test_boxes_on_one_half_alone_choose_for_nobody_and_are_refused() -> None:
    predictions, index = world(12)
    fold = kfold_of_patients(index.patients, 2, seed=0)
    one_half = tuple(replace(r, boxes=r.boxes if f else ()) for r, f in zip(index.records, fold, strict=True))
    films = predictions.images
    check_halves(films, FINDINGS, index, 0)
    check_halves(films, FINDINGS, replace(index, records=tuple(replace(r, boxes=()) for r in index.records)), 0)
    with pytest.raises(DataError, match=r"both halves of the patients must have boxes; all are in one, of \d patient"):
        check_halves(films, FINDINGS, replace(index, records=one_half), 0)
    with pytest.raises(DataError, match=r"of 1 patient\(s\)"):
        check_halves(films[:2], FINDINGS, index.subset([0, 1]), 0)


def test_hits_by_film_by_hand() -> None:
    index = Index(
        "some", Path(), FINDINGS,
        (
            Record("a", Path("a"), "1", boxes=(TruthBox("Mass", (0, 0, 10, 10)), TruthBox("Mass", (50, 50, 60, 60)))),
            Record("b", Path("b"), "2", boxes=(TruthBox("Nodule", (0, 0, 10, 10)),)),
        ),
    )  # fmt: skip
    boxes = [[0, 0, 10, 6], [0, 0, 10, 8], [0, 0, 10, 5], [20, 20, 30, 30]]
    found = Detections(("a", "b", "c"), FINDINGS, [0, 0, 1, 2], [0, 0, 1, 0], boxes, [1, 1, 1, 1])  # type: ignore[arg-type]  # lists will do
    assert hits_by_film(found, index, 0.45).tolist() == [[1, 0], [0, 1], [0, 0]]
    assert hits_by_film(found, index, 0.5).tolist() == [[1, 0], [0, 0], [0, 0]]
    assert iou(np.array([boxes[2]]), np.array([[0, 0, 10, 10]]))[0, 0] == 0.5


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(PredictionsError, match="policy must be one of fixed, validation, oracle; got 'best'"):
        boxes_by_policy(*world(), "best")  # type: ignore[arg-type]  # wrong on purpose


def test_progress_is_told_for_every_film() -> None:
    told: list[int] = []
    predictions, index = world(4)
    boxes_by_policy(predictions, index, "oracle", progress=told.append)
    assert told == [1, 2, 3, 4] * len(HEIGHTS)


def test_policies_need_no_torch() -> None:
    assert "torch" not in vars(sys.modules["cxrlocus.protocols.policies"])
