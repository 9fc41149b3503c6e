"""Usage errors: one line that names what is off, status 2 for what cannot be parsed, 1 for what cannot be done."""

from __future__ import annotations

import argparse
import warnings
from pathlib import Path

import pytest

from commands import TINY, cxrlocus
from cxrlocus import cli

pytest_plugins = ("trained",)

UNPARSED = {
    "": "VERB",
    "nonsense": "invalid choice: 'nonsense'",
    "--nonsense": "VERB",
    "data": "ACTION",
    "data nonsense": "invalid choice: 'nonsense'",
    "data phantom": "DIR",
    "data phantom d --images many": "--images: invalid int value: 'many'",
    "train": "METHOD, --data, --out",
    "train cam --data d": "required: --out",
    "train cam --data d --out r --nope 3": "unrecognized arguments: --nope 3",
    "train cam --data d --out r --seed x": "--seed: invalid int value: 'x'",
    "train cam --data d --out r --accelerator tpu": "--accelerator: invalid choice: 'tpu'",
    "train cam extra --data d --out r": "unrecognized arguments: extra",
    "predict --out p": "required: RUN",
    "predict run --data d": "required: --out",
    "predict run film.png --out p --nope": "unrecognized arguments: --nope",
    "evaluate pred": "required: --data",
    "evaluate --data d": "required: PRED",
    "evaluate pred --data d --policy best": "--policy: invalid choice: 'best'",
    "evaluate pred other --data d": "unrecognized arguments: other. See `cxrlocus evaluate --help`",
    "evaluate pred --data d --pol oracle": "unrecognized arguments: --pol",
    "report pred --data d": "required: --out",
    "study wang2017 --data d --out s --seeds": "--seeds: expected at least one argument",
    "demo --nope": "unrecognized arguments: --nope",
}


@pytest.mark.parametrize("words", UNPARSED)
def test_what_cannot_be_parsed(words: str) -> None:
    line = cxrlocus(*words.split()).only_complaint(status=2)
    assert UNPARSED[words] in line
    assert "--help`" in line


WRONG = {
    "train nope --data {films} --out {new}": "method must be one of cai2018, cam",
    "train cam --data {films} --out {new} --variant nope": "variant of cam must be one of",
    "train cam --data {films} --out {new} --preset nope": "preset of cam must be one of",
    "train cam --data {films} --out {new} --set nope=1": "option 'nope' must be one of pool",
    "train cam --data {films} --out {new} --set epochs": "--set takes NAME=VALUE; got 'epochs'",
    "train cam --data {films} --out {new} --set epochs=": "--set takes NAME=VALUE; got 'epochs='",
    "train cam --data {films} --out {new} --set epochs=many": "epochs must be a whole number; got 'many'",
    "train cam --data {films} --out {new} --set epochs=0": "epochs must be at least 1; got 0",
    "train cam --data {films} --out {new} --set lr=nan": "lr must be positive; got nan",
    "train cam --data {films} --out {new} --set lr=inf": "lr must be positive; got inf",
    "train cam --data {films} --out {new} --set pool=sum": "pool must be one of average, max, noisy_or",
    "train cam --data {films} --out {new} --set augment=yes": "augment must be true or false; got 'yes'",
    "train cam --data {films} --out {new} --set size=65": "size must be a multiple of 32",
    "train cam --data {films} --out {new} --devices 0": "devices and nodes must be at least 1",
    "train cam --data {films} --out {new} --init {missing}": "cannot be read (No such file or directory)",
    "train cam --data {films} --out {file}": "must be a folder",
    "train cam --data {films} --out {file}/run": "must be a folder",
    "train cam --data {missing} --out {new}": "no such folder",
    "train cam --data {films} --out {new} --dataset rsna9": "got 'rsna9'",
    "predict {run} --out {new}": "give either --data ROOT or image files",
    "predict {run} {file} --data {films} --out {new}": "give either --data ROOT or image files",
    "predict {missing} --data {films} --out {new}": "no run.json, so not a run folder",
    "predict {films} --data {films} --out {new}": "no run.json, so not a run folder",
    "predict {run} --data {films} --split nope --out {new}": "no film belongs to split nope; the splits",
    "predict {run} --data {films} --out {file}": "must be a folder",
    "predict {run} --data {films} --out {new} --maps nope": "maps must be one of gradcam, gradcam++, lay",
    "predict {run} --data {films} --out {new} --layer backbone": "--layer says where --maps looks",
    "predict {run} --data {films} --out {new} --batch 0": "batch must be at least 1 film; got 0",
    "predict {run} --data {films} --out {new} --min-prob 2": "--min-prob must be in [0, 1]; got 2.0",
    "predict {run} --data {films} --out {new} --min-prob nan": "--min-prob must be in [0, 1]; got nan",
    "predict {run} {missing} --out {new}": "no such file; no film could be read",
    "predict {run} {empty} --out {new}": "no files in",
    "evaluate {missing} --data {films}": "no such file or folder",
    "evaluate {films} --data {films}": "no meta.json, so not a (whole) predictions folder",
    "evaluate {pred} --data {missing}": "no such folder",
    "evaluate {pred} --data {films} --protocol nope": "protocol must be one of ",
    "evaluate {pred} --data {films} --split nope": "no film belongs to split nope",
    "evaluate {pred} --data {films} --resamples -1": "resamples and seed must not be negative; got -1",
    "evaluate {pred} --data {films} --seed -1": "resamples and seed must not be negative",
    "evaluate {pred} --data {films} --json {empty}": "must be a file, is a folder",
    "evaluate {pred} --data {films} --json {missing}/rows.json": "its folder does not exist",
    "evaluate {pred} --data {films} --markdown {missing}/t.md": "its folder does not exist",
    "report {pred} --data {films} --out {file}": "must be a folder",
    "report {missing} --data {films} --out {new}": "no such file or folder",
    "study nope --data {films} --out {new}": "study must be one of wang2017",
    "data phantom {file}": "must be a folder, is a file",
    "data phantom {films} --images 61 --size 64": "holds another phantom (images",
    "data phantom {run}": "must be empty or absent, holds other files",
    "data phantom {new} --images 0": "images must be at least 1; got 0",
    "data phantom {new} --normal-share 1.5": "normal_share must lie in [0, 1]; got 1.5",
    "data phantom {new} --extra-finding -1": "extra_finding must lie in [0, 1]; got -1",
    "data phantom {new} --size 8": "size must lie in [64, 4096] pixels; got 8",
    "data phantom {new} --test-fraction nan": "test_fraction must lie in [0, 1]; got nan",
    "data check {missing}": "no such folder",
    "data check {file}": "not a folder that can be read",
    "data check {empty}": "must say what this is",
    "data check {films} --dataset folder": "labels.csv: cannot be read",
}


@pytest.mark.parametrize("words", WRONG)
def test_what_cannot_be_done(words: str, films: Path, run: Path, pred: Path, decoded: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("text", encoding="utf-8")
    names = {name: tmp_path / name for name in ("new", "missing", "empty", "file")}
    filled = [word.format(films=films, run=run, pred=pred, **names) for word in words.split()]
    cache = ["--cache", decoded] if filled[0] in {"train", "predict", "study"} else []
    if filled[0] == "train" and "--preset" not in filled:
        cache += ["--preset", "demo"]
    assert WRONG[words] in cxrlocus(*filled, *cache).complaint()
    assert not (tmp_path / "new").exists() or not any((tmp_path / "new").iterdir())


def test_a_slip_does_not_spoil_the_folder(films: Path, decoded: Path, tmp_path: Path) -> None:
    words = ("train", "cam", "--data", films, "--out", tmp_path / "r", "--cache", decoded, *TINY, "--set", "epochs=1")
    slips = {
        "backbone=nope": "backbone 'nope' at stride 16 cannot be made by timm",
        "backbone=no/such": "backbone 'no/such' at stride 16 cannot be made by timm",
        "stride=7": "stride must be 16 or 32; got 7",
        "select=luck": "select must be one of auroc, accuracy, val_loss, cell_loss; got 'luck'",
    }
    for slip, told in slips.items():
        assert told in cxrlocus(*words, "--set", slip).complaint()
    cxrlocus(*words).succeeded()


def test_nothing_is_measured_before_the_answer_can_be_written(films: Path, pred: Path, tmp_path: Path) -> None:
    outcome = cxrlocus("evaluate", pred, "--data", films, "--json", tmp_path / "no" / "rows.json")
    assert outcome.out == ""
    outcome.only_complaint()


def test_an_unknown_layer_lists_the_layers(films: Path, run: Path, decoded: Path, tmp_path: Path) -> None:
    line = cxrlocus(
        "predict", run, "--data", films, "--out", tmp_path / "p", "--cache", decoded, "--maps", "gradcam",
        "--layer", "nope",
    ).only_complaint()  # fmt: skip
    assert "layer 'nope' is not in the network; its modules begin with backbone," in line


def test_debug_shows_the_traceback_and_the_line_all_the_same(tmp_path: Path) -> None:
    outcome = cxrlocus("data", "check", tmp_path / "missing", "--debug")
    assert outcome.told[0].startswith("Traceback (most recent call last)")
    assert any(line.startswith("cxrlocus.errors.DataError") for line in outcome.told)
    assert outcome.told[-1].startswith("cxrlocus data: ")
    assert outcome.status == 1


def test_an_error_nobody_thought_of_is_one_line_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(_root: Path, _dataset: str) -> None:
        raise ZeroDivisionError("a\nb")

    monkeypatch.setattr("cxrlocus.data.open_index", breaks)
    assert cxrlocus("data", "check", tmp_path).told == [
        "cxrlocus data: unexpected ZeroDivisionError: a b. Please report it, with what --debug shows."
    ]


def test_a_refused_training_leaves_what_was_there(films: Path, run: Path, decoded: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    line = cxrlocus(
        "train", "cam", "--data", films, "--out", run, "--cache", decoded, *TINY, "--set", "epochs=7"
    ).only_complaint()
    assert "holds another run (config epochs is 1 there and 7 here)" in line
    assert before == {p: p.stat().st_mtime_ns for p in run.rglob("*")}


def test_a_warning_is_one_line_without_a_place_in_the_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_: object) -> int:
        warnings.warn("the mask is\n  dead", UserWarning, stacklevel=1)
        return 0

    monkeypatch.setattr(cli, "parse", lambda _: argparse.Namespace(verb="train", run=run))
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert cli.main(["train"]) == 0
    assert capsys.readouterr().err == "warning: the mask is dead\n"
