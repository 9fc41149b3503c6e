"""Counts and stated precision, against a second reading."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrlocus.data.records import Index, Record, TruthBox
from cxrlocus.harvest.journal import Box, Film, Shard
from cxrlocus.harvest.summary import summarize, table
from cxrlocus.types import Findings

FINDINGS = Findings(("Mass", "Nodule"))


def corner_iou(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(w, 0) * max(h, 0)
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def a_box(draw: np.random.Generator) -> tuple[float, ...]:
    x, y = draw.integers(0, 6, 2).tolist()
    w, h = draw.integers(1, 6, 2).tolist()
    return (x, y, x + w, y + h)


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_stated_precision_agrees_with_a_second_reading(seed: int) -> None:
    draw = np.random.default_rng(seed)
    records = []
    for i in range(5):
        boxes = tuple(TruthBox(f, a_box(draw)) for f in FINDINGS for _ in range(int(draw.integers(0, 3))))  # type: ignore[arg-type]  # four numbers
        records.append(Record(str(i), Path(str(i)), str(i), boxes=boxes))
    index = Index("toy", Path(), FINDINGS, tuple(records))
    boxes = [
        Box(str(i), f, *a_box(draw), 0.5, rank, 1, 0.5)  # type: ignore[arg-type]  # four numbers
        for i in range(5) for f in FINDINGS for rank in range(1, int(draw.integers(1, 4)))
    ]  # fmt: skip
    shards = [
        Shard((Film(str(i), 9, 9),), tuple(b for b in boxes if b.image == str(i)), {"Mass": 1}, {}, (), (), 0.5)
        for i in range(5)
    ]
    summary = summarize(shards, index, FINDINGS)
    for one in summary.findings:
        mine = [b for b in boxes if b.finding == one.finding]
        best = [
            max(corner_iou(b[2:6], t.xyxy) for t in index.records[int(b.image)].boxes if t.finding == one.finding)
            for b in mine
            if b.rank == 1 and any(t.finding == one.finding for t in index.records[int(b.image)].boxes)
        ]
        assert (one.boxes, one.found) == (len(mine), sum(b.rank == 1 for b in mine))
        over = [sum(v > least for v in best) for least in (0.3, 0.5)]
        assert [one.measured, one.over_30, one.over_50] == [len(best), *over]
    assert (summary.readable, summary.seconds, summary.images_per_second) == (5, 2.5, 2.0)


def test_an_overlap_of_exactly_the_threshold_does_not_count() -> None:
    truth = TruthBox("Mass", (0, 0, 10, 10))
    index = Index("toy", Path(), FINDINGS, (Record("a", Path("a"), "1", boxes=(truth,)),))
    half = Box("a", "Mass", 0, 0, 10, 5, 1.0, 1, 1, 1.0)
    one = summarize([Shard((Film("a", 10, 10),), (half,), {"Mass": 1}, {}, (), (), 1.0)], index, FINDINGS).findings[0]
    assert (one.measured, one.over_30, one.over_50) == (1, 1, 0)


def test_the_table_says_nothing_of_precision_where_nothing_is_known() -> None:
    index = Index("toy", Path(), FINDINGS, (Record("a", Path("a"), "1"),))
    box = Box("a", "Mass", 0, 0, 10, 5, 1.0, 1, 1, 1.0)
    summary = summarize([Shard((Film("a", 10, 10),), (box,), {"Mass": 1}, {}, (), (), 0.0)], index, FINDINGS)
    lines = table(summary)
    assert [" ".join(line.split()) for line in lines] == ["finding films gated found boxes", "Mass 1 0 1 1"]
    assert math.isnan(summary.images_per_second)


def test_the_table_shows_k_of_n() -> None:
    truth = TruthBox("Mass", (0, 0, 10, 10))
    index = Index("toy", Path(), FINDINGS, (Record("a", Path("a"), "1", boxes=(truth,)),))
    box = Box("a", "Mass", 0, 0, 10, 5, 1.0, 1, 1, 1.0)
    shard = Shard((Film("a", 10, 10),), (box,), {"Mass": 1, "Nodule": 1}, {}, (), (), 1.0)
    lines = table(summarize([shard], index, FINDINGS))
    assert lines[1].split()[5:] == ["1", "of", "1", "=", "1.00", "0", "of", "1", "=", "0.00"]
    assert lines[2].split() == ["Nodule", "1", "0", "0", "0", "-", "-"]
