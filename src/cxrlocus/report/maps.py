"""Maps side by side on films: Fig. 1 and Fig. 3 of Yao et al. 2018, of any predictions and not of chosen films."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle

from cxrlocus.data.images import Film, read_film
from cxrlocus.data.records import Index
from cxrlocus.errors import CxrlocusError
from cxrlocus.prediction.store import Predictions
from cxrlocus.protocols.yao2018 import BoxedMap, boxed_maps
from cxrlocus.report.figures import figure_of
from cxrlocus.report.pictures import RAMP

TILE = 1.35
"""Side of a tile, inches of 96 pixels."""

TRUTH = "#ffd400"
"""Colour of the true boxes."""

HEAT = LinearSegmentedColormap.from_list("heat", [tuple(v / 255 for v in colour) for colour in RAMP])

Case = tuple[str, str]
"""A film and a finding, by name."""


def map_sheet(index: Index, columns: Mapping[str, Predictions], cases: Iterable[Case] | None = None) -> bytes:
    """The film, its true boxes, and each column's map S with its DICE, a row a film and finding; a PNG.

    The colours of a row go from 0 to the greatest S in it, which stands at its left: maps of a row compare, rows do
    not. DICE is protocol yao2018's.

    Args:
        index: the films, with their boxes.
        columns: predictions by what to call them, from left to right.
        cases: the rows; None for `typical` ones.

    Returns:
        The picture; b"" where no column has a map of a boxed film.

    Raises:
        PredictionsError: a map of kind probability or mask is not in [0, 1].
    """
    scores = {name: dice_by_case(predictions, index) for name, predictions in columns.items()}
    shared = [case for case in next(iter(scores.values()), {}) if all(case in one for one in scores.values())]
    rows = typical(scores, index) if cases is None else [case for case in cases if case in shared]
    if not rows:
        return b""
    wanted = {image for image, _ in rows}
    films = index.subset([i for i, image in enumerate(index.images) if image in wanted])
    maps = {name: _tiles(predictions, films) for name, predictions in columns.items()}
    paths = {record.image: record.path for record in films.records}
    with figure_of(TILE * (2 + len(columns)), (TILE + 0.2) * len(rows) + 0.2) as figure:
        for k, (image, finding) in enumerate(rows):
            tiles = {name: of[image, finding] for name, of in maps.items()}
            axes = [figure.add_subplot(len(rows), 2 + len(tiles), k * (2 + len(tiles)) + j + 1)
                    for j in range(2 + len(tiles))]  # fmt: skip
            _row(axes, _film(paths[image]), finding, tiles, first=k == 0)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=96, metadata={"Software": None})
    return buffer.getvalue()


def dice_by_case(predictions: Predictions, index: Index) -> dict[Case, float]:
    """DICE of each film and boxed finding that was looked at, where it is defined."""
    found = ((one.image, one.finding, one.dice) for one in boxed_maps(predictions, index))
    return {(image, finding): dice for image, finding, dice in found if not np.isnan(dice)}


def typical(scores: Mapping[str, Mapping[Case, float]], index: Index) -> list[Case]:
    """For each finding the film whose DICE, the mean of the columns, is the median (of two the higher), in order.

    Films are not chosen by how well they look, and films with equal DICE go by name.

    Example:
        >>> from pathlib import Path
        >>> from cxrlocus.types import Findings
        >>> index = Index("toy", Path("."), Findings(("Mass",)), ())
        >>> typical({"r0=0": {("a", "Mass"): 0.1, ("b", "Mass"): 0.9, ("c", "Mass"): 0.3}}, index)
        [('c', 'Mass')]
    """
    columns = list(scores.values())
    rated: dict[str, list[tuple[float, str]]] = {}
    for case in columns[0] if columns else ():
        if all(case in one for one in columns):
            rated.setdefault(case[1], []).append((-float(np.mean([one[case] for one in columns])), case[0]))
    middle = {finding: sorted(some)[(len(some) - 1) // 2][1] for finding, some in rated.items()}
    return [(middle[finding], finding) for finding in index.findings if finding in middle]


def _tiles(predictions: Predictions, films: Index) -> dict[Case, BoxedMap]:
    seen = set(predictions.images)
    looked_at = films.subset([i for i, image in enumerate(films.images) if image in seen])
    return {(one.image, one.finding): one for one in boxed_maps(_on(predictions, looked_at), looked_at)}


def _on(predictions: Predictions, films: Index) -> Predictions:
    """The predictions of these films."""
    place = {image: i for i, image in enumerate(predictions.images)}
    rows = np.array([place[image] for image in films.images], dtype=np.int64)
    return Predictions(
        predictions.meta, tuple(films.images), predictions.findings, predictions.prob[rows],
        np.asarray(predictions.maps[rows]), predictions.frames[rows], predictions.sizes[rows], predictions.kind,
    )  # fmt: skip


def _row(axes: list[Axes], film: Film, finding: str, tiles: Mapping[str, BoxedMap], *, first: bool) -> None:
    one = next(iter(tiles.values()))
    width, height = one.size
    extent = (0, width, height, 0)
    top = max(float(tile.surface.max()) for tile in tiles.values())
    for axis in axes:
        axis.set(xticks=[], yticks=[], xlim=(0, width), ylim=(height, 0))
        axis.grid(visible=False)
        for spine in axis.spines.values():
            spine.set_visible(False)
    for axis in axes[:2]:
        axis.imshow(film, cmap="gray", vmin=0, vmax=np.iinfo(film.dtype).max, extent=extent)
    for x0, y0, x1, y1 in one.boxes.tolist():
        box = Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, edgecolor=TRUTH, linewidth=1.5, antialiased=False)
        axes[1].add_patch(box)
    axes[0].set_ylabel(f"{finding.replace('_', ' ')}\n0 to {top:.2g}", fontsize=7)
    heads = ("film", "true boxes", *tiles)
    told = ("", "", *(f"{tile.dice:.3f}" for tile in tiles.values()))
    for axis, tile in zip(axes[2:], tiles.values(), strict=True):
        axis.imshow(tile.surface, cmap=HEAT, vmin=0, vmax=top or 1.0, extent=extent, interpolation="nearest")
    for axis, head, dice in zip(axes, heads, told, strict=True):
        axis.set_title("\n".join(filter(None, (head if first else "", dice))), fontsize=7, loc="center")


def _film(path: Path) -> Film:
    """A film; grey where it cannot be read."""
    try:
        return read_film(path)
    except (CxrlocusError, OSError):
        return np.full((1, 1), 128, dtype=np.uint8)
