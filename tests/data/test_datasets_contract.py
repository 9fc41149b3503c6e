"""One contract for every data set: a loader is added to DATASETS, the layout of its miniature to LAYOUTS."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from miniature import LAYOUTS as PLAIN_LAYOUTS
from miniature import Film, Layout, add_line
from miniature_rsna import RSNA_LAYOUT

from cxrlocus.data import DATASETS, open_index
from cxrlocus.errors import ConfigError, CxrlocusError, DataError, LeakError

CSVISH = st.text(alphabet='ab1.-,"|\n\r\t \ufeff\x00éA_', max_size=120).map(lambda text: text.encode())
LAYOUTS = PLAIN_LAYOUTS | {"rsna": RSNA_LAYOUT, "rsna-normal": RSNA_LAYOUT}
WITH_BOX_TABLE = sorted(name for name, layout in LAYOUTS.items() if layout.box_file != layout.label_file)
WITH_UNKNOWN = sorted(name for name, layout in LAYOUTS.items() if any(f.unknown for f in layout.films))
GARBAGE = st.one_of(st.binary(max_size=120), CSVISH)


@pytest.fixture(params=sorted(DATASETS))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def layout(name: str) -> Layout:
    return LAYOUTS[name]


def test_every_dataset_has_a_miniature() -> None:
    assert set(LAYOUTS) == set(DATASETS)


def test_films_labels_patients_splits_and_boxes_arrive(name: str, layout: Layout, tmp_path: Path) -> None:
    index = DATASETS[name](layout.write(tmp_path))
    assert index.images == tuple(f.image for f in layout.films)
    assert index.patients == tuple(f.patient for f in layout.films)
    assert [r.split for r in index.records] == [f.split for f in layout.films]
    assert [r.positive for r in index.records] == [frozenset(f.positive) for f in layout.films]
    assert [[b.xyxy for b in r.boxes] for r in index.records] == [
        [(x, y, x + w, y + h) for _, x, y, w, h in f.boxes] for f in layout.films
    ]
    assert all(r.path.read_bytes() == layout.content for r in index.records)
    assert index.dropped == ()


@pytest.mark.parametrize("name", WITH_UNKNOWN)
def test_unknown_is_never_negative(name: str, layout: Layout, tmp_path: Path) -> None:
    index = DATASETS[name](layout.write(tmp_path))
    silent = index.position["d_0.png"]
    assert not index.known[silent].any()
    assert not index.target[silent].any()
    assert index.known[:silent].all()
    assert index.target[index.position["a_0.png"]].sum() == 2


def test_missing_root(name: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere: no such folder"):
        DATASETS[name](tmp_path / "nowhere")


def test_root_that_is_a_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "film.png").write_bytes(b"film")
    with pytest.raises(DataError, match=r"film\.png: not a folder that can be read"):
        DATASETS[name](tmp_path / "film.png")


def test_films_that_must_not_be_looked_at(
    name: str, layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def scandir(folder: str | Path = ".") -> object:
        if Path(folder).name == layout.folder:
            raise PermissionError(13, "Permission denied", str(folder))
        return real(folder)

    layout.write(tmp_path)
    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(DataError, match=rf"{layout.folder}: cannot be read \(Permission denied\)"):
        DATASETS[name](tmp_path)


@pytest.mark.parametrize("lines", [0, 1])
def test_empty_table(lines: int, name: str, layout: Layout, tmp_path: Path) -> None:
    table = layout.write(tmp_path) / layout.label_file
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:lines]))
    with pytest.raises(DataError, match=rf"{layout.label_file}: must have a header and at least one row"):
        DATASETS[name](tmp_path)


def test_missing_table(name: str, layout: Layout, tmp_path: Path) -> None:
    (layout.write(tmp_path) / layout.label_file).unlink()
    with pytest.raises(DataError, match=layout.label_file):
        DATASETS[name](tmp_path)


def test_no_film_at_all(name: str, layout: Layout, tmp_path: Path) -> None:
    for path in (layout.write(tmp_path) / layout.folder).iterdir():
        path.unlink()
    with pytest.raises(DataError, match="none of the 5 films"):
        DATASETS[name](tmp_path)


def test_patient_on_both_sides(name: str, layout: Layout, tmp_path: Path) -> None:
    layout.write(tmp_path, (*layout.films, Film("a_2", "1", "test")))
    with pytest.raises(LeakError, match=r"1 patient stands in more than one split: 1 \(test, train\)"):
        DATASETS[name](tmp_path)


@pytest.mark.parametrize("name", WITH_BOX_TABLE)
def test_film_with_two_rows(name: str, layout: Layout, tmp_path: Path) -> None:
    add_line(layout.write(tmp_path) / layout.label_file, layout.row(layout.films[1]))
    with pytest.raises(DataError, match=r"line 7: a film must have one row; 'a_1.png' has one on line 3"):
        DATASETS[name](tmp_path)


def test_row_cut_short(name: str, layout: Layout, tmp_path: Path) -> None:
    line = add_line(layout.write(tmp_path) / layout.label_file, "e_0.png,1")
    with pytest.raises(DataError, match=rf"line {line}: a row must have .* it has 2"):
        DATASETS[name](tmp_path)


def test_quote_that_is_never_closed_loses_no_rows_silently(name: str, layout: Layout, tmp_path: Path) -> None:
    table = layout.write(tmp_path) / layout.label_file
    table.write_text(table.read_text().replace("b_0", '"b_0'))
    with pytest.raises(DataError, match="not valid CSV"):
        DATASETS[name](tmp_path)


def test_byte_order_mark_and_windows_lines_and_blank_lines(name: str, layout: Layout, tmp_path: Path) -> None:
    table = layout.write(tmp_path / "plain") / layout.label_file
    other = layout.write(tmp_path / "windows") / layout.label_file
    other.write_bytes(b"\xef\xbb\xbf" + table.read_bytes().replace(b"\n", b"\r\n") + b"\r\n,,\r\n")
    plain, windows = DATASETS[name](tmp_path / "plain"), DATASETS[name](tmp_path / "windows")
    assert plain.hash == windows.hash


def test_not_utf8(name: str, layout: Layout, tmp_path: Path) -> None:
    table = layout.write(tmp_path) / layout.label_file
    table.write_bytes(table.read_bytes().replace(b"b_0", b"b\xe9"))
    with pytest.raises(DataError, match="must be UTF-8 text"):
        DATASETS[name](tmp_path)


@pytest.mark.parametrize(
    ("corners", "reason"),
    [
        ("nan,1,2,3", "must be finite"),
        ("1,1,inf,3", "must be finite"),
        ("1,1,-2,3", "must have w > 0"),
        ("1,1,2,0", "must have w > 0"),
        ("1e17,1,1,3", "must have w > 0"),
        ("-5,1,5,3", "is outside the film"),
    ],
)
def test_bad_box_is_listed(corners: str, reason: str, name: str, layout: Layout, tmp_path: Path) -> None:
    film = layout.films[2]
    line = add_line(layout.write(tmp_path) / layout.box_file, layout.box(film.image, corners))
    index = DATASETS[name](tmp_path)
    assert index.box_count == 3
    (listed,) = index.dropped
    assert listed.item == f"{layout.box_file} line {line}: {film.image} {film.boxes[0][0]}"
    assert reason in listed.reason


@pytest.mark.parametrize("name", WITH_BOX_TABLE)
def test_box_of_no_film_is_listed(name: str, layout: Layout, tmp_path: Path) -> None:
    line = add_line(layout.write(tmp_path) / layout.box_file, "e_0.png,Effusion,1,1,2,3")
    index = DATASETS[name](tmp_path)
    assert index.box_count == 3
    (listed,) = index.dropped
    assert listed.item == f"{layout.box_file} line {line}: e_0.png Effusion"
    assert "the index does not have" in listed.reason


def test_box_across_the_border_is_cut_and_listed(name: str, layout: Layout, tmp_path: Path) -> None:
    film = layout.films[2].image
    add_line(layout.write(tmp_path) / layout.box_file, layout.box(film, "-3,-0.5,5,6"))
    index = DATASETS[name](tmp_path)
    assert index.records[index.position[film]].boxes[1].xyxy == (0.0, 0.0, 2.0, 5.5)
    assert [d.reason for d in index.dropped] == ["x,y,w,h = -3,-0.5,5,6 is partly outside the film; cut at its border"]


@pytest.mark.parametrize(
    ("corners", "complaint"),
    [("1,1,2", "at least 6 fields; it has 5"), ("1,one,2,3", "must be numbers; got 'one'")],
)
def test_malformed_box_row(corners: str, complaint: str, name: str, layout: Layout, tmp_path: Path) -> None:
    line = add_line(layout.write(tmp_path) / layout.box_file, layout.box(layout.films[2].image, corners))
    with pytest.raises(DataError, match=f"{layout.box_file} line {line}: .*{complaint}"):
        DATASETS[name](tmp_path)


@pytest.mark.parametrize("name", WITH_BOX_TABLE)
def test_box_of_a_strange_finding(name: str, layout: Layout, tmp_path: Path) -> None:
    line = add_line(layout.write(tmp_path) / layout.box_file, "b_0.png,Effusionn,1,1,2,3")
    with pytest.raises(DataError, match=f"{layout.box_file} line {line}: .*got 'Effusionn'"):
        DATASETS[name](tmp_path)


@pytest.mark.parametrize("name", WITH_BOX_TABLE)
def test_boxes_are_optional(name: str, layout: Layout, tmp_path: Path) -> None:
    (layout.write(tmp_path) / layout.box_file).unlink()
    index = DATASETS[name](tmp_path)
    assert (len(index), index.box_count) == (5, 0)
    assert layout.box_file not in index.hashes


def test_row_without_file_and_file_without_row_are_listed(name: str, layout: Layout, tmp_path: Path) -> None:
    film, folder = layout.films[3], layout.write(tmp_path) / layout.folder
    (folder / f"{film.image}{layout.suffix}").rename(folder / f"z_0.png{layout.suffix}")
    index = DATASETS[name](tmp_path)
    assert film.image not in index.images
    listed = {d.item: d.reason for d in index.dropped}
    assert "no row" in listed[f"{layout.folder}/z_0.png{layout.suffix}"]
    assert any(film.image in item and "file" in reason for item, reason in listed.items())
    assert sum(f"{film.image} {film.boxes[0][0]}" in item for item in listed) == 2


def test_hidden_files_are_not_films(name: str, layout: Layout, tmp_path: Path) -> None:
    (layout.write(tmp_path) / layout.folder / f"._a_0.png{layout.suffix}").write_bytes(b"resource fork")
    assert DATASETS[name](tmp_path).dropped == ()


def test_a_hash_changes_with_its_file_and_no_other(name: str, layout: Layout, tmp_path: Path) -> None:
    before = DATASETS[name](layout.write(tmp_path)).hashes
    assert set(before) == set(layout.hashed)
    for changed in layout.hashed:
        text = (tmp_path / changed).read_text()
        (tmp_path / changed).write_text(text + "\n")
        after = DATASETS[name](tmp_path).hashes
        assert {key for key in after if after[key] != before[key]} == {changed}
        (tmp_path / changed).write_text(text)


def test_auto_takes_the_layout(name: str, layout: Layout, tmp_path: Path) -> None:
    layout.write(tmp_path)
    assert open_index(tmp_path).hash == open_index(tmp_path, name).hash == DATASETS[name](tmp_path).hash


def test_auto_refuses_to_guess(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none is there"):
        open_index(tmp_path)
    for layout in LAYOUTS.values():
        layout.write(tmp_path)
    with pytest.raises(DataError, match="3 are there"):
        open_index(tmp_path)
    with pytest.raises(ConfigError, match="got 'padchest'"):
        open_index(tmp_path, "padchest")


@given(data=st.data())
@settings(max_examples=400)
def test_garbage_never_gives_a_foreign_error(data: st.DataObject) -> None:
    """A file of garbage, or one with garbage in its middle: an index, or one line that names the file."""
    name = data.draw(st.sampled_from(sorted(DATASETS)))
    layout = LAYOUTS[name]
    with tempfile.TemporaryDirectory() as folder:
        root = layout.write(Path(folder))
        path = root / data.draw(st.sampled_from(layout.hashed))
        good = path.read_bytes()
        cut = data.draw(st.integers(0, len(good)))
        skip = data.draw(st.sampled_from([0, 1, 7, 40, len(good)]))
        path.write_bytes(good[:cut] + data.draw(GARBAGE) + good[cut + skip :])
        index, complaint = None, ""
        try:
            index = DATASETS[name](root)
        except CxrlocusError as error:
            complaint = str(error)
        assert complaint.isprintable()
        for record in index.records if index else ():
            assert all(0 <= b.xyxy[0] < b.xyxy[2] and 0 <= b.xyxy[1] < b.xyxy[3] for b in record.boxes)


@given(data=st.data())
@settings(max_examples=150)
def test_nothing_is_lost_unlisted(data: st.DataObject) -> None:
    """Every label row is a film or listed, every file is a film or listed, every box is in the index or listed."""
    name = data.draw(st.sampled_from(sorted(DATASETS)))
    layout = LAYOUTS[name]
    box = st.tuples(st.sampled_from(["Mass", "Nodule"]), *[st.floats(-50, 1100)] * 2, *[st.floats(-10, 1100)] * 2)
    films = [
        Film(
            f"f{i}.png",
            f"p{i}",
            data.draw(st.sampled_from([None, "train", "test"])),
            boxes=data.draw(st.lists(box, max_size=2).map(tuple)),
        )
        for i in range(data.draw(st.integers(2, 5)))
    ]
    with tempfile.TemporaryDirectory() as folder:
        root = layout.write(Path(folder), films)
        folder_of_films = root / layout.folder
        for film in films[1:]:
            file = folder_of_films / f"{film.image}{layout.suffix}"
            fate = data.draw(st.sampled_from(["kept", "removed", "renamed"]))
            if fate != "kept":
                file.unlink()
            if fate == "renamed":
                file.with_name(f"{film.image}.old{layout.suffix}").write_bytes(layout.content)
        index = DATASETS[name](root)
        listed = [d.item for d in index.dropped]
        boxed = [d for d in index.dropped if d.item.split()[-1] in index.findings and "cut at" not in d.reason]
        assert index.box_count + len(boxed) == sum(len(f.boxes) for f in films)
        for film in films:
            assert (film.image in index.images) != any(item.endswith(f": {film.image}") for item in listed)
        for path in folder_of_films.iterdir():
            image = path.name.removesuffix(layout.suffix)
            assert (image in index.images) != (f"{layout.folder}/{path.name}" in listed)


def test_data_sets_need_no_torch() -> None:
    code = "import sys, cxrlocus.data, cxrlocus.data.splits; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
