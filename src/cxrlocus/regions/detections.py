"""Detections: boxes that somebody found, one row a box; what every box protocol measures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cxrlocus.types import Findings, FloatArray


@dataclass(frozen=True)
class Detections:
    """K boxes on a list of films.

    Args:
        images: the films that were looked at, also those on which nothing was found.
        findings: the vocabulary.
        image: (K,) positions in ``images``.
        finding: (K,) positions in ``findings``.
        xyxy: (K, 4) half-open corners in pixels of the original film, x1 > x0 and y1 > y0.
        score: (K,) higher is surer; comparable between films for the same finding.

    Raises:
        ValueError: lengths differ, a position is out of range, a box is empty or not finite, or a score is NaN.

    Example:
        >>> one = Detections(("a.png",), Findings(("Mass",)), [0], [0], [[10.0, 10.0, 20.0, 30.0]], [0.9])
        >>> len(one), one.of(0, 0).tolist()
        (1, [[10.0, 10.0, 20.0, 30.0]])
    """

    images: tuple[str, ...]
    findings: Findings
    image: NDArray[np.int64]
    finding: NDArray[np.int64]
    xyxy: FloatArray
    score: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "image", np.asarray(self.image, dtype=np.int64).reshape(-1))
        object.__setattr__(self, "finding", np.asarray(self.finding, dtype=np.int64).reshape(-1))
        object.__setattr__(self, "xyxy", np.asarray(self.xyxy, dtype=np.float64).reshape(-1, 4))
        object.__setattr__(self, "score", np.asarray(self.score, dtype=np.float64).reshape(-1))
        k = len(self.image)
        if not k == len(self.finding) == len(self.xyxy) == len(self.score):
            raise ValueError(
                f"image, finding, xyxy and score must have one row a box; got {k}, {len(self.finding)}, "
                f"{len(self.xyxy)} and {len(self.score)}."
            )
        for name, column, size in (
            ("image", self.image, len(self.images)),
            ("finding", self.finding, len(self.findings)),
        ):
            if k and (column.min() < 0 or column.max() >= size):
                raise ValueError(f"{name} must be a position below {size}; got {column.min()} to {column.max()}.")
        if not np.isfinite(self.xyxy).all() or np.isnan(self.score).any():
            raise ValueError("xyxy and score must be numbers; got NaN or infinity. Leave such boxes out.")
        empty = (self.xyxy[:, 2] <= self.xyxy[:, 0]) | (self.xyxy[:, 3] <= self.xyxy[:, 1])
        if empty.any():
            raise ValueError(f"a box must have x1 > x0 and y1 > y0; got {self.xyxy[empty][0].tolist()}.")

    def __len__(self) -> int:
        return len(self.image)

    def of(self, image: int, finding: int) -> FloatArray:
        """The boxes (k, 4) of one film and finding.

        Example:
            >>> Detections(("a.png",), Findings(("Mass",)), [], [], [], []).of(0, 0).shape
            (0, 4)
        """
        return np.asarray(self.xyxy[(self.image == image) & (self.finding == finding)])
