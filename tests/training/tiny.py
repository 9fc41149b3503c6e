"""A tiny network with everything that makes resuming hard: batch norm, dropout, biases, momentum."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from cxrlocus.data.cache import open_films
from cxrlocus.data.loader import Loader
from cxrlocus.data.records import Index
from cxrlocus.data.transforms import Augmentation
from cxrlocus.functional.losses import masked_bce
from cxrlocus.training.fit import Finals, FitConfig, OnStep, Progress, fit
from cxrlocus.types import Batch

SIZE = 32


class TinyNet(nn.Module):
    def __init__(self, findings: int = 2) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(1, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True),
            nn.Conv2d(8, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.Dropout2d(0.3),
        )  # fmt: skip
        self.head = nn.Linear(8, findings)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.body(images).amax((-2, -1)))


class TinyObjective(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return {"bce": masked_bce(self.net(batch.images).float(), batch.target, batch.known)}


def make_loader(index: Index, cache: Path, *, batch_size: int = 8, augmentation: Augmentation | None = None) -> Loader:
    films = open_films(index, size=SIZE, folder=cache)
    return Loader(index, films, batch_size, shuffle=True, seed=3, augmentation=augmentation)


def make_net(seed: int = 0) -> TinyNet:
    torch.manual_seed(seed)
    return TinyNet()


class Figures:
    """A validation whose figures are given beforehand, one an epoch."""

    def __init__(self, *values: float) -> None:
        self.values, self.calls = values, 0

    def __call__(self) -> Mapping[str, float]:
        value = self.values[min(self.calls, len(self.values) - 1)]
        self.calls += 1
        return {"auroc": value, "val_loss": value}


def stop_after(step: int) -> OnStep:
    """Ctrl-C once a step is done."""

    def on_step(done: int, _total: int, _words: str) -> None:
        if done == step:
            signal.raise_signal(signal.SIGINT)

    return on_step


def train(
    fabric: Fabric,
    net: nn.Module,
    loader: Loader,
    folder: Path,
    config: FitConfig,
    *,
    validate: Figures | None = None,
    on_step: OnStep | None = None,
    head: tuple[nn.Parameter, ...] = (),
    seed: int = 11,
    finals: Finals | None = None,
    from_start: bool = False,
) -> Progress:
    figures = validate or Figures(0.5, 0.6, 0.7, 0.8, 0.9)
    objective = TinyObjective(net)
    return fit(
        fabric, objective, net, loader, figures, config, folder, seed=seed, head=head, on_step=on_step, finals=finals,
        from_start=from_start,
    )  # fmt: skip
