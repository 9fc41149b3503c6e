"""Small frozen values shared by every layer, valid once built. Imports nothing of ours, and no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, get_args

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

MapKind = Literal["logit", "probability", "mask"]
"""What a map's values are: unbounded evidence, a probability in [0, 1], or a learned mask in [0, 1]."""

Fit = Literal["letterbox", "stretch"]
"""How a film that is not square becomes one: padded with black, or stretched."""

Policy = Literal["fixed", "validation", "oracle"]
"""Where a threshold comes from: fixed beforehand, boxes of other patients, or the test boxes themselves."""

MAP_KINDS: tuple[str, ...] = get_args(MapKind)
POLICIES: tuple[str, ...] = get_args(Policy)


@dataclass(frozen=True)
class Findings:
    """An ordered vocabulary of findings; a position in it is a column everywhere.

    Raises:
        ValueError: a name is empty or stands twice.

    Example:
        >>> findings = Findings(("Mass", "Nodule"))
        >>> findings.index("Nodule"), len(findings), "Edema" in findings
        (1, 2, False)
    """

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not all(self.names):
            raise ValueError(f"findings must not be empty strings; got {self.names}. Name each finding.")
        if len(set(self.names)) != len(self.names):
            raise ValueError(f"findings must be distinct; got {self.names}. Remove the repeated name.")

    def index(self, name: str) -> int:
        """Column of a finding.

        Raises:
            KeyError: the finding is not in the vocabulary.
        """
        if name not in self.names:
            raise KeyError(f"finding {name!r} is not one of {', '.join(self.names)}")
        return self.names.index(name)

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __contains__(self, name: object) -> bool:
        return name in self.names


BOXED8 = Findings(
    ("Atelectasis", "Cardiomegaly", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumonia", "Pneumothorax")
)
"""The eight findings that NIH ChestX-ray14 has boxes for."""

NIH14 = Findings((*BOXED8.names, "Consolidation", "Edema", "Emphysema", "Fibrosis", "Pleural_Thickening", "Hernia"))
"""The fourteen findings of NIH ChestX-ray14."""


@dataclass(frozen=True)
class Frame:
    """The affine from a map's unit square to pixels of the original film.

    ``matrix`` is 2x3: ``(x, y) = matrix @ (u, v, 1)`` with ``(0, 0)`` the top left corner of the map's first cell and
    ``(1, 1)`` the bottom right corner of its last, so a grid of any size h x w covers the same square.

    Raises:
        ValueError: the matrix is not 2x3, not finite, or not invertible.

    Example:
        >>> left_half = Frame.of_size(1024, 1024).then_crop(0.0, 0.0, 0.5, 1.0)
        >>> left_half.to_pixels(np.array([[1.0, 1.0]])).tolist()
        [[512.0, 1024.0]]
    """

    matrix: FloatArray

    def __post_init__(self) -> None:
        matrix = np.array(self.matrix, dtype=np.float64)
        if matrix.shape != (2, 3) or not np.isfinite(matrix).all():
            raise ValueError(f"Frame.matrix must be a finite 2x3 affine; got {matrix.tolist()}.")
        if abs(np.linalg.det(matrix[:, :2])) < 1e-12:
            raise ValueError(f"Frame.matrix must be invertible; got {matrix.tolist()}.")
        matrix.setflags(write=False)
        object.__setattr__(self, "matrix", matrix)

    @staticmethod
    def of_size(width: float, height: float) -> Frame:
        """The frame of a map that covers a whole film of ``width`` x ``height`` pixels."""
        return Frame(np.array([[width, 0.0, 0.0], [0.0, height, 0.0]]))

    def compose(self, inner: FloatArray) -> Frame:
        """The frame of a map whose unit square reaches this one's by the 2x3 affine ``inner`` (unit -> unit)."""
        square = np.vstack([inner, [0.0, 0.0, 1.0]])
        return Frame(np.asarray(self.matrix @ square))

    def then_crop(self, u0: float, v0: float, u1: float, v1: float) -> Frame:
        """The frame of the part between ``(u0, v0)`` and ``(u1, v1)`` of the unit square; u1 < u0 flips."""
        return self.compose(np.array([[u1 - u0, 0.0, u0], [0.0, v1 - v0, v0]]))

    def to_pixels(self, uv: FloatArray) -> FloatArray:
        """Unit-square points (n, 2) to original pixels (n, 2)."""
        return np.asarray(uv @ self.matrix[:, :2].T + self.matrix[:, 2])

    def to_unit(self, xy: FloatArray) -> FloatArray:
        """Original pixels (n, 2) to unit-square points (n, 2)."""
        return np.asarray((xy - self.matrix[:, 2]) @ np.linalg.inv(self.matrix[:, :2]).T)

    def boxes_to_pixels(self, uv: FloatArray) -> FloatArray:
        """Boxes (n, 4) of the unit square to the upright boxes (n, 4) around them in original pixels.

        Example:
            >>> quarter_turn = Frame(np.array([[0.0, -10.0, 10.0], [20.0, 0.0, 0.0]]))
            >>> quarter_turn.boxes_to_pixels(np.array([[0.0, 0.0, 0.5, 1.0]])).tolist()
            [[0.0, 0.0, 10.0, 10.0]]
        """
        return _around(self.to_pixels, uv)

    def boxes_to_unit(self, xyxy: FloatArray) -> FloatArray:
        """Boxes (n, 4) in original pixels to the upright boxes (n, 4) around them in the unit square."""
        return _around(self.to_unit, xyxy)


def _around(carry: Callable[[FloatArray], FloatArray], boxes: FloatArray) -> FloatArray:
    """The upright boxes around boxes (n, 4) whose four corners are carried."""
    corners = boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]
    carried = carry(corners.reshape(-1, 2)).reshape(-1, 4, 2)
    return np.concatenate([carried.min(axis=1), carried.max(axis=1)], axis=1)


class Batch(NamedTuple):
    """What a training stage sees: images (N, 1, H, W) float32 in [0, 1], target (N, C) 0/1 float32, known (N, C) bool.

    Unknown labels (``known`` False) are masked out of every loss; ``films`` (N,) are positions in the index.
    """

    images: Tensor
    target: Tensor
    known: Tensor
    films: Tensor


@dataclass(frozen=True)
class Explained:
    """A localizer's word on N films: prob (N, C) in [0, 1], raw maps (N, C, h, w), frames (N, 2, 3), the maps' kind."""

    prob: Tensor
    maps: Tensor
    frames: FloatArray
    kind: MapKind


class Localizer(Protocol):
    """What prediction, serving and reports need of a trained method.

    ``size`` is the side in pixels of the square films it wants, ``fit`` how a film that is not square becomes one.
    """

    findings: Findings
    size: int
    fit: Fit

    def explain(self, images: Tensor, frames: FloatArray) -> Explained:
        """Probabilities and raw maps of images (N, 1, size, size) in [0, 1] whose frames are (N, 2, 3)."""
        ...
