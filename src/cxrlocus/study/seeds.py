"""Several trainings of one row as one: the mean of their numbers and an interval that holds the doubt of training."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from statistics import mean, stdev

from scipy.stats import t as student

from cxrlocus.protocols.result import Result


def over_seeds(results: Sequence[Result]) -> list[Result]:
    """Rows that differ in their seed only, as one: their mean, and a 95 % t interval of it.

    One seed keeps its own interval (of patients). A seed in which the number is undefined is left out and told. What
    all seeds ask a reader to know stays in the note; n is that of the seed with the fewest.
    """
    groups: dict[tuple[object, ...], list[Result]] = {}
    for r in results:
        key = (r.protocol, r.method, r.variant, r.dataset, r.finding, r.quantity, repr(r.threshold), r.policy, r.detail)
        groups.setdefault(key, []).append(r)
    return [_merged(group) for group in groups.values()]


def _merged(group: Sequence[Result]) -> Result:
    values = [r.value for r in group if not math.isnan(r.value)]
    if len(group) == 1 or not values:
        return group[0]
    k, middle = len(values), mean(values)
    half = float(student.ppf(0.975, k - 1)) * stdev(values) / math.sqrt(k) if k > 1 else math.nan
    lost = f", undefined in {len(group) - k}" if k < len(group) else ""
    said, n = [r.note.split("; ") for r in group], sorted(r.n for r in group if not math.isnan(r.value))
    shared = [part for part in said[0] if part and all(part in parts for parts in said)]
    count = [f"n from {n[0]} to {n[-1]}"] if n[0] < n[-1] else []
    note = "; ".join([*shared, f"mean of {k} seed{'' if k == 1 else 's'}{lost}", *count])
    return replace(group[0], value=middle, lo=middle - half, hi=middle + half, n=n[0], note=note)
