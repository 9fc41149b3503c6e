"""Lesions and markers: what points at brightness fails on markers, what points at one place fails on lesions."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cxrlocus.data.phantom.film import generate_film
from cxrlocus.data.phantom.parameters import Parameters
from cxrlocus.data.phantom.planting import Planted, plant, stamp
from cxrlocus.study.sanity.changes import (
    Looks,
    boxes_of,
    judge_lesions,
    judge_markers,
    lesion_rows,
    look_at,
    marker_rows,
)
from cxrlocus.study.sanity.rows import LEAST, Row, mean_row
from cxrlocus.types import Explained, FloatArray
from stand_ins import SeesBrightness

SQUARES = [generate_film(5, 4 * i, 64, Parameters(normal_share=1.0, distractors=0.0)).pixels for i in range(30)]
PATIENTS = [str(i) for i in range(len(SQUARES))]


class SeesLungs(SeesBrightness):
    """What is bright within the middle of the film: corners are out of sight."""

    def explain(self, images: Tensor, frames: FloatArray) -> Explained:
        sight = torch.zeros_like(images)
        sight[..., 18:, 14:50] = 1.0
        maps = F.adaptive_avg_pool2d(images * sight, self.grid).expand(-1, len(self.findings), -1, -1)
        return Explained(maps.mean((-2, -1)).clamp(0, 1), maps, frames, "logit")


class SeesMarkers(SeesBrightness):
    """What is bright and fine in the top of the film, where markers are."""

    def explain(self, images: Tensor, frames: FloatArray) -> Explained:
        fine = (images - F.avg_pool2d(images, 9, 1, 4)).clamp(0, 1)
        fine[..., 22:, :] = 0.0
        fine[..., 8:56] = 0.3 * fine[..., 8:56]
        maps = F.adaptive_max_pool2d(fine**2, self.grid)
        return Explained(maps.mean((-2, -1)), maps, frames, "logit")


class Points(SeesBrightness):
    """The same place whatever the film; it turns the film's brightness into the map's height."""

    def explain(self, images: Tensor, frames: FloatArray) -> Explained:
        maps = torch.zeros(len(images), 1, 16, 16)
        maps[:, :, 4, 4] = 1.0
        maps = maps * images.mean((-2, -1))[..., None, None]
        return Explained(torch.full((len(images), 1), 0.5), maps, frames, "mask")


class Turned(SeesLungs):
    """Sees the film turned by a quarter, and says so by its frames."""

    def explain(self, images: Tensor, frames: FloatArray) -> Explained:
        said = super().explain(images, frames)
        quarter = np.array([[0.0, -1.0, 1.0], [1.0, 0.0, 0.0]])
        turned = frames[:, :, :2] @ quarter
        turned[:, :, 2] += frames[:, :, 2]
        return Explained(said.prob, said.maps.rot90(1, (-2, -1)), turned, "logit")


def with_lesions() -> tuple[list[int], list[Planted]]:
    tried = [plant(s, "Mass", np.random.default_rng(i)) for i, s in enumerate(SQUARES)]
    return [i for i, one in enumerate(tried) if one], [one for one in tried if one]


FILMS, LESIONS = with_lesions()


def lesions_of(localizer: SeesBrightness) -> list[Row]:
    before, after = look_at(localizer, SQUARES).of(FILMS), look_at(localizer, [one.pixels for one in LESIONS])
    return lesion_rows("Mass", before, after, 0, LESIONS, [PATIENTS[i] for i in FILMS], seed=0)


def markers_of(localizer: SeesBrightness) -> list[Row]:
    stamped = [stamp(s, "L", np.random.default_rng(i)) for i, s in enumerate(SQUARES)]
    before, after = look_at(localizer, SQUARES), look_at(localizer, [one.pixels for one in stamped])
    return marker_rows("L", before, after, localizer.findings.names, stamped, PATIENTS, seed=0)


def value(rows: Sequence[Row], quantity: str) -> float:
    return next(row.value for row in rows if row.quantity == quantity)


def test_a_map_of_brightness_sees_lesions() -> None:
    assert len(LESIONS) >= LEAST
    rows = lesions_of(SeesBrightness())
    assert value(rows, "rises") == 1.0
    assert value(rows, "peak of change") == 1.0
    assert value(rows, "peak of change, control") < 0.5
    assert judge_lesions(rows).verdict == "pass"


def test_a_map_of_markers_is_named() -> None:
    marked = markers_of(SeesMarkers())
    assert value(marked, "peak drawn") > 0.05
    assert value(marked, "stands out") > 0.5
    assert judge_markers(marked).verdict == "fail"
    assert judge_markers(marked).reason.startswith("drawn to L: +")
    assert judge_lesions(lesions_of(SeesMarkers())).verdict == "fail"


def test_a_shortcut_to_one_finding_of_many_is_named() -> None:
    stamped = [stamp(s, "L", np.random.default_rng(i)) for i, s in enumerate(SQUARES)]
    before = Looks(
        np.zeros((len(SQUARES), 14)), np.random.default_rng(0).random((len(SQUARES), 14, 64, 64), np.float32), 0.0
    )
    after = Looks(before.prob, before.maps.copy(), 0.0)
    # The third finding's map has its peak on every second marker.
    for i, inside in enumerate(boxes_of(stamped, 0.0)):
        if i % 2:
            after.maps[i, 2][inside] = 1.1
    names = [f"finding {k}" for k in range(14)]
    marked = marker_rows("L", before, after, names, stamped, PATIENTS, seed=0)
    assert value(marked, "peak drawn") < 0.05
    assert value(marked, "peak drawn, finding 2") > 0.4
    assert value(marked, "peak drawn, finding 3") == 0
    verdict = judge_markers(marked)
    assert verdict.verdict == "fail"
    assert "of peaks of finding 2" in verdict.reason


@pytest.mark.parametrize("kind", [SeesLungs, Turned])
def test_a_map_of_lungs_sees_lesions_alone_whatever_its_frame(kind: type[SeesBrightness]) -> None:
    rows = lesions_of(kind())
    assert value(rows, "rises") == 1.0
    assert value(rows, "peak of change") > 0.9
    assert judge_lesions(rows).verdict == "pass"
    marked = markers_of(kind())
    assert abs(value(marked, "peak drawn")) < 0.05
    assert judge_markers(marked).verdict == "pass"


def test_a_map_of_one_place_is_not_drawn_to_a_lesion() -> None:
    rows = lesions_of(Points())
    assert value(rows, "rises") < 0.75
    verdict = judge_lesions(rows)
    assert verdict.verdict == "fail"
    assert verdict.reason.startswith("not drawn to Mass: rises there in")
    assert judge_markers(markers_of(Points())).verdict == "pass"


def test_a_map_that_does_not_change_has_risen_nowhere() -> None:
    looks = look_at(SeesBrightness(), SQUARES).of(FILMS)
    rows = lesion_rows("Mass", looks, looks, 0, LESIONS, PATIENTS[: len(FILMS)], seed=0)
    for quantity in ("rises", "peak of change", "peak of change, gain", "rise", "probability"):
        assert value(rows, quantity) == 0.0
    assert judge_lesions(rows).verdict == "fail"


def test_rows_by_hand() -> None:
    """Two maps of one finding on 64 x 64 cells; the box is the top left quarter and its reach half a cell of two."""
    old, new = np.zeros((2, 1, 64, 64), np.float32), np.zeros((2, 1, 64, 64), np.float32)
    old[:, :, ::2] = 2.0
    new[:] = old
    new[0, 0, :32, :32] += 3.0
    new[1, 0, 63, 63] += 1.0
    films = [Planted(np.zeros((64, 64), np.uint8), (0, 0, 32, 32), 9.0)] * 2
    looks = [Looks(np.array([[0.2], [0.4]]), maps, 0.5 / 64) for maps in (old, new)]
    rows = lesion_rows("Mass", looks[0], looks[1], 0, films, ["a", "b"], seed=0)
    assert value(rows, "rises") == 0.5
    assert value(rows, "peak of change") == 0.5
    assert value(rows, "peak of change, control") == 0.5
    assert value(rows, "peak after") == 0.5
    # The box is grown to 33 x 33 cells (reach half a cell, centres below its edge are in): 3 on 32 x 32 of them. The
    # maps have a standard deviation of 1.
    inside = int(boxes_of(films, 0.5 / 64)[0].sum())
    first = 3.0 * 1024 / inside
    second = -1.0 / (4096 - inside)
    assert inside == 32 * 32
    assert value(rows, "rise") == pytest.approx((first + second) / 2)


def test_boxes_are_grown_by_the_reach_and_stay_on_the_film() -> None:
    film = Planted(np.zeros((128, 128), np.uint8), (0, 32, 64, 96), 0.0)
    cells = boxes_of([film], 1 / 16)[0]
    rows, columns = np.flatnonzero(cells.any(axis=1)), np.flatnonzero(cells.any(axis=0))
    assert (rows[0], rows[-1], columns[0], columns[-1]) == (12, 51, 0, 35)


def test_too_few_films_decide_nothing() -> None:
    few = [Row(r.check, r.subject, r.quantity, r.value, r.lo, r.hi, LEAST - 1) for r in lesions_of(SeesBrightness())]
    assert judge_lesions(few).verdict == judge_lesions([]).verdict == judge_markers([]).verdict == "undecided"


def test_films_of_one_patient_decide_nothing() -> None:
    patients = ["one"] * len(FILMS)
    before, after = look_at(SeesBrightness(), SQUARES).of(FILMS), look_at(SeesBrightness(), [o.pixels for o in LESIONS])
    lesions = judge_lesions(lesion_rows("Mass", before, after, 0, LESIONS, patients, seed=0))
    assert (lesions.verdict, lesions.reason) == ("undecided", "the films with Mass planted are all of one patient")
    looks = Looks(np.zeros((len(FILMS), 1)), np.random.default_rng(0).random((len(FILMS), 1, 64, 64), np.float32), 0.0)
    drawn = Looks(looks.prob, looks.maps + 5 * boxes_of(LESIONS, 0.0)[:, None], 0.0)
    rows = marker_rows("L", looks, drawn, ("Mass",), LESIONS, patients, seed=0)
    assert value(rows, "peak drawn") > 0.5
    assert judge_markers(rows).verdict == "undecided"


def test_the_interval_of_a_mean_is_of_patients() -> None:
    """Ten films of one patient weigh as one draw: the interval is wider than that of ten patients."""
    values = [0.0] * 10 + [1.0] * 10
    many = mean_row("c", "s", "q", values, [str(i) for i in range(20)])
    four = mean_row("c", "s", "q", values, [str(i // 5) for i in range(20)])
    assert many.value == four.value == 0.5
    assert four.hi - four.lo > 1.5 * (many.hi - many.lo)
    assert np.isnan(mean_row("c", "s", "q", [np.nan], ["a"]).value)
    assert mean_row("c", "s", "q", [3.0, 1.0], ["a", "b"], counts=[4, 1]).value == 0.8
