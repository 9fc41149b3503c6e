"""Multi-scale aggregation: the last two stages of every family of backbones, on the finer grid."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from cxrlocus.errors import ConfigError
from cxrlocus.models.backbones import Backbone
from cxrlocus.models.msa import LastTwoStages, MultiScale

# One of each family; "test_mambaout" gives NHWC.
FAMILIES = ("resnet10t", "mobilenetv2_100", "densenet121", "convnext_atto", "test_mambaout", "test_efficientnet")
FILMS = torch.rand(2, 1, 64, 96, generator=torch.Generator().manual_seed(0))


def stages(name: str = "test_resnet", stride: int = 32) -> LastTwoStages:
    torch.manual_seed(0)
    return LastTwoStages(Backbone(name, stride=stride)).eval()


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_a_stage_before_the_last(name: str) -> None:
    two = stages(name)
    with torch.no_grad():
        before, last = two(FILMS)
        assert torch.equal(last, two.backbone(FILMS))
    assert two.factor == 2
    assert before.shape == (2, two.channels[0], 4, 6)
    assert last.shape == (2, two.channels[1], 2, 3)
    assert float(before.std()) > 0


def test_the_stage_before_the_last_is_where_the_last_begins() -> None:
    two = stages()
    with torch.no_grad():
        before, last = two(FILMS)
        torch.testing.assert_close(two.backbone.net.layer4(before), last)


def test_a_dilated_backbone_has_both_stages_on_one_grid() -> None:
    two = stages("resnet10t", stride=16)
    msa = MultiScale(two.channels, factor=two.factor, up="deconv", width=(4, 2)).eval()
    with torch.no_grad():
        before, last = two(FILMS)
        assert two.factor == 1
        assert msa.deconv is None
        assert msa(before, last).shape == (2, 6, 4, 6)


def test_gradients_reach_both_stages_and_nothing_stays_hooked() -> None:
    two = stages()
    before, last = two(FILMS)
    (before.sum() + last.sum()).backward()
    assert all(p.grad is not None for p in two.parameters() if p.requires_grad)
    assert not any(m._forward_hooks for m in two.modules())


def test_a_failed_pass_and_a_copy_leave_nothing_hooked() -> None:
    two = copy.deepcopy(stages())
    with pytest.raises(RuntimeError):
        two(torch.zeros(1, 7, 8, 8))
    assert not any(m._forward_hooks for m in two.modules())
    with torch.no_grad():
        assert torch.equal(two(FILMS)[0], stages()(FILMS)[0])


def test_a_backbone_without_stages_is_refused() -> None:
    backbone = Backbone("test_resnet")
    backbone.net.feature_info = None
    with pytest.raises(ConfigError, match="timm does not say where its stages are"):
        LastTwoStages(backbone)


def test_a_stage_on_too_fine_a_grid_is_refused() -> None:
    backbone = Backbone("test_resnet")
    info = backbone.net.feature_info
    backbone.net.feature_info = [*info[:-3], info[-3], info[-1]]
    with pytest.raises(ConfigError, match="a grid of the same size or twice as fine"):
        LastTwoStages(backbone)


def test_aggregation_is_upsampled_1x1_convolutions_side_by_side() -> None:
    torch.manual_seed(0)
    msa = MultiScale((5, 7), width=(4, 3)).double()
    before, last = torch.randn(2, 5, 6, 8).double(), torch.randn(2, 7, 3, 4).double()
    kernels = [conv.weight[:, :, 0, 0] for conv in (msa.last[0], msa.before[0])]
    biases = [conv.bias[:, None, None] for conv in (msa.last[0], msa.before[0])]
    coarse, fine = (
        torch.einsum("ed,ndhw->nehw", k, x) + b for k, x, b in zip(kernels, (last, before), biases, strict=True)
    )
    got = msa(before, last)
    torch.testing.assert_close(got[:, :4], F.interpolate(coarse, size=(6, 8), mode="bilinear", align_corners=False))
    torch.testing.assert_close(got[:, 4:], fine)
    assert got.shape[1] == msa.channels == 7


def test_a_constant_stage_stays_constant_under_bilinear_upsampling() -> None:
    msa = MultiScale((5, 7), width=(4, 3)).double()
    x = msa(torch.ones(1, 5, 4, 4).double(), torch.ones(1, 7, 2, 2).double())
    torch.testing.assert_close(x, x[..., :1, :1].expand_as(x))


@pytest.mark.parametrize("up", ["bilinear", "deconv"])
def test_both_upsamplings_double_the_grid_and_learn(up: str) -> None:
    msa = MultiScale((5, 7), up=up, width=(4, 3))  # type: ignore[arg-type]  # a str of the two
    before, last = torch.randn(2, 5, 6, 10), torch.randn(2, 7, 3, 5)
    msa(before, last).square().mean().backward()
    assert all(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in msa.parameters())
    assert (msa.deconv is None) == (up == "bilinear")
    if msa.deconv is not None:
        assert isinstance(msa.deconv, nn.ConvTranspose2d)
        assert msa.deconv.kernel_size == (3, 3)


@pytest.mark.parametrize("act", ["relu", "bn_relu"])
def test_activations_keep_what_is_positive(act: str) -> None:
    msa = MultiScale((5, 7), width=(4, 3), act=act)  # type: ignore[arg-type]  # a str of the three
    x = msa(torch.randn(2, 5, 6, 8), torch.randn(2, 7, 3, 4))
    assert float(x.detach().min()) == 0.0
    assert any(isinstance(m, nn.BatchNorm2d) for m in msa.modules()) == (act == "bn_relu")
