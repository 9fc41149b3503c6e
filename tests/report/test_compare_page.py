"""The summary's lines and the figure of policies: every number is a Result's."""

from __future__ import annotations

import math
import re
import xml.etree.ElementTree as ET
from dataclasses import replace

import pytest

from cxrlocus.protocols.result import Result
from cxrlocus.report.compare import COLUMNS, MAIN, Column, dots_figure, summary_table

NAN = math.nan


def row(method: str, value: float, column: Column = MAIN, policy: str = "fixed", variant: str = "") -> Result:
    return Result(
        column.protocol, method, variant, "toy", "mean", column.quantity, column.threshold, policy, value, value - 0.1,
        value + 0.1, 9, detail=column.detail,
    )  # fmt: skip


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_a_line_has_every_column_and_words_beside_the_name() -> None:
    rows = [row("cam", 0.1 + k / 100, column) for k, column in enumerate(COLUMNS)]
    table = summary_table(rows, beside={("cam", ""): ("3", "labels")}, headings=("seeds", "knows"))
    heading, _, line = map(cells, table.splitlines())
    assert heading == ["method", "seeds", "knows", *(c.heading for c in COLUMNS)]
    assert line[:4] == ["cam", "3", "labels", "0.10 [.00, .20]"]
    assert [float(cell.split()[0]) for cell in line[3:]] == pytest.approx([r.value for r in rows])


def test_an_interval_of_two_seeds_does_not_set_the_axis() -> None:
    wide = replace(row("b", 0.3), lo=-40.0, hi=40.0)
    drawn = ET.fromstring(dots_figure({"fixed": [row("a", 0.4), wide]}))
    ticks = [float(e.text) for e in drawn.iter() if re.fullmatch(r"[\d.]+", (e.text or "").strip())]
    assert max(ticks) <= 0.5


def test_the_best_method_is_bold_but_no_control_and_nothing_where_all_are_alike() -> None:
    less = next(c for c in COLUMNS if c.quantity == "nothing_found")
    rows = [row(m, v, c) for c in (MAIN, less) for m, v in (("a", 0.3), ("b", 0.5), ("random_map", 0.9))]
    lines = summary_table(rows, {"random_map"}, columns=(MAIN, less)).splitlines()[2:]
    assert [cells(line)[1:] for line in lines] == [
        ["0.30 [.20, .40]", "**0.30**"],
        ["**0.50** [.40, .60]", "0.50"],
        ["0.90 [.80, 1.00]", "0.90"],
    ]
    assert lines[2].startswith("| *random_map* |")
    assert "**" not in summary_table([row("a", 0.3), row("b", 0.3)], columns=(MAIN,))
    assert "**" not in summary_table(rows, {"random_map"}, columns=(MAIN, less), bold=False)


def test_a_mean_of_fewer_findings_is_marked_and_never_the_best() -> None:
    def of(method: str, finding: str, value: float) -> Result:
        return replace(row(method, value), finding=finding)

    rows = [row("a", 0.3), of("a", "Mass", 0.2), of("a", "Nodule", 0.4), row("b", 0.5), of("b", "Mass", 0.5)]
    rows += [of("b", "Nodule", NAN), row("c", 0.2), of("c", "Mass", 0.2), of("c", "Nodule", 0.2)]
    lines = summary_table(rows, columns=(MAIN,)).splitlines()
    assert [cells(line)[1].split()[0] for line in lines[2:5]] == ["**0.30**", "0.50†", "0.20"]
    assert lines[-1].startswith("† a mean of fewer findings")
    # Of rows that stand twice the first counts here, too: what another policy has does not make a mean whole.
    assert "0.50†" in summary_table([*rows, of("b", "Nodule", 0.7)], columns=(MAIN,))


def test_what_is_missing_is_empty_and_what_is_undefined_has_a_dash() -> None:
    lines = summary_table([row("a", 0.3), row("b", NAN), row("a", 0.2, COLUMNS[1])], columns=COLUMNS[:2]).splitlines()
    assert cells(lines[2])[2] == "0.20"
    assert cells(lines[3])[1:] == ["–", ""]  # noqa: RUF001 (the en dash is meant)


def test_of_rows_that_stand_twice_the_first_counts_and_findings_do_not() -> None:
    finding = Result("wang2017", "a", "", "toy", "Mass", "accuracy_iou", 0.3, "fixed", 0.9, NAN, NAN, 9)
    table = summary_table([finding, row("a", 0.3), row("a", 0.4, policy="oracle")], columns=(MAIN,))
    assert "0.30 [.20, .40]" in table
    assert "0.40" not in table
    assert "0.90" not in table


def test_the_figure_names_every_method_and_policy() -> None:
    blocks = {
        policy: [
            row("cam", v, policy=policy),
            row("yao2018", v / 2, policy=policy, variant="average"),
            row("centre_box", 0.2),
        ]
        for policy, v in (("fixed", 0.2), ("validation", 0.3), ("oracle", 0.4))
    }
    picture = dots_figure(blocks, {"centre_box"})
    words = " ".join(ET.fromstring(picture).itertext())
    for told in ("cam", "yao2018 (average)", "centre box", "fixed", "validation", "oracle", "Acc IoU > .3"):
        assert told in words
    assert picture == dots_figure(blocks, {"centre_box"})
    # A control of one policy has one mark, whatever the block: fewer marks than with three values.
    other = {p: [*rows[:2], row("centre_box", k / 10, policy=p)] for k, (p, rows) in enumerate(blocks.items())}
    assert dots_figure(other, {"centre_box"}).count(b"<use") > picture.count(b"<use")


def test_there_is_no_figure_of_nothing() -> None:
    assert dots_figure({}) == b""
    assert dots_figure({"fixed": [row("cam", NAN)]}) == b""
