"""Controls: what localization is worth that looks at no film. They stand in every table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np

from cxrlocus.data.records import Index
from cxrlocus.data.splits import kfold_of_patients
from cxrlocus.prediction.store import Predictions
from cxrlocus.regions.boxes import iou
from cxrlocus.regions.detections import Detections
from cxrlocus.types import Findings, FloatArray, Frame, Policy

MOST_CELLS = 64
"""Cells a side that the random map has at most."""


@dataclass(frozen=True)
class Setting:
    """What a control may know of the films: their names, sizes and boxes, the findings, and the measured method's grid.

    Args:
        index: the evaluated films.
        sizes: (N, 2) width and height of each film.
        frames: (N, 2, 3) of the measured method's maps.
        findings: the vocabulary to speak of.
        grid: (h, w) of the measured method's maps.
        seed: of the random map and of the folds.
    """

    index: Index
    sizes: np.ndarray[tuple[int, int], np.dtype[np.int64]]
    frames: FloatArray
    findings: Findings
    grid: tuple[int, int]
    seed: int = 0


@dataclass(frozen=True)
class Control:
    """A control: makes maps (measured by every policy) or boxes (of one policy), and says what it knows."""

    make: Callable[[Setting], Predictions | Detections]
    policy: Policy | Literal["any"]
    knows: str
    needs_patients: int = 0


def random_map(setting: Setting) -> Predictions:
    """Independent uniform noise on the method's grid: what the box rule and the protocol give for nothing.

    A grid beyond ``MOST_CELLS`` a side is cut to it: masks at film size would take gigabytes of noise.
    """
    shape = (len(setting.index), len(setting.findings), *(min(cells, MOST_CELLS) for cells in setting.grid))
    noise = np.random.default_rng(setting.seed).random(shape, dtype=np.float32)
    return _maps(setting, "random_map", noise)


def lung_prior(setting: Setting) -> Predictions:
    """Two lung-shaped bumps, the same for every film and finding."""
    v, u = np.meshgrid(*((np.arange(k) + 0.5) / k for k in (64, 64)), indexing="ij")
    bumps = [np.exp(-(((u - centre) / 0.14) ** 2 + ((v - 0.45) / 0.28) ** 2)) for centre in (0.3, 0.7)]
    shape = (len(setting.index), len(setting.findings), 64, 64)
    return _maps(setting, "lung_prior", np.broadcast_to(np.maximum(*bumps).astype(np.float32), shape))


def centre_box(setting: Setting) -> Detections:
    """The middle half of the film's width and height, for every finding."""
    n, c = len(setting.index), len(setting.findings)
    pairs = np.array(list(product(range(n), range(c))), dtype=np.int64).reshape(-1, 2)
    return _boxes(setting, pairs, np.tile([0.25, 0.25, 0.75, 0.75], (len(pairs), 1)))


def class_mean_box(setting: Setting) -> Detections:
    """The mean box of each finding over the other half of the patients."""
    fold = kfold_of_patients(setting.index.patients, 2, seed=setting.seed)
    image, finding, unit = _truth(setting)
    pairs, boxes = [np.zeros((0, 2), np.int64)], [np.zeros((0, 4))]
    for half in (0, 1):
        here = np.flatnonzero(fold == half)
        for c in range(len(setting.findings)):
            others = unit[(finding == c) & (fold[image] != half)]
            if len(others):
                pairs.append(np.stack([here, np.full_like(here, c)], axis=1))
                boxes.append(np.tile(others.mean(axis=0), (len(here), 1)))
    return _boxes(setting, np.concatenate(pairs), np.concatenate(boxes))


def oracle_box(setting: Setting) -> Detections:
    """The best box whose edges are edges of the method's map cells: how well its grid, taken as it is, could do.

    Maps are interpolated before they are boxed, so a method's box can lie between the cells and beat this one.
    """
    image, finding, _ = _truth(setting)
    boxes = [b.xyxy for r in setting.index.records for b in r.boxes if b.finding in setting.findings]
    best = [
        _on_cells(np.array(box), Frame(setting.frames[i]), setting.grid, setting.sizes[i])
        for box, i in zip(boxes, image, strict=True)
    ]
    found = np.array(best).reshape(-1, 4)
    return Detections(setting.index.images, setting.findings, image, finding, found, np.ones(len(found)))


def _on_cells(
    box: FloatArray, frame: Frame, grid: tuple[int, int], size: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> FloatArray:
    cells = np.array([grid[1], grid[0], grid[1], grid[0]], dtype=np.float64)
    inside = frame.boxes_to_unit(box[None])[0] * cells
    # Where cells look, the last ends before the film does: a box beyond it has that cell, not one that is not there.
    first, last = np.array([0, 0, 1, 1]), cells - [1, 1, 0, 0]
    ends = (np.clip(end, first, last) for end in (np.floor(inside + 1e-9), np.ceil(inside - 1e-9)))
    around = np.array([c for c in product(*zip(*ends, strict=True)) if c[2] > c[0] and c[3] > c[1]])
    whole = frame.boxes_to_pixels(around / cells)
    cut = np.clip(whole, 0, np.tile(size, 2))
    on_film = np.where((cut[:, 2:] > cut[:, :2]).all(axis=1, keepdims=True), cut, whole)
    best: FloatArray = on_film[iou(on_film, box[None])[:, 0].argmax()]
    return best


CONTROLS: dict[str, Control] = {
    "random_map": Control(random_map, "any", "nothing"),
    "centre_box": Control(centre_box, "fixed", "nothing"),
    "lung_prior": Control(lung_prior, "any", "where lungs are"),
    "class_mean_box": Control(class_mean_box, "validation", "boxes of other patients", needs_patients=2),
    "oracle_box": Control(oracle_box, "oracle", "the test boxes: each drawn on the edges of the map's cells"),
}
"""Every control by name."""


def _truth(
    setting: Setting,
) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], np.ndarray[tuple[int], np.dtype[np.int64]], FloatArray]:
    rows = [
        (i, setting.findings.index(b.finding), b.xyxy)
        for i, r in enumerate(setting.index.records)
        for b in r.boxes
        if b.finding in setting.findings
    ]
    image = np.array([r[0] for r in rows], dtype=np.int64)
    finding = np.array([r[1] for r in rows], dtype=np.int64)
    xyxy = np.array([r[2] for r in rows], dtype=np.float64).reshape(-1, 4)
    return image, finding, xyxy / np.tile(setting.sizes[image], (1, 2))


def _boxes(setting: Setting, pairs: np.ndarray[tuple[int, int], np.dtype[np.int64]], unit: FloatArray) -> Detections:
    xyxy = unit * np.tile(setting.sizes[pairs[:, 0]], (1, 2))
    return Detections(setting.index.images, setting.findings, pairs[:, 0], pairs[:, 1], xyxy, np.ones(len(pairs)))


def _maps(setting: Setting, name: str, maps: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> Predictions:
    n, c = maps.shape[:2]
    frames = np.stack([Frame.of_size(*size).matrix for size in setting.sizes.tolist()])
    meta = {"method": name, "variant": "", "dataset": setting.index.dataset}
    prob = np.full((n, c), 0.5, np.float32)
    return Predictions(meta, setting.index.images, setting.findings, prob, maps, frames, setting.sizes, "probability")
