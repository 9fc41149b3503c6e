"""Splits by patient. A split is data: drawn once, written as a list of films, known by the list's sha256."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrlocus.data.records import Index
from cxrlocus.data.tables import read_list
from cxrlocus.errors import ConfigError, DataError


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
        if not name.isprintable() or not name.strip() or name != name.strip():
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
