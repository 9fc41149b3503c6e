"""Protocol infomask2019: a second reading in plain loops, limits, invariances, intervals, notes, bad input."""

import importlib
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from box_worlds import film, found, index_of
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_worlds import FINDINGS, SIDE, mask_world, predicted, rates, truth_of

from cxrlocus.data.nih import load_nih
from cxrlocus.data.records import TruthBox
from cxrlocus.errors import ConfigError, DataError, PredictionsError
from cxrlocus.prediction.store import Predictions
from cxrlocus.protocols import PIXEL_PROTOCOLS
from cxrlocus.protocols.infomask2019 import QUANTITIES, infomask2019
from cxrlocus.protocols.masks import Masking, measure_masks
from cxrlocus.protocols.shared import RunLabel
from cxrlocus.types import BOXED8, Findings, Frame

module = importlib.import_module("cxrlocus.protocols.infomask2019")
LABEL = RunLabel("made", "v", "toy", "fixed", "a note")
SEED = st.integers(0, 10**6)
MINI = Path(__file__).parents[3] / "shared" / "nih14-mini"


def measure(p, index, policy="fixed", **options):
    label = replace(LABEL, policy=policy)
    options = {"resamples": 0, "raster": SIDE, **options}
    return infomask2019(p, index, prob=options.pop("prob", p.prob), label=label, **options)


def value_of(rows):
    return {(r.quantity, r.finding): r.value for r in rows}


def average(values):
    there = [v for v in values if v is not None and not math.isnan(v)]
    return sum(there) / len(there) if there else math.nan


def second_reading(p, index):
    """The paper in plain loops: a mask where the probability of a pixel is above .5."""
    out = {}
    boxed = [f for f in index.findings if any(b.finding == f for r in index.records for b in r.boxes)]
    for finding in boxed:
        c = list(index.findings).index(finding)
        each = [
            rates((p.maps[i, c] > 0.5).tolist(), truth_of(index, i, finding))
            for i, r in enumerate(index.records)
            if any(b.finding == finding for b in r.boxes)
        ]
        for quantity in QUANTITIES:
            out[quantity, finding] = average([rate[quantity] for rate in each])
    for quantity in QUANTITIES:
        out[quantity, "mean"] = average([out[quantity, f] for f in boxed])
    for c, finding in enumerate(index.findings):
        known = [(finding in r.positive, p.prob[i, c]) for i, r in enumerate(index.records) if finding not in r.unknown]
        out["accuracy", finding] = average([float((prob > 0.5) == positive) for positive, prob in known])
        up, down = [s for t, s in known if t], [s for t, s in known if not t]
        out["auroc", finding] = average([1.0 if a > b else 0.5 if a == b else 0.0 for a in up for b in down])
    for quantity in ("accuracy", "auroc"):
        out[quantity, "mean"] = average([out[quantity, f] for f in index.findings])
    return out


@given(seed=SEED, films=st.integers(1, 12))
@settings(max_examples=40)
def test_a_second_reading_of_the_paper_agrees(seed, films):
    p, index = mask_world(seed, films=films)
    assert value_of(measure(p, index)) == pytest.approx(second_reading(p, index), abs=1e-9, nan_ok=True)


def test_limit_masks_that_are_the_boxes():
    _, index = mask_world(0, films=8)
    maps = np.array([[truth_of(index, i, f) for f in FINDINGS] for i in range(len(index))], np.float32)
    for kind in ("mask", "probability", "logit"):
        for policy in ("fixed", "validation", "oracle"):
            got = value_of(measure(predicted(index, maps, kind), index, policy))
            assert [got[q, "mean"] for q in ("iop", "fpr", "fnr")] == [1.0, 0.0, 0.0], (kind, policy)


def test_limit_the_whole_film_and_nothing():
    index = index_of([film("a", ("Mass", 0, 0, 8, 16), size=(SIDE, SIDE))], FINDINGS)
    one, none = (measure(predicted(index, np.full((1, 2, 4, 4), v)), index) for v in (1.0, 0.0))
    assert [value_of(one)[q, "Mass"] for q in QUANTITIES] == [0.5, 1.0, 0.0, 1.0]
    assert [value_of(none)[q, "Mass"] for q in QUANTITIES] == pytest.approx([math.nan, 0.0, 1.0, 0.0], nan_ok=True)
    iop = next(r for r in none if (r.quantity, r.finding) == ("iop", "Mass"))
    assert (iop.n, "1 of 1 masks are empty and have no IoP" in iop.note) == (0, True)


def test_what_is_counted_and_what_is_told():
    p, index = mask_world(4, films=12)
    seen = list(range(1, 12))
    first = replace(index.records[0], boxes=(TruthBox("Mass", (0, 0, 8, 8)),))
    lacking = index_of([first, *index.records[1:]], FINDINGS)
    part = predicted(index.subset(seen), p.maps[seen], prob=p.prob[seen])
    rows = {(r.quantity, r.finding): r for r in measure(part, lacking)}
    boxed = sum(any(b.finding == "Mass" for b in r.boxes) for r in lacking.records)
    assert rows["fpr", "Mass"].n == rows["fnr", "Mass"].n == boxed
    assert rows["iop", "Mass"].n == boxed - 1
    note = rows["iop", "Mass"].note
    assert note.startswith("a note; map > 0.5; 1 of ")
    assert "1 boxed films were not looked at: empty masks" in note
    assert f"{12 - boxed} films without a box of it left out" in note
    assert rows["accuracy", "Mass"].threshold == 0.5
    assert "fixed beforehand" in rows["accuracy", "Mass"].note
    assert rows["accuracy", "mean"].n == 11
    assert {r.policy for r in rows.values()} == {"fixed"}


def test_a_finding_the_predictions_do_not_know_is_listed():
    p, index = mask_world(4)
    one = predicted(index, p.maps[:, :1], findings=Findings(("Mass",)))
    rows = [r for r in measure(one, index) if r.finding == "Nodule"]
    assert {(r.quantity, r.n) for r in rows} == {(q, 0) for q in QUANTITIES}
    assert all(math.isnan(r.value) and "do not know this finding" in r.note for r in rows)


def test_levels_are_told_with_where_they_come_from():
    p, index = mask_world(6, films=16, kind="logit")
    notes = {k: measure(p, index, k)[0].note for k in ("fixed", "validation", "oracle")}
    assert "map > 0.5 of its range;" in notes["fixed"]
    assert "of its range, chosen by fpr_fnr on the boxes of the other half of the patients" in notes["validation"]
    assert "of its range, chosen by fpr_fnr on these test boxes" in notes["oracle"]
    assert "of its range" not in measure(p, index, scale="absolute")[0].note


def test_films_without_boxes_and_labels_alone():
    index = index_of([film("a", positive=["Mass"], size=(SIDE, SIDE)), film("b", size=(SIDE, SIDE))], FINDINGS)
    p = predicted(index, np.ones((2, 2, 4, 4)), prob=[[0.9, 0.2], [0.5, 0.7]])
    for policy in ("fixed", "validation", "oracle"):
        got = value_of(measure(p, index, policy, resamples=5))
        assert {k: v for k, v in got.items() if not math.isnan(v)} == {
            ("accuracy", "Mass"): 1.0, ("accuracy", "Nodule"): 0.5, ("accuracy", "mean"): 0.75,
            ("auroc", "Mass"): 1.0, ("auroc", "mean"): 1.0,
        }  # fmt: skip


def test_convention_a_probability_of_one_half_is_not_positive():
    index = index_of([film("a", positive=["Mass"], size=(SIDE, SIDE))], FINDINGS)
    got = value_of(measure(predicted(index, np.ones((1, 2, 4, 4)), prob=[[0.5, 0.5]]), index))
    assert (got["accuracy", "Mass"], got["accuracy", "Nodule"]) == (0.0, 1.0)


@given(seed=SEED, policy=st.sampled_from(["fixed", "validation", "oracle"]))
@settings(max_examples=20)
def test_invariance_to_the_order_of_films_and_findings(seed, policy):
    p, index = mask_world(seed, films=12, patients=20)
    order = np.random.default_rng(seed).permutation(12).tolist()
    if len({r.patient for r in index.records if r.boxes}) < 2:
        return
    want = measure(p, index, policy, resamples=10)
    turned = Predictions(
        p.meta, tuple(p.images[i] for i in order), Findings(FINDINGS.names[::-1]), p.prob[order][:, ::-1],
        p.maps[order][:, ::-1], p.frames[order], p.sizes[order], p.kind,
    )  # fmt: skip
    for got in (measure(p, index.subset(order), policy, resamples=10), measure(turned, index, policy, resamples=10)):
        assert value_of(got) == pytest.approx(value_of(want), nan_ok=True)
        assert [(r.lo, r.hi) for r in got[:6]] == [pytest.approx((r.lo, r.hi), nan_ok=True) for r in want[:6]]


def test_invariance_to_the_scale_of_the_film():
    p, index = mask_world(8)
    large = [
        replace(r, size=(64, 64), boxes=tuple(TruthBox(b.finding, tuple(4 * x for x in b.xyxy)) for b in r.boxes))
        for r in index.records
    ]
    four = replace(p, sizes=p.sizes * 4, frames=p.frames * 4)
    for raster in (SIDE, 64):
        assert value_of(measure(four, index_of(large, FINDINGS), raster=raster)) == pytest.approx(
            value_of(measure(p, index, raster=raster)), nan_ok=True
        )


def test_the_raster_is_fine_enough():
    p, index = mask_world(9, films=30)
    coarse, fine = (value_of(measure(p, index, raster=r)) for r in (256, 1024))
    assert coarse == pytest.approx(fine, abs=0.003)


def test_intervals_are_those_of_drawn_patients():
    # Half of the patients have FNR 0 and half 1: the mean's interval is that of a coin.
    records = [
        film(f"{i}", ("Mass", 0, 0, 8, 16), patient=f"p{i}", size=(SIDE, SIDE), positive=["Mass"] * (i % 2))
        for i in range(100)
    ]
    index = index_of(records, FINDINGS)
    maps = np.zeros((100, 2, 4, 4))
    maps[::2] = 1
    p = predicted(index, maps, prob=np.full((100, 2), 0.9))
    rows = {(r.quantity, r.finding): r for r in measure(p, index, resamples=1000)}
    for quantity in ("fnr", "accuracy"):
        row = rows[quantity, "Mass"]
        assert row.value == 0.5
        assert (row.hi - row.lo) / 2 == pytest.approx(1.96 * math.sqrt(0.25 / 100), rel=0.1)
    assert (rows["iop", "Mass"].lo, rows["iop", "Mass"].hi, rows["iop", "Mass"].n) == (0.5, 0.5, 50)
    one_patient = index_of([replace(r, patient="p") for r in records], FINDINGS)
    assert all(math.isnan(r.lo) and math.isnan(r.hi) for r in measure(p, one_patient, resamples=1000))


def test_boxes_are_measured_as_masks_and_have_no_label_rows():
    index = index_of([film("a", ("Mass", 0, 0, 8, 16), size=(SIDE, SIDE))], FINDINGS)
    boxes = found("a", [(0, "Mass", 4, 0, 12, 16)], FINDINGS)
    sizes = np.array([[SIDE, SIDE]])
    rows = PIXEL_PROTOCOLS["infomask2019"](boxes, index, label=replace(LABEL, policy="oracle"), sizes=sizes)
    assert {r.quantity for r in rows} == set(QUANTITIES)
    assert [value_of(rows)[q, "Mass"] for q in QUANTITIES] == [0.5, 0.5, 0.5, 0.5]
    assert all("boxes filled" in r.note and r.policy == "oracle" for r in rows if r.finding == "Mass")


@pytest.mark.parametrize("policy", ["fixed", "validation", "oracle"])
def test_measures_that_are_there_are_not_made_again(policy, monkeypatch):
    p, index = mask_world(6, films=16, kind="logit")
    options = {"criterion": "dice", "scale": "absolute", "seed": 3, "resamples": 20}
    want = measure(p, index, policy, **options)
    films = measure_masks(p, index, Masking(policy, "dice", "absolute", SIDE, 3))

    def again(*_, **__):
        raise AssertionError("measured a second time")

    monkeypatch.setattr(module, "measure_masks", again)
    label = replace(LABEL, policy=policy)
    got = infomask2019(p, index, prob=p.prob, label=label, seed=3, resamples=20, measures=films)
    assert [repr(r) for r in got] == [repr(r) for r in want]


def test_measures_of_another_policy_are_refused():
    p, index = mask_world(6)
    films = measure_masks(p, index, Masking("oracle"))
    with pytest.raises(PredictionsError, match="measures must be of the label's policy; got 'oracle' and 'fixed'"):
        infomask2019(p, index, label=LABEL, measures=films)


def test_bad_input_is_refused():
    p, index = mask_world(0)
    with pytest.raises(PredictionsError, match=r"prob must be \(films, findings\) = \(10, 2\); got \(10, 3\)"):
        measure(p, index, prob=np.ones((10, 3)))
    with pytest.raises(ConfigError, match="resamples and seed must not be negative"):
        measure(p, index, resamples=-1)
    with pytest.raises(ConfigError, match="criterion must be one of"):
        measure(p, index, criterion="best")
    broken = index_of([replace(index.records[0], boxes=(TruthBox("Mass", (5, 5, 5, 9)),))], FINDINGS)
    with pytest.raises(DataError, match="a box must be finite with x1 > x0"):
        measure(predicted(broken, p.maps[:1]), broken)
    with pytest.raises(PredictionsError, match="every film of the predictions must be in the evaluated index"):
        measure(p, index.subset([0, 1]))


@pytest.mark.skipif(not MINI.is_dir(), reason="the real films (nih14-mini) are not here")
def test_on_real_boxes_the_middle_of_the_film_has_the_values_of_their_coordinates():
    # Coordinates alone: the share of the middle square that lies in the one box of each film, by exact areas.
    index = load_nih(MINI).split("test")
    boxed = [i for i, r in enumerate(index.records) if any(b.finding == "Pneumonia" for b in r.boxes)]
    index = index.subset(boxed)
    middle = (256.0, 256.0, 768.0, 768.0)
    iop, fnr = [], []
    for record in index.records:
        (box,) = [b.xyxy for b in record.boxes if b.finding == "Pneumonia"]
        w, h = (max(0.0, min(box[k + 2], middle[k + 2]) - max(box[k], middle[k])) for k in (0, 1))
        iop.append(w * h / 512**2)
        fnr.append(1 - w * h / ((box[2] - box[0]) * (box[3] - box[1])))
    maps = np.zeros((len(index), 8, 128, 128), np.float32)
    maps[:, :, 32:96, 32:96] = 1
    n = len(index)
    frames, sizes = np.tile(Frame.of_size(1024, 1024).matrix, (n, 1, 1)), np.full((n, 2), 1024)
    meta, prob = {"method": "middle"}, np.full((n, 8), 0.5, np.float32)
    p = Predictions(meta, index.images, BOXED8, prob, maps, frames, sizes, "probability")
    got = value_of(infomask2019(p, index, label=LABEL, resamples=0))
    assert got["iop", "Pneumonia"] == pytest.approx(np.mean(iop), abs=0.002)
    assert got["fnr", "Pneumonia"] == pytest.approx(np.mean(fnr), abs=0.005)
