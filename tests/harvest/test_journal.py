"""The journal: whole or not at all, exact, and only for the harvest that began it."""

from __future__ import annotations

import json
import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrlocus.errors import ConfigError, CxrlocusError
from cxrlocus.harvest.journal import Box, Film, Journal, Shard, open_journal, writing_whole

number = st.floats(allow_nan=False, allow_infinity=False)
SHARD = Shard(
    (Film("a.png", 1024, 1000), Film("b,ä\n.png", 3, 4)),
    (Box("a.png", "Mass", 0.1, 2.0, 1e3 / 3, 4.5, -1e-9, 1, 2, 0.123456791),),
    {"Mass": 2},
    {"Mass": 1},
    (("c.png", "the file is empty"),),
    (("b.png, Mass", "not finite"),),
    1.25,
)
KEY = {"schema": 1, "options": {"batch": 3, "rule": {"levels": (0.5, 0.6)}}}


def test_a_shard_comes_back_as_it_was(tmp_path: Path) -> None:
    journal = Journal(tmp_path, 1)
    journal.write(0, SHARD)
    assert journal.read(0) == SHARD
    assert list(journal.films()) == list(range(journal.shards))


@given(st.lists(st.tuples(number, number, number, number, number, number), max_size=5))
def test_every_float_comes_back_bit_for_bit(rows: list[tuple[float, ...]]) -> None:
    boxes = tuple(Box("a", "Mass", *row[:5], 1, 1, row[5]) for row in rows)  # type: ignore[arg-type]  # five floats
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder), 1)
        journal.write(0, Shard((), boxes, {}, {}, (), (), 0.0))
        back = journal.read(0).boxes
    assert back == boxes
    assert [math.copysign(1, v) for b in back for v in b[2:7]] == [math.copysign(1, v) for b in boxes for v in b[2:7]]


@given(st.data())
def test_a_shard_that_was_cut_or_garbled_counts_as_missing(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        journal = Journal(Path(folder), 3)
        for k in range(3):
            journal.write(k, SHARD)
        path = Path(folder) / "00001.json"
        whole = path.read_bytes()
        cut = data.draw(st.integers(0, len(whole) - 3))
        path.write_bytes(whole[:cut] + data.draw(st.sampled_from([b"", b"\x00" * 9, b"\xff\xfe"])))
        assert 1 not in journal.films()
        with pytest.raises(CxrlocusError, match=r"00001.json: not a whole shard \(.*Run the same command again"):
            journal.read(1)


def test_the_same_key_goes_on_and_tuples_are_lists(tmp_path: Path) -> None:
    with open_journal(tmp_path / "o", KEY, 2) as journal:
        journal.write(1, SHARD)
    with open_journal(tmp_path / "o", json.loads(json.dumps(KEY)), 2) as journal:
        assert 0 not in journal.films()


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"schema": 2, "options": KEY["options"]}, r"schema is 1 there and 2 here"),
        ({"schema": 1, "options": {"batch": 4, "rule": {"levels": [0.5, 0.6]}}}, r"options.batch is 3 there and 4"),
        ({"schema": 1, "options": {"batch": 3, "rule": {}}}, r"levels is \[0.5, 0.6\] there and 'absent' here"),
        ({**KEY, "more": True}, r"more is 'absent' there and True here"),
    ],
)
def test_another_key_is_refused_and_the_difference_named(tmp_path: Path, other: dict[str, object], named: str) -> None:
    with open_journal(tmp_path, KEY, 1):
        pass
    with pytest.raises(ConfigError, match=named), open_journal(tmp_path, other, 1):
        pass


def test_a_damaged_key_is_named(tmp_path: Path) -> None:
    with open_journal(tmp_path, KEY, 1):
        pass
    (tmp_path / "journal" / "key.json").write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"key.json: cannot be read"), open_journal(tmp_path, KEY, 1):
        pass


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "meta.json").write_text("{}", encoding="utf-8")
    match = r"must be empty or hold the same harvest; it has 'meta.json'"
    with pytest.raises(ConfigError, match=match), open_journal(tmp_path, KEY, 1):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["meta.json"]


def test_a_file_in_the_way_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "o").write_text("", encoding="utf-8")
    match = r"o: cannot be written \(Not a directory\)"
    with pytest.raises(CxrlocusError, match=match), open_journal(tmp_path / "o", KEY, 1):
        pass


def test_two_processes_never_harvest_into_one_folder(tmp_path: Path) -> None:
    here, there = open_journal(tmp_path, KEY, 1), open_journal(tmp_path, KEY, 1)
    with here, pytest.raises(CxrlocusError, match="another process is harvesting here"), there:
        pass
    with open_journal(tmp_path, KEY, 1) as free:
        assert free.shards == 1


def test_writing_whole_keeps_the_old_file_when_it_fails(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old", encoding="utf-8")
    with pytest.raises(AttributeError), writing_whole(path) as part:
        part.write_text("half", encoding="utf-8").half()  # type: ignore[attr-defined]  # fails after it wrote
    assert path.read_text(encoding="utf-8") == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
