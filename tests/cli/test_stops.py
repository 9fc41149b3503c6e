"""Stopped by Ctrl-C, by kill -9 or by a reader that has seen enough: the same command goes on, to the same end."""

from __future__ import annotations

import filecmp
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from commands import TINY, cxrlocus, finish, start
from cxrlocus.methods.cam.model import CamLocalizer
from cxrlocus.types import Explained

pytest_plugins = ("trained",)

WEIGHTS = Path("base") / "weights.safetensors"


@pytest.fixture
def ctrl_c_heard() -> Iterator[None]:
    """A shell starts what runs in its background deaf to Ctrl-C, and processes inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def identical(one: Path, other: Path) -> bool:
    """Whether two predictions folders hold the same files with the same bytes."""
    names = sorted(p.name for p in one.iterdir())
    return names == sorted(p.name for p in other.iterdir()) and not filecmp.cmpfiles(one, other, names, False)[1]


def wait_for(path: Path, process: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_training_stopped_by_ctrl_c_ends_with_the_same_weights(films: Path, decoded: Path, tmp_path: Path) -> None:
    options = (*TINY, "--set", "epochs=10", "--set", "batch_size=8")
    words = ("train", "cam", "--data", films, "--cache", decoded, *options, "--out")
    stopped, straight = tmp_path / "stopped", tmp_path / "straight"
    process = start(*words, stopped)
    wait_for(stopped / WEIGHTS, process)
    process.send_signal(signal.SIGINT)
    assert "stopped; run the same command again to go on" in finish(process).complaint(status=130)
    assert (stopped / "base" / "resume.safetensors").is_file()
    assert not (stopped / "base" / "manifest.json").exists()
    cxrlocus(*words, stopped).succeeded()
    cxrlocus(*words, straight).succeeded()
    assert filecmp.cmp(stopped / WEIGHTS, straight / WEIGHTS, shallow=False)
    assert not (stopped / "base" / "resume.safetensors").exists()


def test_a_training_that_is_done_is_not_done_again(films: Path, run: Path, decoded: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in (run / "base").iterdir()}
    cxrlocus("train", "cam", "--data", films, "--out", run, "--cache", decoded, *TINY, "--set", "epochs=1").succeeded()
    assert before == {p: p.stat().st_mtime_ns for p in (run / "base").iterdir()}


@pytest.mark.usefixtures("ctrl_c_heard")
@pytest.mark.parametrize("batch", [2, 4])
def test_predicting_stopped_by_ctrl_c_ends_with_the_same_folder(
    batch: int, films: Path, run: Path, decoded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("predict", run, "--data", films, "--cache", decoded, "--batch", batch, "--out")
    explain, calls = CamLocalizer.explain, []

    def interrupted(self: CamLocalizer, images: torch.Tensor, frames: object) -> Explained:
        calls.append(len(images))
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)
        return explain(self, images, frames)  # type: ignore[arg-type]  # as it came

    with monkeypatch.context() as pressed:
        pressed.setattr(CamLocalizer, "explain", interrupted)
        assert cxrlocus(*words, tmp_path / "stopped").complaint(status=130).endswith("again to go on")
    assert not (tmp_path / "stopped" / "meta.json").exists()
    cxrlocus(*words, tmp_path / "stopped").succeeded()
    cxrlocus(*words, tmp_path / "straight").succeeded()
    assert identical(tmp_path / "stopped", tmp_path / "straight")


KILLED = """
import os, signal, sys
from cxrlocus.cli import main
from cxrlocus.methods.cam.model import CamLocalizer
from cxrlocus.prediction import predict
predict.FLUSH_EVERY = 1
explain, calls = CamLocalizer.explain, []
def killed(self, images, frames):
    calls.append(1)
    if len(calls) == 4:
        os.kill(os.getpid(), signal.SIGKILL)
    return explain(self, images, frames)
CamLocalizer.explain = killed
main(sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX signals")
def test_predicting_killed_ends_with_the_same_folder(films: Path, run: Path, decoded: Path, tmp_path: Path) -> None:
    words = ["predict", run, "--data", films, "--cache", decoded, "--batch", 2, "--out"]
    script = [sys.executable, "-c", KILLED, *map(str, words), str(tmp_path / "killed")]
    done = subprocess.run(script, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert (tmp_path / "killed" / "progress.json").is_file()
    assert "no meta.json" in cxrlocus("evaluate", tmp_path / "killed", "--data", films).complaint()
    cxrlocus(*words, tmp_path / "killed").succeeded()
    cxrlocus(*words, tmp_path / "straight").succeeded()
    assert identical(tmp_path / "killed", tmp_path / "straight")


def test_a_reader_that_has_seen_enough_is_no_error(films: Path, pred: Path, tmp_path: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    rows = tmp_path / "rows.json"
    process = start("evaluate", pred, "--data", films, "--json", rows, "--resamples", 0, stdout=write)
    os.close(write)
    outcome = finish(process)
    assert (outcome.status, outcome.told) == (0, [f"rows: {rows} ({rows.read_text(encoding='utf-8').count('{')})"])
