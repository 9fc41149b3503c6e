"""A training step of a depthwise backbone against the same with torch's own strided and dilated convolutions.

    python benchmarks/depthwise.py [--backbone mobilenetv2_100] [--stride 32] [--size 256] [--batch 16] [--rounds 7]

Prints the least time of both, taken in turn, and the ratio; bfloat16 autocast on a CPU.
"""

from __future__ import annotations

import cxrlocus  # noqa: F401  # isort: skip (first: it sets what torch reads when it starts)

import argparse
import time

import torch
from torch import nn

from cxrlocus.models.backbones import Backbone
from cxrlocus.models.depthwise import Float32Depthwise
from cxrlocus.training.machine import describe_machine


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backbone", default="mobilenetv2_100")
    parser.add_argument("--stride", type=int, default=32, choices=(16, 32))
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    films = torch.rand(args.batch, 1, args.size, args.size)
    ours, plain = (Backbone(args.backbone, stride=args.stride).to(memory_format=torch.channels_last) for _ in range(2))
    for module in plain.modules():
        if isinstance(module, Float32Depthwise):
            module.__class__ = nn.Conv2d
    times = [(step(plain, films), step(ours, films)) for _ in range(args.rounds)]
    p, o = (1000 * min(column) for column in zip(*times, strict=True))
    machine = f"{describe_machine()}, threads: {torch.get_num_threads()}"
    print(f"{args.backbone}, stride {args.stride}, {args.size} px, batch {args.batch}, {machine}")
    print(f"  torch's own  {p:8.1f} ms a step\n  in float32   {o:8.1f} ms a step\n  ratio: {p / o:.2f}x")


def step(net: nn.Module, films: torch.Tensor) -> float:
    """Seconds of one pass forward and back."""
    started = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16):
        loss = net(films).float().square().mean()
    net.zero_grad(set_to_none=True)
    loss.backward()
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
