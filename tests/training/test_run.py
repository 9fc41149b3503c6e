"""The run folder: begun once, continued only by the same run, refused when it is not this version's."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from cxrlocus.data.records import Index, Record
from cxrlocus.errors import RunError
from cxrlocus.training.run import (
    KNOWS,
    RunInfo,
    file_hash,
    open_run,
    read_films,
    read_run,
    stage_done,
    write_films,
)
from cxrlocus.types import Findings

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


def test_an_option_that_an_older_version_did_not_have_was_at_its_default(tmp_path: Path) -> None:
    open_run(tmp_path, INFO)
    newer = replace(INFO, config={**INFO.config, "choose": "labels"})
    with pytest.raises(RunError, match="config choose"):
        open_run(tmp_path, newer)
    open_run(tmp_path, newer, {"lr": 9.0, "choose": "labels"})
    with pytest.raises(RunError, match="config choose is 'labels' there and 'boxes' here"):
        open_run(tmp_path, replace(INFO, config={**INFO.config, "choose": "boxes"}), {"lr": 9.0, "choose": "labels"})
    (tmp_path / "manifest.json").write_text(json.dumps({"config": INFO.config, "seed": 0}), encoding="utf-8")
    assert stage_done(tmp_path, newer.config, 0)


def test_a_run_says_what_it_knows_beyond_labels() -> None:
    assert INFO.knows == ""
    assert replace(INFO, config={"choose": "labels"}).knows == ""
    assert (
        replace(INFO, config={"choose": "boxes"}).knows
        == KNOWS["choose", "boxes"]
        == "checkpoint chosen on validation boxes"
    )


def films(*names: str) -> Index:
    records = tuple(Record(name, Path(name), f"of {name}") for name in names)
    return Index("nih", Path("films"), Findings(("Mass",)), records)


def test_the_films_learned_from_come_back(tmp_path: Path) -> None:
    open_run(tmp_path, INFO)
    write_films(tmp_path, films("a,b.png", 'q"uote.png', "é/1.png"), films("v.png"))
    index = read_films(tmp_path)
    assert (index.dataset, index.hashes, index.root) == (INFO.dataset, INFO.hashes, tmp_path)
    assert [(r.image, r.patient, r.split) for r in index.records] == [
        ("a,b.png", "of a,b.png", "train"),
        ('q"uote.png', 'of q"uote.png', "train"),
        ("é/1.png", "of é/1.png", "train"),
        ("v.png", "of v.png", "val"),
    ]


def test_a_run_that_does_not_list_its_films_has_none(tmp_path: Path) -> None:
    open_run(tmp_path, INFO)
    assert len(read_films(tmp_path)) == 0


@pytest.mark.parametrize("text", ["image\na\n", 'image,patient,part\n"a', "image,patient,part\na,1,train\na,1,val\n"])
def test_a_damaged_list_of_films_is_named(tmp_path: Path, text: str) -> None:
    open_run(tmp_path, INFO)
    (tmp_path / "films.csv").write_text(text, encoding="utf-8")
    with pytest.raises(RunError, match=r"films\.csv: damaged .*Train again"):
        read_films(tmp_path)


def test_a_hundred_thousand_films_are_read_at_once(tmp_path: Path) -> None:
    open_run(tmp_path, INFO)
    write_films(tmp_path, films(*(f"{i:08d}_000.png" for i in range(100_000))), films("v.png"))
    started = time.process_time()
    assert len(read_films(tmp_path)) == 100_001
    assert time.process_time() - started < 10.0
