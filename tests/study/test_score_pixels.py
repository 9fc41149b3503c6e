"""Protocols of pixels beside those of boxes: methods by their maps, boxes and controls by what they fill."""

from __future__ import annotations

import importlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrlocus.data.records import Index, Record, TruthBox
from cxrlocus.errors import ConfigError
from cxrlocus.methods.baselines.controls import CONTROLS
from cxrlocus.prediction.store import Predictions
from cxrlocus.protocols.result import Result
from cxrlocus.protocols.shared import RunLabel
from cxrlocus.regions.detections import Detections
from cxrlocus.study import score
from cxrlocus.study.score import Measure, on_films, score_boxes, score_controls, score_predictions
from cxrlocus.types import Findings, Frame

infomask = importlib.import_module("cxrlocus.protocols.infomask2019")
FINDINGS = Findings(("Mass", "Nodule"))
BOX = (16.0, 16.0, 48.0, 48.0)
PIXELS = Measure(("infomask2019",), resamples=0)


def world() -> tuple[Predictions, Index]:
    """Six films, every other one with a mass in its middle, and maps that are .9 on its left half and .1 elsewhere."""
    boxes = [(TruthBox("Mass", BOX),) if i % 2 == 0 else () for i in range(6)]
    # A film without a box has no size on record and no file: nobody may ask for it.
    records = [
        Record(f"{i}.png", Path(f"{i}.png"), f"p{i}", "test", frozenset(b.finding for b in has), boxes=has,
               size=(64, 64) if has else None)
        for i, has in enumerate(boxes)
    ]  # fmt: skip
    index = Index("toy", Path("toy"), FINDINGS, tuple(records))
    maps = np.full((6, 2, 64, 64), 0.1, np.float32)
    maps[:, 0, 16:48, 16:32] = 0.9
    prob = np.array([[0.9 if r.positive else 0.1, 0.2] for r in records], np.float32)
    frames, sizes = np.tile(Frame.of_size(64, 64).matrix, (6, 1, 1)), np.full((6, 2), 64)
    meta = {"method": "left", "variant": "v", "dataset": "toy"}
    return Predictions(meta, index.images, FINDINGS, prob, maps, frames, sizes, "probability"), index


def of_mass(rows: list[Result]) -> dict[str, float]:
    return {r.quantity: round(r.value, 2) for r in rows if r.finding == "Mass" and r.protocol == "infomask2019"}


def test_maps_are_cut_under_the_policy_and_labels_measured() -> None:
    p, index = world()
    rows = score_predictions(p, index, PIXELS).results
    assert of_mass(rows) == {"iop": 1.0, "fpr": 0.0, "fnr": 0.5, "mask_area": 0.12, "accuracy": 1.0, "auroc": 1.0}
    assert {(r.protocol, r.method, r.variant, r.policy) for r in rows} == {("infomask2019", "left", "v", "fixed")}
    # What is told of boxes' levels is not told of masks.
    assert not any("levels 60 and 180" in r.note for r in rows)
    assert all("map > 0.5" in r.note for r in rows if r.quantity == "iop" and r.finding == "Mass")


def test_both_kinds_of_protocol_in_one_go_are_what_each_is_alone() -> None:
    p, index = world()
    both = score_predictions(p, index, replace(PIXELS, protocols=("infomask2019", "wang2017"))).results
    alone = [
        row for name in ("wang2017", "infomask2019")
        for row in score_predictions(p, index, replace(PIXELS, protocols=(name,))).results
    ]  # fmt: skip
    assert [repr(r) for r in both] == [repr(r) for r in alone]


def test_given_boxes_are_filled_and_only_boxed_films_are_asked_for_their_size() -> None:
    _, index = world()
    half = (16.0, 16.0, 48.0, 32.0)
    found = Detections(index.images, FINDINGS, [0, 1, 2], [0, 0, 0], [half, BOX, BOX], [1.0, 1.0, 1.0])
    rows = score_boxes(found, index, replace(PIXELS, policy="oracle"), "hand").results
    # Film 4 has no detection: an empty mask, FNR 1, and no IoP.
    assert of_mass(rows) == {"iop": 1.0, "fpr": 0.0, "fnr": 0.5, "mask_area": 0.12}
    assert {(r.method, r.policy) for r in rows} == {("hand", "fixed")}
    assert all("boxes as given; boxes filled; 1 of 3 masks are empty" in r.note for r in rows if r.quantity == "iop"
               and r.finding == "Mass")  # fmt: skip


def test_every_control_is_measured_by_its_maps_or_its_filled_boxes() -> None:
    p, index = world()
    by_name = {s.results[0].method: s.results for s in score_controls(index, PIXELS, p)}
    assert list(by_name) == list(CONTROLS)
    for name in ("centre_box", "class_mean_box", "oracle_box"):
        assert of_mass(by_name[name]) == {"iop": 1.0, "fpr": 0.0, "fnr": 0.0, "mask_area": 0.25}
    # Noise cut at its best level for other patients is worth what any random mask is.
    chosen = {s.results[0].method: s.results for s in score_controls(index, replace(PIXELS, policy="validation"), p)}
    noise = of_mass(chosen["random_map"])
    assert abs(noise["fpr"] + noise["fnr"] - 1) < 0.1
    assert all("knows" in r.note for rows in by_name.values() for r in rows)


def test_detections_on_fewer_films_keep_their_own_boxes() -> None:
    found = Detections(("a", "b", "c"), FINDINGS, [2, 0, 1, 2], [0, 1, 0, 1], [BOX] * 4, [0.1, 0.2, 0.3, 0.4])
    part = on_films(found, ("c", "a"))
    assert part.images == ("c", "a")
    rows = zip(part.image.tolist(), part.finding.tolist(), part.score.tolist(), strict=True)
    assert list(rows) == [(0, 0, 0.1), (1, 1, 0.2), (0, 1, 0.4)]


def forbid(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError(f"{name} was called")

    monkeypatch.setattr(score, name, never)


def test_maps_are_not_boxed_for_protocols_of_pixels_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    p, index = world()
    forbid(monkeypatch, "boxes_by_policy")
    scored = [score_predictions(p, index, PIXELS), *score_controls(index, PIXELS, p)]
    made = {one.results[0].method: one.detections for one in scored}
    assert {name for name, found in made.items() if found is None} == {"left", "random_map", "lung_prior"}
    with pytest.raises(AssertionError, match="boxes_by_policy was called"):
        score_predictions(p, index, replace(PIXELS, protocols=("infomask2019", "wang2017")))


def test_films_are_those_of_the_rows_and_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    p, index = world()
    measured, calls = score.measure_masks, []

    def counted(*given: object) -> object:
        calls.append(given)
        return measured(*given)  # type: ignore[arg-type]  # passed on

    monkeypatch.setattr(score, "measure_masks", counted)
    monkeypatch.setattr(infomask, "measure_masks", counted)
    found = Detections(index.images, FINDINGS, [0, 1, 2], [0, 0, 0], [BOX] * 3, [1.0] * 3)
    every = [score_predictions(p, index, PIXELS), score_boxes(found, index, PIXELS, "hand")]
    every += score_controls(index, PIXELS, p)
    assert len(calls) == len(every)
    for one in every:
        assert one.films is not None
        assert one.films.image == ("0.png", "2.png", "4.png")
        rows = {r.quantity: r for r in one.results if r.finding == "Mass"}
        for quantity in infomask.QUANTITIES:
            values = getattr(one.films, quantity)
            assert rows[quantity].n == (~np.isnan(values)).sum()
            assert rows[quantity].value == pytest.approx(np.nanmean(values))
            assert rows[quantity].policy == one.films.masking.policy


def test_without_the_protocol_there_are_no_films() -> None:
    p, index = world()
    boxed = Measure(resamples=0)
    assert score_predictions(p, index, boxed).films is None
    assert all(one.films is None for one in score_controls(index, boxed, p))


@pytest.mark.parametrize(
    "options",
    [
        {"policy": "oracle", "criterion": "iop"},
        {"policy": "validation", "criterion": "dice", "raster": 32},
        {"scale": "relative"},
    ],
)
def test_choices_of_masks_reach_the_protocol(options: dict[str, Any]) -> None:
    p, index = world()
    # A slope tells levels apart, and a cut in the unit from one in shares of the range.
    p = replace(p, maps=p.maps * np.linspace(0.3, 0.7, 64, dtype=np.float32))
    rows = score_predictions(p, index, replace(PIXELS, **options)).results
    chosen = {k: v for k, v in options.items() if k != "policy"}
    label = RunLabel("left", "v", "toy", options.get("policy", "fixed"))
    want = infomask.infomask2019(p, index, prob=p.prob, label=label, resamples=0, **chosen)
    assert [repr(r) for r in rows] == [repr(r) for r in want]
    plain = score_predictions(p, index, replace(PIXELS, policy=label.policy)).results
    assert [repr(r) for r in rows] != [repr(r) for r in plain]


def not_a_choice(name: str) -> st.SearchStrategy[tuple[str, Any]]:
    return st.tuples(st.just(name), st.integers(-9, -1) if name in ("raster", "seed") else st.text(max_size=5))


@given(st.sampled_from(["criterion", "scale", "raster", "policy", "seed"]).flatmap(not_a_choice))
def test_a_choice_that_is_none_is_refused_by_name(choice: tuple[str, Any]) -> None:
    name, value = choice
    with pytest.raises(ConfigError, match=f"{name} must (not )?be "):
        replace(PIXELS, **{name: value})
