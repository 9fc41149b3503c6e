"""Films read ahead of the model: decoded by threads, straight from their files, a bounded number at a time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cxrlocus.data.images import film_frame, film_size, read_film, to_square
from cxrlocus.data.records import Dropped, Record
from cxrlocus.errors import ImageError
from cxrlocus.types import Fit, FloatArray


class Square(NamedTuple):
    """A film as the model sees it: pixels (S, S) uint8, frame (2, 3) and (width, height) of the original film."""

    record: Record
    pixels: NDArray[np.uint8]
    frame: FloatArray
    size: tuple[int, int]


def read_ahead(
    records: Iterable[Record], size: int, fit: Fit, *, ahead: int, workers: int | None = None
) -> Generator[Square | Dropped, None, None]:
    """The films in order, each as a square of ``size`` pixels or as the reason why it cannot be read.

    Nothing is cached on disk: an archive is looked at once, and its squares would take a quarter megabyte a film.

    Args:
        records: the films.
        size: S.
        fit: "letterbox" or "stretch".
        ahead: at most this many films are read before they are asked for.
        workers: threads; None means one a core, at most 16.
    """
    with ThreadPoolExecutor(workers or min(os.cpu_count() or 1, 16), thread_name_prefix="harvest") as pool:
        waiting: deque[Future[Square | Dropped]] = deque()
        try:
            for record in records:
                waiting.append(pool.submit(_read, record, size, fit))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _read(record: Record, size: int, fit: Fit) -> Square | Dropped:
    try:
        film = read_film(record.path)
    except ImageError as error:
        return Dropped(str(record.path), error.reason)
    pixels, frame = to_square(film, size, fit)
    file_size = (film.shape[1], film.shape[0])
    return Square(record, pixels, film_frame(record, frame, file_size).matrix, film_size(record, file_size))
