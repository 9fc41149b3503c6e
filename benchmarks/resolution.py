"""Time and memory of a training step of yao2018 against the map's resolution N, with and without recomputation.

    python benchmarks/resolution.py [--preset cpu] [--resolutions 16 32 64 128] [--batch 8] [--rounds 3] [--set A=B ...]

Each row is a process of its own, so that the greatest memory is its own: median processor time of a step (forward,
loss, backward, Adam; on a GPU the time until it is done), what the step keeps for its backward pass (weights left out),
and by how much memory grew. Run it with one thread (OMP_NUM_THREADS=1) on a machine that is shared.
"""

from __future__ import annotations

import cxrlocus  # noqa: F401  # isort: skip (first: it sets what torch reads when it starts)

import argparse
import multiprocessing
import resource
import time
from collections.abc import Mapping
from statistics import median

import torch

from cxrlocus.functional.losses import masked_bce
from cxrlocus.methods.yao2018 import YAO, YaoConfig
from cxrlocus.methods.yao2018.model import build, parameter_count
from cxrlocus.training.machine import bf16_pays, describe_machine
from kept import kept_bytes


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--resolutions", type=int, nargs="+", default=[16, 32, 64, 128])
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--findings", type=int, default=14)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    args = parser.parse_args()
    options = dict(one.split("=", 1) for one in args.set)
    size = YAO.configure(preset=args.preset, options=options).size
    precision = "bf16" if bf16_pays() else "fp32"
    print(f"{args.preset}: {size} px, batch {args.batch}, {precision}, {describe_machine()}", flush=True)
    base = None
    for n in args.resolutions:
        for again in (False, True):
            told = {**options, "resolution": str(n), "checkpoint": str(again).lower()}
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                seconds, kept, peak, count = pool.apply(
                    measure, (args.preset, told, args.batch, args.findings, args.rounds)
                )
            base = base or seconds
            print(
                f"  N = {n:3d}{', checkpoint' if again else '':12s} {1000 * seconds:8.0f} ms a step, "
                f"{seconds / base:5.2f}x; keeps {kept / 2**20:7.0f} MiB; memory grew by {peak / 2**30:5.2f} GiB; "
                f"{count / 1e6:.2f} M parameters",
                flush=True,
            )


def measure(
    preset: str, options: Mapping[str, str], batch: int, findings: int, rounds: int
) -> tuple[float, int, int, int]:
    """Seconds a step, bytes kept, bytes by which memory grew, parameters."""
    torch.manual_seed(0)
    config: YaoConfig = YAO.configure(preset=preset, options=options)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    net = build(config, findings).to(device).to(memory_format=torch.channels_last).train()
    films = torch.rand(batch, 1, config.size, config.size, device=device)
    known = torch.ones(batch, findings, dtype=torch.bool, device=device)
    target = (torch.arange(known.numel(), device=device).reshape(known.shape) % 5 == 0).float()
    optimizer = torch.optim.Adam(net.parameters(), config.lr)
    before, times = memory(), []
    for _ in range(rounds + 1):
        started = clock()
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16_pays()):
            logits = net.classify(net.backbone(films))
        optimizer.zero_grad(set_to_none=True)
        masked_bce(logits.float(), target, known).backward()
        optimizer.step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(clock() - started)
    peak = memory() - before
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16_pays()):
        kept = kept_bytes(net, films)
    return median(times[1:]), kept, peak, parameter_count(net)


def memory() -> int:
    """Greatest memory so far, bytes."""
    if torch.cuda.is_available():
        return int(torch.cuda.max_memory_allocated())
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


if __name__ == "__main__":
    main()
