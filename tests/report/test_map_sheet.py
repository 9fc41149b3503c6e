"""Maps side by side: which films, what their numbers are, and that the picture shows the maps as they are."""

import io
from dataclasses import replace

import numpy as np
import pytest
from drawn import SIDE
from PIL import Image

from cxrlocus.data.records import Index
from cxrlocus.prediction.store import Predictions
from cxrlocus.protocols.shared import RunLabel
from cxrlocus.protocols.yao2018 import boxed_maps, yao2018
from cxrlocus.report.maps import RAMP, dice_by_case, map_sheet, typical


def probabilities(predictions: Predictions, values: np.ndarray) -> Predictions:
    maps = np.broadcast_to(values, (*predictions.maps.shape[:2], *values.shape)).astype(np.float32)
    return replace(predictions, maps=maps, kind="probability")


def marked() -> np.ndarray:
    """1 in the box of every film, 0 elsewhere."""
    cells = np.zeros((SIDE, SIDE))
    cells[40:120, 40:120] = 1.0
    return cells


def colours(png: bytes, of: tuple[int, int, int]) -> int:
    pixels = np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)
    return int((np.abs(pixels - of).max(axis=-1) <= 2).sum())


def test_the_numbers_are_those_whose_mean_the_protocol_reports(index: Index, predictions: Predictions) -> None:
    each = dice_by_case(predictions, index)
    rows = yao2018(predictions, index, label=RunLabel("m", "", "toy"), resamples=0)
    mean = next(r.value for r in rows if (r.quantity, r.finding) == ("dice", "Mass"))
    assert set(each) == {(f"film{k}.png", "Mass") for k in range(6)}
    assert np.mean(list(each.values())) == pytest.approx(mean)
    [one, *_] = boxed_maps(probabilities(predictions, marked()), index)
    assert one.dice == pytest.approx(1.0, abs=0.02)
    assert one.boxes.tolist() == [[40, 40, 120, 120]]


def test_the_typical_film_is_the_median_of_the_columns_mean(index: Index) -> None:
    first = {(f"film{k}.png", "Mass"): value for k, value in enumerate((0.1, 0.9, 0.5, 0.3))}
    other = {case: 1.0 - value for case, value in first.items()}
    assert typical({"a": first}, index) == [("film2.png", "Mass")]
    # All means are equal: the second of four by name. A case that one column lacks is no case.
    assert typical({"a": first, "b": other}, index) == [("film1.png", "Mass")]
    assert typical({"a": first, "b": {("film3.png", "Mass"): 1.0}}, index) == [("film3.png", "Mass")]
    assert typical({}, index) == []


def test_the_picture_shows_maps_on_one_scale_with_the_true_boxes(index: Index, predictions: Predictions) -> None:
    right, none = (probabilities(predictions, values) for values in (marked(), np.zeros((4, 4))))
    low, top = RAMP[0], RAMP[-1]
    both, alone, empty = (
        map_sheet(index, columns) for columns in ({"r0=0": right, "r0=5": none}, {"r0=0": right}, {"r0=5": none})
    )
    assert colours(alone, top) > 500
    # The share of the box: 80 x 80 of 200 x 200 pixels.
    assert colours(alone, top) / (colours(alone, top) + colours(alone, low)) == pytest.approx(0.16, abs=0.03)
    assert colours(empty, top) == 0
    assert colours(both, top) > 400
    assert colours(both, low) > 1.7 * colours(alone, low)
    assert colours(alone, (255, 212, 0)) > 20
    half = map_sheet(index, {"a": right, "b": probabilities(predictions, 0.5 * marked())})
    assert colours(half, top) == pytest.approx(colours(both, top), rel=0.2)
    assert both == map_sheet(index, {"r0=0": right, "r0=5": none})


def test_rows_may_be_chosen_and_a_film_that_cannot_be_read_is_grey(index: Index, predictions: Predictions) -> None:
    one = probabilities(predictions, marked())
    cases = [("film1.png", "Mass"), ("film3.png", "Mass"), ("film6.png", "Mass"), ("film0.png", "Nodule")]
    picture = map_sheet(index, {"a": one}, cases)
    assert colours(picture, (128, 128, 128)) > 1000
    tall = Image.open(io.BytesIO(picture)).height / Image.open(io.BytesIO(map_sheet(index, {"a": one}))).height
    assert tall == pytest.approx(2, abs=0.2)


def test_without_a_boxed_film_there_is_no_picture(index: Index, predictions: Predictions) -> None:
    assert map_sheet(index.subset([6]), {}) == b""
    assert map_sheet(index, {"a": predictions}, [("film6.png", "Mass")]) == b""
