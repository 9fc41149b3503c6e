"""Methods side by side: a line a method with its main numbers, and the effect of the threshold policy as a figure."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from cxrlocus.protocols.result import LOWER_IS_BETTER, Result, label_of
from cxrlocus.report.figures import METHOD_COLOURS, figure_of, svg_of
from cxrlocus.report.tables import OF_FEWER, OF_FEWER_TOLD, SUMMARIES, digits_of, interval, number, of_fewer

NAN = math.nan

CONTROL_GREY = "#8a8a8a"

MARKERS = ("o", "s", "D")


@dataclass(frozen=True)
class Column:
    """A main quantity: what heads it, and which Results are it; means over the findings that have boxes.

    Args:
        heading: as short as it can be understood.
        protocol, quantity, threshold, detail: as in ``Result``.
        intervals: whether cells show theirs.
    """

    heading: str
    protocol: str
    quantity: str
    threshold: float = NAN
    detail: str = ""
    intervals: bool = False

    def holds(self, r: Result) -> bool:
        """Whether a Result is this column's."""
        return r.finding == "mean" and self.is_of(r)

    def is_of(self, r: Result) -> bool:
        """Whether a Result is this column's quantity, of whatever finding."""
        same = (r.protocol, r.quantity, r.detail) == (self.protocol, self.quantity, self.detail)
        both_none = math.isnan(r.threshold) and math.isnan(self.threshold)
        return same and (both_none or math.isclose(r.threshold, self.threshold))


MAIN = Column("Acc IoU > .3", "wang2017", "accuracy_iou", 0.3, intervals=True)
"""The quantity of the figure, and the first of every line."""

COLUMNS = (
    MAIN,
    Column("false boxes", "wang2017", "afp", 0.3),
    Column("Acc IoU > .5", "wang2017", "accuracy_iou", 0.5),
    Column("capped Acc > .3", "cai2018", "accuracy_iou", 0.3, "capped=true"),
    Column("one box, Acc > .3", "kim2021", "accuracy_iou", 0.3, "boxes=one"),
    Column("DICE", "yao2018", "dice"),
    Column("IoP", "infomask2019", "iop"),
    Column("FNR", "infomask2019", "fnr"),
    Column("MaxBoxAccV2", "modern", "maxboxacc_v2", NAN, "boxes=any"),
    Column("pointing", "modern", "pointing", NAN, "tolerance=0"),
    Column("nothing found", "modern", "nothing_found"),
    Column("AUROC", "wang2017", "auroc"),
)
"""What a line of the summary has."""


def summary_table(
    results: Sequence[Result],
    controls: Collection[str] = (),
    beside: Mapping[tuple[str, str], Sequence[str]] | None = None,
    headings: Sequence[str] = (),
    columns: Sequence[Column] = COLUMNS,
    bold: bool = True,
) -> str:
    """A line a method, then a line a control (in italics), as Markdown; a column's best method in bold.

    Args:
        results: those of one policy; of rows that stand twice the first counts.
        controls: the methods that are controls.
        beside: words behind the name of a (method, variant), as many as ``headings``.
        headings: of those words.
        columns: what is shown.
        bold: whether a best is set bold: not among numbers that have seen the measured boxes.

    Example:
        >>> rows = [Result("wang2017", m, "", "d", "mean", "accuracy_iou", 0.3, "fixed", v, NAN, NAN, 9)
        ...         for m, v in (("cam", 0.31), ("yao2018", 0.25), ("centre_box", 0.4))]
        >>> print(summary_table(rows, {"centre_box"}, columns=COLUMNS[:1]))
        | method | Acc IoU > .3 |
        |:--|--:|
        | cam | **0.31** |
        | yao2018 | 0.25 |
        | *centre_box* | 0.40 |
    """
    cells = _cells(results, columns)
    methods = [key for key in cells if key[0] not in controls]
    lines = [
        "| " + " | ".join(["method", *headings, *(c.heading for c in columns)]) + " |",
        "|" + "|".join([":--"] * (1 + len(headings)) + ["--:"] * len(columns)) + "|",
    ]
    fewer = _of_fewer(results, columns)
    best = [_best([cells[m][k] for m in methods if (m, k) not in fewer], c) for k, c in enumerate(columns)]
    for key in [*methods, *(key for key in cells if key[0] in controls)]:
        name, is_control = label_of(*key), key[0] in controls
        words = list((beside or {}).get(key, [""] * len(headings)))
        shown = [
            _shown(
                cell,
                column,
                OF_FEWER if (key, k) in fewer else "",
                bold=bold and not is_control and (key, k) not in fewer and cell is not None and cell.value == best[k],
            )
            for k, (cell, column) in enumerate(zip(cells[key], columns, strict=True))
        ]
        lines.append("| " + " | ".join([f"*{name}*" if is_control else name, *words, *shown]) + " |")
    return "\n".join([*lines, *(["", f"{OF_FEWER} {OF_FEWER_TOLD}"] if fewer else [])])


def dots_figure(blocks: Mapping[str, Sequence[Result]], controls: Collection[str] = (), column: Column = MAIN) -> bytes:
    """A line a method with a dot and its interval for each policy, controls grey below, as SVG; b"" without any.

    The axis holds all dots; an interval of few seeds that runs out of it is cut there.

    Args:
        blocks: by policy its Results. A control that is of one policy whatever is asked for has one dot.
        controls: the methods that are controls.
        column: what is drawn.
    """
    points: dict[tuple[str, str], list[tuple[int, Result]]] = {}
    for k, results in enumerate(blocks.values()):
        for r in results:
            if column.holds(r) and not math.isnan(r.value):
                points.setdefault((r.method, r.variant), []).append((k, r))
    order = sorted(points, key=lambda key: key[0] in controls)
    if not order:
        return b""
    with figure_of(8.2, 1.3 + 0.34 * len(order)) as figure:
        axes = figure.add_subplot()
        for y, key in enumerate(order):
            _dots(axes, y, points[key], key[0] in controls)
        axes.set_yticks(range(len(order)), [label_of(*key).replace("_", " ") for key in order])
        for tick, key in zip(axes.get_yticklabels(), order, strict=True):
            tick.set_color(CONTROL_GREY if key[0] in controls else "#222")
        first = sum(key[0] not in controls for key in order)
        axes.axhline(first - 0.5, color="#bbb", linewidth=0.8)
        axes.set_ylim(len(order) - 0.4, -0.6)
        shown = [r.value for some in points.values() for _, r in some]
        axes.set_xlim(min(0.0, *shown), 1.15 * max(*shown, 0.1))
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(f"{column.heading}, mean of findings, 95 % intervals")
        keys = [_key(k, policy) for k, policy in enumerate(blocks)]
        figure.legend(handles=keys, loc="outside upper center", ncols=len(keys))
    return svg_of(figure)


def _dots(axes: Axes, y: int, points: Sequence[tuple[int, Result]], is_control: bool) -> None:
    alone = len({(r.value, r.policy) for _, r in points}) == 1
    for k, r in points[:1] if alone else points:
        at = y if alone else y + 0.22 * (k - 1)
        colour = CONTROL_GREY if is_control else METHOD_COLOURS[k]
        spread = np.nan_to_num(np.array([[r.value - r.lo], [r.hi - r.value]])).clip(min=0)
        axes.errorbar(
            r.value, at, xerr=spread, color=colour, marker="|" if alone and is_control else MARKERS[k], markersize=5,
            linewidth=1.3, capsize=0, linestyle="none",
        )  # fmt: skip


def _key(k: int, policy: str) -> Line2D:
    return Line2D([], [], color=METHOD_COLOURS[k], marker=MARKERS[k], markersize=5, linewidth=1.3, label=policy)


def _cells(results: Sequence[Result], columns: Sequence[Column]) -> dict[tuple[str, str], list[Result | None]]:
    cells: dict[tuple[str, str], list[Result | None]] = {}
    for r in results:
        for k, column in enumerate(columns):
            if column.holds(r):
                row = cells.setdefault((r.method, r.variant), [None] * len(columns))
                row[k] = row[k] or r
    return cells


def _of_fewer(results: Sequence[Result], columns: Sequence[Column]) -> set[tuple[tuple[str, str], int]]:
    """The (method, column) whose mean is of fewer findings than another's there."""
    out = set()
    for k, column in enumerate(columns):
        rows: dict[tuple[str, str], dict[str, Result]] = {}
        for r in results:
            if column.is_of(r) and r.finding not in SUMMARIES:
                rows.setdefault((r.method, r.variant), {}).setdefault(r.finding, r)
        out |= {(key, k) for key in of_fewer({key: row.values() for key, row in rows.items()})}
    return out


def _best(cells: Sequence[Result | None], column: Column) -> float:
    values = [c.value for c in cells if c is not None and not math.isnan(c.value)]
    choose = min if column.quantity in LOWER_IS_BETTER else max
    return choose(values) if len(set(values)) > 1 else NAN


def _shown(cell: Result | None, column: Column, mark: str, *, bold: bool) -> str:
    if cell is None:
        return ""
    digits = digits_of(column.quantity)
    text = number(cell.value, digits) + mark
    return f"{f'**{text}**' if bold else text} {interval(cell, digits) if column.intervals else ''}".rstrip()
