"""Lesions and markers blended into films: where they are said to be, plainer as asked, and nothing else changed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrlocus.data.phantom.film import generate_film
from cxrlocus.data.phantom.parameters import Parameters
from cxrlocus.data.phantom.planting import PLANTED, plant, stamp
from cxrlocus.errors import ConfigError

FILMS = [generate_film(5, 4 * i, 128, Parameters(normal_share=1.0, distractors=0.0)) for i in range(6)]


def planted(finding: str, film: int, plainness: float = 0.8):  # type: ignore[no-untyped-def]  # Planted or None
    return plant(FILMS[film].pixels, finding, np.random.default_rng(film), plainness)


@pytest.mark.parametrize("finding", PLANTED)
def test_a_lesion_brightens_its_box_and_leaves_the_film_as_it_is(finding: str) -> None:
    """A spiculated mass has fine rays outside its body's box; they are fainter."""
    changed = [(FILMS[i].pixels, one) for i in range(len(FILMS)) if (one := planted(finding, i)) is not None]
    assert len(changed) >= 5
    for film, one in changed:
        x0, y0, x1, y1 = one.box
        rise = one.pixels.astype(int) - film
        assert rise.min() == 0
        assert one.brighter == pytest.approx(rise[y0:y1, x0:x1].mean())
        assert one.brighter > 4
        reach = 0.2 * 128
        far = np.ones(film.shape, bool)
        far[int(max(0, y0 - reach)) : int(y1 + reach), int(max(0, x0 - reach)) : int(x1 + reach)] = False
        assert not rise[far].any()
        outside = rise.copy()
        outside[y0:y1, x0:x1] = 0
        assert outside.max() < rise.max()


@pytest.mark.parametrize("finding", PLANTED)
def test_plainer_is_brighter_at_the_same_place(finding: str) -> None:
    """A box is of what shows, so it may give way by a pixel."""
    for film in range(3):
        steps = [planted(finding, film, p) for p in (0.0, 0.5, 1.0)]
        assert steps[0].brighter < steps[1].brighter < steps[2].brighter
        assert np.abs(np.subtract(steps[0].box, steps[2].box)).max() <= 3


@pytest.mark.parametrize("finding", PLANTED)
def test_a_lesion_lies_in_a_lung(finding: str) -> None:
    """The phantom's landmarks bound the lungs: apices above, costophrenic angles below and beside."""
    for film in range(len(FILMS)):
        one, marks = planted(finding, film), FILMS[film].landmarks
        x, y = (one.box[0] + one.box[2]) / 2, (one.box[1] + one.box[3]) / 2
        left, right = (marks[f"{side}_angle"][0] / 8 for side in ("right", "left"))
        top = min(marks[f"{side}_apex"][1] for side in ("right", "left")) / 8
        bottom = max(marks[f"{side}_angle"][1] for side in ("right", "left")) / 8
        assert left - 4 < x < right + 4
        assert top - 4 < y < bottom + 4


def test_the_same_seed_plants_the_same_and_another_another() -> None:
    one, same, other = (plant(FILMS[0].pixels, "Mass", np.random.default_rng(s)) for s in (1, 1, 2))
    assert one is not None
    assert same is not None
    assert other is not None
    assert np.array_equal(one.pixels, same.pixels)
    assert one.box != other.box


def test_planting_is_as_large_as_the_phantoms_own() -> None:
    """Median brightening of a nodule's box against the phantom's own nodules of that contrast, both with noise."""
    plain = Parameters(nodule=(1.7, 1.7), weights={f: float(f == "Nodule") for f in Parameters().weights},
                       normal_share=0.0, extra_finding=0.0, distractors=0.0)  # fmt: skip
    faint = Parameters.from_json({**plain.as_json(), "nodule": [1e-6, 1e-6]})
    own = []
    for k in range(8):
        film, without = generate_film(7, 4 * k, 128, plain), generate_film(7, 4 * k, 128, faint)
        x0, y0, x1, y1 = (round(v / 8) for v in film.boxes["Nodule"])
        own.append((film.pixels.astype(float) - without.pixels)[y0:y1, x0:x1].mean())
    ours = [one.brighter for k in range(len(FILMS)) if (one := planted("Nodule", k)) is not None]
    assert np.median(ours) == pytest.approx(np.median(own), rel=0.5)


@pytest.mark.parametrize("word", ["L", "R", "AP", "PORTABLE"])
def test_a_marker_is_bright_in_its_box_and_nowhere_else(word: str) -> None:
    film = FILMS[1].pixels
    one = stamp(film, word, np.random.default_rng(3))
    x0, y0, x1, y1 = one.box
    rise = one.pixels.astype(int) - film
    assert rise.min() >= 0
    assert rise[y0:y1, x0:x1].max() > 40
    rise[max(0, y0 - 3) : y1 + 3, max(0, x0 - 3) : x1 + 3] = 0
    assert rise.max() < 40
    assert (y0 + y1) / 2 < 0.3 * 128


@given(st.integers(0, 255), st.integers(64, 96))
def test_a_film_without_lungs_has_no_room(grey: int, size: int) -> None:
    assert plant(np.full((size, size), grey, np.uint8), "Nodule", np.random.default_rng(0)) is None


def test_the_room_beside_the_patient_is_no_lung() -> None:
    """A bright disc on black: all that is dark reaches the sides."""
    disc = np.zeros((128, 128), np.uint8)
    cv2.circle(disc, (64, 64), 45, 200, -1)
    assert plant(disc, "Mass", np.random.default_rng(0)) is None


@pytest.mark.parametrize(
    ("shape", "finding", "plainness"),
    [((128, 100), "Mass", 0.5), ((32, 32), "Mass", 0.5), ((128, 128), "Edema", 0.5), ((128, 128), "Mass", 1.5)],
)
def test_what_cannot_be_planted(shape: tuple[int, int], finding: str, plainness: float) -> None:
    with pytest.raises(ConfigError, match="must be"):
        plant(np.full(shape, 90, np.uint8), finding, np.random.default_rng(0), plainness)
