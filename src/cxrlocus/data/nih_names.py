"""RSNA's films are NIH's under new names: the published map between them, and the leaks that it shows."""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cxrlocus.data.records import Dropped, Index
from cxrlocus.data.tables import read_table
from cxrlocus.errors import DataError, LeakError
from cxrlocus.types import BoolArray

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
    names, hashes[there[0].name] = read_map(there[0])
    unnamed = [film for film in films if film not in names]
    if unnamed:
        reason = f"not in {there[0].name}, so each is its own patient: one person's films may stand in two splits"
        dropped.append(Dropped(f"patients of {len(unnamed)} films, {unnamed[0]} first", reason))
    # NIH's label file has 1 where the film's name has 00000001: one spelling, or a leak would go unseen.
    return {film: _patient(names[film]) if film in names else film for film in films}


def read_map(path: Path) -> tuple[dict[str, str], str]:
    """The map of RSNA's ids to NIH's film names in either form (a table unless its name ends in .json), and its sha256.

    Raises:
        DataError: it cannot be read, an entry lacks a name, or a film has two names.
    """
    return _read_json_map(path) if path.suffix == ".json" else _read_csv_map(path)


def _patient(name: str) -> str:
    return str(int(name[:8]))


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


def check_disjoint(first: Index, second: Index, *, remedy: str = "Leave them out.") -> None:
    """Refuse two indexes that share a patient, above all RSNA's films with NIH's: they are the same films.

    Two indexes are compared where their patients' ids mean the same: both of NIH or RSNA, or both of one folder. Films
    of RSNA that no map names cannot be compared with films that have NIH's names, so the two are refused.

    Args:
        first: e.g. the films to train on.
        second: e.g. the films to measure on.
        remedy: what the error advises.

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
        raise LeakError(f"{first.root} and {second.root}: {count} on both sides: {named}. {remedy}")


class LeakWarning(UserWarning):
    """A run has learned from films that it is asked to predict, or nobody can tell."""


REMEDY = "Leave them out with --unseen, or predict films that the run has not learned from."


def check_unseen(learned: Index, films: Index, *, split: str, names: Path | None = None) -> str:
    """Hold the films that a run learned from against those that it is to predict.

    Films of RSNA are NIH's under other names: between the two data sets a shared patient is refused. Within one data
    set it is a warning where the films are asked for as "test" or "val"; whoever asks for others (to harvest boxes,
    say) knows. Where nobody can tell it is a warning too.

    Args:
        learned: the films that the run learned from, those that chose the checkpoint among them (split "val"); none
            if it did not list them.
        films: those to predict.
        split: what they are asked for as: "train", "val", "test", "all" or "".
        names: the map of RSNA's ids to NIH's names, where the data set of RSNA's films does not have it.

    Returns:
        What a reader must know beside the predictions; "" if the run has seen none of the patients.

    Raises:
        LeakError: the run learned from RSNA's films and these are NIH's, or the reverse, and they share patients.
        DataError: ``names`` is not that map.

    Example:
        >>> from cxrlocus.data.records import Record
        >>> from cxrlocus.types import BOXED8
        >>> run = Index("nih", Path("run"), BOXED8, (Record("00000007_000.png", Path(), patient="7", split="train"),))
        >>> films = Index("nih", Path("films"), BOXED8, (Record("00000007_001.png", Path(), patient="7"),))
        >>> check_unseen(run, films, split="train")
        '1 of 1 films are of patients that the run learned from'
    """
    ours, theirs = _named(learned, names), _named(films, names)
    if _is_mixed(ours, theirs):
        return _check_mixed(ours, theirs)
    # Films that chose the checkpoint are "val" by right.
    count = int(seen_films(learned.split("train") if split == "val" and len(learned) else learned, films).sum())
    told = f"{count} of {len(films)} films are of patients that the run learned from" if count else ""
    if count and split in ("test", "val"):
        _warn(told, "Predict with --unseen to leave them out.")
    return told


def seen_films(learned: Index, films: Index, names: Path | None = None) -> BoolArray:
    """Which films (N,) are of patients that a run learned from, as far as anybody can tell; see ``check_unseen``."""
    ours, theirs = _named(learned, names), _named(films, names)
    if not _is_comparable(ours, theirs):
        return np.zeros(len(films), dtype=np.bool_)
    images, patients = set(ours.images), set(_a_film_of_each(ours))
    return np.array([r.image in images or _plain(r.patient) in patients for r in theirs.records], dtype=np.bool_)


def _check_mixed(learned: Index, films: Index) -> str:
    if not len(learned):
        told, remedy = (
            "not checked for leakage: RSNA's films are NIH's, and the run does not list its",
            "Train it again.",
        )
    else:
        check_disjoint(_without_unnamed(learned), _without_unnamed(films), remedy=REMEDY)
        unnamed = len(_unnamed(learned)) + len(_unnamed(films))
        told = f"not checked for leakage: RSNA's films are NIH's, and {unnamed} of them are in no map to NIH's names"
        told, remedy = told if unnamed else "", f"Give RSNA's {MAP_FILES[0]} with --rsna-map."
    if told:
        _warn(told, remedy)
    return told


def _warn(told: str, remedy: str) -> None:
    warnings.warn(f"{told}. {remedy}", LeakWarning, stacklevel=3)


def _named(index: Index, names: Path | None) -> Index:
    """An index with the patients that a map tells; without splits, which a patient that it tells may well cross."""
    if names is None or index.dataset not in RSNA:
        return index
    told, _ = read_map(names)
    records = (replace(r, patient=_patient(told[r.image]) if r.image in told else r.patient) for r in index.records)
    return replace(index, records=tuple(replace(r, split=None) for r in records))


def _is_mixed(first: Index, second: Index) -> bool:
    """Whether one is of RSNA's films and the other of NIH's."""
    return {index.dataset in RSNA for index in (first, second)} == {True, False} and _is_comparable(first, second)


def _is_comparable(first: Index, second: Index) -> bool:
    """Whether a patient's id means the same in both; phantoms of other seeds have the same ids."""
    if _source(first) == "nih" or _source(second) == "nih":
        return _source(first) == _source(second)
    mark = "phantom.json"
    return first.dataset == second.dataset and first.hashes.get(mark) == second.hashes.get(mark)


def _without_unnamed(index: Index) -> Index:
    unnamed = set(_unnamed(index))
    return index.subset([i for i, name in enumerate(index.images) if name not in unnamed])


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
    return {_plain(r.patient): r.image for r in reversed(index.records)}


def _plain(patient: str) -> str:
    return patient.lstrip("0") if patient.isdigit() else patient
