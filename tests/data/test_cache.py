"""Films are decoded once, by any number of processes, through kills and full disks."""

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from cxrlocus.data import cache as module
from cxrlocus.data.cache import Films, default_cache_folder, open_films
from cxrlocus.data.images import read_film, to_square
from cxrlocus.data.records import Index, Record
from cxrlocus.errors import CxrlocusError, DataError
from cxrlocus.types import Findings, Frame

SIZE = 16


def make_films(folder: Path, count: int, side: int = 24) -> list[Path]:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(0)
    paths = [folder / f"{i:04d}.png" for i in range(count)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (side, side + 8), dtype=np.uint8)).save(path)
    return paths


def check(films: Films, paths: list[Path]) -> None:
    """Every film's square is the one that its own file gives."""
    assert films.readable.all()
    got = films.pixels(np.arange(len(paths)))
    expected = np.stack([to_square(read_film(path), films.size, films.fit)[0] for path in paths])
    assert np.array_equal(got, expected)


def start(code: str, *arguments: object) -> subprocess.Popen[str]:
    head = "import sys, time\nfrom pathlib import Path\nfrom cxrlocus.data import cache\n"
    head += "from cxrlocus.data.cache import open_films\nfrom cxrlocus.errors import CxrlocusError\n"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", head + textwrap.dedent(code), *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip


def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(data: bytes, path: Path) -> None:
        raise AssertionError(f"{path} is decoded again")

    monkeypatch.setattr(module, "decode_film", fail)


def test_squares_sizes_and_frames(tmp_path: Path) -> None:
    paths = make_films(tmp_path / "films", 5)
    films = open_films(paths, size=SIZE, folder=tmp_path / "cache")
    check(films, paths)
    assert len(films) == 5
    assert films.sizes.tolist() == [[32, 24]] * 5
    assert np.array_equal(films.frames[0], to_square(read_film(paths[0]), SIZE)[1].matrix)
    assert films.pixels(np.array([3, 3, 0])).shape == (3, SIZE, SIZE)
    assert type(films.pixels(np.array([0]))) is np.ndarray


def test_an_index_gives_frames_and_sizes_of_the_original(tmp_path: Path) -> None:
    paths = make_films(tmp_path / "films", 2)
    records = [Record(path.name, path, path.name, size=(1024, 768)) for path in paths]
    films = open_films(
        Index("x", tmp_path, Findings(("Mass",)), tuple(records)), size=SIZE, fit="stretch", folder=tmp_path / "cache"
    )
    assert films.sizes.tolist() == [[1024, 768]] * 2
    assert Frame(films.frames[1]).to_pixels(np.array([[1.0, 0.5]])).tolist() == [[1024.0, 384.0]]


def test_a_second_start_decodes_and_reads_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = make_films(tmp_path / "films", 5)
    open_films(paths, size=SIZE, folder=tmp_path / "cache")
    with monkeypatch.context() as patched:
        patched.setattr(module, "read_bytes", lambda path: pytest.fail(f"{path} is read again"))
        films = open_films(paths, size=SIZE, folder=tmp_path / "cache")
    assert films.readable.all()
    check(films, paths)


def test_films_are_known_by_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = make_films(tmp_path / "films", 3)
    every = np.arange(3)
    before = open_films(paths, size=SIZE, folder=tmp_path / "cache").hash(every)
    moved = [path.rename(path.with_name("moved_" + path.name)) for path in paths]
    with monkeypatch.context() as patched:
        no_decoding(patched)
        films = open_films(moved, size=SIZE, folder=tmp_path / "cache")
    check(films, moved)
    assert films.hash(every) == before
    # A file overwritten by another film is another film, whatever slot a new cache gives it.
    moved[0].write_bytes(make_films(tmp_path / "others", 4)[3].read_bytes())
    for folder in ("cache", "anew"):
        films = open_films(moved, size=SIZE, folder=tmp_path / folder)
        check(films, moved)
        assert films.hash(every) != before


def test_equal_files_share_a_square(tmp_path: Path) -> None:
    path = make_films(tmp_path / "films", 1)[0]
    copies = [path.with_name(f"copy{i}.png") for i in range(9)]
    for copy in copies:
        copy.write_bytes(path.read_bytes())
    films = open_films([path, *copies], size=SIZE, folder=tmp_path / "cache", workers=4)
    check(films, [path, *copies])
    assert films.store.stat().st_size == SIZE**2


def test_sizes_and_fits_do_not_mix(tmp_path: Path) -> None:
    paths = make_films(tmp_path / "films", 3)
    for size, fit in ((8, "letterbox"), (16, "letterbox"), (16, "stretch")):
        films = open_films(paths, size=size, fit=fit, folder=tmp_path / "cache")
        assert (films.size, films.fit) == (size, fit)
        check(films, paths)


def test_unreadable_films_are_listed_and_the_rest_go_on(tmp_path: Path) -> None:
    good = make_films(tmp_path / "films", 3)
    (tmp_path / "text.png").write_text("not a film")
    (tmp_path / "short.png").write_bytes(good[0].read_bytes()[:100])
    paths = [tmp_path / "none.png", good[0], tmp_path / "text.png", good[1], tmp_path / "short.png", good[2]]
    for _ in range(2):
        films = open_films(paths, size=SIZE, folder=tmp_path / "cache")
        assert films.readable.tolist() == [False, True, False, True, False, True]
        assert [drop.item for drop in films.unreadable] == [str(paths[i]) for i in (0, 2, 4)]
        assert [drop.reason.split(" (")[0] for drop in films.unreadable] == [
            "no such file", "not a PNG, JPEG or DICOM file, whatever its name", "damaged or truncated PNG",
        ]  # fmt: skip
        assert np.isnan(films.frames[0]).all()
        assert np.array_equal(films.pixels(np.array([5]))[0], to_square(read_film(good[2]), SIZE)[0])
        with pytest.raises(DataError, match=r"short\.png: damaged"):
            films.pixels(np.array([1, 4]))


def test_no_film_at_all(tmp_path: Path) -> None:
    assert len(open_films([], size=SIZE, folder=tmp_path / "cache")) == 0
    films = open_films([tmp_path / "none.png"], size=SIZE, folder=tmp_path / "cache")
    assert films.pixels(np.array([], dtype=np.int64)).shape == (0, SIZE, SIZE)


def test_progress_counts_to_the_end(tmp_path: Path) -> None:
    paths, seen = make_films(tmp_path / "films", 7), []
    open_films(paths[:3], size=SIZE, folder=tmp_path / "cache")
    open_films(paths, size=SIZE, folder=tmp_path / "cache", progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 7), (5, 7), (6, 7), (7, 7)]


def test_films_travel_to_another_process_without_their_pixels(tmp_path: Path) -> None:
    paths = make_films(tmp_path / "films", 40)
    films = open_films(paths, size=64, folder=tmp_path / "cache")
    films.pixels(np.array([0]))
    data = pickle.dumps(films)
    assert len(data) < 40 * 64**2 / 10
    check(pickle.loads(data), paths)


@pytest.mark.parametrize("arguments", [{"size": 0}, {"size": 8, "fit": "crop"}])
def test_bad_arguments(tmp_path: Path, arguments: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="must be"):
        open_films([], folder=tmp_path, **arguments)


def test_a_killed_build_is_taken_up_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = make_films(tmp_path / "films", 40)
    code = """
        cache._CHUNK_BYTES = 5 * 16**2
        plain = cache.to_square
        cache.to_square = lambda *a: (time.sleep(0.02), plain(*a))[1]
        open_films(sorted(Path(sys.argv[1]).iterdir()), size=16, folder=Path(sys.argv[2]), workers=1)
    """
    child = start(code, tmp_path / "films", tmp_path / "cache")
    journal = tmp_path / "cache" / f"v1-{SIZE}-letterbox" / "slots.jsonl"
    deadline = time.monotonic() + 30
    while not (journal.exists() and journal.read_bytes().count(b"\n") >= 10):
        assert time.monotonic() < deadline
        assert child.poll() is None, child.communicate()
        time.sleep(0.005)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    kept = journal.read_bytes().count(b"\n")
    assert 10 <= kept < 40
    decoded = []
    monkeypatch.setattr(module, "to_square", lambda *a: (decoded.append(1), to_square(*a))[1])
    check(open_films(paths, size=SIZE, folder=tmp_path / "cache"), paths)
    assert len(decoded) == 40 - kept


def test_two_processes_build_one_cache_and_decode_each_film_once(tmp_path: Path) -> None:
    paths = make_films(tmp_path / "films", 60)
    code = """
        cache._CHUNK_BYTES = 5 * 16**2
        count = []
        plain = cache.to_square
        cache.to_square = lambda *a: (time.sleep(0.005), count.append(1), plain(*a))[2]
        while not Path(sys.argv[3]).exists():
            time.sleep(0.001)
        films = open_films(sorted(Path(sys.argv[1]).iterdir()), size=16, folder=Path(sys.argv[2]))
        print(int(films.readable.sum()), len(count))
    """
    children = [start(code, tmp_path / "films", tmp_path / "cache", tmp_path / "go") for _ in range(2)]
    time.sleep(1.0)
    (tmp_path / "go").touch()
    said = [child.communicate(timeout=60) for child in children]
    assert all(child.returncode == 0 for child in children), said
    numbers = [[int(word) for word in out.split()] for out, _ in said]
    assert [readable for readable, _ in numbers] == [60, 60]
    assert sum(decoded for _, decoded in numbers) == 60
    check(open_films(paths, size=SIZE, folder=tmp_path / "cache"), paths)


def test_who_waits_sees_progress_and_leaves_when_all_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths, seen = make_films(tmp_path / "films", 3), []
    folder = tmp_path / "cache"
    monkeypatch.setattr("cxrlocus.data.squares._POLL_SECONDS", 0.05)
    open_films(paths[:2], size=SIZE, folder=folder)
    lock = FileLock(folder / f"v1-{SIZE}-letterbox" / "lock")
    with lock:
        thread = threading.Thread(
            target=open_films, args=(paths,),
            kwargs={"size": SIZE, "folder": folder, "progress": lambda done, total: seen.append((done, total))},
        )  # fmt: skip
        thread.start()
        time.sleep(0.3)
        assert thread.is_alive()
        assert set(seen) == {(2, 3)}
    thread.join(10)
    assert not thread.is_alive()
    assert seen[-1] == (3, 3)


def test_a_full_disk_names_folder_and_remedy_and_loses_nothing(tmp_path: Path) -> None:
    paths = make_films(tmp_path / "films", 40)
    code = """
        import resource
        cache._CHUNK_BYTES = 5 * 16**2
        resource.setrlimit(resource.RLIMIT_FSIZE, (12 * 16**2, 12 * 16**2))
        try:
            open_films(sorted(Path(sys.argv[1]).iterdir()), size=16, folder=Path(sys.argv[2]))
        except CxrlocusError as error:
            print(error)
    """
    out, err = start(code, tmp_path / "films", tmp_path / "cache").communicate(timeout=60)
    assert err == ""
    assert out.startswith(str(tmp_path / "cache"))
    assert "File too large" in out
    assert "--cache or $CXRLOCUS_CACHE" in out
    assert out.count("\n") == 1
    journal = tmp_path / "cache" / f"v1-{SIZE}-letterbox" / "slots.jsonl"
    assert journal.read_bytes().count(b"\n") == 10
    assert journal.with_name("pixels.u8").stat().st_size == 10 * SIZE**2
    check(open_films(paths, size=SIZE, folder=tmp_path / "cache"), paths)


def test_a_cache_that_has_all_is_read_where_nothing_can_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = make_films(tmp_path / "films", 3)
    open_films(paths, size=SIZE, folder=tmp_path / "cache")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("cxrlocus.data.squares._write", refuse)
    monkeypatch.setattr("cxrlocus.data.squares.FileLock.acquire", refuse)
    check(open_films(paths, size=SIZE, folder=tmp_path / "cache"), paths)
    films = open_films([*paths, tmp_path / "none.png"], size=SIZE, folder=tmp_path / "cache")
    assert films.readable.tolist() == [True, True, True, False]
    with pytest.raises(CxrlocusError, match="Read-only file system"):
        open_films(paths, size=SIZE + 1, folder=tmp_path / "cache")


def test_an_interrupt_leaves_a_cache_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = make_films(tmp_path / "films", 20)
    monkeypatch.setattr(module, "_CHUNK_BYTES", 5 * SIZE**2)

    def interrupt(done: int, total: int) -> None:
        if done == 13:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_films(paths, size=SIZE, folder=tmp_path / "cache", progress=interrupt)
    check(open_films(paths, size=SIZE, folder=tmp_path / "cache"), paths)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CXRLOCUS_CACHE", str(tmp_path))
    assert default_cache_folder() == tmp_path
    monkeypatch.delenv("CXRLOCUS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache_folder() == tmp_path / "cxrlocus"
    for value in ("", "relative/folder"):
        monkeypatch.setenv("XDG_CACHE_HOME", value)
        assert default_cache_folder() == Path.home() / ".cache" / "cxrlocus"


def test_a_waiting_process_learns_hashes_that_another_one_found(tmp_path: Path) -> None:
    paths = make_films(tmp_path / "films", 4)
    store, memo = module.SquareStore(tmp_path / "cache", SIZE, "letterbox"), module.HashMemo(tmp_path / "cache")
    waiting = module._Build(store, memo, paths, module._silent)
    assert len(waiting.missing()) == 4
    open_films(paths, size=SIZE, folder=tmp_path / "cache")
    assert waiting._waiting()
    assert waiting.missing() == []
