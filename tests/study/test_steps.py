"""The steps behind the command line: how maps are judged, and the paper's rule from the command on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from commands import cxrlocus
from cxrlocus.data.records import Index
from cxrlocus.metrics.pixels import Overlap, dice, fnr, fpr, iop
from cxrlocus.protocols.masks import SCORES, FilmMeasures, Masking
from cxrlocus.study.steps import agreement, judge_maps
from cxrlocus.types import Explained, Findings, FloatArray

pytest_plugins = ("trained",)

NAN = float("nan")


def measures(i: list[float], p: list[float], n: list[float]) -> FilmMeasures:
    b = len(i)
    return FilmMeasures(
        image=("a",) * b, film=np.arange(b), finding=np.zeros(b, dtype=np.int64), seen=np.ones(b, dtype=np.bool_),
        level=np.zeros(b), iop=np.array(i), fpr=np.array(p), fnr=np.array(n),
        mask_area=np.zeros(b), scale="absolute", masking=Masking(),
    )  # fmt: skip


def test_agreement_on_numbers_by_hand() -> None:
    m = measures([0.5, NAN], [0.1, 0.0], [0.25, 1.0])
    assert agreement(m, "fpr_fnr") == pytest.approx(-(0.35 / 2 + 1.0 / 2) / 2)
    assert agreement(m, "iop") == pytest.approx(0.25)
    # 2 * .5 * .75 / 1.25 = .6, and an empty mask has none.
    assert agreement(m, "dice") == pytest.approx(0.3)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 9), st.integers(1, 9)), min_size=1))
def test_agreement_is_the_mean_of_what_levels_are_chosen_by(counts: list[tuple[int, int, int, int]]) -> None:
    """Of each film: cells of mask and box, of the mask alone, of the box alone, of neither."""
    both, mask, box, none = (np.array(c) for c in zip(*counts, strict=True))
    total = Overlap(both, both + mask, both + box, both + mask + box + none)
    m = measures(iop(total).tolist(), fpr(total).tolist(), fnr(total).tolist())
    for criterion, score in SCORES.items():
        assert agreement(m, criterion) == pytest.approx(float(np.mean(score(total))))
    assert np.isfinite(dice(total)).all()


class Bright:
    """A localizer that points at what is bright, or at what is dark."""

    findings, size, fit = Findings(("Mass",)), 64, "letterbox"

    def __init__(self, sign: float) -> None:
        self.sign = sign

    def explain(self, images: torch.Tensor, frames: FloatArray) -> Explained:
        return Explained(torch.full((len(images), 1), 0.5), self.sign * images, frames, "logit")


@pytest.mark.parametrize("criterion", ["fpr_fnr", "iop", "dice"])
def test_maps_that_point_at_the_finding_are_judged_better(
    planted: Index, cache: Path, tmp_path: Path, criterion: str
) -> None:
    """A Mass is the film's brightest square wherever there is no Nodule, which is as bright."""
    index = planted.only(("Mass",))
    alone = [i for i, r in enumerate(index.records) if r.boxes and "Nodule" not in planted.records[i].positive]
    index = index.subset(alone)
    good, bad = (judge_maps(Bright(s), index, criterion, tmp_path, cache=cache) for s in (1.0, -1.0))  # type: ignore[arg-type]  # a stand-in
    assert good == pytest.approx({"fpr_fnr": 0.0, "iop": 1.0, "dice": 1.0}[criterion], abs=0.01)
    assert bad < good - 0.3
    assert list(tmp_path.iterdir()) == []


def test_judging_does_not_depend_on_films_without_boxes(planted: Index, cache: Path, tmp_path: Path) -> None:
    index = planted.only(("Mass",))
    boxed = index.subset([i for i, r in enumerate(index.records) if r.boxes])
    one, other = (judge_maps(Bright(1.0), x, "iop", tmp_path, cache=cache) for x in (index, boxed))  # type: ignore[arg-type]  # a stand-in
    assert one == other


INFOMASK = (
    "train", "infomask2019", "--preset", "demo", "--set", "finding=Mass", "--set", "size=32", "--set", "epochs=2",
    "--set", "precision=fp32",
)  # fmt: skip


def test_the_papers_rule_from_the_command_line(films: Path, decoded: Path, tmp_path: Path) -> None:
    words = (*INFOMASK, "--data", films, "--cache", decoded, "--out", tmp_path / "run")
    sets = ("--set", "choose=boxes", "--set", "select=accuracy", "--set", "finalists=2", "--set", "val_fraction=0.5")
    cxrlocus(*words, *sets).succeeded()
    base = tmp_path / "run" / "base"
    assert sorted(p.name for p in base.iterdir()) == ["log.jsonl", "manifest.json", "weights.safetensors"]
    finalists = json.loads((base / "manifest.json").read_text(encoding="utf-8"))["progress"]["finalists"]
    assert len(finalists) == 2
    assert all(-1 <= one["score"] <= 0 for one in finalists)
    cxrlocus("predict", tmp_path / "run", "--data", films, "--cache", decoded, "--out", tmp_path / "pred").succeeded()
    meta = json.loads((tmp_path / "pred" / "meta.json").read_text(encoding="utf-8"))
    assert meta["knows"] == "checkpoint chosen on validation boxes"
    assert meta["leakage"] == ""
    # The same command again finds it done; by labels it would be another run.
    cxrlocus(*words, *sets).succeeded()
    assert "choose" in cxrlocus(*words, *sets[2:]).complaint()


def test_a_set_without_boxes_is_refused_in_one_line_and_the_folder_stays_free(
    own_films: Path, decoded: Path, tmp_path: Path
) -> None:
    (own_films / "BBox_List_2017.csv").unlink()
    words = (*INFOMASK, "--data", own_films, "--cache", decoded, "--out", tmp_path / "run")
    line = cxrlocus(*words, "--set", "choose=boxes").complaint()
    assert "choose=boxes needs validation films with boxes of Mass" in line
    assert "or choose=labels" in line
    cxrlocus(*words, "--set", "epochs=1").succeeded()


def test_a_run_of_a_version_without_the_option_goes_on(films: Path, decoded: Path, tmp_path: Path) -> None:
    words = (*INFOMASK, "--data", films, "--cache", decoded, "--out", tmp_path / "run")
    cxrlocus(*words).succeeded()
    for path in (tmp_path / "run" / "run.json", tmp_path / "run" / "base" / "manifest.json"):
        raw = json.loads(path.read_text(encoding="utf-8"))
        for name in ("choose", "finalists", "criterion"):
            del raw["config"][name]
        path.write_text(json.dumps(raw), encoding="utf-8")
    (tmp_path / "run" / "films.csv").unlink()
    before = (tmp_path / "run" / "base" / "weights.safetensors").stat().st_mtime_ns
    cxrlocus(*words).succeeded()
    assert (tmp_path / "run" / "base" / "weights.safetensors").stat().st_mtime_ns == before
    assert "holds another run" in cxrlocus(*words, "--set", "finalists=4").complaint()
    outcome = cxrlocus("predict", tmp_path / "run", "--data", films, "--cache", decoded, "--out", tmp_path / "pred")
    assert outcome.succeeded().told[-1].startswith("predicted")


@pytest.mark.filterwarnings("always::cxrlocus.methods.options.ScratchWarning")
def test_a_preset_that_is_made_for_weights_says_when_it_has_none(films: Path, decoded: Path, tmp_path: Path) -> None:
    small = ("--set", "epochs=1", "--set", "backbone=test_resnet", "--set", "size=64", "--set", "stem=adapt")
    words = ("train", "cam", "--data", films, "--cache", decoded, *small)
    told = cxrlocus(*words, "--preset", "cpu", "--out", tmp_path / "cpu").succeeded().told
    assert "preset cpu is made for pretrained weights, and test_resnet begins from random numbers" in str(told)
    assert "random numbers" not in str(
        cxrlocus(*words, "--preset", "demo", "--out", tmp_path / "demo").succeeded().told
    )
