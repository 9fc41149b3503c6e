"""Localizer x films -> predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cxrlocus.data.cache import Films
from cxrlocus.data.images import film_frame, film_size, read_film, to_square
from cxrlocus.data.records import Record
from cxrlocus.errors import ConfigError, ImageError, PredictionsError
from cxrlocus.files import explained
from cxrlocus.prediction.store import Predictions, PredictionsWriter
from cxrlocus.types import Explained, FloatArray, Localizer

BATCH = 32
"""Films a forward pass, where nobody says otherwise."""

FLUSH_EVERY = 50
"""Batches between two moments that a stopped prediction can go on from."""


def predict(
    localizer: Localizer,
    films: Films,
    images: Sequence[str],
    out: Path,
    *,
    meta: Mapping[str, Any],
    batch_size: int = BATCH,
    on_film: Callable[[int, int], None] | None = None,
) -> int:
    """Write the predictions folder of the readable films; stopped and called again, it goes on.

    Args:
        localizer: any method's.
        films: decoded films at the localizer's size.
        images: the films' names.
        out: the folder.
        meta: what to record beside the predictions.
        batch_size: films a forward pass, at least 1.
        on_film: called with (films done, films in all).

    Returns:
        The number of films predicted.

    Raises:
        ConfigError: ``batch_size`` is below 1.
        ImageError: not one film could be read.
        PredictionsError: the folder cannot be written (a full disk, say); the same call goes on.
    """
    if batch_size < 1:
        raise ConfigError(f"batch must be at least 1 film; got {batch_size}.")
    readable = np.flatnonzero(films.readable)
    if not len(readable):
        raise ImageError(Path(films.unreadable[0].item), f"{films.unreadable[0].reason}; no film could be read")
    names = tuple(images[int(i)] for i in readable)
    writer: PredictionsWriter | None = None
    start, batches = 0, 0
    with explained(out, PredictionsError):
        try:
            while start < len(readable):
                here = readable[start : start + batch_size]
                said = explain_pixels(localizer, films.pixels(here), films.frames[here])
                if writer is None:
                    writer = PredictionsWriter(
                        out, meta=meta, images=names, findings=localizer.findings, kind=said.kind
                    )
                    if writer.done:
                        start = writer.done
                        continue
                writer.append(said.prob.numpy(), said.maps.numpy(), said.frames, films.sizes[here])
                start, batches = writer.done, batches + 1
                if batches % FLUSH_EVERY == 0:
                    writer.flush()
                if on_film:
                    on_film(start, len(readable))
        finally:
            if writer is not None:
                writer.flush()
        if writer is not None:
            writer.finish()
    return len(readable)


def explain_pixels(localizer: Localizer, pixels: np.ndarray[Any, np.dtype[np.uint8]], frames: FloatArray) -> Explained:
    """A localizer's word on films (n, S, S) uint8."""
    images = torch.from_numpy(pixels).unsqueeze(1).float().div_(255.0)
    return localizer.explain(images, frames)


def explain_files(localizer: Localizer, paths: Sequence[Path], *, meta: Mapping[str, Any] | None = None) -> Predictions:
    """Predictions of a few files, in memory and without the cache.

    Args:
        localizer: any method's.
        paths: PNG, JPEG or DICOM files.
        meta: what to record.

    Returns:
        Predictions whose images are the paths as text, and whose boxes will be in the files' own pixels.

    Raises:
        ImageError: a file cannot be read.
        ConfigError: no path is given.
    """
    if not paths:
        raise ConfigError("paths must name at least one film; got none.")
    sizes, said = [], []
    for start in range(0, len(paths), BATCH):
        squares, frames = [], []
        for path in paths[start : start + BATCH]:
            pixels = read_film(path)
            square, frame = to_square(pixels, localizer.size, localizer.fit)
            record, size = Record(str(path), path, patient=str(path)), (pixels.shape[1], pixels.shape[0])
            squares.append(square)
            frames.append(film_frame(record, frame, size).matrix)
            sizes.append(film_size(record, size))
        said.append(explain_pixels(localizer, np.stack(squares), np.stack(frames)))
    return Predictions(
        dict(meta or {}),
        tuple(str(p) for p in paths),
        localizer.findings,
        np.concatenate([one.prob.numpy() for one in said]),
        np.concatenate([one.maps.numpy() for one in said]),
        np.concatenate([one.frames for one in said]),
        np.array(sizes, dtype=np.int64),
        said[0].kind,
    )
