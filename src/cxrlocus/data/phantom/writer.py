"""The phantom on disk, in NIH layout, with masks and all that is true of each film beside it."""

from __future__ import annotations

import csv
import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from cxrlocus.data.nih import BOX_HEADER, BOX_WORDS
from cxrlocus.data.phantom.film import DEFAULTS, check_frame, patients
from cxrlocus.data.phantom.parameters import VERSION, Parameters
from cxrlocus.data.phantom.worker import Job, Row, make
from cxrlocus.errors import ConfigError, DataError

ENTRY_HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
DESCRIPTION = "phantom.json"

_ALONE = 96
"""Fewer films than this are made in this process: another would take longer to start."""


def write_phantom(
    root: Path,
    *,
    images: int,
    size: int = 256,
    seed: int = 0,
    test_fraction: float = 0.25,
    label_noise: float = 0.0,
    workers: int | None = None,
    progress: Callable[[int], None] | None = None,
    parameters: Parameters = DEFAULTS,
) -> None:
    """Write a data set of ``images`` films of ``size`` x ``size`` pixels into ``root``, in NIH layout.

    ``images/*.png``, ``Data_Entry_2017_v2020.csv``, ``BBox_List_2017.csv`` (1024 px frame), ``train_val_list.txt`` and
    ``test_list.txt`` (by patient, about ``test_fraction`` of the films), ``masks/*.png`` (1 bit), ``films.csv`` and
    ``phantom.json``. ``label_noise`` is the chance that each of a film's eight labels is flipped; a finding has a box
    if it is both true and labelled. ``parameters`` say how often findings occur and how plain they are. ``progress``
    is called with the number of films written so far. Film k is the same whatever ``images`` and ``workers`` are; a
    second call with the same arguments finds the work done, or does it again if it was broken off.

    Raises:
        ConfigError: an argument is out of range.
        DataError: ``root`` holds something else, or cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_phantom(Path(folder), images=3, size=64)
        ...     sorted(p.name for p in (Path(folder) / "images").iterdir())
        ['00000001_000.png', '00000002_000.png', '00000002_001.png']
    """
    _check(images, size, seed, test_fraction, label_noise, workers)
    root = Path(root)
    description: dict[str, Any] = {
        "phantom": VERSION, "images": images, "size": size, "seed": seed, "test_fraction": test_fraction,
        "label_noise": label_noise, "parameters": parameters.as_json(),
    }  # fmt: skip
    if _already_there(root, description):
        return
    count = workers or (1 if images < _ALONE else min(os.cpu_count() or 1, 1 + images // _ALONE))
    values = parameters.as_json()
    jobs = [Job(str(root), seed, size, label_noise, values, start, images, count) for start in range(count)]
    try:
        _describe(root, description, finished=False)
        _write_lists(root, _make_all(root, jobs, progress), _test_patients(seed, images, test_fraction))
        _describe(root, description, finished=True)
    except OSError as error:
        raise DataError(f"{root}: cannot be written ({error.strerror}). Choose another folder.") from None


def _make_all(root: Path, jobs: list[Job], progress: Callable[[int], None] | None) -> list[Row]:
    """Make and write every film; a row each, in the films' order."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(exist_ok=True)
    rows: list[Row] = []
    for row in _rows(jobs):
        rows.append(row)
        if progress:
            progress(len(rows))
    return sorted(rows, key=lambda row: int(row["number"]))


def _check(images: int, size: int, seed: int, test_fraction: float, label_noise: float, workers: int | None) -> None:
    if images < 1:
        raise ConfigError(f"images must be at least 1; got {images}. Ask for more.")
    check_frame(seed, images - 1, size)
    for name, value in (("test_fraction", test_fraction), ("label_noise", label_noise)):
        if not 0 <= value <= 1:
            raise ConfigError(f"{name} must lie in [0, 1]; got {value}. Give a share.")
    if workers is not None and workers < 1:
        raise ConfigError(f"workers must be at least 1; got {workers}. Leave it out to use every core.")


def _already_there(root: Path, description: dict[str, Any]) -> bool:
    """Whether this very phantom is finished; an error if ``root`` holds anything else."""
    if root.exists() and not root.is_dir():
        raise DataError(f"{root}: must be a folder, is a file. Choose another folder.")
    if not root.exists() or not any(root.iterdir()):
        return False
    try:
        found = json.loads((root / DESCRIPTION).read_text(encoding="utf-8"))
        finished = bool(found.pop("finished"))
    except FileNotFoundError:
        raise DataError(f"{root}: must be empty or absent, holds other files. Choose another folder.") from None
    except (ValueError, KeyError, AttributeError, TypeError):
        raise DataError(f"{root / DESCRIPTION}: is not a phantom's description. Delete the folder.") from None
    if found != json.loads(json.dumps(description)):
        changed = sorted(k for k in description if found.get(k) != json.loads(json.dumps(description[k])))
        raise DataError(
            f"{root}: holds another phantom ({', '.join(changed) or 'of another version'} differ). "
            "Delete the folder or choose another."
        )
    return finished


def _describe(root: Path, description: dict[str, Any], *, finished: bool) -> None:
    text = json.dumps({**description, "finished": finished}, indent=2) + "\n"
    root.mkdir(parents=True, exist_ok=True)
    partial = root / f".{DESCRIPTION}.{os.getpid()}"
    partial.write_text(text, encoding="utf-8")
    partial.replace(root / DESCRIPTION)


def _rows(jobs: list[Job]) -> Iterator[Row]:
    """Run the jobs, one a process, and yield a row a film as they come."""
    if len(jobs) == 1:
        yield from make(jobs[0])
        return
    # Not multiprocessing: its fresh processes import the caller's main module, which fails in a script without a guard.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "cxrlocus.data.phantom.worker"]
    running = [
        subprocess.Popen(
            [*command, job.as_json()], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for job in jobs
    ]
    came: queue.Queue[str | None] = queue.Queue()
    listeners = [threading.Thread(target=_listen, args=(process, came), daemon=True) for process in running]
    try:
        for listener in listeners:
            listener.start()
        left = len(running)
        while left:
            line = came.get()
            if line is None:
                left -= 1
            else:
                yield json.loads(line)
        _fail_if_any_did(running)
    finally:
        for process, listener in zip(running, listeners, strict=True):
            process.terminate()
            listener.join()
            process.communicate()


def _listen(process: subprocess.Popen[str], came: queue.Queue[str | None]) -> None:
    for line in process.stdout or ():
        came.put(line)
    came.put(None)


def _fail_if_any_did(running: list[subprocess.Popen[str]]) -> None:
    for process in running:
        if process.wait():
            said = (process.stderr.read() if process.stderr else "").strip().splitlines()
            raise DataError(f"a process that made films failed: {said[-1] if said else f'exit {process.returncode}'}")


def _test_patients(seed: int, images: int, fraction: float) -> set[int]:
    """Patients of the test list: each goes where films are short, so a longer list starts like a shorter one."""
    chosen, done, test = set(), 0, 0
    for patient, _, count in patients(seed, images):
        done += count
        if fraction * done - test >= count / 2:
            chosen.add(patient)
            test += count
    return chosen


def _write_lists(root: Path, rows: list[Row], test: set[int]) -> None:
    split = {row["image"]: "test" if row["patient"] in test else "train_val" for row in rows}
    for name in ("train_val", "test"):
        lines = [image for image, part in split.items() if part == name]
        (root / f"{name}_list.txt").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    _write_csv(root / "Data_Entry_2017_v2020.csv", ENTRY_HEADER, (_entry(row) for row in rows))
    boxes = ((row["image"], BOX_WORDS.get(f, f), *box) for row in rows for f, box in row["boxes"].items())
    _write_csv(root / "BBox_List_2017.csv", BOX_HEADER, boxes)
    names = list(rows[0]["truth"])
    header = ",".join(["image", "patient", "split", *names])
    films = ((row["image"], row["patient"], split[row["image"]], *row["truth"].values()) for row in rows)
    _write_csv(root / "films.csv", header, films)


def _entry(row: Row) -> Iterable[object]:
    labels = "|".join(row["labels"]) or "No Finding"
    who = (row["patient"], row["age"], row["sex"], row["view"])
    return (row["image"], labels, row["follow_up"], *who, 2500, 2500, 0.144, 0.144)


def _write_csv(path: Path, header: str, rows: Iterable[Iterable[object]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(header + "\n")
        csv.writer(file, lineterminator="\n").writerows(rows)
