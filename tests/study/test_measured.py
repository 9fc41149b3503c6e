"""Numbers thing by thing: their means are the protocols' rows, DICE of masks in loops, seeds, bad input."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrlocus.errors import ConfigError, PredictionsError
from cxrlocus.protocols.infomask2019 import infomask2019
from cxrlocus.protocols.kim2021 import kim2021
from cxrlocus.protocols.masks import Masking, measure_masks
from cxrlocus.protocols.policies import boxes_by_policy
from cxrlocus.protocols.shared import RunLabel
from cxrlocus.protocols.wang2017 import wang2017
from cxrlocus.protocols.yao2018 import yao2018
from cxrlocus.study.measured import OF_FILMS, Measured, accuracy_of, accuracy_of_maps, dice_of, masks_of, over_seeds

sys.path.insert(0, str(Path(__file__).parents[1] / "protocols"))
from box_worlds import random_world
from mask_worlds import SIDE, mask_world, predicted, rates, truth_of

SEED = st.integers(0, 10**6)
LABEL = RunLabel("made", "v", "toy", "fixed")


def means(measured: Measured, index) -> dict:
    """The plain mean of each finding at each threshold."""
    out = {}
    for c in np.unique(measured.finding).tolist():
        for t, threshold in enumerate(measured.thresholds):
            mine = measured.value[measured.finding == c, t]
            mine = mine[~np.isnan(mine)]
            out[index.findings.names[c], threshold] = mine.mean() if len(mine) else math.nan
    return out


def rows_of(rows, quantity, detail="") -> dict:
    kept = [r for r in rows if r.quantity == quantity and r.detail == detail and r.finding not in ("mean", "pooled")]
    return {(r.finding, r.threshold): r.value for r in kept}


def without_threshold(values: dict) -> dict:
    return {finding: value for (finding, _), value in values.items()}


@given(SEED)
@settings(max_examples=15)
def test_hits_are_those_of_wang(seed):
    index, boxes = random_world(seed)
    got = accuracy_of(boxes, index, LABEL, thresholds=(0.3, 0.5))
    expected = rows_of(wang2017(boxes, index, label=LABEL, resamples=0), "accuracy_iou")
    assert means(got, index) == pytest.approx({k: v for k, v in expected.items() if k[1] in (0.3, 0.5)})
    assert (got.name, got.kind) == ("made (v)", ("wang2017", "toy", "accuracy_iou", "", ("0.3", "0.5")))


@pytest.mark.parametrize("policy", ["fixed", "validation", "oracle"])
def test_hits_of_maps_are_those_of_both_protocols(policy):
    p, index = mask_world(7, films=14)
    label = replace(LABEL, policy=policy)
    boxes, _ = boxes_by_policy(p, index, policy)
    wang = rows_of(wang2017(boxes, index, label=label, resamples=0), "accuracy_iou")
    got = means(accuracy_of_maps(p, index, label, thresholds=(0.1, 0.3)), index)
    assert got == pytest.approx({k: v for k, v in wang.items() if k[1] in (0.1, 0.3)})
    kim = rows_of(kim2021(p, index, label=label, resamples=0), "accuracy_iou", "boxes=one")
    assert means(accuracy_of_maps(p, index, label, protocol="kim2021"), index) == pytest.approx(kim)


@pytest.mark.parametrize("quantity", ["iop", "fpr", "fnr", "mask_area"])
def test_masks_film_by_film_are_those_of_infomask(quantity):
    p, index = mask_world(3, kind="mask")
    m = measure_masks(p, index, Masking(raster=SIDE))
    rows = infomask2019(p, index, label=LABEL, resamples=0, measures=m)
    got = without_threshold(means(masks_of(m, index, LABEL, quantity), index))
    assert got == pytest.approx(without_threshold(rows_of(rows, quantity)), nan_ok=True)


@given(SEED)
@settings(max_examples=15)
def test_dice_of_masks_in_loops(seed):
    p, index = mask_world(seed, kind="mask")
    m = measure_masks(p, index, Masking(raster=SIDE))
    got = masks_of(m, index, LABEL, "mask_dice")
    for film, finding, value in zip(got.film.tolist(), got.finding.tolist(), got.value[:, 0].tolist(), strict=True):
        name = index.findings.names[finding]
        want = rates((p.maps[film, finding] > 0).tolist(), truth_of(index, film, name))["dice"]
        assert value == pytest.approx(want)


def test_an_empty_mask_has_a_dice_of_0():
    p, index = mask_world(3, kind="mask")
    m = measure_masks(replace(p, maps=p.maps * 0), index, Masking(raster=SIDE))
    assert set(masks_of(m, index, LABEL, "mask_dice").value.ravel().tolist()) == {0.0}


def test_dice_film_by_film_is_that_of_yao():
    p, index = mask_world(4)
    rows = yao2018(p, index, label=LABEL, resamples=0)
    got = means(dice_of(p, index, LABEL), index)
    assert without_threshold(got) == pytest.approx(without_threshold(rows_of(rows, "dice")))
    # A film that was not looked at has DICE 0 in both.
    part = predicted(index.subset([0, 1, 2, 3]), p.maps[:4])
    rows = yao2018(part, index, label=LABEL, resamples=0)
    got = means(dice_of(part, index, LABEL), index)
    assert without_threshold(got) == pytest.approx(without_threshold(rows_of(rows, "dice")))


def test_seeds_are_averaged_thing_by_thing():
    index, boxes = random_world(1)
    one = accuracy_of(boxes, index, LABEL)
    nothing = replace(one, value=one.value * 0)
    unknown = replace(one, value=np.full_like(one.value, np.nan))
    np.testing.assert_allclose(over_seeds([one, nothing, unknown]).value, one.value / 2)
    with pytest.raises(PredictionsError, match="of one quantity on the same films"):
        over_seeds([one, replace(one, film=one.film + 1)])
    with pytest.raises(PredictionsError, match="must be at least one"):
        over_seeds([])


@given(st.text(max_size=8).filter(lambda word: word not in (*OF_FILMS, "wang2017", "kim2021")))
@settings(max_examples=20)
def test_bad_words_are_refused(word):
    p, index = mask_world(0)
    with pytest.raises(ConfigError, match="quantity must be one of"):
        masks_of(measure_masks(p, index, Masking(raster=2)), index, LABEL, word)
    with pytest.raises(ConfigError, match="protocol must be wang2017 or kim2021"):
        accuracy_of_maps(p, index, LABEL, protocol=word)
