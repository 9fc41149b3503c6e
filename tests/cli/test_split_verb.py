"""``cxrlocus data split``: lists that every layout finds, drawn once, that a training then takes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from commands import TINY, cxrlocus
from cxrlocus.data import open_index

pytest_plugins = ("trained",)

TOLD = pytest.mark.filterwarnings("always::cxrlocus.data.nih_names.LeakWarning")
LISTS = {"train": "train_list.txt", "val": "val_list.txt", "test": "test_list.txt"}


def counts(text: str) -> dict[str, int]:
    """List -> its films, as the verb printed them."""
    return {Path(line.split(": ")[0]).name: int(line.split(": ")[1].split()[0]) for line in text.splitlines()}


def test_the_official_test_list_is_kept_and_the_rest_is_drawn(own_films: Path, decoded: Path, tmp_path: Path) -> None:
    before, official = open_index(own_films), (own_films / "test_list.txt").read_bytes()
    outcome = cxrlocus("data", "split", own_films, "--out", own_films).succeeded()
    index = open_index(own_films)
    assert (own_films / "test_list.txt").read_bytes() == official
    assert counts(outcome.out) == {LISTS[s]: len(index.split(s)) for s in ("train", "val")}
    assert index.split("test").images == before.split("test").images
    assert sorted(index.split("train", "val").images) == sorted(before.split("train").images)
    assert "with boxes, sha256 " + index.hashes["val_list.txt"] in outcome.out
    cxrlocus(
        "train", "cam", "--data", own_films, "--out", tmp_path / "r", "--cache", decoded, *TINY, "--set", "epochs=1"
    ).succeeded()
    assert tuple((tmp_path / "r" / "val_list.txt").read_text().split()) == index.split("val").images
    assert "a split is drawn once" in cxrlocus("data", "split", own_films, "--out", own_films).complaint()


def test_without_a_test_list_all_is_drawn_and_boxes_are_in_every_list(own_films: Path) -> None:
    (own_films / "test_list.txt").unlink()
    outcome = cxrlocus("data", "split", own_films, "--out", own_films, "--seed", 3).succeeded()
    assert set(counts(outcome.out)) == set(LISTS.values())
    assert sum(counts(outcome.out).values()) == 60
    assert all(open_index(own_films).split(s).box_count for s in LISTS)


def test_elsewhere_all_three_lists_are_written_and_another_seed_draws_others(films: Path, tmp_path: Path) -> None:
    for seed in (0, 1):
        cxrlocus("data", "split", films, "--out", tmp_path / str(seed), "--seed", seed).succeeded()
    first, second = ({n: (tmp_path / s / n).read_text() for n in LISTS.values()} for s in "01")
    assert first["val_list.txt"] != second["val_list.txt"]
    assert first["test_list.txt"] == second["test_list.txt"]
    assert set(first["test_list.txt"].split()) == set(open_index(films).split("test").images)
    assert not (films / "val_list.txt").exists()


def test_what_cannot_be_split(films: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    for words, told in (
        ((tmp_path / "missing", "--out", tmp_path / "o"), "no such folder"),
        ((films, "--out", tmp_path / "file"), "is a file"),
        ((films, "--out", tmp_path / "o", "--dataset", "moon"), "dataset must be one of"),
    ):
        assert told in cxrlocus("data", "split", *words).only_complaint()
    assert "--out" in cxrlocus("data", "split", films).told[-1]
    (tmp_path / "two" / "images").mkdir(parents=True)
    image = films / "images" / open_index(films).images[0]
    for name in "ab":
        (tmp_path / "two" / "images" / f"{name}.png").write_bytes(image.read_bytes())
    (tmp_path / "two" / "labels.csv").write_text("image,Mass\na.png,1\nb.png,0\n")
    assert "at least 3 patients" in cxrlocus("data", "split", tmp_path / "two", "--out", tmp_path / "two").complaint()
    assert not list((tmp_path / "two").glob("*_list.txt"))


@pytest.fixture
def nih_run(own_run: Path) -> Path:
    """The run as if it had learned from NIH's films."""
    raw = json.loads((own_run / "run.json").read_text(encoding="utf-8"))
    (own_run / "run.json").write_text(json.dumps({**raw, "dataset": "nih", "hashes": {}}), encoding="utf-8")
    return own_run


@pytest.fixture
def nih_films(own_films: Path) -> Path:
    """The films as if they were NIH's."""
    (own_films / "phantom.json").unlink()
    return own_films


@TOLD
def test_test_films_that_were_trained_on_under_other_lists_are_a_warning(
    nih_run: Path, nih_films: Path, decoded: Path, tmp_path: Path
) -> None:
    lists = [nih_films / name for name in ("train_val_list.txt", "test_list.txt")]
    texts = [path.read_text() for path in lists]
    words = ("predict", nih_run, "--data", nih_films, "--cache", decoded, "--out")
    assert not any("warning" in line for line in cxrlocus(*words, tmp_path / "p").succeeded().told)
    for path, text in zip(lists, reversed(texts), strict=True):
        path.write_text(text)
    told = cxrlocus(*words, tmp_path / "q").succeeded().told
    assert [line for line in told if "warning" in line] == [
        "warning: 45 of 45 films are of patients that the run learned from. Predict with --unseen to leave them out."
    ]
    meta = json.loads((tmp_path / "q" / "meta.json").read_text(encoding="utf-8"))
    assert meta["leakage"] == "45 of 45 films are of patients that the run learned from"
    assert "learned from the patients of all 45 films" in cxrlocus(*words, tmp_path / "r", "--unseen").complaint()
    outcome = cxrlocus(*words, tmp_path / "s", "--unseen", "--split", "all").succeeded()
    assert "45 films of patients that the run learned from left out" in outcome.told
    assert json.loads((tmp_path / "s" / "meta.json").read_text(encoding="utf-8"))["leakage"] == ""


@TOLD
def test_a_run_of_rsna_is_not_measured_on_the_same_films_of_nih(
    nih_run: Path, nih_films: Path, decoded: Path, tmp_path: Path
) -> None:
    raw = json.loads((nih_run / "run.json").read_text(encoding="utf-8"))
    (nih_run / "run.json").write_text(json.dumps({**raw, "dataset": "rsna"}), encoding="utf-8")
    test = next(r for r in open_index(nih_films).records if r.split == "test")
    words = ("predict", nih_run, "--data", nih_films, "--cache", decoded, "--out", tmp_path / "p")
    (nih_run / "films.csv").write_text("image,patient,part\nc0ffee,c0ffee,train\n")
    warned = cxrlocus(*words).succeeded().told
    assert sum("not checked for leakage" in line and "--rsna-map" in line for line in warned) == 1
    (tmp_path / "map.csv").write_text(f"patientId,Image Index\nc0ffee,{test.image}\n")
    line = cxrlocus(*words, "--rsna-map", tmp_path / "map.csv").only_complaint()
    assert "1 patient on both sides" in line
    assert f"(c0ffee, {test.image})" in line
    outcome = cxrlocus(*words, "--rsna-map", tmp_path / "map.csv", "--unseen").succeeded()
    assert not any("warning" in line for line in outcome.told)
    assert json.loads((tmp_path / "p" / "meta.json").read_text())["leakage"] == ""
    (nih_run / "films.csv").write_text(f"image,patient,part\nc0ffee,{test.patient},train\n")
    assert "1 patient on both sides" in cxrlocus(*words).only_complaint()
    assert "absent.csv: cannot be read" in cxrlocus(*words, "--rsna-map", tmp_path / "absent.csv").only_complaint()


def test_unseen_needs_a_data_set_and_a_run_that_lists_its_films(
    own_run: Path, films: Path, decoded: Path, tmp_path: Path
) -> None:
    image = films / "images" / open_index(films).images[0]
    assert (
        "--unseen is told by a data set"
        in cxrlocus("predict", own_run, image, "--unseen", "--out", tmp_path / "p").complaint()
    )
    (own_run / "films.csv").unlink()
    words = ("predict", own_run, "--data", films, "--cache", decoded, "--out", tmp_path / "p")
    assert "does not list the films" in cxrlocus(*words, "--unseen").complaint()
    cxrlocus(*words).succeeded()
