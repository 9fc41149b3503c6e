"""Who is better than whom, a line a method: its paired differences with every other, in words."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from cxrlocus.study.paired import Difference


@dataclass(frozen=True)
class Standing:
    """A method among the others, in one quantity.

    Args:
        name: the method's.
        value: its number.
        better, worse: the others that it is certainly better (worse) than: the interval of the difference excludes 0.
        open: those that it cannot be told from.
    """

    name: str
    value: float
    better: tuple[str, ...]
    worse: tuple[str, ...]
    open: tuple[str, ...]


def standings(
    differences: Sequence[Difference], quantity: str, threshold: float, controls: Collection[str] = ()
) -> list[Standing]:
    """Every method's standing by the mean over findings, the greatest number first; controls stand as others only.

    Args:
        differences: of pairs, each once.
        quantity: which.
        threshold: which.
        controls: names of those that are controls.

    Example:
        >>> d = Difference("a", "b", "wang2017", "toy", "mean", "accuracy_iou", 0.3, "fixed", "", 0.4, 0.3, 0.1, 0.02,
        ...                0.18, 0.01, 50)
        >>> [(s.name, s.better, s.worse) for s in standings([d], "accuracy_iou", 0.3)]
        [('a', ('b',), ()), ('b', (), ('a',))]
    """
    values: dict[str, float] = {}
    verdicts: dict[tuple[str, str], str] = {}
    turned = {"better": "worse", "worse": "better", "more": "less", "less": "more", "": ""}
    for d in of_mean(differences, quantity, threshold):
        values |= {d.first: d.a, d.second: d.b}
        verdicts |= {(d.first, d.second): d.verdict, (d.second, d.first): turned[d.verdict]}

    def others(name: str, *wanted: str) -> tuple[str, ...]:
        return tuple(other for other in values if verdicts.get((name, other)) in wanted)

    names = sorted(
        (n for n in values if n not in controls), key=lambda n: math.inf if math.isnan(values[n]) else -values[n]
    )
    return [
        Standing(n, values[n], others(n, "better", "more"), others(n, "worse", "less"), others(n, "")) for n in names
    ]


def of_mean(differences: Sequence[Difference], quantity: str, threshold: float) -> list[Difference]:
    """The differences of one quantity and threshold, mean over findings."""
    return [
        d
        for d in differences
        if (d.quantity, d.finding) == (quantity, "mean")
        and (math.isclose(d.threshold, threshold) or (math.isnan(d.threshold) and math.isnan(threshold)))
    ]


def standing_table(standing: Sequence[Standing], controls: Collection[str] = ()) -> str:
    """Standings as Markdown, controls in italics; of those that a method is not told from only how many there are.

    Example:
        >>> print(standing_table([Standing("a", 0.4, ("b", "centre_box"), (), ("c",))], {"centre_box"}))
        | method | mean | better than | worse than | not told from |
        |:--|--:|:--|:--|--:|
        | a | 0.400 | b, *centre_box* |  | 1 |
    """

    def told(names: Sequence[str]) -> str:
        return ", ".join(f"*{name}*" if name in controls else name for name in names)

    lines = ["| method | mean | better than | worse than | not told from |", "|:--|--:|:--|:--|--:|"]
    for s in standing:
        value = "" if math.isnan(s.value) else f"{s.value:.3f}"
        lines.append(f"| {s.name} | {value} | {told(s.better)} | {told(s.worse)} | {len(s.open)} |")
    return "\n".join(lines)
