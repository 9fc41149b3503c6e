"""Lesions of the phantom, and markers, blended into any film: what a map must see, and what it must not."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from cxrlocus.data.phantom import devices
from cxrlocus.data.phantom.anatomy import Anatomy, Lungs, draw_anatomy
from cxrlocus.data.phantom.canvas import F32, Pose, View, extent, smoothstep
from cxrlocus.data.phantom.findings import Change, Scene, render
from cxrlocus.data.phantom.lesions import Lesion, draw_lesion
from cxrlocus.data.phantom.parameters import Parameters
from cxrlocus.errors import ConfigError

PLANTED = ("Mass", "Nodule", "Pneumonia")
"""The findings that can be planted: those that lie within a lung and change nothing else."""

PLAINNESS = 0.8
"""Where in the phantom's range of contrasts a planted lesion lies unless told otherwise: 0 faint, 1 obvious."""

GAIN = 0.073
"""Log odds of brightness that a cm of soft tissue adds, for each log odd between a film's 6th and 94th percentile.

Measured on the phantom, the same films with and without lesion (median of 60: .075 mass, .075 nodule, .067 pneumonia).
"""

ROOM = 0.6
"""Share of air that a lesion's place must have on the mean."""

TRIES = 40

_DEPTH = 12.0
_MIDDLE = 8
_DARKEST = 0.01
_FAINT = 0.15
_SOFT = 0.005
_LEVELS = (0.5, 0.6, 0.7, 0.75, 0.8, 0.85, 0.9)
_COVER = 0.06


@dataclass(frozen=True)
class Planted:
    """A changed film (S, S) uint8, the box xyxy of the change in its pixels, and the mean change of grey within it."""

    pixels: NDArray[np.uint8]
    box: tuple[int, int, int, int]
    brighter: float


def plant(
    pixels: NDArray[np.uint8], finding: str, rng: np.random.Generator, plainness: float = PLAINNESS
) -> Planted | None:
    """A film with a lesion at a random place in a lung.

    Shape, size and place are the phantom's, for a patient drawn at random: where a lung of the film is, is told by its
    darkness. The beam passes t cm more of tissue, so the brightness b of a film with an S-shaped curve rises by

        logit b' = logit b + m (1 - exp(-s / m)),   s = GAIN t (logit b_94 - logit b_6)

    with the percentiles of the film's middle, as ``detector.display`` has them. m is what is left to the brightness of
    the mediastinum, ``logit b_94`` (at least a tenth of the film's range): nothing in a lung is denser than that.

    Args:
        pixels: (S, S), S at least 64.
        finding: one of ``PLANTED``.
        rng: of place, shape and size.
        plainness: in [0, 1], from the least contrast of the phantom's range (log-uniform) to the greatest.

    Returns:
        The film; None where no dark place was found in ``TRIES`` draws.

    Raises:
        ConfigError: the finding cannot be planted, ``plainness`` is outside [0, 1], or the film is not a square.

    Example:
        >>> from cxrlocus.data.phantom.film import generate_film
        >>> film = generate_film(0, 5, 128, Parameters(normal_share=1.0)).pixels
        >>> planted = plant(film, "Mass", np.random.default_rng(0))
        >>> x0, y0, x1, y1 = planted.box
        >>> bool(planted.brighter > 5), bool((planted.pixels != film)[y0:y1, x0:x1].mean() > 0.5)
        (True, True)
    """
    _check(pixels)
    if finding not in PLANTED or not 0 <= plainness <= 1:
        raise ConfigError(
            f"a planted finding must be one of {', '.join(PLANTED)} and its plainness in [0, 1]; "
            f"got {finding!r} and {plainness}."
        )
    low, high = Parameters().contrast(finding)
    contrast = min(low * (high / low) ** plainness, high)
    air = _air(pixels)
    for _ in range(TRIES if air.max() > ROOM else 0):
        anatomy = draw_anatomy(rng)
        lesion = draw_lesion(finding, anatomy, Parameters(), rng)
        if lesion.kind == "both":
            continue
        change = render(replace(lesion, contrast=contrast), _scene(anatomy, lesion, air))
        mask = change.mask & (change.tissue > np.float32(_FAINT) * max(float(change.tissue.max()), 1e-6))
        if mask.any() and float(air[change.window][mask].mean()) > ROOM:
            return _blend(pixels, change, mask)
    return None


def stamp(pixels: NDArray[np.uint8], word: str, rng: np.random.Generator) -> Planted:
    """A film with a marker where the phantom (and a technician) puts it: near a corner, mostly clear of the lungs.

    Args:
        pixels: (S, S), S at least 64.
        word: "L" or "R", a lead letter; "AP" or "PORTABLE", printed small. The last two are on the films of the sick.
        rng: of place and size.

    Raises:
        ConfigError: the film is not a square of at least 64 pixels.

    Example:
        >>> film = np.full((128, 128), 90, np.uint8)
        >>> marked = stamp(film, "L", np.random.default_rng(0))
        >>> bool(marked.brighter > 5), marked.box[0] > 64
        (True, True)
    """
    _check(pixels)
    glyphs = devices.markers(devices.Devices((), (word,), 0), pixels.shape[0], rng)
    marked = np.maximum(pixels, np.rint(glyphs * np.float32(0.96 * 255)).astype(np.uint8))
    return _planted(pixels, marked, extent(glyphs > 0.5 * glyphs.max()))


def _check(pixels: NDArray[np.uint8]) -> None:
    if pixels.ndim != 2 or pixels.shape[0] != pixels.shape[1] or pixels.shape[0] < 64 or pixels.dtype != np.uint8:
        raise ConfigError(f"a film to plant in must be a square uint8 of 64 pixels or more; got {pixels.shape}.")


def _middle(image: F32) -> F32:
    margin = image.shape[0] // _MIDDLE
    return image[margin:-margin, margin:-margin]


def _air(pixels: NDArray[np.uint8]) -> F32:
    """How much of a lung each pixel looks like (S, S), in [0, 1]; 0 throughout where no lungs are told."""
    bright = np.asarray(pixels, np.float32) / np.float32(255)
    smooth = np.asarray(cv2.GaussianBlur(bright, (0, 0), 0.02 * len(pixels)), np.float32)
    low, high = np.percentile(_middle(smooth), (6, 94))
    dark = np.asarray((np.float32(high) - smooth) / np.float32(max(high - low, 0.05)), np.float32)
    return smoothstep(0.30, 0.75, dark) * smoothstep(0.02, 0.06, smooth) * _lungs(dark)


def _lungs(dark: F32) -> F32:
    """Where dark parts lie that reach neither the sides nor the bottom of the film, as the room beside a patient does.

    The level is the lowest at which such parts cover ``_COVER`` of the film: below it, axillae join lungs and room.
    """
    size = len(dark)
    for level in _LEVELS:
        _, part, stats, _ = cv2.connectedComponentsWithStats(np.asarray(dark > level, np.uint8))
        inner = stats[:, cv2.CC_STAT_AREA] >= 0.02 * size * size
        inner[np.unique(np.concatenate([[0], part[:, 0], part[:, -1], part[-1]]))] = False
        lungs = np.asarray(inner[part], np.uint8)
        if lungs.mean() >= _COVER:
            reach = 2 * round(0.02 * size) + 1
            grown = cv2.dilate(lungs, np.ones((reach, reach), np.uint8)).astype(np.float32)
            return np.asarray(cv2.GaussianBlur(grown, (0, 0), 0.01 * size), np.float32)
    return np.zeros_like(dark)


def _scene(anatomy: Anatomy, lesion: Lesion, air: F32) -> Scene:
    view = View(Pose(0.0, 0.0, 0.018, 1.0), len(air))
    blank = np.zeros_like(air)
    side = np.full(air.shape, lesion.side, np.int32)
    # The film's own darkness bounds the opacity; no drawn lung cuts it off.
    inside = np.ones(air.shape, np.bool_)
    lungs = Lungs(side, np.abs(view.xy[0]), view.xy[1], blank, blank, blank, inside, blank)
    return Scene(anatomy, view, lungs, np.float32(_DEPTH) * air, np.full_like(air, 2.0))


def _blend(pixels: NDArray[np.uint8], change: Change, mask: NDArray[np.bool_]) -> Planted:
    grey = np.clip(np.asarray(pixels, np.float32) / np.float32(255), _DARKEST, 1 - _DARKEST)
    odds = np.log(grey / (1 - grey))
    low, high = (float(x) for x in np.percentile(_middle(odds), (6, 94)))
    # A film without contrast has no scale to blend by; half a log odd is that of the flattest film.
    span = max(high - low, 0.5)
    soft = cv2.GaussianBlur(change.tissue, (0, 0), _SOFT * len(pixels))
    there = odds[change.window]
    room = np.maximum(np.float32(high) - there, np.float32(0.1 * span))
    there = there + room * (1 - np.exp(-np.float32(GAIN * span) * soft / room))
    lighter = np.rint(255 / (1 + np.exp(-there))).astype(np.uint8)
    changed = pixels.copy()
    # Planting never darkens; where nothing is added, the clipping above must not show.
    changed[change.window] = np.where(soft > 0.01, np.maximum(lighter, changed[change.window]), changed[change.window])
    whole = np.zeros(pixels.shape, np.bool_)
    whole[change.window] = mask
    return _planted(pixels, changed, extent(whole))


def _planted(before: NDArray[np.uint8], after: NDArray[np.uint8], box: tuple[int, int, int, int]) -> Planted:
    x0, y0, x1, y1 = box
    part = (slice(y0, y1), slice(x0, x1))
    return Planted(after, box, float((after[part].astype(np.float64) - before[part]).mean()))
