"""The run folder: what was trained, on what, with what; found again by prediction, and refused when it does not match.

run.json                 method, variant, config, findings, data hashes, seed, version, machine
val_list.txt, split.json the held-out films; their list's hash, the counts, the films that could not be read
films.csv                image, patient and part ("train", or "val": chose the checkpoint) of every film learned from
<stage>/manifest.json    a stage that is done; weights.safetensors and log.jsonl beside it
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from cxrlocus import __version__
from cxrlocus.data.records import Index, Record
from cxrlocus.errors import CxrlocusError, RunError
from cxrlocus.files import write_text_whole
from cxrlocus.training.checkpoint import read_json, write_json
from cxrlocus.types import Findings

SCHEMA = 1

FILMS = "films.csv"

KNOWS = {
    ("choose", "boxes"): "checkpoint chosen on validation boxes",
    ("setting", "transductive"): "trained on the labels of the boxed test films",
}
"""What a run was told beyond the labels of training films, by the Config's option that told it."""


DREW = "masks of drawn lesions"
"""What a run was told that learned from drawn films."""


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

    @property
    def knows(self) -> str:
        """What the run was told beyond image-level labels; "" where it was told nothing."""
        mined = self.config.get("steps") != 0
        told = [
            told
            for (option, value), told in KNOWS.items()
            # Without a step of mining the boxed films were never trained on.
            if self.config.get(option) == value and (option != "setting" or mined)
        ]
        drew = any(self.config.get(kind) for kind in ("drawn", "planted")) and self.config.get("cell_weight")
        return "; ".join([*told, *([DREW] if drew else [])])


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """The first entry in which settings that are asked for differ from those that were stored, in words; "" for none.

    Of entries that are dicts, a whole Config say, the first that differs inside; others would not be read.

    Example:
        >>> difference({"seed": 0, "config": {"lr": 0.1, "epochs": 1}}, {"seed": 0, "config": {"lr": 0.1, "epochs": 2}})
        'config epochs is 1 there and 2 here'
    """
    for name in now:
        there, here = before.get(name), now[name]
        if there != here:
            if isinstance(there, dict) and isinstance(here, dict):
                option = next(k for k in {**there, **here} if there.get(k) != here.get(k))
                name, there, here = f"{name} {option}", there.get(option), here.get(option)
            return f"{name} is {there!r:.90} there and {here!r:.90} here"
    return ""


def check_run(folder: Path, info: RunInfo, defaults: Mapping[str, Any] | None = None) -> None:
    """See that a folder holds the same run, or none.

    Args:
        folder: the run folder.
        info: the run that is about to go on there.
        defaults: of the Config; an option that an older version did not have yet was at its default.

    Raises:
        RunError: the folder holds a run that differs in anything but the machine and the version.
    """
    path = folder / "run.json"
    if path.is_file():
        before, now = asdict(read_run(folder)), _as_json(asdict(info))
        before["config"] = {**_as_json(dict(defaults or {})), **before["config"]}
        if detail := difference(before, {k: v for k, v in now.items() if k not in ("machine", "version")}):
            raise RunError(f"{folder}: holds another run ({detail}). Choose another --out, or delete the folder.")


def open_run(folder: Path, info: RunInfo, defaults: Mapping[str, Any] | None = None) -> None:
    """Begin a run in a folder, or go on with the same run in it; arguments and errors as ``check_run``."""
    check_run(folder, info, defaults)
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
    """Whether a stage has a manifest that matches; options that its version did not have yet do not count.

    Raises:
        RunError: it has one of another configuration.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        return False
    manifest = read_json(path)
    done = manifest.get("config") if isinstance(manifest, dict) else None
    now = _as_json(dict(config))
    if not isinstance(done, dict) or {**now, **done} != now or manifest.get("seed") != seed:
        raise RunError(f"{folder}: this stage was done with another configuration. Choose another --out.")
    return True


def write_films(folder: Path, train: Index, val: Index) -> None:
    """Record the films that a run learns from, with their patients: whoever predicts others can see that they are."""
    text = io.StringIO(newline="")
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("image", "patient", "part"))
    for part, index in (("train", train), ("val", val)):
        rows.writerows((r.image, r.patient, part) for r in index.records)
    write_text_whole(folder / FILMS, text.getvalue())


def read_films(folder: Path) -> Index:
    """The films that a run learned from, as an index (splits "train" and "val"); none if its version did not list them.

    Raises:
        RunError: the list or run.json is damaged.
    """
    info = read_run(folder)
    try:
        rows: list[dict[str, str]] = []
        if (folder / FILMS).is_file():
            with (folder / FILMS).open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file, strict=True))
        records = tuple(Record(r["image"], Path(r["image"]), r["patient"], r["part"]) for r in rows)
        return Index(info.dataset, folder, Findings(tuple(info.findings)), records, hashes=info.hashes)
    except (OSError, ValueError, KeyError, csv.Error, CxrlocusError) as error:
        raise RunError(f"{folder / FILMS}: damaged ({error}). Train again.") from error


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
