"""From a batch to its boxes: the localizer's frames, its mining steps, and what is not a number."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from cxrlocus.data.records import Record
from cxrlocus.harvest.films import Square
from cxrlocus.harvest.find import Found, find_on_batch, step_of
from cxrlocus.harvest.options import Options
from cxrlocus.regions.rules import FixedThresholds, PeakComponent
from cxrlocus.types import Explained, FloatArray, Frame
from stand_ins import SeesBrightness

RULE = PeakComponent(raster=8)
NAMED = frozenset({"Mass"})


def bright(x: int, y: int, image: str = "a.png") -> Square:
    """A film of 80 x 80, seen at 8 x 8, with one bright cell."""
    pixels = np.zeros((8, 8), np.uint8)
    pixels[y, x] = 255
    return Square(Record(image, Path(image), "1", positive=NAMED), pixels, Frame.of_size(80, 80).matrix, (80, 80))


def test_a_bright_cell_is_boxed_in_pixels_of_the_film() -> None:
    found = Found()
    find_on_batch(SeesBrightness(8, 8), [bright(2, 5), bright(7, 0, "b.png")], Options(RULE), found)
    assert [box[:6] for box in found.boxes] == [("a.png", "Mass", 20, 50, 30, 60), ("b.png", "Mass", 70, 0, 80, 10)]
    assert [(box.rank, box.step, box.prob) for box in found.boxes] == [(1, 1, 0.015625)] * 2
    assert found.films == [("a.png", 80, 80), ("b.png", 80, 80)]
    assert found.asked == {"Mass": 2}


class LooksAtTheRightHalf(SeesBrightness):
    """Its maps cover the right half of the film: as after an alignment, the frames are its own."""

    def explain(self, images: torch.Tensor, frames: FloatArray) -> Explained:
        said = super().explain(images[..., 4:], frames)
        moved = np.stack([Frame(f).then_crop(0.5, 0, 1, 1).matrix for f in frames])
        return Explained(said.prob, said.maps, moved, said.kind)


def test_boxes_are_drawn_in_the_frames_that_the_localizer_declares() -> None:
    found = Found()
    find_on_batch(LooksAtTheRightHalf(8, 4), [bright(6, 5)], Options(RULE), found)
    (box,) = found.boxes
    assert 60 <= (box.x1 + box.x2) / 2 <= 70
    assert 45 <= (box.y1 + box.y2) / 2 <= 65


class Mines(SeesBrightness):
    """The left half of each map was found at the first look, the right half at the second."""

    def explain_steps(self, images: torch.Tensor, frames: FloatArray) -> tuple[Explained, torch.Tensor]:
        said = self.explain(images, frames)
        steps = torch.ones_like(said.maps, dtype=torch.uint8)
        steps[..., self.grid // 2 :] = 2
        return said, steps


def test_the_step_that_found_a_box_is_told() -> None:
    one = bright(1, 1)
    one.pixels[6, 6] = 200
    found = Found()
    find_on_batch(Mines(8, 8), [one], Options(FixedThresholds(levels=(60,), raster=8)), found)
    assert [(box.x1, box.rank, box.step) for box in found.boxes] == [(10, 1, 1), (60, 2, 2)]


def test_step_of_takes_the_highest_cell_inside() -> None:
    draw = np.random.default_rng(0)
    frame = Frame.of_size(120, 60).then_crop(0.1, 0, 0.9, 1).matrix
    for _ in range(50):
        values, steps = draw.normal(size=(6, 7)), draw.integers(1, 4, (6, 7))
        x, y = draw.uniform(0, 80), draw.uniform(0, 30)
        box = (x, y, x + draw.uniform(15, 40), y + draw.uniform(11, 30))
        best, step = -np.inf, 0
        for r in range(6):
            for c in range(7):
                u, v = 120 * (0.1 + 0.8 * (c + 0.5) / 7), 60 * (r + 0.5) / 6
                if box[0] <= u < box[2] and box[1] <= v < box[3] and values[r, c] > best:
                    best, step = values[r, c], int(steps[r, c])
        assert step_of(box, values, steps, frame) == step


def test_a_box_between_cells_takes_the_nearest_cells_step() -> None:
    steps = np.array([[1, 2], [3, 4]])
    frame = Frame.of_size(20, 20).matrix
    assert step_of((16, 16, 17, 17), np.ones((2, 2)), steps, frame) == 4
    assert step_of((9, 2, 9.5, 2.5), np.ones((2, 2)), steps, frame) == 1


class SaysNonsense(SeesBrightness):
    def __init__(self, prob: float, value: float) -> None:
        super().__init__(8, 8)
        self.said = prob, value

    def explain(self, images: torch.Tensor, frames: FloatArray) -> Explained:
        said = super().explain(images, frames)
        said.prob[0, 0], said.maps[0, 0, 0, 0] = self.said[0], self.said[1]
        return said


@pytest.mark.parametrize(
    ("prob", "value", "reason"),
    [(float("nan"), 0.0, r"prob must be in \[0, 1\]; got nan"), (1.5, 0.0, "got 1.5"), (0.5, float("inf"), "finite")],
)
def test_what_is_not_a_number_is_listed_and_the_rest_goes_on(prob: float, value: float, reason: str) -> None:
    found = Found()
    find_on_batch(SaysNonsense(prob, value), [bright(1, 1, "bad.png"), bright(1, 1, "good.png")], Options(RULE), found)
    assert [box.image for box in found.boxes] == ["good.png"]
    ((item, why),) = found.failed
    assert item == "bad.png, Mass"
    assert re.search(reason, why)


def test_a_constant_map_gives_no_box_and_is_asked() -> None:
    found, dark = Found(), bright(0, 0)
    dark.pixels[:] = 7
    find_on_batch(SeesBrightness(8, 8), [dark], Options(RULE), found)
    assert (found.boxes, found.failed, found.asked) == ([], [], {"Mass": 1})
