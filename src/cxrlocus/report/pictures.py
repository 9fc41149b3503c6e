"""Pictures as data URIs: films, tints and coloured maps. For the eye; nothing here is a number of the page."""

from __future__ import annotations

import base64
import io

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cxrlocus.data.images import Film, film_size, read_film
from cxrlocus.data.records import Record
from cxrlocus.errors import ImageError
from cxrlocus.prediction.store import Predictions
from cxrlocus.regions.maps import place_in_range, to_film, value_range
from cxrlocus.types import BoolArray, FloatArray

FILM_PIXELS = 384
"""Longest side of a film on the page."""

MAP_CELLS = 96
"""Longest side of a map's overlay: maps are coarse and the browser smooths them."""

MAP_COLOUR = (230, 30, 120)
"""The overlay's one hue; its opacity carries the value."""

MAP_OPACITY = 0.75

MASK_OPACITY = 0.45

RAMP = ((13, 8, 40), (66, 24, 110), (143, 40, 103), (214, 82, 62), (250, 165, 80))
"""Colours of a coloured map from its least to its greatest value, evenly spaced; none is near the yellow of the truth.

The colour bar in style.css has the same."""


def film_picture(record: Record) -> tuple[Film | None, str, str]:
    """A film's pixels, its picture, and why there are none (empty where there are)."""
    try:
        pixels = read_film(record.path)
        return pixels, jpeg(pixels), ""
    except ImageError as error:
        return None, "", error.reason
    except OSError as error:
        return None, "", error.strerror or type(error).__name__


def film_extent(
    record: Record, predictions: Predictions | None, pixels: Film | None, boxes: FloatArray
) -> tuple[float, float]:
    """The original film's width and height: as predicted on, as the list says, the file's own, or what boxes reach."""
    if predictions is not None and record.image in predictions.images:
        width, height = predictions.sizes[predictions.images.index(record.image)].tolist()
        return float(width), float(height)
    if pixels is not None or record.size is not None:
        width, height = film_size(record, (0, 0) if pixels is None else (pixels.shape[1], pixels.shape[0]))
        return float(width), float(height)
    reach = float(boxes[:, 2:].max())
    return reach, reach


def jpeg(pixels: Film) -> str:
    """A film, shrunk to the page's size."""
    grey = np.asarray(pixels if pixels.dtype == np.uint8 else np.rint(pixels / 257.0), dtype=np.uint8)
    scale = min(1.0, FILM_PIXELS / max(grey.shape))
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA) if scale < 1 else grey
    return _uri(Image.fromarray(small), "jpeg", quality=84)


def map_overlay(values: NDArray[np.floating], frame: FloatArray, size: tuple[int, int]) -> tuple[str, float, float]:
    """A map as one hue: opacity is the square of its place in its own range on this film; with that range.

    Empty for a map that is constant (its range is then that value) or not finite (NaN).
    """
    grid, inside, low, high = _ranged(values, frame, size)
    if not low < high:
        return "", low, high
    strength = np.clip(place_in_range(grid, (low, high)), 0.0, 1.0)
    if inside is not None:
        strength = np.where(inside, strength, 0.0)
    return _tint(MAP_OPACITY * strength**2), low, high


def coloured_map(values: NDArray[np.floating], frame: FloatArray, size: tuple[int, int]) -> tuple[str, float, float]:
    """A map in the colours of ``RAMP`` from its least to its greatest value on this film; with that range.

    A constant map has the first colour throughout; empty for one that is not finite.
    """
    grid, inside, low, high = _ranged(values, frame, size)
    if np.isnan(low):
        return "", low, high
    place = place_in_range(grid, (low, high)) if low < high else np.zeros_like(grid)
    rgba = np.full((*grid.shape, 4), 255, dtype=np.uint8)
    for k in range(3):
        rgba[..., k] = np.interp(place, np.linspace(0, 1, len(RAMP)), [colour[k] for colour in RAMP]).round()
    if inside is not None:
        rgba[..., 3] = np.where(inside, 255, 0)
    return _png(rgba), low, high


def mask_overlay(mask: BoolArray) -> str:
    """A mask (gh, gw) as an even tint; empty for an empty mask."""
    return _tint(MASK_OPACITY * mask) if mask.any() else ""


def _ranged(
    values: NDArray[np.floating], frame: FloatArray, size: tuple[int, int]
) -> tuple[NDArray[np.float32], BoolArray | None, float, float]:
    raw = np.asarray(values, dtype=np.float32)
    if not np.isfinite(raw).all():
        return raw, None, float("nan"), float("nan")
    grid, inside = to_film(raw, frame, size, MAP_CELLS)
    level = float(grid.flat[0])
    return grid, inside, *(value_range(grid, inside) or (level, level))


def _tint(opacity: NDArray[np.floating]) -> str:
    rgba = np.empty((*opacity.shape, 4), dtype=np.uint8)
    rgba[..., :3] = MAP_COLOUR
    rgba[..., 3] = (255 * opacity).round()
    return _png(rgba)


def _png(rgba: NDArray[np.uint8]) -> str:
    return _uri(Image.fromarray(rgba), "png", optimize=True)


def _uri(image: Image.Image, kind: str, **options: int) -> str:
    buffer = io.BytesIO()
    image.save(buffer, format=kind, **options)
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
