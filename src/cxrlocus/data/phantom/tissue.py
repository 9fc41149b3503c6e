"""Soft tissue and air: torso, arms, breasts, heart, great vessels, airways, gas in the bowel; in cm along the beam."""

from __future__ import annotations

import math

import cv2
import numpy as np

from cxrlocus.data.phantom.anatomy import LEFT, SIGN, Anatomy, Lungs
from cxrlocus.data.phantom.canvas import F32, Curve, View, clouds, root, smoothstep, unit, upsample

LUNG_AIR = 0.78
"""Share of air in an inflated lung; the rest is blood and tissue."""


def torso(anatomy: Anatomy, view: View) -> F32:
    """Thickness of the body: neck, shoulders, trunk, arms, breasts, fat."""
    coarse = view.coarse(2)
    x, y = coarse.xy
    wide = anatomy.half_width[0] + 0.075 + 0.055 * anatomy.fat
    half = Curve.through(
        [(-0.65, 0.10), (-0.53, 0.105), (-0.47, 0.15), (-0.43, 0.25), (-0.39, 0.36), (-0.34, wide + 0.07),
         (-0.24, wide + 0.11), (-0.12, wide + 0.06), (0.02, wide + 0.01), (0.20, wide), (0.5, wide + 0.01)],
        smooth=0.06,
    )  # fmt: skip
    deep = Curve.through(
        [(-0.6, 0.60), (-0.45, 0.66), (-0.32, 0.84), (-0.10, 0.98), (0.2, 1.05), (0.5, 1.12)], smooth=0.1
    )
    across = (x / half(y)) ** 2
    body = np.float32(anatomy.depth) * deep(y) * root(1 - across * across * np.sqrt(across))
    body = np.maximum(body, arms(anatomy, coarse))
    if anatomy.breast:
        body = body + breasts(anatomy, coarse)
    lumps = clouds(np.random.default_rng([anatomy.seed, 1]), 9, body.shape)
    return upsample(np.asarray(body * (1 + 0.012 * lumps), np.float32), view.size)


def arms(anatomy: Anatomy, view: View) -> F32:
    """Two upper arms, hanging or spread."""
    canvas = view.blank()
    for sign in SIGN:
        shoulder = (sign * (anatomy.half_width[0] + 0.10), -0.26)
        swing = math.radians(17 + 10 * anatomy.arm_angle)
        hand = (shoulder[0] + sign * 0.7 * math.sin(swing), shoulder[1] + 0.7 * math.cos(swing))
        view.strokes([[shoulder, hand]], 0.135 + 0.05 * anatomy.fat, canvas)
    soft = cv2.GaussianBlur(unit(canvas), (0, 0), max(view.thickness(0.014), 0.5))
    return np.asarray((10.0 + 3.0 * anatomy.fat) * np.sqrt(soft), np.float32)


def breasts(anatomy: Anatomy, view: View) -> F32:
    """Two breasts, with the fold beneath as their one sharp border."""
    x, y = view.xy
    size = 0.10 + 0.055 * anatomy.breast
    total = np.zeros_like(x)
    for sign in SIGN:
        u = (x - np.float32(sign * 0.205)) / np.float32(size * 1.08)
        v = (y - np.float32(0.10 + 0.09 * anatomy.breast)) / np.float32(size)
        v = np.where(v > 0, v * np.float32(1.25), v * np.float32(0.72))
        total += root(1 - u * u - v * v)
    return np.asarray(np.float32(1.4 + 3.2 * anatomy.breast) * total, np.float32)


def heart(anatomy: Anatomy, view: View) -> tuple[F32, F32]:
    """The heart's outline (below 1 inside) and its thickness in cm.

    The ellipses of left ventricle, right atrium and pulmonary trunk, joined smoothly; ``anatomy.heart`` stretches them
    about a point near the right border, since a heart grows to the left.
    """
    x, y = view.xy
    wide, high = anatomy.heart
    u, v = (x - 0.0) / np.float32(wide), (y - np.float32(anatomy.heart_y)) / np.float32(high)
    left = _ellipse(u, v, (0.070, 0.045), (0.128, 0.098), 33)
    right = _ellipse(u, v, (-0.005, 0.010), (0.094, 0.118), 8)
    trunk = _ellipse(u, v, (0.036, -0.055), (0.046, 0.066), -20)
    outline = _join(_join(left, right, 0.5), trunk, 0.4)
    return outline, np.asarray(11.0 * root(1 - outline), np.float32)


def _ellipse(x: F32, y: F32, centre: tuple[float, float], radii: tuple[float, float], tilt: float) -> F32:
    c, s = math.cos(math.radians(tilt)), math.sin(math.radians(tilt))
    u = ((x - np.float32(centre[0])) * np.float32(c) + (y - np.float32(centre[1])) * np.float32(s)) / np.float32(
        radii[0]
    )
    v = ((y - np.float32(centre[1])) * np.float32(c) - (x - np.float32(centre[0])) * np.float32(s)) / np.float32(
        radii[1]
    )
    return np.asarray(u * u + v * v, np.float32)


def _join(p: F32, q: F32, width: float) -> F32:
    """Smooth minimum of two outlines."""
    h = np.clip(np.float32(0.5) + (q - p) * np.float32(0.5 / width), 0, 1)
    return np.asarray(q + (p - q) * h - np.float32(width) * h * (1 - h), np.float32)


def great_vessels(anatomy: Anatomy, view: View) -> F32:
    """Aortic arch and descending aorta, superior caval vein: what bulges from the mediastinum into the lungs."""
    x, y = view.xy
    knob_y = anatomy.heart_y - 0.215
    arch = root(1 - _ellipse(x, y, (anatomy.medial - 0.012, knob_y), (anatomy.knob + 0.012, anatomy.knob + 0.018), 0))
    course = Curve.through([(-0.7, 0.03), (knob_y, 0.034), (anatomy.heart_y, 0.048), (0.3, 0.02)], smooth=0.1)
    aorta = root(1 - ((x - course(y)) * np.float32(1 / 0.030)) ** 2) * smoothstep(knob_y, knob_y + 0.03, y)
    cava = root(1 - ((x + np.float32(anatomy.medial - 0.010)) * np.float32(1 / 0.024)) ** 2)
    cava = cava * smoothstep(-0.34, -0.26, y) * smoothstep(-anatomy.heart_y - 0.02, -anatomy.heart_y + 0.08, -y)
    return np.asarray(5.5 * arch + 3.0 * aorta + 2.2 * cava, np.float32)


def airways(anatomy: Anatomy, view: View) -> F32:
    """Trachea and main bronchi: air in cm."""
    carina = (0.004, anatomy.heart_y - 0.165)
    canvas = view.blank()
    view.strokes([[(carina[0], -0.7), (carina[0] - 0.004, -0.3), carina]], 0.046, canvas)
    view.strokes([[carina, (-0.045, carina[1] + 0.055), (-0.075, carina[1] + 0.085)]], 0.034, canvas, 0.7)
    view.strokes([[carina, (0.055, carina[1] + 0.050), (0.095, carina[1] + 0.075)]], 0.030, canvas, 0.7)
    soft = cv2.GaussianBlur(unit(canvas), (0, 0), max(view.thickness(0.006), 0.5))
    return np.asarray(2.4 * soft, np.float32)


def bowel_gas(anatomy: Anatomy, view: View, rng: np.random.Generator) -> F32:
    """The stomach's bubble under the left dome, flat where it meets fluid, and at times gas in the colon: air in cm."""
    x, y = view.xy
    total = np.zeros_like(x)
    if rng.random() < 0.75:
        cx, cy = rng.uniform(0.12, 0.20), anatomy.dome[LEFT] + rng.uniform(0.035, 0.06)
        bubble = root(1 - _ellipse(x, y, (cx, cy), (rng.uniform(0.035, 0.075), rng.uniform(0.025, 0.045)), 0))
        flat = rng.uniform(0.0, 0.03)
        total += np.float32(rng.uniform(3, 8)) * bubble * smoothstep(-(cy + flat) - 0.004, -(cy + flat) + 0.004, -y)
    for _ in range(rng.integers(0, 5)):
        cx, cy = rng.uniform(0.02, 0.30), anatomy.dome[LEFT] + rng.uniform(0.12, 0.24)
        radii = (rng.uniform(0.02, 0.05), rng.uniform(0.02, 0.04))
        total += np.float32(rng.uniform(1.5, 5)) * root(1 - _ellipse(x, y, (cx, cy), radii, rng.uniform(-60, 60)))
    return total


def displace(lungs: Lungs, heart_cm: F32, vessels_cm: F32) -> F32:
    """Air of the lungs in cm once heart and great vessels have taken their room; a quarter stays behind the heart."""
    left = lungs.air - np.float32(1.15) * heart_cm - vessels_cm
    return np.asarray(np.maximum(left, np.float32(0.28) * lungs.air), np.float32)
