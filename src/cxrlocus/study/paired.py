"""Is one method better than another on the same films? Differences of their numbers, resampled together by patient.

Two methods' ``Measured`` of one quantity on the same films give a ``Difference`` for each finding, their mean and all
together. "Better" means that the 95 % interval of the difference excludes 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from cxrlocus.data.records import Index
from cxrlocus.errors import PredictionsError
from cxrlocus.metrics.bootstrap import interval, nanmean, resampled_ratio, share_beyond_zero
from cxrlocus.metrics.overlap import tally
from cxrlocus.protocols.result import LOWER_IS_BETTER, NEITHER_IS_BETTER, Result
from cxrlocus.protocols.shared import joined, patient_draws, true_boxes
from cxrlocus.study.measured import Measured
from cxrlocus.types import BoolArray, FloatArray

NAN = float("nan")


@dataclass(frozen=True)
class Difference:
    """One method's number minus another's.

    Args:
        first, second: the two methods' names.
        protocol, dataset, finding, quantity, threshold, policy, detail: as in ``Result``; ``quantity`` is that of the
            two numbers, ``policy`` theirs or "first's - second's".
        a, b: the two numbers, as the tables have them.
        value, lo, hi: a - b and its 95 % interval.
        share: two-sided share of resamples on the other side of 0.
        n: things that it is over.
        note: what a reader must know beside it.
    """

    first: str
    second: str
    protocol: str
    dataset: str
    finding: str
    quantity: str
    threshold: float
    policy: str
    detail: str
    a: float
    b: float
    value: float
    lo: float
    hi: float
    share: float
    n: int
    note: str = ""

    @property
    def verdict(self) -> str:
        """Whether the first is "better" or "worse" (or, of an area, "more" or "less"); "" if the interval holds 0."""
        if not (self.lo > 0 or self.hi < 0):
            return ""
        if self.quantity in NEITHER_IS_BETTER:
            return "more" if self.lo > 0 else "less"
        return "better" if (self.lo > 0) != (self.quantity in LOWER_IS_BETTER) else "worse"

    def as_result(self) -> Result:
        """As a row: quantity "..._difference", method "first - second", the share and the verdict in the note."""
        told = joined(f"{self.a:.4g} - {self.b:.4g}", f"share beyond 0: {self.share:.3g}", self.verdict, self.note)
        return Result(
            self.protocol, f"{self.first} - {self.second}", "", self.dataset, self.finding,
            f"{self.quantity}_difference", self.threshold, self.policy, self.value, self.lo, self.hi, self.n,
            note=told, detail=self.detail,
        )  # fmt: skip


def paired_differences(
    first: Measured, second: Measured, index: Index, *, seed: int = 0, resamples: int = 1000
) -> list[Difference]:
    """The first method's numbers minus the second's, with intervals over the same resamples of patients for both.

    Each number is that of the tables: of its own things where it is defined (an empty mask has no IoP), so ``a`` and
    ``b`` are what the protocol's rows say. The draws are those of the protocols under the same seed. Intervals hold no
    doubt about training: give each method's ``over_seeds``.

    Args:
        first: one method's.
        second: another's, of the same quantity, protocol and data set.
        index: the films that both were measured on.
        seed: of the bootstrap.
        resamples: of the bootstrap, over the patients that have boxes; 0 leaves intervals out.

    Returns:
        For each threshold the findings that both know, their "mean", and "pooled", all things together; then the
        findings that only one of them knows, as NaN.

    Raises:
        PredictionsError: the two are of different quantities, or not on the same films.
        ConfigError: ``seed`` or ``resamples`` is negative.

    Example:
        >>> from pathlib import Path
        >>> from cxrlocus.data.records import Record, TruthBox
        >>> from cxrlocus.types import Findings
        >>> mass = (TruthBox("Mass", (0.0, 0.0, 8.0, 8.0)),)
        >>> films = tuple(Record(f"{i}", Path(f"{i}"), f"{i}", boxes=mass) for i in range(40))
        >>> index = Index("toy", Path("."), Findings(("Mass",)), films)
        >>> thing = (np.arange(40), np.zeros(40, dtype=np.int64))
        >>> a, b = (
        ...     Measured(name, "wang2017", "toy", "fixed", "accuracy_iou", "", (0.3,), *thing,
        ...              (np.arange(40) < hits)[:, None].astype(float), ("Mass",))
        ...     for name, hits in (("one", 30), ("other", 20))
        ... )
        >>> d = paired_differences(a, b, index)[0]
        >>> d.finding, d.value, d.verdict, d.share < 0.01
        ('Mass', 0.25, 'better', True)
    """
    if first.kind != second.kind:
        raise PredictionsError(
            f"two methods are compared in one quantity; got {first.quantity} of {first.protocol} {first.detail} and "
            f"{second.quantity} of {second.protocol} {second.detail}. Measure both alike."
        )
    common = [f for f in index.findings if f in first.findings and f in second.findings]
    one, other = (measured.only(index, common) for measured in (first, second))
    if not one.has_things_of(other):
        raise PredictionsError(
            f"{first.name} and {second.name} must be measured on the same films; measure both again."
        )
    a, b, n = _samples(one, other, index, common, seed, resamples)
    rows = []
    for t, threshold in enumerate(first.thresholds):
        for k, finding in enumerate([*common, "mean", "pooled"]):
            column = index.findings.index(finding) if k < len(common) else None
            note = _undefined(one, other, column, t)
            rows.append(_difference(first, second, finding, threshold, (a[:, k, t], b[:, k, t]), n[k], note))
        for finding in (f for f in index.findings if (f in first.findings) != (f in second.findings)):
            lost = f"not compared: only {(first if finding in first.findings else second).name} knows this finding"
            rows.append(_difference(first, second, finding, threshold, (np.full(1, NAN),) * 2, 0, lost))
    return rows


def _difference(
    first: Measured,
    second: Measured,
    finding: str,
    threshold: float,
    samples: tuple[FloatArray, FloatArray],
    n: int,
    note: str,
) -> Difference:
    """From both numbers (1 + R,), with everybody once, then resampled together."""
    a, b = samples
    lo, hi = interval(a[1:] - b[1:])
    return Difference(
        first.name,
        second.name,
        first.protocol,
        first.dataset,
        finding,
        first.quantity,
        threshold,
        first.policy if first.policy == second.policy else f"{first.policy} - {second.policy}",
        first.detail,
        a=float(a[0]),
        b=float(b[0]),
        value=float(a[0] - b[0]),
        lo=float(lo),
        hi=float(hi),
        share=float(share_beyond_zero(a[1:] - b[1:])),
        n=n,
        note=note,
    )


def every_pair(methods: Sequence[Measured], index: Index, *, seed: int = 0, resamples: int = 1000) -> list[Difference]:
    """``paired_differences`` of every two methods, each with those that stand behind it.

    k methods make k (k - 1) / 2 pairs: of twenty that do not differ, one is called better or worse by chance.
    """
    pairs = combinations(methods, 2)
    return [
        row for one, other in pairs for row in paired_differences(one, other, index, seed=seed, resamples=resamples)
    ]


def difference_table(differences: Sequence[Difference], threshold: float = NAN, finding: str = "mean") -> str:
    """Differences of one threshold and finding as Markdown; a pair whose interval excludes 0 has its verdict.

    Example:
        >>> d = Difference("a", "b", "wang2017", "toy", "mean", "accuracy_iou", 0.3, "fixed", "", 0.4, 0.3, 0.1, 0.02,
        ...                0.18, 0.01, 50)
        >>> print(difference_table([d], 0.3))
        | first | second | policy | first's | second's | difference [95 %] | share beyond 0 | the first is |
        |:--|:--|:--|--:|--:|--:|--:|:--|
        | a | b | fixed | 0.400 | 0.300 | +0.100 [+0.020, +0.180] | 0.010 | better |
    """
    lines = [
        "| first | second | policy | first's | second's | difference [95 %] | share beyond 0 | the first is |",
        "|:--|:--|:--|--:|--:|--:|--:|:--|",
    ]
    for d in differences:
        if d.finding == finding and _alike(d.threshold, threshold):
            names = [text.replace("|", "\\|") for text in (d.first, d.second, d.policy)]
            ends = "" if math.isnan(d.lo) else f" [{d.lo:+.3f}, {d.hi:+.3f}]"
            value = "" if math.isnan(d.value) else f"{d.value:+.3f}{ends}"
            numbers = ["" if math.isnan(x) else f"{x:.3f}" for x in (d.a, d.b, d.share)]
            lines.append("| " + " | ".join([*names, *numbers[:2], value, numbers[2], d.verdict]) + " |")
    return "\n".join(lines)


def _alike(a: float, b: float) -> bool:
    return (math.isnan(a) and math.isnan(b)) or math.isclose(a, b)


def _samples(
    one: Measured, other: Measured, index: Index, findings: Sequence[str], seed: int, resamples: int
) -> tuple[FloatArray, FloatArray, list[int]]:
    """Both methods' numbers (1 + R, F + 2, T), with everybody once, then resampled together; and the counts."""
    films = np.unique(true_boxes(index).film)
    # Patients are numbered by name, as the protocols number them: the draws are the same.
    patients, number = np.unique([index.patients[i] for i in films.tolist()], return_inverse=True)
    unit = np.full(len(index), -1)
    unit[films] = number
    draws = np.concatenate([np.ones((1, len(patients))), patient_draws(len(patients), resamples, seed)])
    column = np.full(len(index.findings), -1)
    column[[index.findings.index(f) for f in findings]] = np.arange(len(findings))
    shape = (len(patients), len(findings))

    def numbers(measured: Measured) -> FloatArray:
        there: BoolArray = ~np.isnan(measured.value)
        where = (unit[measured.film], column[measured.finding], shape)
        above, below = tally(np.where(there, measured.value, 0.0), *where), tally(there, *where)
        each, pooled = resampled_ratio(above, below, draws), resampled_ratio(above.sum(1), below.sum(1), draws)
        return np.concatenate([each, nanmean(each, axis=1)[:, None], pooled[:, None]], axis=1)

    counts = [int((column[one.finding] == k).sum()) for k in range(len(findings))]
    return numbers(one), numbers(other), [*counts, sum(counts), sum(counts)]


def _undefined(one: Measured, other: Measured, finding: int | None, t: int) -> str:
    mine = np.ones(len(one.film), dtype=np.bool_) if finding is None else one.finding == finding
    lost = [(m.name, int(np.isnan(m.value[mine, t]).sum())) for m in (one, other)]
    return joined(*(f"undefined in {count} of {int(mine.sum())} of {name}" for name, count in lost if count))
