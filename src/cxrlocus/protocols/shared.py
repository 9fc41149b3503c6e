"""What the protocols share: the name of a run in their rows, true and detected boxes at the index, draws, AUROC."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cxrlocus.data.records import Index
from cxrlocus.errors import ConfigError, DataError, PredictionsError
from cxrlocus.metrics.bootstrap import interval, nanmean
from cxrlocus.metrics.ranking import auroc, weighted_auroc
from cxrlocus.protocols.result import Result, label_of
from cxrlocus.regions.detections import Detections
from cxrlocus.types import POLICIES, BoolArray, Findings, FloatArray, Policy

NAN = float("nan")


@dataclass(frozen=True)
class RunLabel:
    """What is measured: the columns of a ``Result`` that a protocol copies.

    Raises:
        ConfigError: the policy is not one of fixed, validation, oracle.

    Example:
        >>> RunLabel("cam", "", "nih").policy
        'fixed'
    """

    method: str
    variant: str
    dataset: str
    policy: Policy = "fixed"
    note: str = ""

    def __post_init__(self) -> None:
        if self.policy not in POLICIES:
            raise ConfigError(f"policy must be one of {', '.join(POLICIES)}; got {self.policy!r}.")

    @property
    def name(self) -> str:
        """Method and variant, as tables and pairs call them."""
        return label_of(self.method, self.variant)


def patient_draws(patients: int, resamples: int, seed: int) -> FloatArray:
    """How often each of P patients is drawn in each of R resamples of P patients with replacement: (R, P) counts.

    A single patient tells nothing of the spread between patients: then there is no resample, (0, 1).

    Raises:
        ConfigError: a number is negative.

    Example:
        >>> draws = patient_draws(4, 3, seed=0)
        >>> draws.shape, draws.sum(axis=1).tolist()
        ((3, 4), [4.0, 4.0, 4.0])
    """
    if min(patients, resamples, seed) < 0:
        raise ConfigError(f"resamples and seed must not be negative; got {resamples} and {seed}.")
    rng = np.random.default_rng(seed)
    draws = np.zeros((resamples if patients > 1 else 0, patients))
    for row in draws:
        row += np.bincount(rng.integers(0, patients, size=patients), minlength=patients)
    return draws


@dataclass(frozen=True)
class FilmBoxes:
    """B boxes on films of an index: film (B,) and finding (B,) positions in it, xyxy (B, 4) pixels of the film."""

    film: NDArray[np.int64]
    finding: NDArray[np.int64]
    xyxy: FloatArray

    def __len__(self) -> int:
        return len(self.film)


class Looked(Protocol):
    """What predictions and detections have in common: the films that were looked at, and for what."""

    @property
    def images(self) -> tuple[str, ...]:
        """The films' names."""
        ...

    @property
    def findings(self) -> Findings:
        """The vocabulary."""
        ...


def film_positions(detections: Looked, index: Index) -> NDArray[np.int64]:
    """Positions in the index (N,) of the films that detections or predictions are about.

    Raises:
        PredictionsError: a film stands twice, or is not in the index.
    """
    twice = [name for name, n in Counter(detections.images).items() if n > 1]
    if twice:
        raise PredictionsError(f"a film must stand once in the predictions; {twice[0]!r} stands more than once.")
    strange = [name for name in detections.images if name not in index.position]
    if strange:
        raise PredictionsError(
            f"every film of the predictions must be in the evaluated index; {strange[0]!r} is not "
            f"({len(strange)} of {len(detections.images)}). Evaluate on the data set and split that were predicted."
        )
    return np.array([index.position[name] for name in detections.images], dtype=np.int64)


def true_boxes(index: Index) -> FilmBoxes:
    """Every true box of an index, film by film.

    Raises:
        DataError: a box is empty or not finite.
    """
    column = {name: c for c, name in enumerate(index.findings)}
    rows = [(i, column[box.finding], box.xyxy) for i, record in enumerate(index.records) for box in record.boxes]
    xyxy = np.array([row[2] for row in rows], dtype=np.float64).reshape(-1, 4)
    wrong = np.flatnonzero(~(np.isfinite(xyxy).all(axis=1) & (xyxy[:, 2:] > xyxy[:, :2]).all(axis=1)))
    if wrong.size:
        raise DataError(
            f"{index.root}: {index.records[rows[wrong[0]][0]].image}: a box must be finite with x1 > x0 and y1 > y0; "
            f"got {xyxy[wrong[0]].tolist()}. Correct the list of boxes."
        )
    film, finding = (np.array([row[k] for row in rows], dtype=np.int64) for k in (0, 1))
    return FilmBoxes(film, finding, xyxy)


def detected_boxes(detections: Detections, index: Index) -> FilmBoxes:
    """The detected boxes at the index's positions; findings that the index does not know are left out.

    Raises:
        PredictionsError: a film stands twice, or is not in the index.
    """
    column = {name: c for c, name in enumerate(index.findings)}
    finding = np.array([column.get(name, -1) for name in detections.findings], dtype=np.int64)[detections.finding]
    film = film_positions(detections, index)[detections.image]
    kept = finding >= 0
    return FilmBoxes(film[kept], finding[kept], detections.xyxy[kept])


def boxed_pairs(found: Looked, index: Index) -> BoolArray:
    """Which films of ``found`` have a true box of which of its findings, (N, C): where accuracy alone needs boxes.

    Raises:
        PredictionsError: a film stands twice, or is not in the index.
    """
    film_positions(found, index)
    return boxed_films(found.images, found.findings, index)


def boxed_films(images: Sequence[str], findings: Findings, index: Index) -> BoolArray:
    """Which of N films have a true box of which of C findings, (N, C); a film that the index does not have has none."""
    pairs = np.zeros((len(images), len(findings)), dtype=np.bool_)
    for i, name in enumerate(images):
        for box in index.records[index.position[name]].boxes if name in index.position else ():
            if box.finding in findings:
                pairs[i, findings.index(box.finding)] = True
    return pairs


def chosen_rows(detections: Detections, rows: NDArray[np.integer] | BoolArray) -> Detections:
    """Some of the boxes, in the order of ``rows``, on the same films."""
    d = detections
    return Detections(d.images, d.findings, d.image[rows], d.finding[rows], d.xyxy[rows], d.score[rows])


def ranks(detections: Detections) -> NDArray[np.int64]:
    """The rank (K,) of each box among those of its film and finding: 0 has the best score, ties as they stand.

    Example:
        >>> boxes = [[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3]]
        >>> ranks(Detections(("a", "b"), Findings(("Mass",)), [0, 1, 0], [0, 0, 0], boxes, [0.1, 0.5, 0.9])).tolist()
        [1, 0, 0]
    """
    key = detections.image * len(detections.findings) + detections.finding
    order = np.lexsort((-detections.score, key))
    first = np.searchsorted(key[order], key[order], side="left")
    rank = np.empty(len(key), dtype=np.int64)
    rank[order] = np.arange(len(key)) - first
    return rank


def joined(*parts: str) -> str:
    """Parts of a note as one; empty ones are left out.

    Example:
        >>> joined("boxes as given", "", "2 films left out")
        'boxes as given; 2 films left out'
    """
    return "; ".join(part for part in parts if part)


def result_row(
    protocol: str,
    label: RunLabel,
    finding: str,
    quantity: str,
    values: Sequence[float | FloatArray],
    n: int,
    note: str,
    *,
    threshold: float = NAN,
    detail: str = "",
) -> Result:
    """A Result of the run that ``label`` names; ``values`` are the value and its interval's ends, ``note`` is whole."""
    value, lo, hi = (float(v) for v in values)
    return Result(
        protocol,
        label.method,
        label.variant,
        label.dataset,
        finding,
        quantity,
        float(threshold),
        label.policy,
        value,
        lo,
        hi,
        n,
        note=note,
        detail=detail,
    )


def check_prob(prob: ArrayLike | None, found: Looked) -> None:
    """Check that probabilities stand beside what was found.

    Raises:
        PredictionsError: ``prob`` is neither None nor (N, C).
    """
    shape = (len(found.images), len(found.findings))
    if prob is not None and np.shape(prob) != shape:
        raise PredictionsError(f"prob must be (films, findings) = {shape}; got {np.shape(prob)}. Predict again.")


def auroc_rows(
    protocol: str,
    found: Looked,
    index: Index,
    prob: NDArray[np.floating],
    label: RunLabel,
    seed: int,
    resamples: int,
) -> list[Result]:
    """Rows of "auroc" for each finding that ``found`` knows, over films whose label of it is known, and their mean.

    Args:
        protocol: the rows' protocol.
        found: the films that were looked at; all count, boxed or not.
        index: labels and patients.
        prob: (N, C), aligned with ``found``.
        label: what the rows call the run.
        seed: of the bootstrap.
        resamples: of the bootstrap, over the patients of these films.

    Raises:
        PredictionsError: a film stands twice, or is not in the index.
        ConfigError: ``seed`` or ``resamples`` is negative.
    """
    films = film_positions(found, index)
    patients, unit = np.unique([index.patients[i] for i in films.tolist()], return_inverse=True)
    draws = patient_draws(len(patients), resamples, seed)
    names = [f for f in index.findings if f in found.findings]
    samples = np.full((1 + len(draws), len(names)), np.nan)
    score = np.asarray(prob, dtype=np.float64)
    rows = []
    for k, finding in enumerate(names):
        c, mine = index.findings.index(finding), score[:, found.findings.index(finding)]
        target, known = index.target[films, c], index.known[films, c]
        samples[0, k] = auroc(target, mine, known)
        samples[1:, k] = weighted_auroc(target, mine, draws, unit, known)
        note = joined(label.note, f"{int(target[known].sum())} positive films")
        values = (samples[0, k], *interval(samples[1:, k]))
        rows.append(result_row(protocol, label, finding, "auroc", values, int(known.sum()), note))
    defined = ~np.isnan(samples[0])
    mean = nanmean(samples[:, defined], axis=1)
    note = joined(label.note, f"mean of the {int(defined.sum())} findings with positive and negative films")
    return [*rows, result_row(protocol, label, "mean", "auroc", (mean[0], *interval(mean[1:])), len(films), note)]
