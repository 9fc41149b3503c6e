"""Files that appear whole or not at all, and write errors that say so in one line."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cxrlocus.errors import CxrlocusError

REMEDY = "Make room, or mend the path, and run the same command again; what was there before stands."


@contextmanager
def explained(path: Path, error: type[CxrlocusError] = CxrlocusError, remedy: str = REMEDY) -> Iterator[None]:
    """An OSError within the block becomes one line of ours that names the file, the reason and the remedy.

    Example:
        >>> with explained(Path("a.json")):
        ...     raise OSError(28, "No space left on device")
        Traceback (most recent call last):
            ...
        cxrlocus.errors.CxrlocusError: a.json: cannot be written (No space left on device). Make room, or mend \
the path, and run the same command again; what was there before stands.
    """
    try:
        yield
    except OSError as reason:
        raise error(f"{path}: cannot be written ({reason.strerror or reason}). {remedy}") from reason


@contextmanager
def writing_whole(path: Path, error: type[CxrlocusError] = CxrlocusError, remedy: str = REMEDY) -> Iterator[Path]:
    """A path to write to that becomes ``path`` at the end of the block, whole and on the disk, or not at all.

    Raises:
        CxrlocusError: it cannot be written; a file that was there before stands.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a.txt"
        >>> with writing_whole(path) as part:
        ...     _ = part.write_text("all")
        ...     path.exists()
        False
        >>> path.read_text()
        'all'
    """
    part = path.with_name(f".{path.name}.part")
    with explained(path, error, remedy):
        try:
            yield part
            with part.open("r+b") as file:
                os.fsync(file.fileno())
            part.replace(path)
            _sync_folder(path.parent)
        finally:
            part.unlink(missing_ok=True)


def write_text_whole(path: Path, text: str, error: type[CxrlocusError] = CxrlocusError) -> None:
    """Write a text file as UTF-8, whole or not at all.

    Raises:
        CxrlocusError: it cannot be written; a file that was there before stands.
    """
    with writing_whole(path, error) as part:
        part.write_text(text, encoding="utf-8")


def _sync_folder(folder: Path) -> None:
    # Only POSIX can open a folder; elsewhere the rename is as durable as the file system makes it.
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
