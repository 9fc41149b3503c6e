"""One film, from its number alone: film k of a seed is the same film whatever else is made beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from cxrlocus.data.phantom import bones, detector, devices, tissue, vessels
from cxrlocus.data.phantom.anatomy import Anatomy, draw_anatomy, lay_lungs
from cxrlocus.data.phantom.canvas import F32, Pose, View, extent
from cxrlocus.data.phantom.findings import Scene, prepare, render
from cxrlocus.data.phantom.lesions import Lesion, draw_findings, draw_lesion
from cxrlocus.data.phantom.parameters import Parameters
from cxrlocus.errors import ConfigError
from cxrlocus.types import BOXED8, BoolArray

NIH_SIZE = 1024
"""Side of the frame that boxes and landmarks are given in, whatever the film's own size."""

SMALLEST, LARGEST = 64, 4096
"""Sizes a film may have."""

LEAST_PIXELS = 4
"""A finding whose mask has fewer pixels is not on the film."""

_BLOCK = 16
_MU_TISSUE, _MU_BONE = 0.19, 0.50
_PATIENT, _FILM, _NOISE, _LESION, _GROUPS = 1, 2, 3, 4, 5

DEFAULTS = Parameters()


@dataclass(frozen=True)
class Film:
    """A film and all that is true of it.

    ``pixels`` (size, size) uint8; ``masks`` finding -> (size, size) bool; ``boxes`` finding -> xyxy and ``landmarks``
    name -> (x, y), both in the 1024 px frame. ``lesions`` carry place and contrast; ``findings`` are those with a mask.
    """

    number: int
    patient: int
    follow_up: int
    anatomy: Anatomy
    view: str
    pose: Pose
    exposure: detector.Exposure
    devices: devices.Devices
    lesions: tuple[Lesion, ...]
    pixels: NDArray[np.uint8]
    masks: Mapping[str, BoolArray]
    boxes: Mapping[str, tuple[float, float, float, float]]
    landmarks: Mapping[str, tuple[float, float]]

    @property
    def findings(self) -> tuple[str, ...]:
        """The findings that the film truly shows."""
        return tuple(self.masks)

    @property
    def name(self) -> str:
        """The file's name, as NIH's: patient_followup.png."""
        return f"{self.patient:08d}_{self.follow_up:03d}.png"


@lru_cache(64)
def _groups(seed: int, block: int) -> tuple[tuple[int, int], ...]:
    """(first film, films) of each patient of a block of 16 films: most have one, some two to four."""
    rng = np.random.default_rng([seed, _GROUPS, block])
    groups, start = [], 0
    while start < _BLOCK:
        count = min(int(rng.choice([1, 2, 3, 4], p=[0.5, 0.25, 0.15, 0.10])), _BLOCK - start)
        groups.append((block * _BLOCK + start, count))
        start += count
    return tuple(groups)


def patients(seed: int, images: int) -> list[tuple[int, int, int]]:
    """(patient, first film, films) of all who have one of the first ``images`` films; the last may reach beyond them.

    Example:
        >>> patients(0, 40)[0][1], sum(n for _, _, n in patients(0, 32))
        (0, 32)
    """
    found = []
    for block in range((images + _BLOCK - 1) // _BLOCK):
        for place, (first, count) in enumerate(_groups(seed, block)):
            if first < images:
                found.append((block * _BLOCK + place + 1, first, count))
    return found


def _whose(seed: int, number: int) -> tuple[int, int]:
    """Patient and follow-up of a film."""
    block = number // _BLOCK
    for place, (first, count) in enumerate(_groups(seed, block)):
        if first <= number < first + count:
            return block * _BLOCK + place + 1, number - first
    raise LookupError(f"film {number} belongs to no patient of block {block}")


def _draw_pose(rng: np.random.Generator) -> Pose:
    z = np.clip(rng.standard_normal(4), -2.3, 2.3)
    return Pose(float(3.2 * z[0]), float(0.026 * z[1]), float(0.018 + 0.028 * z[2]), float(1.0 + 0.055 * z[3]))


def check_frame(seed: int, number: int, size: int) -> None:
    """Raise a ConfigError unless a film can have this seed, number and size."""
    if seed < 0 or number < 0:
        raise ConfigError(f"seed and film number must be at least 0; got {seed} and {number}. Choose others.")
    if not SMALLEST <= size <= LARGEST:
        raise ConfigError(f"size must lie in [{SMALLEST}, {LARGEST}] pixels; got {size}. Choose another size.")


def generate_film(seed: int, number: int, size: int = 256, parameters: Parameters = DEFAULTS) -> Film:
    """Film ``number`` of the phantom ``seed``, ``size`` x ``size`` pixels.

    Line integrals of tissue and bone are summed over the anatomy, changed by the findings, and turned into grey values
    by :mod:`cxrlocus.data.phantom.detector`. Everything but the noise is the same at every size.

    Raises:
        ConfigError: the seed or number is negative, or the size outside [64, 4096].

    Example:
        >>> film = generate_film(0, 5, 64)
        >>> film.pixels.shape, film.name, bool((film.pixels == generate_film(0, 5, 64).pixels).all())
        ((64, 64), '00000005_000.png', True)
    """
    check_frame(seed, number, size)
    patient, follow_up = _whose(seed, number)
    anatomy = draw_anatomy(np.random.default_rng([seed, _PATIENT, patient]))
    rng = np.random.default_rng([seed, _FILM, number])
    names = draw_findings(rng, parameters)
    streams = (np.random.default_rng([seed, _LESION, number, BOXED8.index(f)]) for f in names)
    lesions = tuple(draw_lesion(f, anatomy, parameters, s) for f, s in zip(names, streams, strict=True))
    portable = bool(rng.random() < (0.50 if names else 0.22))
    side = next((x.side for x in lesions if x.finding in ("Pneumothorax", "Effusion")), 0)
    worn = devices.draw_devices(rng, names, side, portable, parameters.distractors)
    pose, exposure = _draw_pose(rng), detector.draw_exposure(rng, portable)
    view = View(pose, size)
    shaped = prepare(anatomy, lesions)
    lines, masks = _line_integrals(shaped, view, lesions, rng)
    lines = lines + devices.tubes(worn, shaped, view, rng)
    glyphs = devices.markers(worn, size, rng)
    noise = np.random.default_rng([seed, _NOISE, number])
    bright = detector.display(detector.expose(lines, exposure, noise), exposure)
    pixels = detector.finish(bright, glyphs, exposure)
    scale = NIH_SIZE / size
    boxes = {f: _box(mask, scale) for f, mask in masks.items()}
    points = {name: _point(pose, xy) for name, xy in shaped.landmarks().items()}
    return Film(
        number=number, patient=patient, follow_up=follow_up, anatomy=anatomy, view="AP" if portable else "PA",
        pose=pose, exposure=exposure, devices=worn, lesions=lesions,
        pixels=pixels, masks=masks, boxes=boxes, landmarks=points,
    )  # fmt: skip


def _box(mask: BoolArray, scale: float) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = extent(mask)
    return x0 * scale, y0 * scale, x1 * scale, y1 * scale


def _point(pose: Pose, xy: tuple[float, float]) -> tuple[float, float]:
    x, y = pose.to_film([xy])[0] * NIH_SIZE
    return float(x), float(y)


def _line_integrals(
    anatomy: Anatomy, view: View, lesions: tuple[Lesion, ...], rng: np.random.Generator
) -> tuple[F32, dict[str, BoolArray]]:
    """Line integrals (H, W) of the patient with all findings, and the findings' masks."""
    lungs = lay_lungs(anatomy, view)
    outline, heart_cm = tissue.heart(anatomy, view)
    air = tissue.displace(lungs, heart_cm, tissue.great_vessels(anatomy, view))
    scene = Scene(anatomy, view, lungs, air, outline)
    body = tissue.torso(anatomy, view)
    gas = tissue.airways(anatomy, view) + tissue.bowel_gas(anatomy, view, rng)
    soft = body - np.float32(tissue.LUNG_AIR) * air
    marks = vessels.markings(anatomy, view, rng, float(rng.uniform(0.7, 1.3))) * np.clip(air * np.float32(1 / 6), 0, 1)
    masks: dict[str, BoolArray] = {}
    for lesion in lesions:
        change = render(lesion, scene)
        soft[change.window] += change.tissue
        marks[change.window] *= change.markings
        mask = np.zeros(air.shape, bool)
        mask[change.window] = change.mask
        if int(mask.sum()) >= LEAST_PIXELS:
            masks[lesion.finding] = mask
    bone = bones.ribs(anatomy, lungs) + bones.spine(anatomy, view) + bones.shoulder_girdle(anatomy, view)
    # Air beside the lungs cannot be deeper than the body is there.
    soft = np.maximum(soft + marks - np.minimum(gas, np.float32(0.5) * body), np.float32(0.12) * body)
    return np.asarray(np.float32(_MU_TISSUE) * soft + np.float32(_MU_BONE) * bone * (body > 1), np.float32), masks
