"""Quantities against an option: which rows are points, and that the drawing holds them."""

import math
import re

from cxrlocus.protocols.result import Result
from cxrlocus.report.curves import CURVES, option_figure, option_points


def row(variant: str, quantity: str, value: float, finding: str = "mean") -> Result:
    return Result("p", "m", variant, "d", finding, quantity, math.nan, "fixed", value, value - 0.1, value + 0.1, 9)


ROWS = [
    row("alpha=1", "iop", 0.3),
    row("alpha=0.01", "iop", 0.5),
    row("alpha=0.01", "auroc", 0.8),
    row("alpha=0.01", "iop", 0.9, finding="Mass"),
    row("", "iop", 0.7),
    row("tau=0.5", "iop", 0.7),
    row("timm, alpha=0", "iop", 0.1),
    row("alpha=9", "iop", math.nan),
]


def test_points_are_the_means_of_rows_that_vary_the_option_in_its_order() -> None:
    assert [(at, r.value) for at, r in option_points(ROWS, "alpha", "iop")] == [(0, 0.1), (0.01, 0.5), (1, 0.3)]
    assert option_points(ROWS, "beta", "iop") == []


def test_the_drawing_has_a_panel_a_quantity_with_the_values_below() -> None:
    svg = option_figure(ROWS, "alpha").decode("utf-8")
    words = re.findall(r"<text[^>]*>([^<]*)</text>", svg)
    assert CURVES["iop"] in words
    assert CURVES["auroc"] in words
    assert CURVES["mask_area"] not in words
    assert [w for w in words if w in ("0.01", "1")].count("0.01") == 2
    assert option_figure(ROWS, "beta") == b""


def test_the_same_rows_are_the_same_bytes_in_any_order() -> None:
    assert option_figure(ROWS, "alpha") == option_figure(ROWS[::-1], "alpha")
