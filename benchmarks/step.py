"""A training epoch of ``fit`` (cache, augmentation, Fabric, figures) against a bare torch loop on ready tensors.

    python benchmarks/step.py [--backbone resnet18] [--size 224] [--batch 16] [--films 160] [--rounds 3]

Prints the median time a step of both and the ratio. Goal: 1.1x.
"""

from __future__ import annotations

import cxrlocus  # noqa: F401  # isort: skip (first: it sets what torch reads when it starts)

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import torch

from cxrlocus.data import open_index
from cxrlocus.data.cache import open_films
from cxrlocus.data.loader import Loader
from cxrlocus.data.phantom import write_phantom
from cxrlocus.data.transforms import Augmentation
from cxrlocus.functional.losses import masked_bce
from cxrlocus.methods.classification import ClassifierObjective
from cxrlocus.models.backbones import Backbone
from cxrlocus.models.camnet import CamNet
from cxrlocus.training.fit import FitConfig, fit
from cxrlocus.training.machine import bf16_pays, describe_machine, make_fabric


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backbone", default="resnet18")
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--films", type=int, default=160)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_phantom(root / "films", images=args.films, size=args.size)
        index = open_index(root / "films")
        films = open_films(index, size=args.size, folder=root / "cache")
        loader = Loader(
            index, films, args.batch, shuffle=True, seed=0, augmentation=Augmentation(), drop_last=True
        )  # fmt: skip
        ready = [(b.images.clone(), b.target, b.known) for b in loader.batches(0)]
        bare, ours = [], []
        for k in range(args.rounds + 1):
            bare.append(bare_epoch(args.backbone, ready))
            ours.append(fit_epoch(args.backbone, loader, root / f"run{k}"))
        steps = len(ready)
    b, o = (1000 * median(times[1:]) / steps for times in (bare, ours))
    print(f"{args.backbone} at {args.size} px, batch {args.batch}, {describe_machine()}")
    print(f"  bare torch loop {b:8.1f} ms a step\n  fit             {o:8.1f} ms a step\n  fit / bare: {o / b:.2f}x")


def bare_epoch(backbone: str, ready: list[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]) -> float:
    """Seconds of an epoch of the shortest loop that trains the same network in the same precision."""
    net = make(backbone).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(net.parameters(), 1e-3)
    started = time.perf_counter()
    for images, target, known in ready:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16_pays()):
            logits = net.classify(net.backbone(images))
        loss = masked_bce(logits.float(), target, known)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
    return time.perf_counter() - started


def fit_epoch(backbone: str, loader: Loader, folder: Path) -> float:
    """Seconds of an epoch of ``fit``, with its log but without validation films; checkpoints are subtracted by none."""
    net = make(backbone)
    config = FitConfig(epochs=1, select="auroc")
    fabric = make_fabric("auto", accelerator="cpu")
    started = time.perf_counter()
    fit(fabric, ClassifierObjective(net, "bce"), net, loader, lambda: {"auroc": 0.0}, config, folder, seed=0)
    return time.perf_counter() - started


def make(backbone: str) -> CamNet:
    """The same network each time."""
    torch.manual_seed(0)
    return CamNet(Backbone(backbone), findings=8)


if __name__ == "__main__":
    main()
