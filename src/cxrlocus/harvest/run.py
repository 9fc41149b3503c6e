"""Localizer x archive -> journal -> exports. Nothing that grows with the archive is kept but the index itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from cxrlocus import __version__
from cxrlocus.data.images import read_film
from cxrlocus.data.records import Dropped, Index, Record
from cxrlocus.errors import ConfigError, DataError, ImageError
from cxrlocus.harvest.export import write_exports
from cxrlocus.harvest.films import Square, read_ahead
from cxrlocus.harvest.find import Found, find_on_batch
from cxrlocus.harvest.journal import Journal, Shard, open_journal
from cxrlocus.harvest.options import Options
from cxrlocus.harvest.summary import Summary, summarize, write_summary
from cxrlocus.types import Localizer

SCHEMA = 1
"""Of the journal: a harvest of another schema is not gone on with."""

OnFilm = Callable[[int, int, str], object]
"""Called with (films done, films in all, words on the speed)."""


@dataclass(frozen=True)
class Harvest:
    """A harvest that is done: what it found, and the files that say so."""

    summary: Summary
    files: tuple[Path, ...]


def harvest(
    localizer: Localizer,
    index: Index,
    out: Path,
    options: Options,
    *,
    source: Mapping[str, Any],
    on_film: OnFilm | None = None,
    workers: int | None = None,
) -> Harvest:
    """Harvest boxes on the films of an index; stopped at any moment and called again, it goes on.

    Films on which no finding is wanted (their label names none that the localizer knows) are not looked at. A film that
    cannot be read is listed and the rest go on. The exports are written once all films are done, and again by a
    further call.

    Args:
        localizer: any method's.
        index: the films.
        out: the harvest's folder.
        options: what to harvest.
        source: what else decides the boxes (hashes of the weights, say), as JSON values; a stopped harvest is gone on
            with only if it had the same.
        on_film: called after each shard's batches.
        workers: threads that decode; None means one a core, at most 16.

    Raises:
        ConfigError: ``out`` holds another harvest, or the localizer knows none of the data set's findings.
        DataError: no film's label names a finding that the localizer knows.
        ImageError: not one film could be read.
        CxrlocusError: ``out`` cannot be written (a full disk, say); the shards that are done are kept.
    """
    records = _films_to_look_at(localizer, index, options)
    parts = [records[start : start + options.shard] for start in range(0, len(records), options.shard)]
    key = {
        "schema": SCHEMA,
        "version": __version__,
        "source": dict(source),
        "data": {"dataset": index.dataset, "films": len(index), "index_hash": index.hash},
        "findings": list(localizer.findings),
        "options": options.key(),
    }
    with open_journal(out, key, len(parts)) as journal:
        _fill(journal, parts, localizer, options, on_film, workers)
        summary = summarize(journal, index, localizer.findings)
        if not summary.readable:
            item, reason = summary.unreadable[0]
            raise ImageError(Path(item), f"{reason}; no film could be read")
        files = write_exports(out, journal, localizer.findings)
        write_summary(out / "harvest.json", key, summary)
    return Harvest(summary, (*files, out / "harvest.json"))


def _films_to_look_at(localizer: Localizer, index: Index, options: Options) -> list[Record]:
    common = [f for f in localizer.findings if f in index.findings]
    if not common and not options.unlabelled:
        raise ConfigError(
            f"the run knows {', '.join(localizer.findings)}, and the labels of {index.root} name none of them. "
            "Use --unlabelled, or another run."
        )
    records = [record for record in index.records if options.wanted(record, localizer.findings)]
    if not records:
        raise DataError(
            f"{index.root}: no label of its {len(index)} films names {' or '.join(common)}, so there is nothing to "
            "look for. Use --unlabelled to look for all of them on every film."
        )
    return records


def _mended(parts: Sequence[Sequence[Record]], there: Mapping[int, frozenset[str]], workers: int | None) -> set[int]:
    """The shards that are there without some film that can be read by now."""
    lost = [
        (number, record) for number, films in there.items() for record in parts[number] if record.image not in films
    ]
    with ThreadPoolExecutor(workers) as pool:
        read = pool.map(_can_be_read, [record.path for _, record in lost])
        return {number for (number, _), can in zip(lost, read, strict=True) if can}


def _can_be_read(path: Path) -> bool:
    try:
        read_film(path)
    except ImageError:
        return False
    return True


def _fill(
    journal: Journal,
    parts: Sequence[Sequence[Record]],
    localizer: Localizer,
    options: Options,
    on_film: OnFilm | None,
    workers: int | None,
) -> None:
    """Harvest the shards that are missing."""
    there = journal.films()
    mended = _mended(parts, there, workers)
    missing = [number for number in range(journal.shards) if number not in there or number in mended]
    total = sum(map(len, parts))
    before = total - sum(len(parts[number]) for number in missing)
    watch = _Watch(before, total, on_film)
    todo = (record for number in missing for record in parts[number])
    # The next batch and the one after it are read while the model is at this one.
    films = read_ahead(todo, localizer.size, localizer.fit, ahead=2 * options.batch, workers=workers)
    with closing(films):
        for number in missing:
            start = time.perf_counter()
            found, unreadable = Found(), []
            for batch in _batches(islice(films, len(parts[number])), options.batch):
                squares = [film for film in batch if isinstance(film, Square)]
                unreadable += [(film.item, film.reason) for film in batch if isinstance(film, Dropped)]
                if squares:
                    find_on_batch(localizer, squares, options, found)
                watch.tick(len(batch))
            shard = Shard(
                tuple(found.films), tuple(found.boxes), dict(found.asked), dict(found.gated), tuple(unreadable),
                tuple(found.failed), time.perf_counter() - start,
            )  # fmt: skip
            # Where others of its films are away by now, the shard that has them stays.
            if there.get(number, frozenset()) <= {film.image for film in shard.films}:
                journal.write(number, shard)


def _batches(films: Iterator[Square | Dropped], size: int) -> Iterator[list[Square | Dropped]]:
    while batch := list(islice(films, size)):
        yield batch


class _Watch:
    """Progress and speed of this sitting."""

    def __init__(self, done: int, total: int, tell: OnFilm | None) -> None:
        self.before = self.done = done
        self.total, self.tell, self.start = total, tell, time.perf_counter()

    def tick(self, films: int) -> None:
        self.done += films
        if self.tell:
            rate = (self.done - self.before) / max(time.perf_counter() - self.start, 1e-9)
            self.tell(self.done, self.total, f"{rate:.1f} images/s")
