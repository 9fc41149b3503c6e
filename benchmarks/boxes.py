"""Boxes: milliseconds a film for 14 maps of 16 x 16 by each rule, and seconds for the protocol with its intervals.

python benchmarks/boxes.py [--films 200]

The floor in the same run is OpenCV alone: resize of each map to the rule's grid, one threshold, one labelling.
"""

from __future__ import annotations

import cxrlocus  # noqa: F401  # isort: skip (first: it sets what torch reads when it starts)

import argparse
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import cv2
import numpy as np

from cxrlocus.data.records import Index, Record, TruthBox
from cxrlocus.protocols.wang2017 import RunLabel, wang2017
from cxrlocus.regions.detect import detect
from cxrlocus.regions.rules import RULES
from cxrlocus.types import NIH14

SIDE = 1024


def seconds(work: Callable[[], object], repeat: int = 3) -> float:
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def smooth_maps(films: int) -> np.ndarray:
    noise = np.random.default_rng(0).normal(size=(films, len(NIH14), 16, 16)).astype(np.float32)
    return np.stack([[cv2.GaussianBlur(m, (0, 0), 1.5) for m in film] for film in noise])


def floor(maps: np.ndarray) -> None:
    for grid in maps.reshape(-1, 16, 16):
        raster = cv2.resize(grid, (128, 128), interpolation=cv2.INTER_LINEAR)
        cv2.connectedComponents((raster > raster.mean()).view(np.uint8), ltype=cv2.CV_16U)


def boxed_films(films: int) -> Index:
    rng = np.random.default_rng(1)
    records = []
    for i in range(films):
        corner, size = rng.uniform(0, 700, 2), rng.uniform(30, 300, 2)
        finding = NIH14.names[i % 8]
        box = TruthBox(finding, (*corner.tolist(), *(corner + size).tolist()))
        name, named = f"{i}.png", frozenset([finding])
        records.append(Record(name, Path(name), str(i), "test", named, boxes=(box,), size=(SIDE, SIDE)))
    return Index("benchmark", Path(), NIH14, tuple(records))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=200)
    films = parser.parse_args().films
    maps, index = smooth_maps(films), boxed_films(films)
    sizes = np.full((films, 2), SIDE)
    straight = np.tile(np.array([[SIDE, 0, 0], [0, SIDE, 0]], dtype=float), (films, 1, 1))
    turned = np.tile(np.array([[1000.0, 50, 0], [-50, 1000, 0]]), (films, 1, 1))
    print(f"{'floor (resize, label once)':40} {seconds(lambda: floor(maps)) / films * 1e3:6.2f} ms a film")
    for name, kind in RULES.items():
        for how, frames in (("whole film", straight), ("turned frame", turned)):
            spent = seconds(partial(detect, kind(), maps, frames, sizes, index.images, NIH14))
            print(f"{name + ', ' + how:40} {spent / films * 1e3:6.2f} ms a film")
    found = detect(RULES["fixed_thresholds"](), maps, straight, sizes, index.images, NIH14)
    prob = np.random.default_rng(2).random((films, len(NIH14)))
    spent = seconds(lambda: wang2017(found, index, prob=prob, label=RunLabel("benchmark", "", "benchmark")))
    print(f"{'wang2017, 1000 resamples':40} {spent:6.2f} s for {films} films, {len(found)} boxes")


if __name__ == "__main__":
    main()
