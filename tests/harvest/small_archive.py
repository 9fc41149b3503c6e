"""A small archive on disk, and a harvest of it that can run in a process of its own and be killed there."""

from __future__ import annotations

import json
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from cxrlocus.data.records import Index, Record, TruthBox
from cxrlocus.harvest.options import Options
from cxrlocus.harvest.run import Harvest, harvest
from cxrlocus.regions.rules import SeveralThresholds
from cxrlocus.types import Explained, Findings, FloatArray
from stand_ins import SeesBrightness

FINDINGS = Findings(("Mass", "Nodule", "Infiltration"))
SOURCE = {"weights": "none"}
OPTIONS = Options(rule=SeveralThresholds(levels=(0.4, 0.7), raster=32), batch=3, shard=5)
UNREADABLE = (3, 11, 12, 13, 14)
"""Film 3 is text; 11 to 14 are missing."""


def make_archive(root: Path, films: int = 32) -> Index:
    """Films of several sizes with a bright square each; every fourth is labelled with nothing."""
    draw, records = np.random.default_rng(0), []
    for i in range(films):
        width, height = int(draw.integers(40, 90)), int(draw.integers(40, 90))
        x, y, side = (int(v) for v in (draw.integers(0, 20), draw.integers(0, 20), draw.integers(8, 20)))
        film = draw.integers(0, 40, (height, width)).astype(np.uint8)
        film[y : y + side, x : x + side] = 200
        path = root / f"{i:03d}.png"
        cv2.imwrite(str(path), film)
        named = [f for k, f in enumerate(FINDINGS) if (i % 4 and (i >> k) & 1) or (i % 4 == 2 and k == 2)]
        boxes = tuple(TruthBox(f, (x, y, x + side, y + side)) for f in named[:1] if i % 3)
        records.append(Record(path.name, path, f"p{i}", positive=frozenset(named), boxes=boxes))
    (root / "003.png").write_text("no film", encoding="utf-8")
    for i in UNREADABLE[1:]:
        (root / f"{i:03d}.png").unlink(missing_ok=True)
    return Index("small", root, FINDINGS, tuple(records))


def localizer(size: int = 32) -> SeesBrightness:
    return SeesBrightness(size, 8, findings=FINDINGS.names)


class SlowlySeesBrightness(SeesBrightness):
    def explain(self, images: torch.Tensor, frames: FloatArray) -> Explained:
        time.sleep(0.03)
        return super().explain(images, frames)


def harvest_slowly(root: Path, out: Path) -> None:
    """What a child process does."""
    torch.set_num_threads(1)
    slow = SlowlySeesBrightness(32, 8, findings=FINDINGS.names)
    harvest(slow, read_index(root), out, OPTIONS, source=SOURCE, workers=2)


def read_index(root: Path) -> Index:
    """The index of an archive that ``make_archive`` made, without making its films again."""
    raw = json.loads((root / "index.json").read_text(encoding="utf-8"))
    records = tuple(
        Record(image, root / image, patient, None, frozenset(named), boxes=tuple(TruthBox(f, tuple(b)) for f, b in bs))
        for image, patient, named, bs in raw
    )
    return Index("small", root, FINDINGS, records)


def save_index(index: Index) -> None:
    rows = [(r.image, r.patient, sorted(r.positive), [(b.finding, b.xyxy) for b in r.boxes]) for r in index.records]
    (index.root / "index.json").write_text(json.dumps(rows), encoding="utf-8")


def outputs(out: Path) -> dict[str, bytes]:
    """Every file of a harvest but the lock, times left out: what must not depend on how it came about."""
    files = {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}
    files.pop("journal/lock", None)
    for name in [name for name in files if name.endswith(".json") and name != "coco.json"]:
        raw = json.loads(files[name])
        files[name] = json.dumps({k: v for k, v in raw.items() if k not in ("seconds", "images_per_second")}).encode()
    return files


def run(index: Index, out: Path, options: Options = OPTIONS, **more: object) -> Harvest:
    return harvest(localizer(), index, out, options, source=SOURCE, workers=2, **more)  # type: ignore[arg-type]  # tests
