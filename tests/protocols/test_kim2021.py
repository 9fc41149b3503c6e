"""Protocol kim2021: one box or several, by a second reading in plain loops, limits, policies, notes, bad input."""

import math
from dataclasses import replace

import numpy as np
import pytest
from box_worlds import film, found, index_of, overlap, random_world, values
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_worlds import FINDINGS, SIDE, mask_world, predicted

from cxrlocus.errors import PredictionsError
from cxrlocus.prediction.boxing import find_boxes
from cxrlocus.protocols import PIXEL_PROTOCOLS
from cxrlocus.protocols.kim2021 import IOU, ONE, SEVERAL, kim2021
from cxrlocus.protocols.shared import RunLabel
from cxrlocus.protocols.wang2017 import wang2017
from cxrlocus.regions.detections import Detections
from cxrlocus.regions.rules import FixedThresholds, PeakComponent
from cxrlocus.types import Findings

LABEL = RunLabel("made", "v", "toy", "fixed", "a note")
SEED = st.integers(0, 10**6)


def measure(p, index, policy="fixed", **options):
    return kim2021(p, index, label=replace(LABEL, policy=policy), **{"resamples": 0, **options})


def accuracy(rows, detail):
    mine = [r for r in rows if r.quantity == "accuracy_iou" and r.detail == detail]
    return {(r.finding, r.threshold): r.value for r in mine}


def second_reading(detections, index, best_only):
    """Hits over true boxes in plain loops, with each film's best box or with all."""
    boxes = [
        (detections.images[i], detections.findings.names[c], xyxy, score)
        for i, c, xyxy, score in zip(
            detections.image.tolist(), detections.finding.tolist(), detections.xyxy.tolist(),
            detections.score.tolist(), strict=True,
        )
    ]  # fmt: skip
    out, every = {}, {t: [] for t in IOU}
    for finding in index.findings:
        hits = {t: [] for t in IOU}
        for record in index.records:
            mine = [(xyxy, score) for image, f, xyxy, score in boxes if (image, f) == (record.image, finding)]
            if best_only and mine:
                mine = [max(mine, key=lambda box: box[1])]
            for truth in (b.xyxy for b in record.boxes if b.finding == finding):
                for t in IOU:
                    hits[t].append(any(overlap(xyxy, truth, "iou") > t for xyxy, _ in mine))
        for t in IOU:
            every[t] += hits[t]
            if hits[t]:
                out[finding, t] = sum(hits[t]) / len(hits[t])
    for t in IOU:
        each = [v for (f, at), v in out.items() if at == t]
        out["mean", t] = sum(each) / len(each) if each else math.nan
        out["pooled", t] = sum(every[t]) / len(every[t]) if every[t] else math.nan
    return out


@given(seed=SEED)
@settings(max_examples=40)
def test_a_second_reading_of_given_boxes_agrees(seed):
    index, boxes = random_world(seed)
    # Few distinct scores, so that the best box is often a tie: the first of them.
    boxes = replace(boxes, score=np.random.default_rng(seed).integers(0, 3, len(boxes)).astype(float))
    rows = measure(boxes, index)
    for detail, best_only in ((ONE, True), (SEVERAL, False)):
        assert accuracy(rows, detail) == pytest.approx(second_reading(boxes, index, best_only), nan_ok=True)


@given(seed=SEED)
@settings(max_examples=15)
def test_maps_are_boxed_by_the_rules_that_the_protocol_names(seed):
    p, index = mask_world(seed)
    rows = measure(p, index, share=0.4)
    for detail, rule in ((ONE, PeakComponent(0.4)), (SEVERAL, FixedThresholds())):
        expected = second_reading(find_boxes(p, rule), index, best_only=False)
        assert accuracy(rows, detail) == pytest.approx(expected, nan_ok=True)


@given(seed=SEED)
@settings(max_examples=15)
def test_all_given_boxes_are_wangs_accuracy(seed):
    index, boxes = random_world(seed)
    theirs = wang2017(boxes, index, label=LABEL, resamples=0)
    ours = accuracy(measure(boxes, index), SEVERAL)
    assert ours == pytest.approx({k: v for k, v in wang_at(theirs).items() if k in ours}, nan_ok=True)


def wang_at(rows):
    return {(r.finding, r.threshold): r.value for r in rows if r.quantity == "accuracy_iou"}


def test_limit_a_map_that_is_the_box():
    index = index_of([film("a", ("Mass", 4, 4, 12, 12), size=(SIDE, SIDE))], FINDINGS)
    maps = np.zeros((1, 2, SIDE, SIDE), np.float32)
    maps[0, 0, 4:12, 4:12] = 1
    for policy in ("fixed", "oracle"):
        rows = measure(predicted(index, maps), index, policy)
        assert {r.value for r in rows if r.quantity == "accuracy_iou"} == {1.0}, policy


def test_one_box_may_miss_what_several_hit():
    index = index_of([film("a", ("Mass", 0, 0, 4, 4), size=(SIDE, SIDE))], FINDINGS)
    maps = np.zeros((1, 2, SIDE, SIDE), np.float32)
    maps[0, 0, 0:4, 0:4], maps[0, 0, 10:14, 10:14] = 0.9, 1.0
    rows = measure(predicted(index, maps), index)
    assert accuracy(rows, ONE)["Mass", 0.5] == 0
    assert accuracy(rows, SEVERAL)["Mass", 0.5] == 1


def test_the_scale_of_a_map_does_not_matter():
    p, index = mask_world(3, kind="logit")
    scaled = replace(p, maps=p.maps * 4 - 100)
    rows, again = measure(p, index), measure(scaled, index)
    assert accuracy(rows, ONE) == accuracy(again, ONE)


def test_heights_are_chosen_on_other_patients_or_on_the_measured_boxes():
    # Maps that fit their box at a height of .8 alone; half the films' patients are enough to find out.
    records = [film(f"{i}", ("Mass", 4, 4, 8, 8), size=(SIDE, SIDE)) for i in range(8)]
    index = index_of(records, FINDINGS)
    maps = np.zeros((8, 2, SIDE, SIDE), np.float32)
    maps[:, 0, 0:14, 0:14], maps[:, 0, 4:8, 4:8] = 0.75, 1.0
    p = predicted(index, maps)
    got = {policy: measure(p, index, policy) for policy in ("fixed", "validation", "oracle")}
    assert [accuracy(got[policy], ONE)["Mass", 0.7] for policy in got] == [0, 1, 1]
    notes = {policy: next(r.note for r in got[policy] if r.detail == ONE) for policy in got}
    assert notes["fixed"] == "a note; height 0.5"
    assert notes["validation"].startswith("a note; heights from the boxes of the other half of the patients: Mass 0.8")
    assert notes["oracle"].startswith("a note; heights from these test boxes: Mass 0.8")
    assert {r.policy for r in got["oracle"]} == {"oracle"}
    several = {next(r.note for r in got[policy] if r.detail == SEVERAL) for policy in ("fixed",)}
    assert several == {"a note; levels 60 and 180 of 255"}


def test_a_boxed_film_that_was_not_looked_at_is_a_miss():
    p, index = mask_world(2, films=12)
    part = predicted(index.subset(list(range(6))), p.maps[:6])
    rows = [r for r in measure(part, index) if r.quantity == "accuracy_iou" and r.finding == "pooled"]
    boxes = sum(len(r.boxes) for r in index.records)
    missing = sum(bool(r.boxes) for r in index.records[6:])
    assert {r.n for r in rows} == {boxes}
    assert all(f"{missing} boxed films were not looked at" in r.note for r in rows)
    hits = [r.value * boxes for r in rows if r.detail == SEVERAL and r.threshold == 0.3]
    assert hits[0] <= sum(len(r.boxes) for r in index.records[:6]) + 1e-9


def test_areas_and_intervals_are_those_of_wang2017():
    p, index = mask_world(5)
    rows = measure(p, index, prob=p.prob, resamples=50, seed=1)
    boxes = find_boxes(p, FixedThresholds())
    theirs = wang2017(boxes, index, prob=p.prob, label=LABEL, resamples=50, seed=1)
    for quantity in ("auroc", "accuracy_iou"):
        ours = {(r.finding, r.threshold): (r.value, r.lo, r.hi, r.n) for r in rows if r.quantity == quantity
                and r.detail in ("", SEVERAL) and not math.isnan(r.threshold)}  # fmt: skip
        wang = {(r.finding, r.threshold): (r.value, r.lo, r.hi, r.n) for r in theirs if r.quantity == quantity}
        for key, numbers in ours.items():
            assert numbers == pytest.approx(wang[key], nan_ok=True)
    assert values(rows, "auroc", "mean") == pytest.approx(values(theirs, "auroc", "mean"))


def test_a_finding_the_boxes_do_not_know_is_listed_and_takes_no_part():
    index = index_of([film("a", ("Mass", 0, 0, 8, 8), ("Nodule", 0, 0, 8, 8))], FINDINGS)
    rows = measure(found(("a",), [(0, "Mass", 0, 0, 8, 8)], Findings(("Mass",))), index)
    unknown = [r for r in rows if r.finding == "Nodule"]
    assert len(unknown) == 2 * len(IOU)
    assert all(math.isnan(r.value) and r.n == 0 and "do not know this finding" in r.note for r in unknown)
    assert values(rows, "accuracy_iou", "mean") == [1.0] * 6


def test_bad_input_is_refused():
    p, index = mask_world(0)
    with pytest.raises(PredictionsError, match=r"prob must be \(films, findings\)"):
        measure(p, index, prob=p.prob[:, :1])
    with pytest.raises(PredictionsError, match="every film of the predictions must be in the evaluated index"):
        measure(p, index.subset([0, 1]))
    with pytest.raises(ValueError, match="a threshold must be in"):
        measure(p, index, share=1.0)


def test_it_is_called_as_the_other_protocols_of_maps():
    p, index = mask_world(1)
    none = np.zeros(0, dtype=int)
    empty = Detections(p.images, p.findings, none, none, np.zeros((0, 4)), np.zeros(0))
    assert PIXEL_PROTOCOLS["kim2021"] is kim2021
    rows = PIXEL_PROTOCOLS["kim2021"](
        empty, index, prob=None, label=LABEL, seed=0, resamples=5, sizes=np.full((len(index), 2), SIDE)
    )
    assert {r.value for r in rows if r.quantity == "accuracy_iou"} == {0.0}
