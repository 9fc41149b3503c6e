"""Protocol modern: a second reading in plain loops, limits, policies, notes, given boxes, bad input."""

import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from box_worlds import film, found, index_of, overlap, perfect
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_worlds import FINDINGS, SIDE, mask_world, predicted, truth_of
from scipy import ndimage

from cxrlocus.data.records import Record
from cxrlocus.data.splits import kfold_of_patients
from cxrlocus.errors import ConfigError, DataError, PredictionsError
from cxrlocus.metrics.ranking import average_precision
from cxrlocus.protocols import PIXEL_PROTOCOLS
from cxrlocus.protocols.modern import IOU, TAUS, Options, modern
from cxrlocus.protocols.shared import RunLabel
from cxrlocus.types import Findings, Frame

LABEL = RunLabel("made", "v", "toy", "fixed", "a note")
SEED = st.integers(0, 10**6)
OWN = Options(raster=SIDE)


def measure(p, index, **options):
    return modern(p, index, label=options.pop("label", LABEL), **{"resamples": 0, "options": OWN, **options})


def cells(rows, quantity, **columns):
    mine = [r for r in rows if r.quantity == quantity and all(getattr(r, k) == v for k, v in columns.items())]
    return {(r.finding, r.detail, None if math.isnan(r.threshold) else r.threshold): r.value for r in mine}


def parts_of(grid, tau):
    """Boxes and filled areas of a map's components at a tau, by another library."""
    low, high = float(grid.min()), float(grid.max())
    labels, _ = ndimage.label(grid > np.float32(low + tau * (high - low)), np.ones((3, 3)))
    out = []
    for k, (rows, columns) in enumerate(ndimage.find_objects(labels), start=1):
        area = int(ndimage.binary_fill_holes(labels == k).sum())
        out.append((area, (columns.start, rows.start, columns.stop, rows.stop)))
    return sorted(out, key=lambda part: (-part[0], part[1][1], part[1][0]))


def overlaps_in_loops(p, index):
    """Each true box's IoU with the boxes at each tau, the largest one's first; its film and finding."""
    out = []
    for i, record in enumerate(index.records):
        for box in record.boxes:
            grid = np.asarray(p.maps[i, list(index.findings).index(box.finding)])
            out.append((i, box.finding, [[overlap(b, box.xyxy, "iou") for _, b in parts_of(grid, t)] for t in TAUS]))
    return out


def taus_chosen(every, index, policy):
    """The tau that each true box is measured at: the first of those that hit most."""
    if policy == "fixed":
        return [50] * len(every)
    boxed = sorted({i for i, _, _ in every})
    fold = dict(zip(boxed, kfold_of_patients([index.patients[i] for i in boxed], 2, seed=0), strict=True))
    out = []
    for i, _, _ in every:
        choosing = [hit for j, _, hit in every if policy == "oracle" or fold[j] != fold[i]]
        counts = [sum(hit[k] for hit in choosing) for k in range(len(TAUS))]
        out.append(counts.index(max(counts)))
    return out


@given(SEED, st.sampled_from(["fixed", "validation", "oracle"]))
@settings(max_examples=4)
def test_a_second_reading_of_maxboxacc_agrees(seed, policy):
    p, index = mask_world(seed, films=6, patients=3)
    if sum(bool(r.boxes) for r in index.records) < 4 or len({r.patient for r in index.records if r.boxes}) < 2:
        return
    smooth = np.stack([[cv2.GaussianBlur(m, (0, 0), 1.2) for m in film] for film in p.maps])
    p = replace(p, maps=smooth)
    rows = measure(p, index, label=replace(LABEL, policy=policy))
    measured = overlaps_in_loops(p, index)
    for detail, largest in (("boxes=any", False), ("boxes=largest", True)):
        acc = {}
        for delta in IOU:
            every = [(i, f, [any(v > delta for v in (x[:1] if largest else x)) for x in at]) for i, f, at in measured]
            chosen = taus_chosen(every, index, policy)
            hit = [(f, h[k]) for (_, f, h), k in zip(every, chosen, strict=True)]
            for finding in {f for f, _ in hit}:
                acc[finding, delta] = np.mean([h for f, h in hit if f == finding])
            acc["pooled", delta] = np.mean([h for _, h in hit])
            acc["mean", delta] = np.mean([acc[f, delta] for f in {f for f, _ in hit}])
        got = cells(rows, "maxboxacc", detail=detail)
        assert got == pytest.approx({(f, detail, d): v for (f, d), v in acc.items()})
        mean = {(f, detail, None): np.mean([acc[f, d] for d in IOU]) for f, _ in acc}
        assert cells(rows, "maxboxacc_v2", detail=detail) == pytest.approx(mean)


@given(SEED)
@settings(max_examples=8)
def test_a_second_reading_of_pxap_and_of_the_pointing_game(seed):
    p, index = mask_world(seed)
    rows = measure(p, index)
    pixels, hits = {}, {}
    for i, record in enumerate(index.records):
        for finding in {b.finding for b in record.boxes}:
            grid = p.maps[i, list(index.findings).index(finding)].astype(np.float64)
            low, high = grid.min(), grid.max()
            values = np.minimum((1000 * ((grid - low) / (high - low))).astype(int), 999).ravel().tolist()
            truth = np.ravel(truth_of(index, i, finding)).tolist()
            for name in (finding, "pooled"):
                pixels.setdefault(name, []).extend(zip(truth, values, strict=True))
            tops = np.argwhere(grid >= low + (1 - 1e-6) * (high - low)).tolist()
            share = np.mean([truth_of(index, i, finding)[y][x] for y, x in tops])
            for name in (finding, "pooled"):
                hits.setdefault(name, []).append(share)
    if not pixels:
        return
    expected = {
        name: average_precision([int(t) for t, _ in both], [v for _, v in both]) for name, both in pixels.items()
    }
    expected["mean"] = np.mean([v for name, v in expected.items() if name != "pooled"])
    assert cells(rows, "pxap") == pytest.approx({(f, "truth=boxes", None): v for f, v in expected.items()})
    share = {name: np.mean(values) for name, values in hits.items()}
    share["mean"] = np.mean([v for name, v in share.items() if name != "pooled"])
    got = cells(rows, "pointing", detail="tolerance=0")
    assert got == pytest.approx({(f, "tolerance=0", None): v for f, v in share.items()})


def test_limit_the_true_boxes_and_maps_that_are_them():
    _, index = mask_world(0, films=8, most=1)
    maps = np.array([[truth_of(index, i, f) for f in FINDINGS] for i in range(len(index))], np.float32)
    rows = measure(predicted(index, maps), index)
    for quantity in ("maxboxacc", "maxboxacc_v2", "pxap", "pointing", "froc", "average_precision"):
        assert set(cells(rows, quantity).values()) == {1.0}, quantity
    assert set(cells(rows, "nothing_found").values()) == {0.0}
    boxes = measure(perfect(index), index, sizes=np.full((8, 2), SIDE))
    for quantity in ("maxboxacc", "maxboxacc_v2", "pxap", "pointing", "froc", "average_precision"):
        assert set(cells(boxes, quantity).values()) == {1.0}, quantity


def test_limit_a_flat_map_has_no_box_no_peak_and_marks_all_or_nothing():
    index = index_of([film("a", ("Mass", 0, 0, 8, 8), size=(SIDE, SIDE))], FINDINGS)
    rows = measure(predicted(index, np.full((1, 2, 4, 4), 0.7)), index)
    for quantity in ("maxboxacc", "maxboxacc_v2", "pointing", "froc", "average_precision"):
        assert set(cells(rows, quantity).values()) == {0.0}, quantity
    assert cells(rows, "pxap")["Mass", "truth=boxes", None] == 0.25
    assert cells(rows, "nothing_found")["Mass", "", None] == cells(rows, "no_box")["Mass", "", None] == 1.0
    assert all("1 of 1 maps without a peak: missed" in r.note for r in rows if r.quantity == "pointing")


def test_a_peak_of_several_cells_counts_by_share_and_nearness_is_in_pixels_of_224():
    index = index_of([film("a", ("Mass", 0, 0, 512, 1024))], FINDINGS)
    maps = np.zeros((1, 2, SIDE, SIDE), np.float32)
    maps[0, 0, 3, 6:10] = 1
    p = replace(predicted(index, maps), frames=Frame.of_size(1024, 1024).matrix[None], sizes=np.array([[1024, 1024]]))
    # Cells 6 and 7 are in; the centre of 8 is 32 px off, that of 9 is 96: 7 and 21 of 224.
    rows = measure(p, index, options=Options(raster=SIDE, tolerances=(0, 6.9, 7, 15, 21)))
    got = {r.detail: r.value for r in rows if r.quantity == "pointing" and r.finding == "Mass"}
    assert got == {
        "tolerance=0": 0.5,
        "tolerance=6.9": 0.5,
        "tolerance=7": 0.75,
        "tolerance=15": 0.75,
        "tolerance=21": 1.0,
    }


def test_the_best_tau_of_other_patients_is_found_and_told():
    # A hill around the box and a higher plain: at .5 and above the box is met, below all is.
    records = [film(f"{i}", ("Mass", 4, 4, 12, 12), size=(SIDE, SIDE)) for i in range(8)]
    index = index_of(records, FINDINGS)
    maps = np.zeros((8, 2, SIDE, SIDE), np.float32)
    maps[:, 0] = 0.62
    maps[:, 0, 4:12, 4:12] = 1
    maps[:, 0, 0, 0] = 0
    p = predicted(index, maps)
    for policy, value, told in (("fixed", 0.0, "tau 0.5"), ("validation", 1.0, "tau 0.62 from the boxes of the other"),
                                ("oracle", 1.0, "tau 0.62 from these test boxes")):  # fmt: skip
        rows = measure(p, index, label=replace(LABEL, policy=policy))
        mine = [r for r in rows if r.quantity == "maxboxacc" and r.finding == "Mass" and r.threshold == 0.5]
        assert [(r.value, r.policy) for r in mine] == [(value, policy)] * 2
        assert all(told in r.note for r in mine)
        # Without a threshold nothing is chosen.
        assert {r.policy for r in rows if r.quantity in ("pxap", "pointing")} == {"fixed"}
        assert {r.policy for r in rows if r.quantity in ("froc", "nothing_found", "maxboxacc_v2")} == {policy}
    assert measure(p, index, options=Options(tau=0.62, raster=SIDE))[0].value == 1.0
    with pytest.raises(DataError, match="2 folds need at least 2 patients"):
        measure(predicted(index.subset([0]), maps[:1]), index.subset([0]), label=replace(LABEL, policy="validation"))


@given(SEED, st.floats(0.1, 10), st.floats(-5, 5))
@settings(max_examples=6)
def test_invariance_the_unit_of_each_map_matters_to_nothing_but_to_ranking(seed, scale, shift):
    p, index = mask_world(seed, kind="logit")
    names = ("maxboxacc", "maxboxacc_v2", "pxap", "pointing", "nothing_found")
    one, other = (
        {q: cells(rows, q) for q in names}
        for rows in (measure(p, index), measure(replace(p, maps=p.maps * np.float32(scale) + np.float32(shift)), index))
    )
    for quantity in names:
        # A value at the edge of a bin or a level may fall on its other side in float32.
        assert one[quantity] == pytest.approx(other[quantity], abs=0.02, nan_ok=True)


def test_films_that_were_not_looked_at_are_missed_and_told():
    p, index = mask_world(2, films=12, most=1)
    first = index.subset(list(range(6)))
    part = predicted(first, p.maps[:6])
    whole, half = measure(part, index), measure(part, first)
    missing = sum(bool(r.boxes) for r in index.records[6:])
    told = [r for r in whole if r.quantity in ("maxboxacc", "pxap", "pointing", "nothing_found")]
    assert all(f"{missing} boxed films were not looked at" in r.note for r in told)
    for quantity in ("maxboxacc_v2", "pointing", "nothing_found"):
        for key, value in cells(whole, quantity).items():
            if key[0] in FINDINGS:
                n, m = (
                    next((r.n for r in rows if r.quantity == quantity and r.finding == key[0]), 0)
                    for rows in (whole, half)
                )
                hits = cells(half, quantity).get(key, 0) * m + (n - m if quantity == "nothing_found" else 0)
                assert value == pytest.approx(hits / n)
    # Nobody knows how large the film is: its cells cannot be counted.
    records = [*first.records, *(replace(r, size=None) for r in index.records[6:])]
    rows = measure(part, index_of(records, FINDINGS))
    seen, sized, unsized = (cells(r, "pxap")["pooled", "truth=boxes", None] for r in (half, whole, rows))
    # Cells of a film of known size that nobody looked at are found last.
    assert unsized == pytest.approx(seen)
    assert 0 < sized < seen
    assert all(f"{missing} films of unknown size left out" in r.note for r in rows if r.quantity == "pxap")


def test_a_finding_that_the_predictions_do_not_know_is_listed():
    p, index = mask_world(1)
    one = Findings(("Mass",))
    rows = measure(replace(p, findings=one, prob=p.prob[:, :1], maps=p.maps[:, :1]), index)
    for quantity in (
        "maxboxacc",
        "maxboxacc_v2",
        "pxap",
        "pointing",
        "froc",
        "average_precision",
        "nothing_found",
        "no_box",
    ):
        mine = [r for r in rows if r.quantity == quantity and r.finding == "Nodule"]
        assert mine
        assert all(math.isnan(r.value) and r.n == 0 and "do not know this finding" in r.note for r in mine)
        assert (
            cells(rows, quantity)["mean", mine[0].detail, None if math.isnan(mine[0].threshold) else mine[0].threshold]
            == (
                cells(rows, quantity)[
                    "Mass", mine[0].detail, None if math.isnan(mine[0].threshold) else mine[0].threshold
                ]
            )
        )


def test_exact_masks_are_measured_where_they_are(tmp_path: Path):
    index = index_of([film(f"{k}.png", ("Mass", 0, 0, 8, 8), size=(SIDE, SIDE)) for k in "ab"], FINDINGS)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[2:6, 2:6] = 255
    cv2.imwrite(str(tmp_path / "a_Mass.png"), mask)
    maps = np.tile((mask > 0).astype(np.float32), (2, 2, 1, 1))
    rows = measure(predicted(index, maps), index, masks=tmp_path)
    assert cells(rows, "pxap")["Mass", "truth=masks", None] == 1.0
    # A quarter of the box at full precision, the rest with everything.
    assert cells(rows, "pxap")["Mass", "truth=boxes", None] == pytest.approx(0.25 + 0.75 * 0.25)
    assert all("1 films without a mask left out" in r.note and r.n == 1 for r in rows
               if r.detail == "truth=masks" and r.finding == "Mass")  # fmt: skip
    # At another size it is the same mask.
    cv2.imwrite(str(tmp_path / "a_Mass.png"), cv2.resize(mask, (64, 64), interpolation=cv2.INTER_NEAREST))
    assert cells(measure(predicted(index, maps), index, masks=tmp_path), "pxap")["Mass", "truth=masks", None] == 1.0
    with pytest.raises(ConfigError, match="masks must be a folder"):
        measure(predicted(index, maps), index, masks=tmp_path / "none")


def test_given_boxes_stand_as_they_are():
    index = index_of([film("a", ("Mass", 0, 0, 8, 8), size=(SIDE, SIDE))], FINDINGS)
    rows = [(0, "Mass", 0, 0, 8, 7), (0, "Mass", 4, 4, 16, 16)]
    given = found(("a",), rows, FINDINGS)
    got = measure(given, index, sizes=np.array([[SIDE, SIDE]]))
    assert cells(got, "maxboxacc")["Mass", "boxes=any", 0.7] == 1
    assert cells(got, "maxboxacc")["Mass", "boxes=largest", 0.3] == 0
    assert cells(got, "nothing_found")["Mass", "", None] == cells(got, "no_box")["Mass", "", None] == 0
    # Boxes that share an edge with the true one have nothing in common with it.
    beside = measure(found(("a",), [(0, "Mass", 8, 0, 16, 8)], FINDINGS), index, sizes=np.array([[SIDE, SIDE]]))
    assert cells(beside, "nothing_found")["Mass", "", None] == 1
    assert cells(beside, "no_box")["Mass", "", None] == 0
    # Equal scores: one centre of two is inside.
    assert cells(got, "pointing")["Mass", "tolerance=0", None] == 0.5
    policy = replace(LABEL, policy="validation")
    assert {r.policy for r in measure(given, index, label=policy, sizes=np.array([[SIDE, SIDE]]))} == {"validation"}


def test_intervals_are_over_patients():
    index = index_of([film(f"{i}", ("Mass", 4, 4, 12, 12), size=(SIDE, SIDE)) for i in range(100)], FINDINGS)
    maps = np.zeros((100, 2, SIDE, SIDE), np.float32)
    maps[:50, 0, 4:12, 4:12] = maps[50:, 0, :2, :2] = 1
    rows = measure(predicted(index, maps), index, resamples=300)
    for quantity in ("maxboxacc", "maxboxacc_v2", "pointing"):
        mass = next(r for r in rows if (r.quantity, r.finding) == (quantity, "Mass"))
        # Half of 100 patients at 1, half at 0: a standard error of .05.
        assert mass.value == 0.5
        assert (mass.lo, mass.hi) == pytest.approx((0.4, 0.6), abs=0.03)
    for quantity in ("pxap", "froc", "average_precision"):
        mass = next(r for r in rows if (r.quantity, r.finding) == (quantity, "Mass"))
        assert mass.lo < mass.value < mass.hi
        assert 0.1 < mass.hi - mass.lo < 0.3


def test_an_index_without_boxes_is_undefined_throughout():
    index = index_of([Record("a", Path("a"), "a", "test", size=(SIDE, SIDE))], FINDINGS)
    rows = measure(predicted(index, np.zeros((1, 2, 4, 4))), index)
    assert rows
    assert all(math.isnan(r.value) and r.n == 0 for r in rows)


@given(st.sampled_from(["tau", "raster", "tolerances", "films"]), st.integers(-9, -1))
def test_options_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(ConfigError, match=f"{name} must be"):
        Options(**{name: (value,) if name == "tolerances" else value})


def test_bad_input_is_refused():
    p, index = mask_world(0)
    broken = p.maps.copy()
    broken[:, :, 0, 0] = np.inf
    with pytest.raises(PredictionsError, match=r"\.png, .*: a map must be finite .* Predict again\."):
        measure(replace(p, maps=broken), index)
    with pytest.raises(PredictionsError, match="sizes must be the films' width and height"):
        measure(found(index.images, [], FINDINGS), index)
    with pytest.raises(PredictionsError, match=r"prob must be \(films, findings\)"):
        measure(p, index, prob=p.prob[:, :1])
    with pytest.raises(PredictionsError, match="every film of the predictions must be in the evaluated index"):
        measure(p, index.subset([0, 1]))
    with pytest.raises(ConfigError, match="masks must be a folder"):
        measure(p, index, masks=Path("nowhere"))


def test_it_is_called_as_the_other_protocols_of_maps():
    p, index = mask_world(1)
    assert PIXEL_PROTOCOLS["modern"] is modern
    rows = PIXEL_PROTOCOLS["modern"](p, index, prob=p.prob, label=LABEL, seed=0, resamples=5, sizes=None)
    assert {r.quantity for r in rows} == {
        *("maxboxacc", "maxboxacc_v2", "pxap", "pointing", "froc", "froc_sensitivity"),
        *("average_precision", "nothing_found", "no_box", "auroc"),
    }
    assert len({(r.finding, r.quantity, repr(r.threshold), r.detail) for r in rows}) == len(rows)
