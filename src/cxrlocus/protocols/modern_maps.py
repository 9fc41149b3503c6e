"""What protocol modern takes from maps: for each film and boxed finding its boxes at every tau, its cells, its peak."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrlocus.data.images import read_film
from cxrlocus.data.records import Index
from cxrlocus.errors import ConfigError, PredictionsError
from cxrlocus.metrics.localization import best_at_levels, pointing_share, value_counts
from cxrlocus.metrics.pixels import box_mask
from cxrlocus.prediction.store import Predictions
from cxrlocus.protocols.shared import FilmBoxes, film_positions
from cxrlocus.protocols.yao2018 import phantom_masks
from cxrlocus.regions.boxes import area, iou
from cxrlocus.regions.detections import Detections
from cxrlocus.regions.levels import boxes_above, shares_of_range
from cxrlocus.regions.maps import FLAT, place_in_range, raster_shape, to_film, value_range
from cxrlocus.types import BoolArray, FloatArray, Frame

BINS = 1000
"""Values of a map that PxAP tells apart, as in Choe et al. 2020."""

Size = tuple[int, int]


@dataclass(frozen=True)
class PairMeasures:
    """What is measured of B pairs of a film and a finding that it has boxes of, and of its M true boxes.

    Args:
        film, finding: (B,) positions in the index.
        any_box, largest_box: (M, L) IoU of each true box with the best component's box, and with the largest one's, at
            each of L taus; L is 1 for boxes that came without a map.
        counts: (B, 2, BINS), see ``value_counts``, against boxes.
        mask_counts: the same against exact masks; zeros where there is none.
        counted, masked: (B,) whether there are ``counts``, ``mask_counts``.
        pointing: (B, tolerances); 0 where there is no peak.
        flat: (B,) whether the film was looked at and has no peak.
    """

    film: NDArray[np.int64]
    finding: NDArray[np.int64]
    any_box: FloatArray
    largest_box: FloatArray
    counts: NDArray[np.int64]
    mask_counts: NDArray[np.int64]
    counted: BoolArray
    masked: BoolArray
    pointing: FloatArray
    flat: BoolArray


@dataclass(frozen=True)
class _View:
    """One film and finding as it is measured: boxes by level on the film, values in [0, 1], peaks (k, 2) in pixels."""

    level: NDArray[np.int64]
    boxes: FloatArray
    largest: NDArray[np.intp]
    values: FloatArray
    peaks: FloatArray


def measure_pairs(
    found: Predictions | Detections,
    index: Index,
    truth: FilmBoxes,
    *,
    sizes: NDArray[np.int64] | None,
    taus: Sequence[float],
    tolerances: Sequence[float],
    raster: int,
    masks: Path | None,
) -> PairMeasures:
    """Measure every film's map (or boxes) of every boxed finding that ``found`` knows.

    Args:
        found: maps, or boxes: all of one level, filled for values, and the best one's centre for a peak.
        index: the evaluated films.
        truth: their true boxes.
        sizes: (N, 2) width and height of the films of ``found``, needed for boxes.
        taus: shares of a map's range.
        tolerances: of the pointing game, as shares of a film's longest side.
        raster: cells along a film's longest side.
        masks: a folder of exact masks, ``<film>_<finding>.png``; None: that of the index, if it is a phantom.

    Returns:
        The measures. A film that was not looked at has no box and no peak, and a map of zeros.

    Raises:
        PredictionsError: boxes come without sizes, a film stands twice or is not in the index, or a map is not finite.
        ConfigError: ``masks`` is no folder.
        ImageError: a mask cannot be read.
    """
    if isinstance(found, Predictions):
        sizes = found.sizes
    elif sizes is None or np.shape(sizes) != (len(found.images), 2):
        raise PredictionsError(
            f"sizes must be the films' width and height, ({len(found.images)}, 2), where boxes are measured."
        )
    place = np.full(len(index), -1)
    place[film_positions(found, index)] = np.arange(len(found.images))
    pairs = np.unique(np.stack([truth.film, truth.finding], axis=1), axis=0)
    pairs = pairs[[index.findings.names[c] in found.findings for c in pairs[:, 1].tolist()]]
    out = _blank(pairs, len(truth), len(taus) if isinstance(found, Predictions) else 1, len(tolerances))
    for b, (film, finding) in enumerate(pairs.tolist()):
        mine = np.flatnonzero((truth.film == film) & (truth.finding == finding))
        i, name = int(place[film]), index.findings.names[finding]
        size = _size(sizes[i]) if i >= 0 else index.records[film].size
        if size is None:
            continue
        shape = raster_shape(size, raster)
        view = _view(found, i, name, size, taus, raster) if i >= 0 else None
        values = np.zeros(shape) if view is None else view.values
        out.counts[b], out.counted[b] = value_counts(values, box_mask(truth.xyxy[mine], size, shape), BINS), True
        path = _mask_of(index, film, finding, masks)
        if path is not None:
            out.mask_counts[b], out.masked[b] = value_counts(values, _mask_on(path, size, raster), BINS), True
        if view is not None:
            _note(out, b, mine, view, truth.xyxy[mine], [t * max(size) for t in tolerances])
    return out


def _blank(pairs: NDArray[np.int64], truths: int, taus: int, tolerances: int) -> PairMeasures:
    n = len(pairs)
    iou_each = (np.zeros((truths, taus)), np.zeros((truths, taus)))
    counts = (np.zeros((n, 2, BINS), dtype=np.int64), np.zeros((n, 2, BINS), dtype=np.int64))
    flags = (np.zeros(n, dtype=np.bool_), np.zeros(n, dtype=np.bool_))
    pointing, flat = np.zeros((n, tolerances)), np.zeros(n, dtype=np.bool_)
    return PairMeasures(pairs[:, 0], pairs[:, 1], *iou_each, *counts, *flags, pointing, flat)


def _note(
    out: PairMeasures, b: int, mine: NDArray[np.intp], view: _View, boxes: FloatArray, tolerances: Sequence[float]
) -> None:
    """Enter what a film's view says of its true boxes."""
    overlap, levels = iou(view.boxes, boxes), out.any_box.shape[1]
    out.any_box[mine] = best_at_levels(view.level, overlap, levels)
    out.largest_box[mine] = best_at_levels(view.level[view.largest], overlap[view.largest], levels)
    out.flat[b] = not len(view.peaks)
    if len(view.peaks):
        out.pointing[b] = [pointing_share(view.peaks, boxes, tolerance) for tolerance in tolerances]


def _view(found: Predictions | Detections, i: int, name: str, size: Size, taus: Sequence[float], raster: int) -> _View:
    c = found.findings.index(name)
    if isinstance(found, Detections):
        return _of_boxes(found, i, c, size, raster)
    try:
        return _of_map(np.asarray(found.maps[i, c]), found.frames[i], size, taus, raster)
    except ValueError as error:
        raise PredictionsError(f"{found.images[i]}, {name}: {error} Predict again.") from error


def _of_map(surface: NDArray[np.floating], frame: FloatArray, size: Size, taus: Sequence[float], raster: int) -> _View:
    grid, inside = to_film(surface, frame, size, raster)
    extent = value_range(grid, inside)
    if extent is None:
        none = np.zeros(0, dtype=np.int64)
        return _View(none, np.zeros((0, 4)), none, np.zeros(grid.shape), np.zeros((0, 2)))
    found = boxes_above(grid, shares_of_range(extent, taus), inside)
    cell = np.array([size[0] / grid.shape[1], size[1] / grid.shape[0]])
    values = np.clip(place_in_range(grid, extent), 0.0, 1.0)
    values = values if inside is None else np.where(inside, values, 0.0)
    # Interpolation in float32 makes this much of a difference on a level top.
    row, column = np.nonzero(values >= 1 - FLAT)
    peaks = (np.stack([column, row], axis=1) + 0.5) * cell
    return _View(found.level, found.boxes * np.tile(cell, 2), found.largest, values, peaks)


def _of_boxes(found: Detections, i: int, c: int, size: Size, raster: int) -> _View:
    mine = (found.image == i) & (found.finding == c)
    boxes, score = found.xyxy[mine], found.score[mine]
    largest = np.array([area(boxes).argmax()] if len(boxes) else [], dtype=np.intp)
    best = boxes[score == score.max()] if len(boxes) else boxes
    values = box_mask(boxes, size, raster_shape(size, raster)).astype(np.float64)
    return _View(np.zeros(len(boxes), dtype=np.int64), boxes, largest, values, (best[:, :2] + best[:, 2:]) / 2)


def _size(size: NDArray[np.int64]) -> Size:
    return int(size[0]), int(size[1])


def _mask_of(index: Index, film: int, finding: int, masks: Path | None) -> Path | None:
    folder = masks or phantom_masks(index)
    if folder is None:
        return None
    if not folder.is_dir():
        raise ConfigError(f"masks must be a folder; {folder} is none. Give the folder of <film>_<finding>.png.")
    path = folder / f"{Path(index.images[film]).stem}_{index.findings.names[finding]}.png"
    return path if path.is_file() else None


def _mask_on(path: Path, size: Size, raster: int) -> BoolArray:
    """A mask on the film's grid: the cells at whose centres it is nearer to 1."""
    mask = np.asarray(read_film(path) > 0, dtype=np.float32)
    return np.asarray(to_film(mask, Frame.of_size(*size).matrix, size, raster)[0] > 0.5)
