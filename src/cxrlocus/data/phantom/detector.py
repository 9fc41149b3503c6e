"""From line integrals to the grey values of a film: Beer-Lambert, scatter, quantum noise, blur, display curve."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cxrlocus.data.phantom.canvas import F32, upsample

_DETAIL = 0.7
"""Gain of what is finer than about a tenth of the film, on top of 1."""


@dataclass(frozen=True)
class Exposure:
    """How a film is taken and shown.

    ``photons`` per pixel of a 256-pixel film in air, ``scatter`` against primary, ``blur`` (sigma) in film widths,
    ``centre`` and ``slope`` of the display curve, ``collimation`` the width of the black rim (0 for none) and its turn
    in radians.
    """

    photons: float
    scatter: float
    blur: float
    centre: float
    slope: float
    collimation: float
    turn: float


def draw_exposure(rng: np.random.Generator, portable: bool) -> Exposure:
    """An exposure; portable films are noisier, scatter more and vary more."""
    spread = 1.4 if portable else 1.0
    return Exposure(
        photons=float(np.exp(rng.normal(np.log(2.5e4 if portable else 6e4), 0.4))),
        scatter=float(np.clip(rng.normal(0.60 if portable else 0.38, 0.10), 0.2, 1.0)),
        blur=float(rng.uniform(0.0012, 0.0024)),
        centre=float(np.clip(0.40 + 0.055 * spread * rng.standard_normal(), 0.25, 0.55)),
        slope=float(np.clip(1.0 + 0.16 * spread * rng.standard_normal(), 0.65, 1.5)),
        collimation=float(rng.uniform(0.004, 0.03)) if rng.random() < 0.35 else 0.0,
        turn=float(rng.normal(0, 0.012)),
    )


def expose(lines: F32, exposure: Exposure, rng: np.random.Generator) -> F32:
    """Signal per pixel (air = 1) behind line integrals (H, W).

    I = exp(-L) (Beer-Lambert) + scatter, a wide blur of what passes through the body (a convolution, as in Seibert and
    Boone, Med. Phys. 15, 1988); then quantum noise, Poisson in the number of photons N (here its normal limit, of
    variance I/N), blurred by the detector. The result is at least 1e-4, so that its logarithm exists.

    Example:
        >>> exposure = Exposure(1e8, 0.0, 0.002, 0.5, 1.0, 0.0, 0.0)
        >>> signal = expose(np.full((64, 64), 2.0, np.float32), exposure, np.random.default_rng(0))
        >>> round(float(signal.mean()), 3)
        0.135
    """
    size = lines.shape[0]
    primary = np.exp(-lines)
    coarse = cv2.resize(primary * (lines > 0.05), (32, 32), interpolation=cv2.INTER_AREA)
    glow = cv2.GaussianBlur(np.asarray(coarse, np.float32), (0, 0), 0.075 * 32, borderType=cv2.BORDER_REPLICATE)
    signal = primary + np.float32(exposure.scatter) * upsample(np.asarray(glow, np.float32), size)
    photons = np.float32(exposure.photons * (256 / size) ** 2)
    noise = rng.standard_normal(signal.shape, dtype=np.float32) * np.sqrt(signal / photons)
    noisy = cv2.GaussianBlur(signal + noise, (0, 0), max(exposure.blur * size, 0.3))
    return np.asarray(np.maximum(noisy, 1e-4), np.float32)


def display(signal: F32, exposure: Exposure) -> F32:
    """Brightness (H, W) in [0, 1] of a signal (H, W).

    p = 1 / (1 + exp(-k (v - c))), a film's S-shaped curve, with v = -log(signal) after a wide unsharp mask; c and k
    follow the 6th and 94th percentile of v in the middle of the film, as a machine sets them.
    """
    shade = -np.log(signal)
    size = shade.shape[0]
    # The equalization of a digital film: broad shades are pressed together, and what is left for detail grows.
    coarse = cv2.resize(shade, (64, 64), interpolation=cv2.INTER_AREA)
    broad = cv2.GaussianBlur(np.asarray(coarse, np.float32), (0, 0), 0.055 * 64, borderType=cv2.BORDER_REPLICATE)
    shade = shade + np.float32(_DETAIL) * (shade - upsample(np.asarray(broad, np.float32), size))
    margin, step = size // 8, max(1, size // 64)
    middle = shade[margin : size - margin : step, margin : size - margin : step]
    low, high = np.percentile(middle, (6, 94))
    span = max(float(high - low), 0.3)
    centre = np.float32(low + exposure.centre * span)
    return np.asarray(1 / (1 + np.exp((centre - shade) * np.float32(2.9 * exposure.slope / span))), np.float32)


def finish(bright: F32, markers: F32, exposure: Exposure) -> NDArray[np.uint8]:
    """Brightness and markers to 8-bit grey, with the rim that the collimator leaves black."""
    size = bright.shape[0]
    shown = np.maximum(bright, markers * np.float32(0.96))
    if exposure.collimation:
        p = ((np.arange(size) + 0.5) / size - 0.5).astype(np.float32)
        half = np.float32(0.5 - exposure.collimation)
        u, v = p[None, :] + np.float32(exposure.turn) * p[:, None], p[:, None] - np.float32(exposure.turn) * p[None, :]
        rim = np.clip((half - np.maximum(np.abs(u), np.abs(v))) * np.float32(size), 0, 1)
        shown = shown * (np.float32(0.02) + np.float32(0.98) * rim)
    return np.asarray(np.rint(np.clip(shown, 0, 1) * 255), np.uint8)
