"""The layout of NIH ChestX-ray14 on disk (Wang et al. 2017), which the phantom is written in as well."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cxrlocus.data.records import Dropped, Index, Record, TruthBox
from cxrlocus.data.splits import LIST_FILES as DRAWN
from cxrlocus.data.splits import read_lists
from cxrlocus.data.tables import Table, check_root, read_boxes, read_table
from cxrlocus.errors import DataError
from cxrlocus.types import BOXED8, NIH14, Findings

LABEL_FILES = {"v2020": "Data_Entry_2017_v2020.csv", "2017": "Data_Entry_2017.csv"}
"""The label file of each version."""

LIST_FILES = {"train": "train_val_list.txt", "test": "test_list.txt"}
"""The official list of each split."""

BOX_FILE = "BBox_List_2017.csv"
FRAME = (1024, 1024)
"""(width, height) that NIH's boxes are given in, whatever size the films are stored at."""

BOX_HEADER = "Image Index,Finding Label,Bbox [x,y,w,h],,,"
"""The box list's first line as it is: nine names over six fields."""

ALIASES = {"Infiltrate": "Infiltration"}
"""The box list says Infiltrate where the labels say Infiltration."""

BOX_WORDS = {name: word for word, name in ALIASES.items()}
"""What the box list calls a finding, where that differs from the labels."""


@dataclass(frozen=True)
class _Row:
    line: int
    patient: str
    positive: frozenset[str]
    unknown: frozenset[str]


def load_nih(root: Path, *, labels: Literal["auto", "2017", "v2020"] = "auto") -> Index:
    """Read a folder in the layout of NIH ChestX-ray14.

    Needs ``Data_Entry_2017.csv`` or ``Data_Entry_2017_v2020.csv`` and films in ``images/``, ``images_001/images/`` and
    so on; takes ``train_val_list.txt`` (split "train"), ``test_list.txt`` ("test") and ``BBox_List_2017.csv`` where
    they are. Where ``train_list.txt`` is, it and ``val_list.txt`` stand in for ``train_val_list.txt``. A finding that a
    film's label does not name is negative; an empty label cell makes all of them unknown. Boxes are in the 1024 x 1024
    frame. A folder with ``phantom.json`` is the data set "phantom", any other "nih". Films come in the order of the
    label file.

    Args:
        root: the folder.
        labels: which label version to read; "auto" reads the one that is there, of two the 2020 one, and lists the
            other in ``dropped``.

    Raises:
        DataError: the folder, its label file or every film is missing; a file is empty or not such a table; a row is
            short; a label is not in the vocabulary; a film has two label rows. The message names file and line.
        LeakError: a film is in both lists, or a patient is.
    """
    check_root(root)
    dropped: list[Dropped] = []
    table = _label_table(root, labels, dropped)
    findings, phantom_hash = _vocabulary(root)
    rows = _label_rows(table, findings)
    files = _films(root, dropped)
    hashes = {table.path.name: table.sha256} | phantom_hash
    lists = _lists(root, dropped)
    splits = read_lists(root, lists, rows, hashes, dropped)
    listed = {image: lists[split] for image, split in splits.items()}
    _list_rows_without_file(rows, files, listed, table, dropped)
    strays = [path for image, path in files.items() if image not in rows]
    dropped.extend(Dropped(_below(root, path), f"no row in {table.path.name}") for path in strays)
    here = [image for image in rows if image in files]
    if not here:
        raise DataError(
            f"{root}: none of the {len(rows)} films of {table.path.name} is in images/ or images_*/. Unpack them there."
        )
    boxes = _boxes(root, set(here), findings, hashes, dropped)
    records = tuple(_record(name, files[name], rows[name], splits.get(name), boxes.get(name, ())) for name in here)
    return Index("phantom" if phantom_hash else "nih", root, findings, records, tuple(dropped), hashes)


def _record(image: str, path: str, row: _Row, split: str | None, boxes: tuple[TruthBox, ...]) -> Record:
    return Record(image, Path(path), row.patient, split, row.positive, row.unknown, boxes, FRAME)


def _label_table(root: Path, labels: str, dropped: list[Dropped]) -> Table:
    if labels not in ("auto", *LABEL_FILES):
        raise DataError(f"labels must be auto, {' or '.join(LABEL_FILES)}; got {labels!r}. Choose one of them.")
    wanted = LABEL_FILES.values() if labels == "auto" else [LABEL_FILES[labels]]
    there = [name for name in wanted if (root / name).exists()]
    if not there:
        raise DataError(f"{root}: no {' or '.join(wanted)}. Put the label file of NIH ChestX-ray14 there.")
    for name in there[1:]:
        dropped.append(Dropped(name, f"not read: {there[0]} is there too, and labels='auto' takes the 2020 version"))
    return read_table(root / there[0])


def _vocabulary(root: Path) -> tuple[Findings, dict[str, str]]:
    """The findings, and the hash of phantom.json where the folder is a phantom."""
    path = root / "phantom.json"
    if not path.exists():
        return NIH14, {}
    try:
        data = path.read_bytes()
        meta = json.loads(data)
        names = meta.get("findings", BOXED8.names) if isinstance(meta, dict) else None
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise ValueError("findings must be a list of names")
        return Findings(tuple(names)), {path.name: hashlib.sha256(data).hexdigest()}
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not what a phantom's writer leaves ({error}). Write the phantom again.") from error


def _label_rows(table: Table, findings: Findings) -> dict[str, _Row]:
    columns = (table.column("Image Index"), table.column("Finding Labels", "Finding Label"), table.column("Patient ID"))
    parsed: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
    rows: dict[str, _Row] = {}
    for line, row in table.rows:
        image, cell, patient = (table.cell(line, row, column) for column in columns)
        if not image or not patient:
            raise DataError(f"{table.path} line {line}: Image Index and Patient ID must not be empty. Fill them.")
        if image in rows:
            raise DataError(
                f"{table.path} line {line}: a film must have one row; {image!r} has one on line {rows[image].line}. "
                "Remove one."
            )
        if cell not in parsed:
            parsed[cell] = _parse_labels(table, line, cell, findings)
        rows[image] = _Row(line, patient, *parsed[cell])
    return rows


def _parse_labels(table: Table, line: int, cell: str, findings: Findings) -> tuple[frozenset[str], frozenset[str]]:
    if not cell:
        return frozenset(), frozenset(findings)
    names = [ALIASES.get(name.strip(), name.strip()) for name in cell.split("|")]
    if names == ["No Finding"]:
        return frozenset(), frozenset()
    for name in names:
        if name not in findings:
            rule = "stands alone" if name == "No Finding" else f"must be one of {', '.join(findings)}"
            raise DataError(f"{table.path} line {line}: the label {name!r} of {cell!r} {rule}. Correct it.")
    return frozenset(names), frozenset()


def _films(root: Path, dropped: list[Dropped]) -> dict[str, str]:
    """File name -> path of every film below the image folders; a second file of the same name is listed."""
    try:
        found = [entry for folder in _image_folders(root) for entry in _listing(folder)]
    except OSError as error:
        raise DataError(f"{error.filename}: cannot be read ({error.strerror}). Make the folder readable.") from error
    files: dict[str, str] = {}
    for name, path in found:
        if name in files:
            dropped.append(Dropped(_below(root, path), f"not read: {_below(root, files[name])} has the same name"))
        else:
            files[name] = path
    return files


def _listing(folder: Path) -> list[tuple[str, str]]:
    with os.scandir(folder) as entries:
        # is_file() of a directory entry asks the disk only about links: 112,120 films take no stat call.
        return sorted((e.name, e.path) for e in entries if not e.name.startswith(".") and e.is_file())


def _below(root: Path, path: str) -> str:
    return Path(path).relative_to(root).as_posix()


def _image_folders(root: Path) -> Iterator[Path]:
    """images, images_001, ..., each with an inner images folder where the archive was unpacked so."""
    for folder in sorted(p for p in root.iterdir() if p.name == "images" or p.name.startswith("images_")):
        for place in (folder, folder / "images"):
            if place.is_dir():
                yield place


def _lists(root: Path, dropped: list[Dropped]) -> Mapping[str, str]:
    """Split -> its list: the official ones, or those that were drawn."""
    if not (root / DRAWN["train"]).exists():
        return LIST_FILES
    if (root / LIST_FILES["train"]).exists():
        dropped.append(Dropped(LIST_FILES["train"], f"not read: {DRAWN['train']} is there too"))
    return DRAWN


def _list_rows_without_file(
    rows: Mapping[str, _Row],
    files: Mapping[str, str],
    lists: Mapping[str, str],
    table: Table,
    dropped: list[Dropped],
) -> None:
    for image, row in rows.items():
        if image not in files:
            listed = f", though {lists[image]} names it" if image in lists else ""
            dropped.append(Dropped(f"{table.path.name} line {row.line}: {image}", f"no file of that name{listed}"))


def _boxes(
    root: Path, films: set[str], findings: Findings, hashes: dict[str, str], dropped: list[Dropped]
) -> dict[str, tuple[TruthBox, ...]]:
    path = root / BOX_FILE
    if not path.exists():
        return {}
    table = read_table(path, may_be_empty=True)
    # The header `Image Index,Finding Label,Bbox [x,y,w,h],,,` has 9 names for 6 fields, so it is read by position; a
    # file without one would lose its first box.
    if len(table.header) > 2 and table.header[2].replace(".", "", 1).isdigit():
        raise DataError(f"{path} line 1: must be the header; got {','.join(table.header)!r}. Put the header back.")
    hashes[BOX_FILE] = table.sha256
    return read_boxes(table, range(6), films=films, findings=findings, aliases=ALIASES, size=FRAME, dropped=dropped)
