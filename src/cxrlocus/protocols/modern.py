"""Protocol modern: MaxBoxAcc and PxAP (Choe et al. 2020), the pointing game, FROC and average precision of boxes.

    MaxBoxAcc(delta) = true boxes that a box of the map at tau overlaps with IoU > delta  /  true boxes
    MaxBoxAccV2      = the mean of MaxBoxAcc at delta = .3, .5 and .7, each at its own tau
    PxAP             = sum over tau of P(tau) (R(tau) - R(tau+)), over the cells of all films together

What is not of one paper but of later practice, measured for every method alike. The reading stands in
docs/protocols/modern.md.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrlocus.data.records import Index
from cxrlocus.data.splits import kfold_of_patients
from cxrlocus.errors import ConfigError
from cxrlocus.metrics.bootstrap import interval, nanmean
from cxrlocus.metrics.localization import pixel_average_precision
from cxrlocus.prediction.store import Predictions
from cxrlocus.protocols.hits import BoxCase, accuracy_rows, box_case, mean_rows
from cxrlocus.protocols.masks import FINEST
from cxrlocus.protocols.modern_boxes import Films, counted_films, found_nothing, ranked_rows
from cxrlocus.protocols.modern_maps import PairMeasures, measure_pairs
from cxrlocus.protocols.policies import boxes_by_policy
from cxrlocus.protocols.result import Result
from cxrlocus.protocols.shared import FilmBoxes, RunLabel, auroc_rows, check_prob, chosen_rows, film_positions, joined
from cxrlocus.protocols.shared import result_row as row_of
from cxrlocus.regions.detections import Detections
from cxrlocus.regions.rules import isolated_regions
from cxrlocus.types import BoolArray, FloatArray, Policy

NAME = "modern"

IOU = (0.3, 0.5, 0.7)
"""The deltas of MaxBoxAccV2."""

TAUS = tuple(k / 100 for k in range(100))
"""Where maps are cut, from their least value (0) to their greatest (1)."""

PIXELS_OF = 224
"""A tolerance of the pointing game is in pixels of a film of so many along its longest side."""

NAN = float("nan")


@dataclass(frozen=True)
class Options:
    """How protocol modern measures.

    Args:
        tau: where maps are cut under the fixed policy, in [0, 1); for MaxBoxAcc the nearest of ``TAUS`` is taken.
        tolerances: of the pointing game, in pixels of a film of 224; 0 asks for the peak inside the box.
        films: of FROC and average precision: "boxed", those with a box of any finding, or "all" that were looked at.
        raster: cells along a film's longest side.

    Raises:
        ConfigError: one of them is not what it may be.
    """

    tau: float = 0.5
    tolerances: tuple[float, ...] = (0.0, 15.0)
    films: Films = "boxed"
    raster: int = 128

    def __post_init__(self) -> None:
        if not 0 <= self.tau < 1:
            raise ConfigError(f"tau must be in [0, 1); got {self.tau}.")
        if not self.tolerances or not all(0 <= t < PIXELS_OF for t in self.tolerances):
            raise ConfigError(f"tolerances must be at least one number in [0, {PIXELS_OF}); got {self.tolerances}.")
        if self.films not in ("boxed", "all"):
            raise ConfigError(f"films must be boxed or all; got {self.films!r}.")
        if not 1 <= self.raster <= FINEST:
            raise ConfigError(f"raster must be 1 to {FINEST} cells; got {self.raster}.")


def modern(
    found: Predictions | Detections,
    index: Index,
    *,
    prob: NDArray[np.floating] | None = None,
    label: RunLabel,
    seed: int = 0,
    resamples: int = 1000,
    sizes: NDArray[np.int64] | None = None,
    options: Options | None = None,
    masks: Path | None = None,
) -> list[Result]:
    """Measure maps, or boxes as they are given, by protocol modern.

    Args:
        found: maps, or boxes with scores; ``found.images`` are the films that were looked at.
        index: the films to evaluate on, with their boxes and labels.
        prob: (N, C), aligned with ``found.images`` and ``found.findings``; None leaves AUROC out.
        label: what the rows call the run, and the policy of tau and of the boxes that are ranked.
        seed: of the bootstrap and of the halves.
        resamples: of the bootstrap, over patients; 0 leaves intervals out. What was chosen stays as it is in each.
        sizes: (N, 2) width and height of the films of ``found``; needed for boxes.
        options: see ``Options``; None for the defaults.
        masks: a folder of exact masks, ``<film>_<finding>.png``; None: that of the index, if it is a phantom.

    Returns:
        Rows of ``maxboxacc`` at .3, .5 and .7 and of ``maxboxacc_v2``, each with ``detail`` "boxes=any" and
        "boxes=largest"; of ``pxap`` with "truth=boxes" and, where there are masks, "truth=masks"; of ``pointing`` with
        "tolerance=0" and "tolerance=15"; of ``froc`` (mean of seven rates), ``froc_sensitivity`` ("fp=0.125" ...) and
        ``average_precision`` at .3 and .5; of ``nothing_found`` (no box that meets
        a true one) and ``no_box``; and of ``auroc``. ``pxap`` and ``pointing`` of maps
        choose nothing: their policy is "fixed" whatever that of the label is. Intervals hold 95 %.

    Raises:
        PredictionsError: a film stands twice or is not in the index, ``prob`` has another shape, a map is not finite,
            or boxes come without sizes.
        DataError: a true box is empty or not finite, or "validation" of films of a single patient.
        ConfigError: ``masks`` is no folder, or ``seed`` or ``resamples`` is negative.
        ImageError: a mask cannot be read.

    Example:
        >>> from cxrlocus.data.records import Record, TruthBox
        >>> from cxrlocus.types import Findings
        >>> truth = Record("a.png", Path("a.png"), "7", boxes=(TruthBox("Mass", (0.0, 0.0, 8.0, 8.0)),))
        >>> index = Index("toy", Path("."), Findings(("Mass",)), (truth,))
        >>> boxes = [[0.0, 0.0, 8.0, 6.0], [8.0, 0.0, 16.0, 9.0]]
        >>> given = Detections(("a.png",), index.findings, [0, 0], [0, 0], boxes, [0.1, 0.9])
        >>> rows = modern(given, index, label=RunLabel("hand", "", "toy"), resamples=0, sizes=np.array([[16, 16]]))
        >>> {(r.quantity, r.detail): round(r.value, 2) for r in rows if r.finding == "Mass" and r.threshold == 0.3}
        ... # doctest: +NORMALIZE_WHITESPACE
        {('maxboxacc', 'boxes=any'): 1.0, ('maxboxacc', 'boxes=largest'): 0.0, ('froc', ''): 0.57,
         ('froc_sensitivity', 'fp=0.125'): 0.0, ('froc_sensitivity', 'fp=0.25'): 0.0,
         ('froc_sensitivity', 'fp=0.5'): 0.0, ('froc_sensitivity', 'fp=1'): 1.0, ('froc_sensitivity', 'fp=2'): 1.0,
         ('froc_sensitivity', 'fp=4'): 1.0, ('froc_sensitivity', 'fp=8'): 1.0, ('average_precision', ''): 0.5}
    """
    check_prob(prob, found)
    options = options or Options()
    nothing = Detections(
        found.images, found.findings, *(np.zeros(0, dtype=np.int64),) * 2, np.zeros((0, 4)), np.zeros(0)
    )
    case = box_case(nothing, index, label, seed, resamples)
    shares = [tolerance / PIXELS_OF for tolerance in options.tolerances]
    pairs = measure_pairs(
        found, index, case.truth, sizes=sizes, taus=TAUS, tolerances=shares, raster=options.raster, masks=masks
    )
    rows = _max_box_rows(case, pairs, index, options, seed)
    # Nothing is chosen for what follows, unless the boxes that came were.
    whole = case if isinstance(found, Detections) else replace(case, label=replace(label, policy="fixed"))
    rows += [*_pixel_rows(whole, pairs, isinstance(found, Detections)), *_pointing_rows(whole, pairs, options)]
    rows += _box_rows(found, index, case, pairs, options, seed, resamples)
    if prob is not None:
        rows += auroc_rows(NAME, found, index, prob, label, seed, resamples)
    return rows


def _max_box_rows(case: BoxCase, pairs: PairMeasures, index: Index, options: Options, seed: int) -> list[Result]:
    rows = []
    for detail, overlap in (("boxes=any", pairs.any_box), ("boxes=largest", pairs.largest_box)):
        # Each true box's hit at each tau: (taus, M) for each delta.
        every = [(overlap > delta).T for delta in IOU]
        hits, notes = [], []
        for hit in every:
            chosen, note = _chosen(hit, case, index, options.tau, seed)
            hits.append(np.take_along_axis(hit, chosen[None], axis=0)[0])
            notes.append(note)
        for delta, hit, note in zip(IOU, hits, notes, strict=True):
            rows += accuracy_rows(NAME, case, "maxboxacc", (delta,), hit[:, None], note=note, detail=detail)
        mean = np.mean(hits, axis=0)[:, None]
        told = "; ".join(f"IoU > {d:g}: {note}" for d, note in zip(IOU, notes, strict=True) if note)
        told = notes[0] if len(set(notes)) == 1 else told
        rows += mean_rows(NAME, case, "maxboxacc_v2", (NAN,), mean, case.truth, note=told, detail=detail)
    return rows


def _chosen(hit: BoolArray, case: BoxCase, index: Index, tau: float, seed: int) -> tuple[NDArray[np.int64], str]:
    """The tau (a position) that each of M true boxes is measured at, and what a note says of it.

    One tau serves all findings. Of taus that hit as many of the choosing boxes, the least.
    """
    level = np.zeros(hit.shape[1], dtype=np.int64)
    policy: Policy = case.label.policy
    if len(hit) == 1:
        return level, ""
    if policy == "fixed":
        place = int(np.abs(np.array(TAUS) - tau).argmin())
        return level + place, f"tau {TAUS[place]:g}"
    measured = case.column[case.truth.finding] >= 0
    if policy == "oracle":
        level += hit[:, measured].sum(axis=1).argmax()
        return level, f"tau {_told(level[measured])} from these test boxes"
    films = np.unique(case.truth.film)
    fold = kfold_of_patients([index.patients[i] for i in films.tolist()], 2, seed=seed)
    half = fold[np.searchsorted(films, case.truth.film)]
    for k in (0, 1):
        level[half == k] = hit[:, measured & (half != k)].sum(axis=1).argmax()
    return level, f"tau {_told(level[measured])} from the boxes of the other half of the patients"


def _told(level: NDArray[np.int64]) -> str:
    return " ".join(f"{TAUS[k]:g}" for k in np.unique(level).tolist()) or "none"


def _of(pairs: PairMeasures) -> FilmBoxes:
    return FilmBoxes(pairs.film, pairs.finding, np.zeros((len(pairs.film), 4)))


def _pixel_rows(case: BoxCase, pairs: PairMeasures, are_boxes: bool) -> list[Result]:
    rows = []
    given = "boxes filled" if are_boxes else "each map from its least value to its greatest"
    sources = [("truth=boxes", pairs.counts, pairs.counted, "films of unknown size left out")]
    if pairs.masked.any():
        sources.append(("truth=masks", pairs.mask_counts, pairs.masked, "films without a mask left out"))
    for detail, counts, there, why in sources:
        lost = int((~there).sum())
        note = joined(given, f"{lost} {why}" if lost else "")
        column = case.column[pairs.finding]
        each = [_areas(case, pairs, counts, there & (column == k)) for k in range(len(case.names))]
        n = [int((there & (column == k)).sum()) for k in range(len(case.names))]
        mean = nanmean(np.stack(each), axis=0) if each else np.full(1 + len(case.draws), NAN)
        told = f"mean of the {sum(not np.isnan(values[0]) for values in each)} findings that have boxes"
        cells = [(name, values, count, note) for name, values, count in zip(case.names, each, n, strict=True)]
        cells.append(("mean", mean, sum(n), joined(note, told)))
        cells.append(("pooled", _areas(case, pairs, counts, there), sum(n), note))
        cells += [(name, np.full(1, NAN), 0, why_not) for name, why_not in case.unmeasured]
        missing = f"{case.missing} boxed films were not looked at" if case.missing else ""
        for name, values, count, said in cells:
            ends, noted = (values[0], *interval(values[1:])), joined(case.label.note, said, missing)
            rows.append(row_of(NAME, case.label, name, "pxap", ends, count, noted, detail=detail))
    return rows


def _areas(case: BoxCase, pairs: PairMeasures, counts: NDArray[np.int64], mine: BoolArray) -> FloatArray:
    """PxAP of some pairs together, (1 + R,): with everybody once, then resampled."""
    cells = counts[mine].reshape(int(mine.sum()), counts.shape[1] * counts.shape[2]).astype(np.float64)
    weights = case.draws[:, case.patient[pairs.film[mine]]]
    sums = np.concatenate([cells.sum(axis=0)[None], weights @ cells])
    return pixel_average_precision(sums.reshape(len(sums), *counts.shape[1:]))


def _pointing_rows(case: BoxCase, pairs: PairMeasures, options: Options) -> list[Result]:
    flat = int(pairs.flat.sum())
    note = f"{flat} of {len(pairs.film)} maps without a peak: missed" if flat else ""
    return [
        row
        for k, tolerance in enumerate(options.tolerances)
        for row in mean_rows(
            NAME, case, "pointing", (NAN,), pairs.pointing[:, k : k + 1], _of(pairs), note=note,
            detail=f"tolerance={tolerance:g}",
        )
    ]  # fmt: skip


def _box_rows(
    found: Predictions | Detections,
    index: Index,
    case: BoxCase,
    pairs: PairMeasures,
    options: Options,
    seed: int,
    resamples: int,
) -> list[Result]:
    """Rows of the boxes that a data set's curves rank: the policy's, or those that came."""
    counted = counted_films(found, index, options.films)
    known = np.zeros((len(found.images), len(found.findings)), dtype=np.bool_)
    at = film_positions(found, index)
    for c, name in enumerate(found.findings):
        if name in case.names:
            known[:, c] = counted[at, index.findings.index(name)]
    note = ""
    if isinstance(found, Predictions):
        fixed = (isolated_regions(options.tau), f"height {options.tau:g}")
        policy = case.label.policy
        boxes, note = boxes_by_policy(found, index, policy, seed=seed, gate=known, fixed=fixed, rule=isolated_regions)
    else:
        boxes = chosen_rows(found, known[found.image, found.finding])
    noted = replace(case, label=replace(case.label, note=joined(case.label.note, note)))
    none, missed = found_nothing(boxes, index, pairs.film, pairs.finding)
    rows = ranked_rows(NAME, boxes, index, counted, noted.label, seed=seed, resamples=resamples)
    for quantity, value in (("nothing_found", missed), ("no_box", none)):
        rows += mean_rows(NAME, noted, quantity, (NAN,), value[:, None], _of(pairs))
    return rows
