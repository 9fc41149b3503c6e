"""The demo, on few and small films: every step, and a second call that finds them done."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from commands import cxrlocus, make_films
from cxrlocus.cli import demo
from cxrlocus.methods.baselines.controls import CONTROLS
from cxrlocus.methods.cam import config


def moments(folder: Path) -> dict[Path, int]:
    """When each file of films, run and predictions was written."""
    return {p: p.stat().st_mtime_ns for part in ("films", "run", "predictions") for p in (folder / part).rglob("*")}


def test_the_demo_ends_with_a_table_and_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "FILMS", 40)
    monkeypatch.setitem(
        config.PRESETS, "demo", {"backbone": "test_resnet", "epochs": 1, "size": 64, "precision": "fp32"}
    )  # type: ignore[index]  # a dict, declared read-only
    monkeypatch.chdir(tmp_path)
    first = cxrlocus("demo").succeeded()
    page = Path("demo/page/report.html")
    assert first.out.splitlines()[-1] == f"page: {page}"
    assert page.stat().st_size > 20_000
    for method in ("cam", *CONTROLS):
        assert re.search(rf"^{method} ", first.out, re.MULTILINE), method
    before = moments(Path("demo"))
    second = cxrlocus("demo").succeeded()
    assert second.out == first.out
    assert [line for line in second.told if line.startswith("already there")] == [
        "already there: demo/run/base", "already there: demo/predictions",
    ]  # fmt: skip
    assert before == moments(Path("demo"))


def test_another_seed_does_not_mix_with_a_demo_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "FILMS", 4)
    (tmp_path / "d").mkdir()
    make_films(tmp_path / "d" / "films", 4)
    assert "holds another phantom (" in cxrlocus("demo", "--out", tmp_path / "d", "--seed", 1).complaint()
