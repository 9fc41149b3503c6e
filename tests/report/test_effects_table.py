"""Policy against method as a table: which rows count, and where a dash stands."""

from __future__ import annotations

import math

from test_compare_page import cells, row

from cxrlocus.report.compare import COLUMNS, MAIN
from cxrlocus.report.effects import HEADINGS, above_controls, effects_table
from cxrlocus.report.tables import UNDEFINED

POINTING = next(c for c in COLUMNS if c.quantity == "pointing")
SEEDS = {
    "fixed": [row(m, v, c) for m, v in (("a", 0.1), ("a", 0.3), ("b", 0.6), ("c", 0.7)) for c in (MAIN, POINTING)],
    "validation": [row(m, v, policy="validation") for m, v in (("a", 0.5), ("b", 0.4), ("c", 0.1))],
}


def test_a_line_a_quantity_and_dashes_where_a_policy_does_not_act() -> None:
    heading, _, main, pointing = map(cells, effects_table(SEEDS, "abc").splitlines())
    assert heading == list(HEADINGS)
    # Fixed .2 .6 .7, validation .5 .4 .1; two seeds of a.
    assert main == [MAIN.heading, "0.333", "0.267", "0.367", UNDEFINED, "0.200", "-1.00", "1.00"]
    assert pointing == [POINTING.heading, "0.333", *[UNDEFINED] * 3, "0.200", UNDEFINED, "-1.00"]


def test_where_less_is_better_the_order_turns() -> None:
    less = next(c for c in COLUMNS if c.quantity == "nothing_found")
    seeds = {"fixed": [row(m, v, c) for m, v in (("a", 0.1), ("b", 0.6), ("c", 0.7)) for c in (MAIN, less)]}
    assert cells(effects_table(seeds, "abc").splitlines()[3])[-1] == "-1.00"


def test_only_methods_that_are_asked_for_count() -> None:
    assert cells(effects_table(SEEDS, "ab").splitlines()[2])[1] == "0.400"
    assert len(effects_table(SEEDS, "").splitlines()) == 2


def test_above_every_control_but_the_one_drawn_by_the_truth() -> None:
    seeds = [
        row("a", 0.5, variant="x"), row("b", 0.2), row("a", 0.9, POINTING, variant="y"), row("a", 0.4, variant="x"),
        row("b", 0.9), row("c", math.nan), row("c", 0.9),
    ]  # fmt: skip
    centre, drawn_by_truth = row("centre_box", 0.3), row("oracle_box", 0.8, policy="oracle")
    assert above_controls(seeds, [centre, drawn_by_truth]) == ["a (x)"], "b is not, with one of its seeds"
    assert above_controls(seeds, [drawn_by_truth]) == ["a (x)", "b"]
