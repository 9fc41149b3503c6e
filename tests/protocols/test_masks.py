"""From maps to masks: scales, policies that see what they may and no more, frames, films nobody looked at."""

import re
from dataclasses import replace

import numpy as np
import pytest
from box_worlds import film, found, index_of
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_worlds import FINDINGS, SIDE, best_level, mask_world, predicted, truth_of

from cxrlocus.data.splits import kfold_of_patients
from cxrlocus.errors import ConfigError, PredictionsError
from cxrlocus.metrics.pixels import fnr, fpr, iop, mask_overlap
from cxrlocus.protocols import masks
from cxrlocus.protocols.masks import FIXED, SCALES, SHARES, Masking, film_mask, measure_masks
from cxrlocus.types import MAP_KINDS, Frame

SEED = st.integers(0, 10**6)
SMALL = Masking(raster=SIDE)


def at(index, predictions, masking=SMALL):
    return measure_masks(predictions, index, masking)


def test_fixed_levels_are_what_the_documentation_says():
    assert {kind: (SCALES[kind], FIXED[kind, SCALES[kind]]) for kind in MAP_KINDS} == {
        "mask": ("absolute", 0.0),
        "probability": ("absolute", 0.5),
        "logit": ("relative", 0.5),
    }


@pytest.mark.parametrize(("kind", "left", "iop"), [("mask", 0.1, 0.5), ("probability", 0.1, 1.0), ("logit", 0.1, 1.0)])
def test_fixed_cuts_by_the_kind(kind, left, iop):
    index = index_of([film("a", ("Mass", 8, 0, 16, 16), size=(SIDE, SIDE))], FINDINGS)
    maps = np.full((1, 2, SIDE, SIDE), left)
    maps[:, :, :, 8:] = 0.9
    m = at(index, predicted(index, maps, kind))
    assert (m.iop.tolist(), m.fnr.tolist(), m.scale) == ([iop], [0.0], SCALES[kind])


def test_a_relative_level_does_not_feel_scale_and_offset_and_an_absolute_one_does():
    p, index = mask_world(3, kind="logit")
    moved = replace(p, maps=p.maps * 8 + 4)
    for policy in ("fixed", "validation", "oracle"):
        relative = replace(SMALL, policy=policy)
        np.testing.assert_array_equal(at(index, p, relative).fpr, at(index, moved, relative).fpr)
    absolute = replace(SMALL, scale="absolute")
    assert at(index, moved, absolute).fpr.mean() > at(index, p, absolute).fpr.mean()


def test_each_criterion_prefers_what_it_says():
    p, index = mask_world(1, films=30, kind="logit")
    chosen = {c: at(index, p, replace(SMALL, policy="oracle", criterion=c)) for c in ("fpr_fnr", "iop", "dice")}
    error = {c: np.mean((m.fpr + m.fnr)[m.finding == 0]) for c, m in chosen.items()}
    precise = {c: np.nan_to_num(m.iop[m.finding == 0]).mean() for c, m in chosen.items()}
    assert error["fpr_fnr"] == min(error.values()) < error["iop"]
    assert precise["iop"] == max(precise.values()) > precise["fpr_fnr"]


@given(seed=SEED, kind=st.sampled_from(MAP_KINDS), policy=st.sampled_from(["fixed", "validation"]))
@settings(max_examples=30)
def test_the_oracle_is_a_bound_of_the_fixed_level_and_measures_the_same_films(seed, kind, policy):
    p, index = mask_world(seed, kind=kind, patients=20)
    best, other = (at(index, p, replace(SMALL, policy=k)) for k in ("oracle", policy))
    assert [best.film.tolist(), best.finding.tolist()] == [other.film.tolist(), other.finding.tolist()]
    for c in np.unique(best.finding):
        error, bound = ((m.fpr + m.fnr)[m.finding == c] for m in (other, best))
        # Validation offers other levels than the oracle, so only the fixed one, offered to all, is sure to be bounded.
        if policy == "fixed":
            assert np.nanmean(bound) <= np.nanmean(error) + 1e-9


def test_validation_chooses_by_the_other_half_and_by_nothing_else():
    p, index = mask_world(5, films=24, patients=12)
    masking = replace(SMALL, policy="validation")
    before = at(index, p, masking)
    boxed = [i for i, r in enumerate(index.records) if r.boxes]
    fold = dict(zip(boxed, kfold_of_patients([index.patients[i] for i in boxed], 2, seed=0), strict=True))
    half = np.array([fold[i] for i in before.film])
    assert {len(set(before.level[(half == k) & (before.finding == 0)])) for k in (0, 1)} == {1}

    # Whatever becomes of the maps and boxes of one half, its own levels stay; the other half's do not.
    maps = p.maps.copy()
    for i in boxed:
        if fold[i] == 0:
            maps[i] = 1 - maps[i]
    shifted = at(index, replace(p, maps=maps), masking)
    np.testing.assert_array_equal(shifted.level[half == 0], before.level[half == 0])
    assert (shifted.level[half == 1] != before.level[half == 1]).any()


@pytest.mark.parametrize("criterion", ["fpr_fnr", "iop", "dice"])
@pytest.mark.parametrize("policy", ["oracle", "validation"])
@pytest.mark.parametrize("kind", ["mask", "logit"])
def test_a_second_reading_chooses_the_same_levels(monkeypatch, kind, policy, criterion):
    monkeypatch.setattr(masks, "CHOOSING_RASTER", SIDE)
    p, index = mask_world(11, films=14, patients=7, kind=kind)
    maps = p.maps
    if kind == "logit":
        low, high = p.maps.min(axis=(2, 3), keepdims=True), p.maps.max(axis=(2, 3), keepdims=True)
        maps = ((p.maps.astype(float) - low) / (high - low)).astype(np.float32)
    got = at(index, p, replace(SMALL, policy=policy, criterion=criterion))
    boxed = [i for i, r in enumerate(index.records) if r.boxes]
    fold = dict(zip(boxed, kfold_of_patients([index.patients[i] for i in boxed], 2, seed=0), strict=True))
    for c, finding in enumerate(FINDINGS):
        films = [i for i in boxed if any(b.finding == finding for b in index.records[i].boxes)]
        for half in (0, 1):
            choosing = films if policy == "oracle" else [i for i in films if fold[i] != half]
            levels = {*np.quantile(maps[choosing, c], 1 - np.array(SHARES)).tolist(), FIXED[kind, SCALES[kind]]}
            want = best_level(index, maps[:, c], choosing, finding, levels, criterion)
            mine = [k for k in range(len(got.film)) if got.finding[k] == c and fold[got.film[k]] == half]
            assert mine
            assert got.level[mine] == pytest.approx(want, abs=1e-6)


def test_a_finding_that_one_half_lacks_has_no_level_in_the_other():
    records = [film(f"{i}", ("Mass", 0, 0, 8, 8), patient=f"p{i}", size=(SIDE, SIDE)) for i in range(6)]
    records.append(film("6", ("Nodule", 0, 0, 8, 8), patient="p6", size=(SIDE, SIDE)))
    index = index_of(records, FINDINGS)
    m = at(index, predicted(index, np.ones((7, 2, SIDE, SIDE))), replace(SMALL, policy="validation"))
    lone = m.finding == 1
    assert np.isnan([m.level[lone], m.iop[lone], m.fpr[lone], m.fnr[lone]]).all()
    assert not np.isnan(m.fnr[~lone]).any()


def test_one_boxed_patient_has_no_others_to_choose_by():
    index = index_of([film(name, ("Mass", 0, 0, 8, 8), patient="p", size=(SIDE, SIDE)) for name in "ab"], FINDINGS)
    m = at(index, predicted(index, np.ones((2, 2, 4, 4))), replace(SMALL, policy="validation"))
    assert np.isnan([m.level, m.iop, m.fpr, m.fnr]).all()


def test_maps_are_measured_on_the_film_through_their_frames():
    # A map of the film's left half alone: what it does not cover is not marked.
    index = index_of([film("a", ("Mass", 0, 0, 16, 16), size=(SIDE, SIDE))], FINDINGS)
    p = predicted(index, np.ones((1, 2, 4, 4)))
    half = replace(p, frames=Frame.of_size(SIDE, SIDE).then_crop(0, 0, 0.5, 1).matrix[None])
    assert at(index, half).fnr.tolist() == [0.5]
    quarter = replace(p, frames=Frame.of_size(SIDE, SIDE).then_crop(0, 0, 0.5, 0.5).matrix[None])
    assert at(index, quarter).fnr.tolist() == [0.75]


def test_films_of_any_shape_have_square_cells_of_their_own():
    index = index_of([film("a", ("Mass", 0, 0, 32, 16), size=(64, 16))], FINDINGS)
    p = predicted(index, np.ones((1, 2, 4, 4)))
    wide = replace(p, frames=Frame.of_size(64, 16).matrix[None], sizes=np.array([[64, 16]]))
    assert (at(index, wide).iop.item(), at(index, wide).fpr.item()) == (0.5, 1.0)


def test_a_film_nobody_looked_at_is_an_empty_mask():
    p, index = mask_world(2)
    boxed = [i for i, r in enumerate(index.records) if r.boxes]
    seen = [i for i in range(len(index)) if i != boxed[0]]
    part = predicted(index.subset(seen), p.maps[seen], "probability")
    m = at(index, part)
    lost = m.film == boxed[0]
    assert np.isnan(m.iop[lost]).all()
    assert (set(m.fpr[lost]), set(m.fnr[lost])) == ({0.0}, {1.0})
    assert m.seen.tolist() == (~lost).tolist()
    np.testing.assert_array_equal(m.fpr[~lost], at(index, p).fpr[~lost])


def test_boxes_are_masks():
    index = index_of([film("a", ("Mass", 0, 0, 8, 16), size=(SIDE, SIDE))], FINDINGS)
    boxes = found("a", [(0, "Mass", 4, 0, 8, 16), (0, "Mass", 6, 0, 12, 16), (0, "Nodule", 0, 0, 1, 1)], FINDINGS)
    m = measure_masks(boxes, index, SMALL, np.array([[SIDE, SIDE]]))
    assert (m.iop.tolist(), m.fpr.tolist(), m.fnr.tolist()) == ([0.5], [0.5], [0.5])
    assert np.isnan(m.level).all()
    for policy in ("validation", "oracle"):
        same = measure_masks(boxes, index, replace(SMALL, policy=policy), np.array([[SIDE, SIDE]]))
        assert same.iop.tolist() == [0.5]


def test_a_map_that_says_nothing_marks_nothing():
    index = index_of([film("a", ("Mass", 0, 0, 8, 8), size=(SIDE, SIDE))], FINDINGS)
    for maps, kind in ((np.full((1, 2, 4, 4), np.nan), "mask"), (np.full((1, 2, 4, 4), 3.0), "logit")):
        m = at(index, predicted(index, maps, kind))
        assert (np.isnan(m.iop).all(), m.fpr.tolist(), m.fnr.tolist()) == (True, [0.0], [1.0])


@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_a_map_with_a_broken_cell_is_refused_by_name(bad):
    index = index_of([film("a.png", ("Mass", 0, 0, 8, 8), size=(SIDE, SIDE))], FINDINGS)
    maps = np.zeros((1, 2, SIDE, SIDE))
    maps[0, 0, 3, 3] = bad
    with pytest.raises(PredictionsError, match=r"a\.png, Mass: a map must be finite .* Predict again"):
        at(index, predicted(index, maps))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"policy": "best"}, "policy must be one of fixed, validation, oracle; got 'best'"),
        ({"criterion": "iou"}, "criterion must be one of fpr_fnr, iop, dice; got 'iou'"),
        ({"scale": "log"}, "scale must be one of None, absolute, relative; got 'log'"),
        ({"raster": 0}, "raster must be 1 to 4096 cells; got 0"),
        ({"raster": 99999}, "raster must be 1 to 4096 cells; got 99999"),
        ({"seed": -1}, "seed must be at least 0; got -1"),
    ],
)
def test_bad_options_are_refused_by_name(options, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        Masking(**options)


def test_boxes_without_sizes_and_strange_films_are_refused():
    index = index_of([film("a", ("Mass", 0, 0, 8, 8))], FINDINGS)
    boxes = found("a", [], FINDINGS)
    for sizes in (None, np.zeros((2, 2))):
        with pytest.raises(PredictionsError, match=re.escape("sizes must be the films' width and height, (1, 2)")):
            measure_masks(boxes, index, SMALL, sizes)
    with pytest.raises(PredictionsError, match="'b' is not"):
        measure_masks(found("b", [], FINDINGS), index, SMALL, np.array([[4, 4]]))


@given(
    seed=SEED,
    kind=st.sampled_from(MAP_KINDS),
    policy=st.sampled_from(["fixed", "validation", "oracle"]),
    scale=st.sampled_from([None, "absolute", "relative"]),
)
@settings(max_examples=25)
def test_the_mask_that_is_drawn_is_the_one_that_was_measured(seed, kind, policy, scale):
    p, index = mask_world(seed, kind=kind, patients=20)
    m = at(index, p, replace(SMALL, policy=policy, scale=scale))
    assert m.masking == replace(SMALL, policy=policy, scale=scale)
    assert m.image == tuple(index.images[i] for i in m.film)
    for b, image in enumerate(m.image):
        finding = FINDINGS.names[m.finding[b]]
        mask = film_mask(p, image, finding, float(m.level[b]), scale=m.scale, size=(SIDE, SIDE), raster=SIDE)
        if np.isnan(m.level[b]):
            assert not mask.any()
            continue
        counts = mask_overlap(mask, np.array(truth_of(index, m.film[b], finding)))
        assert [float(f(counts)) for f in (iop, fpr, fnr)] == pytest.approx([m.iop[b], m.fpr[b], m.fnr[b]], nan_ok=True)


def test_what_nobody_looked_at_or_knows_is_drawn_empty():
    p, _ = mask_world(0)
    boxes = found("a", [(0, "Mass", 4, 0, 8, 16)], FINDINGS)
    for given_ in (p, boxes):
        for image, finding in (("nowhere.png", "Mass"), (given_.images[0], "Gout")):
            mask = film_mask(given_, image, finding, 0.0, scale="absolute", size=(32, 16), raster=8)
            assert mask.shape == (4, 8)
            assert not mask.any()
    filled = film_mask(boxes, "a", "Mass", float("nan"), size=(SIDE, SIDE), raster=SIDE)
    assert filled.tolist() == [[4 <= x < 8 for x in range(SIDE)]] * SIDE


def test_a_broken_map_is_not_drawn():
    index = index_of([film("a.png", ("Mass", 0, 0, 8, 8), size=(SIDE, SIDE))], FINDINGS)
    maps = np.zeros((1, 2, SIDE, SIDE))
    maps[0, 0, 3, 3] = np.inf
    with pytest.raises(PredictionsError, match=r"a\.png, Mass: a map must be finite"):
        film_mask(predicted(index, maps), "a.png", "Mass", 0.5, scale="absolute", size=(SIDE, SIDE))
