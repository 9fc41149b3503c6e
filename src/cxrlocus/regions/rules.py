"""Box rules: from a raw map to scored boxes on the film. A rule is a frozen value: a result can say which it was.

Every rule resamples the map onto a grid over the film first (``maps.to_film``) and takes the least and the greatest
value there, on the film alone, for 0 and 1: boxes are never rotated, never leave the film, and a map whose peak lies
off the film still has its threshold on it. A cell belongs to a region when its value is strictly above the level. A map
that is constant or NaN throughout gives no box.

A box's score is the mean of the raw map inside its region (or inside the whole box, where a rule is told so), so that
scores of one finding compare between films.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from cxrlocus.regions.components import Components, component_at, components
from cxrlocus.regions.levels import shares_of_range
from cxrlocus.regions.maps import to_film, value_range
from cxrlocus.types import BoolArray, FloatArray

MeanOf = Literal["region", "box"]
"""What a box's score is the mean of the map over: its region's cells, or all cells of the box."""

Parts = Literal["each", "peak", "extent"]
"""What of the cells above a level gets a box: each isolated region, the one with the peak, or all of them together."""


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


def isolated_regions(height: float) -> FixedThresholds:
    """A box around each isolated region at one share of the map's range: of nested boxes only one could be a hit.

    Example:
        >>> isolated_regions(0.3).levels
        (0.3,)
    """
    return FixedThresholds((height,), of=1.0)


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

        return _boxes([level / self.of for level in self.levels], regions, self, values, frame, size, "region")


@dataclass(frozen=True)
class PeakComponent:
    """One box: around the region that holds the map's peak, at one threshold (Cai et al. 2018 erase this region).

    Args:
        threshold: in [0, 1); 0 is the map's least value on the film, 1 its greatest.
        raster, connectivity, min_area: as ``FixedThresholds``.
        mean_of: what the score is the mean of the raw map over, "region" or the whole "box".

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
    mean_of: MeanOf = "region"

    def __post_init__(self) -> None:
        _check((self.threshold,), 1.0, self.raster, self.connectivity, self.min_area)
        _check_word("mean_of", self.mean_of, MeanOf)

    def __call__(self, values: NDArray[np.floating], frame: NDArray[np.float64], size: tuple[int, int]) -> ScoredBoxes:
        """The box of one map, or none."""
        return _boxes([self.threshold], _peak_region(self.connectivity), self, values, frame, size, self.mean_of)


@dataclass(frozen=True)
class SeveralThresholds:
    """Nested boxes around the region that holds the map's peak, one a threshold, best first.

    Cai et al. 2018 take three boxes a map "by adjusting the intensity threshold" and rank them by the mean of the map
    inside; their thresholds are not printed, these are ours.

    Args:
        levels: thresholds in [0, 1); 0 is the map's least value on the film, 1 its greatest.
        raster, connectivity, min_area: as ``FixedThresholds``.
        mean_of: what the score is the mean of the raw map over, "region" or, as in the paper, the whole "box".

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
    mean_of: MeanOf = "region"

    def __post_init__(self) -> None:
        _check(self.levels, 1.0, self.raster, self.connectivity, self.min_area)
        _check_word("mean_of", self.mean_of, MeanOf)

    def __call__(self, values: NDArray[np.floating], frame: NDArray[np.float64], size: tuple[int, int]) -> ScoredBoxes:
        """The boxes of one map, best first."""
        return _boxes(list(self.levels), _peak_region(self.connectivity), self, values, frame, size, self.mean_of)


@dataclass(frozen=True)
class AbsoluteLevel:
    """Boxes of the cells whose value is above a level as it stands: for maps whose values mean something (Yao's tau).

    Other rules measure height from a map's least value to its greatest; this one does not look at them, so a map that
    is constant above the level is one box, the film. (It is not in ``RULES``: evidence without a unit has no level.)

    Args:
        level: a cell is in a region when its value is strictly above it.
        parts: what gets a box, "each" isolated region, the one with the "peak", or all together, their "extent".
        raster, connectivity, min_area: as ``FixedThresholds``.

    Raises:
        ValueError: a level that is not finite, or an option out of range; on a call, a map that is not finite.

    Example:
        >>> film = np.array([[8.0, 0, 0], [0, 8.0, 0]])
        >>> spots = np.zeros((8, 8)); spots[1, 1] = 0.9; spots[5, 4:7] = 0.6
        >>> AbsoluteLevel(0.5, raster=8)(spots, film, (8, 8)).xyxy.tolist()
        [[1.0, 1.0, 2.0, 2.0], [4.0, 5.0, 7.0, 6.0]]
        >>> AbsoluteLevel(0.5, "extent", raster=8)(spots, film, (8, 8)).xyxy.tolist()
        [[1.0, 1.0, 7.0, 6.0]]
    """

    level: float
    parts: Parts = "each"
    raster: int = 128
    connectivity: int = 8
    min_area: float = 0.0

    def __post_init__(self) -> None:
        if not np.isfinite(self.level):
            raise ValueError(f"level must be a finite number; got {self.level}.")
        _check((0.0,), 1.0, self.raster, self.connectivity, self.min_area)
        _check_word("parts", self.parts, Parts)

    def __call__(self, values: NDArray[np.floating], frame: NDArray[np.float64], size: tuple[int, int]) -> ScoredBoxes:
        """The boxes of one map, best first."""
        grid, inside = to_film(values, frame, size, self.raster)
        # Asked for its errors alone: a map that is NaN throughout is above no level.
        value_range(grid, inside)
        mask = grid > np.float32(self.level)
        mask = mask if inside is None else mask & inside
        if self.parts == "extent":
            found = _extent(mask, grid)
        elif self.parts == "peak":
            found = _peak_region(self.connectivity)(mask, grid)
        else:
            found = components(mask, grid, self.connectivity)
        kept: dict[tuple[int, int, int, int], float] = {}
        for box, area, mean in zip(found.boxes.tolist(), found.area.tolist(), found.mean.tolist(), strict=True):
            if area >= self.min_area * grid.size:
                kept[tuple(box)] = max(mean, kept.get(tuple(box), -np.inf))
        return _on_film(kept, grid.shape, size)


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


def _check_word(name: str, word: str, allowed: object) -> None:
    if word not in get_args(allowed):
        raise ValueError(f"{name} must be one of {', '.join(get_args(allowed))}; got {word!r}.")


def _extent(mask: BoolArray, grid: NDArray[np.float32]) -> Components:
    """All marked cells as if they were one region."""
    cells = np.argwhere(mask)
    if not len(cells):
        return components(mask, grid)
    (top, left), (bottom, right) = cells.min(axis=0), cells.max(axis=0) + 1
    marked = grid[mask]
    return Components(
        boxes=np.array([[left, top, right, bottom]], dtype=np.int64),
        area=np.array([len(marked)], dtype=np.int64),
        peak=np.array([marked.max()], dtype=np.float64),
        mean=np.array([marked.mean(dtype=np.float64)]),
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
    mean_of: MeanOf,
) -> ScoredBoxes:
    grid, inside = to_film(values, frame, size, rule.raster)
    extent = value_range(grid, inside)
    found: dict[tuple[int, int, int, int], float] = {}
    if extent is None:
        return ScoredBoxes(np.zeros((0, 4)), np.zeros(0))
    for level in shares_of_range(extent, shares).astype(np.float32):
        mask = grid > level
        there = regions(mask if inside is None else mask & inside, grid)
        for box, area, mean in zip(there.boxes.tolist(), there.area.tolist(), there.mean.tolist(), strict=True):
            if area >= rule.min_area * grid.size:
                heat = mean if mean_of == "region" else _mean_in(box, grid, inside)
                found[tuple(box)] = max(heat, found.get(tuple(box), -np.inf))
    return _on_film(found, grid.shape, size)


def _mean_in(box: list[int], grid: NDArray[np.float32], inside: BoolArray | None) -> float:
    x0, y0, x1, y1 = box
    cells = grid[y0:y1, x0:x1]
    return float((cells if inside is None else cells[inside[y0:y1, x0:x1]]).mean(dtype=np.float64))


def _on_film(
    found: dict[tuple[int, int, int, int], float], shape: tuple[int, ...], size: tuple[int, int]
) -> ScoredBoxes:
    ranked = sorted(found.items(), key=lambda item: (-item[1], item[0]))
    cells = np.array([box for box, _ in ranked], dtype=np.float64).reshape(-1, 4)
    x, y = size[0] / shape[1], size[1] / shape[0]
    return ScoredBoxes(cells * np.array([x, y, x, y]), np.array([score for _, score in ranked], dtype=np.float64))
