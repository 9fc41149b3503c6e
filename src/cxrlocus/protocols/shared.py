"""What the protocols share: the name of a run in their rows, true and detected boxes at the index, the draws."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrlocus.data.records import Index
from cxrlocus.errors import ConfigError, DataError, PredictionsError
from cxrlocus.regions.detections import Detections
from cxrlocus.types import POLICIES, FloatArray, Policy


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


def film_positions(detections: Detections, index: Index) -> NDArray[np.int64]:
    """Positions in the index (N,) of the films that the detections are about.

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
            f"({len(strange)} of {len(detections.images)}). Evaluate on the split that was predicted."
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
