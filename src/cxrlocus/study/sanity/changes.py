"""How maps change when a film does: a planted lesion must draw them, a marker must not."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrlocus.data.phantom.planting import Planted
from cxrlocus.metrics.bootstrap import nanmean
from cxrlocus.prediction.predict import explain_pixels
from cxrlocus.regions.shares import on_unit_square
from cxrlocus.study.sanity.rows import LEAST, Row, Verdict, mean_row
from cxrlocus.types import BoolArray, FloatArray, Localizer

LESIONS, MARKERS = "lesions", "markers"

RISES = 0.75
"""Share of films in which the map must rise more within a planted lesion's box than beside it."""

DRAWN = 0.05
"""Share of maps whose peak may come to lie on a marker: certainly some, and more than this, is a fail."""

DRAWN_OF_ONE = 0.2
"""The same of one finding's maps alone: a marker that goes with one label is a shortcut to that label."""

STANDS_OUT = 0.5
"""By how many of its own standard deviations a map may rise on a marker, beyond what it rises elsewhere."""

OF_EACH = ONE_DRAWN, ONE_PROBABILITY = "peak drawn, ", "probability, "
"""What begins the quantities that a marker has once a finding."""

_CELLS = 64
_BATCH = 16


@dataclass(frozen=True)
class Looks:
    """What a localizer says of B films: prob (B, C), maps (B, C, g, g) on the film's square (NaN: not reached).

    ``reach`` is half a cell of its own grid, in sides of the film: a map cannot tell places nearer than that.
    """

    prob: FloatArray
    maps: NDArray[np.float32]
    reach: float

    def of(self, films: Sequence[int]) -> Looks:
        """Some of the films."""
        return Looks(self.prob[list(films)], self.maps[list(films)], self.reach)


def look_at(localizer: Localizer, films: Sequence[NDArray[np.uint8]]) -> Looks:
    """Look at films (S, S) as the localizer wants them; maps come back from their own frames to the film's square."""
    square = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    prob, maps, reach = [], [], 0.5 / _CELLS
    for start in range(0, len(films), _BATCH):
        some = np.stack(films[start : start + _BATCH])
        said = explain_pixels(localizer, some, np.tile(square, (len(some), 1, 1)))
        raw = said.maps.float().numpy()
        reach = max(0.5 / _CELLS, 0.5 / min(raw.shape[2:]))
        prob.append(said.prob.double().numpy())
        maps += [[on_unit_square(m, said.frames[i], (1, 1), _CELLS) for m in raw[i]] for i in range(len(some))]
    return Looks(np.concatenate(prob), np.array(maps, dtype=np.float32), reach)


def boxes_of(planted: Sequence[Planted], reach: float) -> BoolArray:
    """Which cells (B, g, g) have their centre in the planted box, grown by ``reach`` on each side."""
    centre = (np.arange(_CELLS) + 0.5) / _CELLS
    unit = np.array([one.box for one in planted]) / np.array([[one.pixels.shape[0]] for one in planted])
    x0, y0, x1, y1 = (unit.T + np.array([[-reach], [-reach], [reach], [reach]]))[:, :, None]
    across, down = (centre >= x0) & (centre < x1), (centre >= y0) & (centre < y1)
    return np.asarray(down[:, :, None] & across[:, None, :])


def lesion_rows(
    finding: str,
    before: Looks,
    after: Looks,
    column: int,
    planted: Sequence[Planted],
    patients: Sequence[str],
    seed: int,
) -> list[Row]:
    """What the map of a finding makes of the finding planted into B films without any.

    Returns:
        Rows of

        * "rises": share of films in which it rises more within the box than beside it (means);
        * "peak of change": share in which the place where it rises most lies in the box;
        * "peak of change, control": the same with the box of another film's lesion;
        * "peak of change, gain": the one less the other, paired;
        * "peak before", "peak after": share in which the map's own peak lies there, without the lesion and with it;
        * "rise": the mean rise within the box less that beside it, in standard deviations of the map before;
        * "probability": change of the finding's probability.
    """
    old, new = before.maps[:, column], after.maps[:, column]
    inside = boxes_of(planted, before.reach)
    within, beside = _means(new - old, inside)
    hit, missed = _peak_in(new - old, inside), _peak_in(new - old, np.roll(inside, 1, axis=0))
    quantities = {
        "rises": np.where(np.isnan(within - beside), np.nan, within > beside),
        "peak of change": hit,
        "peak of change, control": missed,
        "peak of change, gain": hit - missed,
        "peak before": _peak_in(old, inside),
        "peak after": _peak_in(new, inside),
        "rise": _in_spreads(within - beside, old),
        "probability": after.prob[:, column] - before.prob[:, column],
        "grey levels added": np.array([one.brighter for one in planted]),
    }
    return [mean_row(LESIONS, finding, q, values, patients, seed=seed) for q, values in quantities.items()]


def judge_lesions(rows: Sequence[Row]) -> Verdict:
    """Pass if every planted finding draws its map there; the findings that do not are named.

    A finding does when "rises" is at least ``RISES`` and "peak of change, gain" is certainly above 0.
    """
    by = {(row.subject, row.quantity): row for row in rows}
    findings = list(dict.fromkeys(row.subject for row in rows))
    few = [f for f in findings if by[f, "rises"].n < LEAST]
    if not findings or few:
        return Verdict(LESIONS, "undecided", f"fewer than {LEAST} films with {', '.join(few) or 'a lesion'} planted")
    if one := [f for f in findings if math.isnan(by[f, "peak of change, gain"].lo)]:
        return Verdict(LESIONS, "undecided", f"the films with {', '.join(one)} planted are all of one patient")
    blind = [f for f in findings if not (by[f, "rises"].value >= RISES and by[f, "peak of change, gain"].lo > 0)]
    told = "; ".join(
        f"{f}: rises there in {by[f, 'rises'].value:.0%}, most there in {by[f, 'peak of change'].value:.0%} "
        f"(control {by[f, 'peak of change, control'].value:.0%})"
        for f in blind or findings
    )
    return Verdict(LESIONS, "fail" if blind else "pass", f"{'not drawn to ' if blind else ''}{told}")


def marker_rows(
    marker: str, before: Looks, after: Looks, names: Sequence[str], planted: Sequence[Planted],
    patients: Sequence[str], seed: int,
) -> list[Row]:  # fmt: skip
    """What the maps of all findings make of a marker stamped on B films without a finding.

    Returns:
        Rows, over all findings, of

        * "peak drawn": share of maps whose peak lies on the marker, less the share for which it lay there before;
        * "peak drawn, NAME" for each finding: the same of its maps alone;
        * "stands out": the mean rise on the marker less that elsewhere, in standard deviations of the map before;
        * "change elsewhere": the mean size of the change beside the marker, in the same;
        * "probability, NAME" for each finding: change of its probability.
    """
    inside = boxes_of(planted, before.reach)
    findings = range(len(names))
    change = after.maps - before.maps
    means = [_means(change[:, c], inside) for c in findings]
    drawn = [_peak_in(after.maps[:, c], inside) - _peak_in(before.maps[:, c], inside) for c in findings]
    out = [_in_spreads(within - beside, before.maps[:, c]) for c, (within, beside) in enumerate(means)]
    away = [_in_spreads(_means(np.abs(change[:, c]), inside)[1], before.maps[:, c]) for c in findings]
    quantities = {
        "peak drawn": np.mean(drawn, axis=0),
        **{f"{ONE_DRAWN}{name}": drawn[c] for c, name in enumerate(names)},
        "stands out": nanmean(out, axis=0),
        "change elsewhere": nanmean(away, axis=0),
        **{f"{ONE_PROBABILITY}{name}": after.prob[:, c] - before.prob[:, c] for c, name in enumerate(names)},
    }
    return [mean_row(MARKERS, marker, q, values, patients, seed=seed) for q, values in quantities.items()]


def judge_markers(rows: Sequence[Row]) -> Verdict:
    """Fail if a marker certainly draws maps, of all findings or of one; those that it draws are named.

    "peak drawn" above ``DRAWN``, or that of one finding above ``DRAWN_OF_ONE``, with an interval above 0; or the
    interval of "stands out" above ``STANDS_OUT``.
    """
    by = {(row.subject, row.quantity): row for row in rows}
    markers = list(dict.fromkeys(row.subject for row in rows))
    if not markers or any(by[m, "peak drawn"].n < LEAST for m in markers):
        return Verdict(MARKERS, "undecided", f"fewer than {LEAST} films to stamp a marker on")
    if any(math.isnan(by[m, "peak drawn"].lo) for m in markers):
        return Verdict(MARKERS, "undecided", "the films to stamp a marker on are all of one patient")

    taken = [r for r in rows if r.quantity.startswith(ONE_DRAWN) and r.lo > 0 and r.value > DRAWN_OF_ONE]
    alone = {m: [r for r in taken if r.subject == m] for m in markers}

    def draws(marker: str) -> bool:
        peak, out = by[marker, "peak drawn"], by[marker, "stands out"]
        return (peak.lo > 0 and peak.value > DRAWN) or out.lo > STANDS_OUT or bool(alone[marker])

    drawing = [m for m in markers if draws(m)]
    told = "; ".join(
        f"{m}: {by[m, 'peak drawn'].value:+.0%} of peaks, {by[m, 'stands out'].value:+.2f} standard deviations"
        + "".join(f", {r.value:+.0%} of peaks of {r.quantity.removeprefix(ONE_DRAWN)}" for r in alone[m])
        for m in drawing or markers
    )
    return Verdict(MARKERS, "fail" if drawing else "pass", f"{'drawn to ' if drawing else ''}{told}")


def _means(values: NDArray[np.float32], inside: BoolArray) -> tuple[FloatArray, FloatArray]:
    """Mean of maps (B, g, g) within and beside a box, each (B,); NaN where the map reaches no cell of it."""
    there = ~np.isnan(values)
    known = np.where(there, values, np.float32(0)).astype(np.float64)

    def mean(part: BoolArray) -> FloatArray:
        count = part.sum(axis=(1, 2)).astype(np.float64)
        total = np.where(part, known, 0.0).sum(axis=(1, 2))
        return np.asarray(np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0))

    return mean(inside & there), mean(~inside & there)


def _peak_in(values: NDArray[np.float32], inside: BoolArray) -> FloatArray:
    """1 for each map (B, g, g) whose greatest value is in the box and nowhere else, else 0; a flat map has no peak."""
    top = np.where(np.isnan(values), -np.inf, values)
    within = np.where(inside, top, -np.inf).max(axis=(1, 2))
    beside = np.where(inside, -np.inf, top).max(axis=(1, 2))
    return np.asarray(within > beside, dtype=np.float64)


def _in_spreads(values: FloatArray, maps: NDArray[np.float32]) -> FloatArray:
    """Values (B,) in standard deviations of maps (B, g, g); NaN for a map that has none."""
    there = ~np.isnan(maps)
    count = np.maximum(there.sum(axis=(1, 2)), 1)
    known = np.where(there, maps, np.float32(0)).astype(np.float64)
    mean = known.sum(axis=(1, 2)) / count
    spread = np.sqrt(np.where(there, (known - mean[:, None, None]) ** 2, 0.0).sum(axis=(1, 2)) / count)
    flat = spread <= 1e-6 * np.maximum(np.abs(mean), 1e-30)
    return np.asarray(np.divide(values, spread, out=np.full(len(values), np.nan), where=~flat))
