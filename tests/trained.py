"""Sixty phantom films, a run trained on them for one epoch, and its predictions: made once, changed by no test.

A module that wants these fixtures says ``pytest_plugins = ("trained",)``.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from commands import TINY, cxrlocus, make_films


@pytest.fixture(scope="session")
def films(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A phantom in NIH layout: 45 films to train on, 15 to test."""
    return make_films(tmp_path_factory.mktemp("phantom") / "films")


@pytest.fixture(scope="session")
def decoded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The cache of every test here."""
    return tmp_path_factory.mktemp("decoded")


@pytest.fixture(scope="session")
def run(films: Path, decoded: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run."""
    folder = tmp_path_factory.mktemp("runs") / "cam"
    cxrlocus(
        "train", "cam", "--data", films, "--out", folder, "--cache", decoded, *TINY, "--set", "epochs=1"
    ).succeeded()
    return folder


@pytest.fixture(scope="session")
def pred(films: Path, decoded: Path, run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its predictions of the test films."""
    folder = tmp_path_factory.mktemp("predictions") / "pred"
    cxrlocus("predict", run, "--data", films, "--out", folder, "--cache", decoded).succeeded()
    return folder


@pytest.fixture
def own_films(films: Path, tmp_path: Path) -> Path:
    """A copy of the films that a test may spoil."""
    return Path(shutil.copytree(films, tmp_path / "films"))


@pytest.fixture
def own_run(run: Path, tmp_path: Path) -> Path:
    """A copy of the run that a test may spoil."""
    return Path(shutil.copytree(run, tmp_path / "run"))


@pytest.fixture
def own_pred(pred: Path, tmp_path: Path) -> Path:
    """A copy of the predictions that a test may spoil."""
    return Path(shutil.copytree(pred, tmp_path / "pred"))
