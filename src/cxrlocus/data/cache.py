"""Films decoded once: 8-bit squares, memory-mapped, built and read by any number of processes (files: ``squares``)."""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cxrlocus.data.images import content_box, decode_film, film_frame, film_size, read_bytes, square_frame, to_square
from cxrlocus.data.records import Dropped, Index, Record
from cxrlocus.data.squares import HashMemo, Slot, Square, SquareStore, file_key
from cxrlocus.errors import DataError, ImageError
from cxrlocus.types import BoolArray, Fit, FloatArray

Progress = Callable[[int, int], None]
"""Called with (films done, films in all)."""

_CHUNK_BYTES = 8_000_000


@dataclass(frozen=True)
class Films:
    """N films as squares of ``size`` pixels, ready to be gathered.

    Args:
        size: S, the side of a square.
        fit: how the films came into the square.
        frames: (N, 2, 3) unit square to pixels of the original film; NaN for an unreadable film.
        sizes: (N, 2) width and height of the original film; 0 for an unreadable film.
        readable: (N,) whether the film could be read.
        unreadable: the films that could not, with the reason.
        store: the file of squares.
        slots: (N,) where in it each film is; meaningful only where ``readable``.
        shas: (N,) sha256 of each film's file, hex; "" for an unreadable film.
    """

    size: int
    fit: Fit
    frames: FloatArray
    sizes: NDArray[np.int64]
    readable: BoolArray
    unreadable: tuple[Dropped, ...]
    store: Path
    slots: NDArray[np.int64]
    shas: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.slots)

    def hash(self, positions: NDArray[np.int64]) -> str:
        """Of the files of the films at these positions, and of the sizes that they are taken to have; hex."""
        files = "".join(self.shas[int(i)] for i in positions)
        return hashlib.sha256(files.encode() + self.sizes[positions].tobytes()).hexdigest()

    def pixels(self, positions: NDArray[np.int64]) -> NDArray[np.uint8]:
        """The squares (n, S, S) at these positions, a copy.

        Raises:
            DataError: one of the films cannot be read.
        """
        positions = np.asarray(positions, dtype=np.int64)
        if not self.readable[positions].all():
            bad = int(positions[~self.readable[positions]][0])
            film = self.unreadable[int((~self.readable[:bad]).sum())]
            raise DataError(f"{film.item}: {film.reason}. Leave films that are not readable out.")
        return np.take(self._mapped, self.slots[positions], axis=0)

    @cached_property
    def _mapped(self) -> NDArray[np.uint8]:
        if not self.readable.any():
            return np.empty((0, self.size, self.size), dtype=np.uint8)
        count = int(self.slots[self.readable].max()) + 1
        # A plain array over the map: np.memmap would come back from every gather as a memmap again.
        return np.asarray(np.memmap(self.store, dtype=np.uint8, mode="r", shape=(count, self.size, self.size)))

    def __getstate__(self) -> dict[str, object]:
        # Sent to another process, films are mapped there again, not copied.
        return {name: value for name, value in self.__dict__.items() if name != "_mapped"}


def default_cache_folder() -> Path:
    """$CXRLOCUS_CACHE, else ``cxrlocus`` in the user's cache folder ($XDG_CACHE_HOME or ~/.cache)."""
    named = os.environ.get("CXRLOCUS_CACHE")
    if named:
        return Path(named).expanduser()
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "cxrlocus"


def open_films(
    films: Index | Sequence[Path],
    *,
    size: int,
    fit: Fit = "letterbox",
    folder: Path | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> Films:
    """The films as squares of ``size``; what the cache does not have yet is decoded, once, and kept.

    A film that cannot be read is listed in ``unreadable`` and the rest go on. Films are known by content (sha256): a
    moved or copied file is not decoded again. Another process that builds the same cache is waited for.

    Args:
        films: an index, or files.
        size: S, the side of a square, at least 1.
        fit: "letterbox" or "stretch", as ``to_square``.
        folder: the cache; None means ``default_cache_folder()``.
        progress: called with (done, in all), also while another process is waited for.
        workers: threads that decode; None means one a core, at most 16.

    Raises:
        ValueError: ``size`` is below 1 or ``fit`` unknown.
        CxrlocusError: the cache folder cannot be written (a full disk, say); what it has stays good.

    Example:
        >>> import tempfile, cv2
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = cv2.imwrite(str(folder / "a.png"), np.full((40, 20), 7, dtype=np.uint8))
        >>> films = open_films([folder / "a.png", folder / "b.png"], size=4, folder=folder / "cache")
        >>> films.readable.tolist(), films.sizes[0].tolist(), films.unreadable[0].reason
        ([True, False], [20, 40], 'no such file')
        >>> films.pixels(np.array([0]))[0, 0].tolist()
        [0, 7, 7, 0]
    """
    content_box(1, 1, size, fit)
    records = films.records if isinstance(films, Index) else [Record(str(p), Path(p), str(p)) for p in films]
    root = default_cache_folder() if folder is None else folder
    build = _Build(SquareStore(root, size, fit), HashMemo(root), [r.path for r in records], progress or _silent)
    if build.missing():
        build.run(workers or min(os.cpu_count() or 1, 16))
    return _films(records, build, size, fit)


def _silent(done: int, total: int) -> None:
    """Progress that nobody watches."""


def _films(records: Sequence[Record], build: _Build, size: int, fit: Fit) -> Films:
    frames = np.full((len(records), 2, 3), np.nan)
    sizes = np.zeros((len(records), 2), dtype=np.int64)
    slots = np.full(len(records), -1, dtype=np.int64)
    shas = [""] * len(records)
    # Films of one size share a frame; a whole archive has few.
    known: dict[tuple[object, ...], FloatArray] = {}
    for i, record in enumerate(records):
        slot = build.slot(i)
        if slot is None:
            continue
        file_size = (slot.width, slot.height)
        key = (file_size, record.size)
        if key not in known:
            known[key] = film_frame(record, square_frame(*file_size, size, fit), file_size).matrix
        slots[i], sizes[i], frames[i] = slot.number, film_size(record, file_size), known[key]
        shas[i] = slot.sha
    unreadable = tuple(Dropped(str(records[i].path), reason) for i, reason in sorted(build.failed.items()))
    return Films(size, fit, frames, sizes, slots >= 0, unreadable, build.store.pixels, slots, tuple(shas))


class _Decoded(NamedTuple):
    """What a worker says of one file: its hash and, unless the cache has it, its square; or why it cannot be read."""

    position: int
    sha: str = ""
    square: Square | None = None
    reason: str = ""


class _Build:
    """One call's way from files to slots."""

    def __init__(self, store: SquareStore, memo: HashMemo, paths: Sequence[Path], progress: Progress) -> None:
        self.store, self.memo, self.paths, self.progress = store, memo, paths, progress
        self.keys = [file_key(path) for path in paths]
        self.shas: list[str | None] = [None] * len(paths)
        self.slots = store.read()
        self._recall()
        # Files that are not there are listed without the lock: a whole cache that cannot be written still serves.
        gone = (self._decode(i) for i, key in enumerate(self.keys) if key is None)
        self.failed = {result.position: result.reason for result in gone if result.reason}

    def _recall(self) -> None:
        """Take over the hashes that are known by now, other processes' among them."""
        known = self.memo.read()
        self.shas = [sha or (known.get(key) if key else None) for sha, key in zip(self.shas, self.keys, strict=True)]

    def slot(self, position: int) -> Slot | None:
        """A film's slot, None if it has none (yet)."""
        sha = self.shas[position]
        return None if sha is None else self.slots.get(sha)

    def missing(self) -> list[int]:
        """The films that the cache does not have and that are not known to be unreadable."""
        return [i for i in range(len(self.paths)) if i not in self.failed and self.slot(i) is None]

    def run(self, workers: int) -> None:
        """Decode what is missing, once no other process does."""
        with self.store.writing(self._waiting) as free:
            if not free:
                return
            self.slots = self.store.trim()
            self._recall()
            todo = self.missing()
            done, per_chunk = len(self.paths) - len(todo), max(1, min(1024, _CHUNK_BYTES // self.store.size**2))
            chunk: list[_Decoded] = []
            for result in _parallel(self._decode, todo, workers):
                chunk.append(result)
                if len(chunk) == per_chunk:
                    self._commit(chunk)
                    chunk = []
                done += 1
                self.progress(done, len(self.paths))
            self._commit(chunk)

    def _waiting(self) -> bool:
        """Whether the process that holds the lock has meanwhile done all that this one wants."""
        self.slots = self.store.read()
        self._recall()
        missing = len(self.missing())
        self.progress(len(self.paths) - missing, len(self.paths))
        return missing == 0

    def _decode(self, position: int) -> _Decoded:
        path = self.paths[position]
        try:
            data = read_bytes(path)
            sha = hashlib.sha256(data).hexdigest()
            if sha in self.slots:
                return _Decoded(position, sha)
            film = decode_film(data, path)
            pixels, _ = to_square(film, self.store.size, self.store.fit)
            return _Decoded(position, sha, Square(sha, pixels, width=film.shape[1], height=film.shape[0]))
        except ImageError as error:
            return _Decoded(position, reason=error.reason)

    def _commit(self, chunk: Sequence[_Decoded]) -> None:
        self.failed.update({r.position: r.reason for r in chunk if r.reason})
        fresh = {r.sha: r.square for r in chunk if r.square is not None and r.sha not in self.slots}
        self.slots.update(self.store.append(list(fresh.values())))
        whole = [r for r in chunk if not r.reason]
        for r in whole:
            self.shas[r.position] = r.sha
        self.memo.append([(key, r.sha) for r in whole if (key := self.keys[r.position]) is not None])


def _parallel(work: Callable[[int], _Decoded], todo: Sequence[int], workers: int) -> Iterator[_Decoded]:
    """``map`` over threads (codecs and hashes release the GIL), at most two films a worker in flight."""
    with ThreadPoolExecutor(workers, thread_name_prefix="decode") as pool:
        ahead: deque[Future[_Decoded]] = deque()
        try:
            for i in todo:
                ahead.append(pool.submit(work, i))
                if len(ahead) >= 2 * workers:
                    yield ahead.popleft().result()
            while ahead:
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                future.cancel()
