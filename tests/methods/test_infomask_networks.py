"""InfoMask's networks: the paper's layers and size, what the block sees, how training begins, memory options."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from cxrlocus.errors import ConfigError
from cxrlocus.methods.infomask2019.config import InfoMaskConfig
from cxrlocus.methods.infomask2019.layers import ClassificationBlock, PaperEncoder
from cxrlocus.methods.infomask2019.localizer import chosen_findings, infer
from cxrlocus.methods.infomask2019.model import (
    InfoMaskNet,
    Verdict,
    build_baseline,
    build_cam,
    build_infomask,
    parameter_count,
)
from cxrlocus.types import Findings

SMALL = InfoMaskConfig(width=0.25)


def opened(config: InfoMaskConfig = SMALL, findings: int = 1, seed: int = 0) -> tuple[InfoMaskNet, torch.Tensor]:
    torch.manual_seed(seed)
    net, images = build_infomask(config, findings), torch.rand(3, 1, 32, 32)
    net.open_up(images)
    return net.eval(), images


def shapes(stack: nn.Module) -> list[str]:
    return [
        f"conv{m.out_channels}k{m.kernel_size[0]}" if isinstance(m, nn.Conv2d) else type(m).__name__
        for m in stack.modules()
        if isinstance(m, (nn.Conv2d, nn.ReLU, nn.MaxPool2d))
    ]


def test_the_layers_are_those_that_the_paper_lists() -> None:
    encoder = ["conv64k3", "ReLU", "conv64k3", "ReLU", "MaxPool2d", "conv128k3", "ReLU", "conv128k3", "ReLU"]
    assert shapes(PaperEncoder()) == [*encoder, "MaxPool2d", "conv256k3", "ReLU", "conv16k3", "ReLU"]
    block = ["conv128k3", "ReLU", "MaxPool2d", "conv64k3", "ReLU", "conv64k3", "ReLU", "MaxPool2d"]
    assert shapes(ClassificationBlock(1)) == block


def test_infomask_has_the_papers_seven_hundred_thousand_parameters() -> None:
    # 9 * (1*64 + 64*64 + 64*128 + 128*128 + 128*256 + 256*16) + (64 + 64 + 128 + 128 + 256 + 16)   encoder  591,056
    # + 16 + 1                                                                                        A             17
    # + 2 * (9 + 1)                                                                                   mu, sigma     20
    # + 9 * (1*128 + 128*64 + 64*64) + 128 + 64 + 64 + (64 + 1)                                      classifier 112,065
    assert parameter_count(build_infomask(InfoMaskConfig(), 1)) == 591_056 + 17 + 20 + 112_065 == 703_158
    assert f"{703_158 / 1e6:.2f} M" == "0.70 M"
    assert parameter_count(build_infomask(InfoMaskConfig(sample=False, penalty="none"), 1)) == 703_158


def test_chexcam_has_about_seven_million() -> None:
    net = build_cam(InfoMaskConfig(network="cam", backbone="densenet121"), 1)
    assert parameter_count(net) == pytest.approx(7e6, rel=0.01)


def test_a_verdict_judges_each_finding_by_its_own_features() -> None:
    torch.manual_seed(0)
    verdict, pooled = Verdict(4, 2), torch.rand(3, 2, 4)
    logits = verdict(pooled)
    for c in range(2):
        torch.testing.assert_close(logits[:, c], verdict(pooled[:, c])[:, c])


@pytest.mark.parametrize("represent", ["m", "mz", "mx"])
@torch.no_grad()
def test_the_block_sees_the_mask_and_nothing_else(represent: str) -> None:
    net, images = opened(replace(SMALL, represent=represent))
    latents = net.latents(images)
    closed = net.judge(images, latents._replace(mu=torch.full_like(latents.mu, -9.0)))
    assert not closed.mask.any()
    assert torch.equal(closed.logits, closed.logits[:1].expand(3, 1)), "with an empty mask all films are the same"
    open_ = net.judge(images, latents)
    assert not torch.equal(open_.logits, open_.logits[:1].expand(3, 1))
    other = net.judge(images.flip(0), latents)
    assert torch.equal(other.logits, open_.logits) is (represent != "mx")


def test_what_is_represented_is_the_mask_times_what_is_said() -> None:
    net, images = opened()
    latents = net.latents(images)
    seen: dict[str, torch.Tensor] = {}
    for represent in ("m", "mz", "mx"):
        net.config = replace(SMALL, represent=represent)
        handle = net.block.register_forward_pre_hook(lambda _m, given, r=represent: seen.update({r: given[0]}))
        mask = net.judge(images, latents).mask
        handle.remove()
    assert torch.equal(seen["m"], mask)
    torch.testing.assert_close(seen["mz"], mask * latents.mu)
    torch.testing.assert_close(seen["mx"], mask * images)


def test_every_finding_has_its_own_map_and_its_logit_hangs_on_that_alone() -> None:
    net, images = opened(findings=3)
    latents = net.latents(images)
    before = net.judge(images, latents).logits
    mu = latents.mu.clone()
    mu[:, 1] = 2.0
    after = net.judge(images, latents._replace(mu=mu)).logits
    assert torch.equal(before[:, [0, 2]], after[:, [0, 2]])
    assert not torch.equal(before[:, 1], after[:, 1])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("findings", [1, 3])
def test_it_begins_alive_and_at_the_prior(seed: int, findings: int) -> None:
    net, images = opened(findings=findings, seed=seed)
    out = net(images)
    assert (out.latents.attention > 0).float().mean() > 0.5
    mu = out.latents.mu
    torch.testing.assert_close(mu.mean((0, 2, 3)), torch.zeros(findings), atol=1e-4, rtol=0)
    torch.testing.assert_close(mu.std((0, 2, 3)), torch.ones(findings), atol=1e-4, rtol=0)
    assert 0.2 < float((out.mask.detach() > 0).float().mean()) < 0.8
    out.logits.sum().backward()
    dead = [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert all(name.startswith("to_sigma") for name in dead), "sigma is not in the mean"


def test_upsampling_and_kernel_are_options() -> None:
    net, images = opened(replace(SMALL, upsampling="nearest", kernel=1))
    attention = net.latents(images).attention
    blocks = attention.unfold(2, 4, 4).unfold(3, 4, 4)
    assert torch.equal(blocks.amax((-2, -1)), blocks.amin((-2, -1)))
    smooth, _ = opened()
    attention = smooth.latents(images).attention
    assert attention.shape == images.shape
    assert net.to_mu.weight.shape[-1] == 1


def test_films_of_odd_sides_have_maps_of_their_size() -> None:
    net, _ = opened()
    assert net(torch.rand(1, 1, 37, 50)).mask.shape == (1, 1, 37, 50)


@pytest.mark.parametrize("norm", ["group", "batch"])
def test_computing_again_changes_no_gradient_and_no_buffer(norm: str) -> None:
    gradients, states = [], []
    for again in (False, True):
        net, images = opened(replace(SMALL, checkpoint=again, norm=norm), findings=2)
        net.train()
        eps = torch.randn(3, 2, 32, 32, generator=torch.Generator().manual_seed(1))
        net(images, eps).logits.square().sum().backward()
        gradients.append([p.grad for p in net.parameters()])
        states.append(net.state_dict())
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


def test_with_several_findings_the_evaluated_network_is_the_one_that_was_trained() -> None:
    net, images = opened(replace(SMALL, norm="batch"), findings=3)
    with torch.no_grad():
        # Masks as unlike as an open one, a half open and a nearly closed one.
        net.to_mu.bias.copy_(torch.tensor([3.0, 0.0, -1.5]))
        net.train()
        for _ in range(200):
            trained = net(images).logits
        evaluated = net.eval()(images).logits
    spread = float((trained.amax(1) - trained.amin(1)).mean())
    assert spread > 0.1
    torch.testing.assert_close(evaluated, trained, atol=0.05 * spread, rtol=0)
    assert len(net.state_dict()["block.layers.1.running_mean"]) == 3
    one, _ = opened(replace(SMALL, norm="batch"), findings=1)
    assert one.state_dict()["block.layers.1.running_mean"].ndim == 1


def kept(config: InfoMaskConfig) -> int:
    """Bytes that a training step keeps for its backward pass, parameters aside; a tensor kept twice counts once."""
    net, images = opened(config, findings=2)
    net.train()
    own, seen = {p.data_ptr() for p in net.parameters()}, {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in own:
            seen[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        net(images, torch.randn(3, 2, 32, 32))
    return sum(seen.values())


def test_computing_again_keeps_a_third() -> None:
    assert kept(replace(SMALL, checkpoint=True)) < kept(SMALL) / 3


def test_sigma_that_nothing_reads_asks_for_no_gradient() -> None:
    learns = {True: InfoMaskConfig(width=0.25), False: InfoMaskConfig(width=0.25, sample=False, penalty="l1")}
    for expected, config in learns.items():
        assert all(p.requires_grad is expected for p in build_infomask(config, 1).to_sigma.parameters())


def test_draws_in_prediction_are_averaged_and_the_same_for_every_film() -> None:
    net, images = opened()
    with torch.no_grad():
        mean, few, many = infer(net, images, 0), infer(net, images, 2), infer(net, images, 64)
        alone = infer(net, images[1:2], 2)
    assert torch.equal(mean.mask, net(images).mask)
    torch.testing.assert_close(alone.mask[0], few.mask[1])
    torch.testing.assert_close(alone.logits[0], few.logits[1])
    # E[max(sigmoid(z) - .5, 0)] of z ~ N(m, s), by quadrature at each pixel.
    grid = torch.linspace(-6, 6, 2001)
    weight = torch.exp(-(grid**2) / 2)
    z = mean.latents.mu[..., None] + mean.latents.sigma[..., None] * grid
    expected = ((torch.sigmoid(z) - 0.5).clamp(min=0) * weight).sum(-1) / weight.sum()
    assert float((many.mask - expected).abs().mean()) < float((few.mask - expected).abs().mean()) / 3
    assert float((many.mask - expected).abs().mean()) < 0.01


def test_the_baseline_has_no_mask() -> None:
    net = build_baseline(SMALL, 2)
    features = net.backbone(torch.rand(3, 1, 32, 32))
    assert features.shape[-1] == 8
    assert net.classify(features).shape == (3, 2)
    assert parameter_count(build_baseline(InfoMaskConfig(), 1)) == 591_056 + 9 * 16 * 128 + 112_065 - 9 * 128


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tau": 1.0}, r"tau must be in \[0, 1\); got 1.0"),
        ({"alpha": -1.0}, "alpha must be at least 0; got -1.0"),
        ({"kernel": 2}, "kernel must be odd and positive; got 2"),
        ({"size": 100}, "size must be a multiple of 32"),
        ({"map_stride": 7}, "map_stride must be a divisor of size 512; got 7"),
        ({"samples": -1}, "samples must be at least 0"),
        ({"width": 0.0}, "width must be positive"),
        ({"std": 0.0}, "std must be positive"),
        ({"sigma_shift": float("nan")}, "sigma_shift must be a number"),
        ({"alpha_warmup": 1.5}, r"alpha_warmup must be in \[0, 1\]"),
        ({"tau_warmup": -0.5}, r"tau_warmup must be in \[0, 1\]"),
        ({"val_fraction": 1.0}, r"val_fraction must be in \(0, 1\)"),
        ({"network": "cam"}, "backbone must be a timm model for network=cam; got 'paper'"),
    ],
)
def test_wrong_numbers_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        InfoMaskConfig(**options)  # type: ignore[arg-type]  # on purpose


def test_findings_are_chosen_by_name() -> None:
    known = Findings(("Mass", "Nodule", "Edema"))
    assert chosen_findings(replace(SMALL, finding="all"), known) == known
    assert chosen_findings(replace(SMALL, finding="Edema, Mass"), known).names == ("Edema", "Mass")
    for wrong in ("Pneumonia", "Mass,Mass", "", "mass"):
        with pytest.raises(ConfigError, match="finding must be 'all' or different ones of Mass, Nodule, Edema; got"):
            chosen_findings(replace(SMALL, finding=wrong), known)


@pytest.mark.parametrize("norm", ["none", "batch"])
def test_a_warm_start_opens_where_the_encoder_speaks_for_the_finding(norm: str) -> None:
    config = InfoMaskConfig(width=0.5, norm=norm)  # type: ignore[arg-type]  # parametrized
    torch.manual_seed(1)
    teacher, net = build_infomask(config, 2), build_infomask(config, 2)
    images = torch.rand(6, 1, 32, 32)
    teacher.open_up(images)
    direction = torch.randn(2, net.attend.in_channels)
    net.warm_up(teacher.encoder, direction, images)
    net.eval()
    with torch.no_grad():
        latents = net.latents(images)
        said = torch.einsum("nkij,ck->ncij", net.encoder(images), direction)
        attention = torch.relu(net.attend(net.encoder(images)))
    assert all(torch.equal(a, b) for a, b in zip(net.encoder.parameters(), teacher.encoder.parameters(), strict=True))
    for c in range(2):
        assert latents.mu[:, c].mean() == pytest.approx(0.0, abs=1e-3)
        assert latents.mu[:, c].std() == pytest.approx(1.0, abs=1e-2)
        assert (attention[:, c] > 0).float().mean() > 0.8
        together = torch.corrcoef(torch.stack([attention[:, c].flatten(), said[:, c].flatten()]))[0, 1]
        assert together > 0.95


def test_a_warm_start_without_a_direction_averages_the_features() -> None:
    torch.manual_seed(0)
    teacher, net = (build_infomask(SMALL, 1) for _ in range(2))
    images = torch.rand(3, 1, 32, 32)
    teacher.open_up(images)
    net.warm_up(teacher.encoder, torch.zeros(1, net.attend.in_channels), images)
    assert net.attend.weight.flatten().tolist() == pytest.approx([1 / net.attend.in_channels] * net.attend.in_channels)
