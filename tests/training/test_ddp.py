"""Two processes share a training as a user starts it, stop together, and go on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from cxrlocus.methods import load_run
from cxrlocus.types import Frame

OPTIONS = ("backbone=test_resnet", "size=64", "epochs=12", "batch_size=4", "precision=fp32")


def start(root: Path, run: Path, cache: Path) -> subprocess.Popen[str]:
    sets = [part for option in OPTIONS for part in ("--set", option)]
    arguments = ["train", "cam", "--data", root, "--out", run, "--cache", cache, "--preset", "demo", *sets]
    command = [sys.executable, "-m", "cxrlocus", *map(str, arguments), "--accelerator", "cpu", "--devices", "2"]
    env = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST")} | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env, start_new_session=True
    )


def wait_for(path: Path, process: subprocess.Popen[str], seconds: float = 240.0) -> None:
    end = time.monotonic() + seconds
    while not path.exists():
        if process.poll() is not None or time.monotonic() > end:
            pytest.fail(f"{path.name} did not appear: {process.communicate()[0][-2000:]}")
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform == "win32", reason="needs process groups")
def test_two_processes_train_stop_on_ctrl_c_and_go_on(planted_root: Path, cache: Path, tmp_path: Path) -> None:
    run, base = tmp_path / "run", tmp_path / "run" / "base"
    process = start(planted_root, run, cache)
    wait_for(base / "log.jsonl", process)
    # Ctrl-C in a terminal goes to all processes of the group.
    os.killpg(process.pid, signal.SIGINT)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 130, said
    assert "stopped; run the same command again to go on" in said
    assert "Traceback" not in said
    assert (base / "resume.safetensors").exists()
    process = start(planted_root, run, cache)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 0, said
    assert sorted(p.name for p in base.iterdir()) == ["log.jsonl", "manifest.json", "weights.safetensors"]
    rows = [json.loads(line) for line in (base / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    assert [row["epoch"] for row in rows] == list(range(12))
    localizer, info = load_run(run)
    assert info.findings == ["Mass", "Nodule"]
    images = torch.rand(1, 1, 64, 64)
    assert torch.isfinite(localizer.explain(images, np.stack([Frame.of_size(64, 64).matrix])).maps).all()
