"""Results on disk: every row comes back, NaN as null."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, fields, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrlocus.errors import PredictionsError
from cxrlocus.protocols.result import Result, read_results, write_results

words = st.text(max_size=8)
numbers = st.one_of(st.floats(allow_infinity=False, allow_nan=False), st.just(math.nan))
results = st.builds(
    Result,
    *[words] * 6, numbers, words, numbers, numbers, numbers, st.integers(0, 10**6),
    source=st.sampled_from(["ours", "paper"]), note=st.text(max_size=20),
    detail=st.one_of(words, st.sampled_from(["tau=0.4", "capped=true", "boxes=one", "x=nan", "value=3", "=", "note="])),
)  # fmt: skip


def row(value: float = 0.5) -> Result:
    return Result("wang2017", "cam", "lse", "nih", "Mass", "accuracy_iou", 0.3, "fixed", value, 0.4, math.nan, 85)


def comparable(result: Result) -> list[object]:
    return ["NaN" if isinstance(v, float) and math.isnan(v) else v for v in asdict(result).values()]


@settings(max_examples=40)
@given(st.lists(results, max_size=4))
def test_results_come_back(tmp_path_factory: pytest.TempPathFactory, some: list[Result]) -> None:
    path = tmp_path_factory.mktemp("results") / "r.json"
    write_results(path, some)
    assert [comparable(r) for r in read_results(path)] == [comparable(r) for r in some]


def test_the_file_is_plain_json_of_tidy_rows(tmp_path: Path) -> None:
    write_results(tmp_path / "r.json", [row(), row(math.nan)])
    rows = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert [list(r) for r in rows] == [[f.name for f in fields(Result)]] * 2
    assert rows[0]["value"] == 0.5
    assert rows[0]["threshold"] == 0.3
    assert rows[0]["hi"] is None
    assert rows[1]["value"] is None
    assert rows[0]["source"] == "ours"


@pytest.mark.parametrize(("detail", "said"), [("tau=0.4", 0.4), ("capped=true", True), ("boxes=one", "one")])
def test_what_a_detail_says_stands_under_its_own_name(tmp_path: Path, detail: str, said: object) -> None:
    write_results(tmp_path / "r.json", [replace(row(), detail=detail), replace(row(), detail="value=7")])
    rows = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    assert (rows[0]["detail"], rows[0][detail.partition("=")[0]]) == (detail, said)
    # A detail never takes the place of a column.
    assert rows[1]["value"] == 0.5


def test_rows_written_before_there_were_details_are_read(tmp_path: Path) -> None:
    write_results(tmp_path / "r.json", [row()])
    rows = json.loads((tmp_path / "r.json").read_text(encoding="utf-8"))
    del rows[0]["detail"]
    (tmp_path / "r.json").write_text(json.dumps(rows), encoding="utf-8")
    assert [comparable(r) for r in read_results(tmp_path / "r.json")] == [comparable(row())]


def test_an_infinite_number_is_never_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        write_results(tmp_path / "r.json", [row(math.inf)])
    assert not (tmp_path / "r.json").exists()


@pytest.mark.parametrize(
    "text", ["", "{}", "[1]", "[[]]", '[{"protocol": "x"}]', '[{"colour": 1}]', "3", "nonsense", '{"a": 1}']
)
def test_a_file_that_is_none_is_one_clear_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "r.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(PredictionsError, match=r"r\.json: not a list of results"):
        read_results(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(PredictionsError, match=r"r\.json: not a list of results"):
        read_results(tmp_path / "r.json")
