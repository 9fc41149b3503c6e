"""A training step by precision and memory layout: where bfloat16 and channels-last pay, and where they do not.

    python benchmarks/layout.py [--size 224] [--batch 8] [--rounds 3]

Prints milliseconds a step of each combination and the ratio to float32 in the plain layout. Dilated depthwise
convolutions (MobileNetV2 at stride 16) are the case to look at.
"""

from __future__ import annotations

import cxrlocus  # noqa: F401  # isort: skip (first: it sets what torch reads when it starts)

import argparse
import time
from statistics import median

import torch

from cxrlocus.models.backbones import Backbone
from cxrlocus.training.machine import describe_machine

NETWORKS = (("resnet18", 32), ("resnet18", 16), ("mobilenetv2_100", 32), ("mobilenetv2_100", 16))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print(f"{args.size} px, batch {args.batch}, ms a step, {describe_machine()}")
    images = torch.rand(args.batch, 1, args.size, args.size)
    for name, stride in NETWORKS:
        nets = {last: Backbone(name, stride=stride).train() for last in (False, True)}
        nets[True].to(memory_format=torch.channels_last)
        ways = [(bf16, last) for bf16 in (False, True) for last in (False, True)]
        times: dict[tuple[bool, bool], list[float]] = {way: [] for way in ways}
        for _ in range(args.rounds + 1):
            for bf16, last in ways:
                times[bf16, last].append(step(nets[last], images, bf16=bf16))
        ms = {way: 1000 * median(row[1:]) for way, row in times.items()}
        told = [
            f"{'bf16' if bf16 else 'fp32'} {'channels-last' if last else 'plain'} {ms[bf16, last]:.0f}"
            f" ({ms[bf16, last] / ms[False, False]:.2f}x)"
            for bf16, last in ways
        ]
        print(f"  {name} stride {stride}: {', '.join(told)}")


def step(net: Backbone, images: torch.Tensor, *, bf16: bool) -> float:
    """Seconds of a forward and a backward pass."""
    started = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
        features = net(images)
    features.float().mean().backward()
    net.zero_grad(set_to_none=True)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
