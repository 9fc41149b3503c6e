"""What classifier stages share: objective, starting bias, parts of the data, validation figures."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from cxrlocus.data.records import Index
from cxrlocus.errors import CxrlocusError
from cxrlocus.functional.losses import LOSSES
from cxrlocus.methods.base import Recipe, learned_films
from cxrlocus.methods.cam.config import CamConfig
from cxrlocus.methods.classification import ClassifierObjective, Part, log_odds, training_parts, validator
from cxrlocus.metrics.ranking import auroc
from cxrlocus.models.backbones import Backbone
from cxrlocus.models.camnet import CamNet
from cxrlocus.types import Batch

CONFIG = CamConfig(backbone="test_resnet", size=64, batch_size=5, val_fraction=0.25)


@pytest.fixture(scope="module")
def net() -> CamNet:
    torch.manual_seed(0)
    return CamNet(Backbone("test_resnet"), 2)


def recipe(index: Index, folder: Path, cache: Path, fabric: Fabric) -> Recipe[Any]:
    return Recipe(folder, index, CONFIG, 0, fabric, cache)


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_the_objective_is_the_loss_of_the_logits(net: CamNet, loss: str) -> None:
    net.eval()
    batch = Batch(
        torch.rand(3, 1, 64, 64), torch.tensor([[1.0, 0], [0, 1], [0, 0]]), torch.ones(3, 2).bool(), torch.arange(3)
    )
    with torch.no_grad():
        losses = ClassifierObjective(net, loss)(batch)
        expected = LOSSES[loss](net(batch.images).logits, batch.target, batch.known)
    assert list(losses) == [loss]
    torch.testing.assert_close(losses[loss], expected)


def test_log_odds_count_known_labels_only() -> None:
    target = np.array([[1, 0], [1, 1], [0, 1], [0, 0]], dtype=np.uint8)
    known = np.array([[True, False], [True, False], [True, False], [False, False]])
    assert log_odds(target, known).tolist() == pytest.approx([math.log(3 / 2), 0.0])


def test_a_part_of_the_patients_is_held_out_and_written_down(
    planted: Index, tmp_path: Path, cache: Path, fabric: Fabric
) -> None:
    train, val = training_parts(recipe(planted.split("train"), tmp_path, cache, fabric))
    assert len(train.index) + len(val.index) == 36
    assert len(val.index) == pytest.approx(9, abs=2)
    assert not set(train.index.patients) & set(val.index.patients)
    assert tuple((tmp_path / "val_list.txt").read_text(encoding="utf-8").split()) == val.index.images
    assert train.loader.augmentation is not None
    assert val.loader.augmentation is None


def test_boxed_films_that_join_are_learned_from_and_choose_nothing(
    planted: Index, tmp_path: Path, cache: Path, fabric: Fabric
) -> None:
    for name in ("one", "both"):
        (tmp_path / name).mkdir()
    alone, chosen = training_parts(recipe(planted.split("train"), tmp_path / "one", cache, fabric))
    both = replace(CONFIG, setting="transductive")
    films = learned_films(both, planted)
    train, val = training_parts(replace(recipe(films, tmp_path / "both", cache, fabric), config=both))
    boxed = [r.image for r in planted.records if r.split == "test" and r.boxes]
    assert train.index.images == (*alone.index.images, *boxed)
    assert val.index.images == chosen.index.images
    assert not any(r.boxes for r in train.index.records if r.image in boxed)
    listed = (tmp_path / "both" / "films.csv").read_text(encoding="utf-8")
    assert all(name in listed for name in boxed)


def test_a_split_named_val_is_taken_as_it_is(planted: Index, tmp_path: Path, cache: Path, fabric: Fabric) -> None:
    split = [replace(r, split="val" if int(r.patient[1:]) < 4 else r.split) for r in planted.records]
    index = replace(planted, records=tuple(split))
    train, val = training_parts(recipe(index, tmp_path, cache, fabric))
    assert val.index.images == tuple(f"{i:02d}.png" for i in range(8))
    assert len(train.index) == 28


def test_validation_figures_are_those_of_all_films_at_once(
    net: CamNet, planted: Index, tmp_path: Path, cache: Path, fabric: Fabric
) -> None:
    _, val = training_parts(recipe(planted.split("train"), tmp_path, cache, fabric))
    figures = validator(fabric, net, val)()
    images = torch.cat([batch.images for batch in val.loader.batches(0)])
    with torch.no_grad():
        scores = net.eval()(images).logits
    target = val.index.target
    expected = np.mean([auroc(target[:, c], scores[:, c].numpy(), val.index.known[:, c]) for c in range(2)])
    assert figures["auroc"] == pytest.approx(expected)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(scores, torch.from_numpy(target).float())
    assert figures["val_loss"] == pytest.approx(float(loss), rel=1e-4)


class Gathered:
    """A Fabric of two ranks, the other of which saw the films of this one too (as padding does)."""

    world_size = 2

    def __init__(self, real: Fabric) -> None:
        self.autocast, self.to_device = real.autocast, real.to_device

    def all_gather(self, value: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, ...]:
        return tuple(torch.stack([one, one]) for one in value)


def test_a_film_that_two_ranks_saw_counts_once(
    net: CamNet, planted: Index, tmp_path: Path, cache: Path, fabric: Fabric
) -> None:
    _, val = training_parts(recipe(planted.split("train"), tmp_path, cache, fabric))
    alone, both = validator(fabric, net, val)(), validator(Gathered(fabric), net, val)()  # type: ignore[arg-type]  # a stand-in
    assert both == pytest.approx(alone)


def only_healthy(index: Index) -> Index:
    return replace(index, records=tuple(replace(r, positive=frozenset()) for r in index.records))


def test_without_a_positive_film_the_auroc_is_undefined(
    net: CamNet, planted: Index, tmp_path: Path, cache: Path, fabric: Fabric
) -> None:
    _, val = training_parts(recipe(only_healthy(planted.split("train")), tmp_path, cache, fabric))
    figures = validator(fabric, net, val)()
    assert math.isnan(figures["auroc"])
    assert math.isfinite(figures["val_loss"])


class Broken(torch.nn.Module):
    backbone = staticmethod(lambda images: images)

    def classify(self, features: torch.Tensor) -> torch.Tensor:
        return torch.full((len(features), 2), math.nan)


def test_logits_that_are_not_finite_are_an_error(planted: Index, fabric: Fabric) -> None:
    class OneBatch:
        def batches(self, _epoch: int) -> Iterator[Batch]:
            yield Batch(torch.zeros(2, 1, 8, 8), torch.zeros(2, 2), torch.ones(2, 2).bool(), torch.arange(2))

    part: Part = SimpleNamespace(index=planted.subset([0, 1]), loader=OneBatch())  # type: ignore[assignment]  # a stand-in
    with pytest.raises(CxrlocusError, match="logits are not finite on the validation films"):
        validator(fabric, Broken(), part)()  # type: ignore[arg-type]  # a stand-in


def test_accuracy_is_the_share_that_one_half_calls_rightly_over_known_labels(planted: Index, fabric: Fabric) -> None:
    """First finding: 1 of 2 known right; second: 2 of 3; third: none known. (1/2 + 2/3) / 2."""
    target = torch.tensor([[1, 1, 0], [1, 0, 0], [0, 1, 0]])
    known = torch.tensor([[True, True, False], [True, True, False], [False, True, False]])
    logits = torch.tensor([[2.0, 0.1, 1.0], [0.0, -3.0, 1.0], [9.0, -0.1, 1.0]])

    class Said(torch.nn.Module):
        backbone = staticmethod(lambda images: images)

        def classify(self, features: torch.Tensor) -> torch.Tensor:
            return logits

    class OneBatch:
        def batches(self, _epoch: int) -> Iterator[Batch]:
            yield Batch(torch.zeros(3, 1, 8, 8), target.float(), known, torch.arange(3))

    index = SimpleNamespace(target=target.numpy().astype(np.uint8), known=known.numpy())
    part: Part = SimpleNamespace(index=index, loader=OneBatch())  # type: ignore[assignment]  # a stand-in
    figures = validator(fabric, Said(), part)()  # type: ignore[arg-type]  # a stand-in
    assert figures["accuracy"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    # Only the second finding has both classes: its positives are at .1 and -.1, its negative at -3.
    assert figures["auroc"] == 1.0


def test_the_films_learned_from_are_listed(planted: Index, tmp_path: Path, cache: Path, fabric: Fabric) -> None:
    train, val = training_parts(recipe(planted.split("train"), tmp_path, cache, fabric))
    with (tmp_path / "films.csv").open(newline="", encoding="utf-8") as file:
        rows = [tuple(row.values()) for row in csv.DictReader(file)]
    assert rows == [
        (r.image, r.patient, part) for part, one in (("train", train), ("val", val)) for r in one.index.records
    ]
