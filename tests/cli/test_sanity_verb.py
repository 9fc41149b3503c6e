"""``cxrlocus sanity`` as a person runs it."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest

from commands import cxrlocus, edit

pytest_plugins = ("trained",)


@pytest.fixture(scope="module")
def checked(run: Path, films: Path, decoded: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A run that has learnt next to nothing, checked on films of all splits; what was printed."""
    out = tmp_path_factory.mktemp("sanity") / "out"
    words = ("sanity", run, "--data", films, "--out", out, "--cache", decoded, "--split", "all", "--films", 20)
    return out, cxrlocus(*words).succeeded().out


def test_verdicts_rows_and_thresholds_are_written(checked: tuple[Path, str]) -> None:
    out, _ = checked
    found = json.loads((out / "sanity.json").read_text(encoding="utf-8"))
    assert [v["check"] for v in found["verdicts"]] == ["weights", "lesions", "markers"]
    assert {v["verdict"] for v in found["verdicts"]} <= {"pass", "fail", "undecided"}
    subjects = {(r["check"], r["subject"]) for r in found["rows"]}
    assert {("weights", "all"), ("lesions", "Pneumonia"), ("markers", "PORTABLE")} <= subjects
    assert found["thresholds"]["rises at least"] == 0.75
    assert found["boxed_films"] == found["normal_films"] == 20
    assert set(found["no_room"]) == {"Mass", "Nodule", "Pneumonia"}
    assert sorted(p.name for p in out.iterdir()) == ["pictures", "sanity.json"]


def test_what_fails_is_named_and_the_table_has_it(checked: tuple[Path, str]) -> None:
    out, text = checked
    found = json.loads((out / "sanity.json").read_text(encoding="utf-8"))
    failed = [v["check"] for v in found["verdicts"] if v["verdict"] == "fail"]
    # One epoch on 45 films: it cannot have learnt to see a nodule.
    assert "lesions" in failed
    assert text.splitlines()[-1] == f"cam (cam) fails: {', '.join(failed)}"
    assert "A planted lesion must draw the map there: FAIL" in text
    assert max(map(len, text.splitlines())) < 400


def test_pictures_show_film_change_and_map(checked: tuple[Path, str]) -> None:
    pictures = sorted(p.name for p in (checked[0] / "pictures").iterdir())
    assert pictures == [*(f"{f}.png" for f in ("Mass", "Nodule", "Pneumonia")),
                        *(f"marker_{w}.png" for w in ("AP", "L", "PORTABLE", "R"))]  # fmt: skip
    picture = cv2.imread(str(checked[0] / "pictures" / "Pneumonia.png"))
    assert picture.shape == (4 * 320, 3 * 320, 3)
    before, after = picture[:, :320].astype(int), picture[:, 320:640].astype(int)
    assert (after - before).max() > 10


def test_the_same_again_says_the_same(run: Path, films: Path, decoded: Path, tmp_path: Path) -> None:
    texts = []
    for out in (tmp_path / "one", tmp_path / "other"):
        cxrlocus("sanity", run, "--data", films, "--out", out, "--cache", decoded, "--films", 3).succeeded()
        texts.append((out / "sanity.json").read_text(encoding="utf-8"))
    assert texts[0] == texts[1]
    assert json.loads(texts[0])["verdicts"][1]["verdict"] == "undecided"


def test_without_boxes_or_normal_films_it_is_undecided(
    run: Path, own_films: Path, decoded: Path, tmp_path: Path
) -> None:
    (own_films / "BBox_List_2017.csv").unlink()
    edit(next(own_films.glob("Data_Entry*.csv")), lambda text: text.replace(",No Finding,", ",Mass,"))
    out = cxrlocus("sanity", run, "--data", own_films, "--out", tmp_path / "s", "--cache", decoded).succeeded().out
    assert out.count("UNDECIDED") == 3
    assert out.splitlines()[-1] == "cam (cam) fails: none; undecided: weights, lesions, markers"


WRONG = {
    "sanity {run} --data {films} --out {new} --films 0": "films must be at least 1",
    "sanity {run} --data {films} --out {new} --seed -1": "seed must be at least 0; got -1",
    "sanity {run} --data {films} --out {new} --contrast 2": "contrast must be in [0, 1]",
    "sanity {run} --data {films} --out {new} --contrast nan": "contrast must be in [0, 1]",
    "sanity {run} --data {films} --out {new} --split nope": "no film belongs to split nope",
    "sanity {films} --data {films} --out {new}": "no run.json",
    "sanity {run} --data {missing} --out {new}": "no such folder",
    "sanity {run} --data {films} --out {file}": "must be a folder",
}


@pytest.mark.parametrize("words", WRONG)
def test_what_cannot_be_checked(words: str, run: Path, films: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    names = {"run": run, "films": films, **{k: tmp_path / k for k in ("new", "missing", "file")}}
    assert WRONG[words] in cxrlocus(*words.format(**names).split()).complaint()
