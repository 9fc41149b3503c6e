"""Trainings that take no time: a run is a name, its predictions are noise that depends on the name alone.

As a script it is ``cxrlocus`` with three fake rows, for tests that kill a process.
"""

from __future__ import annotations

import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from cxrlocus.cli import main
from cxrlocus.data.records import Index
from cxrlocus.prediction.store import Predictions, write_predictions
from cxrlocus.study import cells, compare, rows
from cxrlocus.study.rows import Row
from cxrlocus.study.steps import Job
from cxrlocus.types import Frame

ROWS = (Row("cam"), Row("cam", "lse"), Row("kim2021"))
"""Two of them are members of the consensus."""


SIDE = 64
"""Of films whose record has no size: those of ``planted_root``."""


class Fakes:
    """Stands in for training and predicting; ``calls`` are what was asked for, in order."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.jobs: dict[str, Job] = {}

    def train_run(self, job: Job, index: Index, out: Path, **_: Any) -> bool:
        self.calls.append(f"train {out.name}")
        self.jobs[out.name] = job
        out.mkdir(parents=True, exist_ok=True)
        (out / "run.json").write_text("{}", encoding="utf-8")
        return True

    def predict_run(self, run: Path, index: Index, out: Path, **_: Any) -> None:
        self.calls.append(f"predict {out.name}")
        method, *variant = run.name.rpartition("-seed")[0].split("-")
        write_predictions(out, noise(index, out.name, method, "-".join(variant)))


def noise(index: Index, name: str, method: str, variant: str) -> Predictions:
    """Smooth maps of 8 x 8 cells."""
    draw = np.random.default_rng(zlib.crc32(name.encode()))
    n, c = len(index), len(index.findings)
    sizes = np.array([record.size or (SIDE, SIDE) for record in index.records], dtype=np.int64)
    maps = np.cumsum(np.cumsum(draw.normal(size=(n, c, 8, 8)), axis=2), axis=3).astype(np.float16)
    frames = np.stack([Frame.of_size(*size).matrix for size in sizes.tolist()])
    meta = {"method": method, "variant": variant, "dataset": index.dataset, "split": "test", "knows": ""}
    return Predictions(
        meta, index.images, index.findings, draw.random((n, c)).astype(np.float32), maps, frames, sizes, "logit"
    )


if __name__ == "__main__":
    fakes = Fakes()
    cells.train_run, cells.predict_run = fakes.train_run, fakes.predict_run  # type: ignore[assignment]  # fakes
    rows.COMPARED = ROWS
    compare.ALL_PROTOCOLS = ("wang2017", "infomask2019")
    sys.exit(main(sys.argv[1:]))
