"""Stages that runs have in common are trained once: rows of a table often differ only in how they go on."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cxrlocus.errors import RunError
from cxrlocus.training.run import RunInfo, read_run, stage_done


def reuse_stages(
    folder: Path, info: RunInfo, stages: Mapping[str, Mapping[str, Any]], sibling: Path
) -> tuple[str, ...]:
    """Copy into a run folder the stages that another run has trained on the same films from the same beginning.

    Stages are taken in order, up to the first that the other run has not, or has with another configuration. Nothing is
    copied over a stage that is there, or from a run of another method, of other films, another seed or other first
    weights.

    Args:
        folder: the run that is to be trained; it need not exist.
        info: what it is.
        stages: what each of its stages depends on, in order (``MethodSpec.stages``).
        sibling: the run folder to take stages from.

    Returns:
        The stages copied.

    Raises:
        RunError: ``sibling`` is no run folder, or a stage of ``folder`` has another configuration.
    """
    other = read_run(sibling)
    if any(getattr(other, name) != getattr(info, name) for name in ("method", "seed", "index_hash", "init")):
        return ()
    copied: list[str] = []
    for stage, wanted in stages.items():
        if stage_done(folder / stage, wanted, info.seed):
            continue
        if not _has(sibling / stage, wanted, info.seed):
            break
        part = folder / f"{stage}.part"
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(sibling / stage, part)
        # A stage that was begun here gives way to one that is done.
        shutil.rmtree(folder / stage, ignore_errors=True)
        part.rename(folder / stage)
        copied.append(stage)
    return tuple(copied)


def _has(folder: Path, wanted: Mapping[str, Any], seed: int) -> bool:
    try:
        return stage_done(folder, wanted, seed)
    except RunError:
        return False
