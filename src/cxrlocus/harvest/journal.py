"""The journal of a harvest, shard by shard: what a stopped harvest goes on from, and all that the exports are made of.

<out>/journal/key.json     what is harvested, with what; any other harvest in this folder is refused
<out>/journal/00000.json   one shard of films: written whole or not at all; replaced by one that has more films
<out>/journal/lock         held while a harvest writes here
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from cxrlocus.errors import ConfigError, CxrlocusError
from cxrlocus.files import explained, writing_whole

KEPT = "The shards that are done are kept; free space, or mend the path, and run the same command again."
"""What a write error tells."""


class Box(NamedTuple):
    """A harvested box: half-open corners in pixels of the original film, and how it came about.

    ``score`` is the box rule's, ``rank`` its place among the boxes of its film and finding (1 = best), ``step`` the
    mining step that found it (1 for a method that does not mine), ``prob`` the probability of the finding.
    """

    image: str
    finding: str
    x1: float
    y1: float
    x2: float
    y2: float
    score: float
    rank: int
    step: int
    prob: float

    @property
    def corners(self) -> tuple[float, float, float, float]:
        """x1, y1, x2, y2."""
        return self.x1, self.y1, self.x2, self.y2


class Film(NamedTuple):
    """A film that was looked at: its name, and width and height of the original in pixels."""

    image: str
    width: int
    height: int


@dataclass(frozen=True)
class Shard:
    """What was found on one shard of films.

    Args:
        films: those that could be read, in the index's order.
        boxes: in the order of films, findings and ranks.
        asked: finding -> on how many of the films it was looked for.
        gated: finding -> on how many of those it was held to be too improbable for a box.
        unreadable: (file, reason).
        failed: (film and finding, reason) where the model's map or probability was not a number.
        seconds: what the shard took.
    """

    films: tuple[Film, ...]
    boxes: tuple[Box, ...]
    asked: Mapping[str, int]
    gated: Mapping[str, int]
    unreadable: tuple[tuple[str, str], ...]
    failed: tuple[tuple[str, str], ...]
    seconds: float


class Journal:
    """The shards of one harvest, in a folder; opened by ``open_journal``.

    Args:
        folder: where they are.
        shards: how many there will be.
    """

    def __init__(self, folder: Path, shards: int) -> None:
        self.folder, self.shards = folder, shards

    def films(self) -> dict[int, frozenset[str]]:
        """The shards that are there, each with the films it has; one damaged from outside counts as missing."""
        there = {}
        for number in range(self.shards):
            with suppress(CxrlocusError):
                there[number] = frozenset(film.image for film in self.read(number).films)
        return there

    def read(self, number: int) -> Shard:
        """One shard.

        Raises:
            CxrlocusError: it is not there, or damaged.
        """
        path = self._path(number)
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            return Shard(
                tuple(Film(*film) for film in raw["films"]),
                tuple(Box(*box) for box in raw["boxes"]),
                raw["asked"],
                raw["gated"],
                tuple((item, reason) for item, reason in raw["unreadable"]),
                tuple((item, reason) for item, reason in raw["failed"]),
                float(raw["seconds"]),
            )
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise CxrlocusError(f"{path}: not a whole shard ({error}). Run the same command again.") from error

    def write(self, number: int, shard: Shard) -> None:
        """Add a shard; once this returns it survives a kill and a power cut.

        Raises:
            CxrlocusError: it cannot be written (a full disk, say); the shards before it are kept.
        """
        with writing_whole(self._path(number), remedy=KEPT) as part:
            part.write_text(json.dumps(asdict(shard), separators=(",", ":")) + "\n", encoding="utf-8")

    def __iter__(self) -> Iterator[Shard]:
        """All shards in order, one in memory at a time."""
        return map(self.read, range(self.shards))

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:05d}.json"


@contextmanager
def open_journal(out: Path, key: Mapping[str, Any], shards: int) -> Iterator[Journal]:
    """Begin a harvest in a folder, or go on with the same one; within the block no other process can.

    Args:
        out: the harvest's folder, made if need be.
        key: all that decides which boxes come out, as JSON values.
        shards: how many shards the films make.

    Raises:
        ConfigError: the folder holds another harvest, or something else; the message names what differs.
        CxrlocusError: another process harvests there, or the folder cannot be written.
    """
    folder = out / "journal"
    with explained(out, remedy=KEPT):
        foreign = sorted(p.name for p in out.iterdir()) if out.exists() and not folder.exists() else []
        if foreign:
            raise ConfigError(
                f"{out}: must be empty or hold the same harvest; it has {foreign[0]!r}. Give another --out."
            )
        folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise CxrlocusError(
                f"{out}: another process is harvesting here. Wait for it, or give another --out."
            ) from error
    try:
        _agree(folder / "key.json", json.loads(json.dumps(key)))
        yield Journal(folder, shards)
    finally:
        lock.release()


def _agree(path: Path, key: dict[str, Any]) -> None:
    if not path.is_file():
        with writing_whole(path, remedy=KEPT) as part:
            part.write_text(json.dumps(key, indent=1) + "\n", encoding="utf-8")
        return
    try:
        before = dict(_leaves(json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}). Give another --out, or delete the folder.") from error
    now = dict(_leaves(key))
    for name in {**now, **before}:
        there, here = before.get(name, "absent"), now.get(name, "absent")
        if there != here:
            raise ConfigError(
                f"{path.parent.parent}: holds another harvest ({name} is {there!r:.80} there and {here!r:.80} here). "
                "Give another --out, or delete the folder."
            )


def _leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """(dotted name, value) of everything that is not a dict."""
    if isinstance(value, dict):
        for k, v in value.items():
            yield from _leaves(v, f"{name}.{k}" if name else k)
    else:
        yield name or "key", value
