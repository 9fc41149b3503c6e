"""Bones: ribs, spine, clavicles, shoulder blades, upper arms. In cm of bone along the beam."""

from __future__ import annotations

import math

import cv2
import numpy as np

from cxrlocus.data.phantom.anatomy import SIGN, Anatomy, Lungs
from cxrlocus.data.phantom.canvas import F32, View, clouds, root, smoothstep, unit

_RIBS = 10


def ribs(anatomy: Anatomy, lungs: Lungs) -> F32:
    """Ten pairs of ribs: behind, from the spine out and down; in front, from the side in and down to the cartilage.

    All ribs of one kind are level lines of one phase function, so the cost does not grow with their number.
    """
    wall = lungs.outer + np.float32(0.012)
    # Above the apex and below the base the cage goes on; the lungs' border does not.
    wall = np.maximum(wall, np.float32(0.16))
    rho = np.clip(lungs.a / wall, 0, 1.03)
    turn = 1 - root(1 - rho**2 * np.float32(0.985))
    slope = np.float32(anatomy.rib_slope)
    spacing, first = np.float32(anatomy.rib_spacing), np.float32(anatomy.apex + 0.012)
    behind = (lungs.y - first - slope * (rho**2) * np.float32(0.30) - turn * np.float32(0.09) + 0.028 * rho) / spacing
    front = (lungs.y - first - np.float32(0.155) + slope * rho * np.float32(0.75) - turn * np.float32(0.02)) / spacing
    inside = smoothstep(-1.03, -0.99, -rho)
    back = _shells(behind, 0.175)
    back *= smoothstep(0.02, 0.06, lungs.a) * inside
    ends = smoothstep(0.40, 0.52, rho - np.float32(0.03) * np.clip(front, 0, 8) + np.float32(0.06))
    fore = _shells(front, 0.20, count=7) * ends * inside
    edge_on = 1 + np.float32(0.9) * smoothstep(0.85, 1.0, rho)
    # Under the diaphragm scatter drowns what little contrast ribs have; the model's scatter is too even to do it alone.
    shown = np.float32(0.35) + np.float32(0.65) * smoothstep(-0.03, 0.01, lungs.base - lungs.y)
    return np.asarray(np.float32(anatomy.rib_bone) * edge_on * shown * (0.78 * back + 0.55 * fore), np.float32)


def _shells(phase: F32, half: float, count: int = _RIBS) -> F32:
    """Hollow tubes at whole phases from 0 to ``count``: 1 at the cortex, 0.45 in the marrow, 0 between."""
    nearest = np.clip(np.rint(phase), 0, count)
    off = np.abs(phase - nearest) * np.float32(1 / half)
    return np.asarray(root(1 - off * off) - np.float32(0.55) * root(0.72 - off * off), np.float32)


def spine(anatomy: Anatomy, view: View) -> F32:
    """Vertebral bodies and discs, with the row of spinous processes."""
    x, y = view.xy
    wide = np.float32(0.036) + np.float32(0.012) * smoothstep(-0.4, 0.4, y)
    across = (x / wide) ** 2
    level = y * np.float32(1 / (anatomy.rib_spacing * 1.02))
    frac = np.abs(level - np.rint(level))
    disc = smoothstep(0.34, 0.46, frac)
    body = root(1 - across * across) * (1 - np.float32(0.45) * disc)
    knob = root(1 - (x * np.float32(1 / 0.008)) ** 2) * smoothstep(-0.30, -0.12, -frac)
    pedicle = root(1 - ((np.abs(x) - np.float32(0.024)) * np.float32(1 / 0.007)) ** 2 - ((frac - 0.08) * 6) ** 2)
    return np.asarray(0.75 * body + 0.35 * knob + 0.3 * pedicle, np.float32)


def shoulder_girdle(anatomy: Anatomy, view: View) -> F32:
    """Clavicles, shoulder blades and upper arms."""
    rng = np.random.default_rng([anatomy.seed, 2])
    lift = float(rng.normal(0, 0.014))
    canvas, marrow, flat = view.blank(), view.blank(), view.blank()
    reach = anatomy.half_width[0]
    for sign in SIGN:
        t = np.linspace(0, 1, 24)
        cx = sign * (0.030 + t * (reach - 0.015))
        cy = anatomy.apex + 0.085 + lift - 0.075 * t - 0.020 * np.sin(2 * math.pi * t) + float(rng.normal(0, 0.005))
        clavicle = np.stack([cx, cy], axis=1)
        joint = (sign * (reach + 0.085), anatomy.apex + 0.06 + lift)
        swing = math.radians(17 + 10 * anatomy.arm_angle)
        elbow = (joint[0] + sign * 0.7 * math.sin(swing), joint[1] + 0.7 * math.cos(swing))
        head = [(joint[0], joint[1] + 0.002), (joint[0] + sign * 0.004, joint[1] + 0.012)]
        view.strokes([clavicle], 0.026, canvas)
        view.strokes([clavicle], 0.015, marrow)
        view.strokes([[joint, elbow]], 0.046, canvas)
        view.strokes([[joint, elbow]], 0.026, marrow)
        view.strokes([head], 0.085, canvas)
        view.strokes([head], 0.068, marrow, 0.8)
        _blade(view, sign, reach, joint, flat)
    bone = unit(canvas) - np.float32(0.55) * unit(marrow)
    soft = cv2.GaussianBlur(0.95 * bone + 0.60 * unit(flat), (0, 0), max(view.thickness(0.0022), 0.4))
    return np.asarray(anatomy.rib_bone * soft, np.float32)


def _blade(view: View, sign: float, reach: float, joint: tuple[float, float], canvas: np.ndarray) -> None:
    """One shoulder blade: a thin plate with a thick border and spine."""
    inner = sign * (reach - 0.035)
    tip = (sign * (reach - 0.005), joint[1] + 0.27)
    corner = (inner, joint[1] + 0.045)
    border = [corner, (inner - sign * 0.004, joint[1] + 0.13), tip, (sign * (reach + 0.05), joint[1] + 0.10), joint]
    view.polygon(border, canvas, 0.34)
    view.strokes([border], 0.008, canvas, 0.75)
    view.strokes([[corner, (sign * (reach + 0.03), joint[1] - 0.015), joint]], 0.014, canvas, 0.7)


def trabeculae(anatomy: Anatomy, bone: F32) -> F32:
    """The same bone with an uneven density."""
    grain = clouds(np.random.default_rng([anatomy.seed, 3]), 60, bone.shape)
    return np.asarray(bone * (1 + np.float32(0.10) * grain), np.float32)
