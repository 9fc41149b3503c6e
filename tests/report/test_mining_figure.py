"""The steps of mining as a picture: where each step looked, which cases are shown, and what is drawn."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from drawn import FINDINGS, SIDE
from PIL import Image

from cxrlocus.data.records import Index
from cxrlocus.prediction.panels import Panels
from cxrlocus.prediction.store import Predictions
from cxrlocus.report.entries import Entry
from cxrlocus.report.mining import (
    choose_cases,
    mined_cases,
    mining_figure,
    region_box,
    without_erased,
    write_mining_figures,
)
from cxrlocus.types import Frame

GRID = 5
"""Cells a side, of 40 px each: the true box (40, 40, 120, 120) is cells 1 and 2 of both axes."""


def cells(*boxes: tuple[int, int, int, int]) -> np.ndarray:
    """A (5, 5) map that is 1 within boxes x0, y0, x1, y1 of cells."""
    out = np.zeros((GRID, GRID), dtype=np.float32)
    for x0, y0, x1, y1 in boxes:
        out[y0:y1, x0:x1] = 1.0
    return out


HIT, HALF, MISS, NONE = cells((1, 1, 3, 3)), cells((1, 1, 2, 3)), cells((4, 4, 5, 5)), cells()


def predictions_of(index: Index) -> Predictions:
    n = len(index)
    return Predictions(
        {"method": "cai2018"}, index.images, FINDINGS, np.full((n, 3), 0.5, np.float32),
        np.zeros((n, 3, GRID, GRID), np.float16), np.tile(Frame.of_size(SIDE, SIDE).matrix, (n, 1, 1)),
        np.full((n, 2), SIDE), "logit",
    )  # fmt: skip


def panels_of(*films: tuple[str, np.ndarray, np.ndarray]) -> Panels:
    """Two steps: of each film what the first erased, and the second."""
    rng = np.random.default_rng(0)
    values = []
    for _, first, second in films:
        heat = rng.random((GRID, GRID))
        values.append([heat + first, first, np.where(first > 0, 0, heat), second, heat + first + second])
    names = ("H_1", "found 1", "H_2", "found 2", "H_f")
    return Panels(tuple(f[0] for f in films), ("Mass",) * len(films), names, np.array(values, np.float16))


def test_a_region_is_boxed_in_pixels_of_the_film() -> None:
    # A film of 100 x 50 in a square of 100 px: the unit square is 100 x 100 px, from 25 px above the film.
    letterbox = Frame(np.array([[100.0, 0.0, 0.0], [0.0, 100.0, -25.0]]))
    assert region_box(cells((1, 2, 3, 3)) > 0, letterbox).tolist() == [20.0, 15.0, 60.0, 35.0]
    assert np.isnan(region_box(NONE > 0, letterbox)).all()


def test_the_step_is_the_first_that_meets_a_true_box(index: Index) -> None:
    panels = panels_of(("film0.png", HALF, HIT), ("film1.png", MISS, HIT), ("film2.png", MISS, NONE))
    found = mined_cases(panels, predictions_of(index), index)
    assert [c.step for c in found] == [1, 2, 0]
    np.testing.assert_allclose([c.iou for c in found], [[0.5, 1.0], [0.0, 1.0], [0.0, 0.0]])
    assert found[0].found[1].tolist() == [40.0, 40.0, 120.0, 120.0]
    assert np.isnan(found[2].found[1]).all()


def test_films_without_a_true_box_or_a_prediction_are_no_cases(index: Index) -> None:
    panels = panels_of(("film6.png", HIT, NONE), ("other.png", HIT, NONE), ("film0.png", HIT, NONE))
    assert [c.image for c in mined_cases(panels, predictions_of(index), index)] == ["film0.png"]


def test_each_step_shows_its_best_object_and_then_comes_a_failure(index: Index) -> None:
    panels = panels_of(
        ("film0.png", HALF, NONE), ("film2.png", HIT, NONE), ("film3.png", MISS, HIT), ("film4.png", MISS, MISS)
    )
    found = mined_cases(panels, predictions_of(index), index)
    assert [c.image for c in choose_cases(found, 2)] == ["film2.png", "film3.png", "film4.png"]
    assert [c.image for c in choose_cases(found[::-1], 2)] == ["film2.png", "film3.png", "film4.png"]
    assert [c.image for c in choose_cases(found[:2], 2)] == ["film2.png"], "what there is not has no row"


def test_the_picture_has_a_row_a_case_with_both_kinds_of_boxes(index: Index) -> None:
    predictions = predictions_of(index)
    # The second film cannot be read: its maps are drawn without it.
    panels = panels_of(("film0.png", HIT, NONE), ("film1.png", MISS, HIT), ("film2.png", MISS, NONE))
    pictures = [
        Image.open(io.BytesIO(mining_figure(part, predictions, index))).convert("RGB")
        for part in (panels, panels_of(("film0.png", HIT, NONE)))
    ]
    assert pictures[0].height > 2 * pictures[1].height
    assert pictures[0].width == pictures[1].width
    for picture in pictures:
        r, g, b = np.asarray(picture, dtype=int).transpose(2, 0, 1)
        assert ((r > 200) & (g > 170) & (b < 110)).sum() > 100, "true boxes"
        assert ((r < 110) & (g > 180) & (b > 200)).sum() > 100, "found boxes"


def test_erased_cells_are_not_drawn_as_the_hottest() -> None:
    # Evidence below zero throughout: the 0 of an erased cell is the greatest value of H_3.
    named = {"found 1": np.array([[1.0, 0, 0, 0]]), "found 2": np.array([[0.0, 1, 0, 0]]),
             "H_1": np.array([[-1.0, -2, -3, -4]]), "H_2": np.array([[0.0, -2, -3, -4]]),
             "H_3": np.array([[0.0, 0, -3, -4]]), "H_f": np.array([[0.0, -2, -3, -4]])}  # fmt: skip
    assert without_erased(named, "H_1").tolist() == [[-1, -2, -3, -4]]
    assert without_erased(named, "H_2").tolist() == [[-4, -2, -3, -4]]
    assert without_erased(named, "H_3").tolist() == [[-4, -4, -3, -4]]
    assert without_erased(named, "H_f").tolist() == [[0, -2, -3, -4]]
    gone = {"found 1": np.ones((1, 2)), "H_2": np.zeros((1, 2))}
    assert without_erased(gone, "H_2").tolist() == [[0, 0]]


def test_what_does_not_mine_has_no_picture(index: Index, tmp_path: Path) -> None:
    predictions, mined = predictions_of(index), panels_of(("film0.png", HIT, NONE))
    other = Panels(mined.images, mined.findings, ("mean",), mined.values[:, :1])
    assert mining_figure(other, predictions, index) == b""
    entries = [
        Entry(predictions, None, [], is_control=False, panels=panels) for panels in (other, None)
    ]  # fmt: skip
    assert write_mining_figures(tmp_path, entries, index) == []


def test_pictures_stand_beside_the_page_under_the_methods_names(index: Index, tmp_path: Path) -> None:
    panels = panels_of(("film0.png", HIT, NONE))
    predictions = predictions_of(index)
    named = Predictions(
        {"method": "cai2018", "variant": "kp none"}, predictions.images, predictions.findings, predictions.prob,
        predictions.maps, predictions.frames, predictions.sizes, predictions.kind,
    )  # fmt: skip
    written = write_mining_figures(tmp_path, [Entry(named, None, [], is_control=False, panels=panels)], index)
    assert [p.name for p in written] == ["mining-cai2018-kp-none.jpg"]
    assert written[0].read_bytes()[:3] == b"\xff\xd8\xff", "a JPEG"
    with pytest.raises(FileNotFoundError):
        write_mining_figures(
            tmp_path / "no folder", [Entry(named, None, [], is_control=False, panels=panels)], index
        )  # fmt: skip
