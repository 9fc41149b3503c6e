"""Published numbers as Results with source "paper", so that every table can set them beside ours."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cxrlocus.protocols.result import Result
from cxrlocus.types import BOXED8, NIH14

BOX_COUNTS: dict[str, int] = {
    "Atelectasis": 180, "Cardiomegaly": 146, "Effusion": 153, "Infiltration": 123,
    "Mass": 85, "Nodule": 79, "Pneumonia": 120, "Pneumothorax": 98,
}  # fmt: skip
"""Boxes of NIH ChestX-ray14's official list, by finding: 984 in all, one a film and finding."""

_TABLE = Path(__file__).with_name("published.json")
_VOCABULARIES = {"boxed8": BOXED8.names, "nih14": NIH14.names, "pneumonia": ("Pneumonia",)}
_COMPUTED = "mean computed from the row, the paper prints none"


def published_results(protocol: str | None = None) -> list[Result]:
    """Printed numbers on NIH ChestX-ray14 and RSNA, as Results with source "paper" and the citation in their note.

    A mean is the printed one where the paper prints it; else it is the mean of the printed row and its note says so;
    a table of one finding, or of some of its paper's findings, has none. Intervals are NaN (none is printed). ``n`` is
    the number of boxes of NIH's official list, 0 where a paper does not say how many films a number stands for.

    Args:
        protocol: only the tables that were measured by it, e.g. "wang2017"; None for all of them.

    Raises:
        ValueError: no published table belongs to that protocol.

    Example:
        >>> table = published_results("wang2017")
        >>> [r.value for r in table if (r.quantity, r.threshold, r.finding) == ("accuracy_iou", 0.3, "Nodule")]
        [0.0379]
    """
    tables = _tables()
    protocols = sorted({t["protocol"] for t in tables})
    if protocol is not None and protocol not in protocols:
        raise ValueError(f"protocol must be one of {', '.join(protocols)}; got {protocol!r}.")
    return [r for t in tables if protocol in (None, t["protocol"]) for r in _results(t)]


def _tables() -> list[dict[str, Any]]:
    """The printed tables, one a quantity: those that share the rest stand together in the file."""
    tables: list[dict[str, Any]] = json.loads(_TABLE.read_text(encoding="utf-8"))
    return [
        {**t, **part, "quantity": q, "note": "; ".join(filter(None, (t["note"], part.get("note"))))}
        for t in tables
        for q, part in t.get("quantities", {t.get("quantity"): {}}).items()
    ]


def _results(table: Mapping[str, Any]) -> list[Result]:
    named = table["findings"]
    findings = _VOCABULARIES[named] if isinstance(named, str) else named
    rows: Mapping[str, Sequence[float]] = table["rows"]
    # Null: a mean of these findings would be one of nothing in particular.
    means, has_mean = table["means"] or {}, table["means"] is not None and len(findings) > 1
    out = []
    for at in dict.fromkeys((*rows, *means)):
        values = dict(zip(findings, rows[at], strict=True)) if at in rows else {}
        out += [_result(table, at, finding, value) for finding, value in values.items()]
        if at in means:
            out.append(_result(table, at, "mean", means[at]))
        elif has_mean:
            out.append(_result(table, at, "mean", math.fsum(values.values()) / len(values), _COMPUTED))
    return out


def _result(table: Mapping[str, Any], at: str, finding: str, value: float, remark: str = "") -> Result:
    # Wang et al. count false positives over all boxes, Cai et al. over the finding's own.
    all_boxes = finding == "mean" or (table["quantity"] == "afp" and table["method"] == "wang2017")
    dataset = table.get("dataset", "nih")
    boxes = sum(BOX_COUNTS.values()) if all_boxes else BOX_COUNTS.get(finding, 0)
    return Result(
        protocol=table["protocol"],
        method=table["method"],
        variant=table["variant"],
        dataset=dataset,
        finding=finding,
        quantity=table["quantity"],
        threshold=float(at) if at else math.nan,
        policy=table["policy"],
        value=float(value),
        lo=math.nan,
        hi=math.nan,
        n=0 if table["quantity"] == "auroc" or dataset != "nih" else boxes,
        source="paper",
        note="; ".join(part for part in (table["citation"], table["note"], remark) if part),
        detail=table.get("detail", ""),
    )
