"""Gradient maps around a trained classifier: what they equal, what they leave behind (nothing)."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from contract import frames
from torch import nn

from cxrlocus.errors import ConfigError
from cxrlocus.functional.attribution import ATTRIBUTIONS
from cxrlocus.methods import load_run
from cxrlocus.methods.baselines import gradcam
from cxrlocus.methods.baselines.gradcam import GradCamLocalizer
from cxrlocus.methods.cam.model import CamLocalizer
from cxrlocus.methods.infomask2019 import InfoMaskConfig, InfoMaskLocalizer
from cxrlocus.methods.infomask2019.model import build_infomask
from cxrlocus.models.backbones import Backbone
from cxrlocus.models.camnet import CamNet
from cxrlocus.types import Findings, Frame

names = pytest.mark.parametrize("name", sorted(ATTRIBUTIONS))


@pytest.fixture
def cam(runs: dict[str, Path]) -> CamLocalizer:
    loaded, _ = load_run(runs["cam"])
    assert isinstance(loaded, CamLocalizer)
    return loaded


def hooks(net: nn.Module) -> int:
    return sum(
        len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in net.modules()
    )  # fmt: skip


def test_grad_cam_at_the_head_is_the_positive_cam_over_its_cells(cam: CamLocalizer, films: torch.Tensor) -> None:
    own, grad = cam.explain(films, frames(12)), GradCamLocalizer(cam).explain(films, frames(12))
    cells = own.maps.shape[-1] * own.maps.shape[-2]
    torch.testing.assert_close(grad.maps, torch.relu(own.maps) / cells, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(grad.prob, own.prob, rtol=1e-4, atol=1e-6)
    assert grad.kind == "logit"
    assert grad.maps.max() > 0


@names
def test_nothing_is_left_behind(cam: CamLocalizer, films: torch.Tensor, name: str) -> None:
    for training in (True, False):
        cam.net.train(training)
        state, learning = torch.get_rng_state(), [p.requires_grad for p in cam.net.parameters()]
        said = GradCamLocalizer(cam, name).explain(films, frames(12))
        assert [p.requires_grad for p in cam.net.parameters()] == learning
        assert any(learning)
        assert hooks(cam.net) == 0
        assert all(p.grad is None for p in cam.net.parameters())
        assert all(module.training is training for module in cam.net.modules())
        assert torch.equal(torch.get_rng_state(), state)
        assert not said.maps.requires_grad
        assert torch.isfinite(said.maps).all()
        assert (said.maps >= 0).all()


def test_nothing_is_left_behind_by_an_error(
    cam: CamLocalizer, films: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_activations: torch.Tensor, _gradients: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("on purpose")

    monkeypatch.setitem(gradcam.ATTRIBUTIONS, "gradcam", fail)
    cam.net.train()
    with pytest.raises(RuntimeError, match="on purpose"):
        GradCamLocalizer(cam).explain(films, frames(12))
    with pytest.raises(RuntimeError):
        GradCamLocalizer(cam, "layercam").explain(films[:, 0], frames(12))
    assert hooks(cam.net) == 0
    assert cam.net.training
    assert all(p.grad is None for p in cam.net.parameters())
    assert torch.is_grad_enabled()


@names
@pytest.mark.parametrize("no_grad", [True, False])
def test_works_within_no_grad_and_repeats_itself(
    cam: CamLocalizer, films: torch.Tensor, name: str, no_grad: bool
) -> None:
    localizer = GradCamLocalizer(cam, name)
    with torch.set_grad_enabled(not no_grad):
        one, other = localizer.explain(films, frames(12)), localizer.explain(films, frames(12))
    assert torch.equal(one.maps, other.maps)


@names
def test_a_film_alone_is_explained_as_in_a_batch(cam: CamLocalizer, films: torch.Tensor, name: str) -> None:
    localizer = GradCamLocalizer(cam, name)
    together = localizer.explain(films[:3], frames(3))
    alone = localizer.explain(films[1:2], frames(1))
    torch.testing.assert_close(alone.maps[0], together.maps[1], rtol=1e-3, atol=1e-6)


def test_a_layer_by_name_before_a_relu_in_place() -> None:
    torch.manual_seed(0)
    net = CamNet(Backbone("resnet10t"), 2).eval()
    cam = CamLocalizer(net, Findings(("Mass", "Nodule")), size=64, fit="letterbox", bf16=False)
    layer = "backbone.net.layer4.0.bn1"
    following = dict(net.named_modules())["backbone.net.layer4.0.act1"]
    assert getattr(following, "inplace", False), "the case that this test is about"
    images = torch.rand(2, 1, 64, 64)
    said = GradCamLocalizer(cam, layer=layer).explain(images, frames(2))
    assert said.maps.shape[:2] == (2, 2)
    assert torch.isfinite(said.maps).all()


def test_another_layer_by_name_has_its_own_grid(cam: CamLocalizer, films: torch.Tensor) -> None:
    inner = next(n for n, m in cam.net.named_modules() if isinstance(m, nn.Conv2d))
    coarse = GradCamLocalizer(cam).explain(films, frames(12))
    fine = GradCamLocalizer(cam, layer=inner).explain(films, frames(12))
    assert fine.maps.shape[-1] > coarse.maps.shape[-1]
    torch.testing.assert_close(fine.prob, coarse.prob)


def test_what_cannot_be_looked_at_is_refused(cam: CamLocalizer) -> None:
    with pytest.raises(ConfigError, match=r"layer 'nowhere' is not in the network; its modules begin with backbone"):
        GradCamLocalizer(cam, layer="nowhere")
    with pytest.raises(ConfigError, match=r"maps must be one of gradcam, .*; got 'guess'"):
        GradCamLocalizer(cam, "guess")
    with pytest.raises(
        ConfigError, match=r"need logits of the film as it is, and this localizer \(GradCamLocalizer\) has none"
    ):
        GradCamLocalizer(GradCamLocalizer(cam))


class Odd(nn.Module):
    """A network with layers that no gradient map can use."""

    def __init__(self) -> None:
        super().__init__()
        self.grid, self.flat, self.pair, self.unused = nn.Conv2d(1, 4, 3), nn.Linear(4, 2), Pair(), nn.Conv2d(1, 1, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        features, _ = self.pair(self.grid(images))
        return self.flat(features.mean((-2, -1)))


class Pair(nn.Module):
    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x, x


class OddLocalizer:
    offset = 0.0

    def __init__(self) -> None:
        self.findings, self.size, self.fit, self.net = Findings(("Mass", "Nodule")), 16, "letterbox", Odd()

    @property
    def target_layer(self) -> nn.Module:
        return self.net.grid

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        return self.net(images)

    def explain(self, images: torch.Tensor, frames: object) -> None:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("layer", "why"),
    [("flat", r"it gave \(2, 2\)"), ("unused", "it was not used"), ("pair", "Pair gives something else")],
)
def test_a_layer_that_gives_no_grid_is_refused(layer: str, why: str) -> None:
    localizer = GradCamLocalizer(OddLocalizer(), layer=layer)  # type: ignore[arg-type]  # a stand-in
    with pytest.raises(ConfigError, match=why):
        localizer.explain(torch.rand(2, 1, 16, 16), frames(2))
    assert hooks(localizer.localizer.net) == 0  # type: ignore[attr-defined]  # a stand-in


def test_a_layer_that_sees_one_findings_map_after_the_other_is_refused() -> None:
    config = InfoMaskConfig(width=0.25, size=32)
    localizer = InfoMaskLocalizer(build_infomask(config, 2), Findings(("Mass", "Nodule")), config, bf16=False)
    maps = GradCamLocalizer(localizer, "gradcam", "block.layers.2")
    with pytest.raises(ConfigError, match="layer must run once, for all findings; it ran 2 times"):
        maps.explain(torch.rand(1, 1, 32, 32), Frame.of_size(32, 32).matrix[None])
