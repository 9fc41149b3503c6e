"""The run folder: begun once, continued only by the same run, refused when it is not this version's."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from cxrlocus.errors import RunError
from cxrlocus.training.run import RunInfo, file_hash, open_run, read_run, stage_done

INFO = RunInfo(
    method="cam", variant="", preset="cpu", config={"lr": 1e-3, "epochs": 2}, findings=["Mass"], dataset="nih",
    index_hash="ab", hashes={"labels.csv": "cd"}, seed=0, init="", machine="2 x CPU",
)  # fmt: skip


def change(folder: Path, **fields: Any) -> None:
    raw = json.loads((folder / "run.json").read_text(encoding="utf-8"))
    (folder / "run.json").write_text(json.dumps({**raw, **fields}), encoding="utf-8")


def test_a_run_comes_back(tmp_path: Path) -> None:
    open_run(tmp_path / "deep" / "run", INFO)
    assert asdict(read_run(tmp_path / "deep" / "run")) == asdict(INFO)


def test_the_same_run_goes_on_elsewhere_and_later(tmp_path: Path) -> None:
    open_run(tmp_path, INFO)
    open_run(tmp_path, replace(INFO, machine="8 x GPU", version="9.9"))
    assert read_run(tmp_path).machine == INFO.machine


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("method", "other"), ("variant", "lse"), ("preset", "paper"), ("config", {"lr": 2e-3, "epochs": 2}),
        ("findings", ["Nodule"]), ("dataset", "rsna"), ("index_hash", "x"), ("hashes", {}), ("seed", 1), ("init", "f"),
    ],
)  # fmt: skip
def test_another_run_is_refused_and_the_difference_named(tmp_path: Path, field: str, value: object) -> None:
    open_run(tmp_path, INFO)
    with pytest.raises(RunError, match=rf"holds another run \({field}( \S+)? is .*Choose another --out"):
        open_run(tmp_path, replace(INFO, **{field: value}))
    assert asdict(read_run(tmp_path)) == asdict(INFO)


def test_a_folder_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"no run\.json"):
        read_run(tmp_path)
    with pytest.raises(RunError, match=r"no run\.json"):
        read_run(tmp_path / "absent")


@pytest.mark.parametrize("schema", [0, 2, None, "1"])
def test_another_schema_is_refused(tmp_path: Path, schema: object) -> None:
    open_run(tmp_path, INFO)
    change(tmp_path, schema=schema)
    with pytest.raises(RunError, match=r"run schema .*Train again"):
        read_run(tmp_path)


@pytest.mark.parametrize("text", ["[]", "3", "{}", "", "{"])
def test_a_run_file_that_is_no_run_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text, encoding="utf-8")
    with pytest.raises(RunError):
        read_run(tmp_path)


def test_fields_of_another_version_are_refused(tmp_path: Path) -> None:
    open_run(tmp_path, INFO)
    change(tmp_path, colour="blue")
    with pytest.raises(RunError, match=r"fields differ from this version's: colour"):
        read_run(tmp_path)


def test_a_stage_is_done_when_its_manifest_matches(tmp_path: Path) -> None:
    assert not stage_done(tmp_path, {"lr": 0.1}, 0)
    (tmp_path / "manifest.json").write_text(json.dumps({"config": {"lr": 0.1}, "seed": 0}), encoding="utf-8")
    assert stage_done(tmp_path, {"lr": 0.1}, 0)
    for config, seed in (({"lr": 0.2}, 0), ({"lr": 0.1}, 1)):
        with pytest.raises(RunError, match="another configuration"):
            stage_done(tmp_path, config, seed)


def test_a_tuple_in_a_config_is_the_list_that_json_makes_of_it(tmp_path: Path) -> None:
    info = replace(INFO, config={"levels": (60, 180)})
    open_run(tmp_path, info)
    open_run(tmp_path, info)
    (tmp_path / "manifest.json").write_text(json.dumps({"config": info.config, "seed": 0}), encoding="utf-8")
    assert stage_done(tmp_path, info.config, 0)


@pytest.mark.parametrize("text", ["[]", "{", '"done"'])
def test_a_damaged_manifest_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(RunError):
        stage_done(tmp_path, {}, 0)


def test_file_hash_is_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    # printf abc | sha256sum
    assert file_hash(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    with pytest.raises(RunError, match="cannot be read"):
        file_hash(tmp_path / "b")
