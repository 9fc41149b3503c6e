"""Result: one number with everything needed to compare it; every table and figure is a rendering of Results."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from cxrlocus.errors import PredictionsError
from cxrlocus.files import write_text_whole


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


def write_results(path: Path, results: Iterable[Result]) -> None:
    """Write rows as a JSON list of objects; NaN becomes null.

    Raises:
        PredictionsError: the file cannot be written; one that was there stays as it is.
    """
    rows = [{k: None if isinstance(v, float) and math.isnan(v) else v for k, v in asdict(r).items()} for r in results]
    text = "[\n" + ",\n".join(json.dumps(row, allow_nan=False) for row in rows) + "\n]\n"
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
        raise PredictionsError(f"{path}: not a list of results ({error}). Write it with `evaluate --json`.") from error


def _from_row(row: dict[str, Any]) -> Result:
    values: dict[str, Any] = {k: math.nan if v is None else v for k, v in row.items()}
    return Result(**values)
