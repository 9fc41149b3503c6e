"""A look over a data set before training: counts, hashes, what was left out, films that cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cxrlocus.data.images import read_film
from cxrlocus.data.records import SPLITS, Dropped, Index, Record
from cxrlocus.errors import ImageError

# Aspect ratios of file and box frame may differ by rounding where a film was shrunk, not by more.
_ASPECT_TOLERANCE = 0.01


@dataclass(frozen=True)
class SplitCount:
    """What one split holds: films, patients, films known to have no finding, and three counts a finding (C,)."""

    split: str
    films: int
    patients: int
    negative: int
    positive: tuple[int, ...]
    unknown: tuple[int, ...]
    boxes: tuple[int, ...]


@dataclass(frozen=True)
class CheckReport:
    """What ``check_dataset`` found.

    Args:
        dataset, root, index_hash: the data set, its folder, and the sha256 of its films, labels, splits and boxes.
        findings: the vocabulary.
        splits: counts of each split that has films, "none" for films that no list names, then "all".
        median_area: (C,) median share of the film that a box covers; NaN where a finding has no box of known size.
        boxes_unlabelled: boxes of a finding that their film's label does not name.
        hashes: sha256 of the files that the index was read from.
        dropped: what the index leaves out.
        read: how many films were read; 0 where none was asked for.
        unreadable: films that cannot be read.
        suspect: films that can be read, but do not fit the frame of their boxes.
    """

    dataset: str
    root: Path
    index_hash: str
    findings: tuple[str, ...]
    splits: tuple[SplitCount, ...]
    median_area: tuple[float, ...]
    boxes_unlabelled: int
    hashes: Mapping[str, str]
    dropped: tuple[Dropped, ...]
    read: int
    unreadable: tuple[Dropped, ...]
    suspect: tuple[Dropped, ...]

    def lines(self, limit: int = 20) -> list[str]:
        """The report as plain text; of each list of films the first ``limit``, then how many more there are."""
        return [
            f"{self.dataset}: {_shown(str(self.root))}",
            f"index sha256 {self.index_hash}",
            *(f"{name} sha256 {value}" for name, value in self.hashes.items()),
            "",
            *self._split_lines(),
            "",
            *self._finding_lines(),
            "",
            f"boxes of a finding that the film's label does not name: {self.boxes_unlabelled}",
            *_listed("left out", self.dropped, limit),
            *self._read_lines(limit),
        ]

    def _read_lines(self, limit: int) -> list[str]:
        if not self.read:
            return ["films read: none (not asked for)"]
        return [
            f"films read: {self.read}",
            *_listed("cannot be read", self.unreadable, limit),
            *_listed("do not fit their boxes", self.suspect, limit),
        ]

    def _split_lines(self) -> list[str]:
        head = f"{'split':<8}{'films':>8}{'patients':>10}{'no finding':>12}{'boxes':>8}"
        rows = [f"{s.split:<8}{s.films:>8}{s.patients:>10}{s.negative:>12}{sum(s.boxes):>8}" for s in self.splits]
        return [head, *rows]

    def _finding_lines(self) -> list[str]:
        names = [s.split for s in self.splits]
        width = max(len("finding"), *(len(name) for name in self.findings)) + 2
        labelled = "".join(f"{n:>8}" for n in names)
        head = f"{'finding':<{width}}{labelled}{'unknown':>10}{'boxes':>8}{'median area':>13}"
        rows = []
        for c, name in enumerate(self.findings):
            counts = "".join(f"{s.positive[c]:>8}" for s in self.splits)
            area = "-" if np.isnan(self.median_area[c]) else f"{self.median_area[c]:.4f}"
            rows.append(
                f"{name:<{width}}{counts}{self.splits[-1].unknown[c]:>10}{self.splits[-1].boxes[c]:>8}{area:>13}"
            )
        return [f"{'':<{width}}films labelled so", head, *rows]


def check_dataset(
    index: Index, *, read: bool = False, progress: Callable[[int, int], None] | None = None, workers: int | None = None
) -> CheckReport:
    """Count what an index holds and, where asked to, read every film of it.

    Args:
        index: the data set.
        read: whether to read the films; else only those things are said that the lists tell.
        progress: called with (films read, films) after each film.
        workers: threads that read; the number of processors where None.

    Returns:
        The report. A film that cannot be read is listed in it, never raised.
    """
    sizes: dict[str, tuple[int, int]] = {r.image: r.size for r in index.records if r.size is not None}
    unreadable: list[Dropped] = []
    suspect: list[Dropped] = []
    if read:
        for record, outcome in zip(index.records, _read_all(index, progress, workers), strict=True):
            if isinstance(outcome, str):
                unreadable.append(Dropped(record.image, outcome))
                continue
            sizes.setdefault(record.image, outcome)
            suspect.extend(Dropped(record.image, reason) for reason in _misfits(record, outcome))
    return CheckReport(
        dataset=index.dataset,
        root=index.root,
        index_hash=index.hash,
        findings=index.findings.names,
        splits=_count(index),
        median_area=_median_area(index, sizes),
        boxes_unlabelled=sum(box.finding not in r.positive for r in index.records for box in r.boxes),
        hashes=dict(index.hashes),
        dropped=index.dropped,
        read=len(index) if read else 0,
        unreadable=tuple(unreadable),
        suspect=tuple(suspect),
    )


def _read_all(
    index: Index, progress: Callable[[int, int], None] | None, workers: int | None
) -> list[tuple[int, int] | str]:
    """Each film's (width, height), or why it cannot be read."""
    outcomes: list[tuple[int, int] | str] = []
    pool = ThreadPoolExecutor(workers or os.cpu_count() or 1)
    try:
        for outcome in pool.map(_probe, (record.path for record in index.records)):
            outcomes.append(outcome)
            if progress is not None:
                progress(len(outcomes), len(index))
    finally:
        # Cancelled, so that Ctrl-C does not wait for the films that are still queued.
        pool.shutdown(cancel_futures=True)
    return outcomes


def _probe(path: Path) -> tuple[int, int] | str:
    try:
        height, width = read_film(path).shape
    except ImageError as error:
        return error.reason
    return int(width), int(height)


def _misfits(record: Record, stored: tuple[int, int]) -> list[str]:
    """What of a film's pixels does not fit the frame that its boxes are given in."""
    width, height = record.size or stored
    told = f"{stored[0]} x {stored[1]}"
    found = []
    if abs(stored[0] * height / (stored[1] * width) - 1) > _ASPECT_TOLERANCE:
        found.append(f"is stored at {told}, not the shape of the {width} x {height} that boxes are given in")
    for box in record.boxes:
        if box.xyxy[2] > width or box.xyxy[3] > height:
            corners = ", ".join(f"{v:g}" for v in box.xyxy)
            found.append(f"its {box.finding} box ({corners}) ends outside its {width} x {height} pixels")
    return found


def _count(index: Index) -> tuple[SplitCount, ...]:
    labels = np.array([r.split or "none" for r in index.records])
    boxes = np.zeros((len(index), len(index.findings)), dtype=np.int64)
    for i, record in enumerate(index.records):
        for box in record.boxes:
            boxes[i, index.findings.index(box.finding)] += 1
    positive = (index.target == 1) & index.known
    patients = np.array(index.patients)
    counts = []
    for name in (*SPLITS, "none", "all"):
        inside = np.ones(len(index), dtype=np.bool_) if name == "all" else labels == name
        if name == "all" or inside.any():
            counts.append(
                SplitCount(
                    split=name,
                    films=int(inside.sum()),
                    patients=len(set(patients[inside].tolist())),
                    negative=int((~positive & index.known)[inside].all(axis=1).sum()),
                    positive=tuple(positive[inside].sum(axis=0).tolist()),
                    unknown=tuple((~index.known)[inside].sum(axis=0).tolist()),
                    boxes=tuple(boxes[inside].sum(axis=0).tolist()),
                )
            )
    return tuple(counts)


def _median_area(index: Index, sizes: Mapping[str, tuple[int, int]]) -> tuple[float, ...]:
    shares: dict[str, list[float]] = {name: [] for name in index.findings}
    for record in index.records:
        if record.image in sizes:
            width, height = sizes[record.image]
            for box in record.boxes:
                x0, y0, x1, y1 = box.xyxy
                shares[box.finding].append((x1 - x0) * (y1 - y0) / (width * height))
    return tuple(float(np.median(shares[name])) if shares[name] else float("nan") for name in index.findings)


def _listed(title: str, items: tuple[Dropped, ...], limit: int) -> list[str]:
    more = [f"  ... and {len(items) - limit} more"] if len(items) > limit else []
    return [f"{title}: {len(items)}", *(f"  {_shown(d.item)}: {_shown(d.reason)}" for d in items[:limit]), *more]


def _shown(text: str) -> str:
    """Text that any terminal takes: file names may hold what is not printable."""
    return text if text.isprintable() else ascii(text)[1:-1]
