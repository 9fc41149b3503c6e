"""A training that was stopped and goes on ends with the weights, bit for bit, of one that was not."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import tiny
import torch
from lightning_fabric import Fabric
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from cxrlocus.data.loader import Loader
from cxrlocus.data.records import Index
from cxrlocus.data.transforms import Augmentation
from cxrlocus.errors import RunError
from cxrlocus.models.backbones import Backbone
from cxrlocus.models.camnet import CamNet
from cxrlocus.training.fit import Finals, FitConfig
from cxrlocus.training.interrupt import Interrupt

STEPS = 5
CONFIG = FitConfig(epochs=3, batch_size=8, lr=1e-2, precision="fp32")


class CamLogits(nn.Module):
    """The real network, with dropout before its head."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.cam, self.drop = CamNet(Backbone("test_resnet"), 2), nn.Dropout2d(0.2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.cam.classify(self.drop(self.cam.backbone(images)))


@pytest.fixture(scope="module")
def loader(planted: Index, cache: Path) -> Loader:
    made = tiny.make_loader(planted.split("train"), cache, augmentation=Augmentation())
    assert len(made) == STEPS
    return made


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "weights.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def log_without_times(folder: Path) -> list[dict[str, float]]:
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def interrupted(fabric: Fabric, loader: Loader, folder: Path, steps: tuple[int, ...], config: FitConfig) -> None:
    """Train, pressing Ctrl-C after each of these steps, and go on each time from a fresh network."""
    figures = tiny.Figures(0.5, 0.6, 0.7)
    for step in steps:
        stop = tiny.stop_after(step)
        with pytest.raises(KeyboardInterrupt):
            tiny.train(fabric, tiny.make_net(steps[0]), loader, folder, config, validate=figures, on_step=stop)
        torch.manual_seed(999)
    tiny.train(fabric, tiny.make_net(seed=77), loader, folder, config, validate=figures)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("steps", [(7,), (5,), (3, 9, 14)], ids=["mid-epoch", "end-of-epoch", "thrice"])
def test_stopped_and_resumed_is_bit_identical(
    fabric: Fabric, loader: Loader, tmp_path: Path, steps: tuple[int, ...], optimizer: str
) -> None:
    config = FitConfig(epochs=3, batch_size=8, lr=1e-2, precision="fp32", optimizer=optimizer)  # type: ignore[arg-type]  # a Literal
    first = tiny.make_net(steps[0])
    tiny.train(fabric, first, loader, tmp_path / "straight", config, validate=tiny.Figures(0.5, 0.6, 0.7))
    interrupted(fabric, loader, tmp_path / "stopped", steps, config)
    assert same(weights(tmp_path / "straight"), weights(tmp_path / "stopped"))
    assert log_without_times(tmp_path / "straight") == log_without_times(tmp_path / "stopped")


@pytest.mark.parametrize("channels_last", [True, False])
@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_the_real_network_resumes_bit_identically(
    loader: Loader, tmp_path: Path, precision: str, channels_last: bool
) -> None:
    fabric = Fabric(accelerator="cpu", devices=1, precision=precision)  # type: ignore[arg-type]  # a Literal
    fabric.launch()
    config = FitConfig(epochs=2, batch_size=8, lr=1e-3, channels_last=channels_last)
    tiny.train(fabric, CamLogits(), loader, tmp_path / "straight", config)
    with pytest.raises(KeyboardInterrupt):
        tiny.train(
            fabric,
            CamLogits(),
            loader,
            tmp_path / "stopped",
            config,
            on_step=tiny.stop_after(7),
            validate=tiny.Figures(0.5),
        )
    tiny.train(fabric, CamLogits(), loader, tmp_path / "stopped", config, validate=tiny.Figures(0.6))
    assert same(weights(tmp_path / "straight"), weights(tmp_path / "stopped"))


def test_another_seed_trains_something_else(fabric: Fabric, loader: Loader, tmp_path: Path) -> None:
    for seed in (1, 2):
        tiny.train(fabric, tiny.make_net(), loader, tmp_path / str(seed), CONFIG, seed=seed)
    assert not same(weights(tmp_path / "1"), weights(tmp_path / "2"))


def test_the_best_epoch_survives_a_stop(fabric: Fabric, loader: Loader, tmp_path: Path) -> None:
    net = tiny.make_net()
    with pytest.raises(KeyboardInterrupt):
        tiny.train(fabric, net, loader, tmp_path, CONFIG, validate=tiny.Figures(0.9), on_step=tiny.stop_after(8))
    best = weights(tmp_path)
    progress = tiny.train(fabric, tiny.make_net(), loader, tmp_path, CONFIG, validate=tiny.Figures(0.5))
    assert progress.best_epoch == 0
    assert progress.figures["auroc"] == 0.9
    assert same(weights(tmp_path), best)


@pytest.mark.parametrize("damage", ["cut", "text", "other"])
def test_a_damaged_resume_file_is_named(fabric: Fabric, loader: Loader, tmp_path: Path, damage: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        tiny.train(fabric, tiny.make_net(), loader, tmp_path, CONFIG, on_step=tiny.stop_after(2))
    path = tmp_path / "resume.safetensors"
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:-50])
    elif damage == "text":
        path.write_text("nonsense", encoding="utf-8")
    net = CamLogits() if damage == "other" else tiny.make_net()
    with pytest.raises(RunError, match=r"resume.safetensors: cannot be resumed from .*Delete the file"):
        tiny.train(fabric, net, loader, tmp_path, CONFIG)


def press_twice() -> None:
    with Interrupt() as interrupt:
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupt.asked
        os.kill(os.getpid(), signal.SIGINT)
        pytest.fail("the second Ctrl-C was ignored")


def test_the_second_interrupt_stops_at_once_and_the_old_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        press_twice()
    assert signal.getsignal(signal.SIGINT) is before


def test_a_stage_killed_between_its_log_and_its_checkpoint_logs_the_epoch_once(
    fabric: Fabric, loader: Loader, tmp_path: Path
) -> None:
    with pytest.raises(KeyboardInterrupt):
        tiny.train(fabric, tiny.make_net(), loader, tmp_path, CONFIG, on_step=tiny.stop_after(len(loader) + 1))
    with (tmp_path / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"epoch": 1}\n')
    tiny.train(fabric, tiny.make_net(), loader, tmp_path, CONFIG)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["epoch"] for row in rows] == list(range(CONFIG.epochs))
    assert all("seconds" in row for row in rows)


@pytest.mark.parametrize("steps", [(7,), (3, 9, 14)], ids=["mid-epoch", "thrice"])
def test_finalists_survive_a_stop(fabric: Fabric, loader: Loader, tmp_path: Path, steps: tuple[int, ...]) -> None:
    values = (0.7, 0.6, 0.5)

    def go(folder: Path, seed: int, stop: int | None) -> None:
        net, done = tiny.make_net(seed), 0
        if (folder / "log.jsonl").is_file():
            done = len(log_without_times(folder))
        tiny.train(
            fabric, net, loader, folder, CONFIG, validate=tiny.Figures(*values[done:]),
            on_step=tiny.stop_after(stop) if stop else None,
            finals=Finals(2, lambda: float(net.head.weight.detach().sum())),
        )  # fmt: skip

    go(tmp_path / "straight", 0, None)
    for k, step in enumerate(steps):
        with pytest.raises(KeyboardInterrupt):
            go(tmp_path / "stopped", k, step)
    go(tmp_path / "stopped", 77, None)
    assert same(weights(tmp_path / "straight"), weights(tmp_path / "stopped"))
    manifests = [(tmp_path / name / "manifest.json").read_bytes() for name in ("straight", "stopped")]
    assert manifests[0] == manifests[1]


def test_a_stage_stopped_while_its_finalists_are_scored_goes_on_there(
    fabric: Fabric, loader: Loader, tmp_path: Path
) -> None:
    scored: list[int] = []

    def score() -> float:
        scored.append(1)
        if len(scored) == 2:
            raise KeyboardInterrupt
        return -float(len(scored))

    finals = Finals(3, score)
    with pytest.raises(KeyboardInterrupt):
        tiny.train(fabric, tiny.make_net(), loader, tmp_path, CONFIG, finals=finals)
    assert not (tmp_path / "manifest.json").exists()
    steps: list[int] = []
    progress = tiny.train(
        fabric, tiny.make_net(9), loader, tmp_path, CONFIG, on_step=lambda d, *_: steps.append(d), finals=finals
    )
    assert (steps, len(scored)) == ([], 5)
    # The figures rise, so the last epoch is scored first, and each score is below the one before.
    assert progress.best_epoch == 2


def test_what_was_saved_before_there_were_finalists_goes_on(fabric: Fabric, loader: Loader, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        tiny.train(fabric, tiny.make_net(), loader, tmp_path / "a", CONFIG, on_step=tiny.stop_after(7))
    path = tmp_path / "a" / "resume.safetensors"
    with safe_open(path, "pt") as file:
        header, tensors = json.loads(file.metadata()["resume"]), {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118
    del header["progress"]["finalists"]
    save_file(tensors, path, metadata={"resume": json.dumps(header)})
    tiny.train(fabric, tiny.make_net(9), loader, tmp_path / "a", CONFIG, validate=tiny.Figures(0.6, 0.7, 0.8))
    tiny.train(fabric, tiny.make_net(), loader, tmp_path / "b", CONFIG)
    assert same(weights(tmp_path / "a"), weights(tmp_path / "b"))
