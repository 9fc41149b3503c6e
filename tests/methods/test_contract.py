"""One contract for every method in METHODS."""

from __future__ import annotations

import json
import math
from dataclasses import fields
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
from cxrlocus.errors import ConfigError, RunError
from cxrlocus.methods import METHODS, get_method, load_run
from cxrlocus.methods.cam.model import CamLocalizer
from cxrlocus.models.registration import registered
from cxrlocus.training.fit import FitConfig
from cxrlocus.types import MAP_KINDS, Localizer

CHOICES = [(m, p, v) for m, spec in METHODS.items() for p in spec.presets for v in spec.variants]


@pytest.fixture(params=sorted(METHODS))
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def localizer(runs: dict[str, Path], method: str) -> Localizer:
    return load_run(runs[method])[0]


def test_every_method_has_a_tiny_training_and_its_own_name() -> None:
    assert set(contract.TINY) == set(METHODS)
    assert all(spec.name == name for name, spec in METHODS.items())
    assert all("" in spec.variants for spec in METHODS.values())
    assert all({"cpu", "paper"} <= set(spec.presets) for spec in METHODS.values())


@pytest.mark.parametrize(("name", "preset", "variant"), CHOICES)
def test_every_preset_and_variant_is_a_config(name: str, preset: str, variant: str) -> None:
    spec = METHODS[name]
    config = spec.configure(preset=preset, variant=variant)
    assert isinstance(config, FitConfig)
    chosen = {**spec.presets[preset], **spec.variants[variant]}
    assert {k: getattr(config, k) for k in chosen} == chosen
    assert json.loads(json.dumps(vars(config))).keys() == {f.name for f in fields(config)}


def test_options_stand_over_variants_and_variants_over_presets(method: str) -> None:
    config = get_method(method).configure(preset="cpu", options={"epochs": "7", "lr": "1e-5"})
    assert (config.epochs, config.lr) == (7, 1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"colour": "blue"}, "option 'colour' must be one of"),
        ({"epochs": "many"}, "epochs must be a whole number; got 'many'"),
        ({"epochs": "1.5"}, "epochs must be a whole number"),
        ({"epochs": "0"}, "epochs must be at least 1"),
        ({"lr": "nan"}, "lr must be positive"),
        ({"channels_last": "yes"}, "channels_last must be true or false"),
        ({"optimizer": "lion"}, "optimizer must be one of adamw, adam, sgd"),
        ({"precision": "fp8"}, "precision must be one of auto, fp32, bf16"),
    ],
)
def test_wrong_options_are_refused(method: str, options: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        get_method(method).configure(options=options)


def test_unknown_names_are_refused(method: str) -> None:
    with pytest.raises(ConfigError, match=f"variant of {method} must be one of '', .*; got 'x'"):
        get_method(method).configure(variant="x")
    with pytest.raises(ConfigError, match=f"preset of {method} must be one of .*; got 'x'"):
        get_method(method).configure(preset="x")
    with pytest.raises(ConfigError, match="method must be one of"):
        get_method("x")


def test_explain_says_what_it_declares(localizer: Localizer, films: torch.Tensor) -> None:
    said = localizer.explain(films, frames(len(films)))
    n, c = len(films), len(localizer.findings)
    assert said.prob.shape == (n, c)
    assert said.maps.shape[:2] == (n, c)
    assert said.prob.dtype == said.maps.dtype == torch.float32
    assert said.prob.device.type == said.maps.device.type == "cpu"
    assert said.kind in MAP_KINDS
    assert torch.isfinite(said.maps).all()
    assert ((said.prob >= 0) & (said.prob <= 1)).all()
    assert said.prob.std() > 0
    assert (said.maps.flatten(2).std(-1) > 0).all()
    if said.kind != "logit":
        assert ((said.maps >= 0) & (said.maps <= 1)).all()
    assert said.frames.shape == (n, 2, 3)
    assert np.isfinite(said.frames).all()
    # A method that aligns films gives frames of its own.
    if getattr(localizer.net, "aligner", None) is None:
        np.testing.assert_array_equal(said.frames, registered(frames(n), localizer.offset, said.maps.shape[2:]))
    assert not said.maps.requires_grad
    assert not said.prob.requires_grad


def test_explain_repeats_itself_and_leaves_modes_and_random_numbers_alone(
    localizer: Localizer, films: torch.Tensor
) -> None:
    net = localizer.net  # type: ignore[attr-defined]  # every method so far has one
    given = films.clone()
    for training in (True, False):
        net.train(training)
        state, weights = torch.get_rng_state(), {k: v.clone() for k, v in net.state_dict().items()}
        one, other = localizer.explain(films, frames(12)), localizer.explain(films, frames(12))
        assert torch.equal(one.maps, other.maps)
        assert torch.equal(one.prob, other.prob)
        assert torch.equal(torch.get_rng_state(), state)
        assert all(module.training is training for module in net.modules())
        assert all(torch.equal(v, weights[k]) for k, v in net.state_dict().items())
        assert torch.is_grad_enabled()
    assert torch.equal(films, given)
    assert not films.requires_grad


def test_a_film_alone_is_explained_as_in_a_batch(localizer: Localizer, films: torch.Tensor) -> None:
    together = localizer.explain(films[:3], frames(3))
    for i in range(3):
        alone = localizer.explain(films[i : i + 1], frames(1))
        torch.testing.assert_close(alone.maps[0], together.maps[i], rtol=1e-3, atol=1e-4)
        torch.testing.assert_close(alone.prob[0], together.prob[i], rtol=1e-3, atol=1e-5)


def test_a_run_loads_bit_for_bit(runs: dict[str, Path], method: str, films: torch.Tensor) -> None:
    one, info = load_run(runs[method])
    other, _ = load_run(runs[method])
    assert info.method == method
    assert one.findings.names == tuple(info.findings)
    assert torch.equal(one.explain(films, frames(12)).maps, other.explain(films, frames(12)).maps)


def test_a_trained_run_is_not_trained_again(
    runs: dict[str, Path], method: str, planted: Index, cache: Path, fabric: Fabric
) -> None:
    files = {p: p.stat().st_mtime_ns for p in runs[method].rglob("weights.safetensors")}
    steps: list[int] = []
    contract.train_tiny(method, planted, runs[method], cache, fabric, on_step=lambda done, *_: steps.append(done))
    assert files
    assert steps == []
    assert {p: p.stat().st_mtime_ns for p in runs[method].rglob("weights.safetensors")} == files


def test_a_run_folder_with_other_settings_is_refused(
    runs: dict[str, Path], method: str, planted: Index, cache: Path, fabric: Fabric
) -> None:
    with pytest.raises(RunError, match=r"holds another run .*config"):
        contract.train_tiny(method, planted, runs[method], cache, fabric, epochs="3")


def test_training_films_and_validation_films_share_no_patient(
    runs: dict[str, Path], method: str, planted: Index
) -> None:
    held = (runs[method] / "val_list.txt").read_text(encoding="utf-8").split()
    patients = {planted.records[planted.position[name]].patient for name in held}
    rest = {r.patient for r in planted.split("train").records if r.image not in held}
    assert held
    assert not patients & rest
    assert {planted.records[planted.position[name]].split for name in held} == {"train"}


def damage(folder: Path, how: str) -> None:
    run = folder / "run.json"
    raw = json.loads(run.read_text(encoding="utf-8"))
    if how == "no weights":
        for path in folder.rglob("weights.safetensors"):
            path.unlink()
    elif how == "cut weights":
        for path in folder.rglob("weights.safetensors"):
            path.write_bytes(path.read_bytes()[:-16])
    elif how == "no run":
        run.unlink()
    elif how == "other method":
        run.write_text(json.dumps({**raw, "method": "seance"}), encoding="utf-8")
    elif how == "other findings":
        run.write_text(json.dumps({**raw, "findings": ["Mass"]}), encoding="utf-8")
    else:
        key, value = {"strange option": ("colour", 1), "wrong option": ("backbone", "nosuch")}[how]
        run.write_text(json.dumps({**raw, "config": {**raw["config"], key: value}}), encoding="utf-8")


@pytest.mark.parametrize(
    "how",
    ["no weights", "cut weights", "no run", "other method", "other findings", "strange option", "wrong option"],
)
def test_a_damaged_run_is_one_clear_line(runs: dict[str, Path], method: str, tmp_path: Path, how: str) -> None:
    for path in runs[method].rglob("*"):
        if path.is_file():
            copy = tmp_path / path.relative_to(runs[method])
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(path.read_bytes())
    damage(tmp_path, how)
    with pytest.raises(RunError) as caught:
        load_run(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_cam_says_the_sigmoid_of_its_maps_mean_and_bias(runs: dict[str, Path], films: torch.Tensor) -> None:
    localizer, _ = load_run(runs["cam"])
    assert isinstance(localizer, CamLocalizer)
    said = localizer.explain(films, frames(12))
    logits = said.maps.mean((-2, -1)) + localizer.net.bias.detach().cpu()
    torch.testing.assert_close(said.prob, torch.sigmoid(logits), rtol=1e-4, atol=1e-5)
    assert said.maps.shape[-2:] == (4, 4)


@pytest.mark.parametrize("variant", ["", "max", "lse", "weighted", "wang2017"])
def test_cams_variants_train(variant: str, planted: Index, cache: Path, fabric: Fabric, tmp_path: Path) -> None:
    folder = contract.train_tiny("cam", planted, tmp_path / "run", cache, fabric, variant=variant, epochs="1")
    logged = [json.loads(line) for line in (folder / "base" / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert math.isfinite(logged[0]["weighted_bce" if variant in {"weighted", "wang2017"} else "bce"])
    loaded = load_run(folder)[0]
    assert isinstance(loaded, CamLocalizer)
    assert loaded.net.pool == {"max": "max", "lse": "lse", "wang2017": "lse"}.get(variant, "average")


def test_cam_starts_from_the_weights_of_a_file(planted: Index, cache: Path, fabric: Fabric, tmp_path: Path) -> None:
    torch.manual_seed(7)
    net = timm.create_model("test_resnet", num_classes=10)
    save_file(net.state_dict(), tmp_path / "init.safetensors")
    init, still = tmp_path / "init.safetensors", {"epochs": "1", "lr": "1e-12", "stem": "repeat"}
    folder = contract.train_tiny("cam", planted, tmp_path / "run", cache, fabric, init=init, **still)
    trained = load_file(folder / "base" / "weights.safetensors")
    for name, parameter in net.named_parameters():
        if f"backbone.net.{name}" in trained:
            torch.testing.assert_close(trained[f"backbone.net.{name}"], parameter.detach())
    assert sum(name.startswith("backbone.net.") for name in trained) > 20
