"""How each finding looks: what it puts in the way of the beam, and its exact mask."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np

from cxrlocus.data.phantom.anatomy import SIGN, Anatomy, Lungs
from cxrlocus.data.phantom.canvas import F32, FILM_CM, View, Window, clouds, root, smoothstep, unit
from cxrlocus.data.phantom.lesions import Lesion
from cxrlocus.data.phantom.tissue import LUNG_AIR
from cxrlocus.types import BoolArray


@dataclass(frozen=True)
class Scene:
    """What a finding is laid into: the patient, the film, the lungs and the air (cm) that the heart leaves in them."""

    anatomy: Anatomy
    view: View
    lungs: Lungs
    air: F32
    heart: F32


@dataclass(frozen=True)
class Change:
    """What a finding does to a film: soft tissue added (cm), share of the lung markings that is left, and its mask.

    All three cover ``window`` only; nothing changes outside it.
    """

    window: Window
    tissue: F32
    markings: F32
    mask: BoolArray


def render(lesion: Lesion, scene: Scene) -> Change:
    """A finding as a change of the film; cardiomegaly adds nothing, since :func:`prepare` has grown the heart."""
    return _LOOK[lesion.finding](lesion, scene)


def prepare(anatomy: Anatomy, lesions: tuple[Lesion, ...]) -> Anatomy:
    """The patient with the findings that change shapes: a large heart, and the high diaphragm over a collapsed lobe."""
    for lesion in lesions:
        if lesion.finding == "Cardiomegaly":
            wide = anatomy.heart[0] * lesion.contrast
            high = anatomy.heart[1] * (1 + lesion.w * (lesion.contrast - 1))
            anatomy = replace(anatomy, heart=(wide, high))
        if lesion.finding == "Atelectasis" and lesion.kind == "wedge":
            lift = [0.0, 0.0]
            lift[lesion.side] = 0.03
            right, left = anatomy.dome
            anatomy = replace(anatomy, dome=(right - lift[0], left - lift[1]))
    return anatomy


def _local(lesion: Lesion, scene: Scene, reach: float = 1.0) -> tuple[Window, F32, F32]:
    """The window around a lesion, and its own coordinates there: (u, v) in half sizes, turned with it."""
    window = scene.view.window(lesion.x, lesion.y, reach * math.hypot(lesion.w, lesion.h))
    x, y = scene.view.xy[0][window] - np.float32(lesion.x), scene.view.xy[1][window] - np.float32(lesion.y)
    c, s = np.float32(math.cos(lesion.turn)), np.float32(math.sin(lesion.turn))
    u, v = (c * x + s * y) / np.float32(lesion.w), (c * y - s * x) / np.float32(lesion.h)
    return window, np.asarray(u, np.float32), np.asarray(v, np.float32)


def _lump(q: F32, rng: np.random.Generator, amount: float, cells: int = 3) -> F32:
    """An outline with uneven borders."""
    return np.asarray(q + np.float32(amount) * clouds(rng, cells, q.shape), np.float32)


def _lung(scene: Scene, window: Window, side: int) -> BoolArray:
    return np.asarray(scene.lungs.inside[window] & (scene.lungs.side[window] == side))


def nodule(lesion: Lesion, scene: Scene) -> Change:
    """A round lump under 3 cm: tissue as thick as a ball of its size."""
    window, u, v = _local(lesion, scene)
    q = _lump(u * u + v * v, np.random.default_rng(lesion.seed), 0.06)
    ball = 2 * lesion.w * FILM_CM * LUNG_AIR
    tissue = np.float32(lesion.contrast * ball) * root(1 - q)
    return Change(window, tissue, np.ones_like(q), q < 1)


def mass(lesion: Lesion, scene: Scene) -> Change:
    """A lump over 3 cm: lobulated, or with spicules that run out into the lung (the mask is its body)."""
    rng = np.random.default_rng(lesion.seed)
    window, u, v = _local(lesion, scene, 1.7)
    angle, r = np.arctan2(v, u), np.sqrt(u * u + v * v)
    contour = np.ones_like(r)
    for k in (2, 3, 5):
        contour += np.float32(rng.uniform(0.02, 0.22 / k)) * np.cos(k * angle + np.float32(rng.uniform(0, 2 * math.pi)))
    q = np.asarray((r / contour) ** 2, np.float32)
    ball = 2 * math.sqrt(lesion.w * lesion.h) * FILM_CM * LUNG_AIR
    tissue = np.float32(lesion.contrast * ball) * root(1 - q) ** np.float32(0.8)
    if lesion.kind == "spiculated":
        spikes = np.zeros_like(r)
        for at in rng.uniform(-math.pi, math.pi, 14):
            off = np.abs((angle - np.float32(at) + math.pi) % (2 * math.pi) - math.pi)
            spikes = np.maximum(spikes, np.clip(1 - off * r / np.float32(0.07), 0, 1))
        tissue = tissue + np.float32(0.35 * lesion.contrast) * spikes * np.clip(1.7 - r, 0, 0.7) * (r > 0.6)
    return Change(window, np.asarray(tissue, np.float32), np.ones_like(r), q < 1)


def infiltration(lesion: Lesion, scene: Scene) -> Change:
    """Haze with no clear border, in patches; "both" has a fellow in the other lung."""
    if lesion.kind == "both":
        return _both(lesion, "one", scene)
    rng = np.random.default_rng(lesion.seed)
    window, u, v = _local(lesion, scene)
    q = _lump(u * u + v * v, rng, 0.16)
    lung = _lung(scene, window, lesion.side)
    patches = np.clip(0.9 + 0.20 * clouds(rng, 5, q.shape) + 0.22 * clouds(rng, 13, q.shape), 0.35, 1.5)
    share = np.float32(lesion.contrast) * np.clip(1 - q, 0, 1) ** np.float32(0.6) * patches * lung
    tissue = np.minimum(share, np.float32(0.9)) * np.float32(LUNG_AIR) * scene.air[window]
    return Change(window, np.asarray(tissue, np.float32), np.ones_like(q), (q < 1) & lung)


def pneumonia(lesion: Lesion, scene: Scene) -> Change:
    """A lobe or segment filled, dense to a straight edge (the fissure), with bronchi showing as dark lines."""
    if lesion.kind == "both":
        return _both(lesion, "lower", scene)
    rng = np.random.default_rng(lesion.seed)
    window, u, v = _local(lesion, scene)
    lung = _lung(scene, window, lesion.side)
    q = _lump(u**2 * np.abs(u) + v**2 * np.abs(v), rng, 0.16)
    fissure = {"upper": 1.0, "middle": -1.0, "lower": 0.0}[lesion.kind]
    if fissure:
        q = np.maximum(q, 1 + np.float32(4.0) * (np.float32(fissure) * v - np.float32(0.62)))
    plateau = np.clip((1 - q) * np.float32(2.2), 0, 1) * (1 + np.float32(0.13) * clouds(rng, 9, q.shape))
    dense = np.clip(np.float32(lesion.contrast) * plateau, 0, 0.95)
    share = dense * (1 - np.float32(0.5) * _bronchi(lesion, scene, rng)[window])
    tissue = share * lung * np.float32(LUNG_AIR) * scene.air[window]
    left = 1 - np.clip(share * lung, 0, 1)
    return Change(window, np.asarray(tissue, np.float32), np.asarray(left, np.float32), np.asarray((q < 1) & lung))


def _bronchi(lesion: Lesion, scene: Scene, rng: np.random.Generator) -> F32:
    canvas = scene.view.blank()
    hilum = np.array([SIGN[lesion.side] * (scene.anatomy.medial + 0.02), scene.anatomy.heart_y - 0.07])
    for _ in range(5):
        end = np.array([lesion.x, lesion.y]) + rng.normal(0, 0.5, 2) * (lesion.w, lesion.h)
        middle = (hilum + end) / 2 + rng.normal(0, 0.012, 2)
        scene.view.strokes([np.stack([hilum, middle, end])], rng.uniform(0.005, 0.009), canvas)
    return np.asarray(cv2.GaussianBlur(unit(canvas), (0, 0), max(scene.view.thickness(0.0015), 0.3)), np.float32)


def atelectasis(lesion: Lesion, scene: Scene) -> Change:
    """Airless plates across the lung base, or a wedge that points at the hilum under a raised diaphragm."""
    if lesion.kind == "bases":
        return _both(lesion, "plate", scene)
    rng = np.random.default_rng(lesion.seed)
    window, u, v = _local(lesion, scene)
    lung = _lung(scene, window, lesion.side)
    if lesion.kind == "wedge":
        # Seen from the hilum the wedge widens; its sides sag as a fissure does when the lobe shrinks.
        outward = u * np.float32(SIGN[lesion.side])
        half = np.clip((outward + 1) * np.float32(0.5), 0.02, 1) ** np.float32(rng.uniform(0.8, 1.5))
        side = _lump(np.abs(v + np.float32(rng.uniform(-0.3, 0.3)) * (1 - outward * outward)) / half, rng, 0.10, 4)
        q = np.maximum(side, _lump(np.abs(outward), rng, 0.06, 3)) ** 2
        shape = np.clip((1 - q) * np.float32(1.8), 0, 1) * (1 + np.float32(0.12) * clouds(rng, 7, q.shape))
    else:
        bent = v + np.float32(rng.uniform(-0.6, 0.6)) * (u * u - np.float32(0.5))
        q = np.maximum(u * u, _lump(bent * bent, rng, 0.10, 4))
        shape = np.clip((1 - u * u) * np.float32(3.0), 0, 1) * root(1 - q)
        if lesion.kind == "plates":
            shape = shape * (np.float32(0.15) + np.float32(0.85) * (np.cos(np.float32(2 * math.pi) * bent) > -0.1))
    share = np.clip(np.float32(lesion.contrast) * shape, 0, 0.95) * lung
    tissue = share * np.float32(LUNG_AIR) * scene.air[window]
    return Change(window, np.asarray(tissue, np.float32), np.asarray(1 - share, np.float32), np.asarray((q < 1) & lung))


def effusion(lesion: Lesion, scene: Scene) -> Change:
    """Fluid at the base under a meniscus that climbs the chest wall, or held in a pocket along the wall."""
    window = (slice(None), slice(None))
    lungs = scene.lungs
    lung = _lung(scene, window, lesion.side)
    if lesion.kind == "loculated":
        along = (lungs.y - np.float32(lesion.y)) / np.float32(lesion.h)
        depth = np.float32(lesion.w) * np.clip(1 - along * along, 0, 1) - (lungs.outer - lungs.a)
        share = np.clip(depth * np.float32(1 / 0.012), 0, 1)
    else:
        top = lesion.y - lesion.h
        outward = np.maximum(lungs.outer - lungs.a, 0) * np.float32(1 / lesion.w)
        sink = np.float32(min(0.10, 0.55 * lesion.h)) * (1 - np.exp(-outward))
        depth = lungs.y - np.float32(top) - sink + np.float32(lesion.turn) * (lungs.outer - lungs.a)
        share = np.clip(depth * np.float32(1 / 0.022), 0, 1) ** np.float32(0.7)
    share = share * lung
    filled = np.float32(lesion.contrast * LUNG_AIR) * share * scene.air
    left = 1 - np.float32(min(lesion.contrast, 1.0)) * share
    return Change(window, np.asarray(filled, np.float32), np.asarray(left, np.float32), share > 0)


def pneumothorax(lesion: Lesion, scene: Scene) -> Change:
    """Air between lung and chest wall: black, without markings, behind the fine line of the pleura."""
    window = (slice(None), slice(None))
    lungs, anatomy = scene.lungs, scene.anatomy
    lung = _lung(scene, window, lesion.side)
    wall = lungs.outer - lungs.a
    if lesion.kind == "apical":
        fade = np.clip(1 - (lungs.y - np.float32(anatomy.apex)) / np.float32(lesion.h), 0, 1)
        cap = np.float32(anatomy.apex + 0.9 * lesion.w) + np.float32(0.22) * np.abs(lungs.a - np.float32(0.15))
        gap = np.maximum(np.float32(lesion.w) * np.sqrt(fade) - wall, cap - lungs.y)
    elif lesion.kind == "lateral":
        along = (lungs.y - np.float32(lesion.y)) / np.float32(lesion.h)
        gap = np.float32(lesion.w) * root(1 - along * along) - wall
    else:
        rise = np.clip((lungs.y - np.float32(anatomy.angle_y(lesion.side) - lesion.h)) / np.float32(lesion.h), 0, 1)
        gap = np.float32(1.3 * lesion.w) * rise - wall
    mask = (gap > 0) & lung
    free = smoothstep(0.0, 0.004, gap) * lung
    share = np.float32(lesion.contrast)
    pleura = np.clip(1 - np.abs(gap) * np.float32(1 / 0.0032), 0, 1) * lung
    tissue = -share * np.float32(1 - LUNG_AIR) * np.float32(1.5) * scene.air * free + np.float32(1.0) * share * pleura
    return Change(window, np.asarray(tissue, np.float32), np.asarray(1 - share * free, np.float32), mask)


def cardiomegaly(_lesion: Lesion, scene: Scene) -> Change:
    """The heart itself, grown by :func:`prepare`: nothing to add, its outline is the mask."""
    window = (slice(None), slice(None))
    return Change(window, np.zeros_like(scene.heart), np.ones_like(scene.heart), scene.heart < 1)


def _both(lesion: Lesion, kind: str, scene: Scene) -> Change:
    """A finding of this kind, and its fellow in the other lung, as one change over the whole film."""
    one = replace(lesion, kind=kind)
    two = replace(one, side=1 - one.side, x=-one.x, turn=-one.turn, seed=one.seed + 1)
    shape = scene.air.shape
    tissue, left, mask = np.zeros(shape, np.float32), np.ones(shape, np.float32), np.zeros(shape, np.bool_)
    for part in (render(one, scene), render(two, scene)):
        tissue[part.window] += part.tissue
        left[part.window] *= part.markings
        mask[part.window] |= part.mask
    return Change((slice(None), slice(None)), tissue, left, mask)


_LOOK: dict[str, Callable[[Lesion, Scene], Change]] = {
    "Atelectasis": atelectasis,
    "Cardiomegaly": cardiomegaly,
    "Effusion": effusion,
    "Infiltration": infiltration,
    "Mass": mass,
    "Nodule": nodule,
    "Pneumonia": pneumonia,
    "Pneumothorax": pneumothorax,
}
