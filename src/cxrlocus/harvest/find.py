"""From one batch of films to their boxes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxrlocus.harvest.films import Square
from cxrlocus.harvest.journal import Box, Film
from cxrlocus.harvest.options import Options, Rule
from cxrlocus.types import Explained, FloatArray, Frame, Localizer


@runtime_checkable
class MiningLocalizer(Localizer, Protocol):
    """A localizer that looks again where it has not looked yet, and can tell which step found what."""

    def explain_steps(self, images: Tensor, frames: FloatArray) -> tuple[Explained, Tensor]:
        """What ``explain`` gives, and for each cell of its maps (N, C, h, w) the mining step, from 1, that found it."""
        ...


@dataclass
class Found:
    """What was found on some films, as it grows."""

    films: list[Film] = field(default_factory=list)
    boxes: list[Box] = field(default_factory=list)
    asked: Counter[str] = field(default_factory=Counter)
    gated: Counter[str] = field(default_factory=Counter)
    failed: list[tuple[str, str]] = field(default_factory=list)


def find_on_batch(localizer: Localizer, squares: Sequence[Square], options: Options, found: Found) -> None:
    """Look at some films in one forward pass, and add what is there to ``found``.

    The boxes are drawn on the maps as they come, in float32 and in the frames that the localizer declares.
    """
    images = torch.from_numpy(np.stack([s.pixels for s in squares])).unsqueeze(1).float().div_(255.0)
    frames = np.stack([s.frame for s in squares])
    steps: NDArray[np.integer] | None = None
    if isinstance(localizer, MiningLocalizer):
        said, mined = localizer.explain_steps(images, frames)
        steps = mined.numpy()
    else:
        said = localizer.explain(images, frames)
    prob, maps = said.prob.numpy(), said.maps.numpy()
    for k, square in enumerate(squares):
        image = square.record.image
        found.films.append(Film(image, *square.size))
        for c in options.wanted(square.record, localizer.findings):
            finding = localizer.findings.names[c]
            found.asked[finding] += 1
            # Nine digits say which float32 it is, and no more.
            p = float(f"{prob[k, c]:.9g}")
            if p < options.min_prob:
                found.gated[finding] += 1
                continue
            step = None if steps is None else steps[k, c]
            try:
                _check_prob(p)
                drawn = _draw(options.rule, maps[k, c], said.frames[k], square.size, step)
                found.boxes += [Box(image, finding, *one, p) for one in drawn]
            except ValueError as error:
                found.failed.append((f"{image}, {finding}", str(error)))


def _check_prob(prob: float) -> None:
    if not 0.0 <= prob <= 1.0:
        raise ValueError(f"prob must be in [0, 1]; got {prob}.")


Drawn = tuple[float, float, float, float, float, int, int]
"""A box as it is drawn: x1, y1, x2, y2, score, rank, step."""


def _draw(
    rule: Rule,
    values: NDArray[np.float32],
    frame: FloatArray,
    size: tuple[int, int],
    steps: NDArray[np.integer] | None,
) -> list[Drawn]:
    there = rule(values, frame, size)
    drawn: list[Drawn] = []
    for rank, (xyxy, score) in enumerate(zip(there.xyxy.tolist(), there.score.tolist(), strict=True), start=1):
        x1, y1, x2, y2 = xyxy
        drawn.append((x1, y1, x2, y2, score, rank, 1 if steps is None else step_of(xyxy, values, steps, frame)))
    return drawn


def step_of(xyxy: Sequence[float], values: NDArray[np.floating], steps: NDArray[np.integer], frame: FloatArray) -> int:
    """The mining step that found a box: that of the highest cell (its centre) of the map inside the box.

    A box that holds no cell's centre takes the cell nearest to its own centre.

    Args:
        xyxy: the box in pixels of the film.
        values: the map (h, w).
        steps: (h, w), the step of each cell.
        frame: (2, 3), the map's unit square to pixels of the film.

    Example:
        >>> values, steps = np.array([[1.0, 3.0]]), np.array([[1, 2]])
        >>> frame = np.array([[20.0, 0.0, 0.0], [0.0, 10.0, 0.0]])
        >>> step_of((0, 0, 10, 10), values, steps, frame), step_of((0, 0, 20, 10), values, steps, frame)
        (1, 2)
    """
    rows, columns = np.indices(values.shape).reshape(2, -1) + 0.5
    centres = Frame(frame).to_pixels(np.stack([columns / values.shape[1], rows / values.shape[0]], axis=1))
    low, high = np.array(xyxy[:2]), np.array(xyxy[2:])
    inside = ((centres >= low) & (centres < high)).all(axis=1)
    if inside.any():
        place = int(np.where(inside, values.ravel(), -np.inf).argmax())
    else:
        place = int(((centres - (low + high) / 2) ** 2).sum(axis=1).argmin())
    return int(steps.ravel()[place])
