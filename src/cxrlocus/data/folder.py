"""A folder of one's own films: a table of labels, and optionally one of boxes."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from cxrlocus.data.records import SPLITS, Dropped, Index, Record, TruthBox
from cxrlocus.data.splits import LIST_FILES, read_lists
from cxrlocus.data.tables import Table, check_root, plain_name, read_boxes, read_table
from cxrlocus.errors import DataError
from cxrlocus.types import Findings

ROLES = ("image", "patient", "split")
"""The columns of the table of labels that are not findings."""

BOX_COLUMNS = ("image", "finding", "x", "y", "w", "h")

MOST_PATHS = 8
"""Paths by which one folder may be found: links that fan out would have no end."""

PUBLISHED = ("nih", "rsna", "rsna-normal", "phantom", "files")
"""Names that say more than a folder's: patients are compared by them, and papers' numbers stand beside them."""

# CheXpert's code: 1 present, 0 absent, -1 uncertain, empty not mentioned; the last two say nothing.
CELLS = {
    "1": "positive",
    "1.0": "positive",
    "0": "negative",
    "0.0": "negative",
    "-1": "unknown",
    "-1.0": "unknown",
    "": "unknown",
}


@dataclass(frozen=True)
class _Row:
    line: int
    patient: str
    split: str | None
    positive: frozenset[str]
    unknown: frozenset[str]


def load_folder(
    root: Path, *, labels_csv: str = "labels.csv", boxes_csv: str = "boxes.csv", images: str = "images"
) -> Index:
    """Read a folder of films with their labels in a table.

    ``labels.csv`` has a column ``image`` (a path below ``root/images`` or below ``root``), optionally ``patient`` and
    ``split`` (train, val, test or empty); every other column is a finding: 1 present, 0 absent, -1 or empty unknown.
    ``boxes.csv``, where there is one, has ``image, finding, x, y, w, h`` in the film's own pixels, x and y the top left
    corner. Where ``train_list.txt`` is, splits come from it, ``val_list.txt`` and ``test_list.txt``, one ``image`` a
    line, not from the column. A film without a patient is its own patient. Whether a box ends within its film is known
    only once the film is read: ``cxrlocus data check`` says it. The data set's name is the folder's; where that
    is one of ``PUBLISHED``, "folder" stands before it.

    Args:
        root: the folder.
        labels_csv: name of the table of labels below ``root``.
        boxes_csv: name of the table of boxes below ``root``.
        images: name of the folder of films below ``root``; "." where they lie in ``root`` itself.

    Raises:
        DataError: the folder, the table or every film is missing; a table is empty or lacks a column; a cell is not one
            of those above; a film stands twice. The message names file and line.
        LeakError: a patient stands in two splits.
    """
    check_root(root)
    dropped: list[Dropped] = []
    table = read_table(root / labels_csv)
    findings = _findings(table)
    rows = _label_rows(table, findings)
    files = dict(walk_films(root))
    paths = _paths(rows, files, images, table, dropped)
    if not paths:
        raise DataError(
            f"{root}: none of the {len(rows)} films of {labels_csv} is below {images}/ or the folder itself. "
            "Put them there, or correct the paths in the column image."
        )
    _list_strays(files, paths, images, table, dropped)
    hashes = {labels_csv: table.sha256}
    splits = _splits(root, rows, table, hashes, dropped)
    boxes = _boxes(root / boxes_csv, paths, findings, hashes, dropped)
    records = tuple(
        Record(
            image, Path(files[below]), row.patient, splits.get(image), row.positive, row.unknown, boxes.get(image, ())
        )
        for image, row in rows.items()
        if (below := paths.get(image))
    )
    name = root.resolve().name
    return Index(f"folder {name}" if name in PUBLISHED else name, root, findings, records, tuple(dropped), hashes)


def _findings(table: Table) -> Findings:
    table.column("image")
    columns = _columns(table)
    names = [name for name in columns if name not in ROLES]
    if not names or not all(names) or len(columns) < len(table.header):
        raise DataError(
            f"{table.path}: the header must be image, optionally patient and split, and one distinct name a finding; "
            f"got {', '.join(repr(name) for name in table.header[:12])}. Correct it."
        )
    return Findings(tuple(names))


def _columns(table: Table) -> dict[str, int]:
    """Role or finding -> its position in a row."""
    return {plain_name(name) if plain_name(name) in ROLES else name: i for i, name in enumerate(table.header)}


def _label_rows(table: Table, findings: Findings) -> dict[str, _Row]:
    columns = _columns(table)
    rows: dict[str, _Row] = {}
    for line, row in table.rows:
        if len(row) != len(table.header):
            raise DataError(
                f"{table.path} line {line}: a row must have the header's {len(table.header)} fields; "
                f"it has {len(row)}. Correct it."
            )
        image = _film_name(table, line, table.cell(line, row, columns["image"]))
        if image in rows:
            raise DataError(
                f"{table.path} line {line}: a film must have one row; {image!r} has one on line {rows[image].line}. "
                "Remove one."
            )
        said = {name: _state(table, line, name, row[columns[name]].strip()) for name in findings}
        rows[image] = _Row(
            line,
            patient=(table.cell(line, row, columns["patient"]) if "patient" in columns else "") or image,
            split=_split(table, line, row[columns["split"]].strip() if "split" in columns else ""),
            positive=frozenset(name for name, state in said.items() if state == "positive"),
            unknown=frozenset(name for name, state in said.items() if state == "unknown"),
        )
    return rows


def _film_name(table: Table, line: int, text: str) -> str:
    """The path in one spelling, so that a film cannot stand twice as ``a.png`` and ``./a.png``."""
    path = PurePosixPath(_one_spelling(text))
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise DataError(f"{table.path} line {line}: image must be a path below the folder; got {text!r}. Correct it.")
    return path.as_posix()


def _one_spelling(name: str) -> str:
    return PurePosixPath(name.replace("\\", "/")).as_posix()


def _state(table: Table, line: int, finding: str, cell: str) -> str:
    if cell not in CELLS:
        raise DataError(
            f"{table.path} line {line}: column {finding!r} must be 1, 0, -1 or empty; got {cell[:60]!r}. "
            "Correct the cell, or remove the column if it is not a finding."
        )
    return CELLS[cell]


def _split(table: Table, line: int, cell: str) -> str | None:
    if cell and cell not in SPLITS:
        rule = f"split must be {', '.join(SPLITS)} or empty"
        raise DataError(f"{table.path} line {line}: {rule}; got {cell[:60]!r}. Correct it.")
    return cell or None


def _splits(
    root: Path, rows: Mapping[str, _Row], table: Table, hashes: dict[str, str], dropped: list[Dropped]
) -> Mapping[str, str | None]:
    """Film -> split: of the lists that were drawn, or else of the table."""
    if not (root / LIST_FILES["train"]).exists():
        return {image: row.split for image, row in rows.items()}
    if any(row.split for row in rows.values()):
        dropped.append(Dropped(f"{table.path.name}: column split", f"not read: {LIST_FILES['train']} is there too"))
    return read_lists(root, LIST_FILES, rows, hashes, dropped, spell=_one_spelling)


def walk_films(root: Path) -> Iterator[tuple[str, str]]:
    """(path below root, path) of every file that is not hidden; links to folders are followed, but never in a circle.

    Raises:
        DataError: a folder cannot be read, or more than ``MOST_PATHS`` paths lead to it.
    """
    within: dict[str, frozenset[tuple[int, int]]] = {}
    paths: Counter[tuple[int, int]] = Counter()
    for folder, inner, names in os.walk(root, followlinks=True, onerror=_refuse):
        status = os.stat(folder)  # noqa: PTH116 - one call a folder; os.walk speaks in strings
        here, above = (status.st_dev, status.st_ino), within.pop(folder, frozenset())
        if here in above:
            inner.clear()
            continue
        paths[here] += 1
        if paths[here] > MOST_PATHS:
            raise DataError(f"{folder}: more than {MOST_PATHS} paths lead to this folder. Remove links to folders.")
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        within |= {os.path.join(folder, name): above | {here} for name in inner}  # noqa: PTH118 - as above
        below = PurePosixPath(Path(folder).relative_to(root).as_posix())
        for name in sorted(names):
            if not name.startswith("."):
                yield (below / name).as_posix(), os.path.join(folder, name)  # noqa: PTH118 - as above


def _refuse(error: OSError) -> None:
    raise DataError(f"{error.filename}: cannot be read ({error.strerror}). Make the folder readable.") from error


def _paths(
    rows: Mapping[str, _Row], files: Mapping[str, str], images: str, table: Table, dropped: list[Dropped]
) -> dict[str, str]:
    """Film -> its path below root; lists the rows without a file."""
    paths: dict[str, str] = {}
    owner: dict[str, str] = {}
    for image, row in rows.items():
        below = next((p for p in ((PurePosixPath(images) / image).as_posix(), image) if p in files), None)
        if below is None:
            dropped.append(Dropped(f"{table.path.name} line {row.line}: {image}", "no such file"))
        elif below in owner:
            raise DataError(
                f"{table.path} line {row.line}: a film must have one row; {image!r} is the file that "
                f"{owner[below]!r} names. Remove one."
            )
        else:
            paths[image] = below
            owner[below] = image
    return paths


def _list_strays(
    files: Mapping[str, str], paths: Mapping[str, str], images: str, table: Table, dropped: list[Dropped]
) -> None:
    """List the files of the film folder that no row names; where there is no such folder, nothing can be said."""
    taken = set(paths.values())
    prefix = f"{PurePosixPath(images).as_posix()}/"
    strays = [below for below in files if below.startswith(prefix) and below not in taken]
    dropped.extend(Dropped(below, f"no row in {table.path.name}") for below in strays)


def _boxes(
    path: Path, films: Mapping[str, str], findings: Findings, hashes: dict[str, str], dropped: list[Dropped]
) -> dict[str, tuple[TruthBox, ...]]:
    if not path.exists():
        return {}
    table = read_table(path, may_be_empty=True)
    hashes[path.name] = table.sha256
    columns = [table.column(name) for name in BOX_COLUMNS]
    return read_boxes(
        table, columns, films=films, findings=findings, aliases={}, size=None, dropped=dropped, spell=_one_spelling
    )
