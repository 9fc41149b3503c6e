"""The predictions folder: what a model said of a list of films, on disk, readable without the model (or torch).

meta.json          schema version, method, variant, findings, map kind, hashes of checkpoint and index, code version
table.csv          image,finding,prob: one row a film and finding
maps.npy           raw maps (N, C, h, w), float16, memory-mapped
frames.npy         (N, 2, 3) float64: each map's unit square to pixels of the original film
sizes.npy          (N, 2) int64: width and height of the original film
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from cxrlocus.errors import PredictionsError
from cxrlocus.types import MAP_KINDS, Findings, FloatArray, MapKind

SCHEMA = 1

BOXES = "boxes.csv"
"""Boxes of these predictions, where `predict --boxes` was asked for them; they go when the predictions do."""

LOCK = "lock"
"""Held by who writes here."""

MAPS_PART = "maps.part.npy"
"""Maps that are not whole yet; like every other file it is written beside the one that it will replace."""


@dataclass(frozen=True)
class Predictions:
    """N films x C findings: prob (N, C), raw maps (N, C, h, w), frames (N, 2, 3), sizes (N, 2), width first.

    ``meta`` has at least "method", "variant" and "dataset" and travels to disk as it is.

    Raises:
        ValueError: shapes disagree, a probability is outside [0, 1], or the kind is unknown.
    """

    meta: dict[str, Any]
    images: tuple[str, ...]
    findings: Findings
    prob: NDArray[np.float32]
    maps: NDArray[np.floating[Any]]
    frames: FloatArray
    sizes: NDArray[np.int64]
    kind: MapKind

    def __post_init__(self) -> None:
        n, c = len(self.images), len(self.findings)
        shapes = (self.prob.shape, self.maps.shape[:2], self.frames.shape, self.sizes.shape)
        if shapes != ((n, c), (n, c), (n, 2, 3), (n, 2)) or self.maps.ndim != 4:
            raise ValueError(
                f"prob, maps, frames and sizes must be (N, C), (N, C, h, w), (N, 2, 3) and (N, 2) with N={n}, C={c}; "
                f"got {self.prob.shape}, {self.maps.shape}, {self.frames.shape} and {self.sizes.shape}."
            )
        if not ((self.prob >= 0) & (self.prob <= 1)).all():
            raise ValueError("prob must be in [0, 1]. Apply the sigmoid before storing.")
        if self.kind not in MAP_KINDS:
            raise ValueError(f"kind must be one of {', '.join(MAP_KINDS)}; got {self.kind!r}.")

    def __len__(self) -> int:
        return len(self.images)


class PredictionsWriter:
    """Writes a predictions folder film by film, and goes on where a stopped one ended.

    Maps are written as they come; ``progress.json`` says how many films are whole. meta.json comes last, so a folder
    that has one is whole.

    Args:
        folder: where to; a whole predictions folder there is replaced, once the new one is whole.
        meta: travels to meta.json; a stopped folder is continued only if it had the same.
        images: all films, in order.
        findings: the vocabulary.
        kind: of the maps.
        source: what else decides the maps (a hash of the films, say): a stopped folder is continued only if it is the
            same.

    Raises:
        PredictionsError: the folder holds other things than predictions, or another process writes there.
    """

    def __init__(
        self,
        folder: Path,
        *,
        meta: Mapping[str, Any],
        images: tuple[str, ...],
        findings: Findings,
        kind: MapKind,
        source: str = "",
    ) -> None:
        self.folder, self.meta, self.images, self.findings, self.kind = folder, dict(meta), images, findings, kind
        self.done = 0
        folder.mkdir(parents=True, exist_ok=True)
        check_place(folder)
        self._lock = FileLock(folder / LOCK)
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise PredictionsError(
                f"{folder}: another process predicts into it. Wait for it, or give another --out."
            ) from error
        self._key = hashlib.sha256(repr((self.meta, images, findings.names, kind, source)).encode()).hexdigest()
        n = len(images)
        self._small: dict[str, NDArray[Any]] = {
            "prob": np.zeros((n, len(findings)), np.float32),
            "frames": np.zeros((n, 2, 3)),
            "sizes": np.zeros((n, 2), np.int64),
        }
        self._maps: NDArray[np.float16] | None = None
        self._resume()

    def _resume(self) -> None:
        path = self.folder / "progress.json"
        if path.is_file():
            try:
                progress = json.loads(path.read_text(encoding="utf-8"))
                if progress["key"] == self._key:
                    with (self.folder / "progress.npz").open("rb") as file:
                        saved = np.load(file)
                        small = {name: saved[name] for name in self._small}
                    # Opened to read first: opened to write, a file that was cut short is filled up with zeros.
                    np.load(self.folder / MAPS_PART, mmap_mode="r")
                    maps = np.load(self.folder / MAPS_PART, mmap_mode="r+")
                    self._small, self._maps, self.done = small, maps, int(progress["done"])
                    return
            except (OSError, ValueError, LookupError, TypeError, EOFError, zipfile.BadZipFile):
                # Progress that was itself damaged by the stop is no progress: the films are predicted again.
                pass
            path.unlink()

    def append(
        self, prob: NDArray[np.float32], maps: NDArray[np.floating[Any]], frames: FloatArray, sizes: NDArray[np.int64]
    ) -> None:
        """Add the next n films: prob (n, C), maps (n, C, h, w), frames (n, 2, 3), sizes (n, 2).

        Raises:
            PredictionsError: a probability is not in [0, 1].
            OSError: the disk has no room for the maps of all films.
        """
        outside = ~((prob >= 0) & (prob <= 1)).all(axis=1)
        if outside.any():
            film = self.images[self.done + int(outside.argmax())]
            raise PredictionsError(f"{film}: prob must be in [0, 1]; got {prob[outside][0].tolist()}. Train again.")
        if self._maps is None:
            self._maps = self._new_maps((len(self.images), *maps.shape[1:]))
        here = slice(self.done, self.done + len(prob))
        # float16 ends at 65504; evidence beyond it keeps its order as the largest finite value.
        self._maps[here] = np.clip(maps, -65504, 65504)
        for name, value in (("prob", prob), ("frames", frames), ("sizes", sizes)):
            self._small[name][here] = value
        self.done += len(prob)

    def _new_maps(self, shape: tuple[int, ...]) -> NDArray[np.float16]:
        path = self.folder / MAPS_PART
        maps = np.lib.format.open_memmap(path, "w+", np.float16, shape)
        if hasattr(os, "posix_fallocate"):
            # A map over a hole in a file kills the process when the disk fills up; room taken at once is an error.
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        return maps

    def flush(self) -> None:
        """Make what was appended survive a kill."""
        if self._maps is not None and self.done:
            self._maps.flush()  # type: ignore[attr-defined]  # a memmap, which NDArray does not show
            part = self.folder / "progress.part.npz"
            np.savez(part, allow_pickle=False, **self._small)
            part.replace(self.folder / "progress.npz")
            (self.folder / "progress.json").write_text(
                json.dumps({"key": self._key, "done": self.done}), encoding="utf-8"
            )

    def finish(self) -> None:
        """Write the table and meta.json.

        Raises:
            PredictionsError: films are missing.
        """
        if self._maps is None or self.done != len(self.images):
            raise PredictionsError(
                f"{self.folder}: {self.done} of {len(self.images)} films predicted; nothing to finish."
            )
        self._maps.flush()  # type: ignore[attr-defined]  # a memmap, which NDArray does not show
        for name in ("frames", "sizes"):
            np.save(self.folder / f"{name}.part.npy", self._small[name])
        with (self.folder / "table.part.csv").open("w", newline="", encoding="utf-8") as file:
            rows = csv.writer(file)
            rows.writerow(("image", "finding", "prob"))
            for image, prob in zip(self.images, self._small["prob"], strict=True):
                rows.writerows((image, f, f"{p:.9g}") for f, p in zip(self.findings, prob, strict=True))
        meta = {
            **self.meta,
            "schema": SCHEMA,
            "findings": list(self.findings),
            "kind": self.kind,
            "films": len(self.images),
        }
        (self.folder / "meta.part.json").write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
        self._put_in_place()

    def _put_in_place(self) -> None:
        """Let what is whole take the place of what was there: renaming needs no room, so a full disk loses nothing."""
        for name in ("meta.json", BOXES):
            (self.folder / name).unlink(missing_ok=True)
        for name in ("maps.npy", "frames.npy", "sizes.npy", "table.csv", "meta.json"):
            stem, _, suffix = name.partition(".")
            (self.folder / f"{stem}.part.{suffix}").replace(self.folder / name)
        for name in ("progress.json", "progress.npz", "progress.part.npz"):
            (self.folder / name).unlink(missing_ok=True)
        self._maps = None
        self.close()

    def close(self) -> None:
        """Keep what was appended to go on from, if it is not finished, and let others write here."""
        if self._lock.is_locked:
            try:
                self.flush()
            finally:
                (self.folder / LOCK).unlink(missing_ok=True)
                self._lock.release()


def check_place(folder: Path) -> None:
    """See, before the work, that predictions written here overwrite nothing but predictions, whole or begun.

    Raises:
        PredictionsError: the folder holds something else. Hidden files do not count.
    """
    there = {p.name for p in folder.iterdir() if not p.name.startswith(".")} if folder.is_dir() else set()
    if there - {LOCK} and not {"meta.json", "progress.json", "progress.npz", MAPS_PART} & there:
        raise PredictionsError(
            f"{folder}: must be empty or hold predictions; it has {min(there)!r}. Give another --out."
        )


def write_predictions(folder: Path, predictions: Predictions) -> None:
    """Write a predictions folder at once."""
    p = predictions
    writer = PredictionsWriter(folder, meta=p.meta, images=p.images, findings=p.findings, kind=p.kind)
    writer.append(p.prob[writer.done :], p.maps[writer.done :], p.frames[writer.done :], p.sizes[writer.done :])
    writer.finish()


def read_predictions(folder: str | Path) -> Predictions:
    """Read a predictions folder, maps memory-mapped.

    Raises:
        PredictionsError: the folder is missing, incomplete, damaged, or of another schema version.
    """
    folder = Path(folder)
    if not folder.exists():
        raise PredictionsError(f"{folder}: no such file or folder. Give what `cxrlocus predict` wrote.")
    if not (folder / "meta.json").is_file():
        raise PredictionsError(
            f"{folder}: no meta.json, so not a (whole) predictions folder. Run `cxrlocus predict` again."
        )
    try:
        meta = json.loads((folder / "meta.json").read_text(encoding="utf-8"))
        if not isinstance(meta, dict) or meta.get("schema") != SCHEMA:
            schema = meta.get("schema") if isinstance(meta, dict) else None
            raise PredictionsError(
                f"{folder}: predictions schema {schema!r}, but this version reads {SCHEMA}. Predict again."
            )
        if not all(isinstance(meta.get(name), str) for name in ("method", "variant", "dataset")):
            raise ValueError("meta.json must name method, variant and dataset")
        findings = Findings(tuple(meta["findings"]))
        images, prob = _read_table(folder / "table.csv", findings)
        return Predictions(
            meta,
            images,
            findings,
            prob,
            maps=np.load(folder / "maps.npy", mmap_mode="r"),
            frames=np.load(folder / "frames.npy"),
            sizes=np.load(folder / "sizes.npy"),
            kind=meta["kind"],
        )
    except (OSError, ValueError, LookupError, TypeError, EOFError, csv.Error) as error:
        raise PredictionsError(
            f"{folder}: damaged predictions folder ({error}). Run `cxrlocus predict` again."
        ) from error


def _read_table(path: Path, findings: Findings) -> tuple[tuple[str, ...], NDArray[np.float32]]:
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))[1:]
    images = tuple(r[0] for r in rows[:: len(findings)])
    # Read by position, so every row must say that it stands where it should: a sorted table would be misread.
    expected = [[image, finding] for image in images for finding in findings]
    if [r[:2] for r in rows] != expected or len(set(images)) != len(images):
        raise ValueError("table.csv must have each film's findings in meta.json's order, each film once")
    return images, np.array([float(r[2]) for r in rows], dtype=np.float32).reshape(-1, len(findings))
