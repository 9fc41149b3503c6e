"""Harvest: images a second and peak memory as the archive grows, beside decoding alone and the model alone.

python benchmarks/harvest.py [--films 500 2000] [--pixels 1024] [--size 256] [--backbone mobilenetv2_100]

Each archive is harvested in a process of its own, so that peaks do not mix. Its films are 64 files over and over under
different names, each labelled with two findings; the network has random weights. Speed and memory should not depend on
the number of films, and the speed should be near the slower of the two floors (together they share the cores).
"""

from __future__ import annotations

import cxrlocus  # noqa: F401  # isort: skip (first: it sets what torch reads when it starts)

import argparse
import multiprocessing
import resource
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from cxrlocus.data.records import Index, Record
from cxrlocus.harvest.films import read_ahead
from cxrlocus.harvest.options import Options
from cxrlocus.harvest.run import harvest
from cxrlocus.methods.cam.model import CamLocalizer
from cxrlocus.models.backbones import Backbone
from cxrlocus.models.camnet import CamNet
from cxrlocus.types import NIH14

FILES = 64


def make_files(folder: Path, pixels: int) -> None:
    rng = np.random.default_rng(0)
    for i in range(FILES):
        field = cv2.resize(rng.uniform(20, 230, (12, 12)), (pixels, pixels), interpolation=cv2.INTER_CUBIC)
        film = np.clip(field + rng.normal(0, 1.0, field.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(folder / f"{i:02d}.png"), film)


def make_index(folder: Path, films: int) -> Index:
    named = [frozenset({a, b}) for a, b in zip(NIH14, (*NIH14.names[1:], NIH14.names[0]), strict=True)]
    records = (
        Record(f"{i:07d}.png", folder / f"{i % FILES:02d}.png", str(i), positive=named[i % len(named)])
        for i in range(films)
    )
    return Index("benchmark", folder, NIH14, tuple(records))


def make_localizer(backbone: str, size: int) -> CamLocalizer:
    torch.manual_seed(0)
    net = CamNet(Backbone(backbone), len(NIH14)).eval()
    if torch.cuda.is_available():
        net.cuda()
    return CamLocalizer(net, NIH14, size=size, fit="letterbox", bf16=False)


def measure(folder: Path, films: int, backbone: str, size: int, results: multiprocessing.SimpleQueue) -> None:
    index, localizer = make_index(folder, films), make_localizer(backbone, size)
    ready = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    done = harvest(localizer, index, folder / f"out{films}", Options(), source={})
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    results.put((done.summary.images_per_second, done.summary.boxes, ready, peak))


def floors(folder: Path, backbone: str, size: int) -> tuple[float, float]:
    """Images a second of decoding alone and of the model alone."""
    index = make_index(folder, 4 * FILES)
    start = time.perf_counter()
    count = sum(1 for _ in read_ahead(index.records, size, "letterbox", ahead=64))
    decode = count / (time.perf_counter() - start)
    localizer, images, frames = make_localizer(backbone, size), torch.rand(32, 1, size, size), np.zeros((32, 2, 3))
    localizer.explain(images, frames)
    start = time.perf_counter()
    for _ in range(4):
        localizer.explain(images, frames)
    return decode, 4 * 32 / (time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, nargs="+", default=[500, 2000])
    parser.add_argument("--pixels", type=int, default=1024, help="side of the files")
    parser.add_argument("--size", type=int, default=256, help="side that the model sees")
    parser.add_argument("--backbone", default="mobilenetv2_100")
    options = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_files(folder, options.pixels)
        decode, model = floors(folder, options.backbone, options.size)
        print(f"PNGs of {options.pixels} px, {options.backbone} at {options.size} px")
        print(f"decoding alone {decode:.0f} images/s, model alone {model:.0f} images/s")
        print("   films  images/s     boxes  ready MB   peak MB")
        for films in options.films:
            results = context.SimpleQueue()
            child = context.Process(target=measure, args=(folder, films, options.backbone, options.size, results))
            child.start()
            speed, boxes, ready, peak = results.get()
            child.join()
            print(f"{films:>8}{speed:>10.0f}{boxes:>10}{ready:>10.0f}{peak:>10.0f}", flush=True)


if __name__ == "__main__":
    main()
