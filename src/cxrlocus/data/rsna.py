"""The layout of the RSNA Pneumonia Detection Challenge on disk (Shih et al. 2019): films of NIH, read anew."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from cxrlocus.data.nih_names import RSNA, nih_patients
from cxrlocus.data.records import Dropped, Index, Record, TruthBox
from cxrlocus.data.splits import LIST_FILES, draw_split, read_lists, write_lists
from cxrlocus.data.tables import Table, check_root, read_boxes, read_list, read_table
from cxrlocus.errors import ConfigError, DataError
from cxrlocus.types import Findings

LABEL_FILE = "stage_2_train_labels.csv"
CLASS_FILE = "stage_2_detailed_class_info.csv"
FILM_FOLDER = "stage_2_train_images"
STAGE_1_FILE = "stage_1_ids.txt"
FINDINGS = Findings(("Pneumonia",))
"""RSNA's readers marked lung opacity suspicious of pneumonia; it goes by the name that NIH and InfoMask use."""

Task = Literal["opacity-rest", "opacity-normal"]
"""Lung opacity against every other film, or against the films of class Normal alone."""

OPACITY, NORMAL, NOT_NORMAL = "Lung Opacity", "Normal", "No Lung Opacity / Not Normal"

_TARGETS = {"0": False, "0.0": False, "1": True, "1.0": True}


@dataclass(frozen=True)
class _Rows:
    """The label table: film -> first line and Target, and the rows of boxes as (line, [film, finding, x, y, w, h])."""

    lines: dict[str, int]
    positive: dict[str, bool]
    boxes: list[tuple[int, list[str]]]


def load_rsna(root: Path, *, task: Task = "opacity-rest") -> Index:
    """Read a folder in the layout of the RSNA Pneumonia Detection Challenge, stage 2.

    Needs ``stage_2_train_labels.csv`` and ``stage_2_train_images/<patientId>.dcm``. Takes, where they are,
    ``stage_2_detailed_class_info.csv`` (the readers' class), ``stage_1_ids.txt`` (keeps only the films it names),
    ``train_list.txt``, ``val_list.txt`` and ``test_list.txt`` (splits), and the map to NIH's names (``MAP_FILES`` of
    ``cxrlocus.data.nih_names``).
    A film's name is its patientId, which RSNA gave to films, not to persons: the patient is NIH's, by the map, spelt as
    NIH's label file spells it; without the map each film is its own patient. The one finding is "Pneumonia": lung
    opacity. Boxes are in the film's own pixels. Films come in the order of the label file.

    Args:
        root: the folder.
        task: "opacity-rest" takes every film; "opacity-normal" leaves out those that have no opacity and are not
            normal either, and names its index "rsna-normal".

    Raises:
        ConfigError: the task is not one of those.
        DataError: the folder, its label file or every film is missing; a table is not such a table; a row is short; a
            film's rows contradict each other, its class, or a box; "opacity-normal" finds no classes; the map gives a
            film two names. The message names file and line.
        LeakError: a film is in two lists, or a patient is.
    """
    if task not in get_args(Task):
        raise ConfigError(f"task must be {' or '.join(get_args(Task))}; got {task!r}. Choose one of them.")
    check_root(root)
    dropped: list[Dropped] = []
    table = read_table(root / LABEL_FILE)
    rows = _label_rows(table, dropped)
    hashes = {LABEL_FILE: table.sha256}
    classes = _classes(root, rows, hashes, dropped)
    films = _of_stage_1(root, rows, hashes, dropped)
    if task == "opacity-normal":
        films = _of_task(root, films, rows, classes, dropped)
    patients = nih_patients(root, films, hashes, dropped)
    splits = _splits(root, rows, hashes, dropped)
    files = _files(root, dropped)
    _list_unmatched(films, rows, files, dropped)
    here = [film for film in films if film in files]
    if not here:
        raise DataError(f"{root}: none of the {len(films)} films of {LABEL_FILE} is in {FILM_FOLDER}/. Put them there.")
    boxes = _boxes(table, rows, set(films), set(here), dropped)
    records = tuple(
        Record(
            film,
            Path(files[film]),
            patients[film],
            splits.get(film),
            frozenset(FINDINGS if rows.positive[film] else ()),
            boxes=boxes.get(film, ()),
        )
        for film in here
    )
    return Index(RSNA[get_args(Task).index(task)], root, FINDINGS, records, tuple(dropped), hashes)


def write_rsna_split(root: Path, *, seed: int = 0, out: Path | None = None) -> dict[str, str]:
    """Draw an 80/10/10 split by patient and write its three lists, which ``load_rsna`` then reads.

    It is drawn over the films of the label file (of ``stage_1_ids.txt``, where that is), whether or not their files are
    here, as ``draw_split`` does. Patients are told by the map to NIH's names; without it the split is by film, and has
    InfoMask's 20,547, 2,568 and 2,569 films of stage 1. Both tasks share it.

    Args:
        root: the folder.
        seed: another seed, another draw.
        out: the folder of the lists, if not ``root``.

    Returns:
        List file -> its sha256.

    Raises:
        DataError: a list is there already, a table breaks a rule, there are fewer than three patients, or a list cannot
            be written.
    """
    check_root(root)
    rows = _label_rows(read_table(root / LABEL_FILE), [])
    films = _of_stage_1(root, rows, {}, [])
    return write_lists(out or root, draw_split(nih_patients(root, films, {}, []), seed=seed))


def _label_rows(table: Table, dropped: list[Dropped]) -> _Rows:
    names = (("patientId",), ("x",), ("y",), ("width", "w"), ("height", "h"), ("Target",))
    columns = [table.column(*wanted) for wanted in names]
    rows = _Rows({}, {}, [])
    seen: dict[tuple[object, ...], int] = {}
    for line, row in table.rows:
        film, *corners, target = (table.cell(line, row, column) for column in columns)
        key = (film, *(_comparable(text) for text in corners))
        boxed = any(corner != "" for corner in key[1:])
        positive = _add_film(rows, table, line, film, target, boxed)
        item = f"{table.path.name} line {line}: {film} {FINDINGS.names[0]}"
        if key in seen:
            dropped.append(Dropped(item, f"the same as line {seen[key]}; counted once"))
        elif boxed:
            rows.boxes.append((line, [film, FINDINGS.names[0], *corners]))
        elif positive:
            dropped.append(Dropped(item, "Target 1 without a box; the label counts all the same"))
        seen.setdefault(key, line)
    return rows


def _add_film(rows: _Rows, table: Table, line: int, film: str, target: str, boxed: bool) -> bool:
    """Note a row's film and Target; whether the film is positive."""
    place = f"{table.path} line {line}"
    if not film or target not in _TARGETS:
        got = f"{film!r:.60} and {target!r:.60}"
        raise DataError(f"{place}: patientId must not be empty, and Target be 0 or 1; got {got}. Correct the line.")
    positive = _TARGETS[target]
    if rows.positive.setdefault(film, positive) != positive:
        other = f"the other on line {rows.lines[film]}"
        raise DataError(f"{place}: a film must have one Target; {film} has {target} here, {other}. Correct one.")
    if boxed and not positive:
        raise DataError(f"{place}: a film of Target 0 must not have a box; {film} has one. Correct Target or box.")
    rows.lines.setdefault(film, line)
    return positive


def _comparable(text: str) -> float | str:
    """A corner such that 1 and 1.0 are the same, and NaN is an empty field."""
    try:
        value = float(text)
    except ValueError:
        return text
    return "" if math.isnan(value) else value


def _boxes(
    table: Table, rows: _Rows, films: set[str], here: set[str], dropped: list[Dropped]
) -> dict[str, tuple[TruthBox, ...]]:
    boxed = Table(table.path, table.header, tuple((line, row) for line, row in rows.boxes if row[0] in films), "")
    return read_boxes(boxed, range(6), films=here, findings=FINDINGS, aliases={}, size=None, dropped=dropped)


def _classes(root: Path, rows: _Rows, hashes: dict[str, str], dropped: list[Dropped]) -> dict[str, str]:
    """Film -> the readers' class, held against its Target; a film has one row a box, all of one class."""
    path = root / CLASS_FILE
    if not path.exists():
        return {}
    table = read_table(path)
    hashes[CLASS_FILE] = table.sha256
    columns = table.column("patientId"), table.column("class")
    classes: dict[str, str] = {}
    for line, row in table.rows:
        film, name = (table.cell(line, row, column) for column in columns)
        if name not in (OPACITY, NORMAL, NOT_NORMAL):
            rule = f"must be {OPACITY!r}, {NORMAL!r} or {NOT_NORMAL!r}"
            raise DataError(f"{path} line {line}: the class {rule}; got {name[:60]!r}. Correct it.")
        if film not in rows.lines:
            dropped.append(Dropped(f"{CLASS_FILE} line {line}: {film}", f"no row in {LABEL_FILE}"))
        elif classes.setdefault(film, name) != name:
            raise DataError(
                f"{path} line {line}: a film has one class; {film} is {name!r} and {classes[film]!r}. Correct it."
            )
        elif (name == OPACITY) != rows.positive[film]:
            raise DataError(
                f"{path} line {line}: {film} is {name!r}, but line {rows.lines[film]} of {LABEL_FILE} has Target "
                f"{int(rows.positive[film])}. Correct one."
            )
    return classes


def _of_stage_1(root: Path, rows: _Rows, hashes: dict[str, str], dropped: list[Dropped]) -> list[str]:
    """The films in the order of the label file; those of stage 1, where a list says which."""
    path = root / STAGE_1_FILE
    if not path.exists():
        return list(rows.lines)
    names, repeated, hashes[STAGE_1_FILE] = read_list(path)
    dropped.extend(Dropped(f"{STAGE_1_FILE}: {film}", "named more than once; counted once") for film in repeated)
    for film, line in names.items():
        if film not in rows.lines:
            dropped.append(Dropped(f"{STAGE_1_FILE} line {line}: {film}", f"no row in {LABEL_FILE}"))
    kept = [film for film in rows.lines if film in names]
    if not kept:
        raise DataError(f"{path}: must name films of {LABEL_FILE}, one patientId a line; it names none. Correct it.")
    if len(kept) < len(rows.lines):
        dropped.append(Dropped(f"{len(rows.lines) - len(kept)} films", f"not in {STAGE_1_FILE}"))
    return kept


def _of_task(
    root: Path, films: list[str], rows: _Rows, classes: Mapping[str, str], dropped: list[Dropped]
) -> list[str]:
    """The films with opacity and those that are normal."""
    if not classes:
        raise DataError(f"{root}: opacity-normal needs {CLASS_FILE}, and no film has a class there. Put it there.")
    kept = [film for film in films if rows.positive[film] or classes.get(film) == NORMAL]
    for film in films:
        if film not in classes and not rows.positive[film]:
            reason = f"no class in {CLASS_FILE}, so it is not known to be normal"
            dropped.append(Dropped(f"{LABEL_FILE} line {rows.lines[film]}: {film}", reason))
    others = sum(classes.get(film) == NOT_NORMAL for film in films)
    if others:
        dropped.append(Dropped(f"{others} films", f"{NOT_NORMAL!r} in {CLASS_FILE}: opacity-normal leaves them out"))
    return kept


def _splits(root: Path, rows: _Rows, hashes: dict[str, str], dropped: list[Dropped]) -> dict[str, str]:
    """Film -> split, from the lists; adds their hashes."""
    missing = [name for name in LIST_FILES.values() if not (root / name).exists()]
    if missing:
        reason = "no such file, so no film has that split; `cxrlocus data split` draws them"
        dropped.append(Dropped(", ".join(missing), reason))
    return read_lists(root, {s: n for s, n in LIST_FILES.items() if n not in missing}, rows.lines, hashes, dropped)


def _files(root: Path, dropped: list[Dropped]) -> dict[str, str]:
    """Film -> path of every ``.dcm`` file; a file of another kind is listed."""
    folder = root / FILM_FOLDER
    try:
        with os.scandir(folder) as entries:
            found = sorted((e.name, e.path) for e in entries if not e.name.startswith(".") and e.is_file())
    except OSError as error:
        raise DataError(f"{folder}: cannot be read ({error.strerror}). Unpack the films there, readable.") from error
    others = [name for name, _ in found if not name.endswith(".dcm")]
    dropped.extend(Dropped(f"{FILM_FOLDER}/{name}", "not a .dcm file") for name in others)
    return {name.removesuffix(".dcm"): path for name, path in found if name.endswith(".dcm")}


def _list_unmatched(films: list[str], rows: _Rows, files: Mapping[str, str], dropped: list[Dropped]) -> None:
    """List the rows without a file, and the files without a row."""
    for film in films:
        if film not in files:
            dropped.append(Dropped(f"{LABEL_FILE} line {rows.lines[film]}: {film}", f"no file {film}.dcm"))
    strays = [film for film in files if film not in rows.lines]
    dropped.extend(Dropped(f"{FILM_FOLDER}/{film}.dcm", f"no row in {LABEL_FILE}") for film in strays)
