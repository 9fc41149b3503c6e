"""Protocol wang2017 on the boxes of real films, where they are at hand."""

import csv
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from box_worlds import ACCURACIES, film, index_of, measure, perfect, second_reading, values

from cxrlocus.protocols.boxlist import read_boxes

MINI = Path(__file__).parents[3] / "shared" / "nih14-mini"
pytestmark = pytest.mark.skipif(not MINI.is_dir(), reason="the sample of real NIH films (nih14-mini) is not here")


def real_boxes():
    with (MINI / "BBox_List_2017.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    return [(row[0], row[1].replace("Infiltrate", "Infiltration"), *map(float, row[2:6])) for row in rows]


def real_index():
    films = {}
    for name, finding, x, y, w, h in real_boxes():
        films.setdefault(name, []).append((finding, x, y, x + w, y + h))
    return index_of([film(name, *boxes, patient=name.split("_")[0]) for name, boxes in films.items()])


def test_boxes_of_real_films_agree_with_the_second_reading():
    index = real_index()
    rng = np.random.default_rng(0)
    shaken = perfect(index)
    centre, half = (shaken.xyxy[:, 2:] + shaken.xyxy[:, :2]) / 2, (shaken.xyxy[:, 2:] - shaken.xyxy[:, :2]) / 2
    centre, half = centre + half * rng.normal(size=centre.shape) * 0.4, half * rng.uniform(0.5, 2, half.shape)
    shaken = replace(shaken, xyxy=np.hstack([centre - half, centre + half]))
    rows = measure(shaken, index, resamples=50)
    got = {(r.quantity, r.finding, r.threshold): r.value for r in rows}
    want = second_reading(shaken, index)
    assert got == pytest.approx(want, abs=1e-12)
    assert len(set(got.values())) > 50
    n = Counter(box[1] for box in real_boxes())
    for r in (r for r in rows if r.quantity in ACCURACIES and r.finding in n):
        assert r.value * n[r.finding] == pytest.approx(round(r.value * n[r.finding]), abs=1e-9)


def test_nih_s_own_list_read_as_boxes_scores_one(tmp_path):
    index = real_index()
    path = tmp_path / "boxes.csv"
    lines = [",".join(map(str, row)) for row in real_boxes()]
    path.write_text("image,finding,x,y,w,h\n" + "\n".join(lines) + "\n")
    rows = measure(read_boxes(path, index), index)
    assert values(rows, "accuracy_iou", "pooled") == [1.0] * 7
    assert values(rows, "afp", "mean") == [0.0] * 7
