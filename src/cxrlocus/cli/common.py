"""Arguments and output that several verbs share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cxrlocus.errors import ConfigError

if TYPE_CHECKING:
    from rich.progress import TaskID

    from cxrlocus.data.records import Dropped, Index


LAYOUTS = "nih, nih-2017, nih-v2020 (label version), rsna, rsna-normal, folder, or auto (default)"
"""The names of data sets, for help: spelled out, as reading them from ``data.DATASETS`` would load all of it."""


def add_data(parser: argparse.ArgumentParser, *, required: bool = True) -> None:
    """``--data ROOT`` and how to read it."""
    parser.add_argument("--data", type=Path, required=required, metavar="ROOT", help="folder of the data set")
    parser.add_argument(
        "--dataset",
        default="auto",
        metavar="NAME",
        help=f"its layout: {LAYOUTS}",
    )


def add_cache(parser: argparse.ArgumentParser) -> None:
    """``--cache DIR``."""
    parser.add_argument(
        "--cache",
        type=Path,
        metavar="DIR",
        help="folder of decoded films (default: $CXRLOCUS_CACHE or the user's cache)",
    )


def load_index(args: argparse.Namespace) -> Index:
    """The index that ``--data`` and ``--dataset`` name; a data set that drops anything says so."""
    from cxrlocus.data import open_index

    index = open_index(args.data, args.dataset)
    if index.dropped:
        say(f"{args.data}: {len(index.dropped)} things left out; `cxrlocus data check {args.data}` lists them")
    return index


def cache_folder(args: argparse.Namespace) -> Path:
    """The folder of decoded films."""
    from cxrlocus.data.cache import default_cache_folder

    folder: Path = args.cache or default_cache_folder()
    return folder


def parse_sets(texts: list[str]) -> dict[str, str]:
    """``["a=1", "b=x"]`` as a dict.

    Raises:
        ConfigError: a text has no "=".
    """
    pairs = [text.partition("=") for text in texts]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise ConfigError(f"--set takes NAME=VALUE; got {name + equals + value!r}.")
    return {name: value for name, _, value in pairs}


def check_file_to_write(path: Path) -> None:
    """Complain of a file that cannot be made before the work that would go into it is done.

    Raises:
        ConfigError: it is a folder, or its folder is missing.
    """
    if path.is_dir():
        raise ConfigError(f"{path}: must be a file, is a folder. Name a file in it.")
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"{path}: its folder does not exist. Make it, or give another path.")


def check_folder_to_write(path: Path) -> None:
    """Complain of a folder that cannot be made before the work that would go into it is done.

    Raises:
        ConfigError: it, or a folder above it, is a file.
    """
    there = next(p for p in (path, *path.absolute().parents) if p.exists())
    if not there.is_dir():
        raise ConfigError(f"{path}: must be a folder, but {there} is a file. Give another --out.")


def say(line: str) -> None:
    """A line for the person, on standard error: standard output is for results."""
    print(line, file=sys.stderr, flush=True)


def list_dropped(dropped: Sequence[Dropped], what: str) -> None:
    """One line a thing that was left out, with its reason."""
    for one in dropped:
        line = f"{one.item}: {one.reason}"
        # File names may hold line ends and whatever else a terminal does not take.
        say(f"  {line if line.isprintable() else ascii(line)[1:-1]}")
    if dropped:
        say(f"{len(dropped)} {what}")


@contextmanager
def progress_bars() -> Iterator[Callable[[str], Callable[..., None]]]:
    """Bars on standard error: ``bar = bars("films")``, then ``bar(done, total)`` or ``bar(done, total, words)``.

    A bar shows once it is first called, so work that takes no time (or fails before) shows none.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    text, bar, count = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn()
    display = Progress(text, bar, count, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True))

    def named(label: str) -> Callable[..., None]:
        task: list[TaskID] = []

        def update(done: int, total: int | None = None, words: str = "") -> None:
            display.start()
            if not task:
                task.append(display.add_task(label))
            display.update(task[0], completed=done, total=total, description=f"{label} {words}".strip())

        return update

    try:
        yield named
    finally:
        # A display that was never started must not be stopped: it would write an empty line.
        if display.tasks:
            display.stop()


def progress_bar(label: str) -> AbstractContextManager[Callable[..., None]]:
    """A single bar with a label; the block gets its update function."""

    @contextmanager
    def one() -> Iterator[Callable[..., None]]:
        with progress_bars() as bars:
            yield bars(label)

    return one()
