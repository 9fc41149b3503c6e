from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from miniature import FILMS, NIH_BOX_HEADER, NIH_HEADER, PNG, Film, add_line, nih_row, png, write_lines, write_nih

from cxrlocus.data.nih import FRAME, load_nih
from cxrlocus.data.splits import hold_out
from cxrlocus.errors import DataError, LeakError
from cxrlocus.types import BOXED8, NIH14

MINI = Path(__file__).parents[3] / "shared" / "nih14-mini"
needs_mini = pytest.mark.skipif(not MINI.is_dir(), reason="the sample of real NIH films (nih14-mini) is not here")


def test_convention_boxes_are_in_the_1024_frame_whatever_the_film_is_stored_at(tmp_path: Path) -> None:
    write_nih(tmp_path)
    (tmp_path / "images" / "b_0.png").write_bytes(png((8, 8)))
    add_line(tmp_path / "BBox_List_2017.csv", "b_0.png,Mass,900,900,100,100")
    film = load_nih(tmp_path).records[2]
    assert film.size == FRAME == (1024, 1024)
    assert film.boxes[1].xyxy == (900.0, 900.0, 1000.0, 1000.0)


def test_boxes_are_read_by_position(tmp_path: Path) -> None:
    """Rows of 6 and of 9 fields under the header's 9 names, and the box list's own spelling of Infiltration."""
    write_nih(tmp_path)
    long = "b_0.png,Infiltrate,225.084745762712,547.019216763771,86.7796610169491,79.1864406779661"
    write_lines(tmp_path / "BBox_List_2017.csv", [NIH_BOX_HEADER, long, "c_0.png,Mass,1,2,3,4,,,"])
    index = load_nih(tmp_path)
    first, second = (r.boxes[0] for r in index.records if r.boxes)
    assert first.finding == "Infiltration"
    assert first.xyxy == pytest.approx((225.084745762712, 547.019216763771, 311.8644067796611, 626.2056574417371))
    assert second.xyxy == (1.0, 2.0, 4.0, 6.0)


def test_box_list_without_its_header_loses_no_box(tmp_path: Path) -> None:
    write_nih(tmp_path)
    write_lines(tmp_path / "BBox_List_2017.csv", ["b_0.png,Mass,1,2,3,4", "c_0.png,Mass,1,2,3,4"])
    with pytest.raises(DataError, match=r"BBox_List_2017\.csv line 1: must be the header"):
        load_nih(tmp_path)


@pytest.mark.parametrize(
    ("box", "left", "reason"),
    [
        ("1020,10,8,8", (1020.0, 10.0, 1024.0, 18.0), "cut at its border"),
        ("1024,10,8,8", None, "is outside the film"),
        ("0,0,1024,1024", (0.0, 0.0, 1024.0, 1024.0), ""),
    ],
)
def test_box_at_the_far_border(box: str, left: tuple[float, ...] | None, reason: str, tmp_path: Path) -> None:
    write_nih(tmp_path)
    write_lines(tmp_path / "BBox_List_2017.csv", [NIH_BOX_HEADER, f"b_0.png,Mass,{box}"])
    index = load_nih(tmp_path)
    assert [b.xyxy for b in index.records[2].boxes] == ([left] if left else [])
    assert [reason in d.reason for d in index.dropped] == ([True] if reason else [])


HEADERS = {
    "2017, ages as text, a comma at the end": (
        "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
        "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y],",
        "{image},{label},000,{patient},058Y,M,PA,2682,2749,0.143,0.143,",
    ),
    "v2020": (NIH_HEADER, "{image},{label},0,{patient},58,M,PA,2682,2749,0.143,0.143"),
    "other names and order": (
        "patient_id,Patient Sex,image index,FINDING LABELS",
        "{patient},M,{image},{label}",
    ),
}


@pytest.mark.parametrize("version", HEADERS)
def test_columns_are_found_by_name(version: str, tmp_path: Path) -> None:
    header, row = HEADERS[version]
    write_nih(tmp_path)
    rows = [row.format(image=f.image, patient=f.patient, label="|".join(f.positive) or "No Finding") for f in FILMS]
    write_lines(tmp_path / "Data_Entry_2017_v2020.csv", [header, *rows])
    index = load_nih(tmp_path)
    assert index.patients == ("1", "1", "2", "3", "4")
    assert index.records[0].positive == {"Mass", "Nodule"}


def test_missing_column_is_named(tmp_path: Path) -> None:
    write_nih(tmp_path)
    write_lines(tmp_path / "Data_Entry_2017_v2020.csv", ["Image Index,Patient ID", "a_0.png,1"])
    with pytest.raises(DataError, match="a column 'Finding Labels'; its columns are 'Image Index', 'Patient ID'"):
        load_nih(tmp_path)


def test_label_versions(tmp_path: Path) -> None:
    write_nih(tmp_path, labels="Data_Entry_2017.csv")
    assert "Data_Entry_2017.csv" in load_nih(tmp_path).hashes
    with pytest.raises(DataError, match=r"no Data_Entry_2017_v2020.csv"):
        load_nih(tmp_path, labels="v2020")
    newer = (Film("a_0.png", "1", "train", ("Hernia",)), *FILMS[1:])
    write_nih(tmp_path, newer)
    both = load_nih(tmp_path)
    assert both.records[0].positive == {"Hernia"}
    assert [(d.item, "2020 version" in d.reason) for d in both.dropped] == [("Data_Entry_2017.csv", True)]
    old = load_nih(tmp_path, labels="2017")
    assert old.records[0].positive == {"Mass", "Nodule"}
    assert old.dropped == ()
    assert set(old.hashes) - set(both.hashes) == {"Data_Entry_2017.csv"}


def test_label_outside_the_vocabulary(tmp_path: Path) -> None:
    write_nih(tmp_path, (*FILMS, Film("e_0.png", "5", None, ("Mass", "Tumour"))))
    with pytest.raises(DataError, match=r"_v2020\.csv line 7: the label 'Tumour' of 'Mass\|Tumour' must be"):
        load_nih(tmp_path)


def test_no_finding_stands_alone(tmp_path: Path) -> None:
    write_nih(tmp_path, (*FILMS, Film("e_0.png", "5", None, ("No Finding", "Mass"))))
    with pytest.raises(DataError, match=r"line 7: the label 'No Finding' of .* stands alone"):
        load_nih(tmp_path)


def test_a_film_needs_a_patient(tmp_path: Path) -> None:
    write_nih(tmp_path, (*FILMS, Film("e_0.png", "")))
    with pytest.raises(DataError, match="line 7: Image Index and Patient ID must not be empty"):
        load_nih(tmp_path)


def test_films_where_the_archives_unpack_them(tmp_path: Path) -> None:
    """images/, images_001/images/ and images_002/ together; the second file of one name is listed, not read."""
    write_nih(tmp_path)
    for i, folder in enumerate(("images_001/images", "images_002", "images_012/images"), start=1):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / "images" / FILMS[i].image).rename(tmp_path / folder / FILMS[i].image)
    (tmp_path / "images_012" / "images" / "a_0.png").write_bytes(PNG)
    index = load_nih(tmp_path)
    assert [r.path.relative_to(tmp_path).as_posix() for r in index.records] == [
        "images/a_0.png",
        "images_001/images/a_1.png",
        "images_002/b_0.png",
        "images_012/images/c_0.png",
        "images/d_0.png",
    ]
    assert [(d.item, d.reason) for d in index.dropped] == [
        ("images_012/images/a_0.png", "not read: images/a_0.png has the same name")
    ]


def test_lists_that_name_what_is_not_there(tmp_path: Path) -> None:
    write_nih(tmp_path)
    add_line(tmp_path / "train_val_list.txt", "x_9.png\na_0.png")
    (tmp_path / "images" / "c_0.png").unlink()
    dropped = [(d.item, d.reason) for d in load_nih(tmp_path).dropped]
    assert ("train_val_list.txt line 3: x_9.png", "no label row names this film") in dropped
    assert ("train_val_list.txt: a_0.png", "named more than once; counted once") in dropped
    assert (
        "Data_Entry_2017_v2020.csv line 5: c_0.png",
        "no file of that name, though test_list.txt names it",
    ) in dropped


def test_missing_list_is_noted(tmp_path: Path) -> None:
    (write_nih(tmp_path) / "test_list.txt").unlink()
    index = load_nih(tmp_path)
    assert [r.split for r in index.records] == ["train", "train", None, None, None]
    assert [d.item for d in index.dropped] == ["test_list.txt"]


def test_empty_list_is_noted(tmp_path: Path) -> None:
    (write_nih(tmp_path) / "test_list.txt").write_bytes(b"")
    index = load_nih(tmp_path)
    assert [r.split for r in index.records] == ["train", "train", None, None, None]
    assert [(d.item, "names no film" in d.reason) for d in index.dropped] == [("test_list.txt", True)]


def test_film_in_both_lists(tmp_path: Path) -> None:
    add_line(write_nih(tmp_path) / "test_list.txt", "a_1.png")
    with pytest.raises(LeakError, match=r"test_list\.txt line 3: 'a_1.png' is in train_val_list.txt too"):
        load_nih(tmp_path)


def test_phantom_has_its_own_name_and_vocabulary(tmp_path: Path) -> None:
    write_nih(tmp_path)
    assert (load_nih(tmp_path).dataset, load_nih(tmp_path).findings) == ("nih", NIH14)
    (tmp_path / "phantom.json").write_text('{"seed": 1}')
    phantom = load_nih(tmp_path)
    assert (phantom.dataset, phantom.findings) == ("phantom", BOXED8)
    assert set(phantom.hashes) >= {"phantom.json"}
    (tmp_path / "phantom.json").write_text('{"findings": ["Mass", "Nodule", "Effusion"]}')
    assert load_nih(tmp_path).findings.names == ("Mass", "Nodule", "Effusion")


@pytest.mark.parametrize("text", ["", "[1]", '{"findings": 3}', '{"findings": ["Mass", "Mass"]}', '{"findings": [""]}'])
def test_damaged_phantom_json(text: str, tmp_path: Path) -> None:
    (write_nih(tmp_path) / "phantom.json").write_text(text)
    with pytest.raises(DataError, match=r"phantom\.json: not what a phantom's writer leaves"):
        load_nih(tmp_path)


def test_label_file_that_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "Data_Entry_2017.csv").mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        load_nih(tmp_path)


def test_indexing_asks_the_disk_about_folders_not_films(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    films = [Film(f"{i:05d}.png", str(i // 3), "train" if i % 2 else None) for i in range(300)]
    write_nih(tmp_path, [Film(f.image, f.patient) for f in films])
    calls: list[object] = []
    real = os.stat
    monkeypatch.setattr(os, "stat", lambda *args, **kwargs: (calls.append(args[0]), real(*args, **kwargs))[1])
    assert len(load_nih(tmp_path)) == 300
    assert len(calls) < 60


def test_many_films_index_in_linear_time(tmp_path: Path) -> None:
    """20,000 rows of which one has a file: a lookup that walks a list would take minutes."""
    write_nih(tmp_path)
    rows = (nih_row(Film(f"{i:08d}.png", str(i))) for i in range(20_000))
    write_lines(tmp_path / "Data_Entry_2017_v2020.csv", [NIH_HEADER, *rows])
    (tmp_path / "images" / "00000007.png").write_bytes(PNG)
    started = time.process_time()
    index = load_nih(tmp_path)
    assert time.process_time() - started < 5.0
    # 19,999 rows without a file, 5 files without a row, 4 listed films without a row, 3 boxes without a film.
    assert (len(index), len(index.dropped)) == (1, 19_999 + 5 + 4 + 3)


@needs_mini
def test_facts_of_the_real_sample() -> None:
    index = load_nih(MINI)
    assert (len(index), len(index.split("train")), len(index.split("test"))) == (1331, 892, 439)
    assert index.dropped == ()
    assert index.box_count == 488
    boxes = [b.finding for r in index.records for b in r.boxes]
    assert {f: boxes.count(f) for f in BOXED8} == {
        "Atelectasis": 88,
        "Effusion": 78,
        "Cardiomegaly": 74,
        "Infiltration": 59,
        "Pneumonia": 58,
        "Pneumothorax": 49,
        "Mass": 42,
        "Nodule": 40,
    }
    train, test = index.split("train"), index.split("test")
    assert (train.target.any(axis=1).sum(), (~train.target.any(axis=1)).sum()) == (542, 350)
    assert train.box_count == 0
    assert all(r.boxes and r.positive for r in test.records)
    assert not set(train.patients) & set(test.patients)
    assert index.known.all()


@needs_mini
def test_real_boxes_have_the_published_sizes() -> None:
    """Median share of the film of the full list's 984 boxes; the sample has half of them, so within a quarter."""
    index = load_nih(MINI)
    published = dict(zip(BOXED8, (0.019, 0.171, 0.056, 0.057, 0.015, 0.0046, 0.057, 0.036), strict=True))
    for finding, share in published.items():
        corners = np.array([b.xyxy for r in index.records for b in r.boxes if b.finding == finding])
        areas = (corners[:, 2] - corners[:, 0]) * (corners[:, 3] - corners[:, 1]) / 1024**2
        assert np.median(areas) == pytest.approx(share, rel=0.25), finding
        assert ((corners >= 0) & (corners <= 1024)).all()


@needs_mini
def test_real_train_films_hold_out_by_patient() -> None:
    train = load_nih(MINI).split("train")
    rest, held = hold_out(train, 0.2, seed=0)
    assert not set(rest.patients) & set(held.patients)
    assert len(held) / len(train) == pytest.approx(0.2, abs=0.01)
