"""What a harvest came to: counts of each finding, what was left out, and how far the boxes agree with true ones."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cxrlocus.data.records import Index
from cxrlocus.files import writing_whole
from cxrlocus.harvest.journal import Box, Shard
from cxrlocus.regions.boxes import iou
from cxrlocus.types import Findings, FloatArray

OVERLAPS = (0.3, 0.5)
"""IoU above which a rank-1 box counts as agreeing with a true one."""


@dataclass(frozen=True)
class FindingCount:
    """One finding's part of a harvest.

    Args:
        finding: its name.
        asked: films on which it was looked for.
        gated: of those, held to be too improbable.
        found: of those, with at least one box.
        boxes: boxes of all ranks.
        measured: films with a rank-1 box and a true box of this finding.
        over_30, over_50: of those, where the IoU of the rank-1 box with a true box is above .3 and above .5.
    """

    finding: str
    asked: int
    gated: int
    found: int
    boxes: int
    measured: int
    over_30: int
    over_50: int


@dataclass(frozen=True)
class Summary:
    """A whole harvest.

    Args:
        films: in the index.
        readable: looked at.
        findings: each finding's counts.
        beyond: finding that labels name and the model does not know -> on how many films.
        unreadable: (file, reason).
        failed: (film and finding, reason) where the model's map or probability was not a number.
        seconds: of looking, all sittings together.
    """

    films: int
    readable: int
    findings: tuple[FindingCount, ...]
    beyond: Mapping[str, int]
    unreadable: tuple[tuple[str, str], ...]
    failed: tuple[tuple[str, str], ...]
    seconds: float

    @property
    def boxes(self) -> int:
        """Boxes of all findings and ranks."""
        return sum(one.boxes for one in self.findings)

    @property
    def images_per_second(self) -> float:
        """Films that were read and looked at, over the seconds that took."""
        return self.readable / self.seconds if self.seconds > 0 else float("nan")


def summarize(shards: Iterable[Shard], index: Index, findings: Findings) -> Summary:
    """Count a harvest, one shard in memory at a time."""
    count: dict[str, Counter[str]] = {finding: Counter() for finding in findings}
    truth = _true_boxes(index)
    readable, seconds = 0, 0.0
    unreadable: list[tuple[str, str]] = []
    failed: list[tuple[str, str]] = []
    for shard in shards:
        readable, seconds = readable + len(shard.films), seconds + shard.seconds
        unreadable += shard.unreadable
        failed += shard.failed
        for finding in findings:
            count[finding]["asked"] += shard.asked.get(finding, 0)
            count[finding]["gated"] += shard.gated.get(finding, 0)
        for box in shard.boxes:
            count[box.finding].update(_marks(box, truth))
    rows = tuple(_row(finding, count[finding]) for finding in findings)
    named = Counter(finding for record in index.records for finding in record.positive)
    beyond = {finding: named[finding] for finding in index.findings if finding not in findings and named[finding]}
    return Summary(len(index), readable, rows, beyond, tuple(unreadable), tuple(failed), seconds)


def _true_boxes(index: Index) -> dict[tuple[str, str], FloatArray]:
    grouped: dict[tuple[str, str], list[tuple[float, ...]]] = {}
    for record in index.records:
        for box in record.boxes:
            grouped.setdefault((record.image, box.finding), []).append(box.xyxy)
    return {place: np.array(boxes) for place, boxes in grouped.items()}


def _marks(box: Box, truth: Mapping[tuple[str, str], FloatArray]) -> list[str]:
    if box.rank > 1:
        return ["boxes"]
    there = truth.get((box.image, box.finding))
    if there is None:
        return ["boxes", "found"]
    best = float(iou([box[2:6]], there).max())
    passed = [name for name, least in zip(("over_30", "over_50"), OVERLAPS, strict=True) if best > least]
    return ["boxes", "found", "measured", *passed]


def _row(finding: str, n: Counter[str]) -> FindingCount:
    return FindingCount(
        finding, n["asked"], n["gated"], n["found"], n["boxes"], n["measured"], n["over_30"], n["over_50"]
    )


def table(summary: Summary) -> list[str]:
    """The counts as lines of text, findings that were not looked for left out.

    The last columns, the stated precision, stand only where the data set has boxes of its own.
    """
    measured = any(one.measured for one in summary.findings)
    lines = [f"{'finding':<20}{'films':>8}{'gated':>8}{'found':>8}{'boxes':>8}"]
    lines[0] += f"{'IoU > .3':>18}{'IoU > .5':>18}" if measured else ""
    for one in summary.findings:
        if one.asked:
            row = f"{one.finding:<20}{one.asked:>8}{one.gated:>8}{one.found:>8}{one.boxes:>8}"
            shares = (_share(hits, one.measured) for hits in (one.over_30, one.over_50))
            lines.append(row + ("".join(f"{share:>18}" for share in shares) if measured else ""))
    return lines


def _share(hits: int, n: int) -> str:
    return f"{hits} of {n} = {hits / n:.2f}" if n else "-"


def write_summary(path: Path, key: Mapping[str, Any], summary: Summary) -> None:
    """Write harvest.json: the key, the counts, what was left out, and the speed.

    Raises:
        CxrlocusError: it cannot be written.
    """
    whole = {
        "key": dict(key),
        "films": summary.films,
        "looked_at": summary.readable,
        "boxes": summary.boxes,
        "findings": [asdict(one) for one in summary.findings],
        "beyond": dict(summary.beyond),
        "unreadable": summary.unreadable,
        "failed": summary.failed,
        "seconds": round(summary.seconds, 3),
        "images_per_second": round(summary.images_per_second, 3),
    }
    with writing_whole(path) as part:
        part.write_text(json.dumps(whole, indent=1) + "\n", encoding="utf-8")
