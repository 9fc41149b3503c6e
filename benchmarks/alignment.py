"""Whether alignment works, and what it costs.

    python benchmarks/alignment.py --out DIR [--images 600] [--size 128] [--preset demo] [--variant alignment]
        [--set name=value ...] [--measure ROOT]
    python benchmarks/alignment.py --out DIR --data ROOT [--size 512] [--preset cpu] [--init WEIGHTS]
    python benchmarks/alignment.py --cost [--backbone resnet50] [--size 512] [--batch 8]

The first trains classifier and alignment on a phantom's training films, and prints how far its landmarks (lung
apices, costophrenic angles, heart) are spread over the test films (or all films of another phantom) after alignment
against before, each as the root of its variance over the size of the chest, so that zooming out gains nothing. Goal:
at least halved. Beside it stand what is left when each film's true pose is undone, which is how patients differ, and
what the five numbers that serve a film's landmarks best would leave. Then the same for films that are each seen in
several poses, drawn at random: there the patient does not differ, and what is left is the alignment's own error. The
second does the same without landmarks, for films in NIH's layout. Both draw the mean test film before and after, and
print how sharp it is (variance of its Laplacian) and how much films differ from it. The third times prediction with
alignment against the bare backbone.
"""

from __future__ import annotations

import cxrlocus  # noqa: F401  # isort: skip (first: it sets what torch reads when it starts)

import argparse
import csv
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import least_squares

from cxrlocus.data.cache import open_films
from cxrlocus.data.nih import load_nih
from cxrlocus.data.phantom import write_phantom
from cxrlocus.data.records import Index
from cxrlocus.functional.alignment import coverage, pose_affine, warp
from cxrlocus.methods import get_method
from cxrlocus.methods.base import Recipe, parse_options
from cxrlocus.methods.kim2021.config import ALIGN, KimConfig, in_round
from cxrlocus.methods.kim2021.localizer import AlignedLocalizer
from cxrlocus.methods.kim2021.model import KimNet, build
from cxrlocus.methods.kim2021.recipe import load_aligner, train_kim
from cxrlocus.models.aligner import AlignmentNet
from cxrlocus.training.machine import bf16_pays, describe_machine, make_fabric
from cxrlocus.types import NIH14, Frame

LANDMARKS = ("right_apex", "left_apex", "right_angle", "left_angle", "heart")
FRAME = 1024

AGAIN = 40
"""Films that are seen again in other poses."""

POSES = 8

MARGIN = 16
"""Pixels left out along the rim where sharpness is measured: the film's border is an edge before alignment only."""

Array = NDArray[np.float64]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--images", type=int, default=600)
    parser.add_argument("--size", type=int)
    parser.add_argument("--preset", default="demo")
    parser.add_argument("--variant", default="alignment")
    parser.add_argument("--measure", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--init", type=Path)
    parser.add_argument("--cost", action="store_true")
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    print(describe_machine())
    if args.cost:
        cost(args.backbone, args.size or 512, args.batch, args.rounds)
    elif args.out is None:
        parser.error("--out DIR is needed to train")
    else:
        show(args)


def show(args: argparse.Namespace) -> None:
    """Train on films that are or can be had, and measure on the others."""
    options = dict(text.split("=", 1) for text in args.set)
    if args.size:
        options["size"] = str(args.size)
    config = get_method("kim2021").configure(variant=args.variant, preset=args.preset, options=options)
    root = args.data or args.out / "films"
    if args.data is None:
        write_phantom(root, images=args.images, size=config.size, seed=args.seed)
    index = load_nih(root)
    run, cache = args.out / "run", args.out / "cache"
    run.mkdir(parents=True, exist_ok=True)
    recipe = Recipe(
        run, index.split("train", "val"), config, args.seed, make_fabric(config.precision), cache,
        args.init, telling(),
    )  # fmt: skip
    started = time.perf_counter()
    last = in_round(ALIGN, config.anchor_rounds)
    train_kim(recipe, until=last)
    print(f"  trained in {time.perf_counter() - started:.0f} s")
    print("  " + (run / last / "log.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    root = args.measure or root
    test = index.split("test") if args.measure is None else load_nih(root)
    aligner = load_aligner(run, config)
    films = open_films(test, size=config.size, fit=config.fit, folder=cache)
    here = np.flatnonzero(films.readable)
    affines = [poses(aligner, films.pixels(some)) for some in np.array_split(here, -(-len(here) // 32))]
    affine = np.concatenate(affines)
    picture(args.out / "mean.png", films.pixels(here), affine, config)
    if (root / "films.csv").is_file():
        table = read_table(root / "films.csv", test, here)
        points = landmarks(table)
        spreads(points, affine, np.array([true_affine(row) for row in table]))
        again(aligner, films.pixels(here[:AGAIN]), points[:AGAIN])


def telling() -> Callable[[int, int, str], None]:
    """Progress, a line every half minute."""
    last = [0.0]

    def tell(done: int, total: int, words: str) -> None:
        if time.perf_counter() - last[0] > 30:
            last[0] = time.perf_counter()
            print(f"    {words}: {done} of {total}", flush=True)

    return tell


@torch.no_grad()
def poses(aligner: AlignmentNet, pixels: NDArray[np.uint8]) -> Array:
    """Affines (n, 2, 3) of films (n, S, S), aligned unit square to the film's."""
    images = torch.from_numpy(pixels)[:, None].float() / 255
    return np.asarray(pose_affine(aligner(images)).double().numpy())


def read_table(path: Path, index: Index, positions: NDArray[np.int64]) -> list[dict[str, str]]:
    """The truth of films."""
    with path.open(newline="", encoding="utf-8") as file:
        rows = {row["image"]: row for row in csv.DictReader(file)}
    return [rows[index.images[int(i)]] for i in positions]


def landmarks(table: list[dict[str, str]]) -> Array:
    """Landmarks (n, 5, 2) of films in the unit square."""
    places = [[[float(row[f"{n}_x"]), float(row[f"{n}_y"])] for n in LANDMARKS] for row in table]
    return np.array(places, np.float64) / FRAME


def true_affine(row: dict[str, str]) -> Array:
    """The affine (2, 3) of the pose that the phantom gave a film: turned clockwise, scaled and shifted."""
    scale, angle = float(row["scale"]), float(row["rotation_deg"])
    shift = [2 * float(row[name]) / FRAME for name in ("shift_x", "shift_y")]
    return np.asarray(affine_of(np.array([scale, scale, *shift, np.deg2rad(angle)]))[0])


def moved(points: Array, affine: Array) -> Array:
    """Points (n, k, 2) of films where they are on the aligned films."""
    inverse = np.linalg.inv(affine[:, :, :2])
    return np.asarray(np.einsum("nij,nkj->nki", inverse, points - affine[:, None, :, 2]))


def spread(points: Array) -> Array:
    """Root of each landmark's variance, (5,), in sizes of the chest (the landmarks' own distance from their middle)."""
    middle = points.mean(axis=0)
    size = np.sqrt(((middle - middle.mean(axis=0)) ** 2).sum(axis=1).mean())
    return np.asarray(np.sqrt(points.var(axis=0).sum(axis=-1)) / size)


def spreads(points: Array, affine: Array, true: Array) -> None:
    before, after, undone = spread(points), spread(moved(points, affine)), spread(moved(points, true))
    least = spread(moved(points, best_affines(points)))
    print(f"  spread of the landmarks of {len(points)} test films, in sizes of the chest: after against before")
    for k, name in enumerate(LANDMARKS):
        print(
            f"    {name:12s} {before[k]:.4f} -> {after[k]:.4f}   {after[k] / before[k]:.2f}"
            f"   (true pose undone {undone[k] / before[k]:.2f}, best five numbers {least[k] / before[k]:.2f})"
        )
    first, *others = (float(np.sqrt((row**2).mean())) for row in (before, after, undone, least))
    print(
        f"    {'all':12s} {first:.4f} -> {others[0]:.4f}   {others[0] / first:.2f}"
        f"   (true pose undone {others[1] / first:.2f}, best five numbers {others[2] / first:.2f})"
    )


def again(aligner: AlignmentNet, pixels: NDArray[np.uint8], points: Array) -> None:
    """Each film in several poses as wide as the phantom's: how far its landmarks are spread over them, root mean."""
    draw = np.random.default_rng(0)
    images = torch.from_numpy(pixels)[:, None].float() / 255
    size = np.sqrt(((points - points.mean(axis=1, keepdims=True)) ** 2).sum(-1).mean())
    seen, aligned = [], []
    for _ in range(POSES):
        z = draw.standard_normal((len(images), 4))
        scale = np.exp(0.055 * z[:, 0])
        pose = np.stack([scale, scale, 0.052 * z[:, 1], 0.056 * z[:, 2], np.deg2rad(3.2) * z[:, 3]], axis=1)
        taken = pose_affine(torch.from_numpy(pose))
        film = warp(images, taken.float(), "border")
        seen.append(moved(points, taken.numpy()))
        aligned.append(moved(seen[-1], poses(aligner, np.round(film[:, 0].numpy() * 255).astype(np.uint8))))
    before, after = (np.sqrt(np.array(row).var(axis=0).sum(-1).mean(axis=0)) / size for row in (seen, aligned))
    print(f"  the same film in {POSES} poses, {len(images)} films")
    for k, name in enumerate(LANDMARKS):
        print(f"    {name:12s} {before[k]:.4f} -> {after[k]:.4f}   {after[k] / before[k]:.2f}")
    overall = [float(np.sqrt((row**2).mean())) for row in (before, after)]
    print(f"    {'all':12s} {overall[0]:.4f} -> {overall[1]:.4f}   {overall[1] / overall[0]:.2f}")


def best_affines(points: Array) -> Array:
    """For each film the five numbers that bring its landmarks nearest to their mean places, knowing them."""
    middle, found = points.mean(axis=0), []
    for of_film in points:

        def off(pose: Array, of_film: Array = of_film) -> Array:
            return np.ravel(moved(of_film[None], affine_of(pose))[0] - middle)

        found.append(affine_of(least_squares(off, [1, 1, 0, 0, 0]).x)[0])
    return np.array(found)


def affine_of(pose: Array) -> Array:
    return np.asarray(pose_affine(torch.from_numpy(np.asarray(pose, np.float64))[None]).numpy())


def picture(path: Path, pixels: NDArray[np.uint8], affine: Array, config: KimConfig) -> None:
    """The mean film before and after alignment, side by side; how sharp it is, and how much films differ from it."""
    images = torch.from_numpy(pixels)[:, None].float() / 255
    matrices = torch.from_numpy(affine).float()
    aligned = torch.cat(
        [
            warp(x, a, config.align_border)
            for x, a in zip(torch.split(images, 32), torch.split(matrices, 32), strict=True)
        ]
    )
    part = coverage(torch.from_numpy(affine))
    print(f"  {len(images)} test films; least part of an aligned film that lies on the film: {part.min():.2f}")
    tiles, told = [], []
    for name, films in (("before", images), ("after", aligned)):
        mean = films.mean(0)[0].numpy()
        differs = float((films - films.mean(0)).square().mean().sqrt())
        told.append((float(cv2.Laplacian(mean, cv2.CV_32F, ksize=3)[MARGIN:-MARGIN, MARGIN:-MARGIN].var()), differs))
        print(
            f"    mean film {name}: variance of its Laplacian {told[-1][0]:.2e}; films differ from it by {differs:.4f}"
        )
        tiles.append(cv2.resize(np.round(mean * 255).astype(np.uint8), (512, 512), interpolation=cv2.INTER_CUBIC))
    print(f"    sharper {told[1][0] / told[0][0]:.2f}x, differing {told[1][1] / told[0][1]:.2f}x")
    cv2.imwrite(str(path), np.hstack(tiles))


def cost(backbone: str, size: int, batch: int, rounds: int) -> None:
    """Time of prediction, against the bare backbone."""
    bf16 = bf16_pays("cpu")
    images = torch.rand(batch, 1, size, size, generator=torch.Generator().manual_seed(0))
    frames = np.stack([Frame.of_size(FRAME, FRAME).matrix] * batch)
    print(f"  {backbone} at {size} px, batch {batch}, {'bf16' if bf16 else 'fp32'}: prediction, 14 findings")

    def network(**options: str) -> tuple[KimNet, KimConfig]:
        config = KimConfig(backbone=backbone, size=size, **parse_options(KimConfig, options))
        torch.manual_seed(0)
        net = build(config, len(NIH14)).eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub
        return net, config

    def explaining(**options: str) -> Callable[[], object]:
        net, config = network(**options)
        localizer = AlignedLocalizer(net, NIH14, config, bf16=bf16)
        return lambda: localizer.explain(images, frames)

    bare, _ = network(align="false")

    @torch.no_grad()
    def plain() -> object:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            return bare.features(images)

    timed: dict[str, Callable[[], object]] = {
        "bare backbone": plain,
        "maps of unaligned films": explaining(align="false"),
        "aligned by ResNet-18 (paper)": explaining(),
        "aligned by ResNet-18 at 224 px": explaining(align_side="224"),
        "aligned by ResNet-10 at 128 px": explaining(align_backbone="resnet10t", align_side="128", align_head="grid"),
    }
    times: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds + 1):
        for name, function in timed.items():
            started = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - started)
    least = {name: 1000 * min(row[1:]) for name, row in times.items()}
    for name, value in least.items():
        print(f"    {name:32s} {value:9.1f} ms   {value / least['bare backbone']:5.2f}x")


if __name__ == "__main__":
    main()
