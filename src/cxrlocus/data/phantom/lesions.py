"""The findings of one film: which, where, how large and how plain."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from cxrlocus.data.phantom.anatomy import LEFT, RIGHT, Anatomy
from cxrlocus.data.phantom.parameters import Parameters
from cxrlocus.types import BOXED8

MOST = 3
"""The most findings a film has."""


@dataclass(frozen=True)
class Lesion:
    """One finding: kind, side (0 right, 1 left), centre and half sizes in body coordinates, turn in radians, contrast.

    What ``x, y, w, h`` mean beyond a centre and half sizes is the renderer's to say, in ``findings``.
    """

    finding: str
    kind: str
    side: int
    x: float
    y: float
    w: float
    h: float
    turn: float
    contrast: float
    seed: int


def draw_findings(rng: np.random.Generator, parameters: Parameters) -> tuple[str, ...]:
    """None, one or several findings, in the order of the vocabulary.

    Example:
        >>> draw_findings(np.random.default_rng(0), Parameters(normal_share=1.0))
        ()
    """
    if rng.random() < parameters.normal_share:
        return ()
    count = 1
    while count < MOST and rng.random() < parameters.extra_finding:
        count += 1
    weights = np.array([parameters.weights[f] for f in BOXED8], dtype=np.float64)
    count = min(count, int((weights > 0).sum()))
    chosen = rng.choice(len(BOXED8), size=count, replace=False, p=weights / weights.sum())
    return tuple(BOXED8.names[i] for i in sorted(chosen))


def draw_lesion(finding: str, anatomy: Anatomy, parameters: Parameters, rng: np.random.Generator) -> Lesion:
    """Place, size, kind and contrast of one finding in one patient."""
    low, high = parameters.contrast(finding)
    u = rng.random()
    contrast = low + u * (high - low) if finding == "Cardiomegaly" else low * (high / low) ** u
    kind, side, (x, y), (w, h), turn = _PLACE[finding](anatomy, rng)
    return Lesion(finding, kind, side, x, y, w, h, turn, float(contrast), int(rng.integers(2**31)))


Placed = tuple[str, int, tuple[float, float], tuple[float, float], float]


def _sized(rng: np.random.Generator, median: float, spread: float, low: float, high: float) -> float:
    return float(np.clip(median * math.exp(spread * rng.standard_normal()), low, high))


def _side(rng: np.random.Generator, right: float = 0.55) -> int:
    return RIGHT if rng.random() < right else LEFT


def _nodule(anatomy: Anatomy, rng: np.random.Generator) -> Placed:
    side, r = _side(rng, 0.48), _sized(rng, 0.0365, 0.28, 0.016, 0.0415)
    at = anatomy.lung_point(side, rng.uniform(0.10, 0.90), rng.uniform(0.08, 0.93))
    return "round", side, at, (r * rng.uniform(0.92, 1.06), r), rng.uniform(0, math.pi)


def _mass(anatomy: Anatomy, rng: np.random.Generator) -> Placed:
    side, r = _side(rng, 0.5), _sized(rng, 0.057, 0.38, 0.042, 0.15)
    at = anatomy.lung_point(side, rng.uniform(0.15, 0.85), rng.uniform(0.15, 0.90))
    kind = "spiculated" if rng.random() < 0.4 else "lobulated"
    return kind, side, at, (r * rng.uniform(0.85, 1.0), r * rng.uniform(1.0, 1.2)), rng.uniform(-0.6, 0.6)


def _infiltration(anatomy: Anatomy, rng: np.random.Generator) -> Placed:
    side = _side(rng, 0.5)
    at = anatomy.lung_point(side, rng.uniform(0.25, 0.70), rng.uniform(0.30, 0.95))
    kind = "both" if rng.random() < 0.12 else "one"
    return (
        kind,
        side,
        at,
        (_sized(rng, 0.125, 0.30, 0.06, 0.22), _sized(rng, 0.128, 0.38, 0.06, 0.27)),
        rng.uniform(-0.4, 0.4),
    )


def _pneumonia(anatomy: Anatomy, rng: np.random.Generator) -> Placed:
    side = _side(rng, 0.5)
    kind = ("upper", "middle", "lower", "both")[int(rng.choice(4, p=[0.20, 0.30, 0.42, 0.08]))]
    down = {"upper": rng.uniform(0.18, 0.42), "middle": rng.uniform(0.50, 0.78), "lower": rng.uniform(0.68, 1.0)}
    down["both"] = rng.uniform(0.5, 0.95)
    at = anatomy.lung_point(side, rng.uniform(0.30, 0.75), down[kind])
    return (
        kind,
        side,
        at,
        (_sized(rng, 0.120, 0.28, 0.06, 0.2), _sized(rng, 0.138, 0.34, 0.06, 0.26)),
        rng.uniform(-0.3, 0.3),
    )


def _atelectasis(anatomy: Anatomy, rng: np.random.Generator) -> Placed:
    side = _side(rng)
    kind = ("plate", "plates", "wedge", "bases")[int(rng.choice(4, p=[0.37, 0.27, 0.25, 0.11]))]
    down = rng.uniform(0.45, 0.97) if rng.random() < 0.85 else rng.uniform(0.1, 0.5)
    at = anatomy.lung_point(side, rng.uniform(0.25, 0.75), down)
    half = _sized(rng, 0.090 if kind != "wedge" else 0.080, 0.33, 0.04, 0.17)
    thin = {"plate": 0.022, "plates": 0.042, "wedge": 0.066, "bases": 0.030}[kind]
    return kind, side, at, (half, _sized(rng, thin, 0.3, 0.010, 0.12)), rng.normal(0, 0.35)


def _effusion(anatomy: Anatomy, rng: np.random.Generator) -> Placed:
    side = _side(rng, 0.5)
    kind = "loculated" if rng.random() < 0.12 else "free"
    at = (anatomy.half_width[side], anatomy.angle_y(side))
    if kind == "loculated":
        at = (anatomy.half_width[side], rng.uniform(-0.15, 0.12))
        return kind, side, at, (rng.uniform(0.03, 0.09), _sized(rng, 0.10, 0.35, 0.05, 0.2)), 0.0
    high = _sized(rng, 0.29, 0.50, 0.075, 0.62)
    return kind, side, at, (rng.uniform(0.045, 0.085), high), rng.normal(0, 0.05)


def _pneumothorax(_anatomy: Anatomy, rng: np.random.Generator) -> Placed:
    side = _side(rng, 0.55)
    kind = ("apical", "lateral", "basal")[int(rng.choice(3, p=[0.68, 0.24, 0.08]))]
    gap = _sized(rng, 0.038, 0.45, 0.022, 0.14)
    reach = _sized(rng, 0.24 if kind == "apical" else 0.17, 0.35, 0.10, 0.60)
    middle = rng.uniform(-0.10, 0.10) if kind == "lateral" else 0.0
    return kind, side, (0.0, middle), (gap, reach), 0.0


def _cardiomegaly(anatomy: Anatomy, rng: np.random.Generator) -> Placed:
    return "heart", LEFT, (0.0, anatomy.heart_y), (float(rng.normal(0.62, 0.08)), 0.0), 0.0


_PLACE: dict[str, Callable[[Anatomy, np.random.Generator], Placed]] = {
    "Atelectasis": _atelectasis,
    "Cardiomegaly": _cardiomegaly,
    "Effusion": _effusion,
    "Infiltration": _infiltration,
    "Mass": _mass,
    "Nodule": _nodule,
    "Pneumonia": _pneumonia,
    "Pneumothorax": _pneumothorax,
}
