"""The cache's files: squares, their journal, and the hashes of files.

    <cache>/hashes.jsonl                 [path, bytes, mtime_ns, sha256] a line: spares reading known files again
    <cache>/v1-<size>-<fit>/pixels.u8    square k is bytes k S S to (k + 1) S S
    <cache>/v1-<size>-<fit>/slots.jsonl  [sha256 of the file, k, width, height] a line: the journal

All are only ever appended to, under a lock, pixels first: what the journal names is whole, whatever was killed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from cxrlocus.errors import CxrlocusError
from cxrlocus.types import Fit

_POLL_SECONDS = 2.0
_LONGEST_LINE = 65536


class Slot(NamedTuple):
    """A film in the store: the sha256 of its file, which square it is, and the file's width and height."""

    sha: str
    number: int
    width: int
    height: int


class Square(NamedTuple):
    """A film on its way into the store: the sha256 of its file, its square, and the file's width and height."""

    sha: str
    pixels: NDArray[np.uint8]
    width: int
    height: int


class SquareStore:
    """The squares of one size and fit, and their journal."""

    def __init__(self, root: Path, size: int, fit: Fit) -> None:
        self.size, self.fit = size, fit
        self.folder = root / f"v1-{size}-{fit}"
        self.pixels, self.journal = self.folder / "pixels.u8", self.folder / "slots.jsonl"
        self._end = 0

    def read(self) -> dict[str, Slot]:
        """The whole squares by hash. Needs no lock."""
        lines = _lines(self.journal)
        room = self.pixels.stat().st_size // self.size**2 if self.pixels.exists() else 0
        # A slot that two lines claim was given away again after the file of pixels had been cut: the last is right.
        last = {slot.number: slot for slot in (_parse(line) for line in lines) if slot}
        return {slot.sha: slot for slot in last.values() if slot.number < room}

    @contextmanager
    def writing(self, waiting: Callable[[], bool]) -> Iterator[bool]:
        """Wait for the lock and give True, or False, without it, once ``waiting()`` says that nothing is left to do."""
        with self._explained():
            self.folder.mkdir(parents=True, exist_ok=True)
            lock = FileLock(self.folder / "lock")
        held = False
        while not held:
            try:
                with self._explained():
                    lock.acquire(timeout=_POLL_SECONDS)
                held = True
            except Timeout:
                if waiting():
                    break
        try:
            yield held
        finally:
            lock.release()

    def trim(self) -> dict[str, Slot]:
        """Cut off what a killed writer left behind the last whole line and square. Needs the lock."""
        with self._explained():
            _cut_torn_line(self.journal)
            slots = self.read()
            self._end = max((slot.number for slot in slots.values()), default=-1) + 1
            with self.pixels.open("ab") as file:
                file.truncate(self._end * self.size**2)
            return slots

    def append(self, squares: Sequence[Square]) -> dict[str, Slot]:
        """Write squares, then their journal lines. Needs the lock, and ``trim`` before the first."""
        slots = [Slot(s.sha, self._end + k, s.width, s.height) for k, s in enumerate(squares)]
        if slots:
            with self._explained():
                self._write_pixels(squares)
                _append_lines(self.journal, slots)
            self._end += len(slots)
        return {slot.sha: slot for slot in slots}

    def _write_pixels(self, squares: Sequence[Square]) -> None:
        with self.pixels.open("r+b") as file:
            end = file.seek(self._end * self.size**2)
            try:
                _write(file.fileno(), b"".join(s.pixels.tobytes() for s in squares))
            except OSError:
                # A full disk gets back what half a write took of it.
                file.truncate(end)
                raise

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except Timeout:
            raise
        except OSError as error:
            raise CxrlocusError(
                f"{self.folder}: the image cache cannot be written ({error.strerror or error}); the films it has are "
                "kept. Free space there, or name another folder by --cache or $CXRLOCUS_CACHE."
            ) from error


Key = tuple[str, int, int]
"""A file that was hashed: absolute path, bytes, mtime_ns."""


class HashMemo:
    """What was hashed before: (path, bytes, mtime_ns) to sha256."""

    def __init__(self, root: Path) -> None:
        self.path = root / "hashes.jsonl"

    def read(self) -> dict[Key, str]:
        """All that is known; lines that make no sense are passed over."""
        known: dict[Key, str] = {}
        for line in _lines(self.path):
            with suppress(ValueError, TypeError):
                path, size, mtime, sha = json.loads(line)
                known[path, size, mtime] = sha
        return known

    def append(self, entries: Sequence[tuple[Key, str]]) -> None:
        """Remember more. A memo that cannot be written costs time at the next start and nothing else."""
        if entries:
            with suppress(OSError), FileLock(self.path.with_suffix(".lock")):
                _cut_torn_line(self.path)
                _append_lines(self.path, [(*key, sha) for key, sha in entries])


def file_key(path: Path) -> Key | None:
    """What a file's hash is remembered by; None if there is no such file."""
    try:
        stat = path.stat()
    except (OSError, ValueError):
        return None
    return os.path.abspath(path), stat.st_size, stat.st_mtime_ns  # noqa: PTH100 - resolve() would stat every parent


def _parse(line: bytes) -> Slot | None:
    try:
        sha, number, width, height = json.loads(line)
        return Slot(str(sha), int(number), int(width), int(height))
    except (ValueError, TypeError):
        return None


def _lines(path: Path) -> list[bytes]:
    try:
        return path.read_bytes().split(b"\n")[:-1]
    except FileNotFoundError:
        return []


def _cut_torn_line(path: Path) -> None:
    with path.open("a+b") as file:
        end = file.seek(0, os.SEEK_END)
        start = file.seek(max(0, end - _LONGEST_LINE))
        file.truncate(start + file.read().rfind(b"\n") + 1)


def _append_lines(path: Path, rows: Sequence[Sequence[object]]) -> None:
    with path.open("ab") as file:
        _write(file.fileno(), "".join(json.dumps(list(row), separators=(",", ":")) + "\n" for row in rows).encode())


def _write(descriptor: int, data: bytes) -> None:
    """All of it, on the disk: a full disk shows here and not at some later close."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
    os.fsync(descriptor)
