from __future__ import annotations

import os
from pathlib import Path

import pytest
from miniature import PNG, write_folder, write_lines

from cxrlocus.data.folder import load_folder
from cxrlocus.errors import DataError, LeakError


def write(root: Path, lines: list[str], files: tuple[str, ...] = ("images/a.png", "images/b.png")) -> Path:
    for name in files:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(PNG)
    write_lines(root / "labels.csv", lines)
    return root


def test_states_of_a_label(tmp_path: Path) -> None:
    """CheXpert's code, as integers or as floats; -1 and empty say nothing."""
    index = load_folder(write(tmp_path, ["image,Mass,Nodule,Edema", "a.png,1,0,", "b.png,0.0,-1,1.0"]))
    assert index.target.tolist() == [[1, 0, 0], [0, 0, 1]]
    assert index.known.tolist() == [[True, True, False], [True, False, True]]


def test_name_of_the_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_folder(tmp_path / "clinic")
    assert load_folder(tmp_path / "clinic").dataset == "clinic"
    monkeypatch.chdir(tmp_path / "clinic")
    assert load_folder(Path()).dataset == "clinic"


def test_a_film_without_a_patient_is_its_own(tmp_path: Path) -> None:
    rows = ["image,patient,Mass", "a.png,,1", "b.png,7,0"]
    assert load_folder(write(tmp_path, rows)).patients == ("a.png", "7")
    assert load_folder(write(tmp_path, ["image,Mass", "a.png,1", "b.png,0"])).patients == ("a.png", "b.png")


def test_films_without_patients_do_not_leak(tmp_path: Path) -> None:
    rows = ["image,patient,split,Mass", "a.png,,train,1", "b.png,,test,0"]
    assert [r.split for r in load_folder(write(tmp_path, rows)).records] == ["train", "test"]
    with pytest.raises(LeakError):
        load_folder(write(tmp_path, [row.replace(",,", ",7,") for row in rows]))


def test_paths_below_images_or_root(tmp_path: Path) -> None:
    files = ("images/p1/a.dcm", "b.png", "images/both.png", "both.png", "deep/c")
    rows = ["image,Mass", "p1/a.dcm,1", "b.png,0", "both.png,0", "images/p1/./x.png,0", "deep\\c,1"]
    index = load_folder(write(tmp_path, rows, files))
    assert index.images == ("p1/a.dcm", "b.png", "both.png", "deep/c")
    assert [r.path.relative_to(tmp_path).as_posix() for r in index.records] == [
        "images/p1/a.dcm",
        "b.png",
        "images/both.png",
        "deep/c",
    ]
    assert [(d.item, d.reason) for d in index.dropped] == [("labels.csv line 5: images/p1/x.png", "no such file")]


@pytest.mark.parametrize("second", ["images/a.png", "./a.png", "a.png"])
def test_one_file_by_two_names(second: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 3: a film must have one row"):
        load_folder(write(tmp_path, ["image,Mass", "a.png,1", f"{second},1"]))


@pytest.mark.parametrize("name", ["../a.png", "/etc/passwd", "", ".", "p/../../a.png", "..\\a.png"])
def test_paths_that_leave_the_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 2: image must be a path below the folder"):
        load_folder(write(tmp_path, ["image,Mass", f"{name},1"]))


@pytest.mark.parametrize("cell", ["yes", "2", "nan", "0.5", "1 0"])
def test_cell_that_is_no_state(cell: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"line 3: column 'Mass' must be 1, 0, -1 or empty; got '{cell}'"):
        load_folder(write(tmp_path, ["image,Mass", "a.png,1", f"b.png,{cell}"]))


@pytest.mark.parametrize(
    "header", ["image", "image,patient", "image,Mass,Mass", "image,Mass,", "image,Image,Mass", "image,split,Split,Mass"]
)
def test_header_that_is_not_one(header: str, tmp_path: Path) -> None:
    row = ",".join(["a.png", *["1"] * header.count(",")])
    with pytest.raises(DataError, match=r"labels\.csv: the header must be image, optionally patient and split"):
        load_folder(write(tmp_path, [header, row]))


def test_header_without_image(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="must have a column 'image'"):
        load_folder(write(tmp_path, ["file,Mass", "a.png,1"]))


def test_roles_are_found_in_any_case_and_place(tmp_path: Path) -> None:
    index = load_folder(write(tmp_path, ["Mass,SPLIT,Image,Patient", "1,val,a.png,3", "0,,b.png,4"]))
    assert index.findings.names == ("Mass",)
    assert [(r.image, r.split, r.patient) for r in index.records] == [("a.png", "val", "3"), ("b.png", None, "4")]


def test_a_shifted_row_is_refused(tmp_path: Path) -> None:
    """One comma too many would move every label after it by a column."""
    with pytest.raises(DataError, match="line 2: a row must have the header's 3 fields; it has 4"):
        load_folder(write(tmp_path, ["image,Mass,Nodule", "a.png,,0,1"]))


def test_split_that_is_not_one(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="line 2: split must be train, val, test or empty; got 'valid'"):
        load_folder(write(tmp_path, ["image,split,Mass", "a.png,valid,1"]))


def test_boxes_by_name_in_the_films_own_pixels(tmp_path: Path) -> None:
    write(tmp_path, ["image,Mass", "a.png,1", "b.png,0"])
    rows = ["score,h,w,y,x,finding,image", "0.5,4,3,2,1,Mass,a.png", "0.1,5000,5000,0,0,Mass,a.png"]
    write_lines(tmp_path / "boxes.csv", rows)
    film = load_folder(tmp_path).records[0]
    assert film.size is None
    assert [b.xyxy for b in film.boxes] == [(1.0, 2.0, 4.0, 6.0), (0.0, 0.0, 5000.0, 5000.0)]


def test_box_table_without_a_column(tmp_path: Path) -> None:
    write(tmp_path, ["image,Mass", "a.png,1"])
    write_lines(tmp_path / "boxes.csv", ["image,finding,x,y,w", "a.png,Mass,1,1,1"])
    with pytest.raises(DataError, match=r"boxes.csv: the header must have a column 'h'"):
        load_folder(tmp_path)


def test_other_names_of_the_files(tmp_path: Path) -> None:
    write(tmp_path, ["image,Mass", "a.png,1"], ("films/a.png", "films/stray.png"))
    (tmp_path / "labels.csv").rename(tmp_path / "truth.csv")
    write_lines(tmp_path / "rois.csv", ["image,finding,x,y,w,h", "a.png,Mass,1,1,2,2"])
    index = load_folder(tmp_path, labels_csv="truth.csv", boxes_csv="rois.csv", images="films")
    assert (index.images, index.box_count, set(index.hashes)) == (("a.png",), 1, {"truth.csv", "rois.csv"})
    assert [d.item for d in index.dropped] == ["films/stray.png"]
    here = load_folder(write(tmp_path / "flat", ["image,Mass", "a.png,1"], ("a.png",)), images=".")
    assert [r.path.name for r in here.records] == ["a.png"]


def test_folders_behind_links_once(tmp_path: Path) -> None:
    """Films on another disk behind a link are found, and a link that leads back to the folder ends the walk."""
    write(tmp_path / "disk", [], ("a.png",))
    (tmp_path / "set").mkdir()
    write(tmp_path / "set", ["image,Mass", "a.png,1"], ())
    (tmp_path / "set" / "images").symlink_to(tmp_path / "disk", target_is_directory=True)
    (tmp_path / "disk" / "loop").symlink_to(tmp_path / "set", target_is_directory=True)
    assert load_folder(tmp_path / "set").images == ("a.png",)


def test_a_folder_by_two_names_is_found_by_both(tmp_path: Path) -> None:
    write(tmp_path, ["image,Mass", "p2/a.png,1", "b.png,0"], ("images/p1/a.png", "images/b.png"))
    (tmp_path / "images" / "p2").symlink_to("p1", target_is_directory=True)
    assert load_folder(tmp_path).images == ("p2/a.png", "b.png")
    early = tmp_path / "early"
    write(early, ["image,Mass", "a.png,1"], ("archive/a.png",))
    (early / "images").symlink_to("archive", target_is_directory=True)
    assert load_folder(early).records[0].path == early / "images" / "a.png"


def test_links_that_fan_out_are_refused_and_circles_end(tmp_path: Path) -> None:
    root = write(tmp_path / "set", ["image,Mass", "a.png,1"], ("images/a.png",))
    for k in range(6):
        (root / "images" / f"d{k}").mkdir()
    for k, other in ((k, other) for k in range(6) for other in range(6) if k != other):
        (root / "images" / f"d{k}" / f"to{other}").symlink_to(f"../d{other}", target_is_directory=True)
    with pytest.raises(DataError, match="more than 8 paths lead to this folder"):
        load_folder(root)


@pytest.mark.parametrize("name", ["nih", "rsna", "rsna-normal", "phantom"])
def test_a_folder_that_is_called_as_a_published_set_is_not_taken_for_it(tmp_path: Path, name: str) -> None:
    assert load_folder(write(tmp_path / name, ["image,Mass", "a.png,1"])).dataset == f"folder {name}"


def test_all_tables_may_spell_a_film_alike(tmp_path: Path) -> None:
    write(tmp_path, ["image,Mass", "s\\a.png,1", "./s/b.png,0"], ("images/s/a.png", "images/s/b.png"))
    write_lines(tmp_path / "boxes.csv", ["image,finding,x,y,w,h", "s\\a.png,Mass,0,0,1,1"])
    write_lines(tmp_path / "train_list.txt", ["./s/b.png", "s/b.png"])
    write_lines(tmp_path / "val_list.txt", [])
    write_lines(tmp_path / "test_list.txt", ["s\\a.png"])
    index = load_folder(tmp_path)
    assert [(r.image, r.split, len(r.boxes)) for r in index.records] == [
        ("s/a.png", "test", 1),
        ("s/b.png", "train", 0),
    ]
    assert ("train_list.txt: s/b.png", "named more than once; counted once") in [
        (d.item, d.reason) for d in index.dropped
    ]


def test_names_with_odd_spaces_and_joiners_are_names(tmp_path: Path) -> None:
    names = ("\u80f8\u90e8\u3000\u5199\u771f.png", "shot\u202fone.png", "a\u00a0b.png", "a\u200db.png")
    write(tmp_path, ["image,Mass", *(f"{name},1" for name in names)], tuple(f"images/{name}" for name in names))
    assert load_folder(tmp_path).images == names


def test_a_file_name_that_is_not_text(tmp_path: Path) -> None:
    write(tmp_path, ["image,Mass", "a.png,1"])
    (tmp_path / "images" / "b.png").unlink()
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/images/\xff.png")).write_bytes(PNG)
    except OSError:
        pytest.skip("this file system takes only text as file names")
    assert [d.reason for d in load_folder(tmp_path).dropped] == ["no row in labels.csv"]
