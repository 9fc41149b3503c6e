"""Harvest with a trained run."""

from __future__ import annotations

from pathlib import Path

from cxrlocus.data.records import Index
from cxrlocus.harvest.options import Options
from cxrlocus.harvest.run import Harvest, OnFilm, harvest
from cxrlocus.methods import load_run
from cxrlocus.training.run import file_hash


def harvest_run(
    run: Path, index: Index, out: Path, options: Options, *, split: str = "all", on_film: OnFilm | None = None
) -> Harvest:
    """Harvest boxes on the films of an index with the localizer of a run folder.

    Args:
        run: its folder; its weights may be moved, not changed, before a stopped harvest goes on.
        index: the films.
        out: the harvest's folder.
        options: what to harvest.
        split: what the films are, for the record.
        on_film: called with (films done, films in all, words on the speed).

    Raises:
        RunError: the run cannot be loaded.
        ConfigError, DataError, ImageError, CxrlocusError: as ``harvest``.
    """
    localizer, info = load_run(run)
    weights = {p.relative_to(run).as_posix(): file_hash(p) for p in sorted(run.rglob("weights.safetensors"))}
    source = {
        "method": info.method,
        "variant": info.variant,
        "config": dict(info.config),
        "weights": weights,
        "trained_on": info.dataset,
        "split": split,
    }
    return harvest(localizer, index, out, options, source=source, on_film=on_film)
