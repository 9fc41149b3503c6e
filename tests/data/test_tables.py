from __future__ import annotations

import hashlib
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrlocus.data.tables import checked_box, read_list, read_table
from cxrlocus.errors import DataError

anything = st.floats(allow_nan=True, allow_infinity=True)
inside = st.floats(0, 500)
shift = st.integers(0, 400)


def test_reference_box() -> None:
    # A row of NIH's BBox_List_2017.csv and its corners: python3 -c "print(225.084745762712 + 86.7796610169491)"
    xyxy, complaint = checked_box(225.084745762712, 547.019216763771, 86.7796610169491, 79.1864406779661, (1024, 1024))
    assert xyxy == (225.084745762712, 547.019216763771, 311.8644067796611, 626.2056574417371)
    assert complaint == ""


def test_the_whole_film_is_a_box() -> None:
    assert checked_box(0, 0, 1024, 768, (1024, 768)) == ((0, 0, 1024, 768), "")
    assert checked_box(-9, -9, 5000, 5000, (1024, 768))[0] == (0, 0, 1024, 768)


@given(inside, inside, st.floats(1, 100), st.floats(1, 100), shift, shift)
def test_a_shift_of_the_box_shifts_its_corners(x: float, y: float, w: float, h: float, dx: int, dy: int) -> None:
    first, second = checked_box(x, y, w, h, (1024, 1024))[0], checked_box(x + dx, y + dy, w, h, (1024, 1024))[0]
    assert first
    assert second == pytest.approx((first[0] + dx, first[1] + dy, first[2] + dx, first[3] + dy))


@given(anything, anything, anything, anything, st.sampled_from([None, (1024, 1024), (1, 1)]))
def test_any_numbers_give_a_box_within_the_film_or_a_complaint(
    x: float, y: float, w: float, h: float, size: tuple[int, int] | None
) -> None:
    xyxy, complaint = checked_box(x, y, w, h, size)
    assert xyxy or complaint
    if xyxy:
        width, height = size or (math.inf, math.inf)
        assert 0 <= xyxy[0] < xyxy[2] <= width
        assert 0 <= xyxy[1] < xyxy[3] <= height
        assert all(math.isfinite(v) for v in xyxy)
        assert (xyxy == (x, y, x + w, y + h)) != bool(complaint)


def test_table(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b'\xef\xbb\xbf Name ,B\r\n\r\n"x, y",2\r\n"two\r\nlines",3\r\nz,4')
    table = read_table(path)
    assert table.header == ("Name", "B")
    assert table.rows == ((3, ["x, y", "2"]), (5, ["two\r\nlines", "3"]), (6, ["z", "4"]))
    assert table.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert table.cell(3, ["x, y", " 2 "], 1) == "2"
    with pytest.raises(DataError, match=r"t\.csv line 5: 'two\\r\\nlines' has control characters"):
        table.cell(*table.rows[1], 0)
    with pytest.raises(DataError, match=r"t\.csv: the header must have a column 'C'; its columns are 'Name', 'B'"):
        table.column("C", "D")


@pytest.mark.parametrize(
    ("data", "may_be_empty", "complaint"),
    [
        (b"", False, "it has nothing"),
        (b"", True, "it has nothing"),
        (b"a,b\n", False, "it has only a header"),
        (b"a,b\n1,\xff\n", False, "must be UTF-8 text; byte 6 is not"),
        (b'a,b\n1,"2\n', False, "line 2: not valid CSV"),
        (b"a,\x07\n1,2\n", False, "line 1: the header has control characters"),
        (b"a\n" + b"x" * 200_000 + b"\n", False, "not valid CSV"),
    ],
)
def test_what_is_not_a_table(data: bytes, may_be_empty: bool, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(data)
    with pytest.raises(DataError, match=complaint):
        read_table(tmp_path / "t.csv", may_be_empty=may_be_empty)


def test_an_empty_table_where_that_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("a,b\n")
    assert read_table(tmp_path / "t.csv", may_be_empty=True).rows == ()


def test_list(tmp_path: Path) -> None:
    path = tmp_path / "l.txt"
    path.write_bytes(b"\xef\xbb\xbfa.png\r\n\r\n b.png \r\na.png")
    assert read_list(path) == ({"a.png": 1, "b.png": 3}, ["a.png"], hashlib.sha256(path.read_bytes()).hexdigest())
    path.write_bytes(b"a.png\nb\x00.png\n")
    with pytest.raises(DataError, match=r"l\.txt line 2: 'b\\x00\.png' has control characters"):
        read_list(path)
