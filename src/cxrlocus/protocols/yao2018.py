"""The protocol of Yao et al. 2018 (multiple resolutions): DICE of probability maps, IoBB at cut maps, and AUROC.

    DICE = 2 sum S G / (sum S^2 + sum G^2), a film and finding, then the mean
    Acc_c(tau) = true boxes of c that some box of S > tau overlaps with IoBB > .5  /  true boxes of c

S is the map, a probability, on the film at the resolution of the network's input; G is 1 in the film's boxes of the
finding. The rows of the second have ``threshold`` .5 and ``detail`` "tau=0.1" and so on: tau is no T of an overlap but
where the map is cut, and a table is drawn of one T. The reading, and what the paper leaves open, stands in
docs/protocols/yao2018.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

from cxrlocus.data.images import read_film
from cxrlocus.data.records import Index
from cxrlocus.errors import ConfigError, PredictionsError
from cxrlocus.metrics.pixels import box_mask, soft_dice
from cxrlocus.prediction.store import Predictions
from cxrlocus.protocols.hits import BoxCase, accuracy_rows, box_case, judge, mean_rows
from cxrlocus.protocols.result import Result
from cxrlocus.protocols.shared import FilmBoxes, RunLabel, auroc_rows, check_prob, film_positions, joined
from cxrlocus.regions.boxes import paired_iobb
from cxrlocus.regions.detections import Detections
from cxrlocus.regions.maps import FloatMap, raster_shape, to_film
from cxrlocus.regions.rules import AbsoluteLevel, Parts, ScoredBoxes
from cxrlocus.types import BoolArray, FloatArray, MapKind

NAME = "yao2018"

TAUS = tuple(round(0.1 * k, 1) for k in range(1, 10))
"""Where maps are cut for IoBB; the paper's Table 2 has .1, .4 and .8."""

IOBB = 0.5
"""T of the paper's Table 2."""

TAKEN: dict[MapKind, str] = {
    "probability": "",
    "mask": "the mask's values are taken for probabilities",
    "logit": "the maps are evidence: its sigmoid, cell by cell, is taken for the probability",
}
"""What a row's note says of each kind of map."""

GIVEN = "boxes=given"
"""The ``detail`` of IoBB where boxes came without a map to cut."""

NAN = float("nan")


@dataclass(frozen=True)
class Options:
    """How maps are measured.

    Args:
        raster: cells along a film's longest side for DICE; 512 is the paper's input.
        parts: what gets a box where a map is cut, "each" isolated region, the one with the "peak", or all, "extent".
        taus: where maps are cut, in [0, 1).
        box_raster: cells along a film's longest side for boxes.

    Raises:
        ConfigError: one of them is out of range.
    """

    raster: int = 512
    parts: Parts = "each"
    taus: tuple[float, ...] = TAUS
    box_raster: int = 128

    def __post_init__(self) -> None:
        if self.raster < 1 or self.box_raster < 1:
            raise ConfigError(f"raster and box_raster must be at least 1; got {self.raster} and {self.box_raster}.")
        wrong = [tau for tau in self.taus if not 0 <= tau < 1]
        if wrong or not self.taus:
            raise ConfigError(f"taus must be numbers in [0, 1), at least one; got {self.taus}.")
        try:
            self.rules()
        except ValueError as error:
            raise ConfigError(str(error)) from error

    def rules(self) -> list[AbsoluteLevel]:
        """The box rule of each tau."""
        return [AbsoluteLevel(tau, self.parts, self.box_raster) for tau in self.taus]


def yao2018(
    found: Predictions | Detections,
    index: Index,
    *,
    prob: NDArray[np.floating] | None = None,
    label: RunLabel,
    seed: int = 0,
    resamples: int = 1000,
    sizes: NDArray[np.int64] | None = None,
    options: Options | None = None,
    masks: Path | None = None,
) -> list[Result]:
    """Measure maps (or boxes, filled), and probabilities if there are any, by the protocol of Yao et al. 2018.

    Nothing is chosen: DICE needs no threshold and every tau is reported. Rows of maps have the policy "fixed" whatever
    ``label.policy`` is.

    Args:
        found: maps, or boxes whose union is a map of 0 and 1; ``found.images`` are the films that were looked at.
        index: the films to evaluate on, with their boxes and labels.
        prob: (N, C), aligned with ``found.images`` and ``found.findings``; None leaves AUROC out.
        label: what the rows call the run.
        seed: of the bootstrap.
        resamples: of the bootstrap, over patients; 0 leaves intervals out.
        sizes: (N, 2) width and height of the films of ``found``; needed for boxes.
        options: resolutions, taus and what gets a box; None for the defaults.
        masks: a folder of exact masks, ``<film>_<finding>.png``; None: that of the index, if it is a phantom.

    Returns:
        Rows of ``dice``, of ``dice_mask`` where there are masks, and of ``accuracy_iobb`` for each tau (of given boxes
        once, ``detail`` "boxes=given"), for each finding that has boxes, "mean" and "pooled"; rows of ``auroc`` for
        each finding. Intervals hold 95 %.

    Raises:
        PredictionsError: a film stands twice or is not in the index, ``prob`` has another shape, a map is not finite
            or, being a probability or a mask, not in [0, 1], or boxes come without sizes.
        ImageError: a mask cannot be read.
        DataError: a true box is empty or not finite.
        ConfigError: ``seed`` or ``resamples`` is negative.

    Example:
        >>> from cxrlocus.data.records import Record, TruthBox
        >>> from cxrlocus.types import Findings
        >>> truth = Record("a.png", Path("a.png"), "7", boxes=(TruthBox("Mass", (0.0, 0.0, 8.0, 4.0)),))
        >>> index = Index("toy", Path("."), Findings(("Mass",)), (truth,))
        >>> maps = np.array([[[[0.5, 0.5], [0.0, 0.0]]]])
        >>> p = Predictions(
        ...     {}, ("a.png",), index.findings, np.array([[0.5]]), maps, np.array([[[8.0, 0, 0], [0, 8.0, 0]]]),
        ...     np.array([[8, 8]]), "probability",
        ... )
        >>> rows = yao2018(p, index, label=RunLabel("m", "", "toy"), options=Options(raster=2))
        >>> [(r.quantity, r.detail, r.value) for r in rows if r.finding == "Mass"][:2]
        [('dice', '', 0.8), ('accuracy_iobb', 'tau=0.1', 1.0)]
    """
    check_prob(prob, found)
    options = options or Options()
    if isinstance(found, Predictions):
        label, told = replace(label, policy="fixed"), TAKEN[found.kind]
    else:
        told = "boxes filled"
    pairs = _pairs(found, index, sizes)
    exact = _exact(pairs, index, masks)
    measured = _measure(pairs, options, exact)
    noted = replace(label, note=joined(label.note, told))
    none = box_case(_as_detections(found, []), index, noted, seed, resamples)
    rows = _dice_rows(none, pairs, measured, any(exact))
    for detail, boxes in measured.cuts.items():
        case = box_case(boxes, index, label if detail == GIVEN else noted, seed, resamples)
        hit, _ = judge(case, paired_iobb, (IOBB,))
        rows += accuracy_rows(NAME, case, "accuracy_iobb", (IOBB,), hit, detail=detail)
    if prob is not None:
        rows += auroc_rows(NAME, found, index, prob, label, seed, resamples)
    return rows


@dataclass(frozen=True)
class BoxedMap:
    """S of a film and a finding that it has boxes of, as the protocol measures it.

    Args:
        image, finding: names.
        surface: S on the film, (gh, gw) in [0, 1].
        size: width and height of the film, pixels.
        boxes: (m, 4) true boxes, pixels of the film.
        dice: against them; NaN where no cell has its centre in one.
    """

    image: str
    finding: str
    surface: FloatMap
    size: tuple[int, int]
    boxes: FloatArray
    dice: float


def boxed_maps(predictions: Predictions, index: Index, raster: int = 512) -> Iterator[BoxedMap]:
    """The maps that DICE is the mean of, film by film, for pictures: those of films that were looked at.

    Raises:
        PredictionsError: as ``yao2018``.

    Example:
        >>> from cxrlocus.data.records import Record, TruthBox
        >>> from cxrlocus.types import Findings
        >>> truth = Record("a.png", Path("a.png"), "7", boxes=(TruthBox("Mass", (0.0, 0.0, 8.0, 4.0)),))
        >>> index = Index("toy", Path("."), Findings(("Mass",)), (truth,))
        >>> maps, frame = np.array([[[[0.5, 0.5], [0.0, 0.0]]]]), np.array([[[8.0, 0, 0], [0, 8.0, 0]]])
        >>> p = Predictions({}, ("a.png",), index.findings, np.ones((1, 1)), maps, frame, np.array([[8, 8]]), "mask")
        >>> [(one.image, one.finding, one.dice) for one in boxed_maps(p, index, raster=2)]
        [('a.png', 'Mass', 0.8)]
    """
    pairs = _pairs(predictions, index, None)
    for b in np.flatnonzero(pairs.place >= 0).tolist():
        i, c, size, boxes = int(pairs.place[b]), int(pairs.column[b]), pairs.size(b), pairs.boxes[b]
        grid = _on_film(_probability(predictions, i, c), predictions.frames[i], size, raster)
        dice = _dice(grid, box_mask(boxes, size, raster_shape(size, raster)))
        yield BoxedMap(predictions.images[i], predictions.findings.names[c], grid, size, boxes, dice)


def phantom_masks(index: Index) -> Path | None:
    """The folder of exact masks of a phantom; None of any other data set."""
    folder = index.root / "masks"
    return folder if index.dataset == "phantom" and folder.is_dir() else None


@dataclass(frozen=True)
class _Pairs:
    """B pairs of a film and a finding that it has boxes of and that ``found`` knows.

    ``film``, ``finding`` (B,) in the index; ``place``, ``column`` (B,) in ``found``, place -1 where it did not look.
    """

    found: Predictions | Detections
    sizes: NDArray[np.int64]
    boxes: tuple[FloatArray, ...]
    film: NDArray[np.int64]
    finding: NDArray[np.int64]
    place: NDArray[np.int64]
    column: NDArray[np.int64]

    def size(self, b: int) -> tuple[int, int]:
        """Width and height of a film that was looked at."""
        return int(self.sizes[self.place[b], 0]), int(self.sizes[self.place[b], 1])


def _probability(predictions: Predictions, i: int, c: int) -> FloatMap:
    """S on the grid of the map, before it is brought on the film."""
    values = np.asarray(predictions.maps[i, c], dtype=np.float32)
    if np.isnan(values).all():
        # NaN throughout says that there is no map: nothing is marked.
        return np.zeros_like(values)
    evidence = predictions.kind == "logit"
    good = np.isfinite(values) if evidence else (values >= 0) & (values <= 1)
    if not good.all():
        raise PredictionsError(
            f"{predictions.images[i]}, {predictions.findings.names[c]}: a map of kind {predictions.kind!r} must be "
            f"{'finite' if evidence else 'in [0, 1]'}; got {int((~good).sum())} of {good.size} cells that are not. "
            "Predict again."
        )
    return np.asarray(expit(values) if evidence else values, dtype=np.float32)


def _pairs(found: Predictions | Detections, index: Index, sizes: NDArray[np.int64] | None) -> _Pairs:
    n = len(found.images)
    if isinstance(found, Predictions):
        sizes = found.sizes
    elif sizes is None or sizes.shape != (n, 2):
        raise PredictionsError(f"sizes must be the films' width and height, ({n}, 2), where boxes are measured.")
    place = np.full(len(index), -1)
    place[film_positions(found, index)] = np.arange(n)
    known = {f: (index.findings.index(f), found.findings.index(f)) for f in index.findings if f in found.findings}
    of: dict[tuple[int, int, int], list[tuple[float, ...]]] = {}
    for film, record in enumerate(index.records):
        for box in record.boxes:
            if box.finding in known:
                of.setdefault((film, *known[box.finding]), []).append(box.xyxy)
    rows = np.array(list(of), dtype=np.int64).reshape(-1, 3)
    boxes = tuple(np.array(given, dtype=np.float64) for given in of.values())
    return _Pairs(found, np.asarray(sizes), boxes, rows[:, 0], rows[:, 1], place[rows[:, 0]], rows[:, 2])


@dataclass(frozen=True)
class _Measured:
    """DICE (B,) against boxes and against masks, NaN where undefined, and the boxes of maps at each tau."""

    dice: FloatArray
    dice_mask: FloatArray
    cuts: dict[str, Detections]


def _measure(pairs: _Pairs, options: Options, exact: Sequence[Path | None]) -> _Measured:
    dice, dice_mask = np.zeros(len(pairs.film)), np.array([NAN if path is None else 0.0 for path in exact])
    boxes: list[list[tuple[int, int, ScoredBoxes]]] = [[] for _ in options.taus]
    rules = options.rules()
    # A film that was not looked at is left at 0: nothing is marked on it.
    for b in np.flatnonzero(pairs.place >= 0).tolist():
        i, c, size = int(pairs.place[b]), int(pairs.column[b]), pairs.size(b)
        shape = raster_shape(size, options.raster)
        if isinstance(pairs.found, Predictions):
            surface, frame = _probability(pairs.found, i, c), pairs.found.frames[i]
            grid = _on_film(surface, frame, size, options.raster)
            for cut, rule in zip(boxes, rules, strict=True):
                cut.append((i, c, rule(surface, frame, size)))
        else:
            grid = box_mask(pairs.found.of(i, c), size, shape).astype(np.float32)
        dice[b] = _dice(grid, box_mask(pairs.boxes[b], size, shape))
        path = exact[b]
        if path is not None:
            dice_mask[b] = _dice(grid, _resampled(np.asarray(read_film(path) > 0), shape))
    cuts = {f"tau={tau:g}": _as_detections(pairs.found, cut) for tau, cut in zip(options.taus, boxes, strict=True)}
    return _Measured(dice, dice_mask, cuts if isinstance(pairs.found, Predictions) else {GIVEN: pairs.found})


def _on_film(surface: FloatMap, frame: FloatArray, size: tuple[int, int], raster: int) -> FloatMap:
    """S on the film; 0 where the map does not reach."""
    grid, inside = to_film(surface, frame, size, raster)
    grid = np.clip(grid, 0.0, 1.0)
    return np.asarray(grid if inside is None else np.where(inside, grid, np.float32(0.0)))


def _dice(grid: FloatMap, truth: BoolArray) -> float:
    # A truth too small to hold the centre of a cell leaves nothing to compare with.
    return soft_dice(grid, truth) if truth.any() else NAN


def _as_detections(found: Predictions | Detections, parts: Sequence[tuple[int, int, ScoredBoxes]]) -> Detections:
    """The boxes of films and findings (i, c) as one table."""
    places = np.array([part[:2] for part in parts], dtype=np.int64).reshape(-1, 2)
    where = np.repeat(places, [len(part[2]) for part in parts], axis=0)
    xyxy = np.concatenate([np.zeros((0, 4)), *(part[2].xyxy for part in parts)])
    score = np.concatenate([np.zeros(0), *(part[2].score for part in parts)])
    return Detections(found.images, found.findings, where[:, 0], where[:, 1], xyxy, score)


def _exact(pairs: _Pairs, index: Index, masks: Path | None) -> list[Path | None]:
    """The file of each pair's exact mask, None where there is none."""
    folder = masks or phantom_masks(index)
    if folder is None:
        return [None] * len(pairs.film)
    if not folder.is_dir():
        raise ConfigError(f"masks must be a folder; {folder} is none. Give the folder of <film>_<finding>.png.")
    paths = [
        folder / f"{Path(index.images[film]).stem}_{index.findings.names[finding]}.png"
        for film, finding in zip(pairs.film.tolist(), pairs.finding.tolist(), strict=True)
    ]
    return [path if path.is_file() else None for path in paths]


def _resampled(mask: BoolArray, shape: tuple[int, int]) -> BoolArray:
    """A mask on another grid: what it is at the centres of the cells."""
    rows, columns = (
        np.minimum(((np.arange(n) + 0.5) * side / n).astype(np.int64), side - 1)
        for n, side in zip(shape, mask.shape, strict=True)
    )
    return np.asarray(mask[rows[:, None], columns])


def _dice_rows(case: BoxCase, pairs: _Pairs, measured: _Measured, has_masks: bool) -> list[Result]:
    of = FilmBoxes(pairs.film, pairs.finding, np.zeros((len(pairs.film), 4)))
    lost = int(np.isnan(measured.dice).sum())
    note = f"{lost} boxes too small for the grid left out" if lost else ""
    rows = mean_rows(NAME, case, "dice", (NAN,), measured.dice[:, None], of, note=note)
    if has_masks:
        lost = int(np.isnan(measured.dice_mask).sum())
        note = joined("against exact masks", f"{lost} films without a mask left out" if lost else "")
        rows += mean_rows(NAME, case, "dice_mask", (NAN,), measured.dice_mask[:, None], of, note=note)
    return rows
