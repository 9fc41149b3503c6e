"""Ranked boxes of protocol modern: a second reading of FROC and average precision, which boxes and films count."""

import math

import numpy as np
import pytest
from box_worlds import film, found, index_of, overlap, random_world
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_worlds import FINDINGS, SIDE, mask_world

from cxrlocus.protocols.modern import Options, modern
from cxrlocus.protocols.modern_boxes import counted_films
from cxrlocus.protocols.policies import boxes_by_policy
from cxrlocus.protocols.shared import RunLabel
from cxrlocus.protocols.wang2017 import wang2017
from cxrlocus.regions.detections import Detections
from cxrlocus.regions.rules import FixedThresholds

LABEL = RunLabel("made", "v", "toy", "fixed", "a note")
SEED = st.integers(0, 10**6)
OWN = Options(raster=SIDE)


def measure(p, index, **options):
    return modern(p, index, label=options.pop("label", LABEL), **{"resamples": 0, "options": OWN, **options})


def cells(rows, quantity, **columns):
    mine = [r for r in rows if r.quantity == quantity and all(getattr(r, k) == v for k, v in columns.items())]
    return {(r.finding, r.detail, None if math.isnan(r.threshold) else r.threshold): r.value for r in mine}


def ranked_in_loops(boxes, index, finding, threshold):
    """The curve's points and the area of one finding, film by film and box by box; films that count for it."""
    c = boxes.findings.index(finding)
    films = [
        r for r in index.records
        if r.boxes and (any(b.finding == finding for b in r.boxes) or finding not in r.positive | r.unknown)
    ]  # fmt: skip
    names = {r.image for r in films}
    rows = [
        (s, boxes.images[i], tuple(b))
        for i, f, b, s in zip(
            boxes.image.tolist(), boxes.finding.tolist(), boxes.xyxy.tolist(), boxes.score.tolist(), strict=True
        )
        if f == c and boxes.images[i] in names
    ]
    rows.sort(key=lambda row: -row[0])
    truth = {r.image: [b.xyxy for b in r.boxes if b.finding == finding] for r in films}
    total, taken, marks = sum(map(len, truth.values())), set(), []
    for s, image, box in rows:
        free = [(overlap(box, t, "iou"), k) for k, t in enumerate(truth[image]) if (image, k) not in taken]
        free = [(v, -k) for v, k in free if v > threshold]
        if free:
            taken.add((image, -max(free)[1]))
        marks.append((s, bool(free)))
    points = [(0.0, 0.0)]
    precision = []
    for cut in sorted({s for s, *_ in rows}, reverse=True):
        on = [(i, b) for s, i, b in rows if s >= cut]
        false = sum(not any(overlap(b, t, "iou") > threshold for t in truth[i]) for i, b in on)
        met = sum(any(overlap(b, t, "iou") > threshold for j, b in on if j == i) for i, ts in truth.items() for t in ts)
        points.append((false / len(films), met / total))
        kept = [hit for s, hit in marks if s >= cut]
        precision.append((sum(kept) / total, sum(kept) / len(kept)))
    area, before = 0.0, 0.0
    for k, (recall, _) in enumerate(precision):
        area, before = area + (recall - before) * max(v for _, v in precision[k:]), recall
    return points, area


@given(SEED)
@settings(max_examples=20)
def test_a_second_reading_of_froc_and_average_precision(seed):
    index, boxes = random_world(seed, films=10)
    score = np.random.default_rng(seed).permutation(len(boxes)) // 2 / 10
    boxes = Detections(boxes.images, boxes.findings, boxes.image, boxes.finding, boxes.xyxy, score)
    rows = measure(boxes, index, sizes=np.full((10, 2), 40))
    sense, area = cells(rows, "froc_sensitivity"), cells(rows, "average_precision")
    for finding in {b.finding for r in index.records for b in r.boxes}:
        for threshold in (0.3, 0.5):
            points, expected = ranked_in_loops(boxes, index, finding, threshold)
            got = [sense[finding, f"fp={rate:g}", threshold] for rate in (0.125, 0.5, 1, 8)]
            x, y = (np.array(side) for side in zip(*points, strict=True))
            # np.interp takes the last of several points at one place.
            np.testing.assert_allclose(got, np.interp([0.125, 0.5, 1, 8], x, y), atol=1e-12)
            seven = [sense[finding, f"fp={2.0**k:g}", threshold] for k in range(-3, 4)]
            assert cells(rows, "froc")[finding, "", threshold] == pytest.approx(np.mean(seven))
            assert area[finding, "", threshold] == pytest.approx(expected)


def test_ranked_boxes_are_those_of_the_policy_and_their_hits_are_wangs():
    p, index = mask_world(5, films=30)
    rows = measure(p, index)
    fixed = (FixedThresholds((0.5,), of=1.0), "")
    boxes, _ = boxes_by_policy(p, index, "fixed", fixed=fixed)
    wang = {r.finding: r.value for r in wang2017(boxes, index, label=LABEL, resamples=0)
            if r.quantity == "accuracy_iou" and r.threshold == 0.3}  # fmt: skip
    # Where there is no bound left, what is found at all is found.
    end = {f: v for (f, d, t), v in cells(measure(boxes, index, sizes=p.sizes), "froc_sensitivity").items()
           if d == "fp=8" and t == 0.3}  # fmt: skip
    for finding in FINDINGS:
        assert cells(rows, "froc_sensitivity")[finding, "fp=8", 0.3] == end[finding] <= wang[finding]
    assert all("height 0.5" in r.note for r in rows if r.quantity == "froc")


def test_a_labelled_film_without_a_box_counts_for_nothing_and_is_told():
    records = [
        film("a", ("Mass", 0, 0, 8, 8), size=(SIDE, SIDE)),
        film("b", ("Nodule", 0, 0, 8, 8), size=(SIDE, SIDE), positive=["Mass", "Nodule"]),
        film("c", ("Nodule", 0, 0, 8, 8), size=(SIDE, SIDE), unknown=["Mass"]),
        film("d", ("Nodule", 0, 0, 8, 8), size=(SIDE, SIDE)),
        film("e", size=(SIDE, SIDE)),
        film("f", size=(SIDE, SIDE), positive=["Mass"]),
    ]
    index = index_of(records, FINDINGS)
    nobody = found(index.images, [], FINDINGS)
    assert counted_films(nobody, index, "boxed")[:, 0].tolist() == [True, False, False, True, False, False]
    assert counted_films(nobody, index, "all")[:, 0].tolist() == [True, False, False, True, True, False]
    # A box on b or c is not false, one on d is, one on e only where all films count.
    boxes = [(k, "Mass", 0, 0, 8, 8) for k in range(6)]
    given = found(index.images, boxes, FINDINGS)
    score = np.array([0.1, 0.9, 0.8, 0.7, 0.6, 0.5])
    given = Detections(given.images, given.findings, given.image, given.finding, given.xyxy, score)
    for films, n, false in (("boxed", 2, 1), ("all", 3, 2)):
        rows = measure(given, index, sizes=np.full((6, 2), SIDE), options=Options(raster=SIDE, films=films))
        mine = [r for r in rows if r.quantity == "average_precision" and (r.finding, r.threshold) == ("Mass", 0.3)]
        assert [r.value for r in mine] == [pytest.approx(1 / (1 + false))]
        left = "2 without a box of it whose label does not exclude it left out" if films == "boxed" else "3 without"
        assert f"{n} films; {left}" in mine[0].note
