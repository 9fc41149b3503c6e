"""Data sets with something off: each a line that names file, row and rule; nothing is guessed, nothing is spoilt."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from commands import TINY, Outcome, cxrlocus, edit

pytest_plugins = ("trained",)

LABELS = "Data_Entry_2017_v2020.csv"
BOXES = "BBox_List_2017.csv"


def second_line(text: str) -> str:
    return text.splitlines()[1]


def every_verb(films: Path, run: Path, pred: Path, decoded: Path, out: Path) -> dict[str, Outcome]:
    """What each verb that reads a data set says of this one."""
    return {
        "check": cxrlocus("data", "check", films),
        "train": cxrlocus("train", "cam", "--data", films, "--out", out / "r", "--cache", decoded, *TINY),
        "predict": cxrlocus("predict", run, "--data", films, "--out", out / "p", "--cache", decoded),
        "evaluate": cxrlocus("evaluate", pred, "--data", films, "--resamples", 0),
        "report": cxrlocus("report", pred, "--data", films, "--out", out / "page", "--resamples", 0),
    }


REFUSED = {
    "empty labels": (LABELS, lambda _: "", ["nothing"]),
    "blank labels": (LABELS, lambda _: "\n\n", ["nothing"]),
    "only a header": (LABELS, lambda text: text.splitlines()[0] + "\n", ["only a header"]),
    "unknown label": (LABELS, lambda t: t.replace(second_line(t).split(",")[1], "Gout", 1), ["line 2", "'Gout'"]),
    "no such column": (LABELS, lambda t: t.replace("Finding Labels", "Diagnosis", 1), ["Finding Labels"]),
    "a row cut short": (LABELS, lambda t: t.replace(second_line(t), second_line(t)[:20], 1), ["line 2"]),
    "a film twice": (LABELS, lambda t: t + second_line(t) + "\n", ["line 62", "line 2"]),
    "a quote never closed": (LABELS, lambda t: t.replace("\n", '\n"', 1), ["not valid CSV"]),
    "leaking lists": ("test_list.txt", lambda t: t + "00000001_001.png\n", ["train_val_list.txt"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_data_set_that_breaks_a_rule_is_refused_by_every_verb(
    name: str, own_films: Path, run: Path, pred: Path, decoded: Path, tmp_path: Path
) -> None:
    file, change, words = REFUSED[name]
    if name == "leaking lists":
        first = (own_films / "train_val_list.txt").read_text(encoding="utf-8").split()[0]
        edit(own_films / file, lambda t: f"{t}{first}\n")
    else:
        edit(own_films / file, change)
    for verb, outcome in every_verb(own_films, run, pred, decoded, tmp_path).items():
        line = outcome.only_complaint()
        assert all(word in line for word in [file, *words]), (verb, line)
    assert not (tmp_path / "r").exists()
    assert not (tmp_path / "p").exists()
    assert not (tmp_path / "page").exists()


def test_text_that_is_no_text_is_refused(own_films: Path) -> None:
    (own_films / LABELS).write_bytes(bytes(range(256)) * 4)
    assert LABELS in cxrlocus("data", "check", own_films).only_complaint()


BAD_BOXES = {
    "nan": ("nan,10,20,20", "left out", "must be finite numbers"),
    "infinite": ("10,10,inf,20", "left out", "must be finite numbers"),
    "negative width": ("10,10,-20,20", "left out", "must have w > 0 and h > 0"),
    "no height": ("10,10,20,0", "left out", "must have w > 0 and h > 0"),
    "left of the film": ("-50,10,20,20", "left out", "is outside the film"),
    "far beyond the film": ("5000,10,20,20", "left out", "is outside the film"),
    "partly beyond the film": ("1000,10,200,20", "cut", "is partly outside the film; cut at its border"),
    "text": ("left,10,20,20", "refused", "x, y, w and h must be numbers; got 'left'"),
    "empty": (",10,20,20", "refused", "x, y, w and h must be numbers; got ''"),
    "a field missing": ("10,10,20", "refused", "a row must have at least 6 fields; it has 5"),
}


@pytest.mark.parametrize("name", BAD_BOXES)
def test_a_box_that_is_none_is_told_with_its_line(name: str, own_films: Path, pred: Path) -> None:
    numbers, fate, why = BAD_BOXES[name]
    rows = (own_films / BOXES).read_text(encoding="utf-8").splitlines()
    image, finding, *_ = rows[1].split(",")
    edit(own_films / BOXES, lambda t: t.replace(rows[1], f"{image},{finding},{numbers}", 1))
    checked = cxrlocus("data", "check", own_films)
    if fate == "refused":
        for outcome in (checked, cxrlocus("evaluate", pred, "--data", own_films)):
            line = outcome.only_complaint()
            assert f"{BOXES} line 2" in line
            assert why in line
    else:
        (line,) = [line for line in checked.succeeded().out.splitlines() if f"{BOXES} line 2" in line]
        assert image in line
        assert why in line
        assert "left out: 1\n" in checked.out
        total = next(line for line in checked.out.splitlines() if line.startswith("all "))
        assert int(total.split()[-1]) == len(rows) - 1 - (fate == "left out")
        assert cxrlocus("data", "check", own_films, "--strict").status == 1


def test_a_patient_on_both_sides_is_named(
    own_films: Path, run: Path, pred: Path, decoded: Path, tmp_path: Path
) -> None:
    train = (own_films / "train_val_list.txt").read_text(encoding="utf-8").split()
    test = (own_films / "test_list.txt").read_text(encoding="utf-8").split()
    patient = int(train[0].split("_")[0])

    def move(text: str) -> str:
        head, *rows = text.splitlines()
        moved = [row.split(",") for row in rows]
        for fields in moved:
            if fields[0] == test[0]:
                fields[3] = str(patient)
        return "\n".join([head, *(",".join(fields) for fields in moved)]) + "\n"

    edit(own_films / LABELS, move)
    for outcome in every_verb(own_films, run, pred, decoded, tmp_path).values():
        assert f"1 patient stands in more than one split: {patient} (test, train)" in outcome.only_complaint()


def test_what_is_left_out_is_counted_by_every_verb_and_listed_by_check(
    own_films: Path, run: Path, pred: Path, decoded: Path, tmp_path: Path
) -> None:
    test = (own_films / "test_list.txt").read_text(encoding="utf-8").split()
    unboxed = next(t for t in test if t not in (own_films / BOXES).read_text(encoding="utf-8"))
    (own_films / "images" / unboxed).unlink()
    shutil.copy(own_films / "images" / test[1], own_films / "images" / "stray.png")
    for verb, outcome in every_verb(own_films, run, pred, decoded, tmp_path).items():
        if verb != "check":
            assert any("2 things left out; `cxrlocus data check" in line for line in outcome.told), verb
        else:
            assert f"{unboxed}: no file of that name" in outcome.succeeded().out
            assert "stray.png: no row in" in outcome.out
        # The predictions of the film that is gone no longer fit; everything else goes on.
        assert (outcome.status == 0) == (verb not in ("evaluate", "report")), outcome.told
    assert cxrlocus("data", "check", own_films, "--strict").status == 1


def test_a_data_set_without_boxes_trains_but_is_not_measured(
    own_films: Path, run: Path, pred: Path, decoded: Path, tmp_path: Path
) -> None:
    (own_films / BOXES).unlink()
    said = every_verb(own_films, run, pred, decoded, tmp_path)
    for verb in ("check", "train", "predict"):
        said[verb].succeeded()
    for verb in ("evaluate", "report"):
        assert "no film of split 'test' has a box to measure against" in said[verb].complaint()


def test_a_data_set_without_lists_says_so(own_films: Path, decoded: Path, tmp_path: Path) -> None:
    for name in ("train_val_list.txt", "test_list.txt"):
        (own_films / name).unlink()
    line = cxrlocus("train", "cam", "--data", own_films, "--out", tmp_path / "r", "--cache", decoded, *TINY).complaint()
    assert "no film belongs to split train or val; the splits here are none" in line


def test_a_data_set_in_an_odd_place_works(
    films: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "a b" / "élève 影像" / "--data"
    shutil.copytree(films, odd)
    monkeypatch.chdir(odd.parent)
    cxrlocus("data", "check", "./--data").succeeded()
    cxrlocus("predict", run, "--data=--data", "--out", "out put/ü", "--cache", "ca che").succeeded()
    cxrlocus("evaluate", "out put/ü", "--data=--data", "--json", "rows é.json", "--resamples", 0).succeeded()
    cxrlocus("report", "./out put/ü/", "--data", "./--data/", "--out", "pa ge", "--resamples", 0).succeeded()
    assert (odd.parent / "rows é.json").is_file()
    assert (odd.parent / "pa ge" / "report.html").is_file()
