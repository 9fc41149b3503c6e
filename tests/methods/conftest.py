"""A trained run of every method, and the films that it has not seen."""

from __future__ import annotations

from pathlib import Path

import contract
import numpy as np
import pytest
import torch
from lightning_fabric import Fabric

from cxrlocus.data.cache import open_films
from cxrlocus.data.records import Index
from cxrlocus.methods import METHODS


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory, planted: Index, cache: Path, fabric: Fabric) -> dict[str, Path]:
    """A trained run folder of every method."""
    root = tmp_path_factory.mktemp("runs")
    return {name: contract.train_tiny(name, planted, root / name, cache, fabric) for name in METHODS}


@pytest.fixture(scope="session")
def films(planted: Index, cache: Path) -> torch.Tensor:
    """The test films (12, 1, 64, 64) in [0, 1]."""
    test = planted.split("test")
    pixels = open_films(test, size=64, folder=cache).pixels(np.arange(len(test)))
    return torch.from_numpy(pixels[:, None]).float() / 255
