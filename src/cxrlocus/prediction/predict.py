"""Localizer x films -> predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxrlocus.data.cache import Films
from cxrlocus.data.images import film_frame, film_size, read_film, to_square
from cxrlocus.data.records import Record
from cxrlocus.errors import ConfigError, ImageError, PredictionsError
from cxrlocus.files import explained
from cxrlocus.prediction.panels import FILE, Panels, Shows, choose_pairs, coarse, write_panels
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
    boxed: Sequence[tuple[str, str]] = (),
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
        boxed: (image, finding) of the true boxes. What a localizer ``Shows`` beside its maps is kept for a few of them;
            the boxes themselves are not looked at.

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
                        out, meta=meta, images=names, findings=localizer.findings, kind=said.kind,
                        source=films.hash(readable),
                    )  # fmt: skip
                    if writer.done:
                        start = writer.done
                        continue
                writer.append(said.prob.numpy(), said.maps.numpy(), said.frames, films.sizes[here])
                start, batches = writer.done, batches + 1
                if batches % FLUSH_EVERY == 0:
                    writer.flush()
                if on_film:
                    on_film(start, len(readable))
            if writer is not None:
                _keep_panels(localizer, films, names, readable, out, boxed, meta)
                writer.finish()
        finally:
            if writer is not None:
                writer.close()
    return len(readable)


def _keep_panels(
    localizer: Localizer,
    films: Films,
    names: Sequence[str],
    readable: NDArray[np.int64],
    out: Path,
    boxed: Sequence[tuple[str, str]],
    meta: Mapping[str, Any],
) -> None:
    """Write the panels of a few boxed films; called once all films are done, so there is nothing to go on from."""
    pairs = choose_pairs(boxed, names, localizer.findings) if isinstance(localizer, Shows) else []
    if not (isinstance(localizer, Shows) and pairs):
        (out / FILE).unlink(missing_ok=True)
        return
    position = {name: i for i, name in enumerate(names)}
    kept: dict[tuple[str, str], NDArray[np.float16]] = {}
    for image in dict.fromkeys(image for image, _ in pairs):
        # One film at a time: panels may be as large as the film, and there is one of each kind for every finding.
        shown = localizer.panels(as_images(films.pixels(readable[[position[image]]])))
        for finding in (finding for film, finding in pairs if film == image):
            kept[image, finding] = coarse(shown, localizer.findings.index(finding))
    values = np.stack([kept[pair] for pair in pairs])
    panels = Panels(tuple(image for image, _ in pairs), tuple(finding for _, finding in pairs), tuple(shown), values)
    write_panels(out, panels, meta)


def explain_pixels(localizer: Localizer, pixels: NDArray[np.uint8], frames: FloatArray) -> Explained:
    """A localizer's word on films (n, S, S) uint8."""
    return localizer.explain(as_images(pixels), frames)


def as_images(pixels: NDArray[np.uint8]) -> Tensor:
    """Films (n, S, S) uint8 as what a localizer takes: (n, 1, S, S) float32 in [0, 1]."""
    return torch.from_numpy(pixels).unsqueeze(1).float().div_(255.0)


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
