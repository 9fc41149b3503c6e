"""Data sets: films, labels, patients, splits and boxes, read from disk into an Index. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cxrlocus.data.folder import load_folder
from cxrlocus.data.nih import load_nih
from cxrlocus.data.records import Index
from cxrlocus.data.tables import check_root
from cxrlocus.errors import ConfigError, DataError

__all__ = ["DATASETS", "Index", "load_folder", "load_nih", "open_index"]

DATASETS: dict[str, Callable[[Path], Index]] = {"nih": load_nih, "folder": load_folder}
"""Every layout that can be read, by name."""


def open_index(root: Path, dataset: str = "auto") -> Index:
    """Read a data set.

    Args:
        root: its folder.
        dataset: a name in ``DATASETS``, or "auto": ``Data_Entry*.csv`` makes it "nih", ``labels.csv`` "folder".

    Raises:
        ConfigError: the name is not known.
        DataError: the folder is missing, has neither label file or both, or breaks a rule of its layout.
        LeakError: a patient stands in two splits.
    """
    if dataset == "auto":
        return DATASETS[_layout(root)](root)
    if dataset not in DATASETS:
        raise ConfigError(f"dataset must be auto, {' or '.join(DATASETS)}; got {dataset!r}. Choose one of them.")
    return DATASETS[dataset](root)


def _layout(root: Path) -> str:
    check_root(root)
    nih = any(root.glob("Data_Entry*.csv"))
    folder = (root / "labels.csv").exists()
    if nih == folder:
        there = "both are there" if nih else "neither is there"
        raise DataError(
            f"{root}: Data_Entry_2017*.csv (NIH layout) or labels.csv (own films) must say what this is; {there}. "
            + ("Choose with --dataset nih or --dataset folder." if nih else "Put one of them there.")
        )
    return "nih" if nih else "folder"
