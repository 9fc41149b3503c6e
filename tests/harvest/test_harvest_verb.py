"""`cxrlocus harvest` as a person calls it, on a network trained for a moment."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_archive import outputs

from cxrlocus.cli import main
from cxrlocus.harvest import export

TRAIN = ["backbone=test_resnet", "size=64", "epochs=2", "batch_size=8", "precision=fp32"]


@pytest.fixture(scope="module")
def trained(planted_root: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("run") / "cam"
    options = [word for one in TRAIN for word in ("--set", one)]
    command = ["train", "cam", "--data", str(planted_root), "--out", str(run), "--preset", "demo"]
    assert main([*command, "--cache", str(cache), *options]) == 0
    return run


def harvest(trained: Path, root: Path, out: Path, *more: str) -> int:
    return main(["harvest", str(trained), "--data", str(root), "--out", str(out), *more])


def test_harvest_then_evaluate(
    trained: Path, planted_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert harvest(trained, planted_root, tmp_path / "h", "--shard", "10") == 0
    said = capsys.readouterr()
    assert "IoU > .3" in said.out
    assert "images/s" in said.err
    raw = json.loads((tmp_path / "h" / "harvest.json").read_text(encoding="utf-8"))
    assert raw["films"] == 48
    assert [one["asked"] for one in raw["findings"]] == [24, 24]
    assert list(raw["key"]["source"]["weights"]) == ["base/weights.safetensors"]
    rows = tmp_path / "rows.json"
    evaluate = ["evaluate", str(tmp_path / "h" / "boxes.csv"), "--data", str(planted_root), "--split", "all"]
    assert main([*evaluate, "--resamples", "5", "--no-controls", "--json", str(rows)]) == 0
    accuracy = {
        row["finding"]: row["value"]
        for row in json.loads(rows.read_text(encoding="utf-8"))
        if row["quantity"] == "accuracy_iou" and row["threshold"] == 0.3
    }
    for one in raw["findings"]:
        # Every film of the finding has a true box here, and rank 1 is the only rank: precision and accuracy agree.
        assert one["measured"] == 24
        assert accuracy[one["finding"]] == pytest.approx(one["over_30"] / 24)


def test_the_same_command_again_and_another(
    trained: Path, planted_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert harvest(trained, planted_root, tmp_path / "h", "--split", "test") == 0
    before = outputs(tmp_path / "h")
    assert harvest(trained, planted_root, tmp_path / "h", "--split", "test") == 0
    assert outputs(tmp_path / "h") == before
    capsys.readouterr()
    assert harvest(trained, planted_root, tmp_path / "h", "--split", "test", "--threshold", "0.4") == 1
    assert "options.rule.threshold is 0.5 there and 0.4 here" in capsys.readouterr().err


def test_unreadable_films_are_listed_and_strict_fails(
    trained: Path, planted_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "films"
    (root / "images").mkdir(parents=True)
    for path in planted_root.glob("images/*.png"):
        (root / "images" / path.name).write_bytes(b"" if path.name == "00.png" else path.read_bytes())
    (root / "labels.csv").write_bytes((planted_root / "labels.csv").read_bytes())
    assert harvest(trained, root, tmp_path / "h") == 0
    said = capsys.readouterr()
    assert "00.png: the file is empty" in said.err
    assert "1 films could not be read" in said.err
    assert "precision: unknown" in said.err
    assert "IoU" not in said.out
    assert harvest(trained, root, tmp_path / "h", "--strict") == 1


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--threshold", "1.5"], "a threshold must be in [0, 1); got 1.5"),
        (["--min-prob", "2"], "min-prob must be in [0, 1]; got 2.0"),
        (["--batch", "0"], "batch and shard must be at least 1 film; got 0 and 512"),
        (["--split", "val"], "no film belongs to split val"),
    ],
)
def test_bad_options_are_one_line(
    trained: Path, planted_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], line: str
) -> None:
    assert harvest(trained, planted_root, tmp_path / "h", *more) == 1
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1
    assert not (tmp_path / "h").exists()


def test_a_run_that_is_none_is_one_line(planted_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert harvest(tmp_path / "nowhere", planted_root, tmp_path / "h") == 1
    assert "no run.json" in capsys.readouterr().err


def test_no_pyarrow_is_one_line(
    trained: Path,
    planted_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(export, "has_parquet", lambda: False)
    assert harvest(trained, planted_root, tmp_path / "h", "--split", "test") == 0
    assert "no boxes.parquet: pyarrow is not installed" in capsys.readouterr().err
    assert not (tmp_path / "h" / "boxes.parquet").exists()


def test_findings_that_the_run_does_not_know_are_told(
    trained: Path, planted_root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "films"
    (root / "images").mkdir(parents=True)
    (root / "images" / "a.png").write_bytes((planted_root / "images" / "00.png").read_bytes())
    (root / "labels.csv").write_text("image,Mass,Edema,Hernia\na.png,1,1,0\n", encoding="utf-8")
    assert harvest(trained, root, tmp_path / "h") == 0
    assert "not looked for, as the run does not know them: Edema (on 1 films)" in capsys.readouterr().err
