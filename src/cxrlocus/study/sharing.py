"""Stages that runs have in common are trained once: variants differ in how they mine, not in what they begin with."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

from cxrlocus.errors import RunError
from cxrlocus.methods.cai2018.config import CaiConfig, stage_config, stages_of
from cxrlocus.training.run import read_run, stage_done


def reuse_stages(
    folder: Path, config: CaiConfig, sibling: Path, *, seed: int, index_hash: str, init: str
) -> tuple[str, ...]:
    """Copy into a run folder the stages that another run has trained on the same films from the same beginning.

    Stages are taken in order, up to the first that the other run has not, or has with another configuration. Nothing is
    copied over a stage that is there, or from a run of other films, another seed or other first weights.

    Args:
        folder: the run that is to be trained; it need not exist.
        config: its Config.
        sibling: the run folder to take stages from.
        seed: of the run, as ``RunInfo`` has it.
        index_hash: of the films it trains on, likewise.
        init: sha256 of the weights it starts from, likewise.

    Returns:
        The stages copied.

    Raises:
        RunError: ``sibling`` is no run folder, or a stage of ``folder`` has another configuration.
    """
    info = read_run(sibling)
    if (info.method, info.seed, info.index_hash, info.init) != ("cai2018", seed, index_hash, init):
        return ()
    copied: list[str] = []
    for stage in stages_of(config):
        wanted = asdict(stage_config(config, stage))
        if stage_done(folder / stage, wanted, seed):
            continue
        if not _has(sibling / stage, wanted, seed):
            break
        part = folder / f"{stage}.part"
        shutil.rmtree(part, ignore_errors=True)
        shutil.copytree(sibling / stage, part)
        # A stage that was begun here gives way to one that is done.
        shutil.rmtree(folder / stage, ignore_errors=True)
        part.rename(folder / stage)
        copied.append(stage)
    return tuple(copied)


def _has(folder: Path, wanted: dict[str, object], seed: int) -> bool:
    try:
        return stage_done(folder, wanted, seed)
    except RunError:
        return False
