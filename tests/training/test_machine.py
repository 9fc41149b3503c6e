"""What a training runs on."""

from __future__ import annotations

import platform
import socket
from pathlib import Path

import pytest
import torch

from cxrlocus.errors import ConfigError
from cxrlocus.training import machine
from cxrlocus.training.machine import bf16_pays, describe_machine, make_fabric, resolve_precision


def test_precision_is_what_was_asked_for_or_what_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_precision("fp32") == "fp32"
    assert resolve_precision("bf16") == "bf16"
    for pays in (True, False):
        monkeypatch.setattr(machine, "bf16_pays", lambda accelerator, pays=pays: pays)
        assert resolve_precision("auto") == ("bf16" if pays else "fp32")


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
@pytest.mark.parametrize(
    ("flags", "pays"), [("fma avx512_bf16", True), ("amx_bf16", True), ("avx2 bf16c", False), ("", False)]
)
def test_bf16_pays_where_the_cpu_has_instructions(monkeypatch: pytest.MonkeyPatch, flags: str, pays: bool) -> None:
    monkeypatch.setattr(machine, "_cpu_info", lambda _: flags)
    assert bf16_pays() is pays


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(ConfigError, match="precision must be auto, fp32 or bf16; got 'fp8'"):
        resolve_precision("fp8")  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    "options",
    [
        {"accelerator": "abacus"},
        {"accelerator": "cpu", "devices": 0},
        {"accelerator": "cpu", "devices": -1},
        {"nodes": 0},
    ],
)
def test_a_machine_that_is_not_there_is_refused_in_one_line(options: dict[str, object]) -> None:
    with pytest.raises(ConfigError) as caught:
        make_fabric("fp32", **options)  # type: ignore[arg-type]  # wrong on purpose
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(torch.cuda.is_available(), reason="is about machines without a GPU")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"accelerator=gpu .*Use accelerator=auto"):
        make_fabric("fp32", accelerator="gpu")


@pytest.mark.parametrize(("precision", "name"), [("fp32", "32-true"), ("bf16", "bf16-mixed")])
def test_the_fabric_computes_in_the_precision(precision: str, name: str) -> None:
    fabric = make_fabric(precision, accelerator="cpu")  # type: ignore[arg-type]  # a Literal
    assert fabric.world_size == 1
    with fabric.autocast():
        made = torch.nn.functional.linear(torch.ones(1, 2), torch.ones(1, 2))
    assert made.dtype == (torch.bfloat16 if name == "bf16-mixed" else torch.float32)


def test_the_machines_line_names_no_host_and_no_path() -> None:
    line = describe_machine()
    assert f"torch {torch.__version__}" in line
    assert platform.python_version() in line
    assert socket.gethostname() not in line.split()
    assert str(Path.home()) not in line.split()
    assert "\n" not in line
