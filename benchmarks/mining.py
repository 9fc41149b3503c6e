"""What attention mining costs: training steps against a plain one, prediction against the bare backbone, 14 findings.

    python benchmarks/mining.py [--backbone resnet50] [--size 512] [--batch 8] [--rounds 5]

Prints the least time of each (what a busy machine disturbs least) and its ratio. Goals at T = 3: a mining step 1.15x of
a plain training step, prediction 1.1x of the bare backbone. Maps of the network as each step left it (the paper's, the
default) take a pass for each step; one pass is enough where only the layers above the backbone learn between steps, or
where one network makes all maps. Variant one-pass is "KP, current masks" and "one network". Of a batch of 8 one film is
mined, the paper's share; in smaller ones masks weigh more.
"""

from __future__ import annotations

import cxrlocus  # noqa: F401  # isort: skip (first: it sets what torch reads when it starts)

import argparse
import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import torch
from torch import nn

from cxrlocus.functional.mining import mine_maps
from cxrlocus.methods.cai2018.config import CaiConfig
from cxrlocus.methods.cai2018.localizer import CaiLocalizer
from cxrlocus.methods.cai2018.model import MiningNet, build
from cxrlocus.methods.cai2018.objective import Eraser, MiningObjective
from cxrlocus.methods.classification import ClassifierObjective
from cxrlocus.training.machine import bf16_pays, describe_machine
from cxrlocus.types import NIH14, Batch, Frame

STEPS = 3


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    config = CaiConfig(backbone=args.backbone, size=args.size, steps=STEPS, norm="batch")
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(args.batch, 1, args.size, args.size, generator=generator)
    target = (torch.rand(args.batch, len(NIH14), generator=generator) < 0.2).float()
    batch = Batch(images, target, torch.ones_like(target, dtype=torch.bool), torch.arange(args.batch))
    precision = "bf16" if bf16_pays("cpu") else "fp32"
    print(f"{args.backbone} at {args.size} px, batch {args.batch}, T = {STEPS}, {precision}, {describe_machine()}")
    tell(least(training(config, batch), args.rounds), "training step at t = 3")
    tell(least(prediction(config, images), args.rounds), "prediction")
    maps = torch.randn(args.batch, len(NIH14), args.size // 16, args.size // 16, generator=generator)
    tell(least({"the erasing alone": lambda: mine_maps([maps] * STEPS)}, args.rounds), "mining of noise, for itself")


def training(config: CaiConfig, batch: Batch) -> dict[str, Callable[[], None]]:
    """Steps of a plain classifier and of mining, all on the same network, forward to optimizer."""

    def mining(**options: object) -> Callable[[], None]:
        chosen = replace(config, **options)  # type: ignore[arg-type]  # Config fields
        before = [net(chosen) for _ in range(STEPS - 1)] if chosen.masks == "frozen" else []
        teacher = net(chosen) if chosen.kp == "kp" else None
        return step(MiningObjective(net(chosen).train(), chosen, Eraser(chosen, STEPS, before), teacher), batch)

    return {
        "plain": step(ClassifierObjective(net(config).train(), "bce"), batch),
        "every film mined, current masks": mining(kp="none", masks="current"),
        "KP-Vanilla, current masks": mining(kp="vanilla", masks="current"),
        "KP-Vanilla, frozen masks": mining(kp="vanilla"),
        "KP, current masks": mining(kp="kp", masks="current"),
        "KP, frozen masks (default)": mining(kp="kp"),
        "KP, frozen masks, tune=top": mining(kp="kp", tune="top"),
    }


def step(objective: nn.Module, batch: Batch) -> Callable[[], None]:
    objective.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW([p for p in objective.parameters() if p.requires_grad], 1e-4)

    def run() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16_pays("cpu")):
            losses = objective(batch)
        optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()

    return run


def prediction(config: CaiConfig, images: torch.Tensor) -> dict[str, Callable[[], None]]:
    """The bare backbone, and maps of all findings by networks that share more or less."""
    bf16, frames = bf16_pays("cpu"), np.stack([Frame.of_size(1024, 1024).matrix] * len(images))
    nets = [net(config) for _ in range(STEPS)]

    @torch.no_grad()
    def bare() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            nets[0].stages.backbone(images)

    def maps(count: int, **options: object) -> Callable[[], None]:
        chosen = replace(config, **options)  # type: ignore[arg-type]  # Config fields
        localizer = CaiLocalizer(nets[:count], NIH14, chosen, bf16=bf16)
        return lambda: discard(localizer.explain_steps(images, frames))

    return {
        "bare backbone": bare,
        "T = 0, with MSA": maps(1, steps=0),
        "T = 3, one network (maps_from=last)": maps(1, maps_from="last", combine="scaled"),
        "T = 3, one backbone (tune=top)": maps(STEPS, tune="top"),
        "T = 3, a network each (default)": maps(STEPS),
    }


def discard(_: object) -> None:
    """Take a result and leave it."""


def net(config: CaiConfig) -> MiningNet:
    """The same network each time, its layout as in training."""
    torch.manual_seed(0)
    made = build(config, len(NIH14)).eval()
    # A head as wide as a trained one: at its first weights the maps are so flat that regions are noise.
    nn.init.normal_(made.weight, std=0.1)
    return made.to(memory_format=torch.channels_last)  # type: ignore[call-overload,no-any-return]  # torch's stub


def least(timed: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Least milliseconds, all taken in turn, the first round left out."""
    times: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds + 1):
        for name, function in timed.items():
            started = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - started)
    return {name: 1000 * min(row[1:]) for name, row in times.items()}


def tell(ms: dict[str, float], title: str) -> None:
    first = next(iter(ms.values()))
    print(f"  {title}")
    for name, value in ms.items():
        print(f"    {name:38s} {value:9.1f} ms   {value / first:5.2f}x")


if __name__ == "__main__":
    main()
