"""The comparative study: one training a cell, three policies from it, whatever stops it."""

from __future__ import annotations

import math
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import fake_training
import pytest
from fake_training import ROWS, Fakes
from safetensors.torch import save_file

from cxrlocus.data.records import Index
from cxrlocus.errors import ConfigError, DataError
from cxrlocus.methods.baselines.controls import CONTROLS
from cxrlocus.models.backbones import Backbone
from cxrlocus.prediction.store import read_predictions
from cxrlocus.protocols.result import read_results
from cxrlocus.study import compare as module
from cxrlocus.study.compare import Comparison, check_alike, compare, compared_setup
from cxrlocus.study.paired import Difference
from cxrlocus.study.rows import COMPARED, MEMBERS, Row
from cxrlocus.study.score import Measure
from cxrlocus.study.setup import Budget, Setup

LITTLE = ("wang2017", "infomask2019")


@pytest.fixture(scope="module")
def index(planted: Index) -> Index:
    return planted


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Fakes:
    made = Fakes()
    monkeypatch.setattr("cxrlocus.study.cells.train_run", made.train_run)
    monkeypatch.setattr("cxrlocus.study.cells.predict_run", made.predict_run)
    monkeypatch.setattr("cxrlocus.study.compare.ALL_PROTOCOLS", LITTLE)
    return made


def bars(_label: str) -> Callable[..., None]:
    return lambda *_, **__: None


def setup_in(out: Path, **options: Any) -> Setup:
    given = {"seeds": (0, 1), "preset": "demo", "measure": Measure(resamples=40, raster=64), **options}
    return compared_setup(Setup(out, out, **given), ROWS)


def done(index: Index, out: Path, **options: Any) -> Comparison:
    return compare(index, setup_in(out, **options), bars, ROWS)


@pytest.fixture(scope="module")
def straight(index: Index, tmp_path_factory: pytest.TempPathFactory) -> tuple[Comparison, Fakes, Path]:
    """The study undisturbed."""
    out = tmp_path_factory.mktemp("straight")
    with pytest.MonkeyPatch.context() as patch:
        made = Fakes()
        patch.setattr("cxrlocus.study.cells.train_run", made.train_run)
        patch.setattr("cxrlocus.study.cells.predict_run", made.predict_run)
        patch.setattr("cxrlocus.study.compare.ALL_PROTOCOLS", LITTLE)
        return done(index, out), made, out


def test_a_cell_is_trained_once_and_measured_under_every_policy(straight: tuple[Comparison, Fakes, Path]) -> None:
    found, made, _ = straight
    seeds = [[f"{what} {row.name}-seed{s}" for row in ROWS for what in ("train", "predict")] for s in (0, 1)]
    assert made.calls == seeds[0] + seeds[1], "seed 0 of every row comes first"
    assert list(found.blocks) == ["fixed", "validation", "oracle"]
    assert [m.name for m in found.methods] == ["cam", "cam (lse)", "kim2021", "consensus (validation)"]
    assert all(m.seeds == (0, 1) for m in found.methods)
    for policy, results in found.blocks.items():
        own = {r.policy for r in results if r.method == "cam" and r.quantity == "accuracy_iou"}
        assert own == {policy}
        assert {r.method for r in results} >= set(CONTROLS)
    assert found.controls == set(CONTROLS)
    assert found.missing == ()


def test_the_consensus_says_what_it_knows_and_is_measured_a_seed(straight: tuple[Comparison, Fakes, Path]) -> None:
    found, _, out = straight
    assert [m.knows for m in found.methods] == ["", "", "", "weights chosen on boxes of other patients"]
    meta = read_predictions(out / "predictions" / "consensus-seed1").meta
    assert [(m["method"], m["variant"]) for m in meta["members"]] == [("cam", ""), ("kim2021", "")]
    (row,) = [
        r
        for r in found.blocks["fixed"]
        if (r.method, r.finding, r.quantity, r.threshold) == ("consensus", "mean", "accuracy_iou", 0.3)
    ]
    assert "mean of 2 seeds" in row.note


def test_pairs_compare_the_numbers_of_the_tables(straight: tuple[Comparison, Fakes, Path]) -> None:
    found = straight[0]
    table = {
        (r.method if not r.variant else f"{r.method} ({r.variant})"): r.value
        for r in found.blocks["validation"]
        if (r.protocol, r.finding, r.quantity, r.threshold) == ("wang2017", "mean", "accuracy_iou", 0.3)
    }
    pairs = [d for d in found.differences if (d.finding, d.quantity, d.threshold) == ("mean", "accuracy_iou", 0.3)]
    # Four methods make six pairs, and each stands beside the controls but the one that is drawn by the truth.
    assert len(pairs) == 6 + 4 * (len(CONTROLS) - 1)
    for d in pairs:
        assert d.a == pytest.approx(table[d.first], abs=1e-12)
        assert d.b == pytest.approx(table[d.second], abs=1e-12)
    assert {d.quantity for d in found.differences} == {"accuracy_iou", "mask_dice"}


def test_every_row_stands_once_in_the_results(straight: tuple[Comparison, Fakes, Path]) -> None:
    found = straight[0]
    keys = [
        (r.protocol, r.method, r.variant, r.finding, r.quantity, repr(r.threshold), r.policy, r.detail)
        for r in found.results
    ]
    assert len(set(keys)) == len(keys) < sum(map(len, found.blocks.values()))
    assert {key[1] for key in keys} == {"cam", "kim2021", "consensus", *CONTROLS}


def test_a_second_call_does_nothing_and_says_the_same(
    straight: tuple[Comparison, Fakes, Path], index: Index, fakes: Fakes, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, _, out = straight
    before = {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}
    monkeypatch.setattr("cxrlocus.study.compare.score_predictions", None)
    monkeypatch.setattr("cxrlocus.study.compare.score_controls", None)
    again = done(index, out)
    assert same(again, found)
    assert fakes.calls == []
    assert before == {p: p.stat().st_mtime_ns for p in out.rglob("*") if p.is_file()}


def test_measuring_again_trains_nothing(index: Index, fakes: Fakes, tmp_path: Path) -> None:
    done(index, tmp_path, seeds=(0,))
    fakes.calls.clear()
    dice = Measure(criterion="dice", resamples=40, raster=64)
    missing = dict(done(index, tmp_path, seeds=(0,), measure=dice, budget=Budget(0)).missing)
    assert missing["cam-seed0"] == "predicted, not measured: not begun when the budget was used"
    done(index, tmp_path, seeds=(0,), measure=dice)
    assert fakes.calls == []
    names = {p.name for p in (tmp_path / "results").glob("cam-seed0*")}
    assert names == {
        f"cam-seed0-{told}.json" for told in ("fixed", "validation", "oracle", "validation-dice", "oracle-dice")
    }


def same(one: Comparison, other: Comparison) -> bool:
    """Whether two say the same; NaN is NaN."""
    return repr(one) == repr(other)


@pytest.mark.parametrize("where", ["predict_run", "write_results", "write_consensus"])
def test_stopped_anywhere_it_ends_with_the_same_tables(
    where: str, straight: tuple[Comparison, Fakes, Path], index: Index, fakes: Fakes, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    home = "cells" if where == "predict_run" else "compare"
    real = getattr(sys.modules[f"cxrlocus.study.{home}"], where)
    calls = []

    def stop_once(*args: Any, **options: Any) -> Any:
        calls.append(where)
        if len(calls) == 2 or where == "write_consensus":
            raise KeyboardInterrupt
        return real(*args, **options)

    with monkeypatch.context() as patch:
        patch.setattr(f"cxrlocus.study.{home}.{where}", stop_once)
        with pytest.raises(KeyboardInterrupt):
            done(index, tmp_path)
    assert same(done(index, tmp_path), straight[0])


def test_a_budget_that_is_used_leaves_cells_and_lists_them(
    straight: tuple[Comparison, Fakes, Path], index: Index, fakes: Fakes, tmp_path: Path
) -> None:
    nothing = done(index, tmp_path, budget=Budget(0))
    assert (nothing.blocks, nothing.methods, nothing.differences, fakes.calls) == ({}, (), [], [])
    assert len(nothing.missing) == 8
    # The clock stands at its start for Budget itself and the first four cells, then a minute is over.
    clock = iter([0.0] * 5 + [60.0] * 20)
    some = done(index, tmp_path, budget=Budget(1, clock=lambda: next(clock)))
    assert [(m.name, m.seeds) for m in some.methods] == [
        (name, (0,)) for name in ("cam", "cam (lse)", "kim2021", "consensus (validation)")
    ]
    assert dict(some.missing) == {
        **{f"{row.name}-seed1": "not begun when the budget was used" for row in ROWS},
        "consensus-seed1": "waits for cam-seed1, kim2021-seed1",
    }
    assert same(done(index, tmp_path), straight[0])


def test_rows_that_are_not_named_wait_and_the_consensus_with_them(
    straight: tuple[Comparison, Fakes, Path], index: Index, fakes: Fakes, tmp_path: Path
) -> None:
    some = done(index, tmp_path, seeds=(0,), rows=("cam", "consensus"))
    assert [m.name for m in some.methods] == ["cam"]
    assert dict(some.missing) == {
        "cam-lse-seed0": "not one of --rows",
        "kim2021-seed0": "not one of --rows",
        "consensus-seed0": "waits for kim2021-seed0",
    }
    with pytest.raises(ConfigError, match=r"--rows must name rows of this study .*consensus.*; got 'resnet'"):
        done(index, tmp_path, rows=("resnet",))
    assert same(done(index, tmp_path), straight[0])


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_killed_it_goes_on_to_the_same_tables(planted_root: Path, tmp_path: Path) -> None:
    def begin(out: str) -> subprocess.Popen[bytes]:
        words = (
            "study",
            "all",
            "--data",
            planted_root,
            "--out",
            tmp_path / out,
            "--cache",
            tmp_path,
            "--preset",
            "demo",
        )
        command = [sys.executable, fake_training.__file__, *map(str, words), "--seeds", "0"]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    process = begin("killed")
    end = time.monotonic() + 900
    while not list((tmp_path / "killed").glob("all/results/cam-lse*")):
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait(timeout=60) == -signal.SIGKILL
    assert not (tmp_path / "killed" / "all" / "tables.md").exists()
    both = [begin("killed"), begin("straight")]
    assert [one.wait(timeout=900) for one in both] == [0, 0]
    for name in ("tables.md", "results.json", "policies.svg"):
        one, other = ((tmp_path / out / "all" / name).read_bytes() for out in ("killed", "straight"))
        assert one == other, name
    assert read_results(tmp_path / "killed" / "all" / "results.json")


@pytest.mark.parametrize("preset", ["paper", "cpu", "demo"])
def test_every_row_can_be_made_of_films_of_one_size_on_one_backbone(preset: str, tmp_path: Path) -> None:
    setup = compared_setup(Setup(tmp_path, tmp_path, preset=preset))
    check_alike(COMPARED, setup)
    configs = [setup.config_of(row) for row in COMPARED]
    assert {c.size for c in configs} == {module.SIZES[preset]}
    # Presets of yao2018 hold out more; side by side all learn from the same films.
    assert {c.val_fraction for c in configs} == {0.1}
    backbones = {c.backbone for c in configs}
    assert len(backbones) == 2
    assert "paper" in backbones
    shared = [c for c, row in zip(configs, COMPARED, strict=True) if row.called == "shared-backbone"]
    assert {(c.backbone, c.stem, c.mean) for c in shared} == {(configs[0].backbone, configs[0].stem, configs[0].mean)}
    assert len(MEMBERS) == 5


def test_a_backbone_that_is_given_goes_to_the_rows_that_have_one(tmp_path: Path) -> None:
    setup = compared_setup(Setup(tmp_path, tmp_path, preset="cpu", options={"backbone": "resnet18"}))
    told = {row.name: setup.config_of(row).backbone for row in COMPARED}
    assert {name for name, backbone in told.items() if backbone == "paper"} == {
        "yao2018", "yao2018-average", "infomask2019-all",
    }  # fmt: skip
    assert {backbone for backbone in told.values() if backbone != "paper"} == {"resnet18"}


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"size": "100"}, "cam: size must be a multiple of 32"),
        ({"size": "96"}, "yao2018: "),
        ({"kim2021.size": "64"}, "kim2021-resnet: its films have 64 pixels, the study's 128"),
        (
            {"yao2018.val_fraction": "0.3"},
            "yao2018: val_fraction is 0.3, the study's 0.1: rows learn from the same films",
        ),
        ({"kim2021.backbone": "resnet18"}, "kim2021-resnet: backbone 'resnet18' must be that of cam, 'test_resnet'"),
        ({"epoch": "1"}, "cam: option 'epoch' must be one of"),
        ({"nope.epochs": "1"}, "--set nope.epochs: must name a method or variant"),
        ({"cai2018.mine_epochs": "many"}, "cai2018-base: mine_epochs must be a whole number"),
    ],
)
def test_a_row_that_cannot_be_made_is_named_before_the_first_is_trained(
    options: dict[str, str], line: str, index: Index, fakes: Fakes, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="^" + line.replace("'", ".")):
        compare(index, compared_setup(Setup(tmp_path, tmp_path, preset="demo", options=options)), bars)
    assert fakes.calls == []
    assert list(tmp_path.iterdir()) == []


def test_boxes_that_cannot_choose_for_others_are_refused_before_the_first_is_trained(
    index: Index, fakes: Fakes, tmp_path: Path
) -> None:
    one = next(r.patient for r in index.split("test").records if r.boxes)
    alone = replace(index, records=tuple(r if r.patient == one else replace(r, boxes=()) for r in index.records))
    with pytest.raises(DataError, match="policy validation chooses by the boxes of other patients"):
        done(alone, tmp_path)
    assert fakes.calls == []


def test_weights_go_to_the_rows_with_a_backbone(index: Index, fakes: Fakes, tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    save_file(Backbone("test_resnet").net.state_dict(), weights)
    setup = replace(setup_in(tmp_path / "s", seeds=(0,), init=weights), budget=Budget())
    rows = (Row("cam"), Row("yao2018"), next(row for row in COMPARED if row.told == "shared-backbone"))
    compare(index, setup, bars, rows)
    assert {name: job.init for name, job in fakes.jobs.items()} == {
        "cam-seed0": weights, "yao2018-seed0": None, "yao2018-shared-backbone-seed0": weights,
    }  # fmt: skip
    assert fakes.jobs["yao2018-shared-backbone-seed0"].options["backbone"] == "test_resnet"


def test_differences_have_intervals(straight: tuple[Comparison, Fakes, Path]) -> None:
    def ordered(d: Difference) -> bool:
        return math.isnan(d.lo) or d.lo <= d.hi

    assert all(ordered(d) for d in straight[0].differences)
    assert any(d.verdict for d in straight[0].differences)
