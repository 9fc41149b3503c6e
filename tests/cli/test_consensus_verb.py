"""``cxrlocus consensus`` as a person runs it: a folder like any other, and one line where it cannot be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from commands import cxrlocus
from cxrlocus.prediction.store import read_predictions

pytest_plugins = ("trained",)


@pytest.fixture(scope="module")
def pair(pred: Path, run: Path, films: Path, decoded: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The run's own maps, and gradient maps of it."""
    other = tmp_path_factory.mktemp("pair") / "layercam"
    cxrlocus("predict", run, "--data", films, "--out", other, "--cache", decoded, "--maps", "layercam").succeeded()
    return [pred, other]


def test_evaluate_and_report_work_on_it(pair: list[Path], films: Path, tmp_path: Path) -> None:
    out = tmp_path / "consensus"
    told = cxrlocus("consensus", *pair, "--out", out).succeeded().told
    assert told[-1] == f"combined: {out} (2 members, 15 films)"
    meta = json.loads((out / "meta.json").read_text(encoding="utf-8"))
    assert (meta["method"], meta["variant"], meta["split"], meta["kind"]) == ("consensus", "", "test", "logit")
    assert [m["method"] for m in meta["members"]] == ["cam", "layercam"]
    assert meta["consensus_weights"] == {"scheme": "equal", "weights": [0.5, 0.5]}
    table = cxrlocus("evaluate", out, "--data", films, "--no-controls", "--resamples", 10).succeeded().out
    assert "\nconsensus " in table
    cxrlocus("report", out, pair[0], "--data", films, "--out", tmp_path / "page", "--resamples", 10).succeeded()
    assert "consensus" in (tmp_path / "page" / "report.html").read_text(encoding="utf-8")


def test_weights_by_boxes_are_recorded_with_whose_boxes(pair: list[Path], films: Path, tmp_path: Path) -> None:
    for scheme, whose in (("validation", "other patients"), ("oracle", "the test boxes")):
        out = tmp_path / scheme
        words = ("consensus", *pair, "--data", films, "--weights", scheme, "--out", out, "--grid", 8)
        assert any("weights" in line for line in cxrlocus(*words).succeeded().told)
        back = read_predictions(out)
        assert whose in back.meta["knows"]
        assert back.meta["variant"] == scheme
        halves = back.meta["consensus_weights"]["halves"]
        assert all(sum(w) == pytest.approx(1, abs=1e-4) for half in halves for w in half.values())
        assert back.maps.shape[2:] == (8, 8)


def test_the_same_command_again_writes_the_same(pair: list[Path], tmp_path: Path) -> None:
    out, again = tmp_path / "a", tmp_path / "b"
    for folder in (out, out, again):
        cxrlocus("consensus", *pair, "--weights", "3,1", "--scale", "rank", "--out", folder).succeeded()
    one, other = read_predictions(out), read_predictions(again)
    assert np.array_equal(one.maps, other.maps)
    assert one.meta == other.meta


WRONG = {
    "consensus {pred} --out {new}": "at least two different predictions folders; got 1",
    "consensus {pred} {pred} --out {new}": "different predictions folders; got 2, 1 of them twice",
    "consensus {pred} {other} --out {pred}": "--out must not be one of the combined folders",
    "consensus {pred} {missing} --out {new}": "no such file or folder",
    "consensus {pred} {other} --out {new} --weights best": "--weights must be equal, validation, oracle or numbers",
    "consensus {pred} {other} --out {new} --weights 1,2,3": "weights must be 2 numbers",
    "consensus {pred} {other} --out {new} --weights 0,0": "not all 0",
    "consensus {pred} {other} --out {new} --weights nan,1": "weights must be 2 numbers",
    "consensus {pred} {other} --out {new} --weights validation": "give --data ROOT",
    "consensus {pred} {other} --out {new} --data {missing}": "--weights is equal; leave it out",
    "consensus {pred} {other} --out {new} --grid 0": "--grid must be from 1 to 1024",
    "consensus {pred} {other} --out {file}": "must be a folder",
}


@pytest.mark.parametrize("words", WRONG)
def test_what_cannot_be_combined(words: str, pair: list[Path], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    names = {"pred": pair[0], "other": pair[1], **{k: tmp_path / k for k in ("new", "missing", "file")}}
    assert WRONG[words] in cxrlocus(*words.format(**names).split()).complaint()


def test_boxes_that_are_missing_are_told(pair: list[Path], own_films: Path, tmp_path: Path) -> None:
    (own_films / "BBox_List_2017.csv").unlink()
    words = ("consensus", *pair, "--data", own_films, "--weights", "validation", "--out", tmp_path / "out")
    assert "no predicted film has a box" in cxrlocus(*words).complaint()


def test_a_member_that_is_cut_short_is_told(pair: list[Path], own_pred: Path, tmp_path: Path) -> None:
    shutil.copytree(pair[1], tmp_path / "other")
    (own_pred / "maps.npy").write_bytes((own_pred / "maps.npy").read_bytes()[:200])
    line = cxrlocus("consensus", own_pred, tmp_path / "other", "--out", tmp_path / "out").complaint()
    assert "damaged predictions folder" in line
