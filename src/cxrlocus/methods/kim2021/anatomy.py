"""Plain anatomy on an aligned chest, and which finding occurs where: masks that no film made (Table 2, Fig. 7).

Places are in the unit square of the anchor, x to the right and y down; the patient's right is at the image's left. They
were laid on the mean of normal frontal films, and are as coarse as the sentence of a textbook that they stand for.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Outline = tuple[tuple[float, float], ...]

_OVERSAMPLED = 16
"""Places a cell along each side that are looked at."""


def _ellipse(x: float, y: float, across: float, down: float) -> Outline:
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return tuple(zip((x + across * np.cos(angle)).tolist(), (y + down * np.sin(angle)).tolist(), strict=True))


ZONES: dict[str, tuple[Outline, ...]] = {
    "lungs": (
        ((0.34, 0.15), (0.42, 0.19), (0.45, 0.32), (0.44, 0.52), (0.41, 0.66), (0.30, 0.68), (0.19, 0.75), (0.18, 0.56),
         (0.22, 0.34), (0.27, 0.20)),
        ((0.65, 0.15), (0.72, 0.20), (0.78, 0.34), (0.82, 0.56), (0.82, 0.75), (0.72, 0.70), (0.63, 0.58), (0.57, 0.48),
         (0.56, 0.30), (0.59, 0.19)),
    ),
    "lower lungs": (
        ((0.19, 0.48), (0.44, 0.48), (0.41, 0.68), (0.30, 0.70), (0.19, 0.77)),
        ((0.57, 0.48), (0.81, 0.48), (0.82, 0.77), (0.72, 0.71), (0.63, 0.60)),
    ),
    "heart": (_ellipse(0.53, 0.62, 0.20, 0.16),),
    "costophrenic": (_ellipse(0.23, 0.69, 0.09, 0.14), _ellipse(0.78, 0.69, 0.09, 0.14)),
    "apices": (_ellipse(0.35, 0.23, 0.11, 0.10), _ellipse(0.65, 0.23, 0.11, 0.10)),
    "hiatus": (_ellipse(0.51, 0.70, 0.11, 0.09),),
}  # fmt: skip
"""Name -> closed outlines."""

WHERE: dict[str, tuple[str, ...]] = {
    "Atelectasis": ("lower lungs",),
    "Cardiomegaly": ("heart",),
    "Effusion": ("costophrenic",),
    "Infiltration": ("lungs",),
    "Mass": ("lungs",),
    "Nodule": ("lungs",),
    "Pneumonia": ("lungs",),
    "Pneumothorax": ("apices",),
    "Consolidation": ("lungs",),
    "Edema": ("lungs",),
    "Emphysema": ("lungs",),
    "Fibrosis": ("lungs",),
    "Pleural_Thickening": ("apices", "costophrenic"),
    "Hernia": ("hiatus",),
}
"""Finding -> zones. Infiltration, mass, nodule and pneumonia in all of the lungs is the paper's; the rest is ours."""


def draw_mask(finding: str, side: int, offset: float = 0.0) -> NDArray[np.float32] | None:
    """The pseudo mask of a finding, (side, side): 1 in cells that lie by half or more in one of its zones, else 0.

    None for a finding that no zone is written down for. ``offset`` is how far from its own centre a cell looks, in
    cells (``models.registration``): it is what a cell sees that lies in a zone.

    Example:
        >>> draw_mask("Cardiomegaly", 8).sum(axis=1).tolist()
        [0.0, 0.0, 0.0, 0.0, 3.0, 3.0, 0.0, 0.0]
        >>> draw_mask("Gout", 8) is None
        True
    """
    if finding not in WHERE:
        return None
    fine = np.zeros((side * _OVERSAMPLED, side * _OVERSAMPLED), np.uint8)
    for zone in WHERE[finding]:
        for outline in ZONES[zone]:
            # Pixel k covers [k, k + 1), and cv2 puts its centre at k.
            points = np.round(np.array(outline) * len(fine) - offset * _OVERSAMPLED - 0.5).astype(np.int32)
            cv2.fillPoly(fine, [points], 1)
    share = fine.reshape(side, _OVERSAMPLED, side, _OVERSAMPLED).mean(axis=(1, 3))
    return np.asarray(share >= 0.5, np.float32)
