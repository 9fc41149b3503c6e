"""The paper's checkpoint rule, the one place where training reads boxes; and that everything else does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

import contract
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file

from cxrlocus.data.records import Index, Record, TruthBox
from cxrlocus.errors import ConfigError
from cxrlocus.methods import METHODS, load_run
from cxrlocus.methods.base import Judge, Recipe
from cxrlocus.methods.infomask2019 import InfoMaskConfig
from cxrlocus.protocols.masks import Criterion, Masking
from cxrlocus.training.run import open_run
from cxrlocus.types import Localizer

TINY = {
    "finding": "Mass", "size": "32", "epochs": "3", "batch_size": "8", "precision": "fp32", "lr": "0.0005",
    "augment": "false", "schedule": "constant", "norm": "none",
}  # fmt: skip


class Recorder:
    """A judge that scores as it is told and notes what it was asked."""

    def __init__(self, *scores: float) -> None:
        self.scores, self.asked = scores, list[tuple[Index, str]]()
        self.maps: list[torch.Tensor] = []

    def __call__(self, localizer: Localizer, index: Index, criterion: str, scratch: Path) -> float:
        assert scratch.is_dir()
        self.asked.append((index, criterion))
        images = torch.linspace(0, 1, 32 * 32).reshape(1, 1, 32, 32)
        self.maps.append(localizer.explain(images, contract.frames(1)).maps)
        return self.scores[len(self.asked) - 1]


def train(
    index: Index,
    folder: Path,
    cache: Path,
    fabric: Fabric,
    judge: Judge | None = None,
    variant: str = "",
    **options: str,
) -> Path:
    spec = METHODS["infomask2019"]
    config = spec.configure(variant=variant, preset="demo", options={**TINY, **options})
    open_run(folder, contract.info_of("infomask2019", index, vars(config), variant))
    spec.train(Recipe(folder, index, config, 0, fabric, cache, judge=judge))
    return folder


@pytest.fixture(scope="module")
def few(planted: Index) -> Index:
    """12 training films and 6 for validation, half of them with a Mass and its box."""
    films = tuple(replace(r, split="val" if i >= 12 else "train") for i, r in enumerate(planted.records[:18]))
    return replace(planted, records=films)


def rebox(index: Index, change: Callable[[Record], tuple[TruthBox, ...]]) -> Index:
    return replace(index, records=tuple(replace(r, boxes=change(r)) for r in index.records))


def stage_of(folder: Path) -> Path:
    """The one stage of a run: "baseline" of the baseline, "base" of the others."""
    (manifest,) = folder.glob("*/manifest.json")
    return manifest.parent


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(stage_of(folder) / "weights.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize("variant", ["", "gradcam"])
def test_training_on_labels_never_reads_a_box(
    few: Index, cache: Path, fabric: Fabric, tmp_path: Path, variant: str
) -> None:
    judge = Recorder()
    bare = rebox(few, lambda r: ())
    one = train(few, tmp_path / "boxes", cache, fabric, judge, variant)
    other = train(bare, tmp_path / "bare", cache, fabric, None, variant)
    assert same(weights(one), weights(other))
    assert judge.asked == []
    for folder in (one, other):
        assert json.loads((folder / "network.json").read_text(encoding="utf-8"))["knows"] == ""


@pytest.mark.parametrize("best", [0, 1, 2])
def test_by_boxes_the_finalist_with_the_best_maps_is_kept(
    few: Index, cache: Path, fabric: Fabric, tmp_path: Path, best: int
) -> None:
    judge = Recorder(*(float(k == best) for k in range(3)))
    folder = train(few, tmp_path / "run", cache, fabric, judge, choose="boxes", finalists="3", criterion="iop")
    assert len(judge.asked) == 3
    images = torch.linspace(0, 1, 32 * 32).reshape(1, 1, 32, 32)
    kept = load_run(folder)[0].explain(images, contract.frames(1)).maps
    assert [torch.equal(maps, kept) for maps in judge.maps] == [k == best for k in range(3)]
    told = json.loads((folder / "network.json").read_text(encoding="utf-8"))
    assert told["knows"] == "checkpoint chosen on validation boxes"
    manifest = json.loads((folder / "base" / "manifest.json").read_text(encoding="utf-8"))
    epoch = int(manifest["progress"]["finalists"][best]["epoch"])
    assert manifest["progress"]["best_epoch"] == epoch
    log = [json.loads(line) for line in (folder / "base" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert told["masks"]["mask_open"] == log[epoch]["mask_open"]
    assert not (folder / "base" / "finalists").exists()


def test_of_the_boxes_only_those_of_the_finding_on_validation_films_are_read(
    few: Index, cache: Path, fabric: Fabric, tmp_path: Path
) -> None:
    judge = Recorder(0.0, 0.1, 0.2)
    folder = train(few, tmp_path / "run", cache, fabric, judge, choose="boxes", finalists="3")
    for index, criterion in judge.asked:
        assert criterion == "fpr_fnr"
        assert index.findings.names == ("Mass",)
        assert {r.split for r in index.records} == {"val"}
        assert all(b.finding == "Mass" for r in index.records for b in r.boxes)
        assert index.images == tuple(r.image for r in few.records[12:] if "Mass" in r.positive)
    # Boxes of training films may be anything.
    wild = rebox(few, lambda r: r.boxes if r.split == "val" else (TruthBox("Mass", (0.0, 0.0, 1.0, 1.0)),))
    other = train(wild, tmp_path / "wild", cache, fabric, Recorder(0.0, 0.1, 0.2), choose="boxes", finalists="3")
    assert same(weights(folder), weights(other))


@pytest.mark.parametrize("variant", METHODS["infomask2019"].variants)
def test_every_variant_can_be_chosen_so(few: Index, cache: Path, fabric: Fabric, tmp_path: Path, variant: str) -> None:
    options = {"timm": {"backbone": "test_convnext", "size": "64"}, "chexcam": {"backbone": "test_resnet"}}
    judge = Recorder(0.2, 0.1)
    folder = train(
        few, tmp_path / "run", cache, fabric, judge, variant,
        choose="boxes", finalists="2", select="accuracy", epochs="2", **options.get(variant, {}),
    )  # fmt: skip
    images = torch.linspace(0, 1, 32 * 32).reshape(1, 1, 32, 32)
    torch.testing.assert_close(load_run(folder)[0].explain(images, contract.frames(1)).maps, judge.maps[0])
    stage = stage_of(folder)
    log = [json.loads(line) for line in (stage / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    finalists = json.loads((stage / "manifest.json").read_text(encoding="utf-8"))["progress"]["finalists"]
    assert finalists[0]["accuracy"] == max(row["accuracy"] for row in log)


def test_one_finalist_is_the_rule_by_labels(few: Index, cache: Path, fabric: Fabric, tmp_path: Path) -> None:
    one = train(few, tmp_path / "one", cache, fabric, Recorder(-5.0), choose="boxes", finalists="1")
    assert same(weights(one), weights(train(few, tmp_path / "labels", cache, fabric)))


def test_without_a_boxed_validation_film_it_is_refused_before_anything_is_done(
    few: Index, cache: Path, fabric: Fabric, tmp_path: Path
) -> None:
    bare = rebox(few, lambda r: tuple(b for b in r.boxes if r.split == "train" or b.finding == "Nodule"))
    with pytest.raises(
        ConfigError, match=r"validation films with boxes of Mass; none of the 6 has one\. .* choose=labels"
    ):
        train(bare, tmp_path / "run", cache, fabric, Recorder(), choose="boxes")
    with pytest.raises(ConfigError, match="needs a judge of maps"):
        train(few, tmp_path / "other", cache, fabric, choose="boxes")
    assert not (tmp_path / "run" / "base").exists()
    assert not (tmp_path / "other" / "base").exists()


def test_the_criteria_are_the_protocols_and_so_is_the_default() -> None:
    assert get_args(get_type_hints(InfoMaskConfig)["criterion"]) == get_args(Criterion)
    assert InfoMaskConfig().criterion == Masking().criterion
    assert InfoMaskConfig().choose == "labels"
    with pytest.raises(ConfigError, match="finalists must be at least 1; got 0"):
        InfoMaskConfig(finalists=0)
