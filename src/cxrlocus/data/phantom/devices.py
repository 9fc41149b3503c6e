"""What lies on the film beside the patient: side markers, catheters, tubes, leads. Distractors, some of them clues."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cxrlocus.data.phantom.anatomy import LEFT, RIGHT, SIGN, Anatomy
from cxrlocus.data.phantom.canvas import F32, View, unit

CHANCE: dict[str, dict[str, float]] = {
    "chest_tube": {"Pneumothorax": 0.45, "Effusion": 0.18, "": 0.015},
    "central_line": {"Pneumonia": 0.30, "Pneumothorax": 0.30, "Effusion": 0.28, "Atelectasis": 0.22, "": 0.09},
    "tracheal_tube": {"Pneumonia": 0.18, "Atelectasis": 0.16, "Effusion": 0.14, "Pneumothorax": 0.14, "": 0.03},
    "gastric_tube": {"Pneumonia": 0.16, "Atelectasis": 0.14, "Effusion": 0.12, "": 0.03},
    "pacemaker": {"Cardiomegaly": 0.14, "": 0.02},
    "leads": {"Cardiomegaly": 0.30, "Pneumonia": 0.30, "Effusion": 0.30, "Pneumothorax": 0.30, "": 0.12},
}
"""Chance of a device by finding ("" = any film); the largest that applies counts. The sick wear more of them."""


@dataclass(frozen=True)
class Devices:
    """The devices on one film and its markers: "L", "R", "AP", "PORTABLE"."""

    tubes: tuple[str, ...]
    markers: tuple[str, ...]
    side: int


def draw_devices(
    rng: np.random.Generator, findings: tuple[str, ...], side: int, portable: bool, share: float
) -> Devices:
    """Which devices and markers a film shows; ``share`` scales the chance of every device."""
    tubes = []
    for name, chances in CHANCE.items():
        chance = max([chances[""], *(chances.get(f, 0.0) for f in findings)])
        if rng.random() < share * chance * (1.35 if portable else 0.75):
            tubes.append(name)
    u = rng.random()
    markers = ["L"] if u < 0.68 else ["R"] if u < 0.90 else []
    if portable:
        markers += [word for word in ("AP", "PORTABLE") if rng.random() < 0.55]
    return Devices(tuple(tubes), tuple(markers), side)


def tubes(devices: Devices, anatomy: Anatomy, view: View, rng: np.random.Generator) -> F32:
    """Attenuation (a line integral, no unit) of all devices."""
    canvas = view.blank()
    for name in devices.tubes:
        _DRAW[name](anatomy, view, canvas, rng, devices.side)
    soft = cv2.GaussianBlur(unit(canvas), (0, 0), 0.5)
    return np.asarray(1.5 * soft, np.float32)


Draw = Callable[[Anatomy, View, NDArray[np.uint8], np.random.Generator, int], None]


def _curve(points: list[tuple[float, float]], rng: np.random.Generator, wobble: float = 0.006) -> NDArray[np.float64]:
    """A smooth curve through points that are moved a little."""
    knots = np.array(points) + rng.normal(0, wobble, (len(points), 2))
    t, at = np.linspace(0, 1, len(knots)), np.linspace(0, 1, 40)
    line = np.stack([np.interp(at, t, knots[:, i]) for i in (0, 1)], axis=1)
    for _ in range(4):
        line[1:-1] = 0.25 * line[:-2] + 0.5 * line[1:-1] + 0.25 * line[2:]
    return line


def _chest_tube(anatomy: Anatomy, view: View, canvas: NDArray[np.uint8], rng: np.random.Generator, side: int) -> None:
    x, y = anatomy.lung_point(side, 0.92, rng.uniform(0.55, 0.9))
    top = anatomy.lung_point(side, rng.uniform(0.45, 0.8), rng.uniform(0.08, 0.45))
    sign = SIGN[side]
    line = _curve([(x + sign * 0.20, y + 0.13), (x + sign * 0.06, y + 0.04), (x, y - 0.02), top], rng)
    view.strokes([line], 0.018, canvas, 0.16)
    view.strokes([line + np.array([0.006, 0])], 0.003, canvas, 0.75)


def _central_line(anatomy: Anatomy, view: View, canvas: NDArray[np.uint8], rng: np.random.Generator, _: int) -> None:
    side = RIGHT if rng.random() < 0.65 else LEFT
    entry = (
        (SIGN[side] * rng.uniform(0.06, 0.10), -0.55)
        if rng.random() < 0.5
        else (SIGN[side] * 0.27, anatomy.apex + 0.045)
    )
    knee = (SIGN[side] * 0.055, anatomy.apex + 0.10)
    line = _curve([entry, knee, (-0.035, -0.20), (-0.045, anatomy.heart_y - rng.uniform(0.0, 0.12))], rng)
    view.strokes([line], 0.0055, canvas, 0.55)


def _tracheal_tube(anatomy: Anatomy, view: View, canvas: NDArray[np.uint8], rng: np.random.Generator, _: int) -> None:
    tip = anatomy.heart_y - 0.165 - rng.uniform(0.06, 0.13)
    line = _curve([(0.01, -0.6), (0.0, -0.45), (0.0, tip)], rng, 0.003)
    wall = np.array([0.012, 0])
    view.strokes([line + wall, line - wall], 0.003, canvas, 0.45)
    view.strokes([line + wall / 2], 0.003, canvas, 0.7)


def _gastric_tube(_anatomy: Anatomy, view: View, canvas: NDArray[np.uint8], rng: np.random.Generator, _: int) -> None:
    line = _curve([(0.0, -0.6), (0.005, -0.2), (0.02, 0.10), (0.06, 0.24), (0.15, 0.30), (0.20, 0.36)], rng)
    view.strokes([line], 0.007, canvas, 0.40)


def _pacemaker(anatomy: Anatomy, view: View, canvas: NDArray[np.uint8], rng: np.random.Generator, _: int) -> None:
    x, y = anatomy.lung_point(LEFT, 0.75, rng.uniform(0.10, 0.22))
    view.strokes([[(x - 0.012, y), (x + 0.012, y + 0.004)]], 0.075, canvas, 0.85)
    view.strokes([[(x, y - 0.01), (x, y + 0.015)]], 0.055, canvas, 1.0)
    tip = (0.09, anatomy.heart_y + 0.07)
    line = _curve([(x, y - 0.03), (0.12, anatomy.apex + 0.09), (0.0, -0.22), (-0.05, anatomy.heart_y), tip], rng)
    view.strokes([line], 0.004, canvas, 0.85)


def _leads(_anatomy: Anatomy, view: View, canvas: NDArray[np.uint8], rng: np.random.Generator, _: int) -> None:
    for _i in range(int(rng.integers(2, 5))):
        x, y = float(rng.uniform(-0.34, 0.34)), float(rng.uniform(-0.30, 0.25))
        line = _curve([(x, y), (0.6 * x + rng.uniform(-0.1, 0.1), y + 0.15), (rng.uniform(-0.3, 0.3), 0.6)], rng, 0.03)
        view.strokes([line], 0.0035, canvas, 0.30)
        view.strokes([[(x - 0.001, y), (x + 0.001, y)]], 0.024, canvas, 0.30)
        view.strokes([[(x - 0.001, y), (x + 0.001, y)]], 0.010, canvas, 0.80)


_DRAW: dict[str, Draw] = {
    "chest_tube": _chest_tube,
    "central_line": _central_line,
    "tracheal_tube": _tracheal_tube,
    "gastric_tube": _gastric_tube,
    "pacemaker": _pacemaker,
    "leads": _leads,
}


def markers(devices: Devices, size: int, rng: np.random.Generator) -> F32:
    """Lead letters and printed words as brightness (size, size) in [0, 1], in the film's own frame."""
    canvas = np.zeros((size, size), np.uint8)
    for row, word in enumerate(devices.markers):
        letter = word in ("L", "R")
        left_half = word == "R" or (word == "PORTABLE" and rng.random() < 0.7)
        x = rng.uniform(0.05, 0.14) if left_half else rng.uniform(0.80, 0.92)
        y = rng.uniform(0.15, 0.26) if letter else 0.025 + 0.03 * row + rng.uniform(0, 0.01)
        height = rng.uniform(0.035, 0.055) if letter else rng.uniform(0.014, 0.020)
        turn = math.radians(rng.normal(0, 9)) if letter else 0.0
        _glyphs(canvas, word, (x, y), height, turn)
        if letter and rng.random() < 0.35:
            centre = (round((x + 0.35 * height) * size), round((y - 0.45 * height) * size))
            cv2.circle(canvas, centre, max(2, round(0.85 * height * size)), 200, max(1, size // 220), cv2.LINE_AA)
    return unit(canvas)


def _glyphs(canvas: NDArray[np.uint8], word: str, at: tuple[float, float], height: float, turn: float) -> None:
    """Letters drawn large, then shrunk and turned onto the film: the font has no size below a few pixels."""
    size = canvas.shape[0]
    face, weight = cv2.FONT_HERSHEY_SIMPLEX, 5
    (wide, high), base = cv2.getTextSize(word, face, 2.0, weight)
    stamp = np.zeros((high + base + 10, wide + 10), np.uint8)
    cv2.putText(stamp, word, (5, high + 5), face, 2.0, 255, weight, cv2.LINE_AA)
    k = height * size / high
    c, s = k * math.cos(turn), k * math.sin(turn)
    affine = np.array([[c, -s, at[0] * size], [s, c, at[1] * size - k * high]])
    soft = cv2.GaussianBlur(stamp, (0, 0), max(0.35 / k, 0.5))
    np.maximum(canvas, cv2.warpAffine(soft, affine, (size, size), flags=cv2.INTER_LINEAR), out=canvas)
