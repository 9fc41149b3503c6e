"""Training in stages: what each leaves, what it starts from, that it is skipped, resumed and shared."""

from __future__ import annotations

import json
import shutil
import signal
from dataclasses import asdict, replace
from pathlib import Path

import contract
import cv2
import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from safetensors.torch import load_file

from cxrlocus.data.records import Index
from cxrlocus.errors import ConfigError, RunError
from cxrlocus.functional.losses import LOSSES
from cxrlocus.functional.masks import disease_mask, place_maps
from cxrlocus.methods import METHODS, load_run
from cxrlocus.methods.base import Recipe
from cxrlocus.methods.classification import training_parts
from cxrlocus.methods.kim2021 import AlignedLocalizer, KimConfig, KimLocalizer
from cxrlocus.methods.kim2021.config import stage_config, stages_of
from cxrlocus.methods.kim2021.masks import MapStream, load_masks, threshold
from cxrlocus.methods.kim2021.objective import AlignmentObjective
from cxrlocus.methods.kim2021.passes import anchor_films, load_anchor
from cxrlocus.methods.kim2021.recipe import first_bias, train_kim
from cxrlocus.study.sharing import reuse_stages
from cxrlocus.training.run import read_run
from cxrlocus.types import BOXED8, NIH14, Batch, Findings

TWO = Findings(("Mass", "Nodule"))


@pytest.fixture(scope="module")
def run(runs: dict[str, Path]) -> Path:
    return runs["kim2021"]


def weights(run: Path, stage: str) -> dict[str, torch.Tensor]:
    return load_file(run / stage / "weights.safetensors")


def log(run: Path, stage: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (run / stage / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def recipe_of(run: Path, index: Index, cache: Path, fabric: Fabric, **options: object) -> Recipe[KimConfig]:
    config = replace(KimConfig(**read_run(run).config), **options)  # type: ignore[arg-type]  # Config fields
    return Recipe(run, index.split("train"), config, 0, fabric, cache)


def test_every_stage_leaves_what_it_should(run: Path) -> None:
    stages = stages_of(KimConfig())
    assert all((run / stage / "manifest.json").is_file() for stage in stages)
    assert not list(run.rglob("*.part")) + list(run.rglob("part.safetensors")) + list(run.rglob("resume.safetensors"))
    for picture in ("anchor/anchor.png", "align/aligned.png", "masks/masks.png"):
        assert cv2.imread(str(run / picture)).std() > 2
    assert len(log(run, "align")) == 2
    assert {"euclidean", "perceptual", "val_loss", "at_bound", "off_film", "moved"} <= set(log(run, "align")[-1])


def test_the_anchor_is_the_mean_of_normal_training_films(
    run: Path, planted: Index, cache: Path, fabric: Fabric
) -> None:
    train, _ = training_parts(recipe_of(run, planted, cache, fabric))
    normal = [r for r in train.index.records if not r.positive]
    films = [cv2.imread(str(r.path), cv2.IMREAD_GRAYSCALE).astype(float) / 255 for r in normal]
    np.testing.assert_allclose(load_anchor(run / "anchor")[0, 0].numpy(), np.mean(films, axis=0), atol=1e-6)
    told = json.loads((run / "anchor" / "manifest.json").read_text(encoding="utf-8"))
    assert told["films"] == told["of"] == len(normal)


def test_fewer_films_are_drawn_at_random_and_none_is_an_error(
    run: Path, planted: Index, cache: Path, fabric: Fabric
) -> None:
    recipe = recipe_of(run, planted, cache, fabric)
    part, _ = training_parts(recipe)
    able, some = anchor_films(replace(recipe.config, anchor_films=3), part, seed=0)
    assert len(some) == 3 < able
    assert not np.array_equal(some, anchor_films(replace(recipe.config, anchor_films=3), part, seed=1)[1])
    everyone = anchor_films(replace(recipe.config, anchor_from="all"), part, seed=0)[1]
    assert len(everyone) == len(part.index)
    sick = replace(part.index, records=tuple(replace(r, positive=frozenset({"Mass"})) for r in part.index.records))
    with pytest.raises(ConfigError, match=r"none of the .* training films is one\. Use anchor_from=all"):
        anchor_films(recipe.config, replace(part, index=sick), seed=0)


def test_alignment_learns_and_its_network_is_the_later_ones(run: Path) -> None:
    aligner = weights(run, "align")
    assert aligner["pose.weight"].abs().max() > 0
    for stage in ("aligned", "retrain"):
        later = weights(run, stage)
        assert all(torch.equal(later[f"aligner.{name}"], value) for name, value in aligner.items())
    assert not any(name.startswith("aligner.") for name in weights(run, "base"))


def test_retraining_starts_from_the_aligned_classifier_and_has_the_masks(
    run: Path, planted: Index, cache: Path, fabric: Fabric, tmp_path: Path
) -> None:
    masks = load_masks(run / "masks")
    assert torch.equal(weights(run, "retrain")["masks"], masks)
    assert (weights(run, "aligned")["masks"] == 0).all()
    assert 0 < (masks > 0).float().mean() < 1
    assert not torch.equal(weights(run, "retrain")["weight"], weights(run, "aligned")["weight"])
    options = {**contract.TINY["kim2021"], "retrain_rate": "1e-9"}
    config, still = METHODS["kim2021"].configure(preset="demo", options=options), tmp_path / "still"
    assert len(reuse_stages(still, read_run(run), METHODS["kim2021"].stages(config), run)) == 5
    contract.train_tiny("kim2021", planted, still, cache, fabric, retrain_rate="1e-9")
    torch.testing.assert_close(weights(still, "retrain")["weight"], weights(still, "aligned")["weight"])
    one, _ = load_run(run)
    assert isinstance(one, AlignedLocalizer)
    assert torch.equal(one.net.masks.cpu(), masks)


@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_the_bias_starts_where_its_loss_is_least(loss: str) -> None:
    draw = np.random.default_rng(0)
    target = (draw.random((20_000, 3)) < [0.02, 0.1, 0.4]).astype(np.uint8)
    known = draw.random(target.shape) < 0.8
    told = torch.from_numpy(target).float(), torch.from_numpy(known)

    def slope(bias: torch.Tensor) -> torch.Tensor:
        bias = bias.clone().requires_grad_()
        LOSSES[loss](bias.expand(len(target), 3), *told).backward()
        assert bias.grad is not None
        return bias.grad

    assert slope(torch.zeros(3)).abs().min() > 0.01
    assert slope(first_bias(target, known, loss)).abs().max() < 3e-4


class StoppedError(Exception):
    """Instead of training."""


def test_what_alignment_learns_from_is_frozen_as_base_left_it(
    run: Path, planted: Index, cache: Path, fabric: Fabric, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    caught: list[AlignmentObjective] = []

    def stop(_fabric: Fabric, objective: AlignmentObjective, *_: object, **__: object) -> None:
        caught.append(objective)
        raise StoppedError

    own = Path(shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("align")))
    monkeypatch.setattr("cxrlocus.methods.kim2021.recipe.fit", stop)
    with pytest.raises(StoppedError):
        train_kim(recipe_of(own, planted, cache, fabric), until="align")
    (objective,) = caught
    (stages,) = objective._stages
    objective.train()
    batch = Batch(torch.rand(4, 1, 64, 64), torch.ones(4, 2), torch.ones(4, 2).bool(), torch.arange(4))
    torch.stack(list(objective(batch).values())).sum().backward()
    base = weights(run, "base")
    for name, value in stages.backbone.state_dict().items():
        assert torch.equal(value, base[f"features.{name}"])
    assert not any(p.requires_grad or p.grad is not None for p in stages.parameters())
    assert not any(module.training for module in stages.backbone.modules())
    assert {name for name, p in objective.named_parameters() if p.grad is not None and p.grad.any()} == {
        "aligner.pose.weight", "aligner.pose.bias"
    }  # fmt: skip
    # As fit lays out what learns: a step goes through both.
    kernels = [p for p in stages.parameters() if p.ndim == 4 and min(p.shape[1:]) > 1]
    assert kernels
    assert all(p.is_contiguous(memory_format=torch.channels_last) for p in kernels)


def test_an_alignment_that_only_does_harm_is_none(
    run: Path, planted: Index, cache: Path, fabric: Fabric, tmp_path: Path
) -> None:
    """A rate that throws every pose to its bounds: no epoch is better than films as they are."""
    own = Path(shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns("align", "aligned", "retrain")))
    recipe = recipe_of(own, planted, cache, fabric)
    train_kim(replace(recipe, config=replace(recipe.config, align_lr=10.0)), until="align")
    told = json.loads((own / "align" / "manifest.json").read_text(encoding="utf-8"))["progress"]
    assert told["best_epoch"] == -1
    assert told["start"]["moved"] == 0.0
    assert all(line["val_loss"] > told["start"]["val_loss"] for line in log(own, "align"))
    kept = weights(own, "align")
    assert not any(kept[f"pose.{name}"].any() for name in ("weight", "bias"))


@pytest.mark.parametrize("stage", ["align", "retrain"])
def test_a_stage_stopped_in_an_epoch_ends_with_the_same_weights(
    stage: str, run: Path, planted: Index, cache: Path, fabric: Fabric, tmp_path: Path
) -> None:
    own = Path(shutil.copytree(run, tmp_path / "run", ignore=shutil.ignore_patterns(stage)))
    recipe = recipe_of(own, planted, cache, fabric)

    def stop(done: int, _total: int, words: str) -> None:
        assert words.startswith(stage)
        if done == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train_kim(replace(recipe, on_step=stop), until=stage)
    assert (own / stage / "resume.safetensors").is_file()
    train_kim(recipe, until=stage)
    again = weights(own, stage)
    assert all(torch.equal(again[name], value) for name, value in weights(run, stage).items())


def test_learned_masks_are_eq_3_over_the_labelled_films(run: Path, planted: Index, cache: Path, fabric: Fabric) -> None:
    recipe = recipe_of(run, planted, cache, fabric)
    part, _ = training_parts(recipe)
    net = load_run(run)[0].net  # type: ignore[attr-defined]  # a KimLocalizer
    net.load_state_dict(weights(run, "aligned"))
    pixels = torch.from_numpy(part.loader.films.pixels(np.arange(len(part.index))))[:, None].float() / 255
    with torch.no_grad():
        maps = net.evidence(net.backbone(pixels))
        prob = torch.sigmoid(maps.mean((-2, -1)) + net.bias)
    told = json.loads((run / "masks" / "manifest.json").read_text(encoding="utf-8"))["masks"]
    masks = load_masks(run / "masks")
    for c, name in enumerate(planted.findings):
        labelled = np.flatnonzero(part.index.target[:, c])
        assert (prob[labelled, c] < 0.8).any()
        best = labelled[np.argsort(-prob[labelled, c].numpy(), kind="stable")][:4]
        mean = place_maps(maps[best], torch.ones(2, dtype=torch.bool))[:, c].mean(0)
        torch.testing.assert_close(masks[c], disease_mask(mean[None])[0], rtol=1e-3, atol=1e-4)
        assert told[name]["films"] == 4
        assert told[name]["rule"].startswith("the most probable, as ")


def test_a_stream_takes_probable_films_or_the_best_and_says_which() -> None:
    config, draw = KimConfig(mask_least=3, mask_best=4, mask_findings="all"), torch.Generator().manual_seed(0)
    findings = Findings(("Mass", "Cardiomegaly", "Hernia"))
    maps, prob = torch.randn(30, 3, 4, 4, generator=draw), torch.rand(30, 3, generator=draw)
    labelled = torch.rand(30, 3, generator=draw) < 0.6
    prob[:, 1] *= 0.75
    labelled[:, 2] = False
    stream = MapStream(config, findings, side=4)
    for some in torch.arange(30).split(7):
        stream.add(maps[some], prob[some], labelled[some])
    mean, told = stream.means()
    probable = labelled[:, 0] & (prob[:, 0] >= 0.8)
    both = torch.tensor([True, False, True])
    torch.testing.assert_close(mean[0], place_maps(maps[probable], both)[:, 0].mean(0))
    assert told["Mass"] == {"films": int(probable.sum()), "rule": "P >= 0.8"}
    best = torch.where(labelled[:, 1], prob[:, 1], -1).topk(4).indices
    torch.testing.assert_close(mean[1], place_maps(maps[best], both)[:, 1].mean(0))
    assert told["Cardiomegaly"] == {"films": 4, "rule": "the most probable, as 0 have P >= 0.8"}
    assert told["Hernia"] == {"films": 0, "rule": "none: no labelled film"}
    assert (threshold(mean, told, config, findings)[2] == 0).all()


@pytest.mark.parametrize(("mirror", "offset"), [("film", -0.5), ("grid", 0.0)])
def test_a_stream_mirrors_about_the_film_or_the_grid(mirror: str, offset: float) -> None:
    config = KimConfig(mask_least=1, mirror=mirror)  # type: ignore[arg-type]  # both names are allowed
    maps = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    stream = MapStream(config, Findings(("Mass",)), 4, offset=-0.5)
    stream.add(maps, torch.ones(3, 1), torch.ones(3, 1, dtype=torch.bool))
    torch.testing.assert_close(stream.means()[0][0], place_maps(maps, torch.tensor([True]), offset)[:, 0].mean(0))


def test_a_stream_goes_on_from_what_it_saved(tmp_path: Path) -> None:
    config, draw = KimConfig(mask_best=4), torch.Generator().manual_seed(0)
    maps, prob = torch.randn(20, 2, 4, 4, generator=draw), torch.rand(20, 2, generator=draw)
    labelled = torch.ones(20, 2, dtype=torch.bool)
    whole, first, second = (MapStream(config, TWO, side=4) for _ in range(3))
    whole.add(maps[:10], prob[:10], labelled[:10])
    first.add(maps[:10], prob[:10], labelled[:10])
    first.save(tmp_path / "part.safetensors", step=1)
    assert second.load(tmp_path / "part.safetensors") == 1
    for one in (whole, second):
        one.add(maps[10:], prob[10:], labelled[10:])
    assert torch.equal(whole.means()[0], second.means()[0])
    with pytest.raises(RunError, match="Delete the file"):
        MapStream(config, TWO, side=5).load(tmp_path / "part.safetensors")
    (tmp_path / "part.safetensors").write_bytes(b"nothing")
    with pytest.raises(RunError, match="Delete the file"):
        second.load(tmp_path / "part.safetensors")


def test_a_stopped_mask_pass_goes_on_to_the_same_masks(
    run: Path, planted: Index, cache: Path, fabric: Fabric, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config, expected = KimConfig(**read_run(run).config), load_masks(run / "masks")
    own = Path(shutil.copytree(run, tmp_path / "run"))
    path = own / "masks"
    shutil.rmtree(path)
    monkeypatch.setattr("cxrlocus.methods.kim2021.passes.SAVE_EVERY", 2)
    seen: list[int] = []

    def stop(done: int, total: int, _words: str) -> None:
        seen.append(done)
        assert total == 4
        if len(seen) == 3:
            raise KeyboardInterrupt

    recipe = Recipe(own, planted.split("train"), config, 0, fabric, cache, on_step=stop)
    with pytest.raises(KeyboardInterrupt):
        train_kim(recipe, until="masks")
    assert not (path / "manifest.json").is_file()
    train_kim(recipe, until="masks")
    # Two batches were saved, the third was lost.
    assert seen == [1, 2, 3, 3, 4]
    assert torch.equal(load_masks(path), expected)


@pytest.mark.parametrize(
    ("variant", "stages"),
    [
        ("resnet", {"base"}),
        ("alignment", {"base", "anchor", "align", "aligned"}),
        ("pdm", {"base", "anchor", "align", "aligned", "masks", "retrain"}),
        ("dm-unaligned", {"base", "masks", "retrain"}),
        ("blank", {"base", "anchor", "align", "aligned", "masks", "retrain"}),
    ],
)
def test_variants_share_stages_and_train_the_rest(
    variant: str, stages: set[str], run: Path, planted: Index, cache: Path, fabric: Fabric, tmp_path: Path
) -> None:
    spec, info = METHODS["kim2021"], read_run(run)
    config = spec.configure(variant=variant, preset="demo", options=contract.TINY["kim2021"])
    folder = tmp_path / variant
    copied = reuse_stages(folder, info, spec.stages(config), run)
    assert set(copied) == stages & {"base", "anchor", "align", "aligned"}
    contract.train_tiny("kim2021", planted, folder, cache, fabric, variant=variant)
    assert {p.parent.name for p in folder.glob("*/manifest.json")} == stages
    one, _ = load_run(folder)
    assert isinstance(one, KimLocalizer)
    assert (one.net.aligner is None) == ("align" not in stages)
    assert bool(one.net.masks.any()) == (variant in ("pdm", "dm-unaligned"))


def test_stage_configs_forget_what_comes_later() -> None:
    one, other = (METHODS["kim2021"].configure(variant=v, preset="cpu") for v in ("", "pdm"))
    for stage in ("base", "anchor", "align", "aligned"):
        assert stage_config(one, stage) == stage_config(other, stage)
    assert stage_config(one, "masks") != stage_config(other, "masks")
    assert stage_config(one, "align").optimizer == "adamw"
    assert asdict(stage_config(one, "retrain"))["lr"] == pytest.approx(one.lr * one.retrain_rate)


def test_the_paper_preset_is_the_papers() -> None:
    config = METHODS["kim2021"].configure()
    align, classify = stage_config(config, "align"), stage_config(config, "aligned")
    assert (config.backbone, config.align_backbone, config.size, config.blur) == ("resnet50", "resnet18", 512, 16)
    assert (align.optimizer, align.lr, align.batch_size, align.epochs) == ("sgd", 1e-3, 16, 5)
    assert (classify.optimizer, classify.lr, classify.batch_size, classify.epochs) == ("adam", 1e-4, 32, 5)
    assert (config.anchor_films, config.mask_prob, config.mean, config.std) == (2000, 0.8, 0.5, 0.5)
    assert stage_config(config, "retrain").epochs == 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blur": "7"}, "blur must be a divisor of size"),
        ({"mask_threshold": "1"}, r"mask_threshold must be in \[0, 1\)"),
        ({"scale_bound": "0.5"}, r"scale_bound must be in \[1, 4\]"),
        ({"mask_findings": ","}, "mask_findings must be boxed"),
        ({"anchor_films": "0"}, "anchor_films must be at least 1"),
        ({"euclidean_margin": "0.5"}, r"euclidean_margin must be in \[0, 0.5\)"),
        ({"retrain_rate": "inf"}, "retrain_rate must be positive"),
    ],
)
def test_options_outside_their_range_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        METHODS["kim2021"].configure(options=options)


def test_what_a_later_stage_could_not_do_is_refused_before_anything_is_trained(
    planted: Index, cache: Path, fabric: Fabric, tmp_path: Path
) -> None:
    for option, text in (("mask_findings", "Masss"), ("asymmetric", "Heart")):
        with pytest.raises(ConfigError, match=f"{option}.* must name findings.*{text}"):
            contract.train_tiny("kim2021", planted, tmp_path / option, cache, fabric, **{option: text})
        assert not (tmp_path / option / "base").exists()
    with pytest.raises(ConfigError, match=r"backbone 'nosuch' .* cannot be made by timm"):
        contract.train_tiny("kim2021", planted, tmp_path / "backbone", cache, fabric, align_backbone="nosuch")
    sick = replace(planted, records=tuple(replace(r, positive=frozenset({"Mass"})) for r in planted.records))
    with pytest.raises(ConfigError, match="the anchor is the mean of normal films"):
        contract.train_tiny("kim2021", sick, tmp_path / "anchor", cache, fabric)
    assert not (tmp_path / "backbone" / "base").exists()
    assert not (tmp_path / "anchor" / "base").exists()
    assert KimConfig(asymmetric="Mass, Nodule").mirrored(TWO) == (False, False)
    assert KimConfig().mirrored(NIH14) == tuple(name != "Cardiomegaly" for name in NIH14)
    assert KimConfig().masked(NIH14) == BOXED8.names
