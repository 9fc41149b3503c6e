"""What moves a number: the method, the policy, or the seed, as mean differences of two; and whether orders agree."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import spearmanr

from cxrlocus.types import Policy

Values = Mapping[str, Mapping[Policy, Sequence[float]]]
"""Of one quantity: by method and policy a number a seed. Undefined ones are left out."""

POLICY_PAIRS: tuple[tuple[Policy, Policy], ...] = (("fixed", "validation"), ("validation", "oracle"))
"""Policies that are set against each other."""


@dataclass(frozen=True)
class Effect:
    """By how much one quantity moves with what; NaN where there are no two to compare.

    Args:
        methods: by policy, two methods under it, each its mean over seeds.
        policies: one method under the two policies.
        seeds: one method under one policy, in two trainings.
        orders: Spearman's correlation of the methods' orders under the two policies.
    """

    methods: Mapping[Policy, float]
    policies: Mapping[tuple[Policy, Policy], float]
    seeds: float
    orders: Mapping[tuple[Policy, Policy], float]


def effect_of(values: Values) -> Effect:
    """Mean absolute differences of two methods, two policies and two seeds.

    Example:
        >>> effect = effect_of({"a": {"fixed": [0.2, 0.4], "validation": [0.5]}, "b": {"fixed": [0.4]}})
        >>> {policy: round(value, 2) for policy, value in effect.methods.items()}
        {'fixed': 0.1, 'validation': nan}
        >>> round(effect.policies["fixed", "validation"], 2), round(effect.seeds, 2)
        (0.2, 0.2)
    """
    means = means_of(values)
    under = dict.fromkeys(policy for by_policy in means.values() for policy in by_policy)
    seeds = [
        abs(a - b)
        for by_policy in values.values()
        for numbers in by_policy.values()
        for a, b in combinations(_defined(numbers), 2)
    ]
    return Effect(
        {p: mean_difference(list(_under(means, p).values())) for p in under},
        {(p, q): _mean([abs(m[p] - m[q]) for m in means.values() if p in m and q in m]) for p, q in POLICY_PAIRS},
        _mean(seeds),
        {(p, q): order_agreement(_under(means, p), _under(means, q)) for p, q in POLICY_PAIRS},
    )


def means_of(values: Values) -> dict[str, dict[Policy, float]]:
    """The mean over seeds of each method under each policy, where it is defined.

    Example:
        >>> means_of({"a": {"fixed": [0.25, 0.75], "oracle": [math.nan]}})
        {'a': {'fixed': 0.5}}
    """
    return {
        name: {policy: _mean(_defined(numbers)) for policy, numbers in by_policy.items() if _defined(numbers)}
        for name, by_policy in values.items()
    }


def mean_difference(values: Sequence[float]) -> float:
    """Mean absolute difference of two of the values (Gini's); NaN of fewer than two.

    Example:
        >>> round(mean_difference([0.1, 0.2, 0.4]), 2)
        0.2
    """
    return _mean([abs(a - b) for a, b in combinations(values, 2)])


def order_agreement(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Spearman's rank correlation over the names that both have; NaN of fewer than three, or where one is constant.

    Example:
        >>> order_agreement({"a": 1, "b": 2, "c": 3}, {"a": 0.3, "b": 0.2, "c": 0.1, "d": 9})
        -1.0
    """
    names = [name for name in one if name in other]
    a, b = [one[name] for name in names], [other[name] for name in names]
    if len(names) < 3 or len(set(a)) == 1 or len(set(b)) == 1:
        return math.nan
    # Ranks that agree wholly shall say 1, not 1 less a rounding error.
    return round(float(spearmanr(a, b).statistic), 12)


def _under(means: Mapping[str, Mapping[Policy, float]], policy: Policy) -> dict[str, float]:
    return {name: m[policy] for name, m in means.items() if policy in m}


def _defined(numbers: Sequence[float]) -> list[float]:
    return [number for number in numbers if not math.isnan(number)]


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else math.nan
