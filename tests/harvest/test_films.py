"""Films come in order, all of them, and only so many ahead."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from small_archive import UNREADABLE

from cxrlocus.data.cache import open_films
from cxrlocus.data.records import Dropped, Index, Record
from cxrlocus.harvest.films import Square, read_ahead


@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
def test_squares_are_those_of_the_cache(archive: Index, tmp_path: Path, fit: str) -> None:
    films = open_films(archive, size=24, fit=fit, folder=tmp_path)  # type: ignore[arg-type]  # a Literal
    came = list(read_ahead(archive.records, 24, fit, ahead=4, workers=3))  # type: ignore[arg-type]  # a Literal
    assert len(came) == len(archive)
    for i, film in enumerate(came):
        if isinstance(film, Dropped):
            assert i in UNREADABLE
            assert film.item == str(archive.records[i].path)
            continue
        assert film.record is archive.records[i]
        assert np.array_equal(film.pixels, films.pixels(np.array([i]))[0])
        assert np.array_equal(film.frame, films.frames[i])
        assert film.size == tuple(films.sizes[i])
    assert tuple(film for film in came if isinstance(film, Dropped)) == films.unreadable


def test_a_declared_frame_is_the_films(archive: Index) -> None:
    first = archive.records[0]
    nih = Record(first.image, first.path, "1", size=(1024, 1024))
    (film,) = read_ahead([nih], 24, "stretch", ahead=1, workers=1)
    assert isinstance(film, Square)
    assert film.size == (1024, 1024)
    assert film.frame.tolist() == [[1024.0, 0.0, 0.0], [0.0, 1024.0, 0.0]]


def test_no_more_than_ahead_are_taken_before_they_are_asked_for(archive: Index) -> None:
    taken: list[int] = []

    def records() -> Iterator[Record]:
        for i in range(500):
            taken.append(i)
            yield archive.records[0]

    films = read_ahead(records(), 24, "letterbox", ahead=7, workers=2)
    for k in range(20):
        next(films)
        assert len(taken) == k + 8
    films.close()
    assert len(taken) == 27


def test_leaving_early_stops_the_threads(archive: Index) -> None:
    films = read_ahead([archive.records[0]] * 1000, 24, "letterbox", ahead=100, workers=2)
    next(films)
    films.close()
    deadline = time.monotonic() + 5
    while any(t.name.startswith("harvest") for t in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not [t for t in threading.enumerate() if t.name.startswith("harvest")]
