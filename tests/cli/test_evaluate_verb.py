"""Measuring: of predictions and of anybody's boxes; what the rows are called, and what is told beside them."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from commands import Outcome, cxrlocus
from cxrlocus.data import open_index
from cxrlocus.methods.baselines.controls import CONTROLS
from cxrlocus.prediction.store import read_predictions, write_predictions
from cxrlocus.protocols.policies import CHOOSING_IOU
from cxrlocus.protocols.wang2017 import IOBB, IOU

pytest_plugins = ("trained",)


def measured(*words: object, rows: Path, resamples: int = 0) -> tuple[Outcome, list[dict[str, Any]]]:
    outcome = cxrlocus("evaluate", *words, "--json", rows, "--resamples", resamples).succeeded()
    return outcome, json.loads(rows.read_text(encoding="utf-8"))


def of(rows: list[dict[str, Any]], **columns: object) -> list[dict[str, Any]]:
    return [row for row in rows if all(row[name] == value for name, value in columns.items())]


def test_rows_are_called_as_agreed(films: Path, pred: Path, tmp_path: Path) -> None:
    outcome, rows = measured(pred, "--data", films, rows=tmp_path / "r.json", resamples=20)
    ours = of(rows, method="cam")
    thresholds = {row["quantity"]: set() for row in ours}
    for row in ours:
        thresholds[row["quantity"]].add(row["threshold"])
    assert thresholds == {
        "accuracy_iou": set(IOU), "accuracy_iobb": set(IOBB), "afp": set(IOU), "afp_labelled": set(IOU),
        "afp_iobb": set(IOBB), "auroc": {None},
    }  # fmt: skip
    assert {row["policy"] for row in ours} == {"fixed"}
    assert {row["method"] for row in rows} == {"cam", *CONTROLS}
    assert {(row["method"], row["policy"]) for row in rows if row["method"] in ("oracle_box", "class_mean_box")} == {
        ("oracle_box", "oracle"), ("class_mean_box", "validation"),
    }  # fmt: skip
    for row in ours:
        if row["value"] is not None and row["lo"] is not None:
            assert row["lo"] <= row["value"] <= row["hi"] or row["quantity"] == "afp"
    for heading in ("Accuracy at IoU > .3", "Accuracy at IoBB > .5", "AUROC of the labels"):
        assert f"\n{heading}\n" in outcome.out


def test_what_is_undefined_is_null(films: Path, pred: Path, tmp_path: Path) -> None:
    """No test film of this phantom has a mass, so its AUROC is undefined; NaN is no JSON."""
    index = open_index(films).split("test")
    assert "Mass" not in {finding for record in index.records for finding in record.positive}
    _, rows = measured(pred, "--data", films, rows=tmp_path / "r.json")
    (mass,) = of(rows, method="cam", quantity="auroc", finding="Mass")
    assert (mass["value"], mass["lo"], mass["hi"], mass["n"]) == (None, None, None, 15)
    assert "NaN" not in (tmp_path / "r.json").read_text(encoding="utf-8")


def true_boxes(films: Path) -> Iterator[tuple[object, ...]]:
    for record in open_index(films).split("test").records:
        for box in record.boxes:
            x0, y0, x1, y1 = box.xyxy
            yield record.image, box.finding, x0, y0, x1 - x0, y1 - y0


def write_csv(path: Path, rows: list[tuple[object, ...]], header: str = "image,finding,x,y,w,h") -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header.split(","), *rows])
    return path


def test_the_true_boxes_as_anybodys_are_perfect(films: Path, tmp_path: Path) -> None:
    boxes = write_csv(tmp_path / "by hand.csv", list(true_boxes(films)))
    outcome, rows = measured(boxes, "--data", films, rows=tmp_path / "r.json")
    ours = of(rows, method="by hand")
    accuracy = [row["value"] for row in ours if row["quantity"].startswith("accuracy")]
    false = [row["value"] for row in ours if row["quantity"].startswith("afp")]
    assert accuracy
    assert set(accuracy) == {1.0}
    assert set(false) == {0.0}
    assert not of(ours, quantity="auroc")
    assert "AUROC" not in outcome.out
    assert {row["method"] for row in rows} == {"by hand", *CONTROLS}


def test_a_second_truth_stands_in_place_of_the_first(films: Path, tmp_path: Path) -> None:
    """A reader who boxed one film alone: that film counts, and its boxes measured against themselves are perfect."""
    record = next(r for r in open_index(films).split("test").records if r.boxes)
    box = record.boxes[0]
    x0, y0, x1, y1 = box.xyxy
    text = f"image,finding,x,y,w,h\n{record.image},{box.finding},{x0},{y0},{(x1 - x0) / 2},{y1 - y0}\n"
    (tmp_path / "other.csv").write_text(text, encoding="utf-8")
    words = ("--data", films, "--truth", tmp_path / "other.csv", "--no-controls")
    _, rows = measured(tmp_path / "other.csv", *words, rows=tmp_path / "r.json")
    mine = of(rows, quantity="accuracy_iou", threshold=0.7, finding=box.finding)
    assert [(row["value"], row["n"]) for row in mine] == [(1.0, 1)]
    assert {row["dataset"] for row in rows} == {f"{open_index(films).dataset}, boxes of other.csv"}
    missing = cxrlocus("evaluate", tmp_path / "other.csv", "--data", films, "--truth", tmp_path / "none.csv")
    assert "none.csv: not a readable CSV of boxes" in missing.complaint()


def test_half_of_the_true_boxes_is_half_right(films: Path, tmp_path: Path) -> None:
    boxes = list(true_boxes(films))
    kept = boxes[::2]
    _, rows = measured(write_csv(tmp_path / "b.csv", kept), "--data", films, "--no-controls", rows=tmp_path / "r.json")
    (pooled,) = of(rows, quantity="accuracy_iou", finding="pooled", threshold=0.5)
    assert (pooled["value"], pooled["n"]) == (len(kept) / len(boxes), len(boxes))
    assert {row["method"] for row in rows} == {"b"}


def test_no_box_at_all_is_a_measurement_too(films: Path, tmp_path: Path) -> None:
    _, rows = measured(write_csv(tmp_path / "b.csv", []), "--data", films, rows=tmp_path / "r.json")
    (pooled,) = of(rows, method="b", quantity="accuracy_iou", finding="pooled", threshold=0.1)
    assert pooled["value"] == 0.0


BAD = {
    "nan": (("Mass", "nan", 1, 5, 5), "x must be a finite number; got 'nan'"),
    "text": (("Mass", 1, 1, "wide", 5), "w must be a finite number; got 'wide'"),
    "negative": (("Mass", 1, 1, -5, 5), "w and h must be positive"),
    "outside": (("Mass", 2000, 1, 5, 5), "lies outside the film"),
    "finding": (("Gout", 1, 1, 5, 5), "finding 'Gout' is not one of"),
    "short": (("Mass", 1, 1, 5), "5 fields where the header has 6"),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_box_is_told_with_its_line(name: str, films: Path, tmp_path: Path) -> None:
    cells, words = BAD[name]
    image = open_index(films).split("test").images[0]
    boxes = write_csv(tmp_path / "b.csv", [(image, "Mass", 1, 1, 5, 5), (image, *cells)])
    line = cxrlocus("evaluate", boxes, "--data", films).only_complaint()
    assert words in line
    assert "b.csv, line 3" in line


@pytest.mark.parametrize("content", [b"", b"\n", b"image,finding\n", b"\xff\xfe\x00", b"just text\n"])
def test_a_file_that_is_no_list_of_boxes_is_told(content: bytes, films: Path, tmp_path: Path) -> None:
    (tmp_path / "b.csv").write_bytes(content)
    assert "b.csv" in cxrlocus("evaluate", tmp_path / "b.csv", "--data", films).only_complaint()


def test_boxes_on_a_film_of_another_split_are_told(films: Path, tmp_path: Path) -> None:
    image = open_index(films).split("train").images[0]
    line = cxrlocus(
        "evaluate", write_csv(tmp_path / "b.csv", [(image, "Mass", 1, 1, 5, 5)]), "--data", films
    ).only_complaint()
    assert f"image {image!r} is not one of the 15 films evaluated" in line


def test_thresholds_come_from_where_the_policy_says(films: Path, pred: Path, tmp_path: Path) -> None:
    by_policy = {}
    for policy in ("fixed", "validation", "oracle"):
        _, rows = measured(pred, "--data", films, "--policy", policy, rows=tmp_path / f"{policy}.json")
        assert {row["policy"] for row in of(rows, method="cam")} == {policy}
        by_policy[policy] = {
            row["finding"]: row["value"]
            for row in of(rows, method="cam", quantity="accuracy_iou", threshold=CHOOSING_IOU)
        }
    assert "these test boxes" in of(rows, method="cam")[0]["note"]
    # Chosen on the boxes themselves, finding by finding: no other choice of heights hits more of them.
    for finding, value in by_policy["oracle"].items():
        assert value >= by_policy["validation"][finding]


def some_of(pred: Path, folder: Path, keep: slice) -> Path:
    p = read_predictions(pred)
    write_predictions(
        folder,
        replace(
            p, images=p.images[keep], prob=p.prob[keep], maps=np.array(p.maps[keep]), frames=p.frames[keep],
            sizes=p.sizes[keep],
        ),
    )  # fmt: skip
    return folder


def test_films_without_a_prediction_are_misses_unless_a_subset_is_asked_for(
    films: Path, pred: Path, tmp_path: Path
) -> None:
    some = some_of(pred, tmp_path / "some", slice(0, 8))
    index = open_index(films).split("test")
    there = set(read_predictions(some).images)
    lost = [r.image for r in index.records if r.boxes and r.image not in there]
    boxes = sum(len(r.boxes) for r in index.records if r.image in there)
    assert lost
    outcome, every = measured(some, "--data", films, rows=tmp_path / "every.json")
    assert any(f"{len(lost)} boxed films have no prediction and count as misses" in line for line in outcome.told)
    outcome, subset = measured(some, "--data", films, "--subset", rows=tmp_path / "subset.json")
    assert not any("misses" in line for line in outcome.told)
    a, b = (of(rows, method="cam", quantity="accuracy_iou", finding="pooled") for rows in (every, subset))
    assert ({row["n"] for row in a}, {row["n"] for row in b}) == ({index.box_count}, {boxes})
    # The same hits over more boxes.
    for one, other in zip(a, b, strict=True):
        assert math.isclose(one["value"] * index.box_count, other["value"] * boxes, abs_tol=1e-9)


def test_what_was_predicted_of_all_films_is_measured_on_all(
    films: Path, run: Path, decoded: Path, tmp_path: Path
) -> None:
    cxrlocus("predict", run, "--data", films, "--split", "all", "--out", tmp_path / "p", "--cache", decoded).succeeded()
    _, rows = measured(tmp_path / "p", "--data", films, "--no-controls", rows=tmp_path / "r.json")
    (auroc,) = of(rows, quantity="auroc", finding="mean")
    assert auroc["n"] == 60


def test_a_protocol_named_twice_counts_once(films: Path, pred: Path, tmp_path: Path) -> None:
    once, twice = (
        measured(pred, "--data", films, *words, rows=tmp_path / "r.json")[1]
        for words in ((), ("--protocol", "wang2017", "wang2017", "--protocol", "wang2017"))
    )
    assert once == twice


def test_markdown_holds_the_printed_numbers(films: Path, pred: Path, tmp_path: Path) -> None:
    outcome = cxrlocus("evaluate", pred, "--data", films, "--resamples", 0, "--markdown", tmp_path / "t.md").succeeded()
    written = (tmp_path / "t.md").read_text(encoding="utf-8")
    assert written.count("### ") == outcome.out.count("\nA") + outcome.out.count("\nFalse-positive")
    for method in ("cam", *(f"*{name}*" for name in CONTROLS)):
        assert f"| {method} " in written


def test_reports_of_several_share_one_page(films: Path, pred: Path, tmp_path: Path) -> None:
    boxes = write_csv(tmp_path / "by hand.csv", list(true_boxes(films)))
    outcome = cxrlocus("report", pred, "--data", films, "--out", tmp_path / "page", "--resamples", 0, boxes).succeeded()
    assert outcome.out == f"{tmp_path / 'page' / 'report.html'}\n"
    rows = json.loads((tmp_path / "page" / "results.json").read_text(encoding="utf-8"))
    assert {row["method"] for row in rows} == {"cam", "by hand", *CONTROLS}
    page = (tmp_path / "page" / "report.html").read_text(encoding="utf-8")
    assert "by hand" in page
    assert 'src="http' not in page


PIXELS = ("--protocol", "infomask2019")


def test_choices_of_masks_reach_the_rows(films: Path, pred: Path, tmp_path: Path) -> None:
    choices = {
        "plain": ("--policy", "oracle"),
        "criterion": ("--policy", "oracle", "--criterion", "iop"),
        "scale": ("--scale", "absolute"),
        "raster": ("--policy", "oracle", "--raster", 32),
    }
    rows = {
        name: of(measured(pred, "--data", films, *PIXELS, *words, "--no-controls", rows=tmp_path / "r.json")[1],
                 quantity="fnr")
        for name, words in choices.items()
    }  # fmt: skip
    notes = {name: " ".join(row["note"] for row in some) for name, some in rows.items()}
    assert "chosen by fpr_fnr on these test boxes" in notes["plain"]
    assert "chosen by iop on these test boxes" in notes["criterion"]
    assert "map > 0;" in notes["scale"]
    assert "of its range" not in notes["scale"]
    assert [row["value"] for row in rows["raster"]] != [row["value"] for row in rows["plain"]]


@pytest.mark.parametrize(
    ("words", "told", "status"),
    [
        (("--criterion", "iop", "--policy", "oracle"), "--criterion acts on protocol infomask2019 alone", 1),
        (("--raster", 32), "--raster acts on protocol infomask2019 alone; give --protocol infomask2019 too.", 1),
        ((*PIXELS, "--criterion", "iop"), "--criterion chooses nothing under --policy fixed", 1),
        ((*PIXELS, "--raster", 0), "raster must be 1 to 4096 cells; got 0.", 1),
        ((*PIXELS, "--seed", -1), "resamples and seed must not be negative; got 1000 and -1.", 1),
    ],
)
def test_a_choice_that_would_do_nothing_is_told(
    words: tuple[object, ...], told: str, status: int, films: Path, pred: Path
) -> None:
    assert told in cxrlocus("evaluate", pred, "--data", films, *words).only_complaint(status)


def test_a_choice_that_is_none_is_a_usage_error(films: Path, pred: Path) -> None:
    for words in (("--criterion", "iou"), ("--scale", "log"), ("--raster", "fine")):
        assert cxrlocus("evaluate", pred, "--data", films, *PIXELS, *words).status == 2


def test_a_report_on_pixels_alone_tells_seeds_apart_and_shows_masks(films: Path, pred: Path, tmp_path: Path) -> None:
    p = read_predictions(pred)
    other = tmp_path / "other"
    write_predictions(other, replace(p, meta={**p.meta, "seed": 1}, maps=-np.array(p.maps)))
    boxes = write_csv(tmp_path / "by hand.csv", list(true_boxes(films)))
    out = tmp_path / "page"
    cxrlocus("report", pred, other, boxes, "--data", films, "--out", out, *PIXELS, "--resamples", 0).succeeded()
    rows = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert {(row["method"], row["variant"]) for row in rows} == {
        ("cam", "seed 0"), ("cam", "seed 1"), ("by hand", ""), *((name, "") for name in CONTROLS)
    }  # fmt: skip
    page = (out / "report.html").read_text(encoding="utf-8")
    masks = page[page.index('id="masks"') : page.index('id="films"')]
    for name in ("cam (seed 0)", "cam (seed 1)", "by hand"):
        assert f"<figcaption><b>{name}</b>" in masks
    assert {row["protocol"] for row in rows} == {"infomask2019"}
