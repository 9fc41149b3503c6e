"""Time and memory of a training step of InfoMask with its full-resolution maps, against its baseline without them.

    python benchmarks/infomask.py [--size 512] [--batch 8] [--width 1.0] [--rounds 3]

Each row is a process of its own, so that the greatest memory is its own: median time of a step (forward, loss,
backward, Adam), what the step keeps for its backward pass (weights left out), and by how much memory grew.
``checkpoint`` computes the full-resolution layers again instead of keeping them.
"""

from __future__ import annotations

import cxrlocus  # noqa: F401  # isort: skip (first: it sets what torch reads when it starts)

import argparse
import multiprocessing
import resource
import time
from dataclasses import replace
from statistics import median

import torch

from cxrlocus.methods.classification import ClassifierObjective
from cxrlocus.methods.infomask2019 import INFOMASK, InfoMaskConfig
from cxrlocus.methods.infomask2019.model import build_baseline, build_infomask, parameter_count
from cxrlocus.methods.infomask2019.objective import InfoMaskObjective
from cxrlocus.training.machine import bf16_pays, describe_machine
from cxrlocus.types import Batch
from kept import kept_bytes

ROWS = {
    "baseline": {"variant": "gradcam", "checkpoint": False},
    "infomask": {"variant": "", "checkpoint": False},
    "infomask, checkpoint": {"variant": "", "checkpoint": True},
}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--width", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    precision = "bf16" if bf16_pays() else "fp32"
    print(f"{args.size} px, batch {args.batch}, width {args.width:g}, {precision}, {describe_machine()}")
    base = None
    for name, row in ROWS.items():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            seconds, kept, peak, count = pool.apply(measure, (row, args.size, args.batch, args.width, args.rounds))
        base = base or seconds
        print(
            f"  {name:22s} {1000 * seconds:8.0f} ms a step, {seconds / base:5.2f}x; keeps {kept / 2**20:6.0f} MiB; "
            f"greatest memory {peak / 2**30:5.2f} GiB; {count / 1e6:.2f} M parameters"
        )


def measure(row: dict[str, object], size: int, batch: int, width: float, rounds: int) -> tuple[float, int, int, int]:
    """Seconds a step, bytes kept, bytes by which memory grew, parameters."""
    torch.manual_seed(0)
    config: InfoMaskConfig = INFOMASK.configure(variant=str(row["variant"]))
    config = replace(config, size=size, width=width, checkpoint=bool(row["checkpoint"]))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    films = torch.rand(batch, 1, size, size, device=device)
    target = (torch.arange(batch, device=device) % 2)[:, None].float()
    made = Batch(films, target, torch.ones_like(target, dtype=torch.bool), torch.arange(batch, device=device))
    objective: torch.nn.Module
    if row["variant"]:
        baseline = build_baseline(config, 1)
        objective, count = ClassifierObjective(baseline, "bce"), parameter_count(baseline)
    else:
        net = build_infomask(config, 1)
        net.open_up(films[:2].cpu())
        objective, count = InfoMaskObjective(net, config, steps=100), parameter_count(net)
    objective.to(device).to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.Adam(objective.parameters(), config.lr)
    before, times = memory(), []
    for _ in range(rounds + 1):
        started = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16_pays()):
            loss = torch.stack(list(objective(made).values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    peak = memory() - before
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16_pays()):
        kept = kept_bytes(objective, made)
    return median(times[1:]), kept, peak, count


def memory() -> int:
    """Greatest memory so far, bytes."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
