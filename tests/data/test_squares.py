"""The cache's files survive torn lines, cut pixels and slots given away twice."""

import json
from pathlib import Path

import numpy as np
import pytest

from cxrlocus.data.squares import HashMemo, Slot, Square, SquareStore, file_key
from cxrlocus.errors import CxrlocusError

SIZE = 4


def square(name: str, value: int) -> Square:
    return Square(name, np.full((SIZE, SIZE), value, dtype=np.uint8), 8, 6)


def never() -> bool:
    raise AssertionError("nobody else holds the lock")


def write(store: SquareStore, *squares: Square) -> dict[str, Slot]:
    with store.writing(never):
        store.trim()
        return store.append(squares)


def values(store: SquareStore) -> dict[str, int]:
    pixels = np.fromfile(store.pixels, dtype=np.uint8).reshape(-1, SIZE, SIZE)
    assert (pixels == pixels[:, :1, :1]).all()
    return {sha: int(pixels[slot.number, 0, 0]) for sha, slot in store.read().items()}


@pytest.fixture
def store(tmp_path: Path) -> SquareStore:
    store = SquareStore(tmp_path, SIZE, "letterbox")
    write(store, square("a", 1), square("b", 2))
    return store


def test_what_is_written_is_read(store: SquareStore) -> None:
    assert values(store) == {"a": 1, "b": 2}
    assert store.read()["b"] == Slot("b", 1, 8, 6)
    write(store, square("c", 3))
    assert values(store) == {"a": 1, "b": 2, "c": 3}
    assert write(store) == {}


def test_an_empty_store_reads_as_empty(tmp_path: Path) -> None:
    assert SquareStore(tmp_path / "none", SIZE, "stretch").read() == {}


@pytest.mark.parametrize("torn", [b'["c",2,8', b"\0" * 40, b'["c"', b"["])
def test_a_torn_journal_line_is_passed_over_and_cut(store: SquareStore, torn: bytes) -> None:
    with store.journal.open("ab") as file:
        file.write(torn)
    assert values(store) == {"a": 1, "b": 2}
    write(store, square("c", 3))
    assert values(store) == {"a": 1, "b": 2, "c": 3}
    assert [json.loads(line)[0] for line in store.journal.read_text().splitlines()] == ["a", "b", "c"]


def test_lines_that_make_no_sense_cost_nothing_else(store: SquareStore) -> None:
    with store.journal.open("ab") as file:
        file.write(b"\0\0\0\n[1]\nnull\n\xff\n")
    write(store, square("c", 3))
    assert values(store) == {"a": 1, "b": 2, "c": 3}


def test_pixels_without_a_journal_line_are_overwritten(store: SquareStore) -> None:
    with store.pixels.open("ab") as file:
        file.write(b"\x09" * 23)
    write(store, square("c", 3))
    assert values(store) == {"a": 1, "b": 2, "c": 3}
    assert store.pixels.stat().st_size == 3 * SIZE**2


def test_a_cut_pixel_file_never_gives_one_film_anothers_pixels(store: SquareStore) -> None:
    with store.pixels.open("r+b") as file:
        file.truncate(SIZE**2 + 5)  # b is gone, its line is not
    assert values_of_whole(store) == {"a": 1}
    write(store, square("c", 3))
    assert values(store) == {"a": 1, "c": 3}
    write(store, square("b", 2))
    assert values(store) == {"a": 1, "c": 3, "b": 2}


def values_of_whole(store: SquareStore) -> dict[str, int]:
    data = store.pixels.read_bytes()
    return {sha: data[slot.number * SIZE**2] for sha, slot in store.read().items()}


def test_a_lost_pixel_file_means_an_empty_cache(store: SquareStore) -> None:
    store.pixels.unlink()
    assert store.read() == {}
    write(store, square("b", 7))
    assert values(store) == {"b": 7}


def test_a_folder_that_cannot_be_written_names_itself_and_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CxrlocusError, match=r"cannot be written.*--cache or \$CXRLOCUS_CACHE"):
        write(SquareStore(tmp_path / "file", SIZE, "letterbox"), square("a", 1))


def test_the_memo_remembers_and_passes_over_what_makes_no_sense(tmp_path: Path) -> None:
    memo, path = HashMemo(tmp_path), tmp_path / "film, with \n odd name.png"
    path.write_bytes(b"1")
    key = file_key(path)
    assert key is not None
    memo.append([(key, "f00")])
    with memo.path.open("ab") as file:
        file.write(b'null\n[1,2]\n["x",{},1,"sha"]\n["torn')
    other = (str(tmp_path / "b"), 5, 6)
    memo.append([(other, "ba5")])
    assert memo.read() == {key: "f00", other: "ba5"}
    path.write_bytes(b"22")
    assert file_key(path) not in memo.read()
    assert file_key(tmp_path / "none") is None


def test_a_long_memo_keeps_its_lines(tmp_path: Path) -> None:
    memo = HashMemo(tmp_path)
    entries = [((f"/films/{i:09d}.png", i, i), f"{i:064x}") for i in range(2000)]
    memo.append(entries[:1000])
    memo.append(entries[1000:])
    assert memo.path.stat().st_size > 2 * 65536
    assert memo.read() == dict(entries)
