"""RSNA's films are NIH's under new names: the published map between them, and the leaks that it shows."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from cxrlocus.data.records import Dropped, Index
from cxrlocus.data.tables import read_table
from cxrlocus.errors import DataError, LeakError

MAP_FILES = ("pneumonia-challenge-dataset-mappings_2018.json", "rsna_to_nih.csv")
"""The map of RSNA's ids to NIH's film names: as RSNA published it, or as a table of two columns."""

RSNA = ("rsna", "rsna-normal")
"""The data sets of RSNA's films."""

_NIH_NAME = re.compile(r"[0-9]{8}_[0-9]{3}(\.png)?")


def nih_patients(root: Path, films: Sequence[str], hashes: dict[str, str], dropped: list[Dropped]) -> dict[str, str]:
    """Film -> NIH's patient by the map, spelt as NIH's label file spells it; a film not in the map is its own patient.

    Args:
        root: the folder; the map is one of ``MAP_FILES`` in it, the first where both are there.
        films: RSNA's ids.
        hashes: takes the map's sha256.
        dropped: takes an entry if there is no map, if one is not read, or if it lacks films.

    Raises:
        DataError: the map cannot be read, an entry lacks a name, or a film has two names.

    Example:
        >>> missing: list[Dropped] = []
        >>> nih_patients(Path("nowhere"), ["c0ffee"], {}, missing), len(missing)
        ({'c0ffee': 'c0ffee'}, 1)
    """
    there = [root / name for name in MAP_FILES if (root / name).exists()]
    if not there:
        reason = "no such file, so each film is its own patient: one person's films may stand in two splits"
        dropped.append(Dropped(" or ".join(MAP_FILES), reason))
        return {film: film for film in films}
    dropped.extend(Dropped(path.name, f"not read: {there[0].name} is there too") for path in there[1:])
    names, hashes[there[0].name] = _read_json_map(there[0]) if there[0].suffix == ".json" else _read_csv_map(there[0])
    unnamed = [film for film in films if film not in names]
    if unnamed:
        reason = f"not in {there[0].name}, so each is its own patient: one person's films may stand in two splits"
        dropped.append(Dropped(f"patients of {len(unnamed)} films, {unnamed[0]} first", reason))
    # NIH's label file has 1 where the film's name has 00000001: one spelling, or a leak would go unseen.
    return {film: str(int(names[film][:8])) if film in names else film for film in films}


def _read_json_map(path: Path) -> tuple[dict[str, str], str]:
    try:
        data = path.read_bytes()
        entries = json.loads(data)
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ValueError("must be a list of objects")
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not the map that RSNA published ({error}). Fetch it again.") from error
    names: dict[str, str] = {}
    for number, entry in enumerate(entries, start=1):
        _add_name(names, entry.get("subset_img_id"), entry.get("img_id"), f"{path} entry {number}")
    return names, hashlib.sha256(data).hexdigest()


def _read_csv_map(path: Path) -> tuple[dict[str, str], str]:
    table = read_table(path)
    columns = table.column("patientId", "subset_img_id"), table.column("Image Index", "img_id")
    names: dict[str, str] = {}
    for line, row in table.rows:
        film, name = (table.cell(line, row, column) for column in columns)
        _add_name(names, film, name, f"{path} line {line}")
    return names, table.sha256


def _add_name(names: dict[str, str], film: object, name: object, place: str) -> None:
    if not (isinstance(film, str) and film and isinstance(name, str) and _NIH_NAME.fullmatch(name)):
        rule = "must give a patientId of RSNA and a film of NIH such as 00000001_000.png"
        raise DataError(f"{place}: {rule}; got {film!r:.60}, {name!r:.60}. Correct it.")
    if names.setdefault(film, name) != name:
        raise DataError(f"{place}: a film has one name; {film!r:.60} is {names[film]} and {name}. Remove one.")


def check_disjoint(first: Index, second: Index) -> None:
    """Refuse two indexes that share a patient, above all RSNA's films with NIH's: they are the same films.

    Two indexes are compared where their patients' ids mean the same: both of NIH or RSNA, or both of one folder. Films
    of RSNA that no map names cannot be compared with films that have NIH's names, so the two are refused.

    Args:
        first: e.g. the films to train on.
        second: e.g. the films to measure on.

    Raises:
        LeakError: they share patients, who are named with a film of each side; or a film of RSNA
            is in no map, so that its patient may be on the other side.

    Example:
        >>> from cxrlocus.data.records import Record
        >>> from cxrlocus.types import BOXED8
        >>> nih = Index("nih", Path("a"), BOXED8, (Record("00000007_000.png", Path(), patient="7"),))
        >>> rsna = Index("rsna", Path("b"), BOXED8, (Record("c0ffee", Path(), patient="7"),))
        >>> check_disjoint(rsna, nih)
        Traceback (most recent call last):
            ...
        cxrlocus.errors.LeakError: b and a: 1 patient on both sides: 7 (c0ffee, 00000007_000.png). Leave them out.
    """
    if _source(first) != _source(second):
        return
    if first.root.resolve() != second.root.resolve():
        _check_named(first, second)
        _check_named(second, first)
    ours, theirs = _a_film_of_each(first), _a_film_of_each(second)
    shared = sorted(ours.keys() & theirs.keys())
    if shared:
        named = "; ".join(f"{p} ({ours[p]}, {theirs[p]})" for p in shared[:5]) + ("; ..." if len(shared) > 5 else "")
        count = "1 patient" if len(shared) == 1 else f"{len(shared)} patients"
        raise LeakError(f"{first.root} and {second.root}: {count} on both sides: {named}. Leave them out.")


def _source(index: Index) -> str:
    """Where patients' ids mean the same."""
    return "nih" if index.dataset in ("nih", *RSNA) else str(index.root.resolve())


def _check_named(index: Index, other: Index) -> None:
    unnamed = _unnamed(index)
    if unnamed and not _unnamed(other):
        raise LeakError(
            f"{index.root} and {other.root}: RSNA's films are NIH's, and {len(unnamed)} of them, {unnamed[0]} first, "
            f"are in no map to NIH's names. Put {MAP_FILES[0]} into {index.root}."
        )


def _unnamed(index: Index) -> list[str]:
    """RSNA's films of whom the map does not tell the patient."""
    return [r.image for r in index.records if r.patient == r.image] if index.dataset in RSNA else []


def _a_film_of_each(index: Index) -> dict[str, str]:
    """Patient -> a film, NIH's ids without leading zeros."""
    return {(r.patient.lstrip("0") if r.patient.isdigit() else r.patient): r.image for r in reversed(index.records)}
