"""Run folders and predictions folders from elsewhere, from another version, or damaged: refused in one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commands import TINY, cxrlocus

pytest_plugins = ("trained",)


def changed(file: Path, **fields: Any) -> None:
    """JSON with other fields; None takes a field away."""
    value = json.loads(file.read_text(encoding="utf-8")) | fields
    file.write_text(json.dumps({k: v for k, v in value.items() if v is not None}), encoding="utf-8")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def config_of(run: Path, **fields: Any) -> dict[str, Any]:
    value = json.loads((run / "run.json").read_text(encoding="utf-8"))["config"] | fields
    return {k: v for k, v in value.items() if v is not None}


BAD_RUNS: dict[str, tuple[Callable[[Path], object], str]] = {
    "another schema": (lambda r: changed(r / "run.json", schema=99), "run schema 99, but this version"),
    "no schema": (lambda r: changed(r / "run.json", schema=None), "run schema None, but this version"),
    "another method": (lambda r: changed(r / "run.json", method="yao2099"), "method 'yao2099', which this version"),
    "a field too many": (lambda r: changed(r / "run.json", extra=1), "fields differ from this version's: extra"),
    "a field missing": (lambda r: changed(r / "run.json", seed=None), "fields differ from this version's: seed"),
    "an option it does not know": (
        lambda r: changed(r / "run.json", config=config_of(r, dilation=2)),
        "config is not one of this version's",
    ),
    "an option out of range": (
        lambda r: changed(r / "run.json", config=config_of(r, size=7)),
        "config is not one of this version's",
    ),
    "another network": (
        lambda r: changed(r / "run.json", config=config_of(r, stride=32, backbone="resnet10t")),
        "not the weights of this network",
    ),
    "other findings": (lambda r: changed(r / "run.json", findings=["Mass"]), "not the weights of this network"),
    "a list": (lambda r: (r / "run.json").write_text("[]", encoding="utf-8"), "run schema None"),
    "run.json cut": (lambda r: cut(r / "run.json"), "run.json: cannot be read"),
    "run.json empty": (lambda r: (r / "run.json").write_bytes(b""), "run.json: cannot be read"),
    "run.json gone": (lambda r: (r / "run.json").unlink(), "no run.json, so not a run folder"),
    "weights cut": (lambda r: cut(r / "base" / "weights.safetensors"), "weights.safetensors: not the weights"),
    "weights empty": (
        lambda r: (r / "base" / "weights.safetensors").write_bytes(b""),
        "weights.safetensors: not the weights",
    ),
    "weights gone": (lambda r: (r / "base" / "weights.safetensors").unlink(), "weights.safetensors: not the weights"),
    "weights a pickle": (
        lambda r: (r / "base" / "weights.safetensors").write_bytes(b"\x80\x04\x95cos\nsystem\n."),
        "weights.safetensors: not the weights",
    ),
}


@pytest.mark.parametrize("name", BAD_RUNS)
def test_a_run_that_is_none_of_ours_is_refused(
    name: str, own_run: Path, films: Path, decoded: Path, tmp_path: Path
) -> None:
    spoil, words = BAD_RUNS[name]
    spoil(own_run)
    outcome = cxrlocus("predict", own_run, "--data", films, "--out", tmp_path / "p", "--cache", decoded)
    line = outcome.only_complaint()
    assert words in line
    assert str(own_run) in line
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("name", ["another schema", "a field too many", "run.json cut"])
def test_training_does_not_go_on_in_such_a_folder_nor_spoil_it(
    name: str, own_run: Path, films: Path, decoded: Path
) -> None:
    BAD_RUNS[name][0](own_run)
    before = {p: p.read_bytes() for p in own_run.rglob("*") if p.is_file()}
    line = cxrlocus(
        "train", "cam", "--data", films, "--out", own_run, "--cache", decoded, *TINY, "--set", "epochs=1"
    ).only_complaint()
    assert BAD_RUNS[name][1] in line
    assert before == {p: p.read_bytes() for p in own_run.rglob("*") if p.is_file()}


BAD_PREDICTIONS: dict[str, tuple[Callable[[Path], object], str]] = {
    "another schema": (lambda p: changed(p / "meta.json", schema=99), "predictions schema 99, but this version reads"),
    "no schema": (lambda p: changed(p / "meta.json", schema=None), "predictions schema None"),
    "no method": (lambda p: changed(p / "meta.json", method=None), "must name method, variant and dataset"),
    "meta.json gone": (lambda p: (p / "meta.json").unlink(), "no meta.json, so not a (whole) predictions folder"),
    "meta.json cut": (lambda p: cut(p / "meta.json"), "damaged predictions folder"),
    "table.csv cut": (lambda p: cut(p / "table.csv"), "damaged predictions folder"),
    "table.csv gone": (lambda p: (p / "table.csv").unlink(), "damaged predictions folder"),
    "maps cut": (lambda p: cut(p / "maps.npy"), "damaged predictions folder"),
    "maps of fewer films": (
        lambda p: np.save(p / "maps.npy", np.load(p / "maps.npy")[1:]),
        "damaged predictions folder",
    ),
    "a pickle": (
        lambda p: np.save(p / "frames.npy", np.array([{}], dtype=object), allow_pickle=True),
        "damaged predictions folder",
    ),
}


@pytest.mark.parametrize("name", BAD_PREDICTIONS)
def test_predictions_that_are_none_of_ours_are_refused(name: str, own_pred: Path, films: Path, tmp_path: Path) -> None:
    spoil, words = BAD_PREDICTIONS[name]
    spoil(own_pred)
    for outcome in (
        cxrlocus("evaluate", own_pred, "--data", films, "--resamples", 0),
        cxrlocus("report", own_pred, "--data", films, "--out", tmp_path / "page", "--resamples", 0),
    ):
        line = outcome.only_complaint()
        assert words in line
        assert str(own_pred) in line
    assert not (tmp_path / "page").exists()


def test_predictions_of_other_films_are_refused(pred: Path, films: Path) -> None:
    line = cxrlocus("evaluate", pred, "--data", films, "--split", "train", "--resamples", 0).only_complaint()
    assert "every film of the predictions must be in the evaluated index" in line


def test_weights_of_nothing_are_refused_before_training(films: Path, decoded: Path, tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_text("no weights", encoding="utf-8")
    line = cxrlocus(
        "train", "cam", "--data", films, "--out", tmp_path / "r", "--cache", decoded, *TINY,
        "--init", tmp_path / "w.safetensors",
    ).complaint()  # fmt: skip
    assert "w.safetensors: cannot be read as safetensors weights" in line
    assert not (tmp_path / "r").exists()
