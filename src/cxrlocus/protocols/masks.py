"""How maps become masks: the value at which a map is cut, where that value comes from, and how well each mask does.

A finding's maps are all cut at one level, as in InfoMask (Taghanaki et al. 2019). The level is

fixed       the one of the maps' kind (``FIXED``), chosen before anything was measured here.
validation  the one that serves the boxes of other patients best: boxed films are in two halves by patient, and each
            half's boxes choose the level that the other half is cut at.
oracle      the same, but chosen on the very boxes it is measured with: a bound, not a result.

Boxes that came without maps are taken as masks, the union of a film's boxes; nothing is chosen for them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cxrlocus.data.records import Index
from cxrlocus.data.splits import kfold_of_patients
from cxrlocus.errors import ConfigError, PredictionsError
from cxrlocus.metrics.bootstrap import nanmean
from cxrlocus.metrics.pixels import Overlap, box_mask, covered, dice, fnr, fpr, iop, overlap_above
from cxrlocus.prediction.store import Predictions
from cxrlocus.protocols.shared import FilmBoxes, film_positions, true_boxes
from cxrlocus.regions.detections import Detections
from cxrlocus.regions.maps import FloatMap, place_in_range, raster_shape, to_film, value_range
from cxrlocus.types import POLICIES, BoolArray, FloatArray, MapKind, Policy

Scale = Literal["absolute", "relative"]
"""What a level is a value of: the map as it is, or the map put on a scale from its least (0) to its greatest (1)."""

Criterion = Literal["fpr_fnr", "iop", "dice"]
"""What a level is chosen by."""

SCALES: dict[MapKind, Scale] = {"mask": "absolute", "probability": "absolute", "logit": "relative"}
"""The scale of each kind of map, unless told otherwise: evidence without a unit is cut at a share of its range."""

FIXED: dict[tuple[MapKind, Scale], float] = {
    ("mask", "absolute"): 0.0,
    ("mask", "relative"): 0.5,
    ("probability", "absolute"): 0.5,
    ("probability", "relative"): 0.5,
    ("logit", "absolute"): 0.0,
    ("logit", "relative"): 0.5,
}
"""The fixed level of each kind and scale; a cell is in the mask when its value is strictly above it."""

SHARES = tuple(float(x) for x in np.geomspace(0.9, 0.001, 40))
"""Levels to choose from leave these shares of the choosing films' cells above them; the fixed level is one more."""

FINEST = 4096
"""Cells along a film's longest side at most: more than films have pixels, and as much as a map's memory allows."""

CHOOSING_RASTER = 64
"""Cells along a film's longest side when the levels to choose from are found (not when they are compared)."""


@dataclass(frozen=True)
class Masking:
    """How masks are made.

    Args:
        policy: where the level comes from.
        criterion: what is best: the least mean of FPR and FNR, the greatest IoP (an empty mask counting 0), or DICE;
            each the mean of the choosing films.
        scale: what a level is a value of; None: that of the maps' kind (``SCALES``).
        raster: cells along a film's longest side.
        seed: of the halves.

    Raises:
        ConfigError: one of them is not what it may be.
    """

    policy: Policy = "fixed"
    criterion: Criterion = "fpr_fnr"
    scale: Scale | None = None
    raster: int = 256
    seed: int = 0

    def __post_init__(self) -> None:
        for name, value, allowed in (
            ("policy", self.policy, POLICIES),
            ("criterion", self.criterion, get_args(Criterion)),
            ("scale", self.scale, (None, *get_args(Scale))),
        ):
            if value not in allowed:
                raise ConfigError(f"{name} must be one of {', '.join(map(str, allowed))}; got {value!r}.")
        if not 1 <= self.raster <= FINEST:
            raise ConfigError(f"raster must be 1 to {FINEST} cells; got {self.raster}.")
        if self.seed < 0:
            raise ConfigError(f"seed must be at least 0; got {self.seed}.")


@dataclass(frozen=True)
class FilmMeasures:
    """The masks of B pairs of a film and a finding that it has boxes of.

    Args:
        image: (B,) names of the films.
        film: (B,) their positions in the index, ascending.
        finding: (B,) positions in the index's findings.
        seen: (B,) whether the film was looked at; one that was not has an empty mask.
        level: (B,) where the map was cut; NaN where there were no boxes to choose a level by, and for boxes.
        iop, fpr, fnr: (B,), NaN where undefined.
        mask_area: (B,) share of the film that the mask covers.
        scale: what the levels are values of; "" for boxes.
        masking: how the masks were made.
    """

    image: tuple[str, ...]
    film: NDArray[np.int64]
    finding: NDArray[np.int64]
    seen: BoolArray
    level: FloatArray
    iop: FloatArray
    fpr: FloatArray
    fnr: FloatArray
    mask_area: FloatArray
    scale: Scale | Literal[""]
    masking: Masking


def measure_masks(
    found: Predictions | Detections, index: Index, masking: Masking, sizes: NDArray[np.int64] | None = None
) -> FilmMeasures:
    """Cut every boxed film's map of every boxed finding and measure the mask against the union of its boxes.

    Args:
        found: maps, or boxes to be filled.
        index: the evaluated films, with their boxes.
        masking: how maps are cut.
        sizes: (N, 2) width and height of the films of ``found``, in order; needed for boxes, maps bring their own.

    Returns:
        One row a film and finding of its boxes that ``found`` knows of.

    Raises:
        PredictionsError: a film stands twice or is not in the index, a map is not finite, or boxes come without sizes.
        DataError: a true box is empty or not finite.

    Example:
        >>> from pathlib import Path
        >>> from cxrlocus.data.records import Record, TruthBox
        >>> from cxrlocus.types import Findings
        >>> truth = Record("a.png", Path("a.png"), "7", boxes=(TruthBox("Mass", (0.0, 0.0, 8.0, 4.0)),))
        >>> index = Index("toy", Path("."), Findings(("Mass",)), (truth,))
        >>> boxes = Detections(("a.png",), index.findings, [0], [0], [[0.0, 0.0, 4.0, 8.0]], [1.0])
        >>> m = measure_masks(boxes, index, Masking(), np.array([[8, 8]]))
        >>> m.iop.tolist(), m.fpr.tolist(), m.fnr.tolist()
        ([0.5], [0.5], [0.5])
    """
    case = _case(found, index, masking, sizes)
    level = _levels(case, index, masking)
    counts = [case.overlap(b, level[b : b + 1], masking.raster) for b in range(len(level))]
    total = Overlap(*(np.array([np.max(getattr(n, name)) for n in counts], dtype=np.int64) for name in Overlap._fields))
    known = np.where(np.isnan(level), np.nan, 1.0)
    told = np.full(len(level), np.nan) if isinstance(found, Detections) else level
    rates = (known * iop(total), known * fpr(total), known * fnr(total), known * covered(total))
    image = tuple(index.images[i] for i in case.film.tolist())
    return FilmMeasures(image, case.film, case.finding, case.place >= 0, told, *rates, case.scale, masking)


def film_mask(
    found: Predictions | Detections,
    image: str,
    finding: str,
    level: float,
    *,
    scale: Scale | Literal[""] = "",
    size: tuple[int, int],
    raster: int = 256,
) -> BoolArray:
    """The mask of one film and finding, made as ``measure_masks`` makes it; for pictures, which measure nothing.

    Args:
        found: maps to be cut, or boxes to be filled.
        image: name of the film; one that ``found`` did not look at has an empty mask.
        finding: its name; one that ``found`` does not know has an empty mask.
        level: where the map is cut (``FilmMeasures.level``); NaN marks nothing. Boxes need none.
        scale: what the level is a value of; "" for boxes.
        size: (width, height) of the film in pixels.
        raster: cells along the film's longest side.

    Returns:
        (gh, gw) bool, over the whole film.

    Raises:
        PredictionsError: the map is not finite.

    Example:
        >>> from cxrlocus.types import Findings
        >>> boxes = Detections(("a.png",), Findings(("Mass",)), [0], [0], [[0.0, 0.0, 4.0, 2.0]], [1.0])
        >>> film_mask(boxes, "a.png", "Mass", float("nan"), size=(8, 4), raster=4).astype(int).tolist()
        [[1, 1, 0, 0], [0, 0, 0, 0]]
    """
    if image not in found.images or finding not in found.findings:
        return np.zeros(raster_shape(size, raster), dtype=np.bool_)
    i, c = found.images.index(image), found.findings.index(finding)
    if isinstance(found, Detections):
        return box_mask(found.of(i, c), size, raster_shape(size, raster))
    return np.asarray(_on_film(found, i, c, size, scale == "relative", raster) > level)


def _on_film(
    predictions: Predictions, i: int, c: int, size: tuple[int, int], is_relative: bool, raster: int
) -> FloatMap:
    """A map on its film, on the scale of the levels; NaN where there is none."""
    try:
        grid, inside = to_film(predictions.maps[i, c], predictions.frames[i], size, raster)
        ends = value_range(grid, inside)
    except ValueError as error:
        name = f"{predictions.images[i]}, {predictions.findings.names[c]}"
        raise PredictionsError(f"{name}: {error} Predict again.") from error
    if inside is not None:
        grid = np.where(inside, grid, np.float32(np.nan))
    if is_relative:
        grid = np.asarray(place_in_range(grid, ends or (np.nan, np.nan)), dtype=np.float32)
    return grid


@dataclass(frozen=True)
class _Case:
    """B pairs: film and finding (B,) in the index; place and column (B,) in ``found``, -1 where it did not look."""

    found: Predictions | Detections
    sizes: NDArray[np.int64]
    truth: FilmBoxes
    film: NDArray[np.int64]
    finding: NDArray[np.int64]
    place: NDArray[np.int64]
    column: NDArray[np.int64]
    scale: Scale | Literal[""]
    fixed: float

    def values(self, b: int, raster: int) -> FloatMap:
        """A film's map on its film, on the scale of the levels; NaN where there is none."""
        i, c = int(self.place[b]), int(self.column[b])
        size = (int(self.sizes[i, 0]), int(self.sizes[i, 1]))
        if isinstance(self.found, Detections):
            return box_mask(self.found.of(i, c), size, raster_shape(size, raster)).astype(np.float32)
        return _on_film(self.found, i, c, size, self.scale == "relative", raster)

    def overlap(self, b: int, levels: FloatArray, raster: int) -> Overlap:
        """Counts of the film's masks at the levels (T,) against the union of its boxes."""
        boxes = self.truth.xyxy[(self.truth.film == self.film[b]) & (self.truth.finding == self.finding[b])]
        if self.place[b] < 0:
            # Nobody looked: an empty mask, on a film whose size nobody need know.
            none = np.zeros(len(levels), dtype=np.int64)
            return Overlap(none, none, np.array(1), np.array(2))
        values = self.values(b, raster)
        size = (float(self.sizes[self.place[b], 0]), float(self.sizes[self.place[b], 1]))
        return overlap_above(values, box_mask(boxes, size, (values.shape[0], values.shape[1])), levels)


def _case(found: Predictions | Detections, index: Index, masking: Masking, sizes: NDArray[np.int64] | None) -> _Case:
    n = len(found.images)
    scale: Scale | Literal[""] = ""
    fixed = 0.0
    if isinstance(found, Predictions):
        sizes, scale = found.sizes, masking.scale or SCALES[found.kind]
        fixed = FIXED[found.kind, scale]
    elif sizes is None or sizes.shape != (n, 2):
        raise PredictionsError(f"sizes must be the films' width and height, ({n}, 2), where boxes are measured.")
    films = film_positions(found, index)
    place = np.full(len(index), -1)
    place[films] = np.arange(n)
    column = np.array([found.findings.index(f) if f in found.findings else -1 for f in index.findings], dtype=np.int64)
    truth = true_boxes(index)
    pairs = np.unique(np.stack([truth.film, truth.finding], axis=1), axis=0)
    pairs = pairs[column[pairs[:, 1]] >= 0]
    film, finding = pairs[:, 0], pairs[:, 1]
    return _Case(found, np.asarray(sizes), truth, film, finding, place[film], column[finding], scale, fixed)


def _levels(case: _Case, index: Index, masking: Masking) -> FloatArray:
    """The level (B,) at which each pair's map is cut; NaN where no box chooses one."""
    if masking.policy == "fixed" or isinstance(case.found, Detections):
        return np.full(len(case.film), case.fixed)
    level = np.full(len(case.film), np.nan)
    half = np.zeros(len(case.film), dtype=np.int64)
    boxed = np.unique(case.truth.film).tolist()
    patients = [index.patients[i] for i in boxed]
    # A single boxed patient has no others: one half stays empty and chooses nothing.
    if masking.policy == "validation" and len(set(patients)) > 1:
        half = kfold_of_patients(patients, 2, seed=masking.seed)[np.searchsorted(boxed, case.film)]
    for c in np.unique(case.finding).tolist():
        for k in np.unique(half).tolist():
            mine = (case.finding == c) & (half == k)
            others = mine if masking.policy == "oracle" else (case.finding == c) & (half != k)
            level[mine] = _chosen(case, np.flatnonzero(others & (case.place >= 0)), masking)
    return level


SCORES: dict[Criterion, Callable[[Overlap], FloatArray]] = {
    "fpr_fnr": lambda counts: -(fpr(counts) + fnr(counts)) / 2,
    # Without a mask there is no IoP; left out, the best level would be one that empties all masks but the luckiest.
    "iop": lambda counts: np.nan_to_num(iop(counts)),
    "dice": dice,
}
"""Criterion -> what is greatest at the best level."""


def _chosen(case: _Case, rows: NDArray[np.intp], masking: Masking) -> float:
    """The level that serves these rows best; the lowest of equals, NaN without rows."""
    if not len(rows):
        return float("nan")
    cells = np.concatenate([case.values(int(b), CHOOSING_RASTER).ravel() for b in rows])
    cells = cells[~np.isnan(cells)]
    levels = np.unique(np.append(np.quantile(cells, 1 - np.array(SHARES)) if cells.size else [], case.fixed))
    score = SCORES[masking.criterion]
    each = np.stack([score(case.overlap(int(b), levels, masking.raster)) for b in rows])
    mean = nanmean(each, axis=0)
    return float("nan") if np.isnan(mean).all() else float(levels[np.nanargmax(mean)])
