"""Stages that two runs have in common are trained once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import contract
import pytest
from lightning_fabric import Fabric

from cxrlocus.data.records import Index
from cxrlocus.errors import RunError
from cxrlocus.methods import METHODS
from cxrlocus.methods.cai2018 import CaiConfig
from cxrlocus.study.sharing import reuse_stages


@pytest.fixture(scope="module")
def trained_run(tmp_path_factory: pytest.TempPathFactory, planted: Index, cache: Path, fabric: Fabric) -> Path:
    return contract.train_tiny("cai2018", planted, tmp_path_factory.mktemp("sibling") / "run", cache, fabric)


def config(variant: str = "", **options: str) -> CaiConfig:
    made = METHODS["cai2018"].configure(
        preset="demo", variant=variant, options={**contract.TINY["cai2018"], **options}
    )  # fmt: skip
    assert isinstance(made, CaiConfig)
    return made


def reuse(folder: Path, wanted: CaiConfig, run: Path, planted: Index, **other: object) -> tuple[str, ...]:
    info = contract.info_of("cai2018", planted.split("train"), vars(wanted))
    return reuse_stages(folder, replace(info, **other), METHODS["cai2018"].stages(wanted), run)  # type: ignore[arg-type]  # a str or an int


@pytest.mark.parametrize(
    ("variant", "options", "shared"),
    [
        ("", {"steps": "1"}, ("base", "msa", "joint", "mine1")),
        ("", {"steps": "3"}, ("base", "msa", "joint", "mine1", "mine2")),
        ("kp-none", {}, ("base", "msa", "joint")),
        ("", {"maps_from": "last"}, ("base", "msa", "joint", "mine1", "mine2")),
        ("", {"joint_rate": "0.5"}, ("base", "msa")),
        ("msa-deconv", {}, ("base",)),
        ("msa-none", {"steps": "0"}, ("base",)),
        ("", {"epochs": "3"}, ()),
    ],
)
def test_stages_are_taken_up_to_the_first_that_differs(
    trained_run: Path,
    planted: Index,
    tmp_path: Path,
    variant: str,
    options: dict[str, str],
    shared: tuple[str, ...],
) -> None:
    assert reuse(tmp_path / "run", config(variant, **options), trained_run, planted) == shared
    assert sorted(p.name for p in (tmp_path / "run").glob("*")) == sorted(shared)
    assert reuse(tmp_path / "run", config(variant, **options), trained_run, planted) == ()


@pytest.mark.parametrize("other", [{"seed": 1}, {"index_hash": "0"}, {"init": "0"}, {"method": "cam"}])
def test_runs_of_another_beginning_share_nothing(
    trained_run: Path, planted: Index, tmp_path: Path, other: dict[str, object]
) -> None:
    assert reuse(tmp_path / "run", config(), trained_run, planted, **other) == ()
    with pytest.raises(RunError, match=r"no run\.json"):
        reuse(tmp_path / "run", config(), tmp_path, planted)


def test_training_goes_on_from_what_was_copied(
    trained_run: Path, planted: Index, cache: Path, fabric: Fabric, tmp_path: Path
) -> None:
    (tmp_path / "msa").mkdir()
    (tmp_path / "msa" / "resume.safetensors").write_bytes(b"a stage that was begun")
    reuse(tmp_path, config("kp-none"), trained_run, planted)
    seen: set[str] = set()
    contract.train_tiny(
        "cai2018", planted, tmp_path, cache, fabric, variant="kp-none",
        on_step=lambda _d, _t, words: seen.add(words.split()[0]),
    )  # fmt: skip
    assert seen == {"mine1", "mine2"}
