"""Lung markings: vessels that branch from the hila, and the fine grain of the tissue between them."""

from __future__ import annotations

import cv2
import numpy as np

from cxrlocus.data.phantom.anatomy import SIGN, Anatomy
from cxrlocus.data.phantom.canvas import F32, View, clouds, unit
from cxrlocus.types import FloatArray

_GENERATIONS = 6
_POINTS = 5


def grow(anatomy: Anatomy) -> list[tuple[float, FloatArray]]:
    """The tree of both lungs: a (width, polylines (n, 5, 2)) for each generation, thickest first.

    Every branch bends a little and splits in two, its children narrower and shorter.
    """
    rng = np.random.default_rng([anatomy.seed, 4])
    tree = []
    start, heading, length = _roots(anatomy, rng)
    width = 0.0110
    for generation in range(_GENERATIONS):
        bend = rng.normal(0, 0.10, (len(start), 1)) * np.arange(_POINTS)
        angles = heading[:, None] + bend
        step = (length / (_POINTS - 1))[:, None]
        path = np.stack([np.cos(angles) * step, np.sin(angles) * step], axis=-1)
        path[:, 0] = 0
        lines = start[:, None] + np.cumsum(path, axis=1)
        tree.append((width, lines))
        spread = rng.uniform(0.14, 0.55, (len(start), 2)) * np.array([-1.0, 1.0])
        heading = (angles[:, -1:] + spread).ravel()
        start = np.repeat(lines[:, -1], 2, axis=0)
        length = np.repeat(length, 2) * rng.uniform(0.62, 0.95, 2 * len(length))
        width *= 0.69
        if generation > 3:
            keep = rng.random(len(start)) < 0.7
            start, heading, length = start[keep], heading[keep], length[keep]
    return tree


def _roots(anatomy: Anatomy, rng: np.random.Generator) -> tuple[FloatArray, FloatArray, FloatArray]:
    starts, headings, lengths = [], [], []
    for side, sign in enumerate(SIGN):
        hilum = np.array([sign * (anatomy.medial + 0.022), anatomy.heart_y - 0.075 - 0.012 * side])
        fan = np.radians(np.array([-72, -48, -22, 4, 28, 46, 60, 74, 86.0])) + rng.normal(0, 0.09, 9)
        headings.append(np.where(sign > 0, fan, np.pi - fan))
        starts.append(hilum + rng.normal(0, 0.008, (9, 2)))
        lengths.append(rng.uniform(0.055, 0.085, 9) * np.array([0.9, 0.9, 0.8, 0.8, 0.9, 1.05, 1.15, 1.2, 1.1]))
    return np.concatenate(starts), np.concatenate(headings), np.concatenate(lengths)


def markings(anatomy: Anatomy, view: View, rng: np.random.Generator, prominence: float) -> F32:
    """Vessels and grain in cm of soft tissue, to be laid over aerated lung only."""
    canvas = view.blank()
    for width, lines in reversed(grow(anatomy)):
        depth = float(np.clip(width / 0.0110, 0, 1)) ** 0.40
        view.strokes(list(lines), width, canvas, depth)
    vessel = cv2.GaussianBlur(unit(canvas), (0, 0), max(view.thickness(0.0016), 0.35))
    grain = clouds(rng, 90, vessel.shape)[: view.size, : view.size] * 0.16 + clouds(rng, 24, vessel.shape) * 0.13
    return np.asarray(np.float32(prominence) * (2.3 * vessel + np.maximum(grain, -0.4)), np.float32)
