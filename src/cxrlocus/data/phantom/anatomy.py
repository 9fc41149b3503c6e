"""One patient: shapes and sizes in body coordinates, drawn once and kept over all of the patient's films."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from cxrlocus.data.phantom.canvas import F32, Curve, View, grid, root
from cxrlocus.types import BoolArray

I32 = NDArray[np.int32]

RIGHT, LEFT = 0, 1
"""Sides of the patient; the patient's right is at the image's left."""

SIGN = (-1.0, 1.0)
"""The sign of x on each side."""

Pair = tuple[float, float]


@dataclass(frozen=True)
class Anatomy:
    """A patient's chest. Lengths in film widths, ``depth`` and ``air`` in cm; pairs are (right, left).

    ``half_width`` is the lungs' outer border from the midline, ``dome`` the height of the diaphragm, ``drop`` how far
    the costophrenic angle lies below it, ``heart`` the heart's width and height against the usual.
    """

    age: int
    female: bool
    depth: float
    air: float
    fat: float
    half_width: Pair
    apex: float
    dome: Pair
    drop: float
    medial: float
    heart: Pair
    heart_y: float
    knob: float
    rib_spacing: float
    rib_slope: float
    rib_bone: float
    arm_angle: float
    breast: float
    seed: int

    @cached_property
    def lateral(self) -> Curve:
        """Distance of the lungs' outer border from the midline, by y; a row a side."""
        rows = []
        for side in (RIGHT, LEFT):
            tau = np.clip((grid() - self.apex) / (self.angle_y(side) - self.apex), 0, 1)
            start = 0.40 * self.half_width[side]
            waist = 1 - 0.03 * np.clip(tau - 0.75, 0, 1) / 0.25
            rows.append(start + (self.half_width[side] * waist - start) * np.sqrt(1 - (1 - tau) ** 2.6))
        return Curve.of(rows)

    @cached_property
    def inner(self) -> Curve:
        """Distance of the lungs' inner border from the midline, by y; a row a side."""
        rows = []
        for side in (RIGHT, LEFT):
            start = 0.40 * self.half_width[side]
            tau = np.clip((grid() - self.apex) / 0.13, 0, 1)
            rows.append(start + (self.medial - start) * np.sqrt(1 - (1 - tau) ** 2))
        return Curve.of(rows)

    @cached_property
    def base(self) -> Curve:
        """Height (y) of the diaphragm by distance from the midline; a row a side."""
        rows = []
        for side in (RIGHT, LEFT):
            top = 0.47 * self.half_width[side]
            outward = np.clip((grid() - top) / (self.half_width[side] - top), 0, 1)
            inward = np.clip((top - grid()) / top, 0, 1)
            rows.append(self.dome[side] + self.drop * outward**2.3 + 0.022 * inward**2)
        return Curve.of(rows)

    def angle_y(self, side: int) -> float:
        """Height of the costophrenic angle."""
        return self.dome[side] + self.drop

    def lung_point(self, side: int, across: float, down: float) -> tuple[float, float]:
        """A point of a lung: ``across`` is 0 at the midline, 1 at the ribs; ``down`` 0 at the apex, 1 at the base.

        Example:
            >>> patient = draw_anatomy(np.random.default_rng(0))
            >>> x, y = patient.lung_point(LEFT, 0.5, 0.5)
            >>> 0 < x < patient.half_width[LEFT] and patient.apex < y < patient.dome[LEFT]
            True
        """
        y = self.apex + down * (self.dome[side] - self.apex)
        for _ in range(2):
            inner, outer = self.inner.at(y, side), self.lateral.at(y, side)
            a = inner + across * (outer - inner)
            y = self.apex + down * (self.base.at(a, side) - self.apex)
        return SIGN[side] * a, y

    def landmarks(self) -> dict[str, tuple[float, float]]:
        """Apices, costophrenic angles and the heart's centre, in body coordinates."""
        return {
            "right_apex": (-0.40 * self.half_width[RIGHT], self.apex),
            "left_apex": (0.40 * self.half_width[LEFT], self.apex),
            "right_angle": (-0.97 * self.half_width[RIGHT], self.angle_y(RIGHT)),
            "left_angle": (0.97 * self.half_width[LEFT], self.angle_y(LEFT)),
            "heart": (0.045 * self.heart[0], self.heart_y + 0.016 * self.heart[1]),
        }


def draw_anatomy(rng: np.random.Generator) -> Anatomy:
    """A patient.

    Example:
        >>> draw_anatomy(np.random.default_rng(1)) == draw_anatomy(np.random.default_rng(1))
        True
    """

    def near(mean: float, spread: float) -> float:
        return float(mean + spread * np.clip(rng.standard_normal(), -2.2, 2.2))

    female = bool(rng.random() < 0.45)
    age = int(np.clip(near(50, 17), 16, 90))
    wide = near(0.335, 0.022) * (0.97 if female else 1.0)
    apex = near(-0.365, 0.018)
    right = near(0.170, 0.040)
    fat = float(np.clip(near(0.35, 0.35), 0, 1.2))
    return Anatomy(
        age=age,
        female=female,
        depth=near(19.0, 1.2) + 7.0 * fat,
        air=near(15.0, 1.2),
        fat=fat,
        half_width=(wide * near(1.01, 0.015), wide * near(0.99, 0.015)),
        apex=apex,
        dome=(right, right + near(0.025, 0.012)),
        drop=near(0.105, 0.02),
        medial=near(0.058, 0.006),
        heart=(float(np.clip(near(1.0, 0.055), 0.88, 1.12)), near(1.0, 0.04)),
        heart_y=right - near(0.058, 0.012),
        knob=near(0.030, 0.004) * (1 + 0.25 * max(0, age - 50) / 40),
        rib_spacing=near(0.066, 0.003),
        rib_slope=near(0.20, 0.05),
        rib_bone=near(1.0, 0.15) * (1 - 0.25 * max(0, age - 60) / 30),
        arm_angle=near(0.0, 1.0),
        breast=float(np.clip(near(0.6, 0.3), 0.15, 1.2)) if female else 0.0,
        seed=int(rng.integers(2**31)),
    )


@dataclass(frozen=True)
class Lungs:
    """The two lungs on a film, pixel by pixel: side (0 right, 1 left), distance from the midline, borders, air in cm.

    ``inside`` is the silhouette of both lungs, the heart's shadow included.
    """

    side: I32
    a: F32
    y: F32
    outer: F32
    inner: F32
    base: F32
    inside: BoolArray
    air: F32


def lay_lungs(anatomy: Anatomy, view: View) -> Lungs:
    """The lungs of a patient on a film, before the heart takes its room."""
    x, y = view.xy
    side = (x > 0).astype(np.int32)
    a = np.abs(x)
    outer, inner, base = anatomy.lateral(y, side), anatomy.inner(y, side), anatomy.base(a, side)
    across = (a - inner) / np.maximum(outer - inner, np.float32(1e-3))
    inside = (across > 0) & (across < 1) & (y < base) & (y > anatomy.apex)
    bulge = root(1 - ((2 * across - 1) ** 2) ** 2)
    depth = np.clip(0.72 + (base - y) * np.float32(1.6), 0.72, 1.0)
    # The apex is thin; the dome is met edge on, so its border is as sharp as the film allows.
    thin = np.clip(0.45 + (y - np.float32(anatomy.apex)) * np.float32(3.2), 0.45, 1.0)
    edge = np.clip((base - y) * np.float32(1 / 0.008), 0, 1)
    air = np.float32(anatomy.air) * bulge * depth * thin * edge * inside
    return Lungs(side, a, y, outer, inner, base, inside, np.asarray(air, np.float32))
