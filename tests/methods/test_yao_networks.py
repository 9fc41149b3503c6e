"""The pyramid: levels, dense blocks, fusion, upsampling, recomputation; and what the network says of a film."""

from __future__ import annotations

import copy
import itertools
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cxrlocus.errors import ConfigError
from cxrlocus.functional.pooling import lse_probability_pool
from cxrlocus.methods.yao2018 import VARIANTS, YaoConfig
from cxrlocus.methods.yao2018.down import ResNetDown, TimmDown, strides_of
from cxrlocus.methods.yao2018.layers import DenseBlock, ResidualBlock, Upsample
from cxrlocus.methods.yao2018.model import build, parameter_count
from cxrlocus.methods.yao2018.pyramid import Pyramid
from cxrlocus.models.again import run
from cxrlocus.models.backbones import Backbone

SMALL = YaoConfig(
    size=64, resolution=16, lowest=4, width=2, max_width=32, blocks=1, dense_layers=2, growth=4, fused=8
)  # fmt: skip


def films(side: int = 64, n: int = 2) -> torch.Tensor:
    return torch.rand(n, 1, side, side, generator=torch.Generator().manual_seed(0))


def seeded(config: YaoConfig = SMALL, findings: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return build(config, findings)


@pytest.mark.parametrize("resolution", [32, 64, 128, 256, 512])
def test_every_target_resolution_of_the_paper_is_built(resolution: int) -> None:
    config = YaoConfig(resolution=resolution, lowest=16, width=1, max_width=8, blocks=1, dense_layers=1, growth=2)
    net = build(config, findings=2).eval()
    with torch.no_grad():
        out = net(films(512, 1))
    assert out.maps.shape == (1, 2, resolution, resolution)
    assert net.backbone.down.strides == tuple(512 // resolution << k for k in range((resolution // 16).bit_length()))


@given(
    size=st.integers(1, 600), resolution=st.integers(1, 600), lowest=st.integers(-2, 600)
)  # fmt: skip
def test_levels_are_powers_of_two_or_refused(size: int, resolution: int, lowest: int) -> None:
    def two_power(a: int, b: int) -> bool:
        return b > 0 and a in {b << k for k in range(12)}

    if two_power(size, resolution) and two_power(resolution, lowest):
        strides = strides_of(size, resolution, lowest)
        assert strides[0] * resolution == size == strides[-1] * lowest
        assert all(b == 2 * a for a, b in itertools.pairwise(strides))
    else:
        with pytest.raises(ConfigError, match="must each be a power of two times the next"):
            strides_of(size, resolution, lowest)


def test_a_residual_block_is_its_formula() -> None:
    torch.manual_seed(0)
    for block, x in ((ResidualBlock(3, 3), torch.rand(2, 3, 8, 8)), (ResidualBlock(3, 6, 2), torch.rand(2, 3, 8, 8))):
        block.eval()
        with torch.no_grad():
            torch.testing.assert_close(block(x), torch.relu(block.g(x) + block.f(x)))
    assert isinstance(ResidualBlock(3, 3).f, nn.Identity)


def test_equation_2_reads_all_feature_maps_before() -> None:
    torch.manual_seed(0)
    block, x = DenseBlock(3, layers=2, growth=4, after=5).eval(), torch.rand(1, 3, 6, 6)
    with torch.no_grad():
        f2 = torch.relu(block.layers[0](x))
        f3 = torch.relu(block.layers[1](torch.cat([x, f2], 1)))
        f4 = torch.relu(block.transition(torch.cat([x, f2, f3], 1)))
        torch.testing.assert_close(block(x), f4)


def test_equation_3_fuses_what_comes_up_with_what_came_down() -> None:
    torch.manual_seed(0)
    down = ResNetDown((2, 4), width=2, blocks=1)
    pyramid = Pyramid(down, layers=1, growth=3, fused=6).eval()
    with torch.no_grad():
        fine, coarse = down(films(16))
        below = pyramid.blocks[1](coarse)
        up = below.repeat_interleave(2, -1).repeat_interleave(2, -2)
        torch.testing.assert_close(pyramid(films(16)), pyramid.blocks[0](torch.cat([up, fine], 1)))


def test_the_lowest_level_reaches_every_cell() -> None:
    net = seeded().eval()
    x = films().requires_grad_(True)
    (grad,) = torch.autograd.grad(net.backbone(x)[0, :, 0, 0].sum(), x)
    # A corner cell of the map sees far more than its own 4 x 4 pixels and the neighbours that 3x3 layers bring.
    assert (grad[0, 0, 32:, 32:] != 0).any()


def test_upsamplings_by_hand() -> None:
    x = torch.tensor([[[[0.0, 4.0]]]])
    assert Upsample(1, "nearest")(x)[0, 0].tolist() == [[0, 0, 4, 4]] * 2
    assert Upsample(1, "bilinear")(x)[0, 0].tolist() == [[0, 1, 3, 4]] * 2
    learned = Upsample(1, "transposed")
    torch.nn.init.ones_(learned.conv.weight)  # type: ignore[union-attr]
    torch.nn.init.zeros_(learned.conv.bias)  # type: ignore[union-attr,arg-type]
    assert learned(x)[0, 0].tolist() == [[0, 0, 4, 4]] * 2
    assert sum(p.numel() for p in Upsample(1, "nearest").parameters()) == 0


def test_the_head_is_shared_by_all_cells_and_equation_4_pools_their_sigmoids() -> None:
    net = seeded(replace(SMALL, r0=5.0)).eval()
    torch.nn.init.normal_(net.weight)
    torch.nn.init.normal_(net.bias)
    with torch.no_grad():
        features = net.backbone(films())
        cells = torch.einsum("kc,nchw->nkhw", net.weight, features) + net.bias[:, None, None]
        s = torch.sigmoid(cells)
        p = torch.log(torch.exp(6.0 * s).mean((-2, -1))) / 6.0
        torch.testing.assert_close(torch.sigmoid(net(films()).logits), p, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(net(films()).logits, lse_probability_pool(cells, 6.0), rtol=1e-4, atol=1e-4)


def test_recomputing_changes_no_gradient_and_no_running_mean() -> None:
    config = replace(SMALL, bias="zero")
    one, other = seeded(config), seeded(replace(config, checkpoint=True))
    for net in (one, other):
        net.train()
        net(films(n=4)).logits.sum().backward()
    for (name, a), (_, b) in zip(one.named_parameters(), other.named_parameters(), strict=True):
        assert a.grad is not None, name
        assert torch.equal(a.grad, b.grad), name  # type: ignore[arg-type]
    for (name, a), (_, b) in zip(one.named_buffers(), other.named_buffers(), strict=True):
        assert torch.equal(a, b), name


def kept_bytes(net: nn.Module, images: torch.Tensor) -> int:
    """What a training step keeps for its backward pass."""
    seen: dict[int, int] = {}

    def keep(t: torch.Tensor) -> torch.Tensor:
        seen[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        out = net(images)
    del out
    return sum(seen.values())


def test_recomputing_keeps_a_fraction() -> None:
    config = replace(SMALL, resolution=64)
    assert kept_bytes(seeded(replace(config, checkpoint=True)), films()) < 0.5 * kept_bytes(seeded(config), films())


def test_run_recomputes_in_training_only() -> None:
    calls = []
    layers = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    layers[0].register_forward_hook(lambda *_: calls.append(1))
    for training, again, expected in ((True, True, 2), (True, False, 1), (False, True, 1)):
        calls.clear()
        layers.train(training)
        run(layers, torch.rand(2, 1, 4, 4, requires_grad=True), again=again).sum().backward()
        assert len(calls) == expected
    assert (layers[1].momentum, layers[1].num_batches_tracked.item()) == (0.1, 2)  # type: ignore[union-attr,operator]


def test_a_timm_way_down_gives_its_stages_and_freezes_what_nothing_reads() -> None:
    down = TimmDown(Backbone("mobilenetv2_100"), (4, 8, 16)).eval()
    with torch.no_grad():
        levels = down(films(64, 1))
        expected = down.body.net.forward_intermediates(
            ((films(64, 1) - 0.449) / 0.226).expand(-1, 3, -1, -1), intermediates_only=True
        )[1:4]
    for level, stage in zip(levels, expected, strict=True):
        torch.testing.assert_close(level, stage)
    frozen = {name.split(".")[1] for name, p in down.body.named_parameters() if not p.requires_grad}
    assert "conv_head" in frozen
    assert "conv_stem" not in frozen
    net = build(replace(SMALL, backbone="test_resnet"), 2).train()
    net(films()).logits.sum().backward()
    assert all((p.grad is not None) == p.requires_grad for p in net.parameters())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"backbone": "test_resnet", "resolution": 64}, r"has stages of stride 2, 4, 8, 16, 32; .* ask for 1, 2"),
        (
            {"backbone": "test_resnet", "size": 256, "resolution": 64, "lowest": 4},
            r"lowest must be at least size / 32 = 8",
        ),
        ({"backbone": "nosuch"}, "cannot be made by timm"),
        ({"backbone": "vit_tiny_patch16_224"}, "backbone 'vit_tiny_patch16_224'"),
        ({"backbone": "convnext_atto", "resolution": 32}, "has stages of stride 4, 8, 16, 32"),
    ],
)
def test_backbones_that_do_not_fit_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build(replace(SMALL, **options), 2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 96}, "size, resolution and lowest must each be a power of two times the next"),
        ({"size": 16, "resolution": 16}, "size must be a multiple of 32 pixels from 32 to 4096"),
        ({"pool_on": "feature"}, "pool_on must be probability or logit"),
        ({"pool": "pcam"}, "pool pcam is not defined on pool_on=probability. Set pool_on=logit"),
        ({"r0": -1.0}, "r0 must be at least 0"),
        ({"val_fraction": 1.0}, "val_fraction must be in"),
        ({"std": 0.0}, "std must be positive"),
        ({"mean": float("nan")}, "mean must be a finite number; got nan"),
        ({"lowest": 1}, "lowest must be at least 2; got 1"),
        ({"augment": "strong"}, "augment must be one of ours, paper, none"),
        *(({name: 0}, f"{name} must be at least 1") for name in ("width", "blocks", "dense_layers", "growth", "fused")),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(SMALL, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("variant", [v for v in VARIANTS if v != "timm"])
def test_every_variant_learns_all_that_it_has(variant: str) -> None:
    net = seeded(replace(SMALL, **VARIANTS[variant])).train()  # type: ignore[arg-type]
    torch.nn.init.normal_(net.weight, std=0.5)
    copied = copy.deepcopy(net)
    net(films(n=4)).logits.square().sum().backward()
    for (name, p), (_, q) in zip(net.named_parameters(), copied.named_parameters(), strict=True):
        assert (p.grad is not None) == (name != "bias" or variant == "noisy_or"), name
        assert p.grad is None or torch.isfinite(p.grad).all(), name
        assert torch.equal(p, q), name
    assert parameter_count(net) > 0


def test_without_a_bias_there_is_none() -> None:
    net = seeded(replace(SMALL, bias="none"))
    assert not net.bias.requires_grad
    assert net.bias.tolist() == [0.0, 0.0, 0.0]
