"""What is RSNA's own; what every data set must do is in test_datasets_contract.py."""

from __future__ import annotations

import errno
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from miniature import Film, add_line, write_lines
from miniature_rsna import CLASSES, FOLDER, LABELS, LISTS, MAP, RSNA_FILMS, dicom, write_map, write_rsna

from cxrlocus.data import open_index
from cxrlocus.data.check import check_dataset
from cxrlocus.data.images import film_size, read_film
from cxrlocus.data.nih_names import MAP_FILES
from cxrlocus.data.rsna import FINDINGS, LABEL_FILE, STAGE_1_FILE, load_rsna, write_rsna_split
from cxrlocus.data.splits import LIST_FILES
from cxrlocus.errors import ConfigError, DataError, LeakError

NOT_NORMAL = "No Lung Opacity / Not Normal"


def reasons(root: Path, **options: str) -> list[tuple[str, str]]:
    return [(d.item, d.reason) for d in load_rsna(root, **options).dropped]


def test_real_dicom_films_and_boxes_in_their_own_pixels(tmp_path: Path) -> None:
    """A box from column 256 to 768 of 1024 spans the greys from 1/4 to 3/4 of a film that grows from 0 to 255."""
    film = Film("d1ca", "7", boxes=(("Pneumonia", 256.0, 100.0, 512.0, 300.0),))
    write_rsna(tmp_path, (film,))
    (tmp_path / FOLDER / "d1ca.dcm").write_bytes(dicom("d1ca", 1024))
    record = load_rsna(tmp_path).records[0]
    pixels = read_film(record.path)
    assert pixels.shape == (1024, 1024)
    assert film_size(record, (1024, 1024)) == (1024, 1024)
    x0, y0, x1, y1 = (round(v) for v in record.boxes[0].xyxy)
    inside = pixels[y0:y1, x0:x1] / 65535
    assert (inside.min(), inside.max()) == pytest.approx((0.25, 0.75), abs=0.02)
    report = check_dataset(load_rsna(tmp_path), read=True)
    assert (report.read, report.unreadable, report.suspect) == (1, (), ())
    assert report.median_area == pytest.approx((512 * 300 / 1024**2,))


def test_check_finds_the_box_that_ends_outside_and_the_film_that_is_cut_short(tmp_path: Path) -> None:
    write_rsna(tmp_path)
    add_line(tmp_path / LABELS, "b_0,20,20,20,5,1")
    (tmp_path / FOLDER / "a_0.dcm").write_bytes(dicom()[:400])
    report = check_dataset(load_rsna(tmp_path), read=True)
    assert [d.item for d in report.unreadable] == ["a_0"]
    assert ["ends outside its 32 x 32 pixels" in d.reason for d in report.suspect] == [True]


def test_several_boxes_a_film_in_the_order_of_the_rows(tmp_path: Path) -> None:
    index = load_rsna(write_rsna(tmp_path))
    assert index.findings == FINDINGS
    assert [b.xyxy for b in index.records[3].boxes] == [(1.0, 1.0, 9.0, 9.0), (2.0, 2.0, 5.0, 5.0)]
    assert {b.finding for b in index.records[3].boxes} == {"Pneumonia"}
    assert index.target.ravel().tolist() == [0, 0, 1, 1, 0]
    assert index.known.all()
    assert (index.dataset, index.dropped) == ("rsna", ())


@pytest.mark.parametrize("row", ["a_0,,,,,0", "a_0,nan,NaN,nan,nan,0.0", "a_0, , , , ,0"])
def test_target_0_with_empty_box_fields(row: str, tmp_path: Path) -> None:
    path = write_rsna(tmp_path) / LABELS
    path.write_text(path.read_text().replace("a_0,,,,,0", row))
    index = load_rsna(tmp_path)
    assert (index.target[0, 0], index.records[0].boxes, index.dropped) == (0, (), ())


@pytest.mark.parametrize("corners", [",,,", "nan,nan,nan,nan"])
def test_target_1_without_a_box_counts_and_is_listed(corners: str, tmp_path: Path) -> None:
    write_rsna(tmp_path, (*RSNA_FILMS, Film("e_0", "5", None, ("Pneumonia",))))
    path = tmp_path / LABELS
    path.write_text(path.read_text().replace("e_0,,,,", f"e_0,{corners}"))
    index = load_rsna(tmp_path)
    assert (index.target[5, 0], index.records[5].boxes) == (1, ())
    assert reasons(tmp_path) == [
        (f"{LABELS} line 8: e_0 Pneumonia", "Target 1 without a box; the label counts all the same")
    ]


def test_a_row_that_stands_twice_is_counted_once(tmp_path: Path) -> None:
    path = write_rsna(tmp_path) / LABELS
    add_line(path, "c_0,1.0,1.00,8,8.0,1")
    add_line(path, "a_0,,,,,0")
    index = load_rsna(tmp_path)
    assert index.box_count == 3
    assert reasons(tmp_path) == [
        (f"{LABELS} line 8: c_0 Pneumonia", "the same as line 5; counted once"),
        (f"{LABELS} line 9: a_0 Pneumonia", "the same as line 2; counted once"),
    ]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("a_0,1,1,2,2,0", "line 8: a film of Target 0 must not have a box; a_0 has one"),
        ("a_0,1,1,2,2,1", "line 8: a film must have one Target; a_0 has 1 here, the other on line 2"),
        ("b_0,,,,,0", "line 8: a film must have one Target; b_0 has 0 here, the other on line 4"),
        ("e_0,,,,,2", "Target be 0 or 1; got 'e_0' and '2'"),
        ("e_0,,,,,", "Target be 0 or 1; got 'e_0' and ''"),
        (",1,1,2,2,1", "patientId must not be empty"),
    ],
)
def test_rows_that_contradict(row: str, complaint: str, tmp_path: Path) -> None:
    add_line(write_rsna(tmp_path) / LABELS, row)
    with pytest.raises(DataError, match=complaint):
        load_rsna(tmp_path)


def test_columns_are_found_by_name(tmp_path: Path) -> None:
    path = write_rsna(tmp_path) / LABELS
    before = load_rsna(tmp_path).hash
    rows = [line.split(",") for line in path.read_text().splitlines()]
    write_lines(path, [",".join((r[5], r[2], r[1], r[0], r[4], r[3])) for r in rows])
    assert load_rsna(tmp_path).hash == before
    write_lines(path, ["patientId,x,y,width,height", "a_0,,,,"])
    with pytest.raises(DataError, match="a column 'Target'"):
        load_rsna(tmp_path)


def test_a_folder_with_labels_alone(tmp_path: Path) -> None:
    """Only what is needed: everything that is missing is said, once."""
    write_rsna(tmp_path)
    for name in (CLASSES, MAP, *LISTS.values()):
        (tmp_path / name).unlink()
    index = load_rsna(tmp_path)
    assert index.patients == index.images
    assert {r.split for r in index.records} == {None}
    assert [d.item for d in index.dropped] == [" or ".join(MAP_FILES), ", ".join(LISTS.values())]
    assert "each film is its own patient" in index.dropped[0].reason
    assert set(index.hashes) == {LABELS}


def test_missing_film_folder_and_other_kinds_of_file(tmp_path: Path) -> None:
    write_rsna(tmp_path)
    (tmp_path / FOLDER / "a_0.png").write_bytes(b"")
    assert reasons(tmp_path) == [(f"{FOLDER}/a_0.png", "not a .dcm file")]
    (tmp_path / FOLDER).rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=rf"{FOLDER}: cannot be read \(No such file or directory\)"):
        load_rsna(tmp_path)


def test_opacity_against_normal_leaves_the_rest_out_and_says_how_many(tmp_path: Path) -> None:
    write_rsna(tmp_path, classes={"a_1": NOT_NORMAL, "d_0": NOT_NORMAL})
    index = load_rsna(tmp_path, task="opacity-normal")
    assert index.images == ("a_0", "b_0", "c_0")
    assert index.dataset == "rsna-normal"
    assert [(d.item, d.reason) for d in index.dropped] == [
        ("2 films", f"{NOT_NORMAL!r} in {CLASSES}: opacity-normal leaves them out")
    ]
    assert open_index(tmp_path, "rsna-normal").hash == index.hash
    assert load_rsna(tmp_path).images == tuple(f.image for f in RSNA_FILMS)


def test_opacity_against_normal_needs_classes(tmp_path: Path) -> None:
    path = write_rsna(tmp_path) / CLASSES
    lines = path.read_text().splitlines()
    write_lines(path, [line for line in lines if not line.startswith(("a_1", "b_0"))])
    assert load_rsna(tmp_path).dropped == ()
    index = load_rsna(tmp_path, task="opacity-normal")
    assert index.images == ("a_0", "b_0", "c_0", "d_0")
    assert [(d.item, d.reason) for d in index.dropped] == [
        (f"{LABELS} line 3: a_1", f"no class in {CLASSES}, so it is not known to be normal")
    ]
    path.unlink()
    with pytest.raises(DataError, match=f"opacity-normal needs {CLASSES}"):
        load_rsna(tmp_path, task="opacity-normal")
    with pytest.raises(ConfigError, match="task must be opacity-rest or opacity-normal; got 'rest'"):
        load_rsna(tmp_path, task="rest")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ("a_0,Lung Opacity", "line 8: a film has one class; a_0 is 'Lung Opacity' and 'Normal'"),
        ("a_0,normal", "line 8: the class must be 'Lung Opacity', 'Normal' or .*; got 'normal'"),
        ("a_0", "line 8: a row must have at least 2 fields; it has 1"),
    ],
)
def test_classes_that_contradict(row: str, complaint: str, tmp_path: Path) -> None:
    add_line(write_rsna(tmp_path) / CLASSES, row)
    with pytest.raises(DataError, match=complaint):
        load_rsna(tmp_path)


@pytest.mark.parametrize(("film", "name"), [("a_0", "Lung Opacity"), ("b_0", "Normal"), ("b_0", NOT_NORMAL)])
def test_a_class_that_contradicts_the_target(film: str, name: str, tmp_path: Path) -> None:
    write_rsna(tmp_path, classes={film: name})
    with pytest.raises(DataError, match=rf"{film} is '{name}', but line \d of {LABELS} has Target"):
        load_rsna(tmp_path)


def test_a_class_of_no_film_is_listed(tmp_path: Path) -> None:
    add_line(write_rsna(tmp_path) / CLASSES, "e_0,Normal")
    assert reasons(tmp_path) == [(f"{CLASSES} line 8: e_0", f"no row in {LABELS}")]


def test_stage_1_keeps_the_films_that_its_list_names(tmp_path: Path) -> None:
    write_rsna(tmp_path)
    write_lines(tmp_path / STAGE_1_FILE, ["c_0", "a_0", "z_9", "a_0"])
    index = load_rsna(tmp_path)
    assert index.images == ("a_0", "c_0")
    assert STAGE_1_FILE in index.hashes
    assert [(d.item, d.reason) for d in index.dropped] == [
        (f"{STAGE_1_FILE}: a_0", "named more than once; counted once"),
        (f"{STAGE_1_FILE} line 3: z_9", f"no row in {LABELS}"),
        ("3 films", f"not in {STAGE_1_FILE}"),
    ]
    write_lines(tmp_path / STAGE_1_FILE, ["z_9"])
    with pytest.raises(DataError, match="must name films of"):
        load_rsna(tmp_path)


def test_lists_that_are_off(tmp_path: Path) -> None:
    write_rsna(tmp_path)
    (tmp_path / LISTS["val"]).unlink()
    write_lines(tmp_path / LISTS["test"], ["b_0", "b_0", "z_9"])
    (tmp_path / LISTS["train"]).write_text("")
    assert reasons(tmp_path) == [
        (LISTS["val"], "no such file, so no film has that split; `cxrlocus data split` draws them"),
        (LISTS["train"], "names no film, so no film has split 'train'"),
        (f"{LISTS['test']}: b_0", "named more than once; counted once"),
        (f"{LISTS['test']} line 3: z_9", "no label row names this film"),
    ]
    write_lines(tmp_path / LISTS["train"], ["a_0", "b_0"])
    with pytest.raises(LeakError, match=rf"{LISTS['test']} line 1: 'b_0' is in {LISTS['train']} too"):
        load_rsna(tmp_path)


def write_labels(root: Path, patients: list[str]) -> Path:
    """Labels and map alone: a split needs no pixels."""
    films = [Film(f"f{i}", patient) for i, patient in enumerate(patients)]
    write_lines(root / LABELS, ["patientId,x,y,width,height,Target", *(f"{f.image},,,,,0" for f in films)])
    write_map(root, films)
    return root


def lists(root: Path) -> dict[str, list[str]]:
    return {split: (root / name).read_text().split() for split, name in LIST_FILES.items()}


def all_films(root: Path) -> list[str]:
    """Every name of the three lists, as often as it stands there."""
    return sorted(name for names in lists(root).values() for name in names)


OWNERS = st.lists(st.integers(0, 12).map(str), min_size=3, max_size=60).filter(lambda names: len(set(names)) > 2)


@given(OWNERS, st.integers(0, 9))
@settings(max_examples=60)
def test_a_split_is_whole_disjoint_by_patient_and_near_80_10_10(patients: list[str], seed: int) -> None:
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        write_rsna_split(write_labels(Path(first), patients), seed=seed)
        drawn = lists(Path(first))
        assert all_films(Path(first)) == sorted(f"f{i}" for i in range(len(patients)))
        owners = {split: {patients[int(name[1:])] for name in names} for split, names in drawn.items()}
        assert all(owners.values())
        assert sum(len(o) for o in owners.values()) == len(set(patients))
        largest = max(Counter(patients).values())
        for split, slack in (("val", 0.5), ("test", 1.5)):
            off = abs(len(drawn[split]) - 0.1 * len(patients))
            assert off <= slack * largest + 1e-9 or 1 in (len(owners[split]), len(owners["train"]))
        # The order of the rows does not matter: only who owns which film.
        order = sorted(range(len(patients)), key=lambda i: (i * 7 + seed) % len(patients))
        films = [Film(f"f{i}", patients[i]) for i in order]
        rows = [f"{f.image},,,,,0" for f in films]
        write_lines(Path(second) / LABELS, ["patientId,x,y,width,height,Target", *rows])
        write_map(Path(second), films)
        write_rsna_split(Path(second), seed=seed)
        assert {k: sorted(v) for k, v in lists(Path(second)).items()} == {k: sorted(v) for k, v in drawn.items()}


def test_the_papers_counts(tmp_path: Path) -> None:
    """InfoMask used 20,547, 2,568 and 2,569 of the 25,684 films of stage 1."""
    write_labels(tmp_path, [])
    write_lines(tmp_path / LABELS, ["patientId,x,y,width,height,Target", *(f"f{i},,,,,0" for i in range(25_684))])
    (tmp_path / MAP).unlink()
    write_rsna_split(tmp_path)
    drawn = lists(tmp_path)
    assert [len(drawn[split]) for split in ("train", "val", "test")] == [20_547, 2_568, 2_569]


def test_a_split_is_reproducible_read_back_and_drawn_once(tmp_path: Path) -> None:
    write_rsna(tmp_path)
    for name in LISTS.values():
        (tmp_path / name).unlink()
    hashes = write_rsna_split(tmp_path, seed=3)
    index = load_rsna(tmp_path)
    assert {name: index.hashes[name] for name in LISTS.values()} == hashes
    assert {r.split for r in index.records} == {"train", "val", "test"}
    assert len({r.split for r in index.records if r.patient == "1"}) == 1
    with pytest.raises(DataError, match=r"train_list.txt: a split is drawn once"):
        write_rsna_split(tmp_path)
    drawn = lists(tmp_path)
    for name in LISTS.values():
        (tmp_path / name).unlink()
    assert write_rsna_split(tmp_path, seed=3) == hashes
    assert lists(tmp_path) == drawn


def test_a_split_covers_stage_1_and_both_tasks(tmp_path: Path) -> None:
    write_labels(tmp_path, [str(i // 2) for i in range(40)])
    write_lines(tmp_path / STAGE_1_FILE, [f"f{i}" for i in range(0, 40, 2)])
    write_rsna_split(tmp_path)
    assert all_films(tmp_path) == sorted(f"f{i}" for i in range(0, 40, 2))


def test_a_split_that_cannot_be_written_leaves_no_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_labels(tmp_path, ["1", "2", "3"])
    real = Path.write_bytes

    def write_bytes(path: Path, data: bytes) -> int:
        if path.name == LISTS["test"]:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(path, data)

    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    with pytest.raises(DataError, match="No space left on device"):
        write_rsna_split(tmp_path)
    assert not any((tmp_path / name).exists() for name in LISTS.values())


@pytest.mark.parametrize("seed", range(6))
def test_a_patient_with_nearly_all_films_leaves_no_split_empty(seed: int, tmp_path: Path) -> None:
    write_rsna_split(write_labels(tmp_path, ["1", "2", *["3"] * 60]), seed=seed)
    assert sorted(len(names) for names in lists(tmp_path).values()) == [1, 1, 60]


def test_another_seed_another_draw_of_one_size(tmp_path: Path) -> None:
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        write_rsna_split(write_labels(tmp_path / str(seed), [str(i) for i in range(1000)]), seed=seed)
    first, second = lists(tmp_path / "0"), lists(tmp_path / "1")
    assert [[len(drawn[split]) for split in LIST_FILES] for drawn in (first, second)] == [[800, 100, 100]] * 2
    # Two independent draws of 100 of 1000 share about 10.
    assert len(set(first["test"]) & set(second["test"])) < 30


@pytest.mark.parametrize("patients", [["1"], ["1", "1", "2"]])
def test_a_split_needs_three_patients(patients: list[str], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"need at least 3 patients; there are {len(set(patients))}"):
        write_rsna_split(write_labels(tmp_path, patients))


def test_as_many_films_as_the_real_one_in_linear_time(tmp_path: Path) -> None:
    """26,684 films in 30,227 rows, of which one has a file."""
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER / "f0.dcm").write_bytes(dicom())
    rng = np.random.default_rng(0)
    extra = rng.integers(0, 6012, 30_227 - 26_684)
    counts = 1 + np.bincount(extra, minlength=26_684)
    rows = [f"f{i},{k}.0,2.0,3.0,4.0,1" if i < 6012 else f"f{i},,,,,0" for i, n in enumerate(counts) for k in range(n)]
    assert len(rows) == 30_227
    write_lines(tmp_path / LABEL_FILE, ["patientId,x,y,width,height,Target", *rows])
    started = time.process_time()
    index = load_rsna(tmp_path)
    assert time.process_time() - started < 5.0
    # Rows without a file, boxes without a film, no map, no lists.
    assert (len(index), len(index.dropped)) == (1, 26_683 + 6012 + 3543 - index.box_count + 2)
