"""Images a second: Pillow decode + resize of 1024 px PNGs against the loader on the decode-once cache, in one run.

python benchmarks/loader.py [--films 96] [--size 256 512]

Both sides give float32 batches (B, 1, S, S) in [0, 1]. The films are made here, in a folder that is removed afterwards:
smooth fields with noise, which compress about as well as real films do (0.4 MB each).
"""

from __future__ import annotations

import cxrlocus  # noqa: F401  # isort: skip (first: it sets what torch reads when it starts)

import argparse
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import cv2
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cxrlocus.data.cache import open_films
from cxrlocus.data.loader import Loader
from cxrlocus.data.records import Index, Record
from cxrlocus.data.transforms import Augmentation
from cxrlocus.types import BOXED8

BATCH = 32


def make_films(folder: Path, count: int) -> Index:
    rng = np.random.default_rng(0)
    records = []
    for i in range(count):
        coarse = rng.uniform(20, 230, (12, 12)).astype(np.float32)
        field = cv2.resize(coarse, (1024, 1024), interpolation=cv2.INTER_CUBIC)
        film = np.clip(field + rng.normal(0, 1.0, field.shape), 0, 255).astype(np.uint8)
        path = folder / f"{i:05d}.png"
        Image.fromarray(film).save(path)
        records.append(Record(path.name, path, str(i)))
    return Index("benchmark", folder, BOXED8, tuple(records))


def pillow_batches(paths: list[Path], size: int) -> Iterable[Tensor]:
    for start in range(0, len(paths), BATCH):
        squares = [
            np.asarray(Image.open(path).convert("L").resize((size, size), Image.Resampling.BILINEAR))
            for path in paths[start : start + BATCH]
        ]
        yield torch.from_numpy(np.stack(squares)).unsqueeze(1).float().div_(255.0)


def rate(batches: Callable[[], Iterable[Tensor]], seconds: float = 2.0) -> float:
    """Images a second over whole passes of at least ``seconds`` together, after one batch to warm up."""
    next(iter(batches()))
    images, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        images += sum(len(batch) for batch in batches())
    return images / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=96)
    parser.add_argument("--size", type=int, nargs="+", default=[256, 512])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        index = make_films(Path(folder), options.films)
        paths = [record.path for record in index.records]
        megabytes = sum(path.stat().st_size for path in paths) / len(paths) / 1e6
        print(f"{len(paths)} PNGs of 1024 px, {megabytes:.2f} MB each; batches of {BATCH}; images a second:")
        print(" size   Pillow    build   loader  augmented  loader / Pillow")
        for size in options.size:
            print(row(index, paths, size, Path(folder) / "cache"), flush=True)


def row(index: Index, paths: list[Path], size: int, cache: Path) -> str:
    start = time.perf_counter()
    films = open_films(index, size=size, folder=cache)
    build = len(paths) / (time.perf_counter() - start)
    plain = Loader(index, films, BATCH, shuffle=True, seed=0)
    moving = Loader(index, films, BATCH, shuffle=True, seed=0, augmentation=Augmentation())
    pillow, cached = [], []
    # Taken in turn, twice: a machine that slows down halfway slows both.
    for _ in range(2):
        pillow.append(rate(lambda: pillow_batches(paths, size)))
        cached.append(rate(lambda: (batch.images for batch in plain.batches(0))))
    augmented = rate(lambda: (batch.images for batch in moving.batches(0)))
    a, b = sum(pillow) / 2, sum(cached) / 2
    return f"{size:>5} {a:>8.0f} {build:>8.0f} {b:>8.0f} {augmented:>10.0f} {b / a:>15.0f}x"


if __name__ == "__main__":
    main()
