"""What the checks say: rows of numbers, and a verdict each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from cxrlocus.metrics.bootstrap import interval, resampled_ratio
from cxrlocus.protocols.shared import patient_draws

Word = Literal["pass", "fail", "undecided"]

RESAMPLES = 1000

LEAST = 20
"""Films, or boxes, below which a check decides nothing."""


@dataclass(frozen=True)
class Row:
    """One number of a check.

    Args:
        check: "weights", "lesions" or "markers".
        subject: what was changed: a part of the network, a finding, a marker.
        quantity: what is measured.
        value: the mean; NaN where there is none.
        lo, hi: 95 % interval by resampling patients; NaN where there is none.
        n: what the mean is over (boxes, films).
    """

    check: str
    subject: str
    quantity: str
    value: float
    lo: float
    hi: float
    n: int


@dataclass(frozen=True)
class Verdict:
    """A check's outcome and why; "undecided" where there are too few films or the interval leaves it open."""

    check: str
    verdict: Word
    reason: str


def mean_row(
    check: str,
    subject: str,
    quantity: str,
    values: ArrayLike,
    patients: Sequence[str],
    *,
    counts: ArrayLike | None = None,
    seed: int = 0,
) -> Row:
    """Mean of values (B,) of films, NaN left out, with the interval of a bootstrap over their patients.

    Args:
        check: as ``Row`` has it.
        subject: likewise.
        quantity: likewise.
        values: one a film; with ``counts`` a sum, of so many.
        patients: (B,) whose films they are.
        counts: (B,) what each value is the sum over; None: 1.
        seed: of the bootstrap.

    Example:
        >>> row = mean_row("lesions", "Mass", "share", [1.0, 0.0, np.nan, 1.0], ["a", "a", "b", "c"])
        >>> round(row.value, 3), row.n, row.lo <= row.value <= row.hi
        (0.667, 3, True)
    """
    given = np.asarray(values, dtype=np.float64)
    weight = np.ones(len(given)) if counts is None else np.asarray(counts, dtype=np.float64)
    weight = np.where(np.isnan(given), 0.0, weight)
    _, unit = np.unique(np.asarray(patients, dtype=str), return_inverse=True)
    people = int(unit.max()) + 1 if len(unit) else 0
    above = np.bincount(unit, weights=np.nan_to_num(given), minlength=people)
    below = np.bincount(unit, weights=weight, minlength=people)
    draws = patient_draws(people, RESAMPLES, seed)
    samples = resampled_ratio(above, below, np.concatenate([np.ones((1, people)), draws]))
    lo, hi = interval(samples[1:])
    return Row(check, subject, quantity, float(samples[0]), float(lo), float(hi), int(weight.sum()))
