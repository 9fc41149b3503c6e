"""The predictions folder: what is written comes back, what was stopped goes on, what is damaged is named."""

from __future__ import annotations

import csv
import errno
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrlocus.errors import PredictionsError
from cxrlocus.prediction.store import SCHEMA, Predictions, PredictionsWriter, read_predictions, write_predictions
from cxrlocus.types import MAP_KINDS
from stand_ins import made_up


def equal(one: Predictions, other: Predictions) -> bool:
    arrays = ("prob", "maps", "frames", "sizes")
    return (one.images, one.findings, one.kind) == (other.images, other.findings, other.kind) and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays
    )


@pytest.mark.parametrize("kind", MAP_KINDS)
def test_predictions_come_back(tmp_path: Path, kind: str) -> None:
    given_predictions = made_up(kind=kind, hashes={"a": "b"})  # type: ignore[arg-type]  # a Literal
    write_predictions(tmp_path / "deep" / "pred", given_predictions)
    back = read_predictions(tmp_path / "deep" / "pred")
    assert equal(back, given_predictions)
    assert given_predictions.meta.items() <= back.meta.items()
    assert back.meta["schema"] == SCHEMA
    assert sorted(p.name for p in (tmp_path / "deep" / "pred").iterdir()) == [
        "frames.npy", "maps.npy", "meta.json", "sizes.npy", "table.csv",
    ]  # fmt: skip


@settings(max_examples=15)
@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 99))
def test_predictions_of_any_number_come_back(
    tmp_path_factory: pytest.TempPathFactory, n: int, c: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("pred")
    one = made_up(n, tuple(f'finding {i}, "so-called"' for i in range(c)), seed)
    write_predictions(folder, one)
    assert equal(read_predictions(folder), one)


def test_maps_stay_on_disk_until_they_are_read(tmp_path: Path) -> None:
    write_predictions(tmp_path, made_up())
    assert isinstance(read_predictions(tmp_path).maps, np.memmap)


def test_evidence_beyond_float16_is_clipped_and_nan_stays(tmp_path: Path) -> None:
    one = made_up()
    maps = one.maps.astype(np.float32)
    maps[0, 0, 0] = [1e6, -1e6, np.inf, -np.inf, 1.5]
    maps[1, 1] = np.nan
    write_predictions(tmp_path, replace(one, maps=maps))
    back = read_predictions(tmp_path).maps
    assert back.dtype == np.float16
    assert back[0, 0, 0].tolist() == [65504.0, -65504.0, 65504.0, -65504.0, 1.5]
    assert np.isnan(back[1, 1]).all()


def test_a_second_writing_replaces_the_first(tmp_path: Path) -> None:
    write_predictions(tmp_path, made_up(5, seed=1))
    write_predictions(tmp_path, made_up(2, seed=2))
    assert equal(read_predictions(tmp_path), made_up(2, seed=2))


def writer_of(folder: Path, p: Predictions) -> PredictionsWriter:
    return PredictionsWriter(folder, meta=p.meta, images=p.images, findings=p.findings, kind=p.kind)


def append(writer: PredictionsWriter, p: Predictions, part: slice) -> None:
    writer.append(p.prob[part], p.maps[part], p.frames[part], p.sizes[part])


def stopped(folder: Path, p: Predictions, after: int) -> None:
    """Films up to ``after`` safe, one more written but not safe, then killed."""
    writer = writer_of(folder, p)
    append(writer, p, slice(0, after))
    writer.flush()
    append(writer, p, slice(after, after + 1))


@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_stopped_writing_goes_on(tmp_path: Path, after: int) -> None:
    p = made_up(6)
    stopped(tmp_path, p, after)
    with pytest.raises(PredictionsError, match=r"no meta\.json"):
        read_predictions(tmp_path)
    writer = writer_of(tmp_path, p)
    assert writer.done == after
    append(writer, p, slice(after, None))
    writer.finish()
    assert equal(read_predictions(tmp_path), p)
    assert not list(tmp_path.glob("progress*"))


@pytest.mark.parametrize("change", [{"meta": {"method": "other"}}, {"kind": "mask"}, {"images": tuple("abcdef")}])
def test_a_stopped_writing_of_something_else_starts_anew(tmp_path: Path, change: dict[str, object]) -> None:
    p = made_up(6)
    stopped(tmp_path, p, 3)
    assert writer_of(tmp_path, replace(p, **change)).done == 0  # type: ignore[arg-type]  # any field


def test_a_stopped_writing_of_other_films_under_the_same_names_starts_anew(tmp_path: Path) -> None:
    p = made_up(6)
    stopped(tmp_path, p, 3)
    other = PredictionsWriter(
        tmp_path, meta=p.meta, images=p.images, findings=p.findings, kind=p.kind, source="replaced"
    )
    assert other.done == 0


def test_two_writers_do_not_share_a_folder(tmp_path: Path) -> None:
    p = made_up(6)
    first = writer_of(tmp_path, p)
    append(first, p, slice(0, 3))
    with pytest.raises(PredictionsError, match="another process predicts into it"):
        writer_of(tmp_path, p)
    append(first, p, slice(3, None))
    first.finish()
    assert equal(read_predictions(tmp_path), p)
    assert sorted(f.name for f in tmp_path.iterdir()) == [
        "frames.npy", "maps.npy", "meta.json", "sizes.npy", "table.csv"
    ]  # fmt: skip
    writer_of(tmp_path, p).close()


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / ".hidden").touch()
    write_predictions(tmp_path, made_up())
    (tmp_path / "boxes.csv").write_text("of these predictions", encoding="utf-8")
    write_predictions(tmp_path, made_up())
    assert not (tmp_path / "boxes.csv").exists()
    data = tmp_path / "data"
    data.mkdir()
    (data / "lock").touch()
    (data / "boxes.csv").write_text("of radiologists", encoding="utf-8")
    with pytest.raises(PredictionsError, match=r"must be empty or hold predictions; it has 'boxes\.csv'"):
        write_predictions(data, made_up())
    assert sorted(f.name for f in data.iterdir()) == ["boxes.csv", "lock"]


def test_a_writer_that_cannot_keep_its_films_lets_others_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    p = made_up(6)
    writer = writer_of(tmp_path, p)
    append(writer, p, slice(0, 3))
    with monkeypatch.context() as patch:
        patch.setattr("numpy.savez", full_disk)
        with pytest.raises(OSError, match="No space"):
            writer.close()
    writer_of(tmp_path, p).close()


def full_disk(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


@pytest.mark.parametrize("file", ["progress.json", "progress.npz", "maps.part.npy"])
@pytest.mark.parametrize("damage", ["cut", "empty", "text", "absent"])
def test_damaged_progress_is_no_progress(tmp_path: Path, file: str, damage: str) -> None:
    p = made_up(6)
    stopped(tmp_path, p, 3)
    path = tmp_path / file
    content = {"cut": path.read_bytes()[:-9], "empty": b"", "text": b"nonsense"}
    path.unlink() if damage == "absent" else path.write_bytes(content[damage])
    writer = writer_of(tmp_path, p)
    assert writer.done == 0
    append(writer, p, slice(None))
    writer.finish()
    assert equal(read_predictions(tmp_path), p)


def test_finishing_too_early_is_refused(tmp_path: Path) -> None:
    p = made_up(6)
    stopped(tmp_path, p, 3)
    writer = writer_of(tmp_path, p)
    with pytest.raises(PredictionsError, match="3 of 6 films predicted"):
        writer.finish()


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="needs a system that can reserve room on a disk")
def test_a_full_disk_is_an_error_before_a_map_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_fd: int, _offset: int, _length: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        write_predictions(tmp_path, made_up())
    with pytest.raises(PredictionsError):
        read_predictions(tmp_path)


@pytest.mark.parametrize("bad", [np.nan, 1.5, -0.1])
def test_a_probability_that_is_none_is_refused_with_its_film(tmp_path: Path, bad: float) -> None:
    p = made_up(4)
    prob = p.prob.copy()
    prob[2, 1] = bad
    with pytest.raises(PredictionsError, match=r"2\.png: prob must be in \[0, 1\]"):
        writer_of(tmp_path, p).append(prob, p.maps, p.frames, p.sizes)
    with pytest.raises(ValueError, match="prob must be in"):
        replace(p, prob=prob)


def edit_meta(folder: Path, **fields: object) -> None:
    raw = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
    (folder / "meta.json").write_text(json.dumps({**raw, **fields}), encoding="utf-8")


def edit_rows(folder: Path, edit: Callable[[list[list[str]]], list[list[str]]]) -> None:
    path = folder / "table.csv"
    with path.open(newline="", encoding="utf-8") as file:
        head, *rows = csv.reader(file)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([head, *edit(rows)])


def cut(folder: Path, name: str, by: int = 10) -> None:
    (folder / name).write_bytes((folder / name).read_bytes()[:-by])


DAMAGES: dict[str, Callable[[Path], object]] = {
    "maps cut": lambda f: cut(f, "maps.npy"),
    "maps empty": lambda f: (f / "maps.npy").write_bytes(b""),
    "maps text": lambda f: (f / "maps.npy").write_text("no array", encoding="utf-8"),
    "maps absent": lambda f: (f / "maps.npy").unlink(),
    "maps of fewer films": lambda f: np.save(f / "maps.npy", np.zeros((2, 2, 4, 5), np.float16)),
    "maps flat": lambda f: np.save(f / "maps.npy", np.zeros((3, 2), np.float16)),
    "maps pickled": lambda f: np.save(f / "maps.npy", np.array([None, {}], dtype=object), allow_pickle=True),
    "frames absent": lambda f: (f / "frames.npy").unlink(),
    "frames cut": lambda f: cut(f, "frames.npy"),
    "sizes of another shape": lambda f: np.save(f / "sizes.npy", np.zeros((3, 3), np.int64)),
    "table absent": lambda f: (f / "table.csv").unlink(),
    "table cut": lambda f: cut(f, "table.csv", 30),
    "table sorted by finding": lambda f: edit_rows(f, lambda rows: sorted(rows, key=lambda r: r[1])),
    "table reversed": lambda f: edit_rows(f, lambda rows: rows[::-1]),
    "table with a film twice": lambda f: edit_rows(f, lambda rows: [*rows[:2], *rows[:2], *rows[4:]]),
    "table with short rows": lambda f: edit_rows(f, lambda rows: [r[:2] for r in rows]),
    "table with a strange finding": lambda f: edit_rows(f, lambda rows: [[rows[0][0], "Gout", "0.5"], *rows[1:]]),
    "table without numbers": lambda f: edit_rows(f, lambda rows: [[r[0], r[1], "high"] for r in rows]),
    "table with NaN": lambda f: edit_rows(f, lambda rows: [[r[0], r[1], "nan"] for r in rows]),
    "table with 7": lambda f: edit_rows(f, lambda rows: [[r[0], r[1], "7"] for r in rows]),
    "table in another code": lambda f: (f / "table.csv").write_bytes(b"image,finding,prob\n\xff,\xfe,0.5\n"),
    "meta a list": lambda f: (f / "meta.json").write_text("[]", encoding="utf-8"),
    "meta cut": lambda f: cut(f, "meta.json"),
    "schema of tomorrow": lambda f: edit_meta(f, schema=SCHEMA + 1),
    "schema absent": lambda f: edit_meta(f, schema=None),
    "kind unknown": lambda f: edit_meta(f, kind="guess"),
    "findings a number": lambda f: edit_meta(f, findings=3),
    "findings repeated": lambda f: edit_meta(f, findings=["Mass", "Mass"]),
    "findings none": lambda f: edit_meta(f, findings=[]),
    "findings swapped": lambda f: edit_meta(f, findings=["Nodule", "Mass"]),
}


@pytest.mark.parametrize("damage", sorted(DAMAGES))
def test_a_damaged_folder_is_one_clear_line(tmp_path: Path, damage: str) -> None:
    write_predictions(tmp_path, made_up(3))
    DAMAGES[damage](tmp_path)
    with pytest.raises(PredictionsError) as caught:
        read_predictions(tmp_path)
    assert str(caught.value).startswith(f"{tmp_path}: ")


def test_a_folder_that_is_none_is_refused(tmp_path: Path) -> None:
    for folder, line in ((tmp_path, r"no meta\.json"), (tmp_path / "absent", "no such file or folder")):
        with pytest.raises(PredictionsError, match=line):
            read_predictions(folder)


@pytest.mark.parametrize("name", ["prob", "maps", "frames", "sizes"])
def test_shapes_that_disagree_are_refused(name: str) -> None:
    p = made_up(3)
    with pytest.raises(ValueError, match="must be"):
        replace(p, **{name: getattr(p, name)[:2]})
