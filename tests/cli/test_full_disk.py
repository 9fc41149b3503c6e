"""A full disk, for each thing that is written: one line, nothing lost, and it succeeds once there is room.

A limit on the size of a file stands in for the disk: a write beyond it fails as on a full one, with EFBIG for ENOSPC.
"""

from __future__ import annotations

import filecmp
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from commands import TINY, cxrlocus, finish, make_films, start
from cxrlocus.protocols.result import read_results

pytest_plugins = ("trained",)

resource = pytest.importorskip("resource", reason="needs a system with limits on file sizes")

Room = Callable[[int], AbstractContextManager[None]]


@pytest.fixture
def room() -> Room:
    """``with room(bytes)``: no file can grow beyond that."""

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    return limited


def files(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def same_predictions(one: Path, other: Path) -> bool:
    names = ["maps.npy", "frames.npy", "sizes.npy", "table.csv"]
    return filecmp.cmpfiles(one, other, names, shallow=False)[0] == names


@pytest.mark.parametrize("size", [0, 2_000, 20_000])
def test_cache(size: int, films: Path, run: Path, pred: Path, tmp_path: Path, room: Room) -> None:
    words = ("predict", run, "--data", films, "--out", tmp_path / "p", "--cache", tmp_path / "cache")
    with room(size):
        line = cxrlocus(*words).complaint()
    assert str(tmp_path / "cache") in line
    assert "Free space there" in line
    cxrlocus(*words).succeeded()
    assert same_predictions(tmp_path / "p", pred)


@pytest.mark.parametrize("size", [0, 100, 1_500, 3_000])
def test_predictions(size: int, films: Path, run: Path, pred: Path, decoded: Path, tmp_path: Path, room: Room) -> None:
    words = ("predict", run, "--data", films, "--out", tmp_path / "p", "--cache", decoded)
    with room(size):
        line = cxrlocus(*words).complaint()
    assert str(tmp_path / "p") in line
    assert "Make room" in line
    assert "no meta.json" in cxrlocus("evaluate", tmp_path / "p", "--data", films).complaint()
    cxrlocus(*words).succeeded()
    assert same_predictions(tmp_path / "p", pred)
    assert sorted(p.name for p in (tmp_path / "p").iterdir()) == sorted(p.name for p in pred.iterdir())


@pytest.mark.parametrize("size", [0, 100, 1_500, 3_000])
def test_predictions_that_were_there_stay_whole(
    size: int, films: Path, run: Path, own_pred: Path, decoded: Path, room: Room
) -> None:
    before = files(own_pred)
    with room(size):
        cxrlocus("predict", run, "--data", films, "--split", "all", "--out", own_pred, "--cache", decoded).complaint()
    assert before.items() <= files(own_pred).items()
    cxrlocus("evaluate", own_pred, "--data", films, "--resamples", 0, "--no-controls").succeeded()
    cxrlocus("predict", run, "--data", films, "--split", "all", "--out", own_pred, "--cache", decoded).succeeded()
    cxrlocus("evaluate", own_pred, "--data", films, "--split", "all", "--resamples", 0, "--no-controls").succeeded()
    assert not [p.name for p in own_pred.iterdir() if "part" in p.name or "progress" in p.name]


@pytest.mark.parametrize("size", [0, 1_000, 100_000])
def test_training(size: int, films: Path, run: Path, decoded: Path, tmp_path: Path, room: Room) -> None:
    words = ("train", "cam", "--data", films, "--out", tmp_path / "r", "--cache", decoded, *TINY, "--set", "epochs=1")
    with room(size):
        line = cxrlocus(*words).complaint()
    assert str(tmp_path / "r") in line
    assert "Make room" in line or "Make room" in line
    cxrlocus(*words).succeeded()
    weights = Path("base") / "weights.safetensors"
    assert filecmp.cmp(tmp_path / "r" / weights, run / weights, shallow=False)
    assert not [p for p in (tmp_path / "r").rglob("*") if "part" in p.name or "resume" in p.name]


def test_page(films: Path, pred: Path, tmp_path: Path, room: Room) -> None:
    words = ("report", pred, "--data", films, "--out", tmp_path / "page", "--resamples", 0)
    cxrlocus(*words).succeeded()
    before = files(tmp_path / "page")
    with room(20_000):
        line = cxrlocus(*words).complaint()
    assert "report.html" in line
    assert files(tmp_path / "page") == before
    shutil.rmtree(tmp_path / "page")
    with room(0):
        assert str(tmp_path / "page") in cxrlocus(*words).complaint()
    cxrlocus(*words).succeeded()
    assert (tmp_path / "page" / "report.html").stat().st_size > 20_000


def test_rows(films: Path, pred: Path, tmp_path: Path, room: Room) -> None:
    words = ("evaluate", pred, "--data", films, "--resamples", 0, "--no-controls")
    rows, table = tmp_path / "rows.json", tmp_path / "table.md"
    cxrlocus(*words, "--json", rows, "--markdown", table).succeeded()
    before = files(tmp_path)
    with room(500):
        assert "rows.json" in cxrlocus(*words, "--json", rows).complaint()
        assert "table.md" in cxrlocus(*words, "--markdown", table).complaint()
    assert files(tmp_path) == before
    assert read_results(rows)


def test_phantom(tmp_path: Path, room: Room) -> None:
    words = ("data", "phantom", tmp_path / "films", "--images", 4, "--size", 64)
    with room(1_000):
        line = cxrlocus(*words).complaint()
    assert str(tmp_path / "films") in line
    cxrlocus(*words).succeeded()
    whole = make_films(tmp_path / "undisturbed", 4)
    assert files(tmp_path / "films") == files(whole)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_standard_output(films: Path) -> None:
    """Where the results are printed to has no room: told once, by us and not by the interpreter at its end."""
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        outcome = finish(start("data", "check", films, "--no-read", stdout=full))
    assert outcome.only_complaint() == (
        "cxrlocus data: output: No space left on device. Make room on its disk and run the same command again."
    )
