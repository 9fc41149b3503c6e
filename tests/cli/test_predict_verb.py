"""Predicting: whose maps, which boxes, and folders that are there already."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest

from commands import TINY, cxrlocus
from cxrlocus.data import open_index
from cxrlocus.methods import load_run
from cxrlocus.prediction.boxing import find_boxes
from cxrlocus.prediction.store import read_predictions

pytest_plugins = ("trained",)


@pytest.mark.parametrize("kind", ["gradcam", "gradcam++", "layercam"])
def test_gradient_maps_of_any_run(kind: str, films: Path, run: Path, pred: Path, decoded: Path, tmp_path: Path) -> None:
    cxrlocus("predict", run, "--data", films, "--out", tmp_path / "p", "--cache", decoded, "--maps", kind).succeeded()
    p, own = read_predictions(tmp_path / "p"), read_predictions(pred)
    assert (p.meta["method"], p.meta["variant"]) == (kind, "cam")
    np.testing.assert_allclose(p.prob, own.prob, atol=1e-6)
    assert (np.asarray(p.maps) >= 0).all()
    if kind == "gradcam":
        # With average pooling Grad-CAM at the last features is the positive part of the class activation map over the
        # number of its cells (Selvaraju et al. 2017, section 3.1).
        cells = p.maps.shape[2] * p.maps.shape[3]
        positive = np.maximum(own.maps.astype(np.float64), 0) / cells
        assert positive.max() > 1e-4
        np.testing.assert_allclose(p.maps.astype(np.float64), positive, rtol=2e-3, atol=1e-7)
    outcome = cxrlocus("evaluate", tmp_path / "p", "--data", films, "--resamples", 0, "--no-controls").succeeded()
    assert f"\n{kind} " in outcome.out


def test_own_maps_on_the_plain_grid(films: Path, decoded: Path, tmp_path: Path) -> None:
    run, data = tmp_path / "run", ("--data", films, "--cache", decoded)
    cxrlocus("train", "cam", *data, "--out", run, *TINY, "--set", "epochs=1", "--set", "stride=32").succeeded()
    for kind in ("", "grid"):
        cxrlocus("predict", run, *data, "--out", tmp_path / f"p{kind}", "--maps", kind).succeeded()
    own, grid = read_predictions(tmp_path / "p"), read_predictions(tmp_path / "pgrid")
    assert (grid.meta["method"], grid.meta["variant"], own.meta["variant"]) == ("cam", "grid", "")
    np.testing.assert_array_equal(own.maps, grid.maps)
    width, height = grid.sizes[0]
    np.testing.assert_array_equal(grid.frames[0], [[width, 0, 0], [0, height, 0]])
    offset = load_run(run)[0].offset  # type: ignore[attr-defined]  # a CamLocalizer
    assert offset < -0.1
    np.testing.assert_allclose(own.frames[0, :, 2], offset / own.maps.shape[2] * own.sizes[0])


def test_what_lies_on_the_plain_grid_anyway_stays_there(
    films: Path, run: Path, pred: Path, decoded: Path, tmp_path: Path
) -> None:
    words = ("predict", run, "--data", films, "--cache", decoded, "--out", tmp_path / "p", "--maps", "grid")
    assert "--layer says where --maps looks" in cxrlocus(*words, "--layer", "backbone").only_complaint()
    cxrlocus(*words).succeeded()
    np.testing.assert_array_equal(read_predictions(tmp_path / "p").frames, read_predictions(pred).frames)


def test_another_layer_gives_finer_maps(films: Path, run: Path, decoded: Path, tmp_path: Path) -> None:
    words = ("predict", run, "--data", films, "--cache", decoded, "--maps", "layercam", "--out")
    cxrlocus(*words, tmp_path / "last").succeeded()
    cxrlocus(*words, tmp_path / "early", "--layer", "backbone.net.layer1").succeeded()
    last, early = read_predictions(tmp_path / "last"), read_predictions(tmp_path / "early")
    assert early.maps.shape[2] > last.maps.shape[2]
    assert early.meta["variant"] != last.meta["variant"]


def test_boxes_are_those_of_the_maps(films: Path, run: Path, decoded: Path, tmp_path: Path) -> None:
    words = ("predict", run, "--data", films, "--cache", decoded, "--boxes", "--out")
    cxrlocus(*words, tmp_path / "all").succeeded()
    p = read_predictions(tmp_path / "all")
    found = find_boxes(p)
    with (tmp_path / "all" / "boxes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(r["image"], r["finding"]) for r in rows] == [
        (p.images[i], p.findings.names[c]) for i, c in zip(found.image, found.finding, strict=True)
    ]
    corners = np.array([[float(r[k]) for k in "xywh"] for r in rows])
    corners[:, 2:] += corners[:, :2]
    np.testing.assert_allclose(corners, found.xyxy)
    least = float(np.median(p.prob))
    cxrlocus(*words, tmp_path / "sure", "--min-prob", least).succeeded()
    with (tmp_path / "sure" / "boxes.csv").open(newline="", encoding="utf-8") as file:
        sure = list(csv.DictReader(file))
    assert len(sure) == int((p.prob[found.image, found.finding] >= least).sum())
    cxrlocus("evaluate", tmp_path / "sure" / "boxes.csv", "--data", films, "--resamples", 0).succeeded()


def test_boxes_of_other_predictions_do_not_stay(films: Path, run: Path, decoded: Path, tmp_path: Path) -> None:
    one, other = sorted((films / "images").iterdir())[:2]
    cxrlocus("predict", run, one, "--cache", decoded, "--out", tmp_path, "--boxes").succeeded()
    assert (tmp_path / "boxes.csv").is_file()
    cxrlocus("predict", run, other, "--cache", decoded, "--out", tmp_path).succeeded()
    assert read_predictions(str(tmp_path)).images == (str(other),)
    assert not (tmp_path / "boxes.csv").exists()


def test_what_is_recorded_names_the_run_the_data_and_the_weights(films: Path, run: Path, pred: Path) -> None:
    meta = json.loads((pred / "meta.json").read_text(encoding="utf-8"))
    info = json.loads((run / "run.json").read_text(encoding="utf-8"))
    index = open_index(films).split("test")
    assert meta["index_hash"] == index.hash
    assert meta["hashes"] == dict(index.hashes)
    assert meta["config"] == info["config"]
    assert set(meta["weights"]) == {"base"}
    assert (meta["method"], meta["split"], meta["dataset"]) == ("cam", "test", "phantom")
    assert str(run.parent) not in json.dumps(meta)


def test_the_same_prediction_again_gives_the_same_files(
    films: Path, run: Path, pred: Path, own_pred: Path, decoded: Path
) -> None:
    cxrlocus("predict", run, "--data", films, "--out", own_pred, "--cache", decoded).succeeded()
    assert {p.name: p.read_bytes() for p in own_pred.iterdir()} == {p.name: p.read_bytes() for p in pred.iterdir()}


def test_another_prediction_takes_the_place_of_one(films: Path, run: Path, own_pred: Path, decoded: Path) -> None:
    cxrlocus("predict", run, "--data", films, "--split", "train", "--out", own_pred, "--cache", decoded).succeeded()
    assert read_predictions(own_pred).images == open_index(films).split("train").images


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root writes everywhere")
def test_a_folder_that_cannot_be_written_is_named(films: Path, run: Path, decoded: Path, tmp_path: Path) -> None:
    locked = tmp_path / "locked"
    locked.mkdir(mode=0o555)
    for words in (
        ("predict", run, "--data", films, "--out", locked / "p", "--cache", decoded),
        ("predict", run, "--data", films, "--out", tmp_path / "p", "--cache", locked / "c"),
        ("data", "phantom", locked / "f", "--images", 3, "--size", 64),
    ):
        assert str(locked) in cxrlocus(*words).complaint()


@pytest.mark.parametrize("verb", ["predict", "train", "report"])
def test_a_place_where_nothing_can_be_made_is_named(
    verb: str, films: Path, run: Path, pred: Path, decoded: Path
) -> None:
    """/proc takes no folder, not even from root."""
    if not Path("/proc/self").exists():
        pytest.skip("needs /proc")
    out = Path("/proc/nowhere")
    words = {
        "predict": (run, "--data", films, "--cache", decoded),
        "train": ("cam", "--data", films, "--cache", decoded, "--preset", "demo"),
        "report": (pred, "--data", films, "--resamples", 0),
    }
    assert str(out) in cxrlocus(verb, *words[verb], "--out", out).complaint()
