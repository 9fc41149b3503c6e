"""What a training runs on: Lightning Fabric for devices, nodes and precision; and a line that names the machine."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Literal, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import nn

from cxrlocus.errors import ConfigError

Precision = Literal["auto", "fp32", "bf16"]

Net = TypeVar("Net", bound=nn.Module)


def bf16_pays(accelerator: str = "auto") -> bool:
    """Whether bfloat16 is fast: a GPU that has it (not one that emulates it), or a CPU with bfloat16 instructions."""
    if accelerator != "cpu" and torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    flags = _cpu_info("flags").split()
    return "avx512_bf16" in flags or "amx_bf16" in flags


def resolve_precision(precision: Precision, accelerator: str = "auto") -> Literal["fp32", "bf16"]:
    """Whether to compute in bf16 or fp32: "auto" is bf16 where it pays.

    Raises:
        ConfigError: the precision is not one of auto, fp32, bf16.
    """
    if precision not in ("auto", "fp32", "bf16"):
        raise ConfigError(f"precision must be auto, fp32 or bf16; got {precision!r}.")
    if precision == "auto":
        return "bf16" if bf16_pays(accelerator) else "fp32"
    return precision


def make_fabric(
    precision: Precision = "auto", *, accelerator: str = "auto", devices: int = 1, nodes: int = 1
) -> Fabric:
    """A launched Fabric: one CPU or GPU by default, DDP when there are several devices or nodes.

    Several devices on one machine are started by Fabric itself; several nodes by running the same command on each with
    MASTER_ADDR, MASTER_PORT and NODE_RANK set, or under torchrun or SLURM, as Fabric documents.

    Raises:
        ConfigError: there is no such accelerator here, or not as many devices.
    """
    if devices < 1 or nodes < 1:
        raise ConfigError(f"devices and nodes must be at least 1; got {devices} and {nodes}.")
    several = devices * nodes > 1
    mixed = resolve_precision(precision, accelerator) == "bf16"
    try:
        fabric = Fabric(
            accelerator=accelerator,
            devices=devices,
            num_nodes=nodes,
            strategy="ddp" if several else "auto",
            precision="bf16-mixed" if mixed else "32-true",
        )
    except (RuntimeError, ValueError, TypeError, MisconfigurationException) as error:
        reason = " ".join(str(error).split())
        raise ConfigError(
            f"accelerator={accelerator} with devices={devices} is not to be had here ({reason}). Use accelerator=auto."
        ) from error
    fabric.launch()
    return fabric


def lay_channels_last(net: nn.Module) -> None:
    """Lay a network's weights out with channels last, which convolutions are faster with.

    Example:
        >>> net = nn.Conv2d(8, 8, 3)
        >>> lay_channels_last(net)
        >>> net.weight.is_contiguous(memory_format=torch.channels_last)
        True
    """
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this overload


def placed(net: Net, *, channels_last: bool) -> Net:
    """A trained network, ready to predict: on the GPU if there is one, in evaluation mode."""
    if torch.cuda.is_available():
        net.cuda()
    if channels_last:
        lay_channels_last(net)
    return net.eval()


def describe_machine() -> str:
    """One line for manifests and reports, e.g. "2 x AMD EPYC, torch 2.13.0, Linux"; no host name and no path."""
    if torch.cuda.is_available():
        device = f"{torch.cuda.device_count()} x {torch.cuda.get_device_name()}"
    else:
        device = f"{os.cpu_count()} x {_cpu_info('model name') or platform.machine()}"
    return f"{device}, torch {torch.__version__}, Python {platform.python_version()}, {platform.system()}"


def _cpu_info(key: str) -> str:
    path = Path("/proc/cpuinfo")
    if not path.is_file():
        return ""
    lines = (line.partition(":") for line in path.read_text(encoding="utf-8").splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == key), "")
