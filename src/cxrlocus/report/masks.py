"""Masks on the page, as protocol infomask2019 measured them: densities over films, masks on films, panels.

After Fig. 2, 3 and 4 of InfoMask (Taghanaki et al. 2019). Every number is one of ``FilmMeasures``; what is worked out
here is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cxrlocus.data.records import Index
from cxrlocus.prediction.panels import Panels
from cxrlocus.prediction.store import Predictions
from cxrlocus.protocols.masks import FilmMeasures, film_mask
from cxrlocus.report.entries import Entry, column_names
from cxrlocus.report.figures import density_figure
from cxrlocus.report.pictures import coloured_map, film_extent, film_picture, mask_overlay
from cxrlocus.types import FloatArray, Frame

MEASURES = {"IoP": "iop", "FPR": "fpr", "FNR": "fnr"}
"""Title of a panel of Fig. 2 -> the measure."""

FILMS = 3
"""Films of a finding that masks are shown on."""

MOST_PANEL_ROWS = 12
"""Films of a method whose panels are drawn."""

NAN = float("nan")


@dataclass(frozen=True)
class Drawn:
    """A film as the page draws it.

    Args:
        image, finding: names.
        width, height: the original film's, in pixels; the drawing's coordinates.
        film: the picture as a data URI, empty if it cannot be read.
        reason: why it cannot be read, else empty.
        truth: (m, 4) true boxes of the finding, pixels of the original film.
    """

    image: str
    finding: str
    width: float
    height: float
    film: str
    reason: str
    truth: FloatArray


@dataclass(frozen=True)
class MaskTile:
    """One method's mask on a film.

    Args:
        mask: the picture as a data URI, empty if nothing is marked.
        said: where the map was cut, or why there is no mask.
        iop, fpr, fnr: as measured; NaN where undefined.
        is_measured: whether the protocol measured this film at all.
    """

    mask: str
    said: str
    iop: float
    fpr: float
    fnr: float
    is_measured: bool


@dataclass(frozen=True)
class MaskRow:
    """A film with one tile a method; the caption says why it is shown."""

    caption: str
    drawn: Drawn
    tiles: list[MaskTile]


@dataclass(frozen=True)
class FindingMasks:
    """A finding's masks: Fig. 2 (a data URI), then Fig. 3: a column for each method that knows the finding, and rows.

    The IoP of the first column's method chooses the films.
    """

    finding: str
    densities: str
    columns: list[str]
    rows: list[MaskRow]


@dataclass(frozen=True)
class Panel:
    """A coloured map: its name, its picture (empty if it is not finite), its least and greatest value on the film.

    ``aligned`` says that it lies on the film as the method aligned it, where the true boxes do not.
    """

    name: str
    picture: str
    low: float
    high: float
    aligned: bool = False


@dataclass(frozen=True)
class ShownPanels:
    """Fig. 4 of one method: films with their panels, and how many were kept."""

    label: str
    rows: list[tuple[Drawn, list[Panel]]]
    kept: int


@dataclass(frozen=True)
class Masks:
    """All that the page shows of masks: finding by finding, and the panels of those methods that have any."""

    findings: list[FindingMasks]
    panels: list[ShownPanels]


def masks_section(entries: Sequence[Entry], index: Index) -> Masks:
    """Figures of the entries that protocol infomask2019 has measured, and the panels of those that have any.

    Args:
        entries: the page's, told apart (``entries.distinct``).
        index: the films, with their true boxes.
    """
    named = list(zip(column_names(entries), entries, strict=True))
    measured = [_Measured(name, e, e.films) for name, e in named if e.films is not None]
    columns = [m for m in measured if not m.entry.is_control]
    there = {index.findings.names[c] for m in columns or measured for c in m.films.finding.tolist()}
    findings = [_finding(f, measured, columns, index) for f in index.findings if f in there]
    panels = [
        _panels(name, e, e.panels, e.predictions, index)
        for name, e in named
        if e.panels is not None and e.predictions is not None
    ]
    return Masks(findings, [p for p in panels if p.rows])


@dataclass(frozen=True)
class _Measured:
    name: str
    entry: Entry
    films: FilmMeasures


def _finding(finding: str, measured: Sequence[_Measured], columns: Sequence[_Measured], index: Index) -> FindingMasks:
    c = index.findings.index(finding)
    values = {
        title: {m.name: getattr(m.films, name)[m.films.finding == c] for m in measured}
        for title, name in MEASURES.items()
    }
    densities = density_figure(values, {m.name for m in measured if m.entry.is_control})
    knowing = [m for m in columns if c in m.films.finding]
    rows = []
    for caption, image in choose_films(knowing[0].films, c, index) if knowing else ():
        drawn = _drawn(image, finding, knowing[0].entry, index)
        rows.append(MaskRow(caption, drawn, [mask_tile(m.entry, m.films, drawn, c) for m in knowing]))
    return FindingMasks(finding, densities, [m.name for m in knowing], rows)


def choose_films(films: FilmMeasures, finding: int, index: Index) -> list[tuple[str, str]]:
    """The films of a method's best, median and worst IoP, then films whose masks are empty, until there are three.

    Films of equal IoP stand by name, as do those of empty masks.

    Args:
        films: the method's.
        finding: position in the index's findings.
        index: the films that can be shown.

    Returns:
        (caption, image), at most three.
    """
    mine = [
        (iop, image)
        for image, of, iop in zip(films.image, films.finding.tolist(), films.iop.tolist(), strict=True)
        if of == finding and image in index.position
    ]
    rated = [image for _, image in sorted((-iop, image) for iop, image in mine if not np.isnan(iop))]
    if len(rated) >= FILMS:
        return [("best", rated[0]), ("median", rated[(len(rated) - 1) // 2]), ("worst", rated[-1])]
    empty = [("no IoP", image) for image in sorted(image for iop, image in mine if np.isnan(iop))]
    return [*zip(("best", "worst"), rated, strict=False), *empty][:FILMS]


def mask_tile(entry: Entry, films: FilmMeasures, drawn: Drawn, finding: int) -> MaskTile:
    """One method's mask on a film, cut where the policy cut it, with what was measured of it."""
    at = [b for b, image in enumerate(films.image) if image == drawn.image and films.finding[b] == finding]
    found = entry.predictions if entry.predictions is not None else entry.detections
    if not at or found is None:
        return MaskTile("", "not measured on this film", NAN, NAN, NAN, is_measured=False)
    b, level = at[0], float(films.level[at[0]])
    size = (round(drawn.width), round(drawn.height))
    mask = film_mask(
        found, drawn.image, drawn.finding, level, scale=films.scale, size=size, raster=films.masking.raster
    )
    rates = (float(films.iop[b]), float(films.fpr[b]), float(films.fnr[b]))
    return MaskTile(mask_overlay(mask), _said(films, b, is_empty=not mask.any()), *rates, is_measured=True)


def _said(films: FilmMeasures, b: int, *, is_empty: bool) -> str:
    if not films.seen[b]:
        return "not predicted: an empty mask"
    if not films.scale:
        return "no box" if is_empty else "boxes filled"
    if np.isnan(films.level[b]):
        return "no level: no boxes of other patients to choose it by"
    cut = f"map > {films.level[b]:.3g}{' of its range' if films.scale == 'relative' else ''}"
    return f"{cut}: an empty mask" if is_empty else cut


def _panels(label: str, entry: Entry, shown: Panels, predictions: Predictions, index: Index) -> ShownPanels:
    pairs = list(zip(shown.images, shown.findings, strict=True))
    there = [
        k for k, (image, finding) in enumerate(pairs)
        if image in index.position and image in predictions.images and finding in index.findings
    ]  # fmt: skip
    # In turns, so that each finding is seen before any is seen again.
    turn = {k: shown.findings[:k].count(shown.findings[k]) for k in there}
    first = sorted(sorted(there, key=lambda k: (turn[k], k))[:MOST_PANEL_ROWS])
    rows = [(_drawn(*pairs[k], entry, index), _panels_of(shown, k, predictions)) for k in first]
    return ShownPanels(label, rows, len(pairs))


def _panels_of(shown: Panels, k: int, predictions: Predictions) -> list[Panel]:
    i, c = predictions.images.index(shown.images[k]), predictions.findings.index(shown.findings[k])
    size = (int(predictions.sizes[i, 0]), int(predictions.sizes[i, 1]))
    of_map = "mask M" if predictions.kind == "mask" else f"map ({predictions.kind})"
    pictures = [*zip(shown.names, shown.values[k], strict=True), (of_map, predictions.maps[i, c])]
    panels = []
    for name, values in pictures:
        aligned = name.startswith("aligned")
        frame = Frame.of_size(*size).matrix if aligned else predictions.frames[i]
        panels.append(Panel(name, *coloured_map(values, frame, size), aligned))
    return panels


def _drawn(image: str, finding: str, entry: Entry, index: Index) -> Drawn:
    record = index.records[index.position[image]]
    truth = np.array([b.xyxy for b in record.boxes if b.finding == finding], dtype=np.float64).reshape(-1, 4)
    pixels, film, reason = film_picture(record)
    width, height = film_extent(record, entry.predictions, pixels, truth)
    return Drawn(image, finding, width, height, film, reason, truth)
