"""The three checks of one run, from its folder to verdicts, rows and pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cxrlocus.data.cache import Films, open_films
from cxrlocus.data.phantom.planting import PLAINNESS, PLANTED, Planted, plant, stamp
from cxrlocus.data.records import Index
from cxrlocus.errors import ConfigError
from cxrlocus.files import explained, writing_whole
from cxrlocus.methods import load_run
from cxrlocus.study.sanity.changes import (
    DRAWN,
    LESIONS,
    MARKERS,
    RISES,
    STANDS_OUT,
    Looks,
    judge_lesions,
    judge_markers,
    lesion_rows,
    look_at,
    marker_rows,
)
from cxrlocus.study.sanity.rows import LEAST, Row
from cxrlocus.study.sanity.weights import ENOUGH, check_weights
from cxrlocus.study.steps import Bars
from cxrlocus.training.checkpoint import write_json
from cxrlocus.training.run import file_hash
from cxrlocus.types import Localizer

WORDS = ("L", "R", "AP", "PORTABLE")
"""The markers: lead letters, and the words that are on films of the bedridden and so go with findings."""

PICTURES = 4
"""Films of each lesion and marker that pictures are made of."""

_SIDE = 320


@dataclass(frozen=True)
class SanityOptions:
    """How to check.

    Args:
        split: whose films: boxed ones for the weights, ones without a finding to plant in.
        films: how many of each at most, drawn at random.
        plainness: contrast of planted lesions, in [0, 1] (``planting.plant``).
        seed: of everything random.

    Raises:
        ConfigError: a number is out of range.
    """

    split: str = "test"
    films: int = 100
    plainness: float = PLAINNESS
    seed: int = 0

    def __post_init__(self) -> None:
        if self.films < 1:
            raise ConfigError(f"films must be at least 1; got {self.films}.")
        if self.seed < 0:
            raise ConfigError(f"seed must be at least 0; got {self.seed}.")
        if not 0 <= self.plainness <= 1:
            raise ConfigError(f"contrast must be in [0, 1], faint to obvious; got {self.plainness}.")


@dataclass(frozen=True)
class Normals:
    """Films without a finding, ready to be changed.

    Args:
        squares: (B, S, S) uint8, as the localizer takes them.
        images, patients: (B,) names.
        before: what the localizer says of them.
        note: where they come from; which films these are is the reader's to weigh.
    """

    squares: NDArray[np.uint8]
    images: tuple[str, ...]
    patients: tuple[str, ...]
    before: Looks
    note: str


def check_sanity(
    run: Path, index: Index, out: Path, options: SanityOptions, *, cache: Path, bars: Bars
) -> dict[str, Any]:
    """Check a run and write ``sanity.json`` and ``pictures`` into a folder.

    Args:
        run: its folder.
        index: the data set, all splits.
        out: the folder; what stands there of an earlier check is replaced.
        options: how.
        cache: folder of decoded films.
        bars: progress.

    Returns:
        What sanity.json says: "method", "verdicts", "rows", the declared thresholds, and what was looked at.

    Raises:
        RunError: the run cannot be loaded.
        DataError: no film belongs to the split.
        CxrlocusError: the folder cannot be written.
    """
    localizer, info = load_run(run)
    part = index if options.split == "all" else index.split(options.split)
    with explained(out):
        (out / "pictures").mkdir(parents=True, exist_ok=True)
    boxed = _some([i for i, r in enumerate(part.records) if r.boxes], options)
    chosen, films = _readable(part.subset(boxed), localizer, cache, bars)
    rows, verdict = check_weights(
        lambda: load_run(run)[0], films, chosen, seed=options.seed, scratch=out, on_step=bars("weights")
    )
    verdicts = [verdict]
    told: dict[str, Any] = {"boxed_films": len(chosen)}
    normals = _normals(localizer, index, part, options, cache, bars)
    told["normal_films"], told["normals"] = len(normals.images), normals.note
    if len(normals.images):
        lesions, told["no_room"] = _lesions(localizer, normals, out / "pictures", options, bars)
        markers = _markers(localizer, normals, out / "pictures", options, bars)
    else:
        lesions, markers = [], []
    rows += lesions + markers
    verdicts += [judge_lesions(lesions), judge_markers(markers)]
    result = {
        "method": info.method, "variant": info.variant, "preset": info.preset, "run": run.name, "seed": info.seed,
        "dataset": index.dataset, "index_hash": index.hash, "version": info.version,
        "weights": {p.parent.name: file_hash(p) for p in sorted(run.rglob("weights.safetensors"))},
        "options": asdict(options), **told,
        "thresholds": {
            "least": LEAST, "accuracy lost is none below": ENOUGH, "rises at least": RISES,
            "peak drawn at most": DRAWN, "stands out at most": STANDS_OUT,
        },
        "verdicts": [asdict(v) for v in verdicts],
        "rows": [{k: None if v != v else v for k, v in asdict(r).items()} for r in rows],
    }  # fmt: skip
    write_json(out / "sanity.json", result)
    return result


def _some(positions: Sequence[int], options: SanityOptions) -> list[int]:
    """At most so many of them, at random, in order."""
    if len(positions) <= options.films:
        return list(positions)
    rng = np.random.default_rng([options.seed, len(positions)])
    return sorted(rng.choice(np.asarray(positions), options.films, replace=False).tolist())


def _readable(index: Index, localizer: Localizer, cache: Path, bars: Bars) -> tuple[Index, Films]:
    """The films of an index that can be read, decoded."""
    films = open_films(index, size=localizer.size, fit=localizer.fit, folder=cache, progress=bars("films"))
    if films.readable.all():
        return index, films
    kept = index.subset(np.flatnonzero(films.readable).tolist())
    return kept, open_films(kept, size=localizer.size, fit=localizer.fit, folder=cache)


def _normals(
    localizer: Localizer, index: Index, part: Index, options: SanityOptions, cache: Path, bars: Bars
) -> Normals:
    """Films whose label says that no finding is there: of the split, or of all splits where it has too few."""

    def free(films: Index) -> Index:
        return films.subset([i for i, r in enumerate(films.records) if r.is_normal and not r.boxes])

    there, note = free(part), f"films without a finding of split {options.split}"
    if len(there) < LEAST:
        there, note = free(index), f"films without a finding of all splits: {options.split} has {len(there)}"
    chosen, films = _readable(there.subset(_some(range(len(there)), options)), localizer, cache, bars)
    squares = films.pixels(np.arange(len(films)))
    before = (
        look_at(localizer, list(squares))
        if len(squares)
        else Looks(np.zeros((0, 0)), np.zeros((0, 0, 0, 0), np.float32), 0)
    )
    return Normals(squares, chosen.images, chosen.patients, before, note)


def _lesions(
    localizer: Localizer, normals: Normals, pictures: Path, options: SanityOptions, bars: Bars
) -> tuple[list[Row], dict[str, list[str]]]:
    """The rows of every finding that can be planted and the run knows, and the films that had no room for it."""
    rows: list[Row] = []
    no_room: dict[str, list[str]] = {}
    findings = [f for f in PLANTED if f in localizer.findings]
    bar = bars(LESIONS)
    for step, finding in enumerate(findings):
        rngs = [np.random.default_rng([options.seed, PLANTED.index(finding), i]) for i in range(len(normals.squares))]
        tried = [plant(s, finding, r, options.plainness) for s, r in zip(normals.squares, rngs, strict=True)]
        films = [i for i, one in enumerate(tried) if one is not None]
        planted = [one for one in tried if one is not None]
        no_room[finding] = [normals.images[i] for i, one in enumerate(tried) if one is None]
        if films:
            column, before = localizer.findings.index(finding), normals.before.of(films)
            after = look_at(localizer, [one.pixels for one in planted])
            patients = [normals.patients[i] for i in films]
            rows += lesion_rows(finding, before, after, column, planted, patients, options.seed)
            change = after.maps[:, column] - before.maps[:, column]
            _draw(pictures, finding, normals.squares[films], planted, change)
        bar(step + 1, len(findings))
    return rows, no_room


def _markers(localizer: Localizer, normals: Normals, pictures: Path, options: SanityOptions, bars: Bars) -> list[Row]:
    """The rows of every marker."""
    rows: list[Row] = []
    bar = bars(MARKERS)
    for step, word in enumerate(WORDS):
        rngs = [np.random.default_rng([options.seed, 100 + step, i]) for i in range(len(normals.squares))]
        stamped = [stamp(s, word, r) for s, r in zip(normals.squares, rngs, strict=True)]
        after = look_at(localizer, [one.pixels for one in stamped])
        names = localizer.findings.names
        rows += marker_rows(word, normals.before, after, names, stamped, normals.patients, options.seed)
        _draw(pictures, f"marker_{word}", normals.squares, stamped, (after.maps - normals.before.maps).mean(axis=1))
        bar(step + 1, len(WORDS))
    return rows


def _draw(
    folder: Path,
    name: str,
    before: NDArray[np.uint8],
    planted: Sequence[Planted],
    change: NDArray[np.float32],
) -> None:
    """One picture: a film a row, as it was, changed, and where the map rose with the box of what was planted."""
    rows = []
    for film, one, rise in list(zip(before, planted, change, strict=True))[:PICTURES]:
        k = _SIDE / len(film)
        heat = np.nan_to_num(np.clip(rise, 0, None))
        heat = cv2.resize(heat / max(float(heat.max()), 1e-12), (_SIDE, _SIDE), interpolation=cv2.INTER_LINEAR)
        tiles = [cv2.resize(x, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA) for x in (film, one.pixels)]
        grey = [cv2.cvtColor(tile, cv2.COLOR_GRAY2BGR) for tile in tiles]
        tint = grey[1].astype(np.float32) * (1 - 0.6 * heat[..., None])
        tint += 0.6 * heat[..., None] * np.array([40, 40, 255], np.float32)
        last = tint.astype(np.uint8)
        x0, y0, x1, y1 = (round(k * v) for v in one.box)
        cv2.rectangle(last, (x0 - 1, y0 - 1), (x1, y1), (0, 220, 255), 1)
        rows.append(np.hstack([*grey, last]))
    with writing_whole(folder / f"{name}.png") as file:
        file.write_bytes(cv2.imencode(".png", np.vstack(rows))[1].tobytes())
