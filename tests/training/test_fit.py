"""The training loop: it learns, keeps the best, stops when it should, and says what went wrong."""

from __future__ import annotations

import errno
import itertools
import json
import math
from pathlib import Path

import pytest
import tiny
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning_fabric import Fabric
from safetensors.torch import load_file

from cxrlocus.data.records import Index
from cxrlocus.errors import ConfigError, CxrlocusError
from cxrlocus.training import checkpoint
from cxrlocus.training.fit import Finals, FitConfig, make_optimizer, rate_factor, set_lr

QUICK = FitConfig(epochs=2, batch_size=8, lr=1e-2, precision="fp32")


def log_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def test_the_loss_falls_on_planted_squares(fabric: Fabric, planted: Index, cache: Path, tmp_path: Path) -> None:
    loader = tiny.make_loader(planted.split("train"), cache)
    config = FitConfig(epochs=24, batch_size=8, lr=2e-2, precision="fp32")
    tiny.train(fabric, tiny.make_net(), loader, tmp_path, config)
    losses = [row["bce"] for row in log_of(tmp_path)]
    chance = math.log(2)
    assert losses[0] > 0.9 * chance
    assert losses[-1] < 0.6 * chance


def test_the_checkpoint_is_the_best_epochs(fabric: Fabric, planted: Index, cache: Path, tmp_path: Path) -> None:
    loader, seen = tiny.make_loader(planted, cache), []
    net = tiny.make_net()

    class Noting(tiny.Figures):
        def __call__(self) -> dict[str, float]:
            seen.append({k: v.clone() for k, v in net.state_dict().items()})
            return dict(super().__call__())

    config = FitConfig(epochs=4, batch_size=8, precision="fp32")
    progress = tiny.train(fabric, net, loader, tmp_path, config, validate=Noting(0.6, 0.8, 0.7, 0.8))
    kept = load_file(tmp_path / "weights.safetensors")
    assert progress.best_epoch == 1
    assert progress.figures["auroc"] == 0.8
    assert all(torch.equal(kept[k], v) for k, v in seen[1].items())
    assert not all(torch.equal(kept[k], v) for k, v in seen[3].items())


@pytest.mark.parametrize(
    ("select", "figures", "best"),
    [
        ("auroc", (0.6, 0.8, 0.7), 1),
        ("val_loss", (0.6, 0.8, 0.7), 0),
        ("auroc", (math.nan, math.nan, math.nan), 2),
        ("auroc", (math.nan, 0.6, 0.5), 1),
        ("auroc", (0.6, math.nan, 0.5), 0),
    ],
)
def test_the_best_epoch_by_the_figure(
    fabric: Fabric, planted: Index, cache: Path, tmp_path: Path, select: str, figures: tuple[float, ...], best: int
) -> None:
    config = FitConfig(epochs=3, batch_size=32, select=select, precision="fp32")
    validate = tiny.Figures(*figures)
    progress = tiny.train(
        fabric, tiny.make_net(), tiny.make_loader(planted, cache), tmp_path, config, validate=validate
    )
    assert progress.best_epoch == best


@pytest.mark.parametrize(("start", "best"), [(0.8, -1), (0.9, -1), (0.7, 1), (math.nan, 1)])
def test_the_start_is_kept_where_no_epoch_is_better(
    fabric: Fabric, planted: Index, cache: Path, tmp_path: Path, start: float, best: int
) -> None:
    net, loader = tiny.make_net(), tiny.make_loader(planted, cache)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    progress = tiny.train(fabric, net, loader, tmp_path, QUICK, validate=tiny.Figures(start, 0.5, 0.8), from_start=True)
    assert progress.best_epoch == best
    assert progress.start == ({} if math.isnan(start) else {"auroc": start, "val_loss": start})
    assert len(log_of(tmp_path)) == QUICK.epochs
    kept = load_file(tmp_path / "weights.safetensors")
    assert all(torch.equal(kept[k], v) for k, v in before.items()) == (best == -1)


def test_stopped_after_the_start_it_is_not_measured_again(
    fabric: Fabric, planted: Index, cache: Path, tmp_path: Path
) -> None:
    loader, figures = tiny.make_loader(planted, cache), tiny.Figures(0.9, 0.5, 0.6)
    with pytest.raises(KeyboardInterrupt):
        tiny.train(
            fabric, tiny.make_net(), loader, tmp_path, QUICK, validate=figures, on_step=tiny.stop_after(1),
            from_start=True,
        )  # fmt: skip
    progress = tiny.train(fabric, tiny.make_net(), loader, tmp_path, QUICK, validate=figures, from_start=True)
    assert (progress.best_epoch, progress.best, figures.calls) == (-1, 0.9, 1 + QUICK.epochs)
    kept = load_file(tmp_path / "weights.safetensors")
    assert all(torch.equal(kept[k], v) for k, v in tiny.make_net().state_dict().items())


def test_patience_stops(fabric: Fabric, planted: Index, cache: Path, tmp_path: Path) -> None:
    config = FitConfig(epochs=9, batch_size=32, patience=2, precision="fp32")
    validate = tiny.Figures(0.5, 0.6, 0.6, 0.6, 0.9)
    progress = tiny.train(
        fabric, tiny.make_net(), tiny.make_loader(planted, cache), tmp_path, config, validate=validate
    )
    assert (progress.epoch, progress.best_epoch) == (4, 1)
    assert (tmp_path / "manifest.json").is_file()


def test_the_folder_holds_what_it_should(fabric: Fabric, planted: Index, cache: Path, tmp_path: Path) -> None:
    steps: list[tuple[int, int]] = []
    loader = tiny.make_loader(planted, cache)
    tiny.train(
        fabric, tiny.make_net(), loader, tmp_path, QUICK, on_step=lambda done, total, _: steps.append((done, total))
    )
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log.jsonl", "manifest.json", "weights.safetensors"]
    manifest = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["seed"] == 11
    assert manifest["config"]["lr"] == 1e-2
    assert manifest["progress"]["epoch"] == 2
    assert steps == [(k + 1, 12) for k in range(12)]
    assert [row["epoch"] for row in log_of(tmp_path)] == [0, 1]


def test_a_loss_that_is_not_finite_is_an_error(fabric: Fabric, planted: Index, cache: Path, tmp_path: Path) -> None:
    net = tiny.make_net()
    net.head.bias.data.fill_(math.nan)
    with pytest.raises(CxrlocusError, match=r"loss is not finite in epoch 1 .*Lower lr \(now 0.01\)"):
        tiny.train(fabric, net, tiny.make_loader(planted, cache), tmp_path, QUICK)
    assert not (tmp_path / "manifest.json").exists()
    assert not (tmp_path / "weights.safetensors").exists()


def test_a_figure_of_no_known_direction_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(ConfigError, match="select must be one of auroc, accuracy, val_loss, cell_loss; got 'dice'"):
        FitConfig(select="dice")


def test_a_known_figure_that_the_stage_does_not_measure_cannot_choose(
    fabric: Fabric, planted: Index, cache: Path, tmp_path: Path
) -> None:
    config = FitConfig(epochs=1, batch_size=32, select="val_loss", precision="fp32")
    with pytest.raises(ConfigError, match="select must be one of the validation figures auroc; got 'val_loss'"):
        tiny.train(
            fabric,
            tiny.make_net(),
            tiny.make_loader(planted, cache),
            tmp_path,
            config,
            validate=lambda: {"auroc": 0.5},
        )


def test_a_full_disk_is_an_error_and_what_was_written_stands(
    fabric: Fabric, planted: Index, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loader, save, full = tiny.make_loader(planted, cache), checkpoint.save_file, []

    def save_until_full(tensors: dict[str, torch.Tensor], path: Path, metadata: dict[str, str]) -> None:
        full.append(path.name)
        if len(full) > 2:
            path.write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        save(tensors, path, metadata=metadata)

    monkeypatch.setattr(checkpoint, "save_file", save_until_full)
    with pytest.raises(CxrlocusError, match=r"weights.safetensors: cannot be written .*No space left on device"):
        tiny.train(fabric, tiny.make_net(), loader, tmp_path / "full", QUICK)
    assert load_file(tmp_path / "full" / "weights.safetensors")
    monkeypatch.undo()
    tiny.train(fabric, tiny.make_net(seed=9), loader, tmp_path / "full", QUICK, validate=tiny.Figures(0.6))
    tiny.train(fabric, tiny.make_net(), loader, tmp_path / "never", QUICK)
    one, other = (load_file(tmp_path / name / "weights.safetensors") for name in ("full", "never"))
    assert all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_only_matrices_decay_and_the_head_has_its_own_rate(optimizer: str) -> None:
    net = tiny.make_net()
    config = FitConfig(optimizer=optimizer, lr=0.1, head_lr=5.0, weight_decay=0.3)  # type: ignore[arg-type]  # a Literal
    made = make_optimizer(net, list(net.head.parameters()), config)
    rates = {id(p): (g["lr"], g["weight_decay"]) for g in made.param_groups for p in g["params"]}
    assert len(rates) == len(list(net.parameters()))
    for name, parameter in net.named_parameters():
        expected = (
            0.5 if name.startswith("head") else 0.1,
            0.3 if name in {"head.weight", "body.0.weight", "body.3.weight"} else 0.0,
        )
        assert rates[id(parameter)] == pytest.approx(expected), name


def test_frozen_parameters_are_left_out() -> None:
    net = tiny.make_net()
    net.body.requires_grad_(False)
    made = make_optimizer(net, (), FitConfig())
    assert {id(p) for g in made.param_groups for p in g["params"]} == {id(p) for p in net.head.parameters()}


def test_set_lr_scales_each_groups_peak() -> None:
    net = tiny.make_net()
    made = make_optimizer(net, list(net.head.parameters()), FitConfig(lr=0.1, head_lr=5.0))
    for factor in (0.5, 0.1):
        set_lr(made, factor)
        assert sorted({round(g["lr"], 9) for g in made.param_groups}) == pytest.approx([0.1 * factor, 0.5 * factor])


def test_the_rate_warms_up_and_falls() -> None:
    config = FitConfig(warmup=0.2)
    rates = [rate_factor(step, 50, config) for step in range(50)]
    assert rates[:10] == pytest.approx([k / 10 for k in range(1, 11)])
    assert all(a > b for a, b in itertools.pairwise(rates[10:]))
    # python -c "import math; print(.5*(1+math.cos(math.pi*20/40)), .5*(1+math.cos(math.pi*39/40)))"
    assert rates[30] == pytest.approx(0.5)
    assert rates[49] == pytest.approx(0.0015413331334360181)


def test_a_constant_rate_stays() -> None:
    config = FitConfig(warmup=0.0, schedule="constant")
    assert [rate_factor(step, 5, config) for step in range(5)] == [1.0] * 5


@given(st.integers(1, 200), st.floats(0, 0.99), st.sampled_from(["cosine", "constant"]))
def test_the_rate_is_a_share_of_its_peak(steps: int, warmup: float, schedule: str) -> None:
    config = FitConfig(warmup=warmup, schedule=schedule)  # type: ignore[arg-type]  # a Literal
    rates = [rate_factor(step, steps, config) for step in range(steps)]
    assert all(0 <= rate <= 1 for rate in rates)
    assert rates[0] > 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epochs", 0), ("batch_size", 0), ("optimizer", "lion"), ("schedule", "step"), ("lr", 0.0), ("lr", -1.0),
        ("lr", math.nan), ("lr", math.inf), ("head_lr", 0.0), ("weight_decay", -0.1), ("warmup", 1.0), ("warmup", -0.1),
        ("clip", -1.0), ("patience", -1),
    ],
)  # fmt: skip
def test_options_out_of_range_are_refused(name: str, value: object) -> None:
    with pytest.raises(ConfigError, match=f"^{name} must be .*; got "):
        FitConfig(**{name: value})  # type: ignore[arg-type]  # wrong on purpose


class Noting(tiny.Figures):
    """Figures given beforehand, and the weights that they were said of."""

    def __init__(self, net: torch.nn.Module, *values: float) -> None:
        super().__init__(*values)
        self.net, self.seen = net, list[dict[str, torch.Tensor]]()

    def __call__(self) -> dict[str, float]:
        self.seen.append({k: v.clone() for k, v in self.net.state_dict().items()})
        return dict(super().__call__())

    def epoch(self) -> int:
        """Of which epoch the network's weights are."""
        now = self.net.state_dict()
        return next(i for i, one in enumerate(self.seen) if all(torch.equal(one[k], now[k]) for k in now))


@pytest.mark.parametrize(
    ("figures", "scores", "count", "finalists", "best"),
    [
        ((0.6, 0.8, 0.7, 0.5), {1: 0.1, 2: 0.3}, 2, [1, 2], 2),
        ((0.6, 0.8, 0.7, 0.5), {1: 0.3, 2: 0.1}, 2, [1, 2], 1),
        ((0.6, 0.8, 0.7, 0.5), {1: -9.0}, 1, [1], 1),
        ((0.6, 0.8, 0.7, 0.5), {0: 0.5, 1: 0.4, 2: 0.3, 3: 0.9}, 9, [1, 2, 0, 3], 3),
        ((0.7, 0.7, 0.7, 0.7), {0: 0.1, 1: 0.2}, 2, [0, 1], 1),
        ((math.nan, 0.1, math.nan, 0.2), {3: 0.1, 1: 0.1, 0: 0.4}, 3, [3, 1, 0], 0),
        ((0.6, 0.8, 0.7, 0.5), {1: math.nan, 2: -3.0}, 2, [1, 2], 2),
        ((0.6, 0.8, 0.7, 0.5), {1: 0.2, 2: 0.2}, 2, [1, 2], 1),
    ],
)
def test_of_the_best_epochs_the_one_with_the_best_score_is_kept(
    fabric: Fabric, planted: Index, cache: Path, tmp_path: Path,
    figures: tuple[float, ...], scores: dict[int, float], count: int, finalists: list[int], best: int,
) -> None:  # fmt: skip
    net, asked = tiny.make_net(), list[int]()
    noting = Noting(net, *figures)

    def score() -> float:
        asked.append(noting.epoch())
        return scores[asked[-1]]

    config = FitConfig(epochs=4, batch_size=16, lr=1e-2, precision="fp32")
    progress = tiny.train(
        fabric, net, tiny.make_loader(planted, cache), tmp_path, config, validate=noting, finals=Finals(count, score)
    )
    assert asked == finalists
    assert progress.best_epoch == best
    kept = load_file(tmp_path / "weights.safetensors")
    assert all(torch.equal(kept[k], v) for k, v in noting.seen[best].items())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["log.jsonl", "manifest.json", "weights.safetensors"]
    told = json.loads((tmp_path / "manifest.json").read_text(encoding="utf-8"))["progress"]["finalists"]
    assert [one["epoch"] for one in told] == finalists
    assert [one.get("score") for one in told] == [None if math.isnan(scores[e]) else scores[e] for e in finalists]


def test_while_it_trains_only_the_finalists_and_the_last_weights_are_on_disk(
    fabric: Fabric, planted: Index, cache: Path, tmp_path: Path
) -> None:
    counts: list[int] = []
    config = FitConfig(epochs=5, batch_size=48, lr=1e-2, precision="fp32")
    tiny.train(
        fabric, tiny.make_net(), tiny.make_loader(planted, cache, batch_size=48), tmp_path, config,
        on_step=lambda *_: counts.append(len(list((tmp_path / "finalists").glob("*")))),
        finals=Finals(2, lambda: 0.0),
    )  # fmt: skip
    assert counts == [0, 1, 2, 3, 3]
