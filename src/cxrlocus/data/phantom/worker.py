"""One process that makes films: ``python -m cxrlocus.data.phantom.worker JOB`` writes them, a JSON line a film."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cxrlocus.data.phantom.film import Film, generate_film
from cxrlocus.data.phantom.parameters import Parameters
from cxrlocus.data.tables import xywh
from cxrlocus.errors import DataError
from cxrlocus.types import BOXED8

Row = dict[str, Any]
"""What a written film adds to the lists: names, labels, boxes, truth."""

_FLIPS = 9


@dataclass(frozen=True)
class Job:
    """Films ``start``, ``start + step``, ... below ``images``."""

    root: str
    seed: int
    size: int
    label_noise: float
    parameters: Mapping[str, object]
    start: int
    images: int
    step: int

    def as_json(self) -> str:
        """The job as one argument of a command line."""
        return json.dumps(asdict(self))


def make(job: Job) -> Iterator[Row]:
    """Make and write the films of a job, and yield a row for each.

    Raises:
        DataError: a file cannot be written.
    """
    parameters = Parameters.from_json(job.parameters)
    root = Path(job.root)
    for number in range(job.start, job.images, job.step):
        film = generate_film(job.seed, number, job.size, parameters)
        _save(root / "images" / film.name, film.pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])
        for finding, mask in film.masks.items():
            name = f"{film.name.removesuffix('.png')}_{finding}.png"
            _save(root / "masks" / name, mask.astype(np.uint8) * 255, [cv2.IMWRITE_PNG_BILEVEL, 1])
        yield describe(film, flips(job.seed, number, job.label_noise))


def flips(seed: int, number: int, label_noise: float) -> tuple[str, ...]:
    """The findings whose labels are wrong on a film: each with chance ``label_noise``, whatever the film shows.

    Example:
        >>> flips(0, 0, 0.0), len(flips(0, 0, 1.0))
        ((), 8)
    """
    drawn = np.random.default_rng([seed, _FLIPS, number]).random(len(BOXED8))
    return tuple(f for f, u in zip(BOXED8, drawn, strict=True) if u < label_noise)


def describe(film: Film, flipped: tuple[str, ...]) -> Row:
    """A film's row: labels after the flips, boxes (x, y, w, h) of findings both true and labelled, and the truth."""
    labels = [f for f in BOXED8 if (f in film.findings) != (f in flipped)]
    boxes = {f: xywh(*film.boxes[f]) for f in film.findings if f in labels}
    points = {f"{n}_{axis}": round(v, 2) for n, p in film.landmarks.items() for axis, v in zip("xy", p, strict=True)}
    shown = [x for x in film.lesions if x.finding in film.masks]
    truth = {
        "true_findings": "|".join(film.findings),
        "flipped": "|".join(flipped),
        "contrast": "|".join(f"{x.finding}={x.contrast:.3f}" for x in shown),
        "kind": "|".join(f"{x.finding}={x.kind}" for x in shown),
        "rotation_deg": round(film.pose.rotation, 3),
        "shift_x": round(film.pose.dx * 1024, 2),
        "shift_y": round(film.pose.dy * 1024, 2),
        "scale": round(film.pose.scale, 4),
        "photons": round(film.exposure.photons),
        "scatter": round(film.exposure.scatter, 3),
        "tubes": "|".join(film.devices.tubes),
        "markers": "|".join(film.devices.markers),
        **points,
    }
    return {
        "number": film.number, "image": film.name, "patient": film.patient, "follow_up": film.follow_up,
        "age": film.anatomy.age, "sex": "F" if film.anatomy.female else "M", "view": film.view,
        "labels": labels, "boxes": boxes, "truth": truth,
    }  # fmt: skip


def _save(path: Path, pixels: NDArray[np.uint8], options: list[int]) -> None:
    done, data = cv2.imencode(".png", pixels, options)
    if not done:
        raise DataError(f"{path}: cannot be encoded as PNG.")
    try:
        path.write_bytes(data.tobytes())
    except OSError as error:
        raise DataError(
            f"{path}: cannot be written ({error.strerror}). Free the disk or choose another folder."
        ) from None


def main(arguments: list[str]) -> int:
    """Do the job given as JSON; print a row a film."""
    cv2.setNumThreads(1)
    job = Job(**json.loads(arguments[0]))
    try:
        for row in make(job):
            sys.stdout.write(json.dumps(row) + "\n")
            sys.stdout.flush()
    except DataError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
