"""Studies: every row of a table over several seeds, gone on with where they were stopped."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from commands import TINY, cxrlocus
from cxrlocus.errors import ConfigError
from cxrlocus.methods import get_method
from cxrlocus.methods.baselines.controls import CONTROLS
from cxrlocus.methods.baselines.gradcam import GradCamLocalizer
from cxrlocus.models.backbones import Backbone
from cxrlocus.protocols.result import Result, read_results
from cxrlocus.study.rows import STUDIES, Row, options_of
from cxrlocus.study.seeds import over_seeds
from cxrlocus.study.setup import Budget, Setup
from cxrlocus.training.run import file_hash

pytest_plugins = ("trained",)


def result(value: float, *, finding: str = "Mass", threshold: float = 0.5) -> Result:
    return Result(
        "wang2017", "cam", "", "toy", finding, "accuracy_iou", threshold, "fixed", value, value - 0.1, value + 0.1, 9
    )


def test_seeds_become_their_mean_and_its_t_interval() -> None:
    """scipy.stats.t.interval(0.95, 2, loc=0.4, scale=scipy.stats.sem([0.2, 0.3, 0.7])) -> (-0.2572411, 1.0572411)."""
    (row,) = over_seeds([result(0.2), result(0.3), result(0.7)])
    np.testing.assert_allclose([row.value, row.lo, row.hi], [0.4, -0.2572411, 1.0572411], atol=1e-6)
    assert "3 seeds" in row.note


def test_one_seed_keeps_its_own_interval() -> None:
    assert over_seeds([result(0.2)]) == [result(0.2)]


def test_a_seed_without_a_number_is_told_and_not_counted() -> None:
    (row,) = over_seeds([result(0.2), result(math.nan), result(0.4)])
    assert row.value == pytest.approx(0.3)
    assert "2 seeds, undefined in 1" in row.note
    assert math.isnan(over_seeds([result(math.nan), result(math.nan)])[0].value)


def test_what_all_seeds_say_stays_in_the_note() -> None:
    """A run that knows boxes must not lose that by being one of three."""
    notes = [f"checkpoint chosen on validation boxes; map > {level}; 4 films left out" for level in (0.1, 0.2, 0.3)]
    (row,) = over_seeds([replace(result(v), note=note) for v, note in zip((0.2, 0.3, 0.7), notes, strict=True)])
    assert row.note == "checkpoint chosen on validation boxes; 4 films left out; mean of 3 seeds"


def test_n_is_that_of_the_seed_with_the_fewest() -> None:
    (row,) = over_seeds([replace(result(0.2), n=9), replace(result(0.4), n=7), replace(result(math.nan), n=0)])
    assert row.n == 7
    assert row.note == "mean of 2 seeds, undefined in 1; n from 7 to 9"


def test_a_seed_given_twice_is_refused(tmp_path: Path) -> None:
    """Its t interval would have no width: two equal trainings are one."""
    for seeds in ((0, 1, 0), (-1,), ()):
        with pytest.raises(ConfigError, match="seeds must be different and at least 0"):
            Setup(tmp_path, tmp_path, seeds)


def test_rows_of_an_undefined_threshold_belong_together() -> None:
    (row,) = over_seeds([result(0.2, threshold=math.nan), result(0.4, threshold=math.nan)])
    assert row.value == pytest.approx(0.3)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6), st.randoms())
def test_the_order_of_the_seeds_does_not_matter(values: list[float], random: object) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # a Random
    one, other = (over_seeds([result(v) for v in given])[0] for given in (values, shuffled))
    np.testing.assert_allclose([one.value, one.hi - one.lo], [other.value, other.hi - other.lo], atol=1e-9)


@pytest.mark.parametrize("name", STUDIES)
def test_every_row_of_a_study_can_be_made(name: str) -> None:
    for row in STUDIES[name]:
        get_method(row.method).configure(variant=row.variant, preset="demo")
    names = [row.name for row in STUDIES[name]]
    assert len(set(names)) == len(names)


def test_rows_that_differ_in_their_maps_share_a_run() -> None:
    assert Row("cam").trained == Row("cam", maps="gradcam").trained == "cam"
    assert Row("cam", maps="gradcam").name == "cam-gradcam"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(STUDIES, "wang2017", (Row("cam"), Row("cam", maps="gradcam")))


def test_a_study_is_gone_on_with_and_not_done_twice(
    films: Path, decoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, small: None
) -> None:
    words = (
        "study", "wang2017", "--data", films, "--out", tmp_path / "s", "--cache", decoded, "--seeds", 0, 1, *TINY,
        "--set", "epochs=1",
    )  # fmt: skip

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr(GradCamLocalizer, "explain", stop)
        cxrlocus(*words).complaint(status=130)
    out = tmp_path / "s" / "wang2017"
    first = {p: p.read_bytes() for p in (out / "results").iterdir()}
    assert len(first) == 1
    outcome = cxrlocus(*words).succeeded()
    rows = read_results(out / "results-fixed.json")
    assert {row.method for row in rows} == {"cam", "gradcam", *CONTROLS}
    assert all("2 seeds" in row.note for row in rows if row.method == "cam" and not math.isnan(row.value))
    assert first.items() <= {p: p.read_bytes() for p in (out / "results").iterdir()}.items()
    assert sorted(p.name for p in (out / "runs").iterdir()) == ["cam-seed0", "cam-seed1"]
    again = cxrlocus(*words).succeeded()
    assert again.out == outcome.out
    # The phantom is no NIH film: printed numbers would compare nothing.
    assert {row["source"] for row in json.loads((out / "results-fixed.json").read_text(encoding="utf-8"))} == {"ours"}
    assert "| *random_map* |" in (out / "tables-fixed.md").read_text(encoding="utf-8")


def test_a_slip_in_the_options_of_the_last_row_is_found_before_the_first_is_trained(
    films: Path, decoded: Path, tmp_path: Path
) -> None:
    words = ("study", "infomask2019", "--data", films, "--out", tmp_path / "s", "--cache", decoded, "--preset", "demo")
    assert "option 'backbon' must be" in cxrlocus(*words, "--set", "chexcam.backbon=test_resnet").only_complaint()
    assert "alpha must be a number" in cxrlocus(*words, "--set", "regl1.alpha=much").only_complaint()
    words = ("study", "infomask2019-alpha", *words[2:])
    assert "must name a method or variant of this study" in cxrlocus(*words, "--set", "regl1.alpha=1").only_complaint()
    assert not (tmp_path / "s").exists()


def test_a_criterion_that_would_choose_nothing_is_refused(films: Path, tmp_path: Path) -> None:
    words = ("--data", films, "--out", tmp_path / "s", "--criterion", "dice")
    assert "chooses nothing under --policy fixed" in cxrlocus("study", "infomask2019", *words).only_complaint()
    line = cxrlocus("study", "wang2017", *words, "--policy", "validation").only_complaint()
    assert "acts on protocol infomask2019 alone" in line


def test_films_without_boxes_are_refused_before_anything_is_trained(films: Path, tmp_path: Path) -> None:
    copy = tmp_path / "films"
    shutil.copytree(films, copy)
    (copy / "BBox_List_2017.csv").unlink()
    line = cxrlocus("study", "wang2017", "--data", copy, "--out", tmp_path / "s", "--cache", tmp_path).complaint()
    assert "no film of split 'test' has a box to measure against" in line
    assert not (tmp_path / "s").exists()


def test_weights_of_a_file_go_to_the_rows_that_have_a_backbone(
    films: Path, decoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = (Row("infomask2019", "gradcam"), Row("infomask2019", "chexcam"))
    monkeypatch.setitem(STUDIES, "infomask2019", rows)
    weights = tmp_path / "w.safetensors"
    save_file(Backbone("test_resnet").net.state_dict(), weights)
    words = (
        "study", "infomask2019", "--data", films, "--out", tmp_path / "s", "--cache", decoded, "--seeds", 0, "--preset",
        "demo", "--set", "epochs=1", "--set", "size=32", "--set", "width=0.1", "--set", "precision=fp32",
    )  # fmt: skip
    cxrlocus(*words, "--set", "chexcam.backbone=test_resnet", "--init", weights).succeeded()
    begun = {
        p.name: json.loads((p / "run.json").read_text(encoding="utf-8"))["init"]
        for p in (tmp_path / "s" / "infomask2019" / "runs").iterdir()
    }
    assert begun == {"infomask2019-gradcam-seed0": "", "infomask2019-chexcam-seed0": file_hash(weights)}
    text = (tmp_path / "s" / "infomask2019" / "tables-fixed.md").read_text(encoding="utf-8")
    assert text.startswith("# Study infomask2019\n")
    assert "preset demo, seeds 0; options: epochs=1" in text
    assert "infomask2019 (GradCAM) fnr: contradicts its row" in text
    monkeypatch.setitem(STUDIES, "infomask2019", rows[:1])
    line = cxrlocus(*words[:5], tmp_path / "t", *words[6:], "--init", weights).complaint()
    assert "no row has one" in line


def test_another_study_does_not_go_on_in_its_folder(films: Path, decoded: Path, tmp_path: Path, small: None) -> None:
    words = ("study", "wang2017", "--data", films, "--out", tmp_path / "s", "--cache", decoded, "--seeds", 0, *TINY)
    # A slip that stopped the very first run does not spoil the folder.
    assert "backbone 'nope'" in cxrlocus(*words, "--set", "epochs=1", "--set", "backbone=nope").complaint()
    cxrlocus(*words, "--set", "epochs=1").succeeded()
    line = cxrlocus(*words, "--set", "epochs=2").complaint()
    assert "holds another study (options epochs is '1' there and '2' here). Choose another --out" in line


def test_another_seed_with_other_options_does_not_join_a_study_in_its_first_run(
    films: Path, decoded: Path, tmp_path: Path, small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("study", "wang2017", "--data", films, "--out", tmp_path / "s", "--cache", decoded, *TINY)

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr("cxrlocus.methods.cam.recipe.fit", stop)
        cxrlocus(*words, "--set", "epochs=1", "--seeds", 0).complaint(status=130)
    line = cxrlocus(*words, "--set", "epochs=2", "--seeds", 1).complaint()
    assert "holds another study (options epochs is '1' there and '2' here). Choose another --out" in line


def test_an_option_may_be_of_one_variant(films: Path, decoded: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setitem(STUDIES, "wang2017", (Row("cam"), Row("cam", "max")))
    words = ("study", "wang2017", "--data", films, "--out", tmp_path / "s", "--cache", decoded, "--seeds", 0, *TINY)
    assert (
        "--set nope.epochs: must name a method or variant of this study before the dot (cam, cam-max, max)"
        in cxrlocus(*words, "--set", "nope.epochs=1").complaint()
    )
    cxrlocus(*words, "--set", "epochs=2", "--set", "max.epochs=1").succeeded()
    runs = tmp_path / "s" / "wang2017" / "runs"
    told = {
        p.name: json.loads((p / "run.json").read_text(encoding="utf-8"))["config"]["epochs"] for p in runs.iterdir()
    }
    assert told == {"cam-seed0": 2, "cam-max-seed0": 1}


def test_a_method_s_option_gives_way_to_a_variant_s_and_both_to_the_row_s_own() -> None:
    row = Row("cam", "lse", options=(("lr", "4"),))
    options = {"lr": "0", "epochs": "0", "cam.epochs": "1", "lse.epochs": "2", "size": "0", "cam.size": "1"}
    assert options_of(row, options) == {"lr": "4", "epochs": "2", "size": "1"}
    assert options_of(row, {**options, "cam-lse.epochs": "3"})["epochs"] == "3"
    assert options_of(Row("kim2021"), options) == {"lr": "0", "epochs": "0", "size": "0"}


def test_rows_that_are_named_are_begun_and_the_others_wait(
    films: Path, decoded: Path, tmp_path: Path, small: None
) -> None:
    words = ("study", "wang2017", "--data", films, "--out", tmp_path / "s", "--cache", decoded, "--seeds", 0, *TINY)
    words = (*words, "--set", "epochs=1")
    strange = cxrlocus(*words, "--rows", "cam", "lse").only_complaint()
    assert "--rows must name rows of this study (cam, cam-gradcam); got 'lse'" in strange
    assert not (tmp_path / "s" / "wang2017").exists()
    some = cxrlocus(*words, "--rows", "cam-gradcam").succeeded()
    assert some.told[-1] == "missing: 1 of 2 cells (cam-seed0); the same command without --rows goes on"
    results = tmp_path / "s" / "wang2017" / "results-fixed.json"
    assert {row.method for row in read_results(results)} - set(CONTROLS) == {"gradcam"}
    # What is there is shown whatever is named.
    assert "missing" not in cxrlocus(*words, "--rows", "cam").succeeded().told[-1]
    assert {row.method for row in read_results(results)} - set(CONTROLS) == {"cam", "gradcam"}


@pytest.mark.parametrize("minutes", [-1.0, math.nan])
def test_a_budget_is_a_number_of_minutes(minutes: float) -> None:
    with pytest.raises(ConfigError, match="must be at least 0 minutes"):
        Budget(minutes)


def test_a_study_whose_budget_is_used_says_what_is_missing_and_goes_on(
    films: Path, decoded: Path, tmp_path: Path, small: None
) -> None:
    words = ("study", "wang2017", "--data", films, "--out", tmp_path / "s", "--cache", decoded, "--seeds", 0, *TINY)
    words = (*words, "--set", "epochs=1")
    stopped = cxrlocus(*words, "--budget", 0).succeeded()
    assert stopped.told[-1] == "missing: 2 of 2 cells (cam-seed0, cam-gradcam-seed0); the same command goes on"
    page = tmp_path / "s" / "wang2017" / "tables-fixed.md"
    assert "Missing: cam-seed0, cam-gradcam-seed0." in page.read_text(encoding="utf-8")
    assert "missing" not in cxrlocus(*words, "--budget", 60).succeeded().told[-1]
    assert "Missing" not in page.read_text(encoding="utf-8")
