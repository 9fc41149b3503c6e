"""What pairs of methods are made of, kept beside a cell's results: its hits box by box, its masks film by film."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np

from cxrlocus.data.records import Index
from cxrlocus.errors import PredictionsError
from cxrlocus.files import write_text_whole
from cxrlocus.protocols.shared import RunLabel
from cxrlocus.study.measured import Measured, accuracy_of, masks_of
from cxrlocus.study.score import Scored
from cxrlocus.types import Policy

COMPARED_IOU = (0.3, 0.5)
"""T of the accuracies in which methods are compared."""

MASK = "mask_dice"
"""The quantity of masks in which methods are compared."""


def measured_of(scored: Scored, index: Index, name: str) -> list[Measured]:
    """What one method or control is compared in: accuracy of its boxes as ``wang2017`` counts, DICE of its masks.

    Args:
        scored: by protocols "wang2017" and "infomask2019" under one policy; the rest is left out.
        index: the films it was scored on.
        name: what the tables call it.
    """
    label = RunLabel(name, "", index.dataset, cast(Policy, scored.results[0].policy))
    out = []
    if scored.detections is not None:
        out.append(accuracy_of(scored.detections, index, label, thresholds=COMPARED_IOU))
    if scored.films is not None:
        out.append(masks_of(scored.films, index, label, MASK))
    return out


def write_measured(path: Path, measured: Sequence[Measured]) -> None:
    """Write them as JSON; NaN becomes null.

    Raises:
        PredictionsError: the file cannot be written.
    """
    rows = [
        {k: _plain(v) if isinstance(v, np.ndarray | tuple) else v for k, v in asdict(one).items()} for one in measured
    ]
    write_text_whole(path, json.dumps(rows, allow_nan=False) + "\n", PredictionsError)


def read_measured(path: Path) -> list[Measured]:
    """Read what ``write_measured`` wrote.

    Raises:
        PredictionsError: the file is not such a list.
    """
    try:
        return [_measured(row) for row in json.loads(path.read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise PredictionsError(f"{path}: not what a study measured ({error}). Delete it; it is made again.") from error


def _plain(values: object) -> object:
    """Lists in lists, None for NaN."""
    if isinstance(values, np.ndarray):
        values = values.tolist()
    if isinstance(values, list | tuple):
        return [_plain(value) for value in values]
    return None if isinstance(values, float) and math.isnan(values) else values


def _measured(row: dict[str, Any]) -> Measured:
    thresholds = tuple(math.nan if t is None else float(t) for t in row["thresholds"])
    whole = {name: np.array(row[name], dtype=np.int64) for name in ("film", "finding")}
    value = np.array(row["value"], dtype=np.float64).reshape(-1, len(thresholds))
    return Measured(**{**row, **whole, "value": value, "thresholds": thresholds, "findings": tuple(row["findings"])})
