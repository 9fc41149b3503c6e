"""InfoMask learns what and where from labels alone, on noise with bright blobs."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import contract
import cv2
import numpy as np
import pytest
import torch
from contract import frames
from lightning_fabric import Fabric

from cxrlocus.data import load_folder
from cxrlocus.data.records import Index
from cxrlocus.methods import load_run
from cxrlocus.types import Localizer


def log_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "base" / "log.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def blobs(tmp_path_factory: pytest.TempPathFactory) -> Index:
    """160 films of cloudy noise, half of them with a bright blob and its box."""
    root = tmp_path_factory.mktemp("blobs")
    (root / "images").mkdir()
    draw, (yy, xx) = np.random.default_rng(0), np.mgrid[:64, :64]
    rows: list[tuple[object, ...]] = [("image", "patient", "split", "Mass")]
    boxes: list[tuple[object, ...]] = [("image", "finding", "x", "y", "w", "h")]
    for i in range(160):
        film = cv2.GaussianBlur(draw.normal(0, 1, (64, 64)), (0, 0), 4) * 120 + draw.normal(0, 12, (64, 64)) + 110
        if i % 2 == 0:
            x, y = draw.integers(0, 46, 2)
            film += 60 * np.exp(-(((xx - x - 9) / 6) ** 2 + ((yy - y - 9) / 6) ** 2))
            boxes.append((f"{i:03d}.png", "Mass", x, y, 18, 18))
        cv2.imwrite(str(root / "images" / f"{i:03d}.png"), np.clip(film, 0, 255).astype(np.uint8))
        rows.append((f"{i:03d}.png", f"p{i // 2}", "train" if i < 130 else "test", int(i % 2 == 0)))
    for file, table in (("labels.csv", rows), ("boxes.csv", boxes)):
        with (root / file).open("w", newline="", encoding="utf-8") as out:
            csv.writer(out).writerows(table)
    return load_folder(root)


def within_boxes(index: Index, localizer: Localizer) -> float:
    """Mean share of the mask's weight that lies within the box: the box's share of the film when it knows nothing."""
    boxed = index.subset([i for i, r in enumerate(index.records) if r.boxes])
    films = torch.stack([torch.from_numpy(cv2.imread(str(r.path), 0)).float()[None] / 255 for r in boxed.records])
    maps = localizer.explain(films, frames(len(films))).maps[:, 0]
    shares = []
    for record, one in zip(boxed.records, maps, strict=True):
        x0, y0, x1, y1 = (int(v) for v in record.boxes[0].xyxy)
        shares.append(float(one[y0:y1, x0:x1].sum() / one.sum().clamp(min=1e-9)))
    return float(np.mean(shares))


def test_it_learns_what_and_where_from_labels_alone(blobs: Index, cache: Path, fabric: Fabric, tmp_path: Path) -> None:
    folder = contract.train_tiny(
        "infomask2019",
        blobs,
        tmp_path / "run",
        cache,
        fabric,
        finding="Mass",
        epochs="10",
        augment="false",
        schedule="constant",
    )
    log = log_of(folder)
    assert log[-1]["bce"] < log[0]["bce"] - 0.01
    assert max(row["auroc"] for row in log) > 0.9
    localizer, _ = load_run(folder)
    assert within_boxes(blobs.split("test"), localizer) > 0.3, "a box is .08 of a film"
