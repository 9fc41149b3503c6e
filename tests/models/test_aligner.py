"""The alignment network: the identity at first, bounded always; and the stages that its loss compares."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from cxrlocus.errors import ConfigError
from cxrlocus.models.aligner import AlignmentNet, StageFeatures
from cxrlocus.models.backbones import Backbone

BOUNDS = {"scale": 1.5, "shift": 0.2, "angle": 20.0}


def network(**options: object) -> AlignmentNet:
    torch.manual_seed(0)
    return AlignmentNet(Backbone("test_resnet", stem="adapt"), **BOUNDS, **options).eval()  # type: ignore[arg-type]


def taught(net: AlignmentNet, size: float = 1.0) -> AlignmentNet:
    nn.init.normal_(net.pose.weight, std=size, generator=torch.Generator().manual_seed(1))
    return net


@pytest.mark.parametrize("head", ["average", "grid"])
def test_every_film_starts_where_it_is(head: str) -> None:
    pose = network(head=head)(torch.rand(3, 1, 64, 64))
    assert pose.tolist() == [[1.0, 1.0, 0.0, 0.0, 0.0]] * 3


@pytest.mark.parametrize("head", ["average", "grid"])
def test_no_weights_lead_beyond_the_bounds(head: str) -> None:
    net = taught(network(head=head), 100.0)
    pose = net(torch.rand(16, 1, 64, 64))
    assert pose[:, :2].min() >= 1 / 1.5 - 1e-6
    assert pose[:, :2].max() <= 1.5 + 1e-6
    assert pose[:, 2:4].abs().max() <= 0.4 + 1e-6
    assert pose[:, 4].abs().max() <= math.radians(20) + 1e-6
    assert net.at_bound(pose).any()


def test_at_bound_looks_at_each_number_and_at_both_ends() -> None:
    still = [1.0, 1.0, 0.0, 0.0, 0.0]
    rows = [still]
    for k, (low, high) in enumerate([(1 / 1.49, 1.49)] * 2 + [(-0.39, 0.39)] * 2 + [(-0.345, 0.345)]):
        rows += [[*still[:k], value, *still[k + 1 :]] for value in (low, high)]
    rows.append([1.3, 0.8, 0.3, -0.3, 0.3])
    assert network().at_bound(torch.tensor(rows)).tolist() == [False, *[True] * 10, False]
    free = AlignmentNet(Backbone("test_resnet", stem="adapt"), scale=1.5, shift=0.2, angle=0.0)
    assert free.at_bound(torch.tensor([still])).tolist() == [False]


def test_a_grid_tells_where_things_are() -> None:
    film = torch.zeros(1, 1, 128, 128)
    film[..., 32:64, 32:64] = 1.0
    net = taught(network(head="grid"))
    moves = (net.raw(film) - net.raw(film.roll(64, -1))).abs().max()
    assert moves > 0.05 * net.raw(film).abs().max()


def test_a_side_is_what_the_network_sees() -> None:
    net, film = taught(network(side=32)), torch.rand(2, 1, 128, 128)
    seen = film.reshape(2, 1, 32, 4, 32, 4).mean(dim=(3, 5))
    torch.testing.assert_close(net(film), taught(network())(seen))
    assert not torch.allclose(net(film), taught(network())(film))


def test_a_pose_is_float32_under_autocast() -> None:
    net = taught(network())
    with torch.autocast("cpu", torch.bfloat16):
        assert net(torch.rand(1, 1, 64, 64)).dtype == torch.float32


def test_an_unknown_head_is_refused() -> None:
    with pytest.raises(ConfigError, match="head must be average or grid"):
        network(head="tokens")


def test_stages_are_what_the_backbone_computes_on_its_way() -> None:
    torch.manual_seed(0)
    backbone = Backbone("test_resnet").eval()
    film, net = torch.rand(2, 1, 64, 64), backbone.net
    x = net.maxpool(net.act1(net.bn1(net.conv1(((film - 0.449) / 0.226).expand(-1, 3, -1, -1)))))
    expected = [x := layer(x) for layer in (net.layer1, net.layer2, net.layer3, net.layer4)]
    for one, other in zip(StageFeatures(backbone)(film), expected, strict=True):
        torch.testing.assert_close(one, other)
    assert not any(module._forward_hooks for module in backbone.modules())
    assert [f.shape[1] for f in StageFeatures(backbone, 2)(film)] == [192, 96]


def test_too_many_stages_are_refused() -> None:
    with pytest.raises(ConfigError, match="timm names 5 stages, and 9 are compared"):
        StageFeatures(Backbone("test_resnet"), 9)
