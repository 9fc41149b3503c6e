"""Quantities against an option that a study varies, as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from cxrlocus.protocols.result import Result
from cxrlocus.report.figures import METHOD_COLOURS, figure_of, svg_of

CURVES = {
    "mask_area": "share of the film that the mask covers",
    "iop": "share of the mask inside the boxes (IoP)",
    "dice": "DICE",
    "auroc": "AUROC of the labels",
}
"""The quantities that are drawn where they were measured, and their titles."""


def option_points(results: Sequence[Result], option: str, quantity: str) -> list[tuple[float, Result]]:
    """The mean over findings at each value of the option, ascending; rows say the value in their variant.

    Example:
        >>> rows = [Result("p", "m", f"alpha={a}", "d", "mean", "iop", math.nan, "fixed", v, v, v, 9)
        ...         for a, v in (("0.1", 0.5), ("0", 0.25))]
        >>> [(value, row.value) for value, row in option_points(rows, "alpha", "iop")]
        [(0.0, 0.25), (0.1, 0.5)]
    """
    points = []
    for row in results:
        told = dict(part.split("=", 1) for part in row.variant.split(", ") if "=" in part)
        if option in told and (row.finding, row.quantity) == ("mean", quantity) and not math.isnan(row.value):
            points.append((float(told[option]), row))
    return sorted(points, key=lambda point: point[0])


def option_figure(results: Sequence[Result], option: str) -> bytes:
    """A panel a quantity, the option's values evenly spaced along it, intervals as bars; b"" if there is none."""
    panels = {q: points for q in CURVES if (points := option_points(results, option, q))}
    if not panels:
        return b""
    with figure_of(3.6 * len(panels), 3.0) as figure:
        for k, (quantity, points) in enumerate(panels.items()):
            axes = figure.add_subplot(1, len(panels), k + 1)
            rows = [row for _, row in points]
            value, low, high = (np.array([getattr(row, name) for row in rows]) for name in ("value", "lo", "hi"))
            spread = np.nan_to_num(np.abs(np.stack([value - low, high - value])))
            axes.errorbar(range(len(rows)), value, spread, color=METHOD_COLOURS[0], marker="o", capsize=2)
            axes.set_xticks(range(len(rows)), [f"{at:g}" for at, _ in points])
            axes.set_title(CURVES[quantity])
            axes.set_xlabel(option)
            axes.set_ylim(min(0.0, float(np.nanmin(value))), max(1.0, float(np.nanmax(value))))
    return svg_of(figure)
