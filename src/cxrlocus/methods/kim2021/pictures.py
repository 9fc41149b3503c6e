"""Pictures in the run folder: films before and after alignment (Fig. 4), and the masks over the anchor (Fig. 3, 7)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxrlocus.files import writing_whole
from cxrlocus.functional.alignment import pose_affine, warp
from cxrlocus.methods.classification import Part
from cxrlocus.methods.kim2021.config import KimConfig
from cxrlocus.methods.kim2021.masks import load_masks
from cxrlocus.methods.kim2021.passes import ANCHOR_FILE, load_anchor
from cxrlocus.models.aligner import AlignmentNet
from cxrlocus.models.registration import on_film
from cxrlocus.types import Findings

TILE = 160
"""Side of a tile, pixels."""

FILMS = 7
MEAN_OF = 200
"""Films of the before and after row, and of their means."""

Picture = NDArray[np.uint8]


@torch.no_grad()
def draw_aligned(path: Path, aligner: AlignmentNet, config: KimConfig, anchor: Tensor, part: Part) -> None:
    """The anchor, and films before (above) and after alignment; the last column is the mean of up to 200 films."""
    positions = part.loader.positions
    spread = positions[np.unique(np.linspace(0, len(positions) - 1, MEAN_OF).round().astype(int))]
    shown = set(np.linspace(0, len(spread) - 1, FILMS).round().astype(int).tolist())
    films: list[tuple[Tensor, Tensor]] = []
    total = torch.zeros(2, *anchor.shape[2:], dtype=torch.float64)
    for k, position in enumerate(spread):
        film = torch.from_numpy(part.loader.films.pixels(np.array([position]))).float()[None] / 255
        aligned = warp(film, pose_affine(aligner(film)), config.align_border)
        total += torch.cat([film[0], aligned[0]])
        if k in shown:
            films.append((film, aligned))
    mean = total / len(spread)
    # The anchor stands under its name; the films' names are not shown.
    before = [_grey(film, "") for film, _ in films] + [_grey(mean[0], f"mean of {len(spread)}")]
    after = [_grey(aligned, "") for _, aligned in films] + [_grey(mean[1], "after")]
    write_picture(path, _sheet([[_grey(anchor, "anchor"), *before], [np.zeros((TILE, TILE, 3), np.uint8), *after]]))


def draw_masks(folder: Path, anchor: Path, findings: Findings, offset: float) -> None:
    """``masks.png``: each mask over the anchor (over black where films are not aligned), with its name.

    ``offset`` is how far from its own centre a cell looks, in cells.
    """
    masks = load_masks(folder)
    there = (anchor / ANCHOR_FILE).is_file()
    under = _grey(load_anchor(anchor), "") if there else np.zeros((TILE, TILE, 3), np.uint8)
    shown = on_film(masks[None], TILE, offset)[0].numpy()
    tiles = [_over(under, shown[c], name) for c, name in enumerate(findings) if masks[c].any()]
    if tiles:
        blank = np.zeros_like(under)
        rows = [tiles[k : k + 4] for k in range(0, len(tiles), 4)]
        write_picture(
            folder / "masks.png", _sheet([[*row, *[blank] * (min(4, len(tiles)) - len(row))] for row in rows])
        )


def write_picture(path: Path, picture: Picture) -> None:
    """Write a PNG, whole or not at all."""
    with writing_whole(path) as part:
        part.write_bytes(cv2.imencode(".png", picture)[1].tobytes())


def _sheet(rows: Sequence[Sequence[Picture]]) -> Picture:
    return np.vstack([np.hstack(row) for row in rows])


def _grey(film: Tensor, name: str) -> Picture:
    pixels = np.round(film.squeeze().numpy() * 255).clip(0, 255).astype(np.uint8)
    small = cv2.resize(pixels, (TILE, TILE), interpolation=cv2.INTER_AREA)
    return _named(cv2.cvtColor(small, cv2.COLOR_GRAY2BGR).astype(np.uint8), name)


def _over(film: Picture, mask: NDArray[np.float32], name: str) -> Picture:
    grown = mask.clip(0, 1)
    heat = cv2.applyColorMap(np.round(grown * 255).astype(np.uint8), cv2.COLORMAP_JET)
    share = 0.6 * grown[:, :, None]
    return _named(np.round(film * (1 - share) + heat * share).astype(np.uint8), name)


def _named(tile: Picture, name: str) -> Picture:
    named = np.ascontiguousarray(tile)
    for colour, width in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.putText(named, name, (4, TILE - 6), cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, width, cv2.LINE_AA)
    return named
