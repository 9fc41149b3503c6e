"""Weights in safetensors, everything else in JSON; nothing is ever unpickled. Files appear whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from cxrlocus.errors import RunError
from cxrlocus.files import write_text_whole, writing_whole


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never half of it."""
    write_text_whole(path, json.dumps(value, indent=1) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise RunError(f"{path}: cannot be read ({error}). Is this a run folder of `cxrlocus train`?") from error


def save_weights(path: Path, module: nn.Module) -> None:
    """Write a module's parameters and buffers."""
    _save(path, module.state_dict(), {})


def load_weights(path: Path, module: nn.Module) -> None:
    """Fill a module with what ``save_weights`` wrote; names and shapes must agree exactly.

    Raises:
        RunError: the file is missing, damaged, or of another network.
    """
    try:
        module.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(
            f"{path}: not the weights of this network ({reason}). Train again, or give the right run."
        ) from error


def save_resume(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, progress: dict[str, Any]) -> None:
    """Write all that a stage needs to go on: weights, optimizer state and progress, in one file.

    One file, because weights and progress that were written at different moments would resume to something else.
    """
    state = optimizer.state_dict()
    tensors = {f"model.{k}": v for k, v in module.state_dict().items()}
    plain: dict[str, dict[str, Any]] = {}
    for parameter, values in state["state"].items():
        for key, value in values.items():
            if isinstance(value, Tensor):
                tensors[f"optimizer.{parameter}.{key}"] = value
            else:
                plain.setdefault(str(parameter), {})[key] = value
    header = {"progress": progress, "groups": state["param_groups"], "plain": plain}
    _save(path, tensors, {"resume": json.dumps(header)})


def load_resume(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Fill module and optimizer with what ``save_resume`` wrote and return the progress.

    Raises:
        RunError: the file is damaged or of another network.
    """
    try:
        with safe_open(path, "pt") as file:
            header = json.loads(file.metadata()["resume"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        module.load_state_dict({k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")})
        state: dict[int, dict[str, Any]] = {int(p): dict(values) for p, values in header["plain"].items()}
        for name, value in tensors.items():
            if name.startswith("optimizer."):
                _, parameter, key = name.split(".", 2)
                state.setdefault(int(parameter), {})[key] = value
        optimizer.load_state_dict({"state": state, "param_groups": header["groups"]})
    except (OSError, SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise RunError(
            f"{path}: cannot be resumed from ({reason}). Delete the file to start the stage again."
        ) from error
    progress: dict[str, Any] = header["progress"]
    return progress


def _save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    # Clones: safetensors refuses tensors that share memory, and tied weights do.
    plain = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    with writing_whole(path) as part:
        try:
            save_file(plain, part, metadata=metadata)
        except SafetensorError as error:
            raise OSError(str(error)) from error
