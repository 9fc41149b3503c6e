from __future__ import annotations

import math
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from miniature import FILMS, Film, add_line, png, write_folder, write_lines, write_nih

import cxrlocus.data.check as check
from cxrlocus.data.check import check_dataset
from cxrlocus.data.folder import load_folder
from cxrlocus.data.nih import load_nih
from cxrlocus.data.records import Dropped


def test_counts(tmp_path: Path) -> None:
    report = check_dataset(load_nih(write_nih(tmp_path)))
    mass, nodule, effusion = (report.findings.index(f) for f in ("Mass", "Nodule", "Effusion"))
    train, test, none, whole = report.splits
    assert [s.split for s in report.splits] == ["train", "test", "none", "all"]
    assert [(s.films, s.patients, s.negative) for s in report.splits] == [(2, 1, 1), (2, 2, 0), (1, 1, 0), (5, 4, 1)]
    assert (train.positive[mass], train.positive[nodule], test.positive[mass], whole.positive[mass]) == (1, 1, 1, 2)
    assert (test.boxes[mass], test.boxes[effusion], sum(whole.boxes), sum(train.boxes)) == (2, 1, 3, 0)
    assert set(none.unknown) == {1}
    assert set(train.unknown) == {0}
    assert report.read == 0


def test_median_area_is_a_share_of_the_frame(tmp_path: Path) -> None:
    write_nih(tmp_path)
    add_line(tmp_path / "BBox_List_2017.csv", "b_0.png,Mass,0,0,512,256")
    add_line(tmp_path / "BBox_List_2017.csv", "a_0.png,Nodule,0,0,512,512")
    report = check_dataset(load_nih(tmp_path))
    area = dict(zip(report.findings, report.median_area, strict=True))
    assert area["Nodule"] == 0.25
    # Areas 64, 9 and 131072 pixels: the middle one.
    assert area["Mass"] == 64 / 1024**2
    assert math.isnan(area["Hernia"])


def test_area_in_the_films_own_pixels_is_known_only_once_read(tmp_path: Path) -> None:
    index = load_folder(write_folder(tmp_path))
    (tmp_path / "images" / "b_0.png").write_bytes(png((11, 4)))
    effusion = index.findings.index("Effusion")
    assert math.isnan(check_dataset(index).median_area[effusion])
    assert check_dataset(index, read=True).median_area[effusion] == pytest.approx(4.0 * 5.5 / 44)


def test_boxes_that_the_label_does_not_name(tmp_path: Path) -> None:
    """As 188 of NIH's boxes under the labels of 2017."""
    films = (*FILMS, Film("e_0.png", "9", "test", ("Mass",), boxes=(("Nodule", 1, 1, 2, 2), ("Mass", 1, 1, 2, 2))))
    assert check_dataset(load_nih(write_nih(tmp_path, films))).boxes_unlabelled == 1


def test_films_that_cannot_be_read_are_listed_and_the_rest_go_on(tmp_path: Path) -> None:
    index = load_nih(write_nih(tmp_path))
    (tmp_path / "images" / "a_1.png").write_bytes(b"")
    (tmp_path / "images" / "b_0.png").write_text("not a picture")
    (tmp_path / "images" / "c_0.png").write_bytes(png((64, 64))[:-300])
    (tmp_path / "images" / "d_0.png").unlink()
    seen: list[tuple[int, int]] = []
    report = check_dataset(index, read=True, progress=lambda done, total: seen.append((done, total)), workers=2)
    assert [d.item for d in report.unreadable] == ["a_1.png", "b_0.png", "c_0.png", "d_0.png"]
    assert all(d.reason and "\n" not in d.reason for d in report.unreadable)
    assert seen == [(i, 5) for i in range(1, 6)]
    assert (report.read, report.suspect) == (5, ())


def test_films_that_do_not_fit_their_boxes(tmp_path: Path) -> None:
    """A film that is not square under NIH's square frame, and a box beyond a film's own pixels."""
    write_nih(tmp_path / "nih")
    (tmp_path / "nih" / "images" / "a_0.png").write_bytes(png((20, 16)))
    report = check_dataset(load_nih(tmp_path / "nih"), read=True)
    assert [d.item for d in report.suspect] == ["a_0.png"]
    assert "20 x 16" in report.suspect[0].reason
    write_folder(tmp_path / "own")
    add_line(tmp_path / "own" / "boxes.csv", "b_0.png,Effusion,10,0,6.5,16")
    (tmp_path / "own" / "images" / "a_0.png").write_bytes(png((20, 16)))
    report = check_dataset(load_folder(tmp_path / "own"), read=True)
    assert report.suspect == (Dropped("b_0.png", "its Effusion box (10, 0, 16.5, 16) ends outside its 16 x 16 pixels"),)


def test_lines(tmp_path: Path) -> None:
    write_nih(tmp_path)
    (tmp_path / "images" / "a_0.png").write_bytes(b"")
    for i in range(3):
        (tmp_path / "images" / f"stray{i}.png").write_bytes(b"")
    index = load_nih(tmp_path)
    lines = check_dataset(index, read=True).lines(limit=2)
    text = "\n".join(lines)
    assert lines[0] == f"nih: {tmp_path}"
    assert f"index sha256 {index.hash}" in lines
    assert all(f"{name} sha256 {value}" in lines for name, value in index.hashes.items())
    assert "split      films  patients  no finding   boxes\ntrain          2         1           1       0" in text
    assert "left out: 3\n  images/stray0.png: no row in Data_Entry_2017_v2020.csv\n" in text
    assert "  ... and 1 more\nfilms read: 5\ncannot be read: 1\n  a_0.png: " in text
    mass = next(line for line in lines if line.startswith("Mass")).split()
    assert mass == ["Mass", "1", "1", "0", "2", "1", "2", "0.0000"]
    hernia = next(line for line in lines if line.startswith("Hernia")).split()
    assert hernia == ["Hernia", "0", "0", "0", "0", "1", "0", "-"]
    assert "films read: none (not asked for)" in check_dataset(index).lines()


def test_lines_take_any_file_name(tmp_path: Path) -> None:
    report = check_dataset(load_nih(write_nih(tmp_path)))
    odd = replace(report, dropped=(Dropped("images/\udcff\n.png", "no row"),))
    assert "  images/\\udcff\\n.png: no row" in odd.lines()
    assert all(line.isprintable() for line in odd.lines())


def test_interrupted_reading_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    films = [Film(f"{i}.png", str(i)) for i in range(200)]
    index = load_nih(write_nih(tmp_path, films))
    calls: list[str] = []
    lock = threading.Lock()
    real = check._probe

    def counted(path: Path) -> tuple[int, int] | str:
        with lock:
            calls.append(path.name)
        threading.Event().wait(0.002)
        return real(path)

    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(check, "_probe", counted)
    with pytest.raises(KeyboardInterrupt):
        check_dataset(index, read=True, progress=interrupt, workers=1)
    assert len(calls) < 100


def test_an_index_without_films_or_findings_of_its_own(tmp_path: Path) -> None:
    write_lines(write_folder(tmp_path) / "labels.csv", ["image,X", "a_0.png,"])
    (tmp_path / "boxes.csv").unlink()
    report = check_dataset(load_folder(tmp_path))
    assert [(s.split, s.films, s.negative, s.unknown) for s in report.splits] == [
        ("none", 1, 0, (1,)),
        ("all", 1, 0, (1,)),
    ]
    assert "X".ljust(9) + "       0       0         1       0            -" in report.lines()
