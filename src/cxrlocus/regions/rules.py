"""Box rules: from a raw map to scored boxes on the film. A rule is a frozen value: a result can say which it was.

Every rule resamples the map onto a grid over the film first (``maps.to_film``) and takes the least and the greatest
value there, on the film alone, for 0 and 1: boxes are never rotated, never leave the film, and a map whose peak lies
off the film still has its threshold on it. A cell belongs to a region when its value is strictly above the level. A map
that is constant or NaN throughout gives no box.

A box's score is the mean of the raw map inside its region, so that scores of one finding compare between films.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from cxrlocus.regions.components import Components, component_at, components
from cxrlocus.regions.maps import to_film, value_range
from cxrlocus.types import BoolArray, FloatArray


@dataclass(frozen=True)
class ScoredBoxes:
    """K boxes of one finding on one film: xyxy (K, 4) half-open pixels of the film, score (K,), best first."""

    xyxy: FloatArray
    score: FloatArray

    def __len__(self) -> int:
        return len(self.xyxy)


class BoxRule(Protocol):
    """From a raw map (h, w), its frame (2, 3) and the film's (width, height) to boxes on the film."""

    def __call__(
        self, values: NDArray[np.floating], frame: NDArray[np.float64], size: tuple[int, int], /
    ) -> ScoredBoxes:
        """The boxes of one map, best first."""


@dataclass(frozen=True)
class FixedThresholds:
    """A box around each isolated region of the map at each of some fixed levels (Wang et al. 2017: 60 and 180 of 255).

    The same box at two levels is kept once, with its better score.

    Args:
        levels: thresholds on the scale from 0, the map's least value on the film, to ``of``, its greatest.
        of: the top of that scale.
        raster: cells along the film's longest side.
        connectivity: 8 (cells that touch at a corner are one region) or 4.
        min_area: regions smaller than this fraction of the film are left out; 0 keeps all.

    Raises:
        ValueError: a level outside [0, of), or an option out of range; on a call, a map that is not finite.

    Example:
        >>> film = np.array([[8.0, 0, 0], [0, 8.0, 0]])
        >>> spots = np.zeros((8, 8)); spots[1, 1] = 2.0; spots[5, 4:7] = 1.0
        >>> found = FixedThresholds(levels=(60, 180), raster=8)(spots, film, (8, 8))
        >>> found.xyxy.tolist(), found.score.tolist()
        ([[1.0, 1.0, 2.0, 2.0], [4.0, 5.0, 7.0, 6.0]], [2.0, 1.0])
    """

    levels: tuple[float, ...] = (60.0, 180.0)
    of: float = 255.0
    raster: int = 128
    connectivity: int = 8
    min_area: float = 0.0

    def __post_init__(self) -> None:
        _check(self.levels, self.of, self.raster, self.connectivity, self.min_area)

    def __call__(self, values: NDArray[np.floating], frame: NDArray[np.float64], size: tuple[int, int]) -> ScoredBoxes:
        """The boxes of one map, best first."""

        def regions(mask: BoolArray, grid: NDArray[np.float32]) -> Components:
            return components(mask, grid, self.connectivity)

        return _boxes([level / self.of for level in self.levels], regions, self, values, frame, size)


@dataclass(frozen=True)
class PeakComponent:
    """One box: around the region that holds the map's peak, at one threshold (Cai et al. 2018 erase this region).

    Args:
        threshold: in [0, 1); 0 is the map's least value on the film, 1 its greatest.
        raster, connectivity, min_area: as ``FixedThresholds``.

    Raises:
        ValueError: a threshold outside [0, 1), or an option out of range; on a call, a map that is not finite.

    Example:
        >>> film = np.array([[8.0, 0, 0], [0, 8.0, 0]])
        >>> spots = np.zeros((8, 8)); spots[1, 1] = 1.0; spots[5, 4:7] = 2.0
        >>> PeakComponent(threshold=0.25, raster=8)(spots, film, (8, 8)).xyxy.tolist()
        [[4.0, 5.0, 7.0, 6.0]]
    """

    threshold: float = 0.5
    raster: int = 128
    connectivity: int = 8
    min_area: float = 0.0

    def __post_init__(self) -> None:
        _check((self.threshold,), 1.0, self.raster, self.connectivity, self.min_area)

    def __call__(self, values: NDArray[np.floating], frame: NDArray[np.float64], size: tuple[int, int]) -> ScoredBoxes:
        """The box of one map, or none."""
        return _boxes([self.threshold], _peak_region(self.connectivity), self, values, frame, size)


@dataclass(frozen=True)
class SeveralThresholds:
    """Nested boxes around the region that holds the map's peak, one a threshold, best first.

    Cai et al. 2018 take three boxes a map "by adjusting the intensity threshold" and rank them by the mean of the map
    inside; their thresholds are not printed, these are ours.

    Args:
        levels: thresholds in [0, 1); 0 is the map's least value on the film, 1 its greatest.
        raster, connectivity, min_area: as ``FixedThresholds``.

    Raises:
        ValueError: a level outside [0, 1), or an option out of range; on a call, a map that is not finite.

    Example:
        >>> film = np.array([[8.0, 0, 0], [0, 8.0, 0]])
        >>> hill = np.zeros((8, 8)); hill[2:6, 2:6] = 1.0; hill[3, 3] = 2.0
        >>> SeveralThresholds(levels=(0.25, 0.75), raster=8)(hill, film, (8, 8)).xyxy.tolist()
        [[3.0, 3.0, 4.0, 4.0], [2.0, 2.0, 6.0, 6.0]]
    """

    levels: tuple[float, ...] = (0.3, 0.5, 0.7)
    raster: int = 128
    connectivity: int = 8
    min_area: float = 0.0

    def __post_init__(self) -> None:
        _check(self.levels, 1.0, self.raster, self.connectivity, self.min_area)

    def __call__(self, values: NDArray[np.floating], frame: NDArray[np.float64], size: tuple[int, int]) -> ScoredBoxes:
        """The boxes of one map, best first."""
        return _boxes(list(self.levels), _peak_region(self.connectivity), self, values, frame, size)


RULES: dict[str, type[FixedThresholds] | type[PeakComponent] | type[SeveralThresholds]] = {
    "fixed_thresholds": FixedThresholds,
    "peak_component": PeakComponent,
    "several_thresholds": SeveralThresholds,
}
"""Every rule by name; called without arguments each has the defaults of its paper or, where that is silent, ours."""

Regions = Callable[[BoolArray, NDArray[np.float32]], Components]


def _check(levels: tuple[float, ...], of: float, raster: int, connectivity: int, min_area: float) -> None:
    if not levels:
        raise ValueError("levels must name at least one threshold; got none.")
    if not (np.isfinite(of) and of > 0):
        raise ValueError(f"of must be a positive number, the top of the levels' scale; got {of}.")
    wrong = [level for level in levels if not 0 <= level < of]
    if wrong:
        raise ValueError(f"a threshold must be in [0, {of:g}); got {wrong[0]}.")
    if raster < 1 or connectivity not in (4, 8) or not 0 <= min_area < 1:
        raise ValueError(
            "raster must be at least 1, connectivity 4 or 8 and min_area in [0, 1); "
            f"got {raster}, {connectivity} and {min_area}."
        )


def _peak_region(connectivity: int) -> Regions:
    def region(mask: BoolArray, grid: NDArray[np.float32]) -> Components:
        column, row = cv2.minMaxLoc(grid, mask.view(np.uint8))[3]
        return component_at(mask, grid, max(row, 0), max(column, 0), connectivity)

    return region


def _boxes(
    shares: list[float],
    regions: Regions,
    rule: FixedThresholds | PeakComponent | SeveralThresholds,
    values: NDArray[np.floating],
    frame: NDArray[np.float64],
    size: tuple[int, int],
) -> ScoredBoxes:
    grid, inside = to_film(values, frame, size, rule.raster)
    extent = value_range(grid, inside)
    found: dict[tuple[int, int, int, int], float] = {}
    if extent is None:
        return ScoredBoxes(np.zeros((0, 4)), np.zeros(0))
    lo, hi = extent
    for share in shares:
        mask = grid > np.float32(lo + share * (hi - lo))
        there = regions(mask if inside is None else mask & inside, grid)
        for box, area, mean in zip(there.boxes.tolist(), there.area.tolist(), there.mean.tolist(), strict=True):
            if area >= rule.min_area * grid.size:
                found[tuple(box)] = max(mean, found.get(tuple(box), -np.inf))
    return _on_film(found, grid.shape, size)


def _on_film(
    found: dict[tuple[int, int, int, int], float], shape: tuple[int, ...], size: tuple[int, int]
) -> ScoredBoxes:
    ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    cells = np.array([box for box, _ in ranked], dtype=np.float64).reshape(-1, 4)
    x, y = size[0] / shape[1], size[1] / shape[0]
    return ScoredBoxes(cells * np.array([x, y, x, y]), np.array([score for _, score in ranked], dtype=np.float64))
