"""Panels: what a localizer shows beside its maps (InfoMask's attention, mean and deviation), kept for a few films.

panels.npz, beside the predictions: image (B,), finding (B,), names (P,), values (B, P, h, w) float16 on the unit square
of the film's map, and key, which says whose they are.

A predictions folder is whole without it: it is written before the folder's own files are put in their places, and one
that a stopped prediction left beside older predictions is known by its key and passed over.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import cv2
import numpy as np
from numpy.typing import NDArray

from cxrlocus.errors import PredictionsError
from cxrlocus.files import writing_whole
from cxrlocus.types import Findings

if TYPE_CHECKING:
    from torch import Tensor

FILE = "panels.npz"

FILMS = 4
"""Films of each finding whose panels are kept."""

CELLS = 96
"""Longest side of a kept panel; what is finer is averaged."""

OWN_KEYS = ("schema", "findings", "kind", "films")
"""What the predictions folder adds to the meta that it is given."""


@runtime_checkable
class Shows(Protocol):
    """A localizer that has more to show than its maps."""

    def panels(self, images: Tensor) -> Mapping[str, NDArray[np.float32]]:
        """Name of a panel -> its values (N, C, h, w), raw, on the square of the maps, of films (N, 1, S, S)."""
        ...


@dataclass(frozen=True)
class Panels:
    """B pairs of a film and a finding with P panels each.

    Args:
        images: (B,) names of films.
        findings: (B,) names of findings.
        names: (P,) names of the panels, in the order in which they are shown.
        values: (B, P, h, w) float16, on the unit square of the film's map.

    Raises:
        ValueError: shapes disagree.
    """

    images: tuple[str, ...]
    findings: tuple[str, ...]
    names: tuple[str, ...]
    values: NDArray[np.float16]

    def __post_init__(self) -> None:
        want = (len(self.images), len(self.names))
        if len(self.findings) != want[0] or self.values.ndim != 4 or self.values.shape[:2] != want:
            raise ValueError(
                f"images, findings, names and values must be (B,), (B,), (P,) and (B, P, h, w); got {want[0]}, "
                f"{len(self.findings)}, {want[1]} and {self.values.shape}."
            )


def choose_pairs(boxed: Sequence[tuple[str, str]], images: Sequence[str], findings: Findings) -> list[tuple[str, str]]:
    """The pairs whose panels are kept: for each finding ``FILMS`` of its boxed films, evenly spread over their names.

    Args:
        boxed: (image, finding) of the true boxes; repeated pairs count once.
        images: the predicted films.
        findings: those of the localizer.

    Example:
        >>> boxed = [(f"{k}.png", "Mass") for k in range(9)] + [("3.png", "Gout")]
        >>> [image for image, _ in choose_pairs(boxed, [f"{k}.png" for k in range(9)], Findings(("Mass",)))]
        ['0.png', '3.png', '5.png', '8.png']
    """
    there, chosen = set(images), []
    for finding in findings:
        films = sorted({image for image, of in boxed if of == finding and image in there})
        spread = np.unique(np.linspace(0, len(films) - 1, min(FILMS, len(films))).round().astype(int))
        chosen += [(films[k], finding) for k in spread.tolist()]
    return chosen


def coarse(shown: Mapping[str, NDArray[np.float32]], finding: int) -> NDArray[np.float16]:
    """The panels (P, h, w) of one film and finding, coarse enough to be kept.

    Args:
        shown: name of a panel -> (1, C, H, W), all of one size.
        finding: a position in their second axis.

    Raises:
        PredictionsError: the panels differ in size.

    Example:
        >>> coarse({"A": np.ones((1, 2, 192, 192), np.float32)}, finding=1).shape
        (1, 96, 96)
    """
    sizes = sorted({np.shape(values) for values in shown.values()})
    if len(sizes) != 1:
        raise PredictionsError(f"panels must be of one size; got {sizes}. Resize them alike.")
    h, w = sizes[0][2:]
    share = min(1.0, CELLS / max(h, w))
    size = (max(1, round(w * share)), max(1, round(h * share)))
    small = [
        cv2.resize(np.ascontiguousarray(values[0, finding], np.float32), size, interpolation=cv2.INTER_AREA)
        for values in shown.values()
    ]
    return np.asarray(np.clip(small, -65504, 65504), np.float16).reshape(len(small), *size[::-1])


def write_panels(folder: Path, panels: Panels, meta: Mapping[str, Any]) -> None:
    """Write the panels of the predictions that are to have this meta, whole or not at all.

    Raises:
        PredictionsError: the file cannot be written.
    """
    with writing_whole(folder / FILE, PredictionsError) as part, part.open("wb") as file:
        np.savez_compressed(
            file,
            key=np.array(_key(meta)),
            image=np.array(panels.images),
            finding=np.array(panels.findings),
            names=np.array(panels.names),
            values=panels.values,
        )


def read_panels(folder: Path, meta: Mapping[str, Any]) -> Panels | None:
    """The panels of the predictions of this meta; None where there are none, or only those of other predictions.

    Raises:
        PredictionsError: the file is damaged.
    """
    path = folder / FILE
    if not path.is_file():
        return None
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as saved:
            if str(saved["key"]) != _key(meta):
                return None
            image, finding, names = (tuple(saved[name].tolist()) for name in ("image", "finding", "names"))
            return Panels(image, finding, names, np.asarray(saved["values"], dtype=np.float16))
    except (OSError, ValueError, LookupError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise PredictionsError(f"{path}: damaged panels ({error}). Run `cxrlocus predict` again.") from error


def _key(meta: Mapping[str, Any]) -> str:
    given = {name: value for name, value in meta.items() if name not in OWN_KEYS}
    return hashlib.sha256(json.dumps(given, sort_keys=True).encode()).hexdigest()
