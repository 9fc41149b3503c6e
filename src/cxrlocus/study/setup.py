"""What all rows of a study share, and what must hold before the first of them is trained."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cxrlocus import __version__
from cxrlocus.data.records import Index
from cxrlocus.errors import ConfigError, DataError, RunError
from cxrlocus.methods.options import PAPER
from cxrlocus.study.rows import SHARED, Row, check_names, configured, options_of
from cxrlocus.study.score import Measure
from cxrlocus.training.checkpoint import read_json, write_json
from cxrlocus.training.run import difference, file_hash

OF_BACKBONE = ("backbone", "stem", "mean", "std", "pretrained")
"""The options of a backbone that is shared."""


class Budget:
    """Minutes after which no cell of a study is begun; None for as many as it takes.

    Example:
        >>> hours = iter((0.0, 60.0, 3600.0))
        >>> budget = Budget(30, clock=lambda: next(hours))
        >>> budget.used, budget.used
        (False, True)

    Raises:
        ConfigError: the minutes are negative or not a number.
    """

    def __init__(self, minutes: float | None = None, clock: Callable[[], float] = time.monotonic) -> None:
        if minutes is not None and not minutes >= 0:
            raise ConfigError(f"--budget must be at least 0 minutes; got {minutes}.")
        self.minutes, self._clock, self._begin = minutes, clock, clock()

    @property
    def used(self) -> bool:
        """Whether the minutes are over."""
        return self.minutes is not None and self._clock() - self._begin >= 60 * self.minutes


@dataclass(frozen=True)
class Setup:
    """What all rows of a study share.

    Args:
        out: the study's folder: runs/, predictions/, results/.
        cache: folder of decoded films.
        seeds: a run of each row for each.
        preset, init: of the training.
        options: Config fields as text: ``name`` for every row, ``method.name`` or ``variant.name`` for some.
        measure: protocols and policy.
        split: the measured films.
        budget: after which no cell is begun.
        rows: names of those whose cells may be begun; none for all. What is there already is shown in any case.

    Raises:
        ConfigError: a seed is negative, or stands twice: its interval would be of less doubt than there is.
    """

    out: Path
    cache: Path
    seeds: Sequence[int] = (0, 1, 2)
    preset: str = "paper"
    options: Mapping[str, str] = field(default_factory=dict)
    init: Path | None = None
    measure: Measure = field(default_factory=Measure)
    split: str = "test"
    budget: Budget = field(default_factory=Budget)
    rows: Sequence[str] = ()

    def __post_init__(self) -> None:
        if len(set(self.seeds)) < len(self.seeds) or min(self.seeds, default=-1) < 0:
            raise ConfigError(
                f"seeds must be different and at least 0; got {', '.join(map(str, self.seeds))}. "
                "Each is a training of its own."
            )

    def lacking(self, row: Row) -> str:
        """Why a cell of a row may not be begun; "" where it may."""
        if self.rows and row.name not in self.rows:
            return "not one of --rows"
        return "not begun when the budget was used" if self.budget.used else ""

    def options_of(self, row: Row) -> dict[str, str]:
        """The options that a row is trained with.

        Raises:
            ConfigError: the row shares a backbone that cannot be configured.
        """
        options = options_of(row, self.options)
        if options.get("backbone") == SHARED:
            cam = Row("cam")
            config = configured(cam, self.preset, options_of(cam, self.options))
            options |= {name: str(getattr(config, name)) for name in OF_BACKBONE}
        return options

    def config_of(self, row: Row) -> Any:
        """The Config that a row is trained with.

        Raises:
            ConfigError: there is none; the message names the row.
        """
        return configured(row, self.preset, self.options_of(row))

    def takes_weights(self, row: Row) -> bool:
        """Whether a row's network has a timm backbone, which ``init`` is for; the papers' own begin from scratch.

        Raises:
            ConfigError: the row cannot be configured so.
        """
        return bool(self.config_of(row).backbone != PAPER)

    def films(self, index: Index) -> Index:
        """The measured films.

        Raises:
            DataError: none of them has a box.
        """
        films = index if self.split == "all" else index.split(self.split)
        if not films.box_count:
            raise DataError(
                f"{index.root}: no film of split {self.split!r} has a box to measure against. "
                "Give --split, or a box list."
            )
        return films


def check_chosen(rows: Sequence[Row], setup: Setup) -> None:
    """See that the rows that may be begun are rows of the study.

    Raises:
        ConfigError: one is not.
    """
    names = [row.name for row in rows]
    if strange := [name for name in setup.rows if name not in names]:
        raise ConfigError(f"--rows must name rows of this study ({', '.join(names)}); got {strange[0]!r}.")


def check_rows(rows: Sequence[Row], setup: Setup) -> None:
    """See that every row can be configured, before the first is trained: a slip in the last would cost all others.

    Raises:
        ConfigError: an option is of none of the rows, or has a value that it may not have, or no row takes weights.
    """
    check_names(rows, setup.options)
    takers = [setup.takes_weights(row) for row in rows]
    if setup.init and not any(takers):
        raise ConfigError(f"{setup.init}: --init gives weights of a timm backbone, and no row has one. Leave it out.")


def check_same_study(index: Index, setup: Setup) -> None:
    """See that the study's folder holds this study's cells, or begin it.

    Raises:
        RunError: it was begun with other data, options, weights or measures.
    """
    now = {
        "index": index.hash,
        "preset": setup.preset,
        "options": dict(setup.options),
        "init": file_hash(setup.init) if setup.init else "",
        "split": setup.split,
        "protocols": list(setup.measure.protocols),
        "bootstrap": [setup.measure.seed, setup.measure.resamples],
        "version": __version__,
    }
    path = setup.out / "study.json"
    # A study whose first run could not begin holds nothing that other options would spoil. Once there is a run,
    # another seed's with other options would be merged with it.
    begun = any(any(setup.out.glob(part)) for part in ("runs/*/run.json", "predictions", "results"))
    if not (path.is_file() and begun):
        setup.out.mkdir(parents=True, exist_ok=True)
        write_json(path, now)
        return
    if detail := difference(read_json(path), now):
        raise RunError(f"{setup.out}: holds another study ({detail}). Choose another --out, or delete the folder.")
