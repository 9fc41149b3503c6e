"""Reading the text files of a data set: tables, lists of films, and boxes, with the line in every complaint."""

from __future__ import annotations

import csv
import hashlib
import io
import math
import os
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cxrlocus.data.records import Dropped, TruthBox
from cxrlocus.errors import DataError
from cxrlocus.types import Findings


@dataclass(frozen=True)
class Table:
    """A CSV file as text: its header, its rows with their line numbers, and the sha256 of its bytes."""

    path: Path
    header: tuple[str, ...]
    rows: tuple[tuple[int, list[str]], ...]
    sha256: str

    def column(self, *names: str) -> int:
        """Position of the first of these names in the header; case, spaces and punctuation do not count.

        Raises:
            DataError: the header has none of them.

        Example:
            >>> Table(Path("a.csv"), ("Image Index", "Patient ID"), (), "").column("patient_id")
            1
        """
        there = [plain_name(name) for name in self.header]
        for name in names:
            if plain_name(name) in there:
                return there.index(plain_name(name))
        raise DataError(
            f"{self.path}: the header must have a column {names[0]!r}; its columns are "
            f"{', '.join(repr(name) for name in self.header[:12])}. Name the column so."
        )

    def cell(self, line: int, row: Sequence[str], column: int) -> str:
        """A field of a row, stripped.

        Raises:
            DataError: the row is too short, or the field has control characters.
        """
        if column >= len(row):
            raise DataError(
                f"{self.path} line {line}: a row must have at least {column + 1} fields; it has {len(row)}. "
                "Complete it."
            )
        text = row[column].strip()
        if not printable(text):
            raise DataError(f"{self.path} line {line}: {text[:60]!r} has control characters. Remove them.")
        return text


def printable(text: str) -> bool:
    r"""Whether text has no control character, line end or half of a surrogate pair; odd spaces and joiners are names'.

    Example:
        >>> printable("film\u3000one.png"), printable("film\none.png")
        (True, False)
    """
    return text.isprintable() or not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in text)


def read_table(path: Path, *, may_be_empty: bool = False) -> Table:
    """Read a CSV file (UTF-8, with or without a byte order mark) with a header line; blank lines are skipped.

    Raises:
        DataError: the file is missing, not such text, has no header, or (unless it may be empty) no row below it.
    """
    text, digest = _read_text(path)
    # strict: a quote that is never closed would otherwise swallow the rest of the file as one field.
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader if any(field.strip() for field in row)]
    except csv.Error as error:
        raise DataError(f"{path} line {reader.line_num}: not valid CSV ({error}). Correct the line.") from error
    if len(rows) < (1 if may_be_empty else 2):
        told = "only a header" if rows else "nothing"
        raise DataError(f"{path}: must have a header and at least one row; it has {told}. Fill it.")
    header = tuple(field.strip() for field in rows[0][1])
    if not all(printable(name) for name in header):
        raise DataError(f"{path} line 1: the header has control characters: {header!r:.200}. Remove them.")
    return Table(path, header, tuple(rows[1:]), digest)


def read_list(path: Path) -> tuple[dict[str, int], list[str], str]:
    """Read a list of films, one name a line: name -> line number, the names repeated, and the sha256 of the file.

    Raises:
        DataError: the file cannot be read, or a name has control characters.
    """
    text, digest = _read_text(path)
    names: dict[str, int] = {}
    repeated: list[str] = []
    for line, name in enumerate((raw.strip() for raw in text.split("\n")), start=1):
        if not printable(name):
            raise DataError(f"{path} line {line}: {name[:60]!r} has control characters. Write one file name a line.")
        if name in names:
            repeated.append(name)
        elif name:
            names[name] = line
    return names, repeated, digest


def read_boxes(
    table: Table,
    columns: Sequence[int],
    *,
    films: Collection[str],
    findings: Findings,
    aliases: Mapping[str, str],
    size: tuple[int, int] | None,
    dropped: list[Dropped],
    spell: Callable[[str], str] = str,
) -> dict[str, tuple[TruthBox, ...]]:
    """Boxes of each film, converted from ``x, y, w, h`` to xyxy.

    Args:
        table: the file.
        columns: where image, finding, x, y, w and h stand in a row.
        films: the films of the index; boxes of others are listed in ``dropped``.
        findings: the vocabulary.
        aliases: other names of findings.
        size: (width, height) of the frame of the boxes; None where it is not known before the film is read.
        dropped: takes an entry for every box, or part of a box, that is left out.
        spell: from a film's name as it is written there to the one in ``films``.

    Raises:
        DataError: a row is short, a corner is not a number, or a finding is not in the vocabulary.
    """
    found: dict[str, list[TruthBox]] = {}
    for line, row in table.rows:
        image, named, *corners = (table.cell(line, row, column) for column in columns)
        image, finding = spell(image), aliases.get(named, named)
        if finding not in findings:
            raise DataError(
                f"{table.path} line {line}: a box must be of one of {', '.join(findings)}; got {named!r}. Correct it."
            )
        x, y, w, h = (_number(table, line, text) for text in corners)
        item = f"{table.path.name} line {line}: {image} {finding}"
        if image not in films:
            dropped.append(Dropped(item, "a box of a film that the index does not have"))
            continue
        xyxy, complaint = checked_box(x, y, w, h, size)
        if complaint:
            dropped.append(Dropped(item, complaint))
        if xyxy:
            found.setdefault(image, []).append(TruthBox(finding, xyxy))
    return {image: tuple(boxes) for image, boxes in found.items()}


def checked_box(
    x: float, y: float, w: float, h: float, size: tuple[int, int] | None
) -> tuple[tuple[float, float, float, float] | None, str]:
    """A box ``x, y, w, h`` as xyxy within a film of (width, height) ``size``, and the complaint about it, "" if none.

    A box that is not finite, empty, or wholly outside gives None; one that is partly outside is cut at the border.
    Where ``size`` is None only the left and top borders are known.

    Example:
        >>> checked_box(10.0, 20.0, 30.0, 40.0, (1024, 1024))
        ((10.0, 20.0, 40.0, 60.0), '')
        >>> checked_box(-10.0, 20.0, 30.0, 40.0, None)
        ((0.0, 20.0, 20.0, 60.0), 'x,y,w,h = -10,20,30,40 is partly outside the film; cut at its border')
        >>> checked_box(10.0, 20.0, 0.0, 40.0, None)
        (None, 'x,y,w,h = 10,20,0,40 must have w > 0 and h > 0')
    """
    told = f"x,y,w,h = {x:.12g},{y:.12g},{w:.12g},{h:.12g}"
    x1, y1 = x + w, y + h
    if not all(math.isfinite(v) for v in (x, y, x1, y1)):
        return None, f"{told} must be finite numbers"
    # Not w > 0: far enough from the origin x + w == x.
    if x1 <= x or y1 <= y:
        return None, f"{told} must have w > 0 and h > 0"
    width, height = size or (math.inf, math.inf)
    inside = (max(x, 0.0), max(y, 0.0), min(x1, float(width)), min(y1, float(height)))
    if inside[2] <= inside[0] or inside[3] <= inside[1]:
        return None, f"{told} is outside the film"
    if inside != (x, y, x1, y1):
        return inside, f"{told} is partly outside the film; cut at its border"
    return inside, ""


def xywh(x1: float, y1: float, x2: float, y2: float) -> tuple[float, float, float, float]:
    """Corners of a box as lists of boxes have them: left, top, width and height.

    Example:
        >>> xywh(10.0, 20.0, 40.0, 60.0)
        (10.0, 20.0, 30.0, 40.0)
    """
    return x1, y1, x2 - x1, y2 - y1


def check_root(root: Path) -> None:
    """Raise a DataError where ``root`` is not a folder that can be looked into."""
    try:
        with os.scandir(root) as entries:
            next(entries, None)
    except FileNotFoundError as error:
        raise DataError(f"{root}: no such folder. Give the folder of the films and their label file.") from error
    except OSError as error:
        raise DataError(f"{root}: not a folder that can be read ({error.strerror}). Give another.") from error


def _read_text(path: Path) -> tuple[str, str]:
    try:
        data = path.read_bytes()
        return data.decode("utf-8-sig"), hashlib.sha256(data).hexdigest()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). Check that it is there and readable.") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: must be UTF-8 text; byte {error.start} is not. Save it as UTF-8.") from error


def plain_name(name: str) -> str:
    """A column's name without case, spaces and punctuation.

    Example:
        >>> plain_name("Patient ID")
        'patientid'
    """
    return "".join(c for c in name.lower() if c.isalnum())


def _number(table: Table, line: int, text: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise DataError(
            f"{table.path} line {line}: x, y, w and h must be numbers; got {text[:60]!r}. Correct the line."
        ) from error
