"""Randomized weights: which layer is the head, what a shuffle keeps, and maps that need no weights are named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from contract import train_tiny
from lightning_fabric import Fabric
from torch import Tensor, nn

from cxrlocus.data.cache import open_films
from cxrlocus.data.records import Index
from cxrlocus.methods import METHODS, load_run
from cxrlocus.study.sanity.rows import Row
from cxrlocus.study.sanity.weights import check_weights, judge_weights, layers_from_head, randomize, rank_correlation
from cxrlocus.types import Explained, Findings, FloatArray


class Blobs(nn.Module):
    """A filter that finds bright squares among many that find dark ones, and a head beside them that knows which."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.eye(8)[0])
        self.first = nn.Conv2d(1, 8, 9, padding=4, bias=False)
        self.first.weight.data = (
            torch.where(torch.arange(8) == 0, 1.0, -1.0)[:, None, None, None].expand(8, 1, 9, 9).clone()
        )
        self.norm = nn.BatchNorm2d(8)
        self.unused = nn.Linear(3, 3)


class Finds:
    """Points at what its network finds; ``deaf`` leaves the network's word out."""

    findings, size, fit = Findings(("Mass",)), 64, "letterbox"

    def __init__(self, deaf: bool = False) -> None:
        self.net, self.deaf = Blobs().eval(), deaf

    @torch.no_grad()
    def explain(self, images: Tensor, frames: FloatArray) -> Explained:
        found = self.net.norm(self.net.first(images))
        maps = (found * self.net.weight[:, None, None]).sum(dim=1, keepdim=True)
        maps = images if self.deaf else maps
        return Explained(torch.full((len(images), 1), 0.5), maps, frames, "logit")


def alone(planted: Index) -> Index:
    """Films that show a Mass and no Nodule, which is as bright; all of them, though of split train."""
    index = planted.only(("Mass",))
    return index.subset(
        [i for i, r in enumerate(index.records) if r.boxes and not planted.records[i].positive - {"Mass"}]
    )


def test_the_head_is_what_is_done_last() -> None:
    one = Finds()
    order = layers_from_head(one, torch.rand(1, 1, 64, 64))  # type: ignore[arg-type]  # a stand-in
    assert order == [one.net, one.net.norm, one.net.first, one.net.unused]


@pytest.mark.parametrize("method", METHODS)
def test_every_method_has_layers_and_its_maps_need_them(
    method: str, planted: Index, cache: Path, fabric: Fabric, tmp_path: Path
) -> None:
    """After one epoch: that all weights are found, and that shuffling them changes the maps."""
    options = {"epochs": "1"}
    run = train_tiny(method, planted, tmp_path / "run", cache, fabric, **options)
    (localizer, _), (other, _) = load_run(run), load_run(run)
    images = torch.rand(2, 1, localizer.size, localizer.size, generator=torch.Generator().manual_seed(0))
    frames = np.tile(np.eye(2, 3), (2, 1, 1))
    order = layers_from_head(other, images)
    ours = {id(p) for m in order for p in m.parameters(recurse=False)}
    nets = [v for v in vars(other).values() if isinstance(v, nn.Module)]
    assert ours == {id(p) for net in nets for p in net.parameters()}
    before = localizer.explain(images, frames).maps
    assert torch.equal(before, other.explain(images, frames).maps)
    randomize(order, seed=0)
    assert not torch.allclose(before, other.explain(images, frames).maps)


def test_a_shuffle_keeps_the_numbers_and_follows_its_seed() -> None:
    nets = [nn.Sequential(nn.Conv2d(2, 8, 3), nn.BatchNorm2d(8)) for _ in range(3)]
    for net in nets[1:]:
        net.load_state_dict(nets[0].state_dict())
    nets[1][1].running_var.copy_(torch.arange(8.0) + 1)
    nets[2].load_state_dict(nets[1].state_dict())
    randomize(list(nets[1]), seed=1)
    randomize(list(nets[2]), seed=1)
    assert torch.equal(nets[1][0].weight, nets[2][0].weight)
    assert not torch.equal(nets[0][0].weight, nets[1][0].weight)
    assert torch.equal(nets[0][0].weight.flatten().sort().values, nets[1][0].weight.flatten().sort().values)
    assert sorted(nets[1][1].running_var.tolist()) == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    randomize(list(nets[2]), seed=2)
    assert not torch.equal(nets[1][0].weight, nets[2][0].weight)


@pytest.mark.parametrize(("deaf", "verdict"), [(False, "pass"), (True, "fail")])
def test_maps_that_need_no_weights_are_named(
    planted: Index, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, deaf: bool, verdict: str
) -> None:
    monkeypatch.setattr("cxrlocus.study.sanity.weights.LEAST", 10)
    index = alone(planted)
    films = open_films(index, size=64, folder=cache)
    rows, told = check_weights(lambda: Finds(deaf), films, index, seed=0, scratch=tmp_path)  # type: ignore[arg-type,return-value]  # a stand-in
    assert told.verdict == verdict
    by = {(r.subject, r.quantity): r for r in rows}
    assert by["none", "accuracy"].value > 0.8
    assert by["all", "accuracy"].value == pytest.approx(by["none", "accuracy"].value - by["all", "accuracy lost"].value)
    assert (by["all", "rank correlation"].value == pytest.approx(1.0)) == deaf
    assert list(tmp_path.iterdir()) == []


def test_too_few_boxes_decide_nothing(planted: Index, cache: Path, tmp_path: Path) -> None:
    index = alone(planted).subset([0, 1])
    films = open_films(index, size=64, folder=cache)
    rows, told = check_weights(Finds, films, index, seed=0, scratch=tmp_path)  # type: ignore[arg-type]  # a stand-in
    assert (rows, told.verdict) == ([], "undecided")


@pytest.mark.parametrize(
    ("value", "lo", "hi", "verdict"),
    [
        (0.2, 0.1, 0.3, "pass"),
        (0.0, -0.1, 0.1, "fail"),
        (0.01, -0.01, 0.04, "fail"),
        (0.1, -0.01, 0.2, "undecided"),
        (0.02, 0.01, 0.04, "fail"),
    ],
)
def test_what_is_a_fail(value: float, lo: float, hi: float, verdict: str) -> None:
    assert judge_weights([Row("weights", "all", "accuracy lost", value, lo, hi, 100)]).verdict == verdict


def test_parts_that_lose_nothing_are_named() -> None:
    losses = [Row("weights", part, "accuracy lost", v, v - 0.1, v + 0.1, 100)
              for part, v in (("head", 0.2), ("last half", -0.1), ("all", 0.3))]  # fmt: skip
    verdict = judge_weights(losses)
    assert verdict.verdict == "pass"
    assert verdict.reason.endswith("none with these alone: last half")


def test_correlation_leaves_out_cells_that_one_does_not_reach() -> None:
    draw = np.random.default_rng(0)
    one, other = draw.random((5, 5)), draw.random((5, 5))
    expected = float(np.corrcoef(one.ravel(), other.ravel())[0, 1])
    assert rank_correlation(one, other) == pytest.approx(expected)
    wide = np.pad(one, 1, constant_values=np.nan)
    assert rank_correlation(wide, np.pad(other, 1, constant_values=9.0)) == pytest.approx(expected)
    assert np.isnan(rank_correlation(np.ones((2, 2)), other[:2, :2]))
