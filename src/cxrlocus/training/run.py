"""The run folder: what was trained, on what, with what; found again by prediction, and refused when it does not match.

run.json                 method, variant, config, findings, data hashes, seed, version, machine
val_list.txt, split.json the held-out films; their list's hash, the counts, the films that could not be read
<stage>/manifest.json    a stage that is done; weights.safetensors and log.jsonl beside it
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from cxrlocus import __version__
from cxrlocus.errors import RunError
from cxrlocus.training.checkpoint import read_json, write_json

SCHEMA = 1


@dataclass(frozen=True)
class RunInfo:
    """What run.json says.

    Args:
        method, variant, preset: by name.
        config: the method's Config as a dict.
        findings: the vocabulary, in order.
        dataset: name of the data set.
        index_hash: of films, labels, splits and boxes.
        hashes: sha256 of the data set's own lists.
        seed: of everything random.
        init: sha256 of the weights that training started from; "" for none.
        machine: one line.
        version: of this software.
        schema: of this file.
    """

    method: str
    variant: str
    preset: str
    config: Mapping[str, Any]
    findings: list[str]
    dataset: str
    index_hash: str
    hashes: Mapping[str, str]
    seed: int
    init: str
    machine: str
    version: str = __version__
    schema: int = SCHEMA


def check_run(folder: Path, info: RunInfo) -> None:
    """See that a folder holds the same run, or none.

    Raises:
        RunError: the folder holds a run that differs in anything but the machine and the version.
    """
    path = folder / "run.json"
    if path.is_file():
        before, now = asdict(read_run(folder)), _as_json(asdict(info))
        other = [k for k in now if k not in ("machine", "version") and now[k] != before[k]]
        if other:
            name, there, here = other[0], before[other[0]], now[other[0]]
            if isinstance(there, dict) and isinstance(here, dict):
                # A whole Config would not be read; the first option that differs is.
                option = next(k for k in {**there, **here} if there.get(k) != here.get(k))
                name, there, here = f"{name} {option}", there.get(option), here.get(option)
            detail = f"{name} is {there!r:.90} there and {here!r:.90} here"
            raise RunError(f"{folder}: holds another run ({detail}). Choose another --out, or delete the folder.")


def open_run(folder: Path, info: RunInfo) -> None:
    """Begin a run in a folder, or go on with the same run in it.

    Raises:
        RunError: the folder holds another run.
    """
    check_run(folder, info)
    if not (folder / "run.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "run.json", asdict(info))


def read_run(folder: Path) -> RunInfo:
    """Read run.json.

    Raises:
        RunError: the folder has none, or it is damaged or of another schema version.
    """
    if not (folder / "run.json").is_file():
        raise RunError(f"{folder}: no run.json, so not a run folder. Give the --out folder of `cxrlocus train`.")
    raw = read_json(folder / "run.json")
    schema = raw.get("schema") if isinstance(raw, dict) else None
    if schema != SCHEMA:
        raise RunError(
            f"{folder}: run schema {schema!r}, but this version ({__version__}) reads {SCHEMA}. "
            f"Train again, or use the cxrlocus version that wrote it ({raw.get('version') if schema else 'unknown'})."
        )
    names = {f.name for f in fields(RunInfo)}
    if set(raw) != names:
        raise RunError(f"{folder}/run.json: fields differ from this version's: {', '.join(sorted(set(raw) ^ names))}.")
    kinds = {"config": dict, "hashes": dict, "findings": list, "seed": int, "schema": int}
    wrong = sorted(name for name in names if not isinstance(raw[name], kinds.get(name, str)))
    if wrong:
        raise RunError(f"{folder}/run.json: {wrong[0]} has another type than this version's. Train again.")
    return RunInfo(**raw)


def stage_done(folder: Path, config: Mapping[str, Any], seed: int) -> bool:
    """Whether a stage has a manifest that matches.

    Raises:
        RunError: it has one of another configuration.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        return False
    manifest = read_json(path)
    done = (manifest.get("config"), manifest.get("seed")) if isinstance(manifest, dict) else None
    if done != (_as_json(dict(config)), seed):
        raise RunError(f"{folder}: this stage was done with another configuration. Choose another --out.")
    return True


def _as_json(value: dict[str, Any]) -> dict[str, Any]:
    """What the value is once written and read: a tuple in a Config comes back as a list."""
    same: dict[str, Any] = json.loads(json.dumps(value))
    return same


def file_hash(path: Path) -> str:
    """sha256 of a file, hex.

    Raises:
        RunError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise RunError(f"{path}: cannot be read ({error.strerror}).") from error
