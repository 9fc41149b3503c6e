"""Where things lie: the pose of a patient on the film, pixels in the patient's own coordinates, and brushes.

Body coordinates are in film widths (1 = 36 cm), x to the image's right (the patient's left), y down, (0, 0) the middle
of the chest. A pose turns, scales and shifts them onto the film.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxrlocus.types import BoolArray, FloatArray

F32 = NDArray[np.float32]
Line = Sequence[tuple[float, float]] | FloatArray
Window = tuple[slice, slice]

FILM_CM = 36.0
"""Width of a film in cm, as NIH's films of 2500 pixels of 0.143 mm."""

_SUBPIXEL_BITS = 4
_BRUSHES = ((1, 1.35), (2, 3.4), (3, 5.4), (5, 7.4), (7, 9.4), (9, 11.4), (11, 13.4), (13, 15.4), (15, 17.4))
"""OpenCV's antialiased lines: the thickness asked for, and the pixels that the line then covers (measured)."""

_TABLE = 1024
_REACH = 0.75


@dataclass(frozen=True)
class Pose:
    """How the patient stands: rotation in degrees (clockwise on the film), shift in film widths, scale.

    Example:
        >>> Pose(90.0, 0.0, 0.0, 1.0).to_film(np.array([[0.25, 0.0]])).round(2).tolist()
        [[0.5, 0.75]]
    """

    rotation: float = 0.0
    dx: float = 0.0
    dy: float = 0.0
    scale: float = 1.0

    def to_film(self, points: ArrayLike) -> FloatArray:
        """Body points (n, 2) to film points (n, 2), (0, 0) the film's top left and (1, 1) its bottom right corner."""
        c, s = math.cos(math.radians(self.rotation)), math.sin(math.radians(self.rotation))
        turned = np.asarray(points, dtype=np.float64) @ np.array([[c, s], [-s, c]])
        return np.asarray(self.scale * turned + (self.dx + 0.5, self.dy + 0.5))


@dataclass(frozen=True)
class View:
    """A film of ``size`` x ``size`` pixels of a patient in ``pose``: every pixel centre in body coordinates."""

    pose: Pose
    size: int

    @cached_property
    def xy(self) -> tuple[F32, F32]:
        """Body x and y of the pixel centres, each (size, size)."""
        p = (np.arange(self.size) + 0.5) / self.size - 0.5
        c, s = math.cos(math.radians(self.pose.rotation)), math.sin(math.radians(self.pose.rotation))
        px, py = (p - self.pose.dx) / self.pose.scale, (p - self.pose.dy) / self.pose.scale
        x = (c * px).astype(np.float32)[None, :] + (s * py).astype(np.float32)[:, None]
        y = (-s * px).astype(np.float32)[None, :] + (c * py).astype(np.float32)[:, None]
        return x, y

    def coarse(self, factor: int) -> View:
        """The same film with ``factor`` times fewer pixels a side, for what is smooth."""
        return View(self.pose, max(self.size // factor, 16))

    def pixels(self, points: ArrayLike) -> FloatArray:
        """Body points (n, 2) to pixels (n, 2) as OpenCV counts them: a pixel's centre is a whole number."""
        return np.asarray(self.pose.to_film(points) * self.size - 0.5)

    def thickness(self, width: float) -> float:
        """A width in body coordinates, in pixels."""
        return width * self.pose.scale * self.size

    def window(self, x: float, y: float, reach: float) -> Window:
        """The part of the film within ``reach`` of a body point; at least one pixel, inside the film."""
        px, py = self.pixels([[x, y]])[0]
        r = self.thickness(reach) + 2
        spans = [(int(np.clip(p - r, 0, self.size - 1)), int(np.clip(p + r + 1, 1, self.size))) for p in (py, px)]
        return slice(*spans[0]), slice(*spans[1])

    def strokes(self, lines: Sequence[Line], width: float, canvas: NDArray[np.uint8], value: float = 1.0) -> None:
        """Draw body polylines, ``width`` wide, onto ``canvas`` (antialiased; overlaps do not add).

        A line thinner than the finest brush is drawn with that brush, and fainter by as much.
        """
        wide = self.thickness(width)
        drawn, covered = min(_BRUSHES, key=lambda brush: abs(brush[1] - wide))
        if wide > _BRUSHES[-1][1]:
            drawn, covered = round(wide) - 2, wide
        grey = int(np.clip(255 * value * min(1.0, wide / covered), 0, 255))
        joined = np.concatenate([np.asarray(line, dtype=np.float64) for line in lines])
        ends = np.cumsum([len(line) for line in lines])[:-1]
        fixed = np.split(np.round(self.pixels(joined) * 2**_SUBPIXEL_BITS).astype(np.int32), ends)
        cv2.polylines(canvas, fixed, False, grey, drawn, cv2.LINE_AA, _SUBPIXEL_BITS)

    def polygon(self, points: ArrayLike, canvas: NDArray[np.uint8], value: float = 1.0) -> None:
        """Fill a body polygon on ``canvas``."""
        fixed = np.round(self.pixels(points) * 2**_SUBPIXEL_BITS).astype(np.int32)
        cv2.fillPoly(canvas, [fixed], int(255 * value), cv2.LINE_AA, _SUBPIXEL_BITS)

    def blank(self) -> NDArray[np.uint8]:
        """An empty canvas."""
        return np.zeros((self.size, self.size), np.uint8)


def unit(canvas: NDArray[np.uint8]) -> F32:
    """A canvas as float32 in [0, 1]."""
    return np.multiply(canvas, np.float32(1 / 255), dtype=np.float32)


@dataclass(frozen=True)
class Curve:
    """One or two functions of one coordinate in [-0.75, 0.75], tabulated; constant beyond."""

    values: F32

    @staticmethod
    def through(*points: Sequence[tuple[float, float]], smooth: float = 0.03) -> Curve:
        """Curves through (coordinate, value) points, rounded over ``smooth``; one a row.

        Example:
            >>> ramp = Curve.through([(0.0, 0.0), (0.5, 1.0)])
            >>> ramp(np.array([-0.7, 0.25, 0.7], np.float32)).round(2).tolist()
            [0.0, 0.5, 1.0]
        """
        at_points = _grid()
        rows = [np.interp(at_points, [at for at, _ in p], [value for _, value in p]) for p in points]
        kernel = max(1, int(smooth * _TABLE / (2 * _REACH)))
        padded = np.pad(np.array(rows), ((0, 0), (kernel, kernel)), mode="edge")
        box = np.ones(kernel) / kernel
        return Curve(np.array([np.convolve(row, box, "same")[kernel:-kernel] for row in padded], np.float32))

    @staticmethod
    def of(rows: ArrayLike) -> Curve:
        """Curves from their values on :func:`grid`; one a row."""
        return Curve(np.atleast_2d(np.asarray(rows, np.float32)))

    def __call__(self, at: F32, row: NDArray[np.int32] | int = 0) -> F32:
        """Values at ``at``; ``row`` says which curve, pixel by pixel."""
        index = ((at + np.float32(_REACH)) * np.float32(_TABLE / (2 * _REACH))).astype(np.int32)
        np.clip(index, 0, _TABLE - 1, out=index)
        return np.take(self.values.ravel(), index + row * _TABLE)

    def at(self, coordinate: float, row: int = 0) -> float:
        """The value at one point."""
        return float(self(np.array([coordinate], np.float32), row)[0])


@lru_cache(1)
def _grid() -> FloatArray:
    grid = np.asarray((np.arange(_TABLE) + 0.5) * (2 * _REACH / _TABLE) - _REACH, dtype=np.float64)
    grid.setflags(write=False)
    return grid


def grid() -> FloatArray:
    """The coordinates at which a :class:`Curve` holds its values."""
    return _grid()


def smoothstep(low: float, high: float, at: F32) -> F32:
    """0 below ``low``, 1 above ``high``, smooth between."""
    t = np.clip((at - np.float32(low)) * np.float32(1 / (high - low)), 0, 1)
    return np.asarray(t * t * (3 - 2 * t), dtype=np.float32)


def root(at: F32) -> F32:
    """The square root where positive, else 0: the thickness of an ellipsoid."""
    return np.asarray(np.sqrt(np.maximum(at, 0)), dtype=np.float32)


def upsample(field: F32, size: int) -> F32:
    """A coarse field at ``size`` x ``size`` pixels, bilinear, pixel areas aligned."""
    return np.asarray(cv2.resize(field, (size, size), interpolation=cv2.INTER_LINEAR), dtype=np.float32)


def clouds(rng: np.random.Generator, cells: int, shape: tuple[int, int]) -> F32:
    """Smooth noise of unit spread with about ``cells`` blobs a side."""
    coarse = rng.standard_normal((cells + 3, cells + 3), dtype=np.float32)
    wide = cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC)
    return np.asarray(wide * np.float32(1.3), dtype=np.float32)


def extent(mask: BoolArray) -> tuple[int, int, int, int]:
    """The half-open xyxy box around a mask's true pixels.

    Raises:
        ValueError: the mask is empty.

    Example:
        >>> mask = np.zeros((4, 6), bool); mask[1:3, 2] = True
        >>> extent(mask)
        (2, 1, 3, 3)
    """
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        raise ValueError("mask must hold at least one true pixel; it holds none.")
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
