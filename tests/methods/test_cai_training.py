"""Attention mining trained: stages, erased losses, preservation, what is fixed."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import contract
import numpy as np
import pytest
import torch
from contract import frames
from lightning_fabric import Fabric
from safetensors.torch import load_file

from cxrlocus.data.records import Index
from cxrlocus.errors import ConfigError
from cxrlocus.functional.losses import masked_bce
from cxrlocus.functional.mining import erase_step, mine_maps
from cxrlocus.functional.preservation import preservation_loss
from cxrlocus.methods import METHODS, load_run
from cxrlocus.methods.cai2018 import CaiConfig, CaiLocalizer
from cxrlocus.methods.cai2018.config import VARIANTS, stage_config, stages_of
from cxrlocus.methods.cai2018.model import MiningNet, build
from cxrlocus.methods.cai2018.objective import Erased, Eraser, MiningObjective, NewLayersObjective
from cxrlocus.training.fit import make_optimizer
from cxrlocus.types import Batch, Frame

SMALL = CaiConfig(backbone="test_resnet", msa_last=8, msa_before=4, mined_share=0.5, size=64)
DRAW = torch.Generator().manual_seed(0)
BATCH = Batch(
    torch.rand(4, 1, 64, 64, generator=DRAW),
    torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.0, 0.0]]),
    torch.tensor([[True, True], [True, True], [True, False], [True, True]]),
    torch.arange(4),
)


def net(seed: int = 0, config: CaiConfig = SMALL) -> MiningNet:
    torch.manual_seed(seed)
    made = build(config, 2)
    torch.nn.init.normal_(made.weight)
    return made.eval()


def objective(config: CaiConfig, step: int = 2, *, teacher: MiningNet | None = None) -> MiningObjective:
    before = [net(seed) for seed in range(1, step)]
    return MiningObjective(net(), config, Eraser(config, step, before), teacher).train()


def trained(planted: Index, folder: Path, cache: Path, fabric: Fabric, **options: str) -> Path:
    return contract.train_tiny("cai2018", planted, folder, cache, fabric, **options)


def log_of(folder: Path, stage: str) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / stage / "log.jsonl").read_text(encoding="utf-8").splitlines()]


def weights(folder: Path, stage: str) -> dict[str, torch.Tensor]:
    return load_file(folder / stage / "weights.safetensors")


def test_at_the_first_step_the_loss_is_that_of_whole_films() -> None:
    one = objective(replace(SMALL, kp="vanilla"), step=1)
    losses = one(BATCH)
    logits = one.net.classify(one.net.features(BATCH.images))
    torch.testing.assert_close(losses["bce"], masked_bce(logits, BATCH.target, BATCH.known))
    assert list(losses) == ["bce"]


@pytest.mark.parametrize("erase", ["all", "positive"])
@pytest.mark.parametrize("kp", ["none", "vanilla"])
def test_mined_films_are_erased_class_by_class_and_the_rest_are_whole(kp: str, erase: str) -> None:
    # Equations 1 and 2 with a copy of the features for every finding; two of four films are mined with "vanilla".
    one = objective(replace(SMALL, kp=kp, erase=erase), step=2)
    loss = one(BATCH)["bce"]
    with torch.no_grad():
        seer, x = one.eraser.before[0], one.net.features(BATCH.images)
        found = seer.evidence(seer.features(BATCH.images))
        open_cells = erase_step(found, torch.ones_like(found, dtype=torch.bool))
        if erase == "positive":
            open_cells |= ~((BATCH.target > 0) & BATCH.known)[:, :, None, None]
        if kp == "vanilla":
            open_cells[2:] = True
        copies = x[:, None] * open_cells[:, :, None]
        logits = torch.einsum("ncd,cd->nc", copies.mean((-2, -1)), one.net.weight) + one.net.bias
    torch.testing.assert_close(loss.detach(), masked_bce(logits, BATCH.target, BATCH.known))
    assert 0 < one.tallied()["erased"] < 1
    assert one.tallied() == {"erased": 0.0}


def test_masks_of_the_third_step_are_those_of_the_networks_of_the_first_two() -> None:
    eraser = Eraser(SMALL, 3, [net(1), net(2)])
    x = torch.zeros(4, 2, 4, 4)
    with torch.no_grad():
        found = [one.evidence(one.features(BATCH.images)) for one in eraser.before]
    assert torch.equal(eraser(BATCH.images, net().look(BATCH.images), x), mine_maps(found).open[2])


def test_current_masks_are_those_of_the_network_as_it_learns() -> None:
    stages = net().look(BATCH.images)
    evidence = net().evidence(net().top(stages)).detach()
    eraser = Eraser(replace(SMALL, masks="current"), 3)
    assert torch.equal(eraser(BATCH.images, stages, evidence), mine_maps([evidence] * 2).open[2])


def test_masks_above_one_backbone_take_no_pass_of_their_own() -> None:
    before = [net(1), net(2)]
    for one in before:
        one.stages.load_state_dict(net().stages.state_dict())
    calls: list[int] = []
    for one in before:
        one.stages.register_forward_hook(lambda *_: calls.append(1))
    stages, evidence = net().look(BATCH.images), torch.zeros(4, 2, 4, 4)
    top = Eraser(replace(SMALL, tune="top"), 3, before)(BATCH.images, stages, evidence)
    assert not calls
    assert torch.equal(top, Eraser(SMALL, 3, before)(BATCH.images, stages, evidence))
    assert len(calls) == 2
    assert not top.all()


def test_preservation_begins_at_zero_and_the_two_networks_are_compared_layer_by_layer() -> None:
    config = replace(SMALL, kp_lambda=0.25)
    same = objective(config, teacher=net())
    assert float(same(BATCH)["kp"].detach()) == 0.0
    other = objective(config, teacher=net(5))
    loss = other(BATCH)["kp"].detach()
    with torch.no_grad():
        pooled = []
        for one in (other.net, net(5)):
            before, last = one.stages(BATCH.images[2:])
            x = one.msa(before, last)  # type: ignore[misc]  # this Config has one
            pooled.append([before.mean((2, 3)), last.mean((2, 3)), x.mean((2, 3)), one.classify(x)])
    torch.testing.assert_close(loss, 0.25 * preservation_loss(*pooled, over="batch"), rtol=1e-4, atol=1e-5)


def test_what_is_preserved_is_averaged_in_float32_under_autocast() -> None:
    # At the film whose features lie around 100, bfloat16 (steps of .5) would hide a move of .1, or make it of nothing.
    one, images = net(), BATCH.images
    with torch.no_grad():
        for p in (*one.stages.parameters(), one.bias):
            p.add_(0.05)
    with torch.autocast("cpu", torch.bfloat16):
        stages = one.look(images)
        x = one.top(stages)
        pooled = one.pooled(stages, x, SMALL.layers)
        assert x.dtype == torch.bfloat16
        assert one.classify(x).dtype == torch.float32
    exact = [stages.before, stages.last, x]
    for mine, of in zip(pooled, exact, strict=False):
        torch.testing.assert_close(mine, of.double().mean((2, 3)).float(), rtol=1e-5, atol=1e-6)
    theirs = x.double().mean((2, 3)) @ one.weight.double().T + one.bias
    torch.testing.assert_close(pooled[3], theirs.float(), rtol=1e-5, atol=1e-5)


def test_layers_of_preservation_are_those_that_are_named() -> None:
    torch.manual_seed(0)
    x = net()
    stages = x.look(BATCH.images)
    shapes = [tuple(p.shape) for p in x.pooled(stages, x.top(stages), ("classifier", "3"))]
    assert shapes == [(4, 2), (4, 192)]
    plain = net(config=replace(SMALL, msa="none"))
    assert len(plain.pooled(plain.look(BATCH.images), stages.last, SMALL.layers)) == 3


def test_preservation_may_be_a_share_of_the_classification_loss() -> None:
    losses = objective(replace(SMALL, kp_weight="share"), teacher=net(5))(BATCH)
    torch.testing.assert_close(losses["kp"], 0.5 * losses["bce"].detach())
    assert losses["kp"].requires_grad


def test_a_batch_without_a_film_to_preserve_has_no_such_loss() -> None:
    one = Batch(*(part[:1] for part in BATCH))
    losses = objective(SMALL, teacher=net(5))(one)
    assert float(losses["kp"]) == 0.0
    assert float(losses["bce"].detach()) > 0


def test_frozen_networks_are_neither_trained_nor_saved_nor_changed() -> None:
    teacher = net(5)
    one = objective(SMALL, step=3, teacher=teacher)
    names = set(net().state_dict())
    assert {n.removeprefix("net.") for n in one.state_dict()} - names == {"tally"}
    before = {k: v.clone() for k, v in teacher.state_dict().items()}
    optimizer = make_optimizer(one, [], replace(SMALL, lr=0.1))
    torch.stack(list(one(BATCH).values())).sum().backward()
    optimizer.step()
    assert all(torch.equal(v, before[k]) for k, v in teacher.state_dict().items())
    assert not teacher.training
    assert all(p.grad is None for p in teacher.parameters())


@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_batch_statistics_move_only_if_told_to(norm: str) -> None:
    one = objective(replace(SMALL, kp="none", norm=norm))
    before = {k: v.clone() for k, v in one.net.state_dict().items() if "running" in k}
    one(BATCH)
    moved = [k for k, v in one.net.state_dict().items() if k in before and not torch.equal(v, before[k])]
    assert bool(moved) == (norm == "batch")


def test_new_layers_learn_alone() -> None:
    one = NewLayersObjective(net(), "bce").train()
    before = {k: v.clone() for k, v in one.net.state_dict().items()}
    optimizer = make_optimizer(one, [], replace(SMALL, lr=0.1))
    one(BATCH)["bce"].backward()
    optimizer.step()
    changed = {k for k, v in one.net.state_dict().items() if not torch.equal(v, before[k])}
    assert changed
    assert not any(k.startswith("stages.") for k in changed)


def test_the_validator_sees_films_erased_as_in_training() -> None:
    one, eraser = net(), Eraser(SMALL, 2, [net(1)])
    with torch.no_grad():
        evidence = one.evidence(one.features(BATCH.images))
        open_cells = eraser(BATCH.images, one.look(BATCH.images), evidence)
        logits = torch.where(open_cells, evidence, 0).mean((-2, -1)) + one.bias
        torch.testing.assert_close(Erased(one, eraser).classify(BATCH.images), logits)


def test_stages_do_not_depend_on_what_comes_later() -> None:
    spec = METHODS["cai2018"]
    configs = {v: spec.configure(variant=v, preset="cpu") for v in VARIANTS}
    for stage in ("base", "msa", "joint"):
        same = {v: c for v, c in configs.items() if stage in stages_of(c) and c.magnify == 1 and c.msa != "deconv"}
        assert len({stage_config(c, stage) for v, c in same.items()}) == 1, stage
    assert stage_config(configs["t1"], "mine1") == stage_config(configs[""], "mine1")
    assert stage_config(configs["kp-none"], "mine1") != stage_config(configs[""], "mine1")


def test_magnified_films_come_in_smaller_batches() -> None:
    one = METHODS["cai2018"].configure(variant="double-bilinear", preset="paper")
    assert (one.side, stage_config(one, "base").size, stage_config(one, "base").batch_size) == (1024, 1024, 32)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": "-1"}, "steps must be at least 0"),
        ({"kp_layers": "3,5"}, "kp_layers must be some of 3, 4, msa, classifier"),
        ({"kp_layers": ""}, "kp_layers must be some of"),
        ({"connectivity": "6"}, "connectivity must be 4 or 8"),
        ({"threshold": "1"}, r"threshold must be in \[0, 1\)"),
        ({"mined_share": "0"}, r"mined_share must be in \(0, 1\)"),
        ({"size": "100"}, "size must be a multiple of 32"),
        ({"kp_lambda": "-1"}, "kp_lambda must be at least 0"),
    ],
)
def test_options_that_are_off_are_refused(options: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        METHODS["cai2018"].configure(options=options)


def test_every_stage_begins_where_the_one_before_ended(runs: dict[str, Path]) -> None:
    run = runs["cai2018"]
    assert [p.parent.name for p in sorted(run.rglob("manifest.json"))] == ["base", "joint", "mine1", "mine2", "msa"]
    base, alone = weights(run, "base"), weights(run, "msa")
    below = [k for k in base if k.startswith("stages.")]
    assert below
    assert all(torch.equal(base[k], alone[k]) for k in below)
    assert base["weight"].shape == (2, 96)
    assert alone["weight"].shape == (2, 12)
    # Statistics of batch normalization stay those of the last stage before mining.
    joint, mined = weights(run, "joint"), weights(run, "mine2")
    statistics = [k for k in joint if "running" in k]
    assert statistics
    assert all(torch.equal(joint[k], mined[k]) for k in statistics)
    assert any(not torch.equal(joint[k], mined[k]) for k in below)


def test_the_log_tells_what_was_erased_and_what_was_forgotten(runs: dict[str, Path]) -> None:
    first, second = (log_of(runs["cai2018"], stage)[0] for stage in ("mine1", "mine2"))
    assert first["erased"] == 0.0
    assert first["auroc"] == first["auroc_whole"]
    assert 0 < second["erased"] < 1
    assert second["val_loss"] != second["val_loss_whole"]
    assert {"bce", "kp"} <= set(second)


def test_a_stage_that_is_there_is_not_trained_again(
    runs: dict[str, Path], planted: Index, cache: Path, fabric: Fabric, tmp_path: Path
) -> None:
    for path in runs["cai2018"].rglob("*"):
        if path.is_file() and "mine2" not in path.parts:
            copy = tmp_path / path.relative_to(runs["cai2018"])
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    seen: list[str] = []
    contract.train_tiny(
        "cai2018", planted, tmp_path, cache, fabric, on_step=lambda _d, _t, words: seen.append(words.split()[0])
    )
    assert set(seen) == {"mine2"}
    once, again = weights(runs["cai2018"], "mine2"), weights(tmp_path, "mine2")
    assert all(torch.equal(once[k], again[k]) for k in once)


def test_a_run_stopped_in_every_stage_ends_bit_for_bit_as_if_it_had_not(
    runs: dict[str, Path], planted: Index, cache: Path, fabric: Fabric, tmp_path: Path
) -> None:
    stopped: list[str] = []

    def stop(done: int, _total: int, words: str) -> None:
        stage = words.split()[0]
        if done == 2 and stage not in stopped:
            stopped.append(stage)
            signal.raise_signal(signal.SIGINT)

    for stage in ("base", "msa", "joint", "mine1", "mine2"):
        with pytest.raises(KeyboardInterrupt):
            contract.train_tiny("cai2018", planted, tmp_path, cache, fabric, on_step=stop)
        assert stopped[-1] == stage
        assert (tmp_path / stage / "resume.safetensors").is_file()
    contract.train_tiny("cai2018", planted, tmp_path, cache, fabric, on_step=stop)
    for stage in stopped:
        once, again = weights(runs["cai2018"], stage), weights(tmp_path, stage)
        assert all(torch.equal(once[k], again[k]) for k in once), stage
        logs = [[{k: v for k, v in row.items() if k != "seconds"} for row in log_of(f, stage)] for f in (
            runs["cai2018"], tmp_path)]  # fmt: skip
        assert logs[0] == logs[1], stage


@pytest.mark.parametrize("variant", ["msa-none", "double-deconv", "base", "kp-none", "top", "one-pass"])
def test_variants_train(variant: str, planted: Index, cache: Path, fabric: Fabric, tmp_path: Path) -> None:
    options = {"epochs": "1", "size": "32"} if variant == "double-deconv" else {"epochs": "1"}
    folder = contract.train_tiny("cai2018", planted, tmp_path, cache, fabric, variant=variant, **options)
    localizer, info = load_run(folder)
    assert isinstance(localizer, CaiLocalizer)
    assert localizer.size == 64
    told = {**info.config}
    assert {k: told[k] for k in VARIANTS[variant] if k not in ("steps", "size")} == {
        k: v for k, v in VARIANTS[variant].items() if k not in ("steps", "size")
    }
    said = localizer.explain(torch.rand(2, 1, 64, 64), frames(2))
    assert said.maps.shape == (2, 2, *((2, 2) if variant == "msa-none" else (4, 4)))
    assert said.kind == ("mask" if variant == "one-pass" else "logit")
    if variant == "top":
        joint, mined = weights(folder, "joint"), weights(folder, "mine2")
        assert all(torch.equal(joint[k], mined[k]) for k in joint if k.startswith("stages."))
        assert not torch.equal(joint["weight"], mined["weight"])


def test_it_learns_what_and_where_from_labels_alone(
    planted: Index, cache: Path, fabric: Fabric, tmp_path: Path, films: torch.Tensor
) -> None:
    folder = trained(
        planted, tmp_path, cache, fabric, epochs="8", augment="false", msa_epochs="2", joint_epochs="3", lr="0.01",
        mine_rate="0.3", joint_rate="0.3",
    )  # fmt: skip
    localizer, _ = load_run(folder)
    said = localizer.explain(films, frames(12))
    inside, area = [], []
    for k, record in enumerate(planted.split("test").records):
        for box in record.boxes:
            if box.finding == "Mass":
                x0, y0, x1, y1 = box.xyxy
                row, column = divmod(int(said.maps[k, 0].argmax()), said.maps.shape[-1])
                x, y = Frame(said.frames[k]).to_pixels((np.array([column, row]) + 0.5) / said.maps.shape[-1])
                inside.append(x0 - 8 <= x < x1 + 8 and y0 - 8 <= y < y1 + 8)
                area.append((x1 - x0 + 16) * (y1 - y0 + 16) / 64**2)
    assert len(inside) == 6
    assert np.mean(inside) > np.mean(area) + 0.2, "half a cell around a box is that share of the film"
