"""The exports of a harvest, each streamed from the journal and written whole or not at all.

boxes.csv       every box; has x, y, w, h too, so that `cxrlocus evaluate` reads it as it is
boxes.parquet   the same rows, where pyarrow is installed
coco.json       COCO: the films looked at, the boxes, the findings as categories; all ids from 1
BBox_List.csv   the best box of each film and finding in the layout of NIH's own list
"""

from __future__ import annotations

import csv
import importlib
import importlib.util
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from cxrlocus import __version__
from cxrlocus.data.nih import BOX_HEADER, BOX_WORDS
from cxrlocus.data.tables import xywh
from cxrlocus.files import writing_whole
from cxrlocus.harvest.journal import Box, Journal
from cxrlocus.types import Findings

ROW_GROUP = 16384
"""Rows that a Parquet row group has, and that are in memory at a time."""


def write_exports(out: Path, journal: Journal, findings: Findings) -> tuple[Path, ...]:
    """Write every export and return their paths.

    Raises:
        CxrlocusError: one cannot be written; an earlier one of its name stands.
    """
    kinds: dict[str, Callable[[Path, Journal], None]] = {
        "boxes.csv": write_csv,
        "coco.json": partial(write_coco, findings=findings),
        "BBox_List.csv": write_nih,
    }
    if has_parquet():
        kinds["boxes.parquet"] = write_parquet
    for name, write in kinds.items():
        with writing_whole(out / name) as part:
            write(part, journal)
    return tuple(out / name for name in kinds)


def has_parquet() -> bool:
    """Whether boxes.parquet can be written: pyarrow is an optional extra."""
    return importlib.util.find_spec("pyarrow") is not None


def write_csv(path: Path, journal: Journal) -> None:
    """Every box, corners and size both."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow((*Box._fields, "x", "y", "w", "h"))
        rows.writerows((*box, *xywh(*box.corners)) for box in _boxes(journal))


def write_nih(path: Path, journal: Journal) -> None:
    """The rank-1 boxes as NIH lists its own: its header, its word for Infiltration; for NIH films its 1024 px frame."""
    with path.open("w", newline="", encoding="utf-8") as file:
        file.write(BOX_HEADER + "\n")
        rows = csv.writer(file, lineterminator="\n")
        best = (box for box in _boxes(journal) if box.rank == 1)
        rows.writerows((box.image, BOX_WORDS.get(box.finding, box.finding), *xywh(*box.corners)) for box in best)


def write_coco(path: Path, journal: Journal, findings: Findings) -> None:
    """COCO, one object a line; written in two passes over the journal, so that it never is in memory."""
    category = {finding: number for number, finding in enumerate(findings, start=1)}
    with path.open("w", encoding="utf-8") as file:
        file.write(f'{{"info": {json.dumps({"description": f"boxes harvested by cxrlocus {__version__}"})},\n')
        _list(file, "images", _coco_images(journal))
        _list(file, "annotations", _coco_annotations(journal, category))
        _list(file, "categories", ({"id": number, "name": finding} for finding, number in category.items()), last=True)


def write_parquet(path: Path, journal: Journal) -> None:
    """Every box, with the columns of ``Box``."""
    arrow: Any = importlib.import_module("pyarrow")
    parquet: Any = importlib.import_module("pyarrow.parquet")
    kinds = {str: arrow.string(), int: arrow.int32(), float: arrow.float64()}
    schema = arrow.schema([(name, kinds[kind]) for name, kind in _types().items()])
    with parquet.ParquetWriter(path, schema) as file:
        for group in _groups(_boxes(journal), ROW_GROUP):
            columns = dict(zip(Box._fields, zip(*group, strict=True), strict=True))
            file.write_table(arrow.table(columns, schema=schema))


def _types() -> dict[str, type]:
    example = Box("", "", 0.0, 0.0, 0.0, 0.0, 0.0, 0, 0, 0.0)
    return {name: type(value) for name, value in example._asdict().items()}


def _boxes(journal: Journal) -> Iterator[Box]:
    return (box for shard in journal for box in shard.boxes)


def _groups(boxes: Iterator[Box], size: int) -> Iterator[list[Box]]:
    group: list[Box] = []
    for box in boxes:
        group.append(box)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def _list(file: TextIO, name: str, items: Iterator[dict[str, Any]], *, last: bool = False) -> None:
    file.write(f'"{name}": [')
    for number, item in enumerate(items):
        file.write((",\n" if number else "\n") + json.dumps(item))
    file.write("\n]}\n" if last else "\n],\n")


def _coco_images(journal: Journal) -> Iterator[dict[str, Any]]:
    films = (film for shard in journal for film in shard.films)
    for number, film in enumerate(films, start=1):
        yield {"id": number, "file_name": film.image, "width": film.width, "height": film.height}


def _coco_annotations(journal: Journal, category: dict[str, int]) -> Iterator[dict[str, Any]]:
    films, number = 0, 0
    for shard in journal:
        image = {film.image: films + k for k, film in enumerate(shard.films, start=1)}
        films += len(shard.films)
        for box in shard.boxes:
            number += 1
            bbox = xywh(*box.corners)
            yield {
                "id": number,
                "image_id": image[box.image],
                "category_id": category[box.finding],
                "bbox": bbox,
                "area": bbox[2] * bbox[3],
                "score": box.score,
                "iscrowd": 0,
            }
