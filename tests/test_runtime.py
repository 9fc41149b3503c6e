"""What happens before torch, and torchvision's one repair."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest

from cxrlocus import runtime


def in_a_fresh_process(code: str, **environment: str) -> str:
    env = {k: v for k, v in os.environ.items() if k != "OMP_WAIT_POLICY"} | environment
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, env=env)
    return done.stdout.strip()


def test_idle_threads_wait_unless_the_user_says_otherwise() -> None:
    code = "import cxrlocus, os, sys; print(os.environ['OMP_WAIT_POLICY'], 'torch' in sys.modules)"
    assert in_a_fresh_process(code) == "PASSIVE False"
    assert in_a_fresh_process(code, OMP_WAIT_POLICY="ACTIVE") == "ACTIVE False"


def test_timm_and_torchvision_load_after_the_guard() -> None:
    code = (
        "from cxrlocus import runtime; first = runtime.guard_torchvision(); again = runtime.guard_torchvision();"
        "import timm, torchvision; print(again, len(timm.list_models('resnet10t')))"
    )
    assert in_a_fresh_process(code) == "False 1"


def answers(monkeypatch: pytest.MonkeyPatch, error: Exception | None) -> list[str]:
    asked: list[str] = []

    def import_module(name: str) -> object:
        asked.append(name)
        if error is not None and len(asked) == 1:
            raise error
        return object()

    monkeypatch.setattr(importlib, "import_module", import_module)
    return asked


@pytest.mark.parametrize("error", [None, ImportError("No module named 'torchvision'")])
def test_a_torchvision_that_loads_or_is_absent_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, error: Exception | None
) -> None:
    asked = answers(monkeypatch, error)
    assert runtime.guard_torchvision() is False
    assert asked == ["torchvision"]


def test_another_error_of_torchvision_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    answers(monkeypatch, RuntimeError("the disk is on fire"))
    with pytest.raises(RuntimeError, match="on fire"):
        runtime.guard_torchvision()
