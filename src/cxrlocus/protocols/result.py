"""Result: one number with everything needed to compare it; every table and figure is a rendering of Results."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from cxrlocus.errors import PredictionsError
from cxrlocus.files import write_text_whole

LOWER_IS_BETTER = ("afp", "afp_labelled", "afp_iobb", "fpr", "fnr", "nothing_found", "no_box")
"""Quantities of which a smaller value is the better one."""

NEITHER_IS_BETTER = ("mask_area",)
"""Quantities that say what a mask is like, not how good it is: no value is set bold."""


@dataclass(frozen=True)
class Result:
    """One tidy row.

    Args:
        protocol: e.g. "wang2017".
        method: e.g. "cam", or a control such as "centre_box".
        variant: the method's variant, "" if it has none.
        dataset: e.g. "nih", "phantom".
        finding: a finding, or "mean" (of the findings), or "pooled" (all boxes together).
        quantity: e.g. "accuracy_iou", "accuracy_iobb", "afp", "auroc".
        threshold: T of the quantity (an overlap, say); NaN if it has none.
        policy: where the map threshold comes from: "fixed", "validation", "oracle".
        value: the number; NaN where it is undefined.
        lo, hi: 95 % interval (patient bootstrap); NaN where there is none.
        n: how many things the value is a mean over (boxes, films).
        source: "ours" for what this software measured, "paper" for a printed number.
        note: what a reader must know beside the number ("uses boxes of other patients", say).
        detail: what else tells this quantity from others of its name, as "name=value": "tau=0.4", "capped=true",
            "boxes=one"; "" where nothing does. Like method and policy it is part of a row's identity.
    """

    protocol: str
    method: str
    variant: str
    dataset: str
    finding: str
    quantity: str
    threshold: float
    policy: str
    value: float
    lo: float
    hi: float
    n: int
    source: Literal["ours", "paper"] = "ours"
    note: str = ""
    detail: str = ""


def label_of(method: str, variant: str) -> str:
    """What a method and its variant are called.

    Example:
        >>> label_of("cam", ""), label_of("cam", "lse")
        ('cam', 'cam (lse)')
    """
    return f"{method} ({variant})" if variant else method


def named_detail(detail: str) -> dict[str, bool | float | str]:
    """A Result's ``detail`` by name: a truth value, a number, or a word; empty where there is none.

    Example:
        >>> named_detail("tau=0.4"), named_detail("capped=true"), named_detail("boxes=one"), named_detail("")
        ({'tau': 0.4}, {'capped': True}, {'boxes': 'one'}, {})
    """
    name, _, text = detail.partition("=")
    if not text:
        return {}
    if text in ("true", "false"):
        return {name: text == "true"}
    try:
        number = float(text)
    except ValueError:
        return {name: text}
    return {name: number if math.isfinite(number) else text}


def write_results(path: Path, results: Iterable[Result]) -> None:
    """Write rows as a JSON list of objects; NaN becomes null.

    What ``detail`` says also stands under its own name ("tau": 0.4), so that nobody need take it apart.

    Raises:
        PredictionsError: the file cannot be written; one that was there stays as it is.
    """
    text = "[\n" + ",\n".join(json.dumps(_as_row(r), allow_nan=False) for r in results) + "\n]\n"
    write_text_whole(path, text, PredictionsError)


def read_results(path: Path) -> list[Result]:
    """Read what ``write_results`` wrote.

    Raises:
        PredictionsError: the file is not such a list.
    """
    try:
        rows: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(rows, list):
            raise TypeError(f"it is a {type(rows).__name__}")
        return [_from_row(row) for row in rows]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise PredictionsError(
            f"{path}: not a list of results ({error}). Write it with `evaluate --json`; in a study's folder delete it, "
            "and the study measures again."
        ) from error


def _as_row(result: Result) -> dict[str, Any]:
    row = {k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(result).items()}
    return row | {k: v for k, v in named_detail(result.detail).items() if k not in row}


def _from_row(row: dict[str, Any]) -> Result:
    told = set(named_detail(row.get("detail", ""))) - {f.name for f in fields(Result)}
    values: dict[str, Any] = {k: math.nan if v is None else v for k, v in row.items() if k not in told}
    return Result(**values)
