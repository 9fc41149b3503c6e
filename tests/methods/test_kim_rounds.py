"""Rounds of alignment: an anchor of aligned films, and a network that goes on from the round before."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file

from cxrlocus.data.records import Index
from cxrlocus.errors import ConfigError
from cxrlocus.functional.alignment import pose_affine, warp
from cxrlocus.methods import METHODS
from cxrlocus.methods.base import Recipe
from cxrlocus.methods.classification import training_parts
from cxrlocus.methods.kim2021 import KimConfig
from cxrlocus.methods.kim2021.config import stage_config, stages_of
from cxrlocus.methods.kim2021.localizer import load_kim
from cxrlocus.methods.kim2021.passes import anchor_films, load_anchor
from cxrlocus.methods.kim2021.recipe import load_aligner, train_kim
from cxrlocus.training.fit import fit
from cxrlocus.training.run import read_run


@pytest.fixture(scope="module")
def two(
    runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory, planted: Index, cache: Path, fabric: Fabric
) -> Recipe[KimConfig]:
    """A run of two rounds up to its aligned classifier, from the first round of a run of one."""
    run = tmp_path_factory.mktemp("rounds") / "run"
    shutil.copytree(runs["kim2021"], run, ignore=shutil.ignore_patterns("aligned", "masks", "retrain"))
    config = replace(KimConfig(**read_run(run).config), anchor_rounds=2, masks="none")
    told = json.loads((run / "run.json").read_text(encoding="utf-8"))
    told["config"] |= {"anchor_rounds": 2, "masks": "none"}
    (run / "run.json").write_text(json.dumps(told), encoding="utf-8")
    recipe = Recipe(run, planted.split("train"), config, 0, fabric, cache)

    def moving(*args: Any, **options: Any) -> object:
        """So short a round is no better than its start; here the network is to move all the same."""
        return fit(*args, **{**options, "from_start": False})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("cxrlocus.methods.kim2021.recipe.fit", moving)
        train_kim(recipe)
    return recipe


def test_the_first_round_is_that_of_a_run_with_one(two: Recipe[KimConfig], runs: dict[str, Path]) -> None:
    for file in ("base/manifest.json", "anchor/manifest.json", "align/manifest.json", "align/weights.safetensors"):
        assert (two.folder / file).read_bytes() == (runs["kim2021"] / file).read_bytes()
    assert (two.folder / "aligned" / "manifest.json").read_bytes() != (
        runs["kim2021"] / "aligned" / "manifest.json"
    ).read_bytes()


def test_the_second_anchor_is_the_mean_of_the_films_that_the_first_round_aligned(two: Recipe[KimConfig]) -> None:
    train, _ = training_parts(two)
    _, drawn = anchor_films(two.config, train, two.seed)
    paths = [train.index.records[int(i)].path for i in drawn]
    films = np.stack([cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths])
    images = torch.from_numpy(films)[:, None] / 255
    with torch.no_grad():
        poses = load_aligner(two.folder, two.config, 1)(images)
    mean = warp(images, pose_affine(poses), two.config.align_border).mean(dim=0, keepdim=True)
    again = load_anchor(two.folder / "anchor2")
    torch.testing.assert_close(again, mean, atol=1e-5, rtol=0)
    assert (again - load_anchor(two.folder / "anchor")).abs().max() > 1e-3


def test_its_network_goes_on_and_is_the_one_that_later_stages_have(two: Recipe[KimConfig]) -> None:
    first, second = (load_file(two.folder / stage / "weights.safetensors") for stage in ("align", "align2"))
    assert 0 < float((first["pose.weight"] - second["pose.weight"]).abs().max()) < 0.5
    later = load_file(two.folder / "aligned" / "weights.safetensors")
    assert all(torch.equal(later[f"aligner.{name}"], value) for name, value in second.items())
    aligner = load_kim(two.folder, read_run(two.folder)).net.aligner
    assert aligner is not None
    assert torch.equal(aligner.pose.weight, second["pose.weight"])


def test_it_begins_where_the_round_before_ended(
    two: Recipe[KimConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A rate of nearly nothing leaves the second round's network where the first one's is."""
    run = tmp_path / "run"
    shutil.copytree(two.folder, run)
    shutil.rmtree(run / "align2")
    shutil.rmtree(run / "aligned")
    monkeypatch.setattr(
        "cxrlocus.methods.kim2021.recipe.stage_done", lambda folder, *_: (folder / "manifest.json").is_file()
    )
    train_kim(replace(two, folder=run, config=replace(two.config, align_lr=1e-12)), until="align2")
    first, second = (load_file(run / stage / "weights.safetensors")["pose.weight"] for stage in ("align", "align2"))
    torch.testing.assert_close(first, second, atol=1e-6, rtol=0)


@pytest.mark.parametrize("rounds", [0, -1, 10])
def test_bad_counts_are_named(rounds: int) -> None:
    with pytest.raises(ConfigError, match=rf"anchor_rounds must be in 1 to 9; got {rounds}\."):
        KimConfig(anchor_rounds=rounds)


def test_the_variant_with_rounds_has_their_stages_and_shares_what_comes_before_them() -> None:
    sharp, plain = (METHODS["kim2021"].configure(variant=name, preset="cpu") for name in ("sharp", ""))
    assert stages_of(sharp)[1:7] == ("anchor", "align", "anchor2", "align2", "anchor3", "align3")
    assert stages_of(sharp)[7:] == stages_of(plain)[3:]
    assert [stage_config(sharp, name) == stage_config(plain, name) for name in ("base", "anchor", "align")] == [
        True,
        True,
        False,
    ]
