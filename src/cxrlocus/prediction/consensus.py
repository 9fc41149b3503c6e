"""Consensus: several localizers' maps of the same films as one, on one grid, on a scale that they share.

Maps of different methods share neither grid nor frame nor unit. Each is brought to the unit square of its film and
replaced by where its cells stand among each other; then a weighted mean is taken. See docs/consensus.md.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrlocus.errors import ConfigError, PredictionsError
from cxrlocus.files import explained
from cxrlocus.prediction.store import Predictions, PredictionsWriter, read_predictions
from cxrlocus.regions.shares import SCALES, Scale, on_unit_square, share_scale, weighted_mean
from cxrlocus.types import Findings, FloatArray, Frame

MOST_CELLS = 64
"""Cells a side that the common grid has at most, unless told otherwise."""

LEAST_PROB = 1e-6
"""A probability nearer to 0 or 1 counts as this near: one certain member must not silence the others."""

FLUSH_EVERY = 1000
"""Films between two moments that a stopped consensus can go on from."""

BATCH = 32


def mean_prob(prob: NDArray[np.floating], weights: FloatArray) -> NDArray[np.float32]:
    """Weighted mean (C,) of K members' probabilities (K, C) on the scale of log odds.

        logit p = sum_k w_k logit p_k / sum_k w_k

    A film's number does not depend on the other films, as a rank would.

    Args:
        prob: in [0, 1]; nearer to an end than ``LEAST_PROB`` counts as that near.
        weights: (K, C), not negative; a column of zeros gives 1/2.

    Example:
        >>> mean_prob(np.array([[0.9], [0.1]]), np.ones((2, 1))).round(3).tolist()
        [0.5]
    """
    p = np.clip(np.asarray(prob, dtype=np.float64), LEAST_PROB, 1 - LEAST_PROB)
    total = np.asarray(weights.sum(axis=0), dtype=np.float64)
    mean = np.divide((weights * np.log(p / (1 - p))).sum(axis=0), total, out=np.zeros_like(total), where=total > 0)
    return np.asarray(1 / (1 + np.exp(-mean)), dtype=np.float32)


@dataclass(frozen=True)
class Members:
    """K predictions of the same films and findings, side by side.

    Args:
        parts: the K predictions.
        names: K names of them, for records and messages.
        images: the N films that all have, in the order of the first.
        findings: the C findings that all know, in the order of the first.
        rows: (K, N) where each film is in each part.
        columns: (K, C) where each finding is.
        sizes: (N, 2) width and height of the films.
        left_out: films and findings that only some have, each with the reason.
    """

    parts: tuple[Predictions, ...]
    names: tuple[str, ...]
    images: tuple[str, ...]
    findings: Findings
    rows: NDArray[np.int64]
    columns: NDArray[np.int64]
    sizes: NDArray[np.int64]
    left_out: tuple[tuple[str, str], ...]

    def __len__(self) -> int:
        return len(self.parts)

    @property
    def cells(self) -> int:
        """Side of the common grid: the finest map's, at most ``MOST_CELLS``."""
        return min(MOST_CELLS, max(int(side) for part in self.parts for side in part.maps.shape[2:]))

    def scaled(self, film: int, finding: int, cells: int, scale: Scale) -> FloatArray:
        """The K maps (K, cells, cells) of one film and finding on the common grid and scale; NaN where there is none.

        Raises:
            PredictionsError: a map is infinite, or NaN in some cells only.
        """
        size = (int(self.sizes[film, 0]), int(self.sizes[film, 1]))
        maps = np.empty((len(self), cells, cells))
        for k, part in enumerate(self.parts):
            row, column = self.rows[k, film], self.columns[k, finding]
            raw = np.asarray(part.maps[row, column], dtype=np.float32)
            if np.isnan(raw).all():
                maps[k] = np.nan
                continue
            if not np.isfinite(raw).all():
                raise PredictionsError(
                    f"{self.names[k]}: the map of {self.images[film]}, {self.findings.names[finding]} must be finite, "
                    f"or NaN throughout; got {int((~np.isfinite(raw)).sum())} cells that are not. Predict again."
                )
            maps[k] = share_scale(on_unit_square(raw, part.frames[row], size, cells), scale)
        return maps


def join_members(folders: Sequence[Path]) -> Members:
    """Read several predictions folders as members of one consensus.

    Raises:
        ConfigError: fewer than two folders, or one twice.
        PredictionsError: one cannot be read, no film or finding is common, data sets differ, or a film's size does.
    """
    different = len({folder.resolve() for folder in folders})
    if different < 2 or different != len(folders):
        twice = f", {len(folders) - different} of them twice" if different < len(folders) else ""
        raise ConfigError(
            f"a consensus needs at least two different predictions folders; got {len(folders)}{twice}. Give each once."
        )
    return join_predictions([read_predictions(folder) for folder in folders], [str(folder) for folder in folders])


def join_predictions(parts: Sequence[Predictions], names: Sequence[str]) -> Members:
    """Members from predictions at hand; ``names`` stand for them in messages and errors are ``join_members``'."""
    first = parts[0]
    datasets = sorted({str(part.meta["dataset"]) for part in parts})
    if len(datasets) > 1:
        raise PredictionsError(
            f"{names[-1]}: members must be of one data set; got {', '.join(datasets)}. Leave one out."
        )
    images = _common([part.images for part in parts], "film", names)
    findings = _common([part.findings.names for part in parts], "finding", names)
    where = [{name: i for i, name in enumerate(part.images)} for part in parts]
    rows = np.array([[place[image] for image in images] for place in where], dtype=np.int64)
    columns = np.array([[part.findings.index(f) for f in findings] for part in parts], dtype=np.int64)
    sizes = np.stack([part.sizes[row] for part, row in zip(parts, rows, strict=True)])
    differ = (sizes != sizes[0]).any(axis=(0, 2))
    if differ.any():
        film = int(differ.argmax())
        raise PredictionsError(
            f"{names[-1]}: {images[film]} must have one size in all members; got {sizes[:, film].tolist()}. "
            "Predict the same films."
        )
    return Members(
        tuple(parts), tuple(names), images, Findings(findings), rows, columns, first.sizes[rows[0]],
        (*_partial([p.findings.names for p in parts], findings), *_partial([p.images for p in parts], images)),
    )  # fmt: skip


def write_consensus(
    members: Members,
    weights: FloatArray,
    out: Path,
    *,
    meta: Mapping[str, Any],
    cells: int,
    scale: Scale = "tail",
    on_film: Callable[[int, int], None] | None = None,
) -> None:
    """Write the predictions folder of the weighted mean; stopped and called again, it goes on.

    Maps are of kind "logit": in [0, 1], but evidence without a unit. That a cell is among the hottest of its film does
    not say that the finding is there; that is for the probabilities.

    Args:
        members: what is combined.
        weights: (N, C, K), not negative.
        out: the folder, none of the members'.
        meta: what to record; "method", "variant" and "dataset" among it. It must tell one consensus from another.
        cells: side of the common grid, at least 1.
        scale: of the maps, "tail" or "rank".
        on_film: called with (films done, films in all).

    Raises:
        ConfigError: ``cells`` is below 1, the scale unknown, or weights are not (N, C, K) and not negative.
        PredictionsError: a map is not finite, or the folder cannot be written; the same call goes on.
    """
    shape = (len(members.images), len(members.findings), len(members))
    if cells < 1 or scale not in SCALES:
        raise ConfigError(f"cells must be at least 1 and scale one of {', '.join(SCALES)}; got {cells} and {scale!r}.")
    if weights.shape != shape or not (np.isfinite(weights) & (weights >= 0)).all():
        raise ConfigError(f"weights must be {shape} finite numbers of at least 0; got shape {weights.shape}.")
    with explained(out, PredictionsError):
        writer = PredictionsWriter(out, meta=meta, images=members.images, findings=members.findings, kind="logit")
        try:
            for start in range(writer.done, len(members.images), BATCH):
                films = range(start, min(start + BATCH, len(members.images)))
                writer.append(*_combined(members, weights, films, cells, scale))
                if writer.done // FLUSH_EVERY > start // FLUSH_EVERY:
                    writer.flush()
                if on_film:
                    on_film(writer.done, len(members.images))
            writer.finish()
        finally:
            writer.close()


def describe(members: Members, *, cells: int, scale: Scale, weights: Mapping[str, Any], knows: str) -> dict[str, Any]:
    """The meta of a consensus: what was combined and how, and all that any member knew.

    Args:
        members: what is combined.
        cells: side of the grid.
        scale: of the maps.
        weights: how they came about, and what they are.
        knows: what choosing them took beyond labels; "" for nothing.
    """
    metas = [part.meta for part in members.parts]

    def joined(name: str, *more: str) -> str:
        return "; ".join(dict.fromkeys(text for text in (*(str(m.get(name, "")) for m in metas), *more) if text))

    splits = {str(m.get("split", "")) for m in metas}
    copied = ("method", "variant", "run", "seed", "trained_on", "knows", "leakage", "init", "weights", "version")
    return {
        "method": "consensus",
        "variant": "" if weights["scheme"] == "equal" else str(weights["scheme"]),
        "dataset": str(metas[0]["dataset"]),
        "split": splits.pop() if len(splits) == 1 else "",
        "knows": joined("knows", knows),
        "leakage": joined("leakage"),
        "trained_on": joined("trained_on"),
        "grid": cells,
        "scale": scale,
        "consensus_weights": dict(weights),
        "members": [
            {**{k: m[k] for k in copied if k in m}, "kind": part.kind, "content": _content(part)}
            for m, part in zip(metas, members.parts, strict=True)
        ],
        "left_out": [list(one) for one in members.left_out],
    }


def _combined(
    members: Members, weights: FloatArray, films: range, cells: int, scale: Scale
) -> tuple[NDArray[np.float32], NDArray[np.float32], FloatArray, NDArray[np.int64]]:
    n, c = len(films), len(members.findings)
    prob, maps = np.empty((n, c), np.float32), np.empty((n, c, cells, cells), np.float32)
    for i, film in enumerate(films):
        said = np.stack([p.prob[members.rows[k, film]][members.columns[k]] for k, p in enumerate(members.parts)])
        prob[i] = mean_prob(said, weights[film].T)
        for j in range(c):
            maps[i, j] = weighted_mean(members.scaled(film, j, cells, scale), weights[film, j])
    sizes = members.sizes[films.start : films.stop]
    return prob, maps, np.stack([Frame.of_size(*size).matrix for size in sizes.tolist()]), sizes


def _common(lists: Sequence[Sequence[str]], what: str, names: Sequence[str]) -> tuple[str, ...]:
    shared = reduce(set.intersection, (set(one) for one in lists))
    if not shared:
        raise PredictionsError(f"no {what} is in all of {', '.join(names)}. Predict the same {what}s with each.")
    return tuple(one for one in lists[0] if one in shared)


def _partial(lists: Sequence[Sequence[str]], kept: Sequence[str]) -> list[tuple[str, str]]:
    """What only some of the lists have, in the order in which it comes up, with how many have it."""
    shared = set(kept)
    counts = Counter(one for each in lists for one in each if one not in shared)
    return [(one, f"in {n} of {len(lists)} members") for one, n in counts.items()]


def _content(part: Predictions) -> str:
    """sha256 over a member's meta, films and probabilities: another prediction is another consensus."""
    digest = hashlib.sha256(json.dumps(part.meta, sort_keys=True).encode())
    digest.update(repr(part.images).encode())
    digest.update(np.ascontiguousarray(part.prob).tobytes())
    return digest.hexdigest()
