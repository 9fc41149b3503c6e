"""Fig. 2 of attention mining (Cai et al. 2018): what each step saw and erased, on films that tell the steps apart."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from cxrlocus.data.images import Film
from cxrlocus.data.records import Index
from cxrlocus.prediction.panels import Panels
from cxrlocus.prediction.store import Predictions
from cxrlocus.regions.boxes import iou
from cxrlocus.regions.maps import to_film, value_range
from cxrlocus.regions.rules import SeveralThresholds
from cxrlocus.report.entries import Entry, column_names
from cxrlocus.report.figures import figure_of
from cxrlocus.report.pictures import film_extent, film_picture
from cxrlocus.types import FloatArray, Frame

FINAL = "H_f"
"""The panel that only a method which mines has."""

HIT = 0.1
"""A step has found an object if the box of what it erased overlaps a true one with IoU above this (Table 3's lower)."""

RASTER = 192
"""Cells along a drawn film's longest side."""

TRUTH, FOUND = "#FFD400", "#00E5FF"
"""Colours of the true boxes (solid) and of the found ones (dashed)."""


@dataclass(frozen=True)
class Mined:
    """A film and a finding whose panels were kept.

    Args:
        at: its place among the panels.
        image, finding: names.
        truth: (m, 4) true boxes, pixels of the original film.
        found: (T, 4) the box around what each step erased, pixels of the original film; NaN where it erased nothing.
        iou: (T,) its greatest IoU with a true box; 0 where there is none.
    """

    at: int
    image: str
    finding: str
    truth: FloatArray
    found: FloatArray
    iou: FloatArray

    @property
    def step(self) -> int:
        """The first step, from 1, that found an object; 0 if none did."""
        hits = np.flatnonzero(self.iou > HIT)
        return int(hits[0]) + 1 if len(hits) else 0


def mined_cases(panels: Panels, predictions: Predictions, index: Index) -> list[Mined]:
    """Every kept film and finding with true boxes, and where each step looked; none for a method that does not mine."""
    if FINAL not in panels.names:
        return []
    regions = [k for k, name in enumerate(panels.names) if name.startswith("found ")]
    out = []
    for at, (image, finding) in enumerate(zip(panels.images, panels.findings, strict=True)):
        if image not in index.position or image not in predictions.images:
            continue
        record = index.records[index.position[image]]
        truth = np.array([b.xyxy for b in record.boxes if b.finding == finding], dtype=np.float64).reshape(-1, 4)
        frame = Frame(predictions.frames[predictions.images.index(image)])
        found = np.array([region_box(panels.values[at, k] > 0.5, frame) for k in regions])
        if len(truth):
            met = [iou(box[None], truth).max() if np.isfinite(box).all() else 0.0 for box in found]
            out.append(Mined(at, image, finding, truth, found, np.array(met)))
    return out


def region_box(cells: NDArray[np.bool_], frame: Frame) -> FloatArray:
    """The box (4,) around the cells (h, w) of a map that are set, in pixels of the film; NaN if none is.

    Example:
        >>> cells = np.zeros((4, 4), dtype=bool)
        >>> cells[1, 2:] = True
        >>> region_box(cells, Frame.of_size(40, 40)).tolist()
        [20.0, 10.0, 40.0, 20.0]
    """
    rows, columns = np.nonzero(cells)
    if not len(rows):
        return np.full(4, np.nan)
    height, width = cells.shape
    ends = np.array([[columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]])
    box: FloatArray = frame.boxes_to_pixels(ends / [width, height, width, height])[0]
    return box


def without_erased(named: Mapping[str, NDArray[np.floating]], name: str) -> NDArray[np.float32]:
    """A panel to be coloured: on H_t what earlier steps erased is as cold as the coldest open cell.

    There H_t is 0, which among negative evidence would be the hottest.

    Example:
        >>> named = {"found 1": np.array([[0.0, 1.0, 0.0]]), "H_2": np.array([[-3.0, 0.0, -1.0]])}
        >>> without_erased(named, "H_2").tolist()
        [[-3.0, -3.0, -1.0]]
    """
    values = named[name].astype(np.float32)
    erased = np.zeros(values.shape, dtype=np.bool_)
    if name != FINAL:
        for step in range(1, int(name.removeprefix("H_"))):
            erased |= named[f"found {step}"] > 0.5
    if not erased.all():
        values[erased] = values[~erased].min(initial=np.inf)
    return values


def choose_cases(cases: Sequence[Mined], steps: int) -> list[Mined]:
    """The best object that each step was the first to find, then a failure; a step without one has no row.

    Best is by IoU, of equals the first film by name. The failure is the film whose best IoU over all steps is least.
    """
    chosen: list[Mined] = []
    for step in range(1, steps + 1):
        mine = sorted((c for c in cases if c.step == step), key=lambda c: (-c.iou[step - 1], c.image, c.finding))
        chosen += mine[:1]
    failures = sorted((c for c in cases if not c.step), key=lambda c: (c.iou.max(), c.image, c.finding))
    return chosen + failures[:1]


def mining_figure(panels: Panels, predictions: Predictions, index: Index) -> bytes:
    """The steps of mining as a JPEG: a row a case, the film, H_1 ... H_T and H_f, with true and found boxes.

    Each map is coloured from its least to its greatest value, what was erased before as its least. On H_t stands the
    box around what step t erases, on H_f the boxes of protocol cai2018 at its fixed heights. Empty (b"") where the
    panels are not of a method that mines, or no film of the index has true boxes.
    """
    steps = sum(name.startswith("found ") for name in panels.names)
    cases = choose_cases(mined_cases(panels, predictions, index), steps)
    if not cases:
        return b""
    buffer = io.BytesIO()
    with figure_of(2.0 * (steps + 2), 2.25 * len(cases) + 0.3) as figure:
        grid = figure.subplots(len(cases), steps + 2, squeeze=False)
        for row, case in zip(grid, cases, strict=True):
            _draw(row, case, panels, predictions, index)
        figure.supxlabel("true boxes: yellow, solid; found: light blue, dashed", fontsize=8)
        figure.savefig(buffer, format="jpeg", dpi=110, pil_kwargs={"quality": 85})
    return buffer.getvalue()


def write_mining_figures(out: Path, entries: Sequence[Entry], index: Index) -> list[Path]:
    """Write mining-NAME.jpg beside a page for each of its methods that mines; the files written."""
    written = []
    for name, entry in zip(column_names(entries), entries, strict=True):
        if entry.panels is None or entry.predictions is None:
            continue
        if picture := mining_figure(entry.panels, entry.predictions, index):
            word = "-".join("".join(c if c.isalnum() else " " for c in name).split())
            written.append(out / f"mining-{word}.jpg")
            written[-1].write_bytes(picture)
    return written


def _draw(row: Sequence[Axes], case: Mined, panels: Panels, predictions: Predictions, index: Index) -> None:
    pixels, _, _ = film_picture(index.records[index.position[case.image]])
    i = predictions.images.index(case.image)
    frame = predictions.frames[i]
    width, height = (
        round(v) for v in film_extent(index.records[index.position[case.image]], predictions, pixels, case.truth)
    )
    said = f"found at t = {case.step}" if case.step else "not found"
    named = dict(zip(panels.names, panels.values[case.at], strict=True))
    boxes: dict[str, FloatArray] = {f"H_{t + 1}": case.found[[t]] for t in range(len(case.found))}
    boxes[FINAL] = SeveralThresholds(mean_of="box")(named[FINAL].astype(np.float32), frame, (width, height)).xyxy
    for axes, name in zip(row, ("", *boxes), strict=True):
        if pixels is not None:
            axes.imshow(_grey(pixels), cmap="gray", vmin=0, vmax=1, extent=(0, width, height, 0))
        if name:
            _heat(axes, without_erased(named, name), frame, (width, height))
        for box in case.truth:
            _box(axes, box, TRUTH, "-")
        for box in boxes.get(name, np.zeros((0, 4))):
            _box(axes, box, FOUND, "--")
        axes.set(xlim=(0, width), ylim=(height, 0), xticks=[], yticks=[])
        axes.grid(visible=False)
        axes.set_title(name or f"{case.finding}, {said}", fontsize=7)


def _grey(pixels: Film) -> NDArray[np.float32]:
    step = max(1, max(pixels.shape) // (2 * RASTER))
    return np.asarray(pixels[::step, ::step] / np.iinfo(pixels.dtype).max, dtype=np.float32)


def _heat(axes: Axes, values: NDArray[np.float32], frame: FloatArray, size: tuple[int, int]) -> None:
    grid, inside = to_film(values, frame, size, RASTER)
    low, high = value_range(grid, inside) or (float(grid.flat[0]), float(grid.flat[0]) + 1)
    shown = grid if inside is None else np.where(inside, grid, np.nan)
    axes.imshow(shown, cmap="inferno", alpha=0.55, vmin=low, vmax=high, extent=(0, size[0], size[1], 0))


def _box(axes: Axes, box: FloatArray, colour: str, line: str) -> None:
    if np.isfinite(box).all():
        x0, y0, x1, y1 = box.tolist()
        axes.add_patch(
            Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=colour, linestyle=line, linewidth=1.1)
        )
