"""Contact sheets of the phantom: ``python -m cxrlocus.data.phantom.pictures OUT`` writes them into the folder OUT."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cxrlocus.data.phantom.film import DEFAULTS, Film, generate_film
from cxrlocus.data.phantom.parameters import Parameters
from cxrlocus.types import BOXED8

Colour = NDArray[np.uint8]

PLAINNESS = (0.9, 0.55, 0.15)
"""The films of a finding on the sheet: where their contrast lies in its range, from faint (0) to obvious (1)."""

_TILE = 224
_YELLOW, _WHITE = (0, 220, 255), (255, 255, 255)


def only(finding: str, plainness: float) -> Parameters:
    """Parameters whose films show one finding, at a given point of its contrast range.

    Example:
        >>> round(only("Mass", 1.0).contrast("Mass")[0] / DEFAULTS.contrast("Mass")[1], 6)
        1.0
    """
    low, high = DEFAULTS.contrast(finding)
    contrast = min(low * (high / low) ** plainness, high)
    weights = {f: float(f == finding) for f in BOXED8}
    values = {**DEFAULTS.as_json(), finding.lower(): [contrast, contrast], "weights": weights}
    return Parameters.from_json({**values, "normal_share": 0.0, "extra_finding": 0.0})


def outlined(film: Film) -> Colour:
    """A film in BGR with the outline of each mask."""
    picture = cv2.cvtColor(film.pixels, cv2.COLOR_GRAY2BGR)
    for mask in film.masks.values():
        rings, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, rings, -1, _YELLOW, 1)
    return np.asarray(picture, np.uint8)


def findings_sheet(findings: Sequence[str], seed: int = 3, size: int = _TILE) -> Colour:
    """A row a finding: obvious, middling and faint, each as it is and with its mask outlined."""
    rows = []
    for finding in findings:
        tiles = []
        for column, plainness in enumerate(PLAINNESS):
            film = generate_film(seed, 5 * column + 40 * BOXED8.index(finding), size, only(finding, plainness))
            tiles += [cv2.cvtColor(film.pixels, cv2.COLOR_GRAY2BGR), outlined(film)]
        row = np.hstack(tiles)
        row[size - 22 :, : 10 + 10 * len(finding)] //= 3
        cv2.putText(row, finding, (6, size - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.45, _WHITE, 1, cv2.LINE_AA)
        rows.append(row)
    return np.asarray(np.vstack(rows), np.uint8)


def normals_sheet(seed: int = 3, rows: int = 3, columns: int = 6, size: int = _TILE) -> Colour:
    """Films without findings: patients, poses, exposures, devices."""
    normal = replace(DEFAULTS, normal_share=1.0)
    films = [generate_film(seed, 4 * i, size, normal).pixels for i in range(rows * columns)]
    grey = np.vstack([np.hstack(films[r * columns : (r + 1) * columns]) for r in range(rows)])
    return np.asarray(cv2.cvtColor(grey, cv2.COLOR_GRAY2BGR), np.uint8)


def main(arguments: list[str]) -> int:
    """Write the sheets into the folder named."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python -m cxrlocus.data.phantom.pictures OUT\n")
        return 2
    out = Path(arguments[0])
    out.mkdir(parents=True, exist_ok=True)
    sheets = {
        "phantom_findings_1": findings_sheet(BOXED8.names[:4]),
        "phantom_findings_2": findings_sheet(BOXED8.names[4:]),
        "phantom_normals": normals_sheet(),
    }
    for name, sheet in sheets.items():
        cv2.imwrite(str(out / f"{name}.jpg"), sheet, [cv2.IMWRITE_JPEG_QUALITY, 82])
        sys.stdout.write(f"{out / name}.jpg\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
