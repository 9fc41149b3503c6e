import base64
import io
import math
from dataclasses import replace

import numpy as np
import pytest
from drawn import SIDE, detections_of
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from cxrlocus.prediction.store import Predictions
from cxrlocus.regions.boxes import iou
from cxrlocus.report.gallery import Case, cases, choose, missed, spread, tile
from cxrlocus.report.pictures import MAP_COLOUR


def picture(uri):
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.split(",", 1)[1]))))


def case_of(k, value, finding="Mass"):
    box = np.array([[0.0, 0.0, 1.0, 1.0]])
    touches = value > 0
    boxes = box[: int(not math.isnan(value))]
    return Case(f"{k:03d}.png", finding, box, boxes, np.ones(len(boxes)), value, touches)


def test_cases_are_the_films_with_true_boxes_and_their_iou(index, found):
    got = {c.image: c for c in cases(index, found)}
    assert list(got) == [f"film{k}.png" for k in range(6)]
    assert [got[f"film{k}.png"].iou for k in (0, 1, 2, 3, 5)] == [1.0, 0.5, 0.25, 0.0, 0.75]
    assert math.isnan(got["film4.png"].iou)


def test_the_box_of_highest_score_is_rated_and_not_the_best_one(index):
    boxes = detections_of(index, [(0, (40, 40, 120, 120), 0.1), (0, (40, 40, 120, 80), 0.9)])
    case = cases(index, boxes)[0]
    assert case.iou == 0.5
    assert case.score.tolist() == [0.9, 0.1]


def test_films_that_were_not_looked_at_are_no_cases(index, found):
    few = replace(found, images=found.images[:1], image=[0], finding=[0], xyxy=found.xyxy[:1], score=found.score[:1])
    assert [c.image for c in cases(index, few)] == ["film0.png"]


def test_best_median_and_worst(index, found):
    chosen = choose(cases(index, found), "Mass")
    assert [(caption, c.image) for caption, c in chosen] == [
        ("best", "film0.png"), ("median", "film1.png"), ("worst", "film3.png")
    ]  # fmt: skip


@given(st.lists(st.floats(0, 1) | st.just(math.nan), max_size=12))
def test_choice_is_extreme_and_central_and_does_not_depend_on_order(values):
    every = [case_of(k, v) for k, v in enumerate(values)]
    chosen = choose(every, "Mass")
    assert chosen == choose(every[::-1], "Mass")
    rated = sorted((v for v in values if not math.isnan(v)), reverse=True)
    assert len(chosen) == min(3, len(rated))
    got = [c.iou for _, c in chosen]
    assert got == sorted(got, reverse=True)
    if len(rated) >= 3:
        assert got == [rated[0], rated[(len(rated) - 1) // 2], rated[-1]]


def test_nothing_found_is_no_box_or_none_that_touches(index, found):
    assert [c.image for c in missed(cases(index, found))] == ["film3.png", "film4.png"]


def test_spread_takes_turns_between_findings():
    many = [case_of(k, math.nan) for k in range(9)] + [case_of(20, math.nan, "Nodule")]
    got = [(c.finding, c.image) for c in spread(many, ("Nodule", "Mass"), 3)]
    assert got == [("Nodule", "020.png"), ("Mass", "000.png"), ("Mass", "001.png")]
    assert len(spread(many, ("Nodule", "Mass"), 50)) == 10


def test_a_tile_holds_the_film_its_probability_and_its_size(index, found, predictions):
    case = cases(index, found)[0]
    drawn = tile(case, "best", index.records[0], predictions)
    assert picture(drawn.film).shape == (100, 100)
    assert (drawn.width, drawn.height) == (SIDE, SIDE)
    assert drawn.prob == predictions.prob[0, 0]
    assert drawn.reason == ""


def test_a_film_that_cannot_be_read_gives_its_reason(index, found, predictions):
    drawn = tile(cases(index, found)[1], "median", index.records[1], predictions)
    assert drawn.film == ""
    assert drawn.reason
    assert str(index.root) not in drawn.reason


@pytest.mark.parametrize("quarter", [(0, 0), (0, 1), (1, 0), (1, 1)])
def test_the_map_lies_where_its_frame_says(index, found, predictions, quarter):
    """One hot cell of a map that covers only the right half of the film."""
    maps = np.zeros((7, 3, 2, 2), dtype=np.float16)
    maps[0, 0][quarter] = 1
    frames = predictions.frames.copy()
    frames[0] = [[SIDE / 2, 0, SIDE / 2], [0, SIDE, 0]]
    changed = Predictions(predictions.meta, predictions.images, predictions.findings, predictions.prob, maps, frames,
                          predictions.sizes, "mask")  # fmt: skip
    drawn = tile(cases(index, found)[0], "best", index.records[0], changed)
    overlay = picture(drawn.overlay)
    assert tuple(overlay[0, 0, :3]) == MAP_COLOUR
    assert (overlay[:, : overlay.shape[1] // 2, 3] == 0).all()
    row, column = np.unravel_index(overlay[..., 3].argmax(), overlay.shape[:2])
    v, u = (row + 0.5) / overlay.shape[0], (column + 0.5) / overlay.shape[1]
    assert (v > 0.5, u > 0.75) == (bool(quarter[0]), bool(quarter[1]))
    assert (drawn.low, drawn.high) == (0.0, 1.0)


@pytest.mark.parametrize(("level", "said"), [(2.5, 2.5), (math.nan, math.nan)])
def test_a_constant_or_missing_map_has_no_overlay(index, found, predictions, level, said):
    flat = replace(predictions, maps=np.full((7, 3, 4, 4), level, dtype=np.float16))
    drawn = tile(cases(index, found)[0], "best", index.records[0], flat)
    assert drawn.overlay == ""
    assert drawn.low == said or math.isnan(drawn.low) == math.isnan(said)


def test_without_predictions_there_is_neither_map_nor_probability(index, found):
    drawn = tile(cases(index, found)[0], "best", index.records[0], None)
    assert (drawn.overlay, drawn.film[:22], (drawn.width, drawn.height)) == ("", "data:image/jpeg;base64", (SIDE, SIDE))
    assert math.isnan(drawn.prob)


def test_without_predictions_film_or_frame_the_boxes_give_the_size(index, found):
    bare = replace(index.records[1], size=None)
    drawn = tile(cases(index, found)[1], "best", bare, None)
    assert (drawn.width, drawn.height) == (120.0, 120.0)


def test_sixteen_bits_are_shown_over_their_whole_range(index, found, tmp_path):
    path = tmp_path / "deep.png"
    Image.fromarray(np.full((10, 10), 65535, dtype=np.uint16)).save(path)
    drawn = tile(cases(index, found)[0], "best", replace(index.records[0], path=path), None)
    assert picture(drawn.film).min() >= 253


def test_iou_of_a_case_is_the_regions_iou(index, found):
    for case in cases(index, found):
        if len(case.predicted):
            assert case.iou == iou(case.predicted[:1], case.truth).max()
