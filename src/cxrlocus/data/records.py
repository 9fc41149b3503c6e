"""Record and Index: what a data set is to the rest of cxrlocus, once its own file layout has been read."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrlocus.errors import DataError, LeakError
from cxrlocus.types import BoolArray, Findings

SPLITS = ("train", "val", "test")
"""The names a record's split may have; None means that no list names the film."""


@dataclass(frozen=True)
class TruthBox:
    """A radiologist's box: a finding and its half-open xyxy corners in pixels of the original film."""

    finding: str
    xyxy: tuple[float, float, float, float]


@dataclass(frozen=True)
class Record:
    """One film and what is known of it.

    Args:
        image: the film's name, unique in its index.
        path: the file.
        patient: the patient's id; a film without one stands for its own patient.
        split: "train", "val", "test" or None.
        positive: the findings that its label names.
        unknown: the findings of which its label says nothing (neither positive nor negative).
        boxes: the radiologists' boxes.
        size: (width, height) of the frame that the boxes are given in; None means the file's own pixels.
    """

    image: str
    path: Path
    patient: str
    split: str | None = None
    positive: frozenset[str] = frozenset()
    unknown: frozenset[str] = frozenset()
    boxes: tuple[TruthBox, ...] = ()
    size: tuple[int, int] | None = None

    @property
    def is_normal(self) -> bool:
        """Whether its label says of every finding that it is not there."""
        return not (self.positive or self.unknown)


@dataclass(frozen=True)
class Dropped:
    """Something that an index leaves out, and why: nothing is dropped without being listed."""

    item: str
    reason: str


@dataclass(frozen=True)
class Index:
    """A data set: its films in a fixed order, what was left out of it, and the hashes of the files it was read from.

    Raises:
        DataError: an image name stands twice, or a label or box names a finding outside ``findings``.
        LeakError: a patient stands in two splits.
    """

    dataset: str
    root: Path
    findings: Findings
    records: tuple[Record, ...]
    dropped: tuple[Dropped, ...] = ()
    hashes: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        repeated = [name for name, n in Counter(r.image for r in self.records).items() if n > 1]
        if repeated:
            raise DataError(f"{self.root}: image names must be unique; {repeated[0]!r} stands more than once.")
        check_leaks(self.records, str(self.root))
        for record in self.records:
            named = record.positive | record.unknown | {box.finding for box in record.boxes}
            strange = sorted(named - set(self.findings.names))
            if strange:
                raise DataError(
                    f"{self.root}: {record.image} is labelled {strange[0]!r}, which is not one of "
                    f"{', '.join(self.findings)}. Correct the label or name the findings."
                )

    def __len__(self) -> int:
        return len(self.records)

    @cached_property
    def images(self) -> tuple[str, ...]:
        """The films' names, in order."""
        return tuple(r.image for r in self.records)

    @cached_property
    def position(self) -> dict[str, int]:
        """Image name -> position in ``records``."""
        return {name: i for i, name in enumerate(self.images)}

    @cached_property
    def patients(self) -> tuple[str, ...]:
        """The films' patients, in order."""
        return tuple(r.patient for r in self.records)

    @cached_property
    def target(self) -> NDArray[np.uint8]:
        """Labels (N, C), 0 or 1; meaningful only where ``known``."""
        return np.array([[f in r.positive for f in self.findings] for r in self.records], dtype=np.uint8).reshape(
            len(self.records), len(self.findings)
        )

    @cached_property
    def known(self) -> BoolArray:
        """Whether the label says anything (N, C)."""
        return np.array([[f not in r.unknown for f in self.findings] for r in self.records], dtype=np.bool_).reshape(
            len(self.records), len(self.findings)
        )

    @property
    def box_count(self) -> int:
        """Number of boxes of all findings."""
        return sum(len(r.boxes) for r in self.records)

    def subset(self, positions: list[int]) -> Index:
        """The films at these positions, in this order."""
        return replace(self, records=tuple(self.records[i] for i in positions))

    def only(self, findings: tuple[str, ...]) -> Index:
        """The same films as if the data set knew these findings alone, in this order.

        Labels and boxes of other findings are left out, by design: a film with another finding is one without these.

        Raises:
            DataError: a finding is not of this data set.

        Example:
            >>> box = TruthBox("Mass", (0, 0, 9, 9))
            >>> film = Record("a.png", Path("a.png"), "1", positive=frozenset({"Mass", "Nodule"}), boxes=(box,))
            >>> index = Index("some", Path(), Findings(("Mass", "Nodule")), (film,)).only(("Nodule",))
            >>> index.target.tolist(), index.box_count
            ([[1]], 0)
        """
        strange = [name for name in findings if name not in self.findings]
        if strange:
            raise DataError(f"{self.root}: no label names {strange[0]!r}; the findings are {', '.join(self.findings)}.")
        kept = frozenset(findings)
        records = tuple(
            replace(
                r, positive=r.positive & kept, unknown=r.unknown & kept,
                boxes=tuple(box for box in r.boxes if box.finding in kept),
            )
            for r in self.records
        )  # fmt: skip
        return replace(self, findings=Findings(findings), records=records)

    def split(self, *names: str) -> Index:
        """The films of these splits, in order.

        Raises:
            DataError: no film belongs to them.
        """
        part = self.subset([i for i, r in enumerate(self.records) if r.split in names])
        if not part.records:
            there = sorted({r.split for r in self.records if r.split})
            raise DataError(
                f"{self.root}: no film belongs to split {' or '.join(names)}; the splits here are "
                f"{', '.join(there) or 'none. Draw them: `cxrlocus data split ROOT --out ROOT`'}."
            )
        return part

    @cached_property
    def hash(self) -> str:
        """sha256 over films, patients, splits, labels and boxes (not pixels), hex."""
        digest = hashlib.sha256()
        for r in self.records:
            row = (r.image, r.patient, r.split, sorted(r.positive), sorted(r.unknown), r.size)
            digest.update(repr((row, [(b.finding, b.xyxy) for b in r.boxes])).encode())
        return digest.hexdigest()


def check_leaks(records: tuple[Record, ...], where: str = "split lists") -> None:
    """Raise a LeakError that names the patients who stand in more than one split.

    Example:
        >>> a = Record("a", Path("a"), patient="7", split="train")
        >>> check_leaks((a, replace(a, image="b", split="test")), "films")
        Traceback (most recent call last):
            ...
        cxrlocus.errors.LeakError: films: 1 patient stands in more than one split: 7 (test, train). Correct the lists.
    """
    seen: dict[str, set[str]] = {}
    for r in records:
        if r.split is not None:
            seen.setdefault(r.patient, set()).add(r.split)
    leaks = sorted((p, sorted(s)) for p, s in seen.items() if len(s) > 1)
    if leaks:
        named = "; ".join(f"{p} ({', '.join(s)})" for p, s in leaks[:5]) + ("; ..." if len(leaks) > 5 else "")
        count = "1 patient stands" if len(leaks) == 1 else f"{len(leaks)} patients stand"
        raise LeakError(f"{where}: {count} in more than one split: {named}. Correct the lists.")
