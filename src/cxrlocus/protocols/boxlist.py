"""Lists of boxes as plain CSV, so that boxes found by any software can be measured.

image,finding,x,y,w,h,score         one row a box; x, y its top left corner, w, h its size, in pixels of the frame
                                    that the data set's own boxes are given in (1024 x 1024 for NIH); score optional
"""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from cxrlocus.data.nih import ALIASES
from cxrlocus.data.records import Index, Record, TruthBox
from cxrlocus.errors import PredictionsError
from cxrlocus.regions.detections import Detections

COLUMNS = ("image", "finding", "x", "y", "w", "h")

Row = tuple[int, int, tuple[float, float, float, float], float]


def read_boxes(path: Path, index: Index) -> Detections:
    r"""Read a list of boxes on the films of an index.

    Args:
        path: CSV with a header that names ``image,finding,x,y,w,h`` and perhaps ``score`` (1 where there is none), in
            any order; other columns are ignored.
        index: the films that were looked at: those without a row are films on which nothing was found.

    Raises:
        PredictionsError: the file cannot be read, is empty or lacks a column, or a row names an unknown film or
            finding, holds something that is not a number, or a box without area or outside its film; with its line.

    Example:
        >>> import tempfile
        >>> from cxrlocus.types import Findings
        >>> index = Index("toy", Path("."), Findings(("Mass",)), (Record("a.png", Path("a.png"), patient="7"),))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "boxes.csv"
        ...     _ = path.write_text("image,finding,x,y,w,h\na.png,Mass,10,20,30,40\n")
        ...     found = read_boxes(path, index)
        >>> found.xyxy.tolist(), found.score.tolist()
        ([[10.0, 20.0, 40.0, 60.0]], [1.0])
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(_rows(path, file, index))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise PredictionsError(f"{path}: not a readable CSV of boxes ({error}). Give {','.join(COLUMNS)}.") from error
    image, finding, xyxy, score = zip(*rows, strict=True) if rows else ((), (), (), ())
    return Detections(
        index.images,
        index.findings,
        np.array(image, dtype=np.int64),
        np.array(finding, dtype=np.int64),
        np.array(xyxy, dtype=np.float64),
        np.array(score, dtype=np.float64),
    )


def as_truth(boxes: Detections, index: Index, name: str) -> Index:
    """The index with these boxes, another reader's say, in place of its own; films without a row have none.

    Args:
        boxes: of its films and findings.
        index: the data set.
        name: what the data set is called with them.

    Example:
        >>> from cxrlocus.types import Findings
        >>> index = Index("toy", Path("."), Findings(("Mass",)), (Record("a.png", Path("a.png"), patient="7"),))
        >>> other = as_truth(Detections(("a.png",), index.findings, [0], [0], [[1, 2, 3, 4]], [1.0]), index, "toy, B")
        >>> other.dataset, other.records[0].boxes[0].xyxy
        ('toy, B', (1.0, 2.0, 3.0, 4.0))
    """
    of_film: dict[str, list[TruthBox]] = {}
    for image, finding, (x0, y0, x1, y1) in zip(boxes.image, boxes.finding, boxes.xyxy.tolist(), strict=True):
        box = TruthBox(boxes.findings.names[finding], (x0, y0, x1, y1))
        of_film.setdefault(boxes.images[image], []).append(box)
    records = tuple(replace(r, boxes=tuple(of_film.get(r.image, ()))) for r in index.records)
    return replace(index, dataset=name, records=records)


def write_boxes(path: Path, detections: Detections) -> None:
    """Write boxes as ``read_boxes`` reads them.

    Raises:
        PredictionsError: the file cannot be written.
    """
    try:
        with path.open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow((*COLUMNS, "score"))
            columns = (detections.image, detections.finding, detections.xyxy, detections.score)
            for image, finding, (x0, y0, x1, y1), score in zip(*(c.tolist() for c in columns), strict=True):
                name = (detections.images[image], detections.findings.names[finding])
                rows.writerow((*name, x0, y0, x1 - x0, y1 - y0, score))
    except OSError as error:
        raise PredictionsError(f"{path}: cannot write the boxes ({error.strerror or error}).") from error


def _rows(path: Path, file: Iterable[str], index: Index) -> Iterator[Row]:
    # strict: a quote that is never closed would otherwise swallow the rest of the file as one field.
    lines = csv.reader(file, strict=True)
    header = [name.strip().lower() for name in next(lines, [])]
    if not header:
        raise PredictionsError(f"{path}: the file is empty. Give a header {','.join(COLUMNS)} and one row a box.")
    lacking = [name for name in COLUMNS if name not in header]
    if lacking:
        raise PredictionsError(f"{path}, line 1: no column {lacking[0]!r}; the header must name {','.join(COLUMNS)}.")
    twice = [name for name in (*COLUMNS, "score") if header.count(name) > 1]
    if twice:
        raise PredictionsError(f"{path}, line 1: column {twice[0]!r} stands more than once. Keep one.")
    at = {name: header.index(name) for name in (*COLUMNS, "score") if name in header}
    findings = {name: i for i, name in enumerate(index.findings)}
    findings |= {word: findings[name] for word, name in ALIASES.items() if name in findings and word not in findings}
    for cells in lines:
        if not any(cell.strip() for cell in cells):
            continue
        try:
            if len(cells) <= max(at.values()):
                raise ValueError(f"{len(cells)} fields where the header has {len(header)}; complete the row")
            yield _row({name: cells[k].strip() for name, k in at.items()}, index, findings)
        except ValueError as error:
            raise PredictionsError(f"{path}, line {lines.line_num}: {error}.") from error


def _row(cell: Mapping[str, str], index: Index, findings: Mapping[str, int]) -> Row:
    if cell["image"] not in index.position:
        raise ValueError(
            f"image {cell['image']!r} is not one of the {len(index)} films evaluated; name one of them or another split"
        )
    if cell["finding"] not in findings:
        raise ValueError(f"finding {cell['finding']!r} is not one of {', '.join(index.findings)}; correct it")
    place = index.position[cell["image"]]
    x, y, w, h = (_number(name, cell[name]) for name in ("x", "y", "w", "h"))
    if not (w > 0 and h > 0 and x + w > x and y + h > y):
        raise ValueError(f"w and h must be positive; got {cell['w']} and {cell['h']}; correct the box or leave it out")
    box = (x, y, x + w, y + h)
    _check_on_film(box, index.records[place])
    score = _number("score", cell["score"]) if cell.get("score") else 1.0
    return place, findings[cell["finding"]], box, score


def _check_on_film(box: tuple[float, float, float, float], record: Record) -> None:
    width, height = record.size or (math.inf, math.inf)
    if box[0] >= width or box[1] >= height or box[2] <= 0 or box[3] <= 0:
        raise ValueError(
            f"the box from ({box[0]:g}, {box[1]:g}) to ({box[2]:g}, {box[3]:g}) lies outside the film; "
            f"give it in the frame of the film's boxes, {width:g} x {height:g} pixels"
        )


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number; got {text!r}; correct it or leave the box out")
    return value
