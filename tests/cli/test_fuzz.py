"""Whatever stands in a file, a command ends with a result or with one line that is meant for the user."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commands import Outcome, cxrlocus
from cxrlocus.data import open_index

pytest_plugins = ("trained",)

SHORT = settings(max_examples=40, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])

VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-1000, 1000)
    | st.floats()
    | st.text(max_size=8)
    | st.lists(st.text(max_size=4))
)
JSON = st.recursive(VALUES, lambda inner: st.dictionaries(st.text(max_size=8), inner, max_size=3), max_leaves=6)


def ended_well(outcome: Outcome) -> bool:
    """0, or one line that does not ask the user to report it."""
    return outcome.status == 0 or bool(outcome.complaint())


@pytest.fixture(scope="module")
def image(films: Path) -> str:
    return open_index(films).split("test").images[0]


CELLS = st.sampled_from(["", "Mass", "Gout", "1", "-1", "1e400", "nan", "inf", "1,5", '"', "\x00", "é", "-0", "1e-320"])
LINES = st.lists(st.lists(CELLS, max_size=8).map(",".join), max_size=4)


@SHORT
@given(lines=LINES, tail=st.binary(max_size=12))
def test_any_list_of_boxes(lines: list[str], tail: bytes, films: Path, image: str, tmp_path: Path) -> None:
    head = f"image,finding,x,y,w,h,score\n{image},Mass,1,1,9,9,1\n"
    body = "".join(f"{image},{line}\n" for line in lines)
    (tmp_path / "b.csv").write_bytes((head + body).encode() + tail)
    assert ended_well(cxrlocus("evaluate", tmp_path / "b.csv", "--data", films, "--resamples", 0, "--no-controls"))


@SHORT
@given(content=st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()))
@pytest.mark.parametrize("file", ["run.json", "base/manifest.json", "base/weights.safetensors"])
def test_any_file_in_a_run(file: str, content: bytes, films: Path, run: Path, decoded: Path, tmp_path: Path) -> None:
    own = tmp_path / "run"
    if not own.exists():
        shutil.copytree(run, own)
    before = (own / file).read_bytes()
    try:
        (own / file).write_bytes(content)
        assert ended_well(cxrlocus("predict", own, "--data", films, "--out", tmp_path / "p", "--cache", decoded))
    finally:
        (own / file).write_bytes(before)


def test_any_value_in_a_run(films: Path, own_run: Path, decoded: Path, tmp_path: Path) -> None:
    good = json.loads((own_run / "run.json").read_text(encoding="utf-8"))

    @SHORT
    @given(name=st.sampled_from(sorted(good)), value=JSON)
    def holds(name: str, value: Any) -> None:
        (own_run / "run.json").write_text(json.dumps(good | {name: value}), encoding="utf-8")
        assert ended_well(cxrlocus("predict", own_run, "--data", films, "--out", tmp_path / "p", "--cache", decoded))

    holds()


def test_any_option_in_a_run(films: Path, own_run: Path, decoded: Path, tmp_path: Path) -> None:
    good = json.loads((own_run / "run.json").read_text(encoding="utf-8"))

    @SHORT
    @given(name=st.sampled_from(sorted(good["config"])), value=VALUES)
    def holds(name: str, value: Any) -> None:
        config = good["config"] | {name: value}
        (own_run / "run.json").write_text(json.dumps(good | {"config": config}), encoding="utf-8")
        assert ended_well(cxrlocus("predict", own_run, "--data", films, "--out", tmp_path / "p", "--cache", decoded))

    holds()


@SHORT
@given(content=st.binary(max_size=40) | JSON.map(lambda value: json.dumps(value).encode()))
@pytest.mark.parametrize("file", ["meta.json", "table.csv", "maps.npy", "frames.npy", "sizes.npy"])
def test_any_file_in_a_predictions_folder(file: str, content: bytes, films: Path, pred: Path, tmp_path: Path) -> None:
    own = tmp_path / "pred"
    if not own.exists():
        shutil.copytree(pred, own)
    (own / file).write_bytes(content)
    try:
        assert ended_well(cxrlocus("evaluate", own, "--data", films, "--resamples", 0, "--no-controls"))
    finally:
        shutil.copy(pred / file, own / file)


def test_any_value_in_a_predictions_folder(films: Path, own_pred: Path) -> None:
    good = json.loads((own_pred / "meta.json").read_text(encoding="utf-8"))

    @SHORT
    @given(name=st.sampled_from(sorted(good)), value=JSON)
    def holds(name: str, value: Any) -> None:
        (own_pred / "meta.json").write_text(json.dumps(good | {name: value}), encoding="utf-8")
        assert ended_well(cxrlocus("evaluate", own_pred, "--data", films, "--resamples", 0, "--no-controls"))

    holds()


@SHORT
@given(place=st.floats(0, 1), junk=st.binary(min_size=1, max_size=6), cut=st.booleans())
@pytest.mark.parametrize("file", ["Data_Entry_2017_v2020.csv", "BBox_List_2017.csv", "test_list.txt", "phantom.json"])
def test_junk_anywhere_in_a_data_set(
    file: str, place: float, junk: bytes, cut: bool, films: Path, tmp_path: Path
) -> None:
    own = tmp_path / "films"
    if not own.exists():
        shutil.copytree(films, own)
    whole = (films / file).read_bytes()
    at = int(place * len(whole))
    (own / file).write_bytes(whole[:at] + junk + (b"" if cut else whole[at:]))
    try:
        assert ended_well(cxrlocus("data", "check", own, "--no-read"))
    finally:
        (own / file).write_bytes(whole)


@settings(max_examples=60, derandomize=True)
@given(
    verb=st.sampled_from(["data", "train", "predict", "evaluate", "report", "study", "harvest"]),
    words=st.lists(
        st.sampled_from(
            ["check", "phantom", "cam", "--data", "--out", "--set", "--seed", "--", "-1", "0", "no/such", "-x", ""]
        ),
        max_size=6,
    ),
)
def test_any_words(verb: str, words: list[str], tmp_path_factory: pytest.TempPathFactory) -> None:
    with pytest.MonkeyPatch.context() as here:
        here.chdir(tmp_path_factory.mktemp("words"))
        outcome = cxrlocus(verb, *words)
        assert outcome.status in (0, 1, 2)
        if outcome.status:
            outcome.complaint(outcome.status)
