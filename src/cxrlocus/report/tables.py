"""Results as tables: one pivot (rows: method and policy; columns: findings), rendered as text, Markdown or HTML."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeVar

from cxrlocus.protocols.result import LOWER_IS_BETTER, NEITHER_IS_BETTER, Result

SUMMARIES = ("mean", "pooled")
"""Names that stand for all findings together; they are the last columns of every table."""

UNDEFINED = "–"  # noqa: RUF001 (the en dash is meant)

OF_FEWER = "†"
"""Behind a mean of fewer findings than others in its column have: in the rest it is undefined."""

OF_FEWER_TOLD = "a mean of fewer findings than others in its column: in the rest it is undefined."

Key = TypeVar("Key")

Intervals = Literal["none", "summary", "all"]
"""Which cells show their interval: none, those of mean and pooled, or all."""


@dataclass(frozen=True)
class Row:
    """One method under one policy: a cell for each column, None where there is no such Result.

    Args:
        protocol, method, variant, policy, dataset, source, detail: as in ``Result``; together they name the row.
        note: what all of the row's Results ask a reader to know; what only one of them says stays with that Result.
        is_control: whether the row stands for a control rather than a method.
        cells: one Result or None a column.
    """

    protocol: str
    method: str
    variant: str
    policy: str
    dataset: str
    source: str
    note: str
    is_control: bool
    cells: tuple[Result | None, ...]
    detail: str = ""

    @property
    def key(self) -> tuple[str, ...]:
        """What names the row."""
        return self.protocol, self.method, self.variant, self.policy, self.dataset, self.source, self.detail

    @property
    def label(self) -> str:
        """Method, variant and detail, as a person reads them."""
        named = ", ".join(filter(None, (self.variant, self.detail)))
        return f"{self.method} ({named})" if named else self.method

    @property
    def is_oracle(self) -> bool:
        """Whether the row has seen the test boxes: by its policy, or because it is a control called so."""
        return self.policy == "oracle" or (self.is_control and "oracle" in self.method)

    @property
    def competes(self) -> bool:
        """Whether the row is one of our methods that has not seen the test boxes: only these can be the best."""
        return not (self.is_control or self.is_oracle or self.source == "paper")


@dataclass(frozen=True)
class Pivot:
    """A table: rows in the order in which the Results came, findings in the same order, then mean and pooled.

    Args:
        quantity, threshold: what every cell is.
        columns: findings, then those of ``SUMMARIES`` that there are.
        counts: a column's n where all of our rows agree on it, else None.
        rows: the rows; those of source "paper" come last.
    """

    quantity: str
    threshold: float
    columns: tuple[str, ...]
    counts: tuple[int | None, ...]
    rows: tuple[Row, ...]

    @property
    def best(self) -> tuple[float, ...]:
        """A column's best value among the rows that compete; NaN unless two of them differ."""
        return self._best(self.rows)

    def is_best(self, row: Row, k: int) -> bool:
        """Whether the row's cell in column k is to be set bold: the best of its protocol and detail."""
        cell, like = row.cells[k], [r for r in self.rows if (r.protocol, r.detail) == (row.protocol, row.detail)]
        apart = not row.competes or self.is_of_fewer(row, k)
        return cell is not None and not apart and cell.value == self._best(like)[k]

    def is_of_fewer(self, row: Row, k: int) -> bool:
        """Whether the row's cell in column k is a mean of fewer findings than another of our rows has there."""
        return self.columns[k] == "mean" and row.key in self._fewer

    @cached_property
    def _fewer(self) -> set[tuple[str, ...]]:
        at = [k for k, name in enumerate(self.columns) if name not in SUMMARIES]
        return of_fewer({r.key: [r.cells[k] for k in at] for r in self.rows if r.source != "paper"})

    def _best(self, rows: Sequence[Row]) -> tuple[float, ...]:
        if self.quantity in NEITHER_IS_BETTER:
            return (math.nan,) * len(self.columns)
        choose = min if self.quantity in LOWER_IS_BETTER else max
        columns = [
            [r.cells[k] for r in rows if r.competes and not self.is_of_fewer(r, k)] for k in range(len(self.columns))
        ]
        values = [[c.value for c in cells if c is not None and not math.isnan(c.value)] for cells in columns]
        return tuple(choose(v) if len(set(v)) > 1 else math.nan for v in values)

    def value(self, row: Row, column: str) -> Result | None:
        """A row's Result in the column of that name, None if there is none."""
        return row.cells[self.columns.index(column)] if column in self.columns else None


def of_fewer(cells: Mapping[Key, Iterable[Result | None]]) -> set[Key]:
    """Those of whose findings fewer have a value than of another's; one without any has no mean to be mistaken.

    Example:
        >>> rows = [Result("p", "m", "", "d", "Mass", "iop", math.nan, "fixed", v, math.nan, math.nan, 9)
        ...         for v in (0.1, 0.2, math.nan)]
        >>> of_fewer({"a": rows[:2], "b": rows[1:], "c": [None]})
        {'b'}
    """
    counts = {key: sum(c is not None and not math.isnan(c.value) for c in row) for key, row in cells.items()}
    return {key for key, count in counts.items() if 0 < count < max(counts.values())}


def pivot(
    results: Iterable[Result], quantity: str, threshold: float = math.nan, controls: Collection[str] = ()
) -> Pivot:
    """Bring the Results of one quantity and threshold into a table.

    Args:
        results: any Results; others than asked for are passed over.
        quantity: e.g. "accuracy_iou".
        threshold: T; NaN for a quantity that has none.
        controls: the methods that are controls.

    Raises:
        ValueError: two Results with different values claim the same cell.

    Example:
        >>> rows = [Result("wang2017", "cam", "", "phantom", f, "auroc", math.nan, "fixed", v, math.nan, math.nan, 9)
        ...         for f, v in (("Mass", 0.75), ("mean", 0.5))]
        >>> table = pivot(rows, "auroc")
        >>> table.columns, [cell.value for cell in table.rows[0].cells]
        (('Mass', 'mean'), [0.75, 0.5])
    """
    chosen = [r for r in results if r.quantity == quantity and _same(r.threshold, threshold)]
    columns = _columns(chosen)
    cells: dict[tuple[str, ...], dict[str, Result]] = {}
    for r in chosen:
        row = cells.setdefault((r.protocol, r.method, r.variant, r.policy, r.dataset, r.source, r.detail), {})
        if r.finding in row and not _same(row[r.finding].value, r.value):
            raise ValueError(
                f"results must hold one value of {quantity} for {r.method} {r.variant} ({r.policy}) and {r.finding}; "
                f"got {row[r.finding].value} and {r.value}. Give one of the two another variant."
            )
        row[r.finding] = r
    rows = sorted((_row(row, columns, controls) for row in cells.values()), key=lambda row: row.source == "paper")
    return Pivot(quantity, threshold, columns, tuple(_count(chosen, c) for c in columns), tuple(rows))


def accuracy_table(results: Iterable[Result], threshold: float = 0.3, controls: Collection[str] = ()) -> Pivot:
    """Localization accuracy at IoU > ``threshold``: the pivot that terminal, Markdown and page show first."""
    return pivot(results, "accuracy_iou", threshold, controls)


def thresholds(results: Iterable[Result], quantity: str) -> tuple[float, ...]:
    """The thresholds at which a quantity was measured, ascending, NaN left out."""
    return tuple(sorted({r.threshold for r in results if r.quantity == quantity and not math.isnan(r.threshold)}))


def number(value: float, digits: int = 2) -> str:
    """A value as the tables print it; an en dash where it is undefined.

    Example:
        >>> number(0.305), number(-0.0), number(math.nan) == UNDEFINED
        ('0.30', '0.00', True)
    """
    return UNDEFINED if math.isnan(value) else f"{value + 0.0:.{digits}f}"


def interval(cell: Result, digits: int = 2) -> str:
    """The 95 % interval as the tables print it; empty where there is none.

    Example:
        >>> interval(Result("p", "m", "", "d", "mean", "q", 0.3, "fixed", 0.31, 0.25, 0.38, 9))
        '[.25, .38]'
    """
    if math.isnan(cell.lo) or math.isnan(cell.hi):
        return ""
    return "[" + ", ".join(re.sub(r"^(-?)0\.", r"\1.", number(bound, digits)) for bound in (cell.lo, cell.hi)) + "]"


def digits_of(quantity: str) -> int:
    """How many decimals a quantity is printed with: 3 where methods differ by less than a hundredth, else 2."""
    return 3 if quantity in ("auroc", "accuracy", "fpr") else 2


def short_names(names: Sequence[str], least: int = 6) -> tuple[str, ...]:
    """Names cut so that they stay distinct, for narrow columns.

    Example:
        >>> short_names(("Mass", "Pneumonia", "Pneumothorax"))
        ('Mass', 'Pneumon.', 'Pneumot.')
    """
    out = []
    for name in names:
        others = [n for n in names if n != name]
        size = next((k for k in range(least, len(name)) if not any(n[:k] == name[:k] for n in others)), len(name))
        out.append(name if len(name) <= size + 1 else name[:size] + ".")
    return tuple(out)


def text_table(
    results: Iterable[Result],
    quantity: str = "accuracy_iou",
    threshold: float = 0.3,
    controls: Collection[str] = (),
    intervals: Intervals = "summary",
) -> str:
    """A table for the terminal: aligned columns, findings' names cut short, controls and papers below a rule.

    Raises:
        ValueError: two Results with different values claim the same cell.

    Example:
        >>> one = Result("wang2017", "cam", "", "phantom", "mean", "accuracy_iou", 0.3, "fixed", 0.31, 0.25, 0.38, 9)
        >>> print(text_table([one]))
        method  policy  mean
        cam     fixed   0.31 [.25, .38]
    """
    table, bare = measured(pivot(results, quantity, threshold, controls))
    groups = grouped(table)
    grid = [list(_heading(table, short_names(table.columns)))]
    grid += [row for group in groups for row in _grid(table, group, intervals)]
    widths = [max(len(row[k]) for row in grid) for k in range(len(grid[0]))]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in grid]
    rule = "-" * max(len(line) for line in lines)
    at = 1
    for group in groups[:-1]:
        at += len(group)
        lines.insert(at, rule)
        at += 1
    return "\n".join(lines + _told_below(table, bare))


def markdown_table(
    results: Iterable[Result],
    quantity: str = "accuracy_iou",
    threshold: float = 0.3,
    controls: Collection[str] = (),
    intervals: Intervals = "all",
) -> str:
    """The same table in Markdown; controls are set in italics, a column's best value in bold.

    Raises:
        ValueError: two Results with different values claim the same cell.

    Example:
        >>> one = Result("wang2017", "cam", "", "phantom", "mean", "accuracy_iou", 0.3, "fixed", 0.31, 0.25, 0.38, 9)
        >>> print(markdown_table([one]))
        | method | policy | mean (n=9) |
        |:--|:--|--:|
        | cam | fixed | 0.31 [.25, .38] |
    """
    table, bare = measured(pivot(results, quantity, threshold, controls))
    names = [c if n is None else f"{c} (n={n})" for c, n in zip(table.columns, table.counts, strict=True)]
    heading = _heading(table, names)
    lines = [_markdown_row(heading), "|" + "|".join([":--"] * (len(heading) - len(names)) + ["--:"] * len(names)) + "|"]
    for group in grouped(table):
        lines += [_markdown_row(row) for row in _grid(table, group, intervals, markdown=True)]
    below = _told_below(table, bare)
    return "\n".join([*lines, *([""] if below else []), *below])


def measured(table: Pivot) -> tuple[Pivot, tuple[str, ...]]:
    """The table without the columns in which nothing was measured, n = 0 throughout; and these columns' names.

    A table that has no other columns stays as it is.
    """
    cells = [[row.cells[k] for row in table.rows] for k in range(len(table.columns))]
    kept = [
        k for k, column in enumerate(cells) if any(c is not None and (c.n or not math.isnan(c.value)) for c in column)
    ]
    if not kept or len(kept) == len(cells):
        return table, ()
    rows = tuple(replace(row, cells=tuple(row.cells[k] for k in kept)) for row in table.rows)
    columns, counts = tuple(table.columns[k] for k in kept), tuple(table.counts[k] for k in kept)
    bare = tuple(name for name in table.columns if name not in columns)
    return replace(table, columns=columns, counts=counts, rows=rows), bare


def _told_below(table: Pivot, bare: Sequence[str]) -> list[str]:
    fewer = any(table.is_of_fewer(row, k) for row in table.rows for k, cell in enumerate(row.cells) if cell is not None)
    missing = [f"Not measured (n = 0): {', '.join(bare)}."] if bare else []
    return missing + ([f"{OF_FEWER} {OF_FEWER_TOLD}"] if fewer else [])


def grouped(table: Pivot) -> list[tuple[Row, ...]]:
    """A table's rows as methods, controls and papers; an empty group is left out."""
    ours = [r for r in table.rows if r.source != "paper"]
    groups = (
        tuple(r for r in ours if not r.is_control),
        tuple(r for r in ours if r.is_control),
        tuple(r for r in table.rows if r.source == "paper"),
    )
    return [g for g in groups if g]


def _same(a: float, b: float) -> bool:
    return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-12)


def _row(cells: Mapping[str, Result], columns: Sequence[str], controls: Collection[str]) -> Row:
    any_one = next(iter(cells.values()))
    said = [r.note.split("; ") for r in cells.values() if not math.isnan(r.value)] or [any_one.note.split("; ")]
    return Row(
        protocol=any_one.protocol,
        method=any_one.method,
        variant=any_one.variant,
        policy=any_one.policy,
        dataset=any_one.dataset,
        source=any_one.source,
        note="; ".join(part for part in said[0] if all(part in parts for parts in said)),
        is_control=any_one.method in controls,
        cells=tuple(cells.get(c) for c in columns),
        detail=any_one.detail,
    )


def _columns(results: Sequence[Result]) -> tuple[str, ...]:
    names = dict.fromkeys(r.finding for r in results)
    return (*(n for n in names if n not in SUMMARIES), *(s for s in SUMMARIES if s in names))


def _count(results: Sequence[Result], column: str) -> int | None:
    counts = {r.n for r in results if r.finding == column and r.source != "paper"}
    return counts.pop() if len(counts) == 1 else None


def _names(table: Pivot) -> list[tuple[str, ...]]:
    """What names each row, beside the protocol and data set where these differ within the table."""
    fields = [("method", [r.label for r in table.rows]), ("policy", [r.policy for r in table.rows])]
    for name, values in (("protocol", [r.protocol for r in table.rows]), ("data", [r.dataset for r in table.rows])):
        if len(set(values)) > 1:
            fields.append((name, values))
    return [tuple(name for name, _ in fields), *zip(*(values for _, values in fields), strict=True)]


def _heading(table: Pivot, columns: Sequence[str]) -> tuple[str, ...]:
    return (*_names(table)[0], *columns)


def _grid(table: Pivot, rows: Sequence[Row], intervals: Intervals, markdown: bool = False) -> list[list[str]]:
    names = dict(zip(table.rows, _names(table)[1:], strict=True))
    grid = []
    for row in rows:
        cells = [_cell(table, k, row, intervals) for k in range(len(row.cells))]
        if markdown:
            cells = [re.sub(r"^(\S+)", r"**\1**", c) if table.is_best(row, k) else c for k, c in enumerate(cells)]
        label, *rest = names[row]
        grid.append([f"*{label}*" if markdown and row.is_control else label, *rest, *cells])
    return grid


def _cell(table: Pivot, k: int, row: Row, intervals: Intervals) -> str:
    cell = row.cells[k]
    if cell is None:
        return ""
    digits = digits_of(table.quantity)
    text = number(cell.value, digits) + (OF_FEWER if table.is_of_fewer(row, k) else "")
    shown = intervals == "all" or (intervals == "summary" and table.columns[k] in SUMMARIES)
    return f"{text} {interval(cell, digits)}".rstrip() if shown else text


def _markdown_row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(c.replace("|", "\\|") for c in cells) + " |"
