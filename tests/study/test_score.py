"""Scoring methods, boxes and controls side by side."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cxrlocus.data.records import Index, Record, TruthBox
from cxrlocus.errors import ConfigError, DataError, ImageError
from cxrlocus.methods.baselines.controls import CONTROLS
from cxrlocus.prediction.store import Predictions
from cxrlocus.protocols import PIXEL_PROTOCOLS
from cxrlocus.regions.detections import Detections
from cxrlocus.study.score import Measure, film_sizes, score_boxes, score_controls, score_predictions
from cxrlocus.types import Findings, Frame, Policy

FINDINGS = Findings(("Mass", "Nodule"))
BOX = (16.0, 16.0, 48.0, 48.0)
MEASURE = Measure(resamples=0)


def world(films: int = 6, size: tuple[int, int] | None = (64, 64)) -> Index:
    """Films of which every other one has a mass in the middle."""
    boxes = [(TruthBox("Mass", BOX),) if i % 2 == 0 else () for i in range(films)]
    records = [
        Record(f"{i}.png", Path(f"{i}.png"), f"p{i}", "test", frozenset(b.finding for b in has), boxes=has, size=size)
        for i, has in enumerate(boxes)
    ]
    return Index("toy", Path("toy"), FINDINGS, tuple(records))


def perfect(index: Index, grid: int = 8) -> Predictions:
    """Maps that are 1 on the middle half and 0 elsewhere."""
    maps = np.zeros((len(index), 2, grid, grid), np.float32)
    maps[:, 0, grid // 4 : -grid // 4, grid // 4 : -grid // 4] = 1
    prob = np.array([[0.9 if r.positive else 0.1, 0.5] for r in index.records], np.float32)
    frames = np.tile(Frame.of_size(64, 64).matrix, (len(index), 1, 1))
    sizes = np.full((len(index), 2), 64)
    meta = {"method": "perfect", "variant": "v", "dataset": "toy"}
    return Predictions(meta, index.images, FINDINGS, prob, maps, frames, sizes, "probability")


def value(results: list, quantity: str, finding: str, threshold: float = 0.5) -> float:
    (row,) = [
        r for r in results
        if (r.quantity, r.finding) == (quantity, finding) and (np.isnan(r.threshold) or r.threshold == threshold)
    ]  # fmt: skip
    return row.value


def test_perfect_maps_are_right_and_their_probabilities_too() -> None:
    scored = score_predictions(perfect(world()), world(), replace(MEASURE, policy="oracle"))
    assert value(scored.results, "accuracy_iou", "Mass") == 1.0
    assert value(scored.results, "auroc", "Mass") == 1.0
    assert np.isnan(value(scored.results, "auroc", "Nodule"))
    assert {(r.method, r.variant, r.dataset, r.policy) for r in scored.results} == {("perfect", "v", "toy", "oracle")}
    assert not scored.is_control


def test_the_order_of_the_films_does_not_matter() -> None:
    index = world()
    turned = index.subset(list(range(len(index)))[::-1])
    p = perfect(index)
    for policy in ("fixed", "oracle"):
        measure = replace(MEASURE, policy=policy)
        one, other = (score_predictions(p, films, measure).results for films in (index, turned))
        assert [(r.quantity, r.finding, repr(r.value)) for r in one] == [
            (r.quantity, r.finding, repr(r.value)) for r in other
        ]


def test_given_boxes_have_no_auroc_and_a_fixed_policy() -> None:
    index = world()
    found = Detections(index.images, FINDINGS, [0, 2], [0, 0], [BOX, BOX], [1.0, 1.0])
    scored = score_boxes(found, index, replace(MEASURE, policy="oracle"), "hand")
    assert value(scored.results, "accuracy_iou", "Mass") == 2 / 3
    assert {r.quantity for r in scored.results}.isdisjoint({"auroc"})
    assert {(r.method, r.policy) for r in scored.results} == {("hand", "fixed")}


def test_every_control_stands_beside_and_is_called_one() -> None:
    scored = score_controls(world(), MEASURE, perfect(world()))
    assert [{r.method for r in one.results} for one in scored] == [{name} for name in CONTROLS]
    assert all(one.is_control for one in scored)
    by_name = {one.results[0].method: one.results for one in scored}
    # The middle half is the truth here: what knows it is right, and a grid of eighths can draw it.
    for name in ("centre_box", "class_mean_box", "oracle_box"):
        assert value(by_name[name], "accuracy_iou", "Mass", 0.7) == 1.0
    assert all("knows" in r.note for rows in by_name.values() for r in rows)


def test_controls_do_not_depend_on_films_without_boxes() -> None:
    index = world()
    boxed = index.subset([0, 2, 4])
    for one, other in zip(
        score_controls(index, MEASURE, perfect(index)), score_controls(boxed, MEASURE, perfect(boxed)), strict=True
    ):
        assert [repr(r.value) for r in one.results] == [repr(r.value) for r in other.results]


def test_a_coarser_grid_bounds_what_maps_can_do() -> None:
    index = world()
    moved = replace(
        index, records=tuple(replace(r, boxes=(TruthBox("Mass", (3.0, 3.0, 13.0, 13.0)),)) for r in index.records)
    )

    def best(grid: int) -> float:
        rows = {s.results[0].method: s.results for s in score_controls(moved, MEASURE, perfect(moved, grid))}
        return value(rows["oracle_box"], "accuracy_iou", "Mass", 0.7)

    assert (best(64), best(4)) == (1.0, 0.0)


def test_boxes_by_places_are_drawn_for_maps_and_for_controls_of_maps_and_say_so() -> None:
    index, places = world(), replace(MEASURE, policy="validation", boxes="places")
    scored = score_predictions(perfect(index), index, places)
    assert value(scored.results, "accuracy_iou", "Mass", 0.7) == 1.0
    assert {r.variant for r in scored.results} == {"v, by places"}
    assert places.told == "validation-places"
    by_name = {one.results[0].method: one.results[0].variant for one in score_controls(index, places, perfect(index))}
    assert by_name["random_map"] == by_name["lung_prior"] == "by places"
    assert by_name["centre_box"] == by_name["class_mean_box"] == ""


def test_boxes_of_one_patient_can_choose_for_nobody_else() -> None:
    index = world()
    one = index.patients[next(i for i, r in enumerate(index.records) if r.boxes)]
    alone = replace(index, records=tuple(r if r.patient == one else replace(r, boxes=()) for r in index.records))
    by_others = replace(MEASURE, policy="validation")
    with pytest.raises(DataError, match="policy validation chooses by the boxes of other patients"):
        score_predictions(perfect(alone), alone, by_others)
    # Protocol yao2018 chooses nothing.
    assert score_predictions(perfect(alone), alone, replace(by_others, protocols=("yao2018",))).results


@pytest.mark.parametrize("protocol", sorted(PIXEL_PROTOCOLS))
def test_places_are_refused_where_a_protocol_boxes_by_itself(protocol: str) -> None:
    with pytest.raises(ConfigError, match=f"boxes=places acts on protocol wang2017 alone: {protocol} boxes"):
        Measure(("wang2017", protocol), policy="validation", boxes="places")


@pytest.mark.parametrize("policy", ["fixed", "oracle"])
def test_places_are_other_patients_and_so_of_one_policy(policy: Policy) -> None:
    with pytest.raises(ConfigError, match="validation"):
        replace(MEASURE, policy=policy, boxes="places")


def test_an_unknown_protocol_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"protocol must be one of wang2017.*; got 'best'"):
        Measure(("wang2017", "best"))


def test_sizes_come_from_the_record_then_the_prediction_then_the_file() -> None:
    declared, unknown = world(2, (1024, 512)), world(2, None)
    p = perfect(unknown)
    none = Detections(unknown.images, FINDINGS, [], [], np.zeros((0, 4)), [])
    assert film_sizes(declared, p).tolist() == [[1024, 512]] * 2
    assert film_sizes(unknown, p).tolist() == [[64, 64]] * 2
    with pytest.raises(ImageError, match=r"0\.png: no such file"):
        film_sizes(unknown, none)
