"""Splits by patient. A split is data: drawn once, written as a list of films, known by the list's sha256."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrlocus.data.records import Dropped, Index
from cxrlocus.data.tables import printable, read_list
from cxrlocus.errors import ConfigError, DataError, LeakError

LIST_FILES = {"train": "train_list.txt", "val": "val_list.txt", "test": "test_list.txt"}
"""The list of each split, as ``cxrlocus data split`` writes them; where the first is, splits are read from them."""


def hold_out(index: Index, fraction: float, *, seed: int) -> tuple[Index, Index]:
    """Hold out whole patients with about ``fraction`` of the films.

    Patients are ordered by the sha256 of seed and id and taken until the share is nearest to ``fraction``, so the
    result does not depend on the order of the films, and at least one patient is on each side. The films keep their
    ``split``.

    Args:
        index: the films.
        fraction: share of the films to hold out, in (0, 1).
        seed: another seed, another draw.

    Returns:
        The rest and the films held out, both in the order of ``index``.

    Raises:
        ConfigError: the fraction is not in (0, 1).
        DataError: there are fewer than two patients.

    Example:
        >>> from cxrlocus.data.records import Record
        >>> from cxrlocus.types import BOXED8
        >>> films = tuple(Record(f"{i}.png", Path(f"{i}.png"), patient=str(i // 2)) for i in range(10))
        >>> rest, held = hold_out(Index("example", Path(), BOXED8, films), 0.2, seed=0)
        >>> held.images, len(rest)
        (('8.png', '9.png'), 8)
    """
    if not 0.0 < fraction < 1.0:
        raise ConfigError(f"fraction must be above 0 and below 1; got {fraction}. Give the share to hold out.")
    order = shuffled_patients(index.patients, seed)
    if len(order) < 2:
        raise DataError(f"{index.root}: holding out needs at least 2 patients; there are {len(order)}. Add films.")
    films = Counter(index.patients)
    shares = np.cumsum([films[patient] for patient in order[:-1]]) / len(index)
    held = set(order[: int(np.abs(shares - fraction).argmin()) + 1])
    outside = [i for i, patient in enumerate(index.patients) if patient not in held]
    inside = [i for i, patient in enumerate(index.patients) if patient in held]
    return index.subset(outside), index.subset(inside)


def kfold_of_patients(patients: Sequence[str], folds: int, *, seed: int) -> NDArray[np.int64]:
    """Fold of each film, (n,) in 0..folds-1, so that a patient's films are in one fold.

    Patients are ordered by the sha256 of seed and id and dealt in turn, so the result does not depend on their order,
    and the folds differ by at most one patient.

    Args:
        patients: (n,) the patient of each film.
        folds: how many, at least 2.
        seed: another seed, another draw.

    Raises:
        ConfigError: ``folds`` is below 2.
        DataError: there are fewer patients than folds.

    Example:
        >>> kfold_of_patients(["a", "b", "a", "c", "d"], 2, seed=0).tolist()
        [1, 1, 1, 0, 0]
    """
    if folds < 2:
        raise ConfigError(f"folds must be at least 2; got {folds}.")
    order = shuffled_patients(patients, seed)
    if len(order) < folds:
        raise DataError(f"{folds} folds need at least {folds} patients; there are {len(order)}. Use fewer folds.")
    fold = {patient: i % folds for i, patient in enumerate(order)}
    return np.array([fold[patient] for patient in patients], dtype=np.int64)


def draw_split(patients: Mapping[str, str], *, seed: int) -> dict[str, str]:
    """Draw 80/10/10 by patient: film -> "train", "val" or "test", in the order of the films.

    The patients in the order of ``shuffled_patients`` are cut where the films are nearest to 10 % (val) and 20 %
    (test); the rest is train, and no split is without a patient.

    Args:
        patients: film -> patient.
        seed: another seed, another draw.

    Raises:
        DataError: there are fewer than three patients.

    Example:
        >>> Counter(draw_split({f"{i}.png": str(i) for i in range(10)}, seed=0).values())
        Counter({'train': 8, 'test': 1, 'val': 1})
    """
    films = Counter(patients.values())
    order = shuffled_patients(films, seed)
    if len(order) < 3:
        raise DataError(f"three splits need at least 3 patients; there are {len(order)}. Add films.")
    share = np.cumsum([films[patient] for patient in order]) / len(patients)
    val = 1 + int(np.abs(share[:-2] - 0.1).argmin())
    test = val + 1 + int(np.abs(share[val:-1] - 0.2).argmin())
    owner = {patient: "val" if i < val else "test" if i < test else "train" for i, patient in enumerate(order)}
    return {film: owner[patient] for film, patient in patients.items()}


def split_films(index: Index, *, seed: int) -> dict[str, str]:
    """Draw the splits of a data set: film -> split. A test split that it has stays, and 10 % of the rest become val.

    Without a test split all is drawn, as ``draw_split`` does. A film in no split, of a patient of the test films, stays
    in none.

    Raises:
        DataError: it has a split "val", so its splits are drawn already; or it has too few patients.
    """
    if any(r.split == "val" for r in index.records):
        raise DataError(f"{index.root}: a split is drawn once, and val is there already. Remove it to draw another.")
    tested = {r.patient for r in index.records if r.split == "test"}
    if not tested:
        return draw_split(dict(zip(index.images, index.patients, strict=True)), seed=seed)
    train, val = hold_out(index.subset([i for i, p in enumerate(index.patients) if p not in tested]), 0.1, seed=seed)
    drawn = dict.fromkeys(train.images, "train") | dict.fromkeys(val.images, "val")
    return {r.image: drawn.get(r.image, "test") for r in index.records if r.image in drawn or r.split == "test"}


def shuffled_patients(patients: Iterable[str], seed: int) -> list[str]:
    """The distinct patients, ordered by the sha256 of ``seed:patient``."""
    return sorted(set(patients), key=lambda patient: (hashlib.sha256(f"{seed}:{patient}".encode()).digest(), patient))


def write_split(path: Path, images: Iterable[str]) -> str:
    """Write a list of films, one name a line as the official lists are, and return the sha256 of the file.

    Raises:
        DataError: there is no film, one stands twice, a name would not survive the file, or the file cannot be written.
    """
    names = list(images)
    if not names or len(set(names)) < len(names):
        distinct = len(set(names))
        raise DataError(f"{path}: a split must name each film once; got {len(names)} names, {distinct} distinct.")
    for name in names:
        if not printable(name) or not name.strip() or name != name.strip():
            raise DataError(f"{path}: {name!r} cannot stand on a line of its own. Rename the film.")
    data = "".join(f"{name}\n" for name in names).encode()
    try:
        path.write_bytes(data)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror}). Choose another place.") from error
    return hashlib.sha256(data).hexdigest()


def read_split(path: Path, sha256: str | None = None) -> tuple[str, ...]:
    """Read a list of films, and check it against the sha256 that it is known by.

    Raises:
        DataError: the file cannot be read, names nothing, names a film twice, or is not the file with that hash.
    """
    names, repeated, digest = read_list(path)
    if not names:
        raise DataError(f"{path}: a split must name at least one film; it names none. Fill it or remove it.")
    if repeated:
        raise DataError(f"{path}: a split must name each film once; {repeated[0]!r} is there again. Remove one.")
    if sha256 is not None and digest != sha256:
        raise DataError(f"{path}: its sha256 must be {sha256}; it is {digest}. Take the list that was meant.")
    return tuple(names)


def select(index: Index, images: Iterable[str]) -> Index:
    """The films that a split names, in its order.

    Raises:
        DataError: the index does not have one of them.
    """
    names = list(images)
    missing = [name for name in names if name not in index.position]
    if missing:
        raise DataError(
            f"{index.root}: the split names {len(missing)} films that are not here, {missing[0]!r} first. "
            "Take the data set that it was drawn from."
        )
    return index.subset([index.position[name] for name in names])


def write_lists(folder: Path, splits: Mapping[str, str]) -> dict[str, str]:
    """Write film -> split as a list a split (``LIST_FILES``), all of them or none.

    Returns:
        List file -> its sha256.

    Raises:
        DataError: a list is there already, or cannot be written.
    """
    there = [name for split, name in LIST_FILES.items() if split in splits.values() and (folder / name).exists()]
    if there:
        raise DataError(f"{folder / there[0]}: a split is drawn once, and is there already. Remove it to draw another.")
    names = {name: [f for f, s in splits.items() if s == split] for split, name in LIST_FILES.items()}
    try:
        return {name: write_split(folder / name, films) for name, films in names.items() if films}
    except DataError:
        # Two lists of three would pass for a split.
        for name, films in names.items():
            if films:
                (folder / name).unlink(missing_ok=True)
        raise


def read_lists(
    root: Path,
    files: Mapping[str, str],
    films: Collection[str],
    hashes: dict[str, str],
    dropped: list[Dropped],
    spell: Callable[[str], str] = str,
) -> dict[str, str]:
    """Film -> split, from a list a split.

    Args:
        root: the folder.
        files: split -> the name of its list.
        films: those that have a label.
        hashes: takes the lists' sha256.
        dropped: takes an entry for a list that is missing or empty, a film named twice, and one without a label.
        spell: from a film's name as it is written there to the one in ``films``.

    Raises:
        DataError: a list cannot be read.
        LeakError: a film is in two lists.
    """
    splits: dict[str, str] = {}
    for split, name in files.items():
        if not (root / name).exists():
            dropped.append(Dropped(name, f"no such file, so no film has split {split!r}"))
            continue
        lines, repeated, hashes[name] = read_list(root / name)
        if not lines:
            dropped.append(Dropped(name, f"names no film, so no film has split {split!r}"))
        spelled: dict[str, int] = {}
        for film, line in lines.items():
            if spelled.setdefault(spell(film), line) != line:
                repeated.append(film)
        dropped.extend(Dropped(f"{name}: {film}", "named more than once; counted once") for film in repeated)
        for film, line in spelled.items():
            if film in splits:
                other = files[splits[film]]
                raise LeakError(f"{root / name} line {line}: {film!r} is in {other} too. Correct the lists.")
            splits[film] = split
            if film not in films:
                dropped.append(Dropped(f"{name} line {line}: {film}", "no label row names this film"))
    return splits
