"""What a table's numbers ask a reader to know, in lines that stand below it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from cxrlocus.protocols.result import Result

UNDEFINED = "undefined in"
"""What a note has of a mean from which seeds are missing: a reader must not take it for the mean of all."""


def notes(results: Iterable[Result]) -> list[str]:
    """Lines on what was measured, what a method's every row says, and what papers say beside a quantity.

    A run that was told more than labels, a control that knows boxes, numbers that are means of seeds, where printed
    numbers come from: what all rows of a method say. Who says the same shares a line. A quantity that some seeds do not
    have is named.

    Args:
        results: those of the tables.

    Example:
        >>> row = Result("p", "m", "", "nih", "mean", "iop", math.nan, "fixed", 0.5, 0.4, 0.6, 9, note="knows boxes")
        >>> notes([row])
        ['measured on: nih', 'm: knows boxes']
    """
    groups: dict[tuple[str, ...], list[Result]] = {}
    for r in results:
        of_paper = (r.detail,) if r.source == "paper" else ()
        groups.setdefault((r.source, r.method, r.variant, *of_paper), []).append(r)
    ours = dict.fromkeys(r.dataset for group in groups.values() for r in group if r.source == "ours")
    lines: dict[str, list[str]] = {}
    for group in groups.values():
        label, shared = _label(group[0]), _shared(group)
        if shared:
            lines.setdefault("; ".join(shared), []).append(label)
        for quantity in dict.fromkeys(r.quantity for r in group):
            more = [p for p in _shared([r for r in group if r.quantity == quantity]) if p not in shared]
            # Of ours, what is said of one quantity alone is mostly how it came about: rows have that.
            if more := [p for p in more if group[0].source == "paper" or UNDEFINED in p]:
                lines.setdefault("; ".join(more), []).append(f"{label} {quantity}")
    told = [f"{', '.join(dict.fromkeys(who))}: {what}" for what, who in lines.items()]
    return ([f"measured on: {', '.join(ours)}"] if ours else []) + told


def _label(r: Result) -> str:
    named = ", ".join(filter(None, (r.variant, r.detail if r.source == "paper" else "")))
    return f"{r.method} ({named})" if named else r.method


def _shared(results: Sequence[Result]) -> list[str]:
    """The parts that stand in the note of each; of those alone that have a value, if any has."""
    said = [r.note.split("; ") for r in results if not math.isnan(r.value)] or [r.note.split("; ") for r in results]
    return [part for part in said[0] if part and all(part in parts for parts in said)]
