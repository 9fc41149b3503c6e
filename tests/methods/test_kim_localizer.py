"""Maps of aligned films come back to the film: planted markers, frames, panels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cxrlocus.functional.alignment import pose_affine
from cxrlocus.methods.baselines.gradcam import GradCamLocalizer
from cxrlocus.methods.kim2021.config import KimConfig
from cxrlocus.methods.kim2021.localizer import AlignedLocalizer, PlainLocalizer
from cxrlocus.methods.kim2021.model import KimNet, build
from cxrlocus.prediction.panels import Shows
from cxrlocus.regions.maps import to_film
from cxrlocus.regions.rules import PeakComponent
from cxrlocus.types import Findings, Frame

SIDE, CELLS = 128, 32
FINDINGS = Findings(("Mass", "Nodule"))
POSES = [
    (1.0, 1.0, 0.0, 0.0, 0.0),
    (1.2, 0.9, 0.1, -0.15, 0.0),
    (1.1, 1.0, -0.1, 0.05, math.radians(12)),
    (0.85, 1.15, 0.0, 0.2, math.radians(-18)),
]


class Sees(nn.Module):
    """Features that are the film itself, on a grid."""

    channels = 1

    def forward(self, images: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(images, CELLS)


class Knows(nn.Module):
    """An aligner that has been told the pose."""

    def __init__(self, poses: list[tuple[float, ...]]) -> None:
        super().__init__()
        self.poses = torch.tensor(poses)

    def forward(self, images: Tensor) -> Tensor:
        return self.poses[: len(images)]


def localizer(poses: list[tuple[float, ...]]) -> AlignedLocalizer:
    config = KimConfig(size=SIDE, stride=32)
    net = KimNet(Sees(), 2, CELLS, Knows(poses), "zeros")  # type: ignore[arg-type]  # stand-ins
    nn.init.ones_(net.weight)
    return AlignedLocalizer(net, FINDINGS, config, bf16=False)


def marked(u: float, v: float) -> Tensor:
    """A film (1, SIDE, SIDE) with a marker at (u, v) of its unit square."""
    row, column = np.indices((SIDE, SIDE))
    away = ((column + 0.5) / SIDE - u) ** 2 + ((row + 0.5) / SIDE - v) ** 2
    return torch.from_numpy(np.exp(-away / (2 * 0.03**2))).float()[None]


def peak(grid: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    row, column = np.unravel_index(grid.argmax(), grid.shape)
    return np.array([(column + 0.5) * size[0] / grid.shape[1], (row + 0.5) * size[1] / grid.shape[0]])


@pytest.mark.parametrize("frame", ["square", "letterboxed"])
def test_a_marker_is_found_where_it_is_on_the_film_whatever_the_pose(frame: str) -> None:
    size = (1024, 1024) if frame == "square" else (2000, 1000)
    # A film twice as wide as high lies in the middle half of its square.
    outer = Frame.of_size(1024, 1024) if frame == "square" else Frame(np.array([[2000, 0, 0], [0, 2000, -500.0]]))
    place = np.array([[0.62, 0.41]])
    truth = outer.to_pixels(place)[0]
    frames = np.stack([outer.matrix] * len(POSES))
    said = localizer(POSES).explain(torch.stack([marked(0.62, 0.41)] * len(POSES)), frames)
    cell = size[0] / CELLS
    for k in range(len(POSES)):
        grid, inside = to_film(said.maps[k, 0].numpy(), said.frames[k], size)
        found = peak(np.where(inside, grid, -np.inf) if inside is not None else grid, size)
        assert np.abs(found - truth).max() < 0.6 * cell
        if k:
            plain, _ = to_film(said.maps[k, 0].numpy(), frames[k], size)
            assert np.abs(peak(plain, size) - truth).max() > cell


def test_its_box_is_upright_and_around_it() -> None:
    frames = np.stack([Frame.of_size(1024, 1024).matrix] * len(POSES))
    said = localizer(POSES).explain(torch.stack([marked(0.4, 0.6)] * len(POSES)), frames)
    # Half of the marker's height is reached 1.18 of its widths from its middle.
    radius = 1.18 * 0.03 * 1024
    for k in range(len(POSES)):
        found = PeakComponent()(said.maps[k, 1].numpy(), said.frames[k], (1024, 1024))
        (box,) = found.xyxy
        middle, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2]) / 2
        np.testing.assert_allclose(middle, [0.4 * 1024, 0.6 * 1024], atol=12)
        np.testing.assert_allclose(half, radius, atol=20)


def test_frames_are_composed_with_the_alignment() -> None:
    outer = Frame(np.array([[900.0, 30.0, 5.0], [-20.0, 1100.0, 7.0]]))
    said = localizer(POSES).explain(torch.rand(4, 1, SIDE, SIDE), np.stack([outer.matrix] * 4))
    affine = pose_affine(torch.tensor(POSES)).numpy()
    for k in range(4):
        np.testing.assert_allclose(said.frames[k], outer.compose(affine[k]).matrix, rtol=1e-5, atol=1e-3)
    assert np.array_equal(outer.matrix, Frame(outer.matrix).matrix)


def test_panels_show_the_aligned_film_its_mask_and_what_it_gates() -> None:
    one = localizer(POSES[1:2])
    ramp = torch.linspace(0, 1, CELLS)
    one.net.masks.copy_(torch.stack([ramp.expand(CELLS, CELLS), ramp[:, None].expand(CELLS, CELLS)]))
    film, frames = marked(0.62, 0.41)[None], Frame.of_size(SIDE, SIDE).matrix[None]
    shown = one.panels(film)
    assert isinstance(one, Shows)
    assert list(shown) == ["aligned film", "disease mask", "evidence S"]
    assert {values.shape for values in shown.values()} == {(1, 2, SIDE, SIDE)}
    affine = pose_affine(torch.tensor(POSES[1:2]))[0].numpy()
    seen = Frame(affine).to_unit(np.array([[0.62, 0.41]]))[0]
    np.testing.assert_allclose(peak(shown["aligned film"][0, 0], (1, 1)), seen, atol=0.01)
    maps = one.explain(film, frames).maps
    evidence = F.adaptive_avg_pool2d(torch.from_numpy(shown["aligned film"]), CELLS)
    torch.testing.assert_close(maps, (1 + one.net.masks) * evidence)
    mask = torch.from_numpy(shown["disease mask"])
    torch.testing.assert_close(F.adaptive_avg_pool2d(mask, CELLS)[0], one.net.masks, rtol=0, atol=0.01)
    # Where cells look is said by the frames, once: panels are drawn through them too.
    one.offset = -0.4
    assert not np.allclose(one.explain(film, frames).frames, localizer(POSES[1:2]).explain(film, frames).frames)
    for name, values in one.panels(film).items():
        np.testing.assert_array_equal(values, shown[name])


def test_gradient_maps_look_into_unaligned_films_only() -> None:
    torch.manual_seed(0)
    config = KimConfig(backbone="test_resnet", size=64, align=False)
    plain = PlainLocalizer(build(config, 2).eval(), FINDINGS, config, bf16=False)
    films, frames = torch.rand(2, 1, 64, 64), np.stack([Frame.of_size(64, 64).matrix] * 2)
    said = GradCamLocalizer(plain).explain(films, frames)
    torch.testing.assert_close(said.prob, plain.explain(films, frames).prob)
    assert not isinstance(plain, Shows)
    with pytest.raises(Exception, match="need logits of the film as it is"):
        GradCamLocalizer(localizer(POSES))


def test_training_a_classifier_leaves_the_aligner_as_it_is() -> None:
    torch.manual_seed(0)
    config = KimConfig(backbone="test_resnet", align_backbone="test_resnet", size=64)
    net = build(config, 2)
    assert net.aligner is not None
    before = {name: value.clone() for name, value in net.aligner.state_dict().items()}
    net.train()
    optimizer = torch.optim.SGD([p for p in net.parameters() if p.requires_grad], 0.1)
    net.classify(net.backbone(torch.rand(4, 1, 64, 64))).square().sum().backward()
    optimizer.step()
    assert all(torch.equal(value, before[name]) for name, value in net.aligner.state_dict().items())
    assert all(module.training for module in net.modules())
