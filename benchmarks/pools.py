"""What each pool adds to a training step, against average pooling of the same map on the same network.

    python benchmarks/pools.py [--preset cpu] [--resolution N] [--batch 8] [--findings 14] [--rounds 7] [--fp32]

Times a whole step with average pooling (forward, loss, backward, Adam), and of every pool the part that differs: from
the features to the loss and back to the features. Prints milliseconds and ``(step - average + pool) / step``. Goal:
1.05x. The parts are timed in turn; the median of the rounds is taken, the first left out. Last comes what a step keeps
for its backward pass, the weights left out.
"""

from __future__ import annotations

import cxrlocus  # noqa: F401  # isort: skip (first: it sets what torch reads when it starts)

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from statistics import median

import torch

from cxrlocus.functional.losses import masked_bce
from cxrlocus.methods.yao2018 import YAO, YaoConfig
from cxrlocus.methods.yao2018.model import YaoNet, build, parameter_count
from cxrlocus.models.pools import POOLS
from cxrlocus.training.machine import bf16_pays, describe_machine
from kept import kept_bytes


def main() -> None:
    args = arguments()
    config: YaoConfig = YAO.configure(preset=args.preset)
    config = replace(config, resolution=args.resolution or config.resolution, checkpoint=args.checkpoint)
    bf16 = bf16_pays() and not args.fp32
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    known = torch.ones(args.batch, args.findings, dtype=torch.bool, device=device)
    labels = (torch.arange(known.numel(), device=device).reshape(known.shape) % 5 == 0).float(), known
    images = torch.rand(args.batch, 1, config.size, config.size, device=device)
    net = make(replace(config, pool="average"), args.findings, device)
    print(
        f"{args.preset}: {config.size} px, N = {config.resolution}, batch {args.batch}, {args.findings} findings, "
        f"{parameter_count(net) / 1e6:.2f} M parameters, {'bf16' if bf16 else 'fp32'}, {describe_machine()}"
    )
    with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        kept = kept_bytes(net, images)
    whole, parts = {"step": step(net, images, labels, bf16)}, {}
    for name, kind in POOLS.items():
        for scale in kind.on:
            if scale != "feature":
                pooled = make(replace(config, pool=name, pool_on=scale), args.findings, device)
                parts[f"{name} of {scale}"] = part(pooled, config.resolution, args.batch, labels, bf16)
    seconds = medians({**whole, **parts}, args.rounds)
    base, average = seconds["step"], seconds["average of probability"]
    print(f"  a step with average of probability {1000 * base:9.1f} ms")
    for name in parts:
        ratio = (base - average + seconds[name]) / base
        print(f"  {name:34s} {1000 * seconds[name]:9.1f} ms  {ratio:6.3f}x of the step")
    print(f"  kept for the backward pass {kept / 2**20:.0f} MiB, {kept / 2**20 / args.batch:.0f} MiB a film")


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--resolution", type=int, default=0)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--findings", type=int, default=14)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--fp32", action="store_true")
    parser.add_argument("--checkpoint", action="store_true")
    return parser.parse_args()


def make(config: YaoConfig, findings: int, device: torch.device) -> YaoNet:
    """The same network each time, but for its pool."""
    torch.manual_seed(0)
    return build(config, findings).to(device).to(memory_format=torch.channels_last).train()


def step(
    net: YaoNet, images: torch.Tensor, labels: tuple[torch.Tensor, torch.Tensor], bf16: bool
) -> Callable[[], None]:
    """A whole training step."""
    optimizer = torch.optim.Adam(net.parameters(), 1e-3)

    def run() -> None:
        with torch.autocast(images.device.type, torch.bfloat16, enabled=bf16):
            logits = net.classify(net.backbone(images))
        loss = masked_bce(logits.float(), *labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return run


def part(
    net: YaoNet, resolution: int, batch: int, labels: tuple[torch.Tensor, torch.Tensor], bf16: bool
) -> Callable[[], None]:
    """Features to loss and back: the head and the pool."""
    device = net.weight.device
    shape = (batch, net.backbone.channels, resolution, resolution)
    features = torch.rand(shape, device=device, dtype=torch.bfloat16 if bf16 else torch.float32)
    features = features.contiguous(memory_format=torch.channels_last).requires_grad_(True)

    def run() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            logits = net.classify(features)
        torch.autograd.grad(masked_bce(logits.float(), *labels), features)

    return run


def medians(timed: dict[str, Callable[[], None]], rounds: int) -> dict[str, float]:
    """Median seconds of each, all taken in turn, the first round left out."""
    times: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds + 1):
        for name, function in timed.items():
            started = time.perf_counter()
            function()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times[name].append(time.perf_counter() - started)
    return {name: median(row[1:]) for name, row in times.items()}


if __name__ == "__main__":
    main()
