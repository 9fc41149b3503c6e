"""Boxes by places: only the other half's boxes are places, a patient's own never choose, and a good map pays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cxrlocus.data.records import Index, Record, TruthBox
from cxrlocus.data.splits import kfold_of_patients
from cxrlocus.errors import DataError
from cxrlocus.prediction.store import Predictions
from cxrlocus.protocols.either import boxes_by_either, left_out_hits
from cxrlocus.protocols.places import SPREAD, TRUSTS, boxes_by_places, guide, known_boxes
from cxrlocus.protocols.policies import boxes_by_policy
from cxrlocus.regions.boxes import iou
from cxrlocus.regions.detections import Detections
from cxrlocus.types import Findings, Frame

FINDINGS = Findings(("Mass", "Cardiomegaly", "Hernia"))
SIDE = 200


def world(n: int = 24, sees: float = 1.0, seed: int = 0) -> tuple[Predictions, Index]:
    """Masses on the left or on the right, hearts in one place; maps that see the right side with this strength."""
    draw = np.random.default_rng(seed)
    maps, records = draw.normal(0, 0.05, (n, 3, 8, 8)).astype(np.float32), []
    for i in range(n):
        x = draw.choice([10.0, 140.0]) + draw.uniform(0, 8)
        y = 60 + draw.uniform(0, 8)
        side = slice(0, 4) if x < 100 else slice(4, 8)
        maps[i, 0, :, side] += sees
        boxes = (TruthBox("Mass", (x, y, x + 50, y + 60)), TruthBox("Cardiomegaly", (60.0, 90.0, 150.0, 170.0)))
        records.append(Record(f"{i}.png", Path(f"{i}.png"), f"p{i // 2}", boxes=boxes))
    index = Index("some", Path(), FINDINGS, tuple(records))
    frames = np.tile(Frame.of_size(SIDE, SIDE).matrix, (n, 1, 1))
    sizes, prob = np.full((n, 2), SIDE, np.int64), np.full((n, 3), 0.5, np.float32)
    return Predictions({"method": "sides"}, index.images, FINDINGS, prob, maps, frames, sizes, "logit"), index


def accuracy(found: Detections, index: Index, finding: str) -> float:
    c = FINDINGS.index(finding)
    truth = [(i, b.xyxy) for i, r in enumerate(index.records) for b in r.boxes if b.finding == finding]
    return float(np.mean([(iou(found.of(i, c), np.array([box])) > 0.3).any() for i, box in truth]))


def test_a_map_that_tells_the_side_finds_the_box() -> None:
    predictions, index = world()
    found, note = boxes_by_places(predictions, index)
    assert accuracy(found, index, "Mass") == 1.0
    assert accuracy(found, index, "Cardiomegaly") == 1.0
    assert "0" not in note.split("trusted ")[1].split(" and ")


def test_a_map_that_tells_nothing_leaves_the_most_frequent_place() -> None:
    predictions, index = world(sees=0.0)
    found, _ = boxes_by_places(predictions, index)
    # No better than always the same side.
    assert accuracy(found, index, "Mass") <= 0.75
    assert accuracy(found, index, "Cardiomegaly") == 1.0


def test_a_map_that_tells_the_wrong_side_is_not_trusted() -> None:
    predictions, index = world(sees=-1.0)
    known = known_boxes(predictions, index, np.ones(len(index), bool))
    assert guide(predictions, known, [r.patient for r in index.records]).trust == 0.0


def test_places_are_the_other_halfs_boxes_and_mirror_images_of_what_has_two_sides() -> None:
    predictions, index = world()
    found, _ = boxes_by_places(predictions, index, seed=3)
    fold = kfold_of_patients([r.patient for r in index.records], 2, seed=3)
    for i, c, box in zip(found.image, found.finding, found.xyxy, strict=True):
        others = [
            np.array(b.xyxy)
            for k, r in enumerate(index.records)
            for b in r.boxes
            if fold[k] != fold[i] and b.finding == FINDINGS.names[c]
        ]
        images = [[SIDE - b[2], b[1], SIDE - b[0], b[3]] for b in others] if c == 0 else []
        away = (np.array([*others, *images]) - box) / (SPREAD * SIDE)
        whole = np.isclose(away, away.round()) & (np.abs(away) < 2.5)
        alike = np.isclose(away[:, :2], away[:, 2:]).all(axis=1)
        assert (whole.all(axis=1) & alike).any(), "a place, or one of the two steps around it that it stands for"


def test_a_halfs_own_boxes_say_nothing_of_its_boxes() -> None:
    predictions, index = world()
    fold = kfold_of_patients([r.patient for r in index.records], 2, seed=0)
    moved = tuple(
        replace(r, boxes=tuple(TruthBox(b.finding, (1.0, 1.0, 9.0, 9.0)) for b in r.boxes)) if half == 1 else r
        for r, half in zip(index.records, fold, strict=True)
    )
    before, after = (boxes_by_places(predictions, one)[0] for one in (index, replace(index, records=moved)))
    for i in np.flatnonzero(fold == 1).tolist():
        for c in range(2):
            assert after.of(i, c).tolist() == before.of(i, c).tolist()
    assert any(after.of(i, 0).tolist() != before.of(i, 0).tolist() for i in np.flatnonzero(fold == 0).tolist())


def test_trust_is_not_chosen_by_a_patients_own_box(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each film's map points at that film's own box alone; were it among the places, any trust would be perfect."""
    # Other patients' places would reach it too, were they spread.
    monkeypatch.setattr("cxrlocus.protocols.places.SPREAD", 0.0)
    draw = np.random.default_rng(0)
    n, cells = 12, np.arange(16)
    maps, records = np.zeros((n, 3, 16, 16), np.float32), []
    for i in range(n):
        x, y = 12.5 * (i % 4) * 4, 12.5 * (i // 4) * 4
        inside = (np.abs(cells * 12.5 - x) < 13)[None] & (np.abs(cells * 12.5 - y) < 13)[:, None]
        maps[i, 0][inside] = 1.0
        maps[i] += draw.normal(0, 0.01, (3, 16, 16))
        records.append(Record(f"{i}.png", Path(f"{i}.png"), f"p{i}", boxes=(TruthBox("Mass", (x, y, x + 24, y + 24)),)))
    index = Index("some", Path(), FINDINGS, tuple(records))
    frames = np.tile(Frame.of_size(SIDE, SIDE).matrix, (n, 1, 1))
    sizes, prob = np.full((n, 2), SIDE, np.int64), np.full((n, 3), 0.5, np.float32)
    predictions = Predictions({"method": "own"}, index.images, FINDINGS, prob, maps, frames, sizes, "logit")
    known = known_boxes(predictions, index, np.ones(n, bool))
    assert guide(predictions, known, [r.patient for r in records]).trust == TRUSTS[0]


def test_a_finding_without_boxes_gets_none_and_a_gate_holds() -> None:
    predictions, index = world()
    gate = np.ones((len(index), 3), bool)
    gate[0] = False
    done: list[int] = []
    found, _ = boxes_by_places(predictions, index, gate=gate, progress=done.append)
    assert FINDINGS.index("Hernia") not in found.finding
    assert 0 not in found.image
    assert len(found) == 2 * (len(index) - 1)
    assert done == list(range(1, len(index) + 1))


def test_without_any_box_nothing_is_found() -> None:
    predictions, index = world(4)
    bare = replace(index, records=tuple(replace(r, boxes=()) for r in index.records))
    found, _ = boxes_by_places(predictions, bare)
    assert len(found) == 0
    assert found.images == predictions.images


def test_one_patient_has_no_others() -> None:
    predictions, index = world(2)
    with pytest.raises(DataError, match="patient"):
        boxes_by_places(predictions, index)


def test_either_takes_the_way_that_served_other_patients() -> None:
    """Maps tell the side of a mass and nothing of a heart, which is always in one place."""
    predictions, index = world(n=40)
    found, note = boxes_by_either(predictions, index)
    heights, _ = boxes_by_policy(predictions, index, "validation")
    assert accuracy(found, index, "Cardiomegaly") == 1.0 > accuracy(heights, index, "Cardiomegaly")
    assert "Cardiomegaly places" in note
    # A map that is the box itself: no place of others is as good.
    exact, n = world(n=40, sees=0.0)[0], 40
    maps = np.zeros((n, 3, 50, 50), np.float32)
    moved = []
    draw = np.random.default_rng(5)
    for i, record in enumerate(index.records):
        x, y = (float(v) for v in 4 * draw.integers(0, 36, 2))
        maps[i, 0, round(y / 4) : round(y / 4) + 12, round(x / 4) : round(x / 4) + 12] = 1.0
        moved.append(replace(record, boxes=(TruthBox("Mass", (x, y, x + 48, y + 48)),)))
    seen, there = replace(exact, maps=maps), replace(index, records=tuple(moved))
    found, note = boxes_by_either(seen, there)
    assert accuracy(found, there, "Mass") == 1.0
    assert "Mass heights" in note


def test_either_is_heights_or_places_film_by_film() -> None:
    predictions, index = world(n=30, sees=0.3, seed=2)
    found, _ = boxes_by_either(predictions, index)
    ways = [boxes_by_policy(predictions, index, "validation")[0], boxes_by_places(predictions, index)[0]]
    for i in range(len(index)):
        for c in range(3):
            assert found.of(i, c).tolist() in [way.of(i, c).tolist() for way in ways]


def test_a_height_is_not_chosen_by_the_patient_that_it_serves() -> None:
    # Three patients, each hit at a height of its own: chosen by the others, none is.
    hits = np.eye(3, dtype=np.int64)[:, :, None]
    assert left_out_hits(hits, ["a", "b", "c"]).tolist() == [0.0]
    assert left_out_hits(hits, ["a", "a", "a"]).tolist() == [1.0]
    alike = np.ones((2, 3, 1), dtype=np.int64)
    assert left_out_hits(alike, ["a", "b", "c"]).tolist() == [3.0]
