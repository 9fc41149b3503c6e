"""The small archive and an undisturbed harvest of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import small_archive
from small_archive import make_archive, save_index

from cxrlocus.data.records import Index
from cxrlocus.harvest.run import Harvest


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Index:
    index = make_archive(tmp_path_factory.mktemp("archive"))
    save_index(index)
    return index


@pytest.fixture(scope="session")
def harvested(archive: Index, tmp_path_factory: pytest.TempPathFactory) -> Harvest:
    return small_archive.run(archive, tmp_path_factory.mktemp("harvest") / "out")


@pytest.fixture(scope="session")
def out(harvested: Harvest) -> Path:
    return harvested.files[0].parent
