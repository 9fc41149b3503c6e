"""Policy against method: by how much each main number moves with what, a line a quantity."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from cxrlocus.metrics.effects import effect_of, means_of, order_agreement
from cxrlocus.protocols.result import LOWER_IS_BETTER, Result, label_of
from cxrlocus.report.compare import COLUMNS, MAIN, Column
from cxrlocus.report.tables import number
from cxrlocus.types import Policy

HEADINGS = (
    "quantity", "two methods, fixed", "two methods, validation", "fixed and validation", "validation and oracle",
    "two seeds", "order, fixed and validation", "order, this and the first",
)  # fmt: skip


def effects_table(
    seeds: Mapping[Policy, Sequence[Result]], methods: Collection[str], columns: Sequence[Column] = COLUMNS
) -> str:
    """A line a quantity as Markdown: mean absolute differences of two, then Spearman's correlations of orders.

    What a policy does not act on stands under "fixed" alone, or is the same under each. Orders, the best first, are set
    against the first column's under "validation", or "fixed" where there is nothing else.

    Args:
        seeds: by policy the rows of each seed, controls left out.
        methods: names of those that count.
        columns: the quantities.

    Example:
        >>> rows = [Result("wang2017", m, "", "d", "mean", "accuracy_iou", 0.3, "fixed", v, math.nan, math.nan, 9)
        ...         for m, v in (("cam", 0.3), ("cam", 0.4), ("yao2018", 0.2))]
        >>> print(effects_table({"fixed": rows}, ["cam", "yao2018"], COLUMNS[:1]).splitlines()[-1][:24])
        | Acc IoU > .3 | 0.150 |
    """
    lines = ["| " + " | ".join(HEADINGS) + " |", "|:--" + "|--:" * (len(HEADINGS) - 1) + "|"]
    first: dict[str, float] = {}
    for column in columns:
        values = _values(seeds, methods, column)
        if not values:
            continue
        sign = -1 if column.quantity in LOWER_IS_BETTER else 1
        means = {name: sign * m.get("validation", m.get("fixed", math.nan)) for name, m in means_of(values).items()}
        first = first or means
        effect = effect_of(values)
        cells = [
            *(number(effect.methods.get(policy, math.nan), 3) for policy in ("fixed", "validation")),
            *(number(difference, 3) for difference in effect.policies.values()),
            number(effect.seeds, 3),
            number(effect.orders["fixed", "validation"]),
            number(order_agreement(means, first)),
        ]
        lines.append(f"| {column.heading} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def above_controls(seeds: Sequence[Result], controls: Sequence[Result], column: Column = MAIN) -> list[str]:
    """The methods that are above every control but the one that is drawn by the truth, with each of their seeds.

    Args:
        seeds: the rows of each seed.
        controls: the rows of controls.
        column: the quantity.
    """
    bar = max(
        (r.value for r in controls if column.holds(r) and r.policy != "oracle" and not math.isnan(r.value)),
        default=-math.inf,
    )
    least: dict[str, float] = {}
    for r in (r for r in seeds if column.holds(r)):
        name = label_of(r.method, r.variant)
        least[name] = min(-math.inf if math.isnan(r.value) else r.value, least.get(name, math.inf))
    return [name for name, value in least.items() if value > bar]


def _values(
    seeds: Mapping[Policy, Sequence[Result]], methods: Collection[str], column: Column
) -> dict[str, dict[Policy, list[float]]]:
    out: dict[str, dict[Policy, list[float]]] = {}
    for policy, results in seeds.items():
        for r in results:
            name = label_of(r.method, r.variant)
            if name in methods and column.holds(r):
                out.setdefault(name, {}).setdefault(policy, []).append(r.value)
    return out
