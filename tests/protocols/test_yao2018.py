"""Protocol yao2018: a second reading in plain loops, limits, kinds of map, masks, notes, bad input."""

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
from box_worlds import film, found, index_of, values
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_worlds import FINDINGS, SIDE, mask_world, predicted, truth_of

from cxrlocus.data import open_index
from cxrlocus.data.phantom import write_phantom
from cxrlocus.errors import ConfigError, PredictionsError
from cxrlocus.prediction.boxing import find_boxes
from cxrlocus.prediction.store import Predictions
from cxrlocus.protocols import PIXEL_PROTOCOLS
from cxrlocus.protocols.shared import RunLabel
from cxrlocus.protocols.wang2017 import wang2017
from cxrlocus.protocols.yao2018 import GIVEN, TAUS, Options, phantom_masks, yao2018
from cxrlocus.regions.rules import AbsoluteLevel
from cxrlocus.types import Frame

LABEL = RunLabel("made", "v", "toy", "fixed", "a note")
SEED = st.integers(0, 10**6)
OWN = Options(raster=SIDE, box_raster=SIDE)


def measure(p, index, **options):
    return yao2018(p, index, label=options.pop("label", LABEL), **{"resamples": 0, "options": OWN, **options})


def by_cell(rows, quantity):
    return {(r.finding, r.detail): r.value for r in rows if r.quantity == quantity}


def dice_of(p, index):
    """The definition cell by cell: one number a film and boxed finding."""
    out = {}
    for finding in index.findings:
        c, each = list(index.findings).index(finding), []
        for i, record in enumerate(index.records):
            if any(b.finding == finding for b in record.boxes):
                cells = list(zip(p.maps[i, c].ravel().tolist(), np.ravel(truth_of(index, i, finding)), strict=True))
                above = 2 * sum(s * g for s, g in cells)
                each.append(above / (sum(s * s for s, _ in cells) + sum(g * g for _, g in cells)))
        if each:
            out[finding] = each
    return out


@given(seed=SEED, films=st.integers(1, 12))
@settings(max_examples=40)
def test_a_second_reading_of_dice_agrees(seed, films):
    p, index = mask_world(seed, films=films)
    got, each = by_cell(measure(p, index), "dice"), dice_of(p, index)
    expected = {(f, ""): np.mean(v) for f, v in each.items()}
    pooled = [v for values in each.values() for v in values]
    expected["pooled", ""] = np.mean(pooled) if pooled else math.nan
    expected["mean", ""] = np.mean([np.mean(v) for v in each.values()]) if each else math.nan
    assert got == pytest.approx(expected, abs=1e-6, nan_ok=True)


@given(seed=SEED, parts=st.sampled_from(["each", "peak", "extent"]))
@settings(max_examples=20)
def test_boxes_at_every_tau_are_wangs_iobb_of_the_cut_map(seed, parts):
    p, index = mask_world(seed)
    got = by_cell(measure(p, index, options=replace(OWN, parts=parts)), "accuracy_iobb")
    for tau in TAUS:
        boxes = find_boxes(p, AbsoluteLevel(tau, parts, SIDE))
        theirs = wang2017(boxes, index, label=LABEL, resamples=0)
        wang = {r.finding: r.value for r in theirs if r.quantity == "accuracy_iobb" and r.threshold == 0.5}
        assert {f: v for (f, d), v in got.items() if d == f"tau={tau:g}"} == pytest.approx(wang, nan_ok=True)


def test_limit_maps_that_are_the_boxes_and_maps_that_are_empty():
    _, index = mask_world(0, films=8)
    maps = np.array([[truth_of(index, i, f) for f in FINDINGS] for i in range(len(index))], np.float32)
    right, none = measure(predicted(index, maps), index), measure(predicted(index, maps * 0), index)
    assert set(by_cell(right, "dice").values()) == {1.0}
    assert set(by_cell(none, "dice").values()) == {0.0}
    assert set(by_cell(none, "accuracy_iobb").values()) == {0.0}


def test_a_constant_map_has_the_value_of_its_share_and_boxes_the_film():
    index = index_of([film("a", ("Mass", 0, 0, 8, 16), size=(SIDE, SIDE))], FINDINGS)
    rows = measure(predicted(index, np.full((1, 2, 4, 4), 0.5)), index)
    # 2 (.5 b) / (.25 + b) with b = 1/2.
    assert by_cell(rows, "dice")["Mass", ""] == pytest.approx(2 / 3)
    # The film's box has an IoBB of exactly .5, which is no hit; above tau = .5 there is no box.
    assert {by_cell(rows, "accuracy_iobb")["Mass", f"tau={t:g}"] for t in TAUS} == {0.0}


def test_a_lower_tau_marks_more():
    index = index_of([film("a", ("Mass", 4, 4, 8, 8), size=(SIDE, SIDE))], FINDINGS)
    maps = np.zeros((1, 2, SIDE, SIDE), np.float32)
    maps[0, 0, 2:16, 2:16], maps[0, 0, 4:8, 4:8] = 0.35, 0.65
    got = by_cell(measure(predicted(index, maps), index), "accuracy_iobb")
    assert [got["Mass", f"tau={t:g}"] for t in TAUS] == [0, 0, 0, 1, 1, 1, 0, 0, 0]


def test_every_row_of_iobb_has_its_threshold_and_tau_and_no_policy_chooses():
    p, index = mask_world(3)
    for policy in ("fixed", "validation", "oracle"):
        rows = measure(p, index, label=replace(LABEL, policy=policy), prob=p.prob)
        mine = [r for r in rows if r.quantity == "accuracy_iobb"]
        assert {(r.threshold, r.policy) for r in mine} == {(0.5, "fixed")}
        assert {r.detail for r in mine} == {f"tau={t:g}" for t in TAUS}
        assert all(math.isnan(r.threshold) for r in rows if r.quantity in ("dice", "auroc"))
    boxes = found(index.images, [(0, "Mass", 0, 0, 4, 4)], FINDINGS)
    sizes = np.full((len(index), 2), SIDE)
    # A control that saw the test boxes stays one that did.
    rows = measure(boxes, index, label=replace(LABEL, policy="oracle"), sizes=sizes)
    assert {r.policy for r in rows} == {"oracle"}


def test_evidence_is_taken_through_its_sigmoid_on_its_own_grid():
    p, index = mask_world(6, kind="logit")
    coarse = replace(p, maps=p.maps[:, :, ::4, ::4])
    sigmoid = replace(coarse, maps=1 / (1 + np.exp(-coarse.maps)), kind="probability")
    rows, expected = measure(coarse, index), measure(sigmoid, index)
    for quantity in ("dice", "accuracy_iobb"):
        assert by_cell(rows, quantity) == pytest.approx(by_cell(expected, quantity), abs=1e-6)
    assert all("its sigmoid, cell by cell" in r.note for r in rows)
    assert not any("sigmoid" in r.note for r in expected)
    masks = measure(replace(sigmoid, kind="mask"), index)
    assert all("the mask's values are taken for probabilities" in r.note for r in masks)


def test_given_boxes_are_filled_and_stand_as_they_are():
    index = index_of([film("a", ("Mass", 0, 0, 8, 16), size=(SIDE, SIDE))], FINDINGS)
    boxes = found(("a",), [(0, "Mass", 0, 0, 4, 16), (0, "Mass", 2, 0, 8, 8)], FINDINGS)
    rows = measure(boxes, index, sizes=np.array([[SIDE, SIDE]]))
    union = 4 * 16 + 4 * 8
    assert by_cell(rows, "dice")["Mass", ""] == pytest.approx(2 * union / (union + 8 * 16))
    assert by_cell(rows, "accuracy_iobb")["Mass", GIVEN] == 1
    notes = {r.quantity: r.note for r in rows if r.finding == "Mass"}
    assert notes == {"dice": "a note; boxes filled", "accuracy_iobb": "a note"}


def test_a_boxed_film_that_was_not_looked_at_and_one_without_a_map_have_dice_0():
    p, index = mask_world(2, films=12)
    part = predicted(index.subset(list(range(6))), p.maps[:6])
    rows = [r for r in measure(part, index) if r.quantity == "dice"]
    each, first = dice_of(p, index), dice_of(p, index.subset(list(range(6))))
    missing = sum(bool(r.boxes) for r in index.records[6:])
    assert all(f"{missing} boxed films were not looked at" in r.note for r in rows)
    for r in rows:
        if r.finding in FINDINGS:
            assert r.n == len(each[r.finding])
            assert r.value == pytest.approx(sum(first[r.finding]) / r.n, abs=1e-6)
    blind = p.maps.copy()
    blind[:] = np.nan
    assert set(by_cell(measure(replace(p, maps=blind), index), "dice").values()) == {0.0}


def test_where_the_map_does_not_reach_the_probability_is_0():
    index = index_of([film("a", ("Mass", 0, 0, 16, 16), size=(SIDE, SIDE))], FINDINGS)
    p = predicted(index, np.ones((1, 2, 4, 4), np.float32))
    half = replace(p, frames=Frame.of_size(SIDE, SIDE).then_crop(0, 0, 0.5, 1).matrix[None])
    assert by_cell(measure(half, index), "dice")["Mass", ""] == pytest.approx(2 * 0.5 / (0.5 + 1))


def test_a_box_between_the_cells_is_left_out_and_told():
    boxes = [("Mass", 0.0, 0.0, 8.0, 8.0), ("Mass", 7.9, 7.9, 8.1, 8.1)]
    index = index_of([film(f"{i}", box, size=(SIDE, SIDE)) for i, box in enumerate(boxes)], FINDINGS)
    rows = [r for r in measure(predicted(index, np.ones((2, 2, 4, 4))), index) if r.quantity == "dice"]
    mass = next(r for r in rows if r.finding == "Mass")
    assert (mass.n, "1 boxes too small for the grid left out" in mass.note) == (1, True)
    assert mass.value == pytest.approx(2 * 0.25 / 1.25)


def test_the_raster_hardly_matters_to_a_smooth_map():
    y, x = np.mgrid[0:32, 0:32] / 31
    maps = np.tile(np.exp(-((x - 0.4) ** 2 + (y - 0.5) ** 2) / 0.05), (1, 2, 1, 1)).astype(np.float32)
    index = index_of([film("a", ("Mass", 200, 300, 600, 700))], FINDINGS)
    p = replace(predicted(index, maps), frames=Frame.of_size(1024, 1024).matrix[None], sizes=np.array([[1024, 1024]]))
    at = [by_cell(measure(p, index, options=Options(raster=r)), "dice")["Mass", ""] for r in (128, 512, 1024)]
    assert at[0] == pytest.approx(at[2], abs=0.005)
    assert at[1] == pytest.approx(at[2], abs=0.001)


def test_a_phantom_is_measured_against_its_exact_masks_too(tmp_path):
    write_phantom(tmp_path, images=60, size=64, seed=1)
    index = open_index(tmp_path)
    assert phantom_masks(index) == tmp_path / "masks"
    boxed = index.subset([i for i, r in enumerate(index.records) if r.boxes])
    maps = np.zeros((len(boxed), len(boxed.findings), 64, 64), np.float32)
    counts = 0
    for i, record in enumerate(boxed.records):
        for box in record.boxes:
            name = f"{record.image.removesuffix('.png')}_{box.finding}.png"
            mask = cv2.imread(str(tmp_path / "masks" / name), cv2.IMREAD_GRAYSCALE)
            maps[i, boxed.findings.index(box.finding)] = mask > 0
            counts += 1
    n = len(boxed)
    frames, sizes = np.tile(Frame.of_size(1024, 1024).matrix, (n, 1, 1)), np.full((n, 2), 1024)
    prob = np.zeros((n, len(boxed.findings)), np.float32)
    p = Predictions({}, boxed.images, boxed.findings, prob, maps, frames, sizes, "mask")
    rows = measure(p, boxed, options=Options(raster=64))
    exact, loose = by_cell(rows, "dice_mask"), by_cell(rows, "dice")
    # Maps that are the masks: all of them, and no box is as tight.
    assert exact["pooled", ""] == pytest.approx(1.0)
    assert 0.5 < loose["pooled", ""] < 0.98
    assert next(r for r in rows if r.quantity == "dice_mask" and r.finding == "pooled").n == counts
    assert all("against exact masks" in r.note for r in rows if r.quantity == "dice_mask")
    # Half the masks taken away are half the films left out, and told.
    other = tmp_path / "some"
    other.mkdir()
    kept = sorted((tmp_path / "masks").iterdir())[::2]
    for path in kept:
        (other / path.name).write_bytes(path.read_bytes())
    some = [r for r in measure(p, boxed, masks=other, options=Options(raster=64)) if r.quantity == "dice_mask"]
    pooled = next(r for r in some if r.finding == "pooled")
    assert pooled.n < counts
    assert f"{counts - pooled.n} films without a mask left out" in pooled.note
    assert pooled.value == pytest.approx(1.0)
    assert not by_cell(measure(p, replace(boxed, dataset="nih"), options=Options(raster=64)), "dice_mask")


def test_a_mask_may_be_at_another_size_than_the_raster(tmp_path):
    mask = np.zeros((8, 8), np.uint8)
    mask[2:4, 4:8] = 255
    cv2.imwrite(str(tmp_path / "a_Mass.png"), mask)
    index = index_of([film("a.png", ("Mass", 8, 4, 16, 8), size=(SIDE, SIDE))], FINDINGS)
    maps = np.zeros((1, 2, SIDE, SIDE), np.float32)
    maps[0, 0, 4:8, 8:16] = 1
    rows = measure(predicted(index, maps), index, masks=tmp_path)
    assert by_cell(rows, "dice_mask")["Mass", ""] == 1
    assert by_cell(rows, "dice")["Mass", ""] == 1


def test_intervals_are_over_patients():
    index = index_of([film(f"{i}", ("Mass", 0, 0, 8, 16), size=(SIDE, SIDE)) for i in range(100)], FINDINGS)
    maps = np.zeros((100, 2, SIDE, SIDE), np.float32)
    maps[:50, 0, :, :8] = 1
    rows = measure(predicted(index, maps), index, resamples=300)
    mass = next(r for r in rows if (r.quantity, r.finding) == ("dice", "Mass"))
    # Half of 100 patients at 1, half at 0: a standard error of .05.
    assert mass.value == 0.5
    assert (mass.lo, mass.hi) == pytest.approx((0.4, 0.6), abs=0.03)


def test_bad_input_is_refused(tmp_path):
    p, index = mask_world(0)
    for kind, value, rule in (("probability", 1.5, r"in \[0, 1\]"), ("mask", -0.1, r"in \[0, 1\]"),
                              ("logit", np.inf, "finite"), ("probability", np.nan, r"in \[0, 1\]")):  # fmt: skip
        broken = p.maps.copy()
        broken[:, :, 0, 0] = value
        with pytest.raises(PredictionsError, match=f"a map of kind '{kind}' must be {rule}; got 1 of 256 cells"):
            measure(replace(p, maps=broken, kind=kind), index)
    with pytest.raises(PredictionsError, match="sizes must be the films' width and height"):
        measure(found(index.images, [], FINDINGS), index)
    with pytest.raises(PredictionsError, match=r"prob must be \(films, findings\)"):
        measure(p, index, prob=p.prob[:, :1])
    with pytest.raises(PredictionsError, match="every film of the predictions must be in the evaluated index"):
        measure(p, index.subset([0, 1]))
    with pytest.raises(ConfigError, match="masks must be a folder"):
        measure(p, index, masks=tmp_path / "none")


@given(tau=st.floats().filter(lambda t: not 0 <= t < 1))
def test_a_tau_out_of_range_is_refused(tau):
    with pytest.raises(ConfigError, match="taus must be numbers in"):
        Options(taus=(0.5, tau))


@pytest.mark.parametrize("options", [{"raster": 0}, {"box_raster": -1}, {"taus": ()}, {"parts": "all"}])
def test_options_out_of_range_are_refused(options):
    with pytest.raises(ConfigError, match="must be"):
        Options(**options)


def test_it_is_called_as_the_other_protocols_of_maps():
    p, index = mask_world(1)
    assert PIXEL_PROTOCOLS["yao2018"] is yao2018
    rows = PIXEL_PROTOCOLS["yao2018"](p, index, prob=p.prob, label=LABEL, seed=0, resamples=5, sizes=None)
    assert {r.quantity for r in rows} == {"dice", "accuracy_iobb", "auroc"}
    assert len(values(rows, "auroc", "mean")) == 1
