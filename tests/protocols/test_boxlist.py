"""Box lists: there and back, the columns they may have, and a clear line for each way of being wrong."""

import numpy as np
import pytest
from box_worlds import film, found, index_of
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrlocus.errors import PredictionsError
from cxrlocus.protocols.boxlist import read_boxes, write_boxes
from cxrlocus.regions.detections import Detections
from cxrlocus.types import BOXED8, Findings

INDEX = index_of([film("a.png"), film("b, c.png"), film("d.png", size=None)])
HEADER = "image,finding,x,y,w,h,score\n"


def read(tmp_path, text, index=INDEX):
    path = tmp_path / "boxes.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_boxes(path, index)


@given(st.integers(0, 10**6), st.integers(0, 8))
@settings(max_examples=30)
def test_there_and_back(tmp_path_factory, seed, k):
    rng = np.random.default_rng(seed)
    corner, size = rng.uniform(0, 900, (k, 2)), rng.uniform(0.1, 100, (k, 2))
    given_boxes = Detections(
        INDEX.images,
        BOXED8,
        rng.integers(0, 3, k),
        rng.integers(0, 8, k),
        np.hstack([corner, corner + size]),
        rng.normal(size=k),
    )
    path = tmp_path_factory.mktemp("boxes") / "boxes.csv"
    write_boxes(path, given_boxes)
    back = read_boxes(path, INDEX)
    assert (back.images, back.findings) == (given_boxes.images, given_boxes.findings)
    for name in ("image", "finding", "score"):
        np.testing.assert_array_equal(getattr(back, name), getattr(given_boxes, name))
    np.testing.assert_allclose(back.xyxy, given_boxes.xyxy, rtol=1e-13)


def test_a_quote_that_is_never_closed_swallows_nothing(tmp_path):
    text = 'image,finding,x,y,w,h,note\na.png,Mass,1,1,2,2,fine\na.png,Mass,3,3,2,2,"unclosed\na.png,Mass,1,1,2,2,\n'
    with pytest.raises(PredictionsError, match="not a readable CSV of boxes"):
        read(tmp_path, text)


def test_whole_numbers_come_back_exactly(tmp_path):
    boxes = found(INDEX.images, [(1, "Mass", 3, 4, 1024, 1000), (0, "Nodule", 0, 0, 1, 1)])
    write_boxes(tmp_path / "boxes.csv", boxes)
    np.testing.assert_array_equal(read_boxes(tmp_path / "boxes.csv", INDEX).xyxy, boxes.xyxy)


def test_columns_in_any_order_with_others_beside_and_a_byte_order_mark(tmp_path):
    text = "\ufeffreader, H ,w,y,x,Finding,image\r\nanna,4,3,2,1,Mass,a.png\r\n\r\n"
    boxes = read(tmp_path, text)
    assert boxes.xyxy.tolist() == [[1, 2, 4, 6]]
    assert boxes.score.tolist() == [1.0]


def test_films_without_a_row_were_looked_at(tmp_path):
    boxes = read(tmp_path, HEADER)
    assert (boxes.images, len(boxes)) == (INDEX.images, 0)


def test_nih_s_word_for_infiltration(tmp_path):
    boxes = read(tmp_path, HEADER + "a.png,Infiltrate,1,2,3,4,0.5\n")
    assert [BOXED8.names[c] for c in boxes.finding] == ["Infiltration"]
    own_word = index_of([film("a.png")], Findings(("Infiltration", "Infiltrate")))
    assert read(tmp_path, HEADER + "a.png,Infiltrate,1,2,3,4,0.5\n", own_word).finding.tolist() == [1]


def test_an_empty_score_is_one_and_a_box_may_reach_over_the_edge(tmp_path):
    boxes = read(tmp_path, HEADER + "a.png,Mass,-5,1000,50,50,\nd.png,Mass,9000,0,5,5,-3\n")
    assert boxes.score.tolist() == [1.0, -3.0]
    assert boxes.xyxy[0].tolist() == [-5, 1000, 45, 1050]


GOOD = "a.png,Mass,1,2,3,4,0.5\n"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("image,finding,x,y,w\n", "line 1: no column 'h'"),
        ("a.png,Mass,1,2,3,4\n", "line 1: no column 'image'"),
        ("image,finding,x,y,w,h,x\n", "line 1: column 'x' stands more than once"),
        (HEADER + GOOD + "z.png,Mass,1,2,3,4,1\n", "line 3: image 'z.png' is not one of the 3 films"),
        (HEADER + "a.png,Masse,1,2,3,4,1\n", "line 2: finding 'Masse' is not one of Atelectasis, "),
        (HEADER + "a.png,Mass,1,2,-3,4,1\n", "line 2: w and h must be positive; got -3 and 4"),
        (HEADER + "a.png,Mass,1,2,3,0,1\n", "line 2: w and h must be positive; got 3 and 0"),
        (HEADER + "a.png,Mass,1e30,2,3,4,1\n", "line 2: w and h must be positive"),
        (HEADER + "a.png,Mass,1,2,3,1e400,1\n", "line 2: h must be a finite number; got '1e400'"),
        (HEADER + "a.png,Mass,nan,2,3,4,1\n", "line 2: x must be a finite number; got 'nan'"),
        (HEADER + "a.png,Mass,one,2,3,4,1\n", "line 2: x must be a finite number; got 'one'"),
        (HEADER + "a.png,Mass,,2,3,4,1\n", "line 2: x must be a finite number; got ''"),
        (HEADER + "a.png,Mass,1,2,3,4,high\n", "line 2: score must be a finite number; got 'high'"),
        (HEADER + "\n" + GOOD + "a.png,Mass,1,2\n", "line 4: 4 fields where the header has 7"),
        (HEADER + "a.png,Mass,1024,2,3,4,1\n", "line 2: the box from .* lies outside the film"),
        (HEADER + "a.png,Mass,1,-20,3,4,1\n", "line 2: the box from .* lies outside the film"),
        (b"\x89PNG\r\n\x1a\n\xff\xfe", "not a readable CSV of boxes"),
    ],
)
def test_a_wrong_list_is_refused_with_file_line_and_value(tmp_path, text, message):
    with pytest.raises(PredictionsError, match=message) as error:
        read(tmp_path, text)
    assert str(error.value).startswith(str(tmp_path / "boxes.csv"))
    assert "\n" not in str(error.value)


@given(text=st.text(alphabet='a.png,Mass0123456789-e"\n\r\t \0', max_size=60))
@settings(max_examples=80)
def test_any_text_is_read_or_refused(tmp_path_factory, text):
    path = tmp_path_factory.mktemp("boxes") / "boxes.csv"
    path.write_bytes((HEADER + text).encode())
    try:
        assert len(read_boxes(path, INDEX)) <= text.count("\n") + text.count("\r") + 1
    except PredictionsError as error:
        assert "boxes.csv" in str(error)  # noqa: PT017 - either outcome is right, the message is what is tested


def test_missing_files_and_folders(tmp_path):
    for path in (tmp_path / "none.csv", tmp_path):
        with pytest.raises(PredictionsError, match="not a readable CSV of boxes"):
            read_boxes(path, INDEX)
    with pytest.raises(PredictionsError, match="cannot write the boxes"):
        write_boxes(tmp_path / "none" / "boxes.csv", found(INDEX.images, []))
