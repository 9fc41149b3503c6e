"""One method's numbers thing by thing: every true box hit or not, every film's IoP or DICE; what pairs are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from cxrlocus.data.records import Index
from cxrlocus.errors import ConfigError, PredictionsError
from cxrlocus.metrics.bootstrap import nanmean
from cxrlocus.metrics.pixels import dice_from
from cxrlocus.prediction.store import Predictions
from cxrlocus.protocols.hits import Overlap, box_case, judge
from cxrlocus.protocols.infomask2019 import NAME as INFOMASK
from cxrlocus.protocols.kim2021 import NAME as KIM
from cxrlocus.protocols.kim2021 import ONE, SHARE
from cxrlocus.protocols.masks import FilmMeasures
from cxrlocus.protocols.policies import WANG_LEVELS, boxes_by_policy
from cxrlocus.protocols.shared import RunLabel, boxed_pairs, film_positions
from cxrlocus.protocols.wang2017 import NAME as WANG
from cxrlocus.protocols.yao2018 import NAME as YAO
from cxrlocus.protocols.yao2018 import Options, yao2018
from cxrlocus.regions.boxes import paired_iou
from cxrlocus.regions.detections import Detections
from cxrlocus.regions.rules import PeakComponent
from cxrlocus.types import FloatArray

IOU = (0.3, 0.5, 0.7)
"""T of accuracies, unless told otherwise."""

OF_FILMS = ("iop", "fpr", "fnr", "mask_area", "mask_dice")
"""What can be compared of masks film by film."""

NAN = float("nan")


@dataclass(frozen=True)
class Measured:
    """One quantity of one method, thing by thing, on the films of an index.

    Args:
        name: what the tables call the method.
        protocol, dataset, policy, quantity, detail: as in ``Result``.
        thresholds: T of them; (NaN,) for a quantity that has none.
        film, finding: (B,) positions in the index.
        value: (B, T); NaN where it is undefined.
        findings: those that the method knows.
    """

    name: str
    protocol: str
    dataset: str
    policy: str
    quantity: str
    detail: str
    thresholds: tuple[float, ...]
    film: NDArray[np.int64]
    finding: NDArray[np.int64]
    value: FloatArray
    findings: tuple[str, ...]

    @property
    def kind(self) -> tuple[object, ...]:
        """What two must have in common to be compared."""
        return (self.protocol, self.dataset, self.quantity, self.detail, tuple(map(repr, self.thresholds)))

    def has_things_of(self, other: Measured) -> bool:
        """Whether both are of one quantity on the same boxes or films, in the same order."""
        same = np.array_equal(self.film, other.film) and np.array_equal(self.finding, other.finding)
        return same and self.kind == other.kind and self.value.shape == other.value.shape

    def only(self, index: Index, findings: Sequence[str]) -> Measured:
        """The same on some findings, ordered by film and finding."""
        columns = [index.findings.index(f) for f in findings]
        kept = np.flatnonzero(np.isin(self.finding, columns))
        kept = kept[np.lexsort((self.finding[kept], self.film[kept]))]
        cut = {name: getattr(self, name)[kept] for name in ("film", "finding", "value")}
        return replace(self, findings=tuple(findings), **cut)


def accuracy_of(
    detections: Detections,
    index: Index,
    label: RunLabel,
    *,
    thresholds: Sequence[float] = IOU,
    protocol: str = WANG,
    detail: str = "",
    overlap: Overlap = paired_iou,
    quantity: str = "accuracy_iou",
) -> Measured:
    """Which true boxes some detected box hits, as ``wang2017`` and ``kim2021`` count them.

    Args:
        detections: the boxes that the protocol would compare.
        index: the films with their boxes.
        label: whose boxes they are.
        thresholds: T, to be exceeded.
        protocol: whose count this is.
        detail: as in ``Result``.
        overlap: of row i of detected boxes with row i of true ones.
        quantity: the name of the accuracy by this overlap.

    Raises:
        PredictionsError: a film stands twice, or is not in the index.
        DataError: a true box is empty or not finite.
    """
    case = box_case(detections, index, label, 0, 0)
    hit, _ = judge(case, overlap, thresholds)
    known = case.column[case.truth.finding] >= 0
    return Measured(
        label.name, protocol, label.dataset, label.policy, quantity, detail, tuple(thresholds),
        case.truth.film[known], case.truth.finding[known], hit[known].astype(np.float64), case.names,
    )  # fmt: skip


def accuracy_of_maps(
    predictions: Predictions,
    index: Index,
    label: RunLabel,
    *,
    thresholds: Sequence[float] = IOU,
    protocol: str = WANG,
    seed: int = 0,
) -> Measured:
    """``accuracy_of`` the boxes that a protocol draws on maps under ``label.policy``.

    Args:
        predictions: films x findings.
        index: the films with their boxes.
        label: whose maps they are, and the policy.
        thresholds: T, to be exceeded.
        protocol: "wang2017", or "kim2021" for one box a film and finding.
        seed: of the halves.

    Raises:
        ConfigError: the protocol is another.
        PredictionsError: a film stands twice, or is not in the index.
        DataError: a true box is empty or not finite, or "validation" of films of a single patient.
    """
    if protocol not in (WANG, KIM):
        raise ConfigError(f"protocol must be {WANG} or {KIM}; got {protocol!r}.")
    fixed = WANG_LEVELS if protocol == WANG else (PeakComponent(SHARE), "")
    gate = boxed_pairs(predictions, index)
    boxes, _ = boxes_by_policy(predictions, index, label.policy, seed=seed, gate=gate, fixed=fixed)
    detail = ONE if protocol == KIM else ""
    return accuracy_of(boxes, index, label, thresholds=thresholds, protocol=protocol, detail=detail)


def masks_of(measures: FilmMeasures, index: Index, label: RunLabel, quantity: str = "iop") -> Measured:
    """IoP, FPR, FNR, area or DICE of masks, film by film.

    The DICE of a mask follows from its IoP and FNR: 2 IoP (1 - FNR) / (IoP + 1 - FNR), 0 for an empty mask.

    Args:
        measures: what ``protocols.masks.measure_masks`` says of the films of the index.
        index: the films with their boxes.
        label: whose masks they are.
        quantity: "iop", "fpr", "fnr", "mask_area" or "mask_dice".

    Raises:
        ConfigError: the quantity is another.
    """
    if quantity not in OF_FILMS:
        raise ConfigError(f"quantity must be one of {', '.join(OF_FILMS)}; got {quantity!r}.")
    value = dice_from(measures.iop, measures.fnr) if quantity == "mask_dice" else getattr(measures, quantity)
    known = tuple(index.findings.names[c] for c in np.unique(measures.finding).tolist())
    return Measured(
        label.name, INFOMASK, label.dataset, measures.masking.policy, quantity, "", (NAN,),
        measures.film, measures.finding, np.asarray(value, dtype=np.float64)[:, None], known,
    )  # fmt: skip


def dice_of(predictions: Predictions, index: Index, label: RunLabel, options: Options | None = None) -> Measured:
    """DICE of maps and boxes film by film: protocol ``yao2018`` on one film after the other.

    Args:
        predictions: films x findings.
        index: the films with their boxes.
        label: whose maps they are.
        options: of the protocol; its taus do not matter here.

    Raises:
        PredictionsError: a film stands twice or is not in the index, or a map is not what its kind says.
    """
    # Asked for its errors alone: a film by itself cannot stand twice.
    film_positions(predictions, index)
    once = replace(options or Options(), taus=(0.5,))
    place = {name: i for i, name in enumerate(predictions.images)}
    cells = []
    for film, record in enumerate(index.records):
        if record.boxes:
            at = [place[record.image]] if record.image in place else []
            # Called otherwise, since a phantom's exact masks would be read for nothing.
            alone = replace(index.subset([film]), dataset="one film")
            rows = yao2018(_films(predictions, at), alone, label=label, resamples=0, options=once)
            there = {b.finding for b in record.boxes}
            cells += [
                (film, index.findings.index(r.finding), r.value)
                for r in rows
                if r.quantity == "dice" and r.finding in there & set(predictions.findings)
            ]
    value = np.array([v for _, _, v in cells], dtype=np.float64).reshape(-1, 1)
    film_of, finding = (np.array([cell[k] for cell in cells], dtype=np.int64) for k in (0, 1))
    known = tuple(index.findings.names[c] for c in np.unique(finding).tolist())
    return Measured(label.name, YAO, label.dataset, "fixed", "dice", "", (NAN,), film_of, finding, value, known)


def over_seeds(runs: Sequence[Measured]) -> Measured:
    """Trainings of one method that differ in their seed, as one: the mean of each thing over those that define it.

    Raises:
        PredictionsError: there is none, or they are not of one quantity on the same films.
    """
    if not runs or any(not run.has_things_of(runs[0]) for run in runs):
        raise PredictionsError("runs must be at least one, of one quantity on the same films; measure them alike.")
    return replace(runs[0], value=nanmean(np.stack([run.value for run in runs]), axis=0))


def _films(predictions: Predictions, at: Sequence[int]) -> Predictions:
    p, rows = predictions, np.array(at, dtype=np.int64)
    images = tuple(p.images[i] for i in at)
    return replace(
        p, images=images, prob=p.prob[rows], maps=p.maps[rows], frames=p.frames[rows], sizes=p.sizes[rows]
    )  # fmt: skip
