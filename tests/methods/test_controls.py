"""Controls: each one's facts, by hand."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrlocus.data.records import Index, Record, TruthBox
from cxrlocus.methods.baselines.controls import (
    CONTROLS,
    Setting,
    centre_box,
    class_mean_box,
    lung_prior,
    oracle_box,
    random_map,
)  # fmt: skip
from cxrlocus.prediction.store import Predictions
from cxrlocus.regions.boxes import iou
from cxrlocus.regions.detections import Detections
from cxrlocus.types import POLICIES, Findings, Frame

FINDINGS = Findings(("Mass", "Nodule"))


def film(i: int, *boxes: tuple[str, float, float, float, float], patient: str = "") -> Record:
    truth = tuple(TruthBox(b[0], b[1:]) for b in boxes)
    return Record(f"{i}.png", Path(f"{i}.png"), patient or f"p{i}", boxes=truth)


def setting(
    *records: Record, grid: tuple[int, int] = (8, 8), size: tuple[int, int] = (800, 800), seed: int = 0
) -> Setting:
    index = Index("some", Path(), FINDINGS, records)
    sizes = np.tile(np.array(size, dtype=np.int64), (len(records), 1))
    frames = np.tile(Frame.of_size(*size).matrix, (len(records), 1, 1))
    return Setting(index, sizes, frames, FINDINGS, grid, seed)


def many(n: int = 10) -> Setting:
    draw = np.random.default_rng(0)
    corners = draw.uniform(0, 400, (n, 2))
    return setting(*(film(i, ("Mass", x, y, x + 200, y + 300)) for i, (x, y) in enumerate(corners.tolist())))


@pytest.mark.parametrize("name", sorted(CONTROLS))
def test_every_control_says_what_it_is_and_stays_on_the_film(name: str) -> None:
    control, given_setting = CONTROLS[name], many()
    made = control.make(given_setting)
    assert control.knows
    assert control.policy in (*POLICIES, "any")
    assert made.images == given_setting.index.images
    assert made.findings == FINDINGS
    if isinstance(made, Predictions):
        assert control.policy == "any"
        assert made.meta["method"] == name
        assert ((made.maps >= 0) & (made.maps <= 1)).all()
        assert made.frames[0].tolist() == [[800.0, 0.0, 0.0], [0.0, 800.0, 0.0]]
    else:
        assert control.policy != "any"
        assert ((made.xyxy >= 0) & (made.xyxy <= 800)).all()


@pytest.mark.parametrize("name", sorted(CONTROLS))
def test_controls_that_know_nothing_do_not_see_the_boxes(name: str) -> None:
    one, bare = many(), many()
    stripped = replace(bare.index, records=tuple(replace(r, boxes=()) for r in bare.index.records))
    with_boxes, without = CONTROLS[name].make(one), CONTROLS[name].make(replace(bare, index=stripped))
    if isinstance(with_boxes, Predictions):
        assert isinstance(without, Predictions)
        assert np.array_equal(with_boxes.maps, without.maps)
        return
    assert isinstance(without, Detections)
    blind = np.array_equal(with_boxes.xyxy, without.xyxy)
    assert blind == (CONTROLS[name].knows == "nothing")
    assert CONTROLS[name].policy != "fixed" or blind


def test_the_random_map_is_seeded_and_on_the_methods_grid() -> None:
    one = random_map(setting(film(0), film(1), grid=(7, 9), seed=3))
    assert one.maps.shape == (2, 2, 7, 9)
    assert np.array_equal(one.maps, random_map(setting(film(0), film(1), grid=(7, 9), seed=3)).maps)
    assert not np.array_equal(one.maps, random_map(setting(film(0), film(1), grid=(7, 9), seed=4)).maps)
    assert abs(random_map(many(100)).maps.mean() - 0.5) < 0.02


def test_the_lung_prior_is_two_bumps_that_mirror_each_other() -> None:
    prior = lung_prior(many(3)).maps
    assert np.array_equal(prior[0, 0], prior[2, 1])
    assert np.allclose(prior[0, 0], prior[0, 0][:, ::-1], atol=1e-6)
    row, column = np.unravel_index(prior[0, 0][:, :32].argmax(), (64, 32))
    assert (row + 0.5) / 64 == pytest.approx(0.45, abs=0.01)
    assert (column + 0.5) / 64 == pytest.approx(0.3, abs=0.01)


def test_the_centre_box_is_the_middle_half() -> None:
    found = centre_box(setting(film(0), film(1), size=(800, 400)))
    assert len(found) == 4
    assert found.of(1, 1).tolist() == [[200.0, 100.0, 600.0, 300.0]]


def test_the_class_mean_box_by_hand() -> None:
    records = [film(i, ("Mass", 100 * i, 0, 100 * i + 200, 100 + 100 * i)) for i in range(4)]
    found = class_mean_box(setting(*records))
    halves = {found.of(i, 0).tobytes(): [] for i in range(4)}
    for i in range(4):
        halves[found.of(i, 0).tobytes()].append(i)
    assert sorted(map(len, halves.values())) == [2, 2]
    for here in halves.values():
        others = [np.array(r.boxes[0].xyxy) for i, r in enumerate(records) if i not in here]
        assert found.of(here[0], 0)[0].tolist() == pytest.approx(np.mean(others, axis=0).tolist())
    assert len(found.of(0, 1)) == 0


def test_the_class_mean_box_never_uses_the_patients_own_boxes() -> None:
    records = list(many(12).index.records)
    records[1] = replace(records[1], patient=records[0].patient)
    before = class_mean_box(setting(*records))
    moved = [film(i, ("Mass", 0, 0, 5, 5), patient=records[i].patient) if i < 2 else r for i, r in enumerate(records)]
    after = class_mean_box(setting(*moved))
    changed = [i for i in range(12) if not np.array_equal(before.of(i, 0), after.of(i, 0))]
    assert not {0, 1} & set(changed)
    assert changed


def test_the_oracle_box_is_the_truth_where_the_truth_lies_on_the_grid() -> None:
    records = [film(0, ("Mass", 100, 200, 300, 500), ("Nodule", 700, 0, 800, 100)), film(1, ("Mass", 0, 0, 800, 800))]
    given_setting = setting(*records)
    found = oracle_box(given_setting)
    assert len(found) == 3
    for i, record in enumerate(records):
        for box in record.boxes:
            assert found.of(i, FINDINGS.index(box.finding)).tolist() == [list(box.xyxy)]


@settings(max_examples=25)
@given(st.lists(st.floats(0, 780), min_size=4, max_size=4))
def test_the_oracle_box_is_the_best_of_all_boxes_of_the_grid(corners: list[float]) -> None:
    x0, x1 = sorted(corners[:2])
    y0, y1 = sorted(corners[2:])
    truth = (x0, y0, x1 + 20, y1 + 20)
    found = oracle_box(setting(film(0, ("Mass", *truth)), grid=(5, 4)))
    xs, ys = np.arange(5) * 200.0, np.arange(6) * 160.0
    every = [(a, c, b, d) for a, b in product(xs, xs) for c, d in product(ys, ys) if b > a and d > c]
    best = iou(np.array(every), np.array([truth])).max()
    assert iou(found.xyxy, np.array([truth]))[0, 0] == pytest.approx(best, abs=1e-9)


@settings(max_examples=40)
@given(st.floats(-30, 30), st.lists(st.floats(200, 500), min_size=2, max_size=2), st.floats(2, 60))
def test_the_oracle_box_of_a_turned_map_is_around_its_cells(turn: float, corner: list[float], wide: float) -> None:
    (x, y), angle = corner, np.deg2rad(turn)
    about = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * 800
    frame = Frame(np.column_stack([about, [400, 400] - about @ [0.5, 0.5]]))
    given_setting = setting(film(0, ("Mass", x, y, x + wide, y + 90.0)), grid=(32, 32))
    found = oracle_box(replace(given_setting, frames=frame.matrix[None])).xyxy
    x0, y0, x1, y1 = found[0]
    assert x1 > x0
    assert y1 > y0
    assert iou(found, np.array([[x, y, x + wide, y + 90.0]]))[0, 0] > 0


def test_the_oracle_box_ends_with_the_last_cell_and_on_the_film() -> None:
    # Maps of 8 x 8 cells that look half a cell up and left: from -64 to 960 of 1,024 px.
    frame = Frame(np.array([[1024.0, 0.0, -64.0], [0.0, 1024.0, -64.0]]))
    boxes = [("Mass", 880.0, 880.0, 1020.0, 1020.0), ("Nodule", 970.0, 970.0, 1000.0, 1000.0), ("Mass", 0.0, 0, 40, 60)]
    given_setting = setting(film(0, *boxes), grid=(8, 8), size=(1024, 1024))
    found = oracle_box(replace(given_setting, frames=frame.matrix[None])).xyxy.tolist()
    assert found == [[832.0, 832.0, 960.0, 960.0], [832.0, 832.0, 960.0, 960.0], [0.0, 0.0, 64.0, 64.0]]


def test_films_without_boxes_have_no_oracle_box() -> None:
    assert len(oracle_box(setting(film(0), film(1)))) == 0
    assert len(class_mean_box(setting(film(0), film(1)))) == 0


def test_the_random_map_stays_small_beside_maps_at_film_size() -> None:
    made = CONTROLS["random_map"].make(setting(film(0), grid=(512, 16)))
    assert isinstance(made, Predictions)
    assert made.maps.shape == (1, 2, 64, 16)
