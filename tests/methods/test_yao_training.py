"""Training the pyramid: it finds what it was only told the film of; resumption, options, what the run says."""

from __future__ import annotations

import json
import math
from pathlib import Path

import contract
import numpy as np
import pytest
import timm
import torch
from contract import frames
from lightning_fabric import Fabric
from safetensors.torch import load_file, save_file

from cxrlocus.data.records import Index
from cxrlocus.errors import ConfigError
from cxrlocus.methods import METHODS, load_run
from cxrlocus.methods.yao2018 import YaoLocalizer
from cxrlocus.methods.yao2018.config import AUGMENTATIONS

LEARN = {
    "epochs": "20", "batch_size": "6", "lr": "0.003", "select": "val_loss", "augment": "none", "lowest": "8",
    "r0": "20",
}  # fmt: skip
"""Enough for a bright square; the lowest level is kept so fine that a cell does not see the whole film."""


def log_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "base" / "log.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module")
def learned(planted: Index, cache: Path, fabric: Fabric, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return contract.train_tiny("yao2018", planted, tmp_path_factory.mktemp("yao") / "run", cache, fabric, **LEARN)


def test_it_points_at_squares_it_was_never_shown(learned: Path, planted: Index, films: torch.Tensor) -> None:
    localizer, _ = load_run(learned)
    said = localizer.explain(films, frames(len(films)))
    inside, share = [], []
    for k, record in enumerate(planted.split("test").records):
        for box in record.boxes:
            x1, y1, x2, y2 = (round(v / 4) for v in box.xyxy)
            cells = said.maps[k, planted.findings.index(box.finding)]
            inside.append(float(cells[y1:y2, x1:x2].mean() / cells.mean()))
            share.append((x2 - x1) * (y2 - y1) / cells.numel())
    # A map that knows nothing of the place has a mean of 1; half of all would be above it.
    assert np.median(inside) > 1.4, inside
    assert max(share) < 0.2


def test_maps_are_probabilities_that_pool_to_the_films(learned: Path, films: torch.Tensor) -> None:
    localizer, _ = load_run(learned)
    assert isinstance(localizer, YaoLocalizer)
    said = localizer.explain(films, frames(len(films)))
    assert said.kind == "probability"
    assert said.maps.shape == (12, 2, 16, 16)
    r = torch.tensor(localizer.net.sharpness())
    pooled = torch.log(torch.exp(r[:, None, None] * said.maps).mean((-2, -1))) / r
    torch.testing.assert_close(said.prob, pooled, rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(torch.sigmoid(localizer.logits(films)), said.prob, rtol=1e-4, atol=1e-5)


def test_films_are_explained_alike_in_small_parts(
    learned: Path, films: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    localizer, _ = load_run(learned)
    whole = localizer.explain(films, frames(12))
    monkeypatch.setattr("cxrlocus.methods.yao2018.localizer.AT_ONCE", 5 * 64 * 64)
    parts = localizer.explain(films, frames(12))
    torch.testing.assert_close(parts.maps, whole.maps, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(parts.prob, whole.prob, rtol=1e-4, atol=1e-5)


def test_the_log_has_the_range_of_the_sharpness(learned: Path) -> None:
    rows = log_of(learned)
    assert len(rows) == 20
    assert all(20 < row["r_min"] <= row["r_max"] < 23 for row in rows)
    assert rows[-1]["r_min"] != rows[0]["r_min"] != 21.0
    assert rows[-1]["bce"] < 0.6 * rows[0]["bce"]


@pytest.mark.parametrize("variant", [v for v in METHODS["yao2018"].variants if v not in ("", "timm")])
def test_every_variant_trains_and_loads(
    variant: str, planted: Index, cache: Path, fabric: Fabric, films: torch.Tensor, tmp_path: Path
) -> None:
    folder = contract.train_tiny(
        "yao2018", planted, tmp_path / "run", cache, fabric, variant=variant, epochs="1", lr="1e-3"
    )
    assert math.isfinite(log_of(folder)[0]["bce"])
    said = load_run(folder)[0].explain(films[:2], frames(2))
    assert torch.isfinite(said.maps).all()
    assert ((said.prob > 0) & (said.prob < 1)).all() or variant == "noisy_or"


@pytest.mark.parametrize("augmentation", sorted(AUGMENTATIONS))
def test_every_augmentation_trains(
    augmentation: str, planted: Index, cache: Path, fabric: Fabric, tmp_path: Path
) -> None:
    folder = contract.train_tiny("yao2018", planted, tmp_path / "run", cache, fabric, epochs="1", augment=augmentation)
    assert math.isfinite(log_of(folder)[0]["bce"])


def test_recomputing_trains_to_the_same_weights(planted: Index, cache: Path, fabric: Fabric, tmp_path: Path) -> None:
    one, other = (
        load_file(
            contract.train_tiny(
                "yao2018", planted, tmp_path / f"run{again}", cache, fabric, epochs="1", checkpoint=again
            )
            / "base"
            / "weights.safetensors"
        )
        for again in ("false", "true")
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_a_bias_starts_at_the_odds_or_at_zero_or_not(
    planted: Index, cache: Path, fabric: Fabric, tmp_path: Path
) -> None:
    biases = {}
    for bias in ("none", "zero", "odds"):
        folder = contract.train_tiny(
            "yao2018", planted, tmp_path / bias, cache, fabric, epochs="1", lr="1e-9", bias=bias, pool="noisy_or"
        )
        biases[bias] = load_file(folder / "base" / "weights.safetensors")["bias"]
    assert biases["none"].tolist() == [0.0, 0.0]
    assert biases["zero"].abs().max() < 1e-6
    # About every second film has a square: with 256 cells, each begins at a chance of 1 - 2^(-1/256).
    start = 1 - (1 - torch.sigmoid(biases["odds"])) ** 256
    assert start.tolist() == pytest.approx([0.5, 0.5], abs=0.12)


def test_a_timm_way_down_starts_from_the_weights_of_a_file(
    planted: Index, cache: Path, fabric: Fabric, tmp_path: Path
) -> None:
    torch.manual_seed(7)
    net = timm.create_model("test_resnet", num_classes=10)
    save_file(net.state_dict(), tmp_path / "init.safetensors")
    folder = contract.train_tiny(
        "yao2018", planted, tmp_path / "run", cache, fabric, init=tmp_path / "init.safetensors",
        epochs="1", lr="1e-12", backbone="test_resnet",
    )  # fmt: skip
    trained = load_file(folder / "base" / "weights.safetensors")
    same = [
        torch.allclose(trained[f"backbone.down.body.net.{name}"], p.detach(), atol=1e-6)
        for name, p in net.named_parameters()
        if f"backbone.down.body.net.{name}" in trained
    ]
    assert len(same) > 20
    assert all(same)
    assert load_run(folder)[0].size == 64


def test_weights_for_the_papers_own_way_down_are_refused(
    planted: Index, cache: Path, fabric: Fabric, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"--init gives weights of a timm backbone, .*--variant timm"):
        contract.train_tiny("yao2018", planted, tmp_path / "run", cache, fabric, init=tmp_path / "init.safetensors")
