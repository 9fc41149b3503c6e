"""``cxrlocus data phantom``: how often findings occur is what was asked for."""

from __future__ import annotations

import csv
from pathlib import Path

from commands import cxrlocus


def shown(root: Path) -> list[set[str]]:
    """The findings of each film."""
    with (root / "Data_Entry_2017_v2020.csv").open(newline="") as file:
        return [set(row["Finding Labels"].split("|")) - {"No Finding"} for row in csv.DictReader(file)]


def test_shares_and_weights_are_those_asked_for(tmp_path: Path) -> None:
    words = ("--images", 40, "--size", 64, "--normal-share", 0, "--extra-finding", 1, "--weight", "Mass=1e9")
    cxrlocus("data", "phantom", tmp_path / "sick", *words).succeeded()
    sick = shown(tmp_path / "sick")
    assert all(len(findings) == 3 and "Mass" in findings for findings in sick)
    cxrlocus("data", "phantom", tmp_path / "well", "--images", 6, "--size", 64, "--normal-share", 1).succeeded()
    assert shown(tmp_path / "well") == [set()] * 6


def test_what_is_not_asked_for_stays_as_it_was(tmp_path: Path) -> None:
    words = ("--images", 30, "--size", 64)
    cxrlocus("data", "phantom", tmp_path / "plain", *words).succeeded()
    cxrlocus("data", "phantom", tmp_path / "told", *words, "--extra-finding", 0).succeeded()
    plain, told = shown(tmp_path / "plain"), shown(tmp_path / "told")
    assert [bool(f) for f in plain] == [bool(f) for f in told]
    assert max(len(f) for f in told) == 1 < max(len(f) for f in plain)
