"""Strided and dilated depthwise convolutions: the same function, weights and names, in float32 on a CPU."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import nn

from cxrlocus.models.backbones import Backbone
from cxrlocus.models.depthwise import Float32Depthwise, depthwise_in_float32

KINDS = pytest.mark.parametrize("kind", [{"stride": 2, "padding": 1}, {"dilation": 2, "padding": 2}])


def pair(kind: dict[str, int], dtype: torch.dtype = torch.float32) -> tuple[nn.Conv2d, nn.Conv2d]:
    torch.manual_seed(0)
    plain, other = (nn.Conv2d(6, 6, 3, groups=6, dtype=dtype, **kind) for _ in range(2))  # type: ignore[arg-type]
    other.load_state_dict(plain.state_dict())
    net = nn.Sequential(other)
    depthwise_in_float32(net)
    hastened = net[0]
    assert isinstance(hastened, Float32Depthwise)
    return plain, hastened


@KINDS
def test_without_autocast_nothing_changes(kind: dict[str, int]) -> None:
    plain, hastened = pair(kind)
    x = torch.randn(2, 6, 9, 9)
    torch.testing.assert_close(hastened(x), plain(x), rtol=0, atol=0)


@KINDS
def test_under_autocast_it_is_the_float32_result_rounded_once(kind: dict[str, int]) -> None:
    plain, hastened = pair(kind)
    x = torch.randn(2, 6, 9, 9).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        seen = hastened(x)
    assert seen.dtype == torch.bfloat16
    torch.testing.assert_close(seen, plain(x.float()).bfloat16(), rtol=0, atol=0)


@KINDS
def test_gradients_under_autocast_are_those_of_float32(kind: dict[str, int]) -> None:
    plain, hastened = pair(kind)
    x = torch.randn(2, 6, 9, 9)
    with torch.autocast("cpu", torch.bfloat16):
        hastened(x).float().square().sum().backward()
    plain(x).square().sum().backward()
    assert hastened.weight.grad is not None
    assert plain.weight.grad is not None
    # The output's rounding to bfloat16 is all that differs.
    torch.testing.assert_close(hastened.weight.grad, plain.weight.grad, rtol=1e-2, atol=1e-2)


@KINDS
def test_gradcheck(kind: dict[str, int]) -> None:
    _, hastened = pair(kind, torch.float64)
    assert torch.autograd.gradcheck(hastened, torch.randn(1, 6, 5, 5, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(6, 6, 3, groups=6),  # neither stride nor dilation
        nn.Conv2d(6, 12, 3, stride=2, groups=3),  # groups of several channels
        nn.Conv2d(1, 6, 3, stride=2),  # one channel is no group
    ],
)
def test_other_convolutions_stay(conv: nn.Conv2d) -> None:
    net = nn.Sequential(conv)
    depthwise_in_float32(net)
    assert type(net[0]) is nn.Conv2d


def test_a_backbone_keeps_its_keys_and_its_features() -> None:
    torch.manual_seed(0)
    backbone = Backbone("mobilenetv2_050").eval()
    assert sum(isinstance(m, Float32Depthwise) for m in backbone.modules()) == 4
    plain = timm.create_model("mobilenetv2_050", num_classes=0, global_pool="").eval()
    plain.load_state_dict(backbone.net.state_dict())
    films = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        expected = plain.forward_features(((films - backbone.mean) / backbone.std).expand(-1, 3, -1, -1))
        torch.testing.assert_close(backbone(films), expected, rtol=0, atol=0)
