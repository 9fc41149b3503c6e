"""One rule over all films and findings: from stored maps to the Detections that protocols measure."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from cxrlocus.regions.detections import Detections
from cxrlocus.regions.rules import BoxRule, ScoredBoxes
from cxrlocus.types import BoolArray, Findings


def detect(
    rule: BoxRule,
    maps: NDArray[np.floating],
    frames: NDArray[np.float64],
    sizes: NDArray[np.int64],
    images: tuple[str, ...],
    findings: Findings,
    *,
    gate: BoolArray | None = None,
    progress: Callable[[int], object] | None = None,
) -> Detections:
    """Box every map of N films and C findings.

    Args:
        rule: from one map to its boxes.
        maps: (N, C, h, w), raw; may be memory-mapped.
        frames: (N, 2, 3), each film's map to pixels of the film.
        sizes: (N, 2), width and height of each film in pixels.
        images: the films' names.
        findings: the vocabulary.
        gate: (N, C), where False no box is made (a finding held to be absent); None boxes all.
        progress: called after each film with the number of films done.

    Raises:
        ValueError: shapes disagree, or a map or frame is not what the rule needs; the message names the film.

    Example:
        >>> maps = np.zeros((1, 1, 4, 4)); maps[0, 0, 1, 1] = 1.0
        >>> frames, sizes = np.array([[[64.0, 0, 0], [0, 64.0, 0]]]), np.array([[64, 64]])
        >>> from cxrlocus.regions.rules import PeakComponent
        >>> found = detect(PeakComponent(raster=4), maps, frames, sizes, ("a.png",), Findings(("Mass",)))
        >>> found.xyxy.tolist()
        [[16.0, 16.0, 32.0, 32.0]]
    """
    _check(maps, frames, sizes, gate, len(images), len(findings))
    places: list[tuple[int, int]] = []
    parts: list[ScoredBoxes] = []
    for i in range(len(images)):
        film = np.asarray(maps[i], dtype=np.float32)
        size = (int(sizes[i, 0]), int(sizes[i, 1]))
        for j in range(len(findings)) if gate is None else np.flatnonzero(gate[i]).tolist():
            try:
                parts.append(rule(film[j], frames[i], size))
            except ValueError as error:
                raise ValueError(f"{images[i]}, {findings.names[j]}: {error}") from error
            places.append((i, j))
        if progress is not None:
            progress(i + 1)
    return _table(places, parts, images, findings)


def _check(
    maps: NDArray[np.floating],
    frames: NDArray[np.float64],
    sizes: NDArray[np.int64],
    gate: BoolArray | None,
    n: int,
    c: int,
) -> None:
    shapes = (maps.shape[:2], frames.shape, sizes.shape, (n, c) if gate is None else gate.shape)
    if maps.ndim != 4 or shapes != ((n, c), (n, 2, 3), (n, 2), (n, c)):
        raise ValueError(
            f"maps, frames, sizes and gate must be (N, C, h, w), (N, 2, 3), (N, 2) and (N, C) with N={n}, C={c}; "
            f"got {maps.shape}, {frames.shape}, {sizes.shape} and {None if gate is None else gate.shape}."
        )


def _table(
    places: list[tuple[int, int]], parts: list[ScoredBoxes], images: tuple[str, ...], findings: Findings
) -> Detections:
    where = np.repeat(np.array(places, dtype=np.int64).reshape(-1, 2), [len(part) for part in parts], axis=0)
    return Detections(
        images,
        findings,
        where[:, 0],
        where[:, 1],
        xyxy=np.concatenate([np.zeros((0, 4)), *(part.xyxy for part in parts)]),
        score=np.concatenate([np.zeros(0), *(part.score for part in parts)]),
    )
