"""Fixtures that many tests share: one thread, and a small data set whose finding is a bright square."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import settings
from lightning_fabric import Fabric

import cxrlocus.models  # noqa: F401 - repairs torchvision before anything else asks for it
from cxrlocus.data import load_folder
from cxrlocus.data.records import Index

torch.set_num_threads(1)
# Performance is measured by benchmarks; a busy machine is no failure.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")
# On a GPU the tests compare figures of float32, not of TF32.
torch.backends.cudnn.allow_tf32 = False

PLANTED_FINDINGS = ("Mass", "Nodule")
PLANTED_SIDE = 64


def planted_film(rng: np.random.Generator, squares: list[tuple[int, int, int]]) -> np.ndarray:
    """Noise with bright squares (x, y, side)."""
    film = rng.integers(20, 60, (PLANTED_SIDE, PLANTED_SIDE)).astype(np.uint8)
    for x, y, side in squares:
        film[y : y + side, x : x + side] = 230
    return film


@pytest.fixture(scope="session")
def planted_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 48 films (36 train, 12 test; two a patient): Mass is a square of 24 px, Nodule one of 10 px."""
    root = tmp_path_factory.mktemp("planted")
    (root / "images").mkdir()
    rng = np.random.default_rng(0)
    rows, boxes = [("image", "patient", "split", *PLANTED_FINDINGS)], [("image", "finding", "x", "y", "w", "h")]
    for i in range(48):
        name, squares, labels = f"{i:02d}.png", [], [int(i % 2 == 0), int(i % 4 >= 2)]
        for finding, side, here in zip(PLANTED_FINDINGS, (24, 10), labels, strict=True):
            if here:
                x, y = (int(v) for v in rng.integers(0, PLANTED_SIDE - side, 2))
                squares.append((x, y, side))
                boxes.append((name, finding, x, y, side, side))
        cv2.imwrite(str(root / "images" / name), planted_film(rng, squares))
        rows.append((name, f"p{i // 2}", "train" if i < 36 else "test", *labels))
    for file, table in (("labels.csv", rows), ("boxes.csv", boxes)):
        with (root / file).open("w", newline="", encoding="utf-8") as out:
            csv.writer(out).writerows(table)
    return root


@pytest.fixture(scope="session")
def planted(planted_root: Path) -> Index:
    """The index of ``planted_root``."""
    return load_folder(planted_root)


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of decoded films that all tests share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def fabric() -> Fabric:
    """One CPU, float32."""
    one = Fabric(accelerator="cpu", devices=1, precision="32-true")
    one.launch()
    return one
