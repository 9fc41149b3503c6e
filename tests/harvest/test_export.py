"""Every export says the same, and others can read it."""

from __future__ import annotations

import csv
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import small_archive
from small_archive import FINDINGS, outputs

from cxrlocus.data.nih import load_nih
from cxrlocus.data.records import Index
from cxrlocus.harvest import export
from cxrlocus.harvest.journal import Box, Film, Journal, Shard
from cxrlocus.protocols.boxlist import read_boxes


def boxes_in(out: Path) -> list[Box]:
    journal = Journal(out / "journal", len(list((out / "journal").glob("0*.json"))))
    return [box for shard in journal for box in shard.boxes]


def test_boxes_csv_has_every_box_exactly(out: Path) -> None:
    with (out / "boxes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert ",".join(rows[0]) == "image,finding,x1,y1,x2,y2,score,rank,step,prob,x,y,w,h"
    back = [
        Box(
            r["image"],
            r["finding"],
            *(float(r[k]) for k in list(r)[2:7]),
            int(r["rank"]),
            int(r["step"]),
            float(r["prob"]),
        )
        for r in rows
    ]
    assert back == boxes_in(out)


def test_boxes_csv_is_what_evaluate_reads(archive: Index, out: Path) -> None:
    found, boxes = read_boxes(out / "boxes.csv", archive), boxes_in(out)
    assert [(archive.images[i], FINDINGS.names[c]) for i, c in zip(found.image, found.finding, strict=True)] == [
        (b.image, b.finding) for b in boxes
    ]
    np.testing.assert_allclose(found.xyxy, [b[2:6] for b in boxes], rtol=0, atol=1e-9)
    assert found.score.tolist() == [b.score for b in boxes]


def test_coco_ids_run_from_one_and_say_the_same(archive: Index, out: Path) -> None:
    coco = json.loads((out / "coco.json").read_text(encoding="utf-8"))
    for part in ("images", "annotations", "categories"):
        assert [item["id"] for item in coco[part]] == list(range(1, len(coco[part]) + 1))
    name = {item["id"]: item["file_name"] for item in coco["images"]}
    finding = {item["id"]: item["name"] for item in coco["categories"]}
    assert list(finding.values()) == list(FINDINGS.names)
    back = [(name[a["image_id"]], finding[a["category_id"]], a["score"], *a["bbox"]) for a in coco["annotations"]]
    assert back == [(b.image, b.finding, b.score, b.x1, b.y1, b.x2 - b.x1, b.y2 - b.y1) for b in boxes_in(out)]
    assert all(a["area"] == a["bbox"][2] * a["bbox"][3] and a["iscrowd"] == 0 for a in coco["annotations"])
    sizes = {item["file_name"]: (item["width"], item["height"]) for item in coco["images"]}
    for box in boxes_in(out):
        assert 0 <= box.x1 < box.x2 <= sizes[box.image][0]
        assert 0 <= box.y1 < box.y2 <= sizes[box.image][1]


def test_the_nih_list_is_read_back_by_the_nih_loader(tmp_path: Path) -> None:
    boxes = (
        Box("00000001_000.png", "Infiltration", 8.5, 16.0, 520.25, 700.0, 0.9, 1, 1, 0.5),
        Box("00000001_000.png", "Infiltration", 1.0, 1.0, 2.0, 2.0, 0.1, 2, 1, 0.5),
        Box("00000001_000.png", "Mass", 0.0, 0.0, 1024.0, 1024.0, 0.9, 1, 1, 0.5),
    )
    journal = Journal(tmp_path, 1)
    journal.write(0, Shard((Film("00000001_000.png", 1024, 1024),), boxes, {}, {}, (), (), 1.0))
    export.write_nih(tmp_path / "BBox_List_2017.csv", journal)
    text = (tmp_path / "BBox_List_2017.csv").read_text(encoding="utf-8")
    assert text.splitlines() == [
        "Image Index,Finding Label,Bbox [x,y,w,h],,,",
        "00000001_000.png,Infiltrate,8.5,16.0,511.75,684.0",
        "00000001_000.png,Mass,0.0,0.0,1024.0,1024.0",
    ]
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "00000001_000.png").write_bytes(b"not opened")
    header = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
    row = "00000001_000.png,Infiltration|Mass,0,1,50,M,PA"
    (tmp_path / "Data_Entry_2017_v2020.csv").write_text(f"{header}\n{row}\n", encoding="utf-8")
    (record,) = load_nih(tmp_path).records
    assert {(b.finding, b.xyxy) for b in record.boxes} == {(b.finding, b[2:6]) for b in boxes if b.rank == 1}


def test_parquet_has_the_same_rows(out: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(export, "ROW_GROUP", 7)
    journal = Journal(out / "journal", len(list((out / "journal").glob("0*.json"))))
    export.write_parquet(tmp_path / "some.parquet", journal)
    for path in (out / "boxes.parquet", tmp_path / "some.parquet"):
        table = parquet.read_table(path)
        assert table.column_names == list(Box._fields)
        assert [Box(**row) for row in table.to_pylist()] == boxes_in(out)
    assert parquet.ParquetFile(tmp_path / "some.parquet").num_row_groups == -(-len(boxes_in(out)) // 7)


def test_without_pyarrow_the_rest_is_the_same(
    archive: Index, out: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "pyarrow" else real(name))
    assert not export.has_parquet()
    small_archive.run(archive, tmp_path)
    expected = outputs(out)
    expected.pop("boxes.parquet", None)
    assert outputs(tmp_path) == expected


def test_a_harvest_without_a_box_still_has_whole_exports(archive: Index, tmp_path: Path) -> None:
    small_archive.run(archive, tmp_path, small_archive.Options(min_prob=1.0))
    assert len((tmp_path / "boxes.csv").read_text(encoding="utf-8").splitlines()) == 1
    assert len((tmp_path / "BBox_List.csv").read_text(encoding="utf-8").splitlines()) == 1
    coco = json.loads((tmp_path / "coco.json").read_text(encoding="utf-8"))
    assert coco["annotations"] == []
    assert len(coco["images"]) > 10
    assert len(read_boxes(tmp_path / "boxes.csv", archive)) == 0
    if export.has_parquet():
        assert (tmp_path / "boxes.parquet").stat().st_size > 0
