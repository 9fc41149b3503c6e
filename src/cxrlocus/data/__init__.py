"""Data sets: films, labels, patients, splits and boxes, read from disk into an Index. Nothing here needs torch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from cxrlocus.data.folder import load_folder
from cxrlocus.data.nih import load_nih
from cxrlocus.data.records import Index
from cxrlocus.data.rsna import load_rsna
from cxrlocus.data.tables import check_root
from cxrlocus.errors import ConfigError, DataError

__all__ = ["DATASETS", "Index", "load_folder", "load_nih", "load_rsna", "open_index"]

DATASETS: dict[str, Callable[[Path], Index]] = {
    "nih": load_nih,
    "nih-2017": partial(load_nih, labels="2017"),
    "nih-v2020": partial(load_nih, labels="v2020"),
    "folder": load_folder,
    "rsna": load_rsna,
    "rsna-normal": partial(load_rsna, task="opacity-normal"),
}
"""Every layout that can be read, by name."""

SIGNS = {"nih": "Data_Entry*.csv", "folder": "labels.csv", "rsna": "stage_2_train_labels.csv"}
"""The label file that a layout is told by."""


def open_index(root: str | Path, dataset: str = "auto") -> Index:
    """Read a data set.

    Args:
        root: its folder.
        dataset: a name in ``DATASETS``, or "auto": the one whose label file (``SIGNS``) is there.

    Raises:
        ConfigError: the name is not known.
        DataError: the folder is missing, has none of the label files or several, or breaks a rule of its layout.
        LeakError: a patient stands in two splits.
    """
    root = Path(root)
    if dataset == "auto":
        return DATASETS[_layout(root)](root)
    if dataset not in DATASETS:
        raise ConfigError(f"dataset must be one of auto, {', '.join(DATASETS)}; got {dataset!r}. Choose one of them.")
    return DATASETS[dataset](root)


def _layout(root: Path) -> str:
    check_root(root)
    there = [name for name, sign in SIGNS.items() if any(root.glob(sign))]
    if len(there) != 1:
        choice = " or ".join(f"--dataset {name}" for name in there)
        raise DataError(
            f"{root}: one of {', '.join(f'{sign} ({name})' for name, sign in SIGNS.items())} must say what this is; "
            + (f"{len(there)} are there. Choose with {choice}." if there else "none is there. Put one of them there.")
        )
    return there[0]
