"""A small drawn data set with a method and a control, and Results whose every value is known."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cxrlocus.data.records import Index, Record, TruthBox
from cxrlocus.prediction.store import Predictions
from cxrlocus.protocols.result import Result
from cxrlocus.regions.detections import Detections
from cxrlocus.report.page import Entry
from cxrlocus.types import Findings, Frame

FINDINGS = Findings(("Mass", "Nodule", "Pleural_Thickening"))
SIDE = 200


def result(method: str, finding: str, value: float, **other: object) -> Result:
    row: dict[str, object] = {
        "protocol": "wang2017", "method": method, "variant": "", "dataset": "drawn", "finding": finding,
        "quantity": "accuracy_iou", "threshold": 0.3, "policy": "fixed", "value": value, "lo": value - 0.0625,
        "hi": value + 0.0625, "n": 7,
    }  # fmt: skip
    return Result(**{**row, **other})


def results_of(method: str, base: float, note: str = "") -> list[Result]:
    """Distinct values: each cell of each table can be told from every other."""
    rows = []
    for k, finding in enumerate(("Mass", "Nodule", "mean", "pooled")):
        for t in (0.1, 0.3, 0.5, 0.7):
            rows.append(result(method, finding, base + 0.011 * k - 0.1 * t, threshold=t, note=note))
            rows.append(result(method, finding, 1 - base + 0.013 * k, threshold=t, note=note, quantity="afp"))
    rows.append(result(method, "Mass", base + 0.2345, threshold=math.nan, quantity="auroc"))
    rows.append(result(method, "Pleural_Thickening", math.nan, lo=math.nan, hi=math.nan, threshold=math.nan,
                       quantity="auroc", n=0))  # fmt: skip
    return rows


@pytest.fixture
def index(tmp_path: Path) -> Index:
    """Seven films, the last without any label; the second is no picture at all."""
    rng = np.random.default_rng(0)
    records = []
    for k in range(7):
        path = tmp_path / f"film{k}.png"
        if k == 1:
            path.write_text("not a picture", encoding="utf-8")
        else:
            Image.fromarray(rng.integers(0, 255, (100, 100), dtype=np.uint8)).save(path)
        box = TruthBox("Mass", (40.0, 40.0, 120.0, 120.0))
        labelled = k < 6
        records.append(
            Record(f"film{k}.png", path, f"p{k}", "test", frozenset({"Mass"} if labelled else ()),
                   boxes=(box,) if labelled else (), size=(SIDE, SIDE))
        )  # fmt: skip
    return Index("drawn", tmp_path, FINDINGS, tuple(records), hashes={"labels.csv": "c0ffee"})


def detections_of(index: Index, boxes: Sequence[tuple[int, Sequence[float], float]]) -> Detections:
    """Boxes of Mass: (film, xyxy, score)."""
    return Detections(
        index.images, index.findings, np.array([b[0] for b in boxes], dtype=np.int64),
        np.zeros(len(boxes), dtype=np.int64), np.array([b[1] for b in boxes]).reshape(-1, 4),
        np.array([b[2] for b in boxes]),
    )  # fmt: skip


@pytest.fixture
def found(index: Index) -> Detections:
    """IoU with the truth: film0 1, film1 .5, film2 .25, film3 0, film4 no box, film5 .75; film6 has no truth."""
    return detections_of(index, [
        (0, (40, 40, 120, 120), 0.9), (1, (40, 40, 120, 80), 0.9), (2, (40, 40, 80, 80), 0.9),
        (3, (150, 150, 190, 190), 0.9), (5, (40, 40, 120, 100), 0.9), (5, (0, 0, 10, 10), 0.1),
        (6, (10, 10, 30, 30), 0.5),
    ])  # fmt: skip


@pytest.fixture
def predictions(index: Index) -> Predictions:
    n, c = len(index), len(FINDINGS)
    rng = np.random.default_rng(1)
    frames = np.stack([Frame.of_size(SIDE, SIDE).matrix] * n)
    meta = {"method": "cam", "variant": "", "dataset": "drawn", "seed": 7, "stages": {"one": ["a", "b"]}}
    prob = np.linspace(0.125, 0.875, n * c, dtype=np.float32).reshape(n, c)
    maps = rng.normal(size=(n, c, 8, 8)).astype(np.float16)
    return Predictions(meta, index.images, FINDINGS, prob, maps, frames, np.full((n, 2), SIDE), "logit")


@pytest.fixture
def entries(predictions: Predictions, found: Detections, index: Index) -> list[Entry]:
    control = detections_of(index, [(k, (50, 50, 150, 150), 1.0) for k in range(len(index))])
    return [
        Entry(predictions, found, results_of("cam", 0.55), is_control=False),
        Entry(None, control, results_of("centre_box", 0.25, "knows nothing"), is_control=True),
        Entry(None, control, results_of("oracle_box", 0.85, "knows the test boxes"), is_control=True),
    ]
