"""The protocol of InfoMask (Taghanaki et al. 2019): IoP, FPR and FNR of masks, accuracy and AUROC of labels.

    IoP = |M and T| / |M|      FPR = |M and not T| / |not T|      FNR = |T and not M| / |T|

M is the film's mask, T the union of its boxes of the finding. Each, and the share of the film that M covers, is
measured a film, then averaged over the films that have a box. The reading, and what the paper leaves open, stands in
docs/protocols/infomask2019.md.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cxrlocus.data.records import Index
from cxrlocus.errors import PredictionsError
from cxrlocus.metrics.bootstrap import interval, nanmean, resampled_ratio
from cxrlocus.prediction.store import Predictions
from cxrlocus.protocols.masks import Criterion, FilmMeasures, Masking, Scale, measure_masks
from cxrlocus.protocols.result import Result
from cxrlocus.protocols.shared import (
    RunLabel,
    auroc_rows,
    check_prob,
    film_positions,
    joined,
    patient_draws,
    result_row,
)
from cxrlocus.regions.detections import Detections
from cxrlocus.types import BoolArray, FloatArray

NAME = "infomask2019"

QUANTITIES = ("iop", "fpr", "fnr", "mask_area")
"""What is measured of each mask: the paper's Table 1 in its order, then the share of the film."""

CUT = 0.5
"""A film is called positive when its probability is strictly above this: the greater of two softmax outputs."""

NAN = float("nan")


def infomask2019(
    found: Predictions | Detections,
    index: Index,
    *,
    prob: NDArray[np.floating] | None = None,
    label: RunLabel,
    seed: int = 0,
    resamples: int = 1000,
    sizes: NDArray[np.int64] | None = None,
    criterion: Criterion = "fpr_fnr",
    scale: Scale | None = None,
    raster: int = 256,
    measures: FilmMeasures | None = None,
) -> list[Result]:
    """Measure maps (or boxes, filled) pixel by pixel, and probabilities if there are any, as InfoMask does.

    Args:
        found: maps to be cut under ``label.policy``, or boxes whose union is the mask.
        index: the films to evaluate on, with their boxes and labels.
        prob: (N, C), aligned with ``found.images`` and ``found.findings``; None leaves accuracy and AUROC out.
        label: what the rows call the run, and the policy of the level at which maps are cut.
        seed: of the bootstrap and of the halves.
        resamples: of the bootstrap, over patients; 0 leaves intervals out.
        sizes: (N, 2) width and height of the films of ``found``; needed for boxes.
        criterion: what a level is chosen by, see ``masks.Masking``.
        scale: what a level is a value of; None: that of the maps' kind.
        raster: cells along a film's longest side.
        measures: what ``masks.measure_masks`` says of the same films, where somebody has it already: sizes, halves,
            criterion, scale and raster are then those it was made with. None: measured here.

    Returns:
        Rows of ``iop``, ``fpr``, ``fnr`` and ``mask_area`` for each finding that has boxes, of ``accuracy``
        (threshold .5) and ``auroc`` for each finding, each with its mean of findings. Intervals hold 95 %; they are of
        the films, with the levels as chosen.

    Raises:
        PredictionsError: a film stands twice or is not in the index, ``prob`` has another shape, a map is not finite,
            boxes come without sizes, or ``measures`` were made under another policy.
        DataError: a true box is empty or not finite.
        ConfigError: an option is not what it may be.

    Example:
        >>> from pathlib import Path
        >>> from cxrlocus.data.records import Record, TruthBox
        >>> from cxrlocus.types import Findings
        >>> truth = Record("a.png", Path("a.png"), "7", boxes=(TruthBox("Mass", (0.0, 0.0, 8.0, 4.0)),))
        >>> index = Index("toy", Path("."), Findings(("Mass",)), (truth,))
        >>> boxes = Detections(("a.png",), index.findings, [0], [0], [[0.0, 0.0, 2.0, 8.0]], [1.0])
        >>> rows = infomask2019(boxes, index, label=RunLabel("hand", "", "toy"), sizes=np.array([[8, 8]]))
        >>> [(r.quantity, r.value) for r in rows if r.finding == "Mass"]
        [('iop', 0.5), ('fpr', 0.25), ('fnr', 0.75), ('mask_area', 0.25)]
    """
    check_prob(prob, found)
    if measures is None:
        measures = measure_masks(found, index, Masking(label.policy, criterion, scale, raster, seed), sizes)
    if measures.masking.policy != label.policy:
        raise PredictionsError(
            f"measures must be of the label's policy; got {measures.masking.policy!r} and {label.policy!r}. "
            "Measure again."
        )
    rows = _pixels(measures, found, index, label, seed, resamples)
    if prob is not None:
        rows += _accuracies(found, index, np.asarray(prob, dtype=np.float64), label, seed, resamples)
        rows += auroc_rows(NAME, found, index, prob, label, seed, resamples)
    return rows


def _pixels(
    measures: FilmMeasures,
    found: Predictions | Detections,
    index: Index,
    label: RunLabel,
    seed: int,
    resamples: int,
) -> list[Result]:
    boxed = [i for i, record in enumerate(index.records) if record.boxes]
    # Patients are numbered by name, so that the draws do not depend on the order of the films.
    patients, number = np.unique([index.patients[i] for i in boxed], return_inverse=True)
    unit = np.full(len(index), -1)
    unit[boxed] = number
    draws = patient_draws(len(patients), resamples, seed)
    known = np.unique(measures.finding).tolist()
    rows = []
    for quantity in QUANTITIES:
        value = getattr(measures, quantity)
        samples, n = _means(value, unit[measures.film], measures.finding, known, draws)
        for k, c in enumerate(known):
            name = index.findings.names[c]
            note = _note(measures, c, quantity, index, isinstance(found, Detections))
            rows.append(_row(label, name, quantity, NAN, samples[:, k], n[k], note))
        defined = ~np.isnan(samples[0])
        note = f"mean of the {int(defined.sum())} findings in which it is defined"
        rows.append(_row(label, "mean", quantity, NAN, nanmean(samples, axis=1), sum(n), note))
        strange = sorted({b.finding for r in index.records for b in r.boxes} - set(found.findings))
        unknown = "not measured: the predictions do not know this finding"
        rows += [_row(label, name, quantity, NAN, np.full(1, NAN), 0, unknown) for name in strange]
    return rows


def _means(
    value: FloatArray, unit: NDArray[np.int64], finding: NDArray[np.int64], known: list[int], draws: FloatArray
) -> tuple[FloatArray, list[int]]:
    """Means (1 + R, F) over the films in which a measure is defined, with everybody once and resampled, and their n."""
    above, below = np.zeros((2, draws.shape[1], len(known)))
    there = ~np.isnan(value)
    column = np.searchsorted(known, finding[there])
    np.add.at(above, (unit[there], column), value[there])
    np.add.at(below, (unit[there], column), 1)
    once = np.ones((1, draws.shape[1]))
    n = below.sum(axis=0).astype(int).tolist()
    return resampled_ratio(above, below, np.concatenate([once, draws])), n


def _note(measures: FilmMeasures, c: int, quantity: str, index: Index, are_boxes: bool) -> str:
    """What a reader must know beside a finding's number."""
    mine = measures.finding == c
    level, value, seen = measures.level[mine], getattr(measures, quantity)[mine], measures.seen[mine]
    chosen = are_boxes | ~np.isnan(level)
    undefined = int((np.isnan(value) & chosen).sum())
    why = {"iop": "masks are empty and have no IoP", "fpr": "films are all box", "fnr": "boxes mark no cell"}
    counted = (
        (undefined, f"of {len(value)} {why.get(quantity, 'masks have no area')}"),
        (int((~seen).sum()), "boxed films were not looked at: empty masks"),
        (int((~chosen).sum()), "films not measured: no boxes of other patients to choose by"),
        (len(index) - len(value), "films without a box of it left out"),
    )
    cut = "boxes filled" if are_boxes else _levels_told(level, measures.scale, measures.masking)
    return "; ".join([cut, *(f"{count} {told}" for count, told in counted if count)])


def _levels_told(level: FloatArray, scale: str, masking: Masking) -> str:
    levels = " ".join(f"{x:.3g}" for x in np.unique(level[~np.isnan(level)])) or "none"
    source = {
        "fixed": "",
        "validation": f", chosen by {masking.criterion} on the boxes of the other half of the patients",
        "oracle": f", chosen by {masking.criterion} on these test boxes",
    }[masking.policy]
    return f"map > {levels}{' of its range' if scale == 'relative' else ''}{source}"


def _accuracies(
    found: Predictions | Detections, index: Index, prob: FloatArray, label: RunLabel, seed: int, resamples: int
) -> list[Result]:
    films = film_positions(found, index)
    patients, unit = np.unique([index.patients[i] for i in films.tolist()], return_inverse=True)
    draws = patient_draws(len(patients), resamples, seed)
    rows, samples = [], []
    for finding in (f for f in index.findings if f in found.findings):
        c = index.findings.index(finding)
        target, known = index.target[films, c] == 1, index.known[films, c]
        values = _accuracy(target, prob[:, found.findings.index(finding)], known, draws, unit)
        note = f"{int(target[known].sum())} positive films; positive is a probability > {CUT:g}, fixed beforehand"
        rows.append(_row(label, finding, "accuracy", CUT, values, int(known.sum()), note))
        samples += [values] if not math.isnan(values[0]) else []
    note = f"mean of the {len(samples)} findings in which it is defined"
    mean = nanmean(np.stack(samples or [np.full(1 + len(draws), NAN)]), axis=0)
    return [*rows, _row(label, "mean", "accuracy", CUT, mean, len(films), note)]


def _accuracy(
    target: BoolArray, score: FloatArray, known: BoolArray, draws: FloatArray, unit: NDArray[np.int64]
) -> FloatArray:
    right = ((score > CUT) == target)[known]
    above, below = np.zeros((2, draws.shape[1]))
    np.add.at(above, unit[known], right)
    np.add.at(below, unit[known], 1)
    return resampled_ratio(above, below, np.concatenate([np.ones((1, draws.shape[1])), draws]))


def _row(
    label: RunLabel, finding: str, quantity: str, threshold: float, samples: FloatArray, n: int, note: str
) -> Result:
    values = (samples[0], *interval(samples[1:]))
    return result_row(NAME, label, finding, quantity, values, n, joined(label.note, note), threshold=threshold)
