"""What is written comes back bit for bit; what is damaged is named; nothing is unpickled."""

from __future__ import annotations

import errno
import math
import pickle
from pathlib import Path

import pytest
import tiny
import torch
from torch import nn

from cxrlocus.errors import CxrlocusError, RunError
from cxrlocus.training import checkpoint
from cxrlocus.training.checkpoint import (
    load_resume,
    load_weights,
    read_json,
    save_resume,
    save_weights,
    write_json,
)  # fmt: skip


class Bomb:
    """Unpickling this leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (self.path,)  # type: ignore[return-value]  # pickle takes any callable


def step(net: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    torch.manual_seed(1)
    optimizer.zero_grad()
    net(torch.rand(4, 1, 16, 16)).square().sum().backward()
    optimizer.step()


def test_weights_come_back_bit_for_bit(tmp_path: Path) -> None:
    net, other = tiny.make_net(0), tiny.make_net(1)
    net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this overload
    save_weights(tmp_path / "weights.safetensors", net)
    load_weights(tmp_path / "weights.safetensors", other)
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in net.state_dict().items())
    assert [p.name for p in tmp_path.iterdir()] == ["weights.safetensors"]


def test_tied_weights_are_written(tmp_path: Path) -> None:
    tied = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
    tied[1].weight = tied[0].weight
    save_weights(tmp_path / "w.safetensors", tied)
    other = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
    other[1].weight = other[0].weight
    load_weights(tmp_path / "w.safetensors", other)
    assert torch.equal(other[1].weight, tied[0].weight)
    assert other[1].weight is other[0].weight


@pytest.mark.parametrize(
    "kind", [torch.optim.AdamW, torch.optim.Adam, lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9)]
)
def test_resume_state_comes_back(tmp_path: Path, kind: type[torch.optim.AdamW]) -> None:
    net, other = tiny.make_net(0), tiny.make_net(1)
    one, two = kind(net.parameters()), kind(other.parameters())
    step(net, one)
    save_resume(tmp_path / "resume.safetensors", net, one, {"epoch": 3, "best": None, "figures": {"auroc": 0.1}})
    progress = load_resume(tmp_path / "resume.safetensors", other, two)
    assert progress == {"epoch": 3, "best": None, "figures": {"auroc": 0.1}}
    step(net, one)
    step(other, two)
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in net.state_dict().items())


def test_a_resume_file_of_another_network_is_refused(tmp_path: Path) -> None:
    net, other = tiny.make_net(), nn.Linear(2, 2)
    save_resume(tmp_path / "r.safetensors", net, torch.optim.AdamW(net.parameters()), {})
    with pytest.raises(RunError, match="cannot be resumed from"):
        load_resume(tmp_path / "r.safetensors", other, torch.optim.AdamW(other.parameters()))


def test_loading_never_unpickles(tmp_path: Path) -> None:
    bomb, net = Bomb(tmp_path / "exploded"), tiny.make_net()
    path = tmp_path / "weights.safetensors"
    for write in (lambda: torch.save({"x": bomb}, path), lambda: path.write_bytes(pickle.dumps(bomb))):
        write()
        with pytest.raises(RunError, match=r"weights.safetensors: not the weights of this network"):
            load_weights(path, net)
        with pytest.raises(RunError, match=r"weights.safetensors: cannot be resumed from"):
            load_resume(path, net, torch.optim.AdamW(net.parameters()))
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize("damage", ["absent", "empty", "text", "cut", "other"])
def test_damaged_weights_are_named(tmp_path: Path, damage: str) -> None:
    net, path = tiny.make_net(), tmp_path / "weights.safetensors"
    if damage == "empty":
        path.touch()
    elif damage == "text":
        path.write_text("hello, these are no weights at all", encoding="utf-8")
    elif damage == "other":
        save_weights(path, nn.Linear(2, 2))
    elif damage == "cut":
        save_weights(path, net)
        path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(RunError) as caught:
        load_weights(path, net)
    assert str(caught.value).startswith(f"{path}: not the weights of this network")
    assert "\n" not in str(caught.value)


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, other = tiny.make_net(0), tiny.make_net(1)
    path = tmp_path / "weights.safetensors"
    save_weights(path, net)

    def full(_tensors: object, part: Path, **_options: object) -> None:
        part.write_bytes(b"half a file")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", full)
    with pytest.raises(CxrlocusError, match=r"weights.safetensors: cannot be written .*Make room"):
        save_weights(path, other)
    load_weights(path, other)
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in net.state_dict().items())


def test_a_folder_that_is_gone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(CxrlocusError, match="cannot be written"):
        save_weights(tmp_path / "gone" / "w.safetensors", tiny.make_net())
    with pytest.raises(CxrlocusError, match="cannot be written"):
        write_json(tmp_path / "gone" / "a.json", {})


def test_json_comes_back_and_an_error_while_writing_keeps_the_old(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    value = {"lr": 1e-4, "names": ["é", "b"], "none": None, "third": 1 / 3}
    write_json(path, value)
    with pytest.raises(TypeError):
        write_json(path, {"bad": object()})
    assert read_json(path) == value
    assert math.isclose(read_json(path)["third"], 1 / 3, rel_tol=0)


@pytest.mark.parametrize("content", [None, b"", b"{", b"\xff\xfe"])
def test_damaged_json_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "a.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RunError, match=r"a\.json: cannot be read .*Is this a run folder"):
        read_json(path)
