"""Maps and boxes of 14 findings, against the bare backbone's forward and against pytorch-grad-cam on the same network.

    python benchmarks/explain.py [--backbone resnet50] [--size 512] [--batch 8] [--rounds 5]

Prints the median time a film of each and the two ratios. Goals: 1.1x of the bare backbone; 14x faster than gradients.
"""

from __future__ import annotations

import cxrlocus  # noqa: F401  # isort: skip (first: it sets what torch reads when it starts)

import argparse
import time
import warnings
from collections.abc import Callable
from statistics import median

import numpy as np
import torch

from cxrlocus.methods.cam.model import CamLocalizer
from cxrlocus.models.backbones import Backbone
from cxrlocus.models.camnet import CamNet
from cxrlocus.regions.detect import detect
from cxrlocus.regions.rules import FixedThresholds, PeakComponent
from cxrlocus.training.machine import bf16_pays, describe_machine
from cxrlocus.types import NIH14, Frame


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--backbone", default="resnet50")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    torch.manual_seed(0)
    net = CamNet(Backbone(args.backbone), findings=len(NIH14)).eval().to(memory_format=torch.channels_last)
    images = torch.rand(args.batch, 1, args.size, args.size)
    print(f"{args.backbone} at {args.size} px, batch {args.batch}, 14 findings, {describe_machine()}")
    timed = {f"{name}, fp32": function for name, function in contenders(net, images, bf16=False).items()}
    # pytorch-grad-cam converts activations to numpy, which has no bfloat16: it stands in the fp32 rows only.
    timed[GRAD_CAM] = gradients(net, images)
    if bf16_pays("cpu"):
        timed |= {f"{name}, bf16": function for name, function in contenders(net, images, bf16=True).items()}
    ms = medians(timed, args.rounds, args.batch)
    for name, value in ms.items():
        bare = ms[f"{BARE}, {'bf16' if name.endswith('bf16') else 'fp32'}"]
        print(f"  {name:42s} {value:9.2f} ms a film  {value / bare:6.2f}x of the bare backbone")
    print(f"  pytorch-grad-cam / ours (one box a map), fp32: {ms[GRAD_CAM] / ms[f'{ONE_BOX}, fp32']:.1f}x")


BARE, ONE_BOX, LEVELS = "bare backbone forward", "maps, one box a map", "maps, boxes at levels 60 and 180"
GRAD_CAM = "pytorch-grad-cam, maps only, fp32"


def contenders(net: CamNet, images: torch.Tensor, *, bf16: bool) -> dict[str, Callable[[], None]]:
    """The backbone alone, and all findings' maps with their boxes by two rules."""
    size, batch = images.shape[-1], len(images)
    localizer = CamLocalizer(net, NIH14, size=size, fit="letterbox", bf16=bf16)
    frames, sizes = np.stack([Frame.of_size(1024, 1024).matrix] * batch), np.full((batch, 2), 1024)
    names = tuple(f"{k}.png" for k in range(batch))

    @torch.no_grad()
    def bare() -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            net.backbone(images)

    def ours(rule: FixedThresholds | PeakComponent) -> Callable[[], None]:
        def run() -> None:
            said = localizer.explain(images, frames)
            detect(rule, said.maps.numpy(), frames, sizes, names, NIH14)

        return run

    return {BARE: bare, ONE_BOX: ours(PeakComponent()), LEVELS: ours(FixedThresholds())}


def medians(timed: dict[str, Callable[[], None]], rounds: int, batch: int) -> dict[str, float]:
    """Median milliseconds a film, all taken in turn, the first round left out."""
    times: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds + 1):
        for name, function in timed.items():
            started = time.perf_counter()
            function()
            times[name].append(time.perf_counter() - started)
    return {name: 1000 * median(row[1:]) / batch for name, row in times.items()}


def gradients(net: CamNet, images: torch.Tensor) -> Callable[[], None]:
    """pytorch-grad-cam's Grad-CAM of every finding, as its documentation has it: a call for each target."""
    from pytorch_grad_cam import GradCAM
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = net

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.net.classify(self.net.backbone(x)).float()

    def run() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with GradCAM(model=Logits(), target_layers=[net.backbone]) as cam:
                for c in range(len(NIH14)):
                    cam(input_tensor=images, targets=[ClassifierOutputTarget(c)] * len(images))

    return run


if __name__ == "__main__":
    main()
