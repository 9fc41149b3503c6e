"""The smallest training of each method: a method is added to METHODS and here, and to no test."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from lightning_fabric import Fabric

from cxrlocus.data.records import Index
from cxrlocus.methods import METHODS
from cxrlocus.methods.base import Recipe
from cxrlocus.training.fit import OnStep
from cxrlocus.training.run import RunInfo, open_run
from cxrlocus.types import Frame

TINY: Mapping[str, Mapping[str, str]] = {
    "cai2018": {
        "backbone": "test_resnet", "size": "64", "epochs": "2", "batch_size": "8", "precision": "fp32", "lr": "0.005",
        "msa_epochs": "1", "joint_epochs": "1", "mine_epochs": "1", "steps": "2", "msa_last": "8", "msa_before": "4",
    },
    "cam": {
        "backbone": "test_resnet", "size": "64", "epochs": "2", "batch_size": "8", "precision": "fp32", "lr": "0.005",
    },
    "drawn": {
        "size": "64", "epochs": "2", "batch_size": "8", "precision": "fp32", "lr": "0.005", "drawn": "2",
        "planted": "0", "width": "8", "head": "8",
    },
    "infomask2019": {
        "finding": "all", "size": "64", "epochs": "2", "batch_size": "8", "precision": "fp32", "lr": "0.001",
        "norm": "none",
    },
    "kim2021": {
        "size": "64", "epochs": "2", "batch_size": "8", "precision": "fp32", "lr": "0.005", "align_epochs": "2",
        "align_batch": "8", "align_lr": "0.005", "retrain_epochs": "1", "mask_best": "4",
    },
    "yao2018": {
        "size": "64", "resolution": "16", "lowest": "4", "epochs": "2", "batch_size": "8", "precision": "fp32",
        "lr": "0.005",
    },
}  # fmt: skip
"""Options of a training of seconds, by method; they stand over the preset "demo"."""


def frames(n: int) -> np.ndarray:
    """Of n films of 64 x 64 pixels."""
    return np.tile(Frame.of_size(64, 64).matrix, (n, 1, 1))


def info_of(method: str, index: Index, config: Mapping[str, Any], variant: str = "") -> RunInfo:
    return RunInfo(
        method=method, variant=variant, preset="demo", config=config, findings=list(index.findings),
        dataset=index.dataset, index_hash=index.hash, hashes=dict(index.hashes), seed=0, init="", machine="a machine",
    )  # fmt: skip


def train_tiny(
    method: str,
    index: Index,
    folder: Path,
    cache: Path,
    fabric: Fabric,
    *,
    variant: str = "",
    init: Path | None = None,
    on_step: OnStep | None = None,
    **options: str,
) -> Path:
    """Train a method on the films of split "train" and give the run folder."""
    spec = METHODS[method]
    config = spec.configure(variant=variant, preset="demo", options={**TINY[method], **options})
    part = index.split("train")
    open_run(folder, info_of(method, part, vars(config), variant))
    spec.train(Recipe(folder, part, config, 0, fabric, cache, init=init, on_step=on_step))
    return folder
