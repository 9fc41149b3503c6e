"""``cxrlocus study all`` as a person gives it: one page, and complaints before any work."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from fake_training import ROWS as ALL
from fake_training import Fakes

from commands import cxrlocus
from cxrlocus.cli.evaluate import tables
from cxrlocus.protocols.result import Result

ROWS = (ALL[0], ALL[2])
PROTOCOLS = ("wang2017", "yao2018", "kim2021")


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Fakes:
    made = Fakes()
    monkeypatch.setattr("cxrlocus.study.cells.train_run", made.train_run)
    monkeypatch.setattr("cxrlocus.study.cells.predict_run", made.predict_run)
    monkeypatch.setattr("cxrlocus.study.rows.COMPARED", ROWS)
    # Three stand for all: the first, one that chooses nothing, and one of two readings.
    monkeypatch.setattr("cxrlocus.study.compare.ALL_PROTOCOLS", PROTOCOLS)
    return made


def test_one_page_has_policies_pairs_and_protocols(planted_root: Path, fakes: Fakes, tmp_path: Path) -> None:
    words = ("study", "all", "--data", planted_root, "--out", tmp_path / "s", "--cache", tmp_path, "--preset", "demo")
    outcome = cxrlocus(*words, "--seeds", 0, "--set", "size=64").succeeded()
    out = tmp_path / "s" / "all"
    page = (out / "tables.md").read_text(encoding="utf-8")
    heads = [line for line in page.splitlines() if line.startswith("## ")]
    assert heads == [
        "## The main numbers",
        "## Policy against method",
        "## Who is better than whom",
        *(f"## Protocol {p}" for p in PROTOCOLS),
        "## As printed by the papers, with networks, sizes and heights of their own",
        "## Missing",
    ]
    assert [f"### Policy {p}" in page for p in ("fixed", "validation", "oracle")] == [True] * 3
    assert "Nothing: every row has every seed." in page
    assert "every row on the same films, of 64 px" in page
    assert "one seed, no doubt of training" in page
    # Both readings of Kim et al., and one tau of nine.
    ours = page.partition("## As printed")[0]
    for told in ("boxes=one", "boxes=several", "tau=0.5", "| *centre_box* |"):
        assert told in ours
    assert "tau=0.4" not in ours
    assert ours.count("#### AUROC of the labels") == 1
    assert "![methods and policies](policies.svg)" in page
    assert (out / "policies.svg").read_bytes().startswith(b"<?xml")
    rows = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert {r["policy"] for r in rows if r["method"] == "kim2021"} == {"fixed", "validation", "oracle"}
    assert any(r["quantity"] == "accuracy_iou_difference" for r in rows)
    assert {r["tau"] for r in rows if r["protocol"] == "yao2018" and "tau" in r} >= {0.1, 0.4, 0.9}
    assert "### Policy validation" in outcome.out
    # Printed numbers are no Results of this study.
    assert {r["source"] for r in rows} == {"ours"}
    calls = list(fakes.calls)
    more = cxrlocus(*words, "--seeds", 0, 1, "--set", "size=64", "--budget", 0).succeeded()
    assert fakes.calls == calls
    assert more.told[-1].startswith("missing: 3 of 6 cells (cam-seed1, kim2021-seed1, consensus-seed1)")
    assert "- consensus-seed1: waits for cam-seed1, kim2021-seed1" in (out / "tables.md").read_text(encoding="utf-8")
    # What is measured by another criterion has a page of its own, which says so.
    first = (out / "tables.md").read_bytes()
    assert b"are chosen under validation and oracle by fpr_fnr" in first
    other = cxrlocus(*words, "--seeds", 0, "--set", "size=64", "--criterion", "dice").succeeded()
    assert fakes.calls == calls
    assert f"tables: {out / 'tables-dice.md'}; rows: {out / 'results-dice.json'}" in other.told[-1]
    assert "are chosen under validation and oracle by dice" in (out / "tables-dice.md").read_text(encoding="utf-8")
    assert (out / "tables.md").read_bytes() == first


def test_a_row_that_waits_for_rows_that_are_not_named_is_told(planted_root: Path, fakes: Fakes, tmp_path: Path) -> None:
    words = ("study", "all", "--data", planted_root, "--out", tmp_path / "s", "--cache", tmp_path, "--preset", "demo")
    some = cxrlocus(*words, "--seeds", 0, "--rows", "consensus").succeeded()
    assert fakes.calls == []
    # Nothing is measured, so nothing is drawn, and no figure is named.
    assert "figure" not in some.told[-3]
    assert some.told[-2] == "consensus-seed0 waits for cam-seed0, kim2021-seed0: name these in --rows, too"
    assert some.told[-1].endswith("consensus-seed0); the same command without --rows goes on")


def test_what_cannot_be_is_refused_in_one_line(planted_root: Path, fakes: Fakes, tmp_path: Path) -> None:
    words = ("study", "all", "--data", planted_root, "--out", tmp_path / "s", "--cache", tmp_path)
    assert "measures under each of them" in cxrlocus(*words, "--policy", "oracle").only_complaint()
    assert "--budget must be at least 0 minutes; got -1" in cxrlocus(*words, "--budget", -1).only_complaint()
    assert "--preset must be one of paper, cpu, demo" in cxrlocus(*words, "--preset", "gpu").only_complaint()
    line = cxrlocus(*words, "--preset", "demo", "--set", "size=100").only_complaint()
    assert "cam: size must be a multiple of 32" in line
    assert fakes.calls == []
    assert not (tmp_path / "s").exists()
    # With nothing done there is a page all the same, and it says so.
    cxrlocus(*words, "--preset", "demo", "--budget", 0, "--seeds", 0).succeeded()
    page = (tmp_path / "s" / "all" / "tables.md").read_text(encoding="utf-8")
    assert "- cam-seed0: not begun when the budget was used" in page
    assert "## Protocol" not in page


def test_the_auroc_that_every_protocol_says_stands_once() -> None:
    def auroc(protocol: str, method: str, value: float, source: Any = "ours") -> Result:
        nan = math.nan
        return Result(protocol, method, "", "toy", "mean", "auroc", nan, "fixed", value, nan, nan, 9, source=source)

    rows = [auroc(p, m, v) for p in ("wang2017", "kim2021") for m, v in (("cam", 0.7), ("yao2018", 0.8))]
    (table,) = tables([*rows, auroc("kim2021", "late", 0.6), auroc("kim2021", "cam", 0.9, "paper")], frozenset())[:1]
    assert [line.split()[0] for line in table.splitlines()[3:] if "--" not in line] == ["cam", "yao2018", "late", "cam"]
