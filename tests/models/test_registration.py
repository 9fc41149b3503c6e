"""Maps lie where their cells look: offsets by arithmetic, frames by hand, and a marker found where it was planted."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cxrlocus.methods.cai2018 import CaiConfig
from cxrlocus.methods.cai2018.model import build as build_mining
from cxrlocus.models.backbones import Backbone
from cxrlocus.models.registration import LEAST, centre_offset, on_film, registered
from cxrlocus.regions.maps import to_film
from cxrlocus.types import Frame


def offset_of(net: nn.Module) -> float:
    return centre_offset(net)


def one_sided(stride: int) -> float:
    """Every layer of a stride of 2 looks at the first pixel of each pair: (1/2 - s/2) pixels of s."""
    return (0.5 - stride / 2) / stride


@pytest.mark.parametrize(
    ("name", "stride", "expected"),
    [
        ("resnet18", 32, one_sided(32)),
        ("mobilenetv2_100", 32, one_sided(32)),
        ("mobilenetv2_100", 16, one_sided(16)),
        # Squeeze and excitation looks at the whole film, which is no place.
        ("test_efficientnet", 32, one_sided(32)),
        # Layer norms, and patches that meet without a gap.
        ("convnext_atto", 32, 0.0),
        # Its halvings are averages of pairs; the stem's two layers of stride 2 alone look aside, 1.5 pixels of 32.
        ("densenet121", 32, 0.0),
    ],
)
def test_offsets_are_those_of_strides_and_paddings(name: str, stride: int, expected: float) -> None:
    torch.manual_seed(0)
    assert offset_of(Backbone(name, stride=stride)) == pytest.approx(expected, abs=1e-3)


def test_what_a_network_has_learned_does_not_matter_and_it_stays_as_it_is() -> None:
    torch.manual_seed(0)
    backbone = Backbone("resnet18").train()
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    first = offset_of(backbone)
    assert backbone.training
    assert all(torch.equal(v, before[k]) for k, v in backbone.state_dict().items())
    assert all(p.grad is None for p in backbone.parameters())
    for parameter in backbone.parameters():
        nn.init.normal_(parameter)
    with torch.no_grad():
        assert offset_of(backbone) == first


def test_both_scales_of_msa_count() -> None:
    """Cells of 16 pixels: those of the last stage look 15.5 pixels aside, those of the one before 7.5."""
    torch.manual_seed(0)
    nets = {msa: build_mining(CaiConfig(backbone="mobilenetv2_100", msa=msa), 2) for msa in ("bilinear", "deconv")}
    found = {msa: 16 * centre_offset(net, lambda one, images: one.features(images)) for msa, net in nets.items()}
    assert -15.5 < found["bilinear"] < -7.5
    # A transposed convolution puts a coarse cell where it looks, on the finer grid.
    assert found["deconv"] == pytest.approx(-7.5, abs=0.01)


def test_a_network_that_looks_nowhere_has_none() -> None:
    class Deaf(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.avg_pool2d(x, 8) * 0

    assert offset_of(Deaf()) == 0.0


def test_a_marker_is_found_where_it_was_planted() -> None:
    """The whole point: what a network's features say of a bright spot lies on the spot, not half a cell beside it."""
    torch.manual_seed(0)
    backbone = Backbone("mobilenetv2_100", mean=0.0, std=1.0).eval()
    offset = offset_of(backbone)
    dark = torch.full((1, 1, 512, 512), 0.5)
    missed: dict[float, list[float]] = {0.0: [], offset: []}
    for x, y in [(200, 264), (248, 216), (232, 240), (264, 200), (216, 248)]:
        lit = dark.clone()
        lit[..., y - 4 : y + 4, x - 4 : x + 4] = 1.0
        with torch.no_grad():
            change = (backbone(lit) - backbone(dark)).square().sum(1, keepdim=True)
        for moved, errors in missed.items():
            frames = registered(Frame.of_size(512, 512).matrix[None], moved, change.shape[2:])
            grid, _ = to_film(change[0, 0].numpy(), frames[0], (512, 512), 256)
            heat = grid / grid.sum()
            centre = (np.arange(256) + 0.5) * 2
            errors += [float((heat.sum(0) * centre).sum()) - x]
            errors += [float((heat.sum(1) * centre).sum()) - y]
    assert abs(np.mean(missed[offset])) < 4
    assert np.mean(missed[0.0]) > 12


@given(st.floats(-1, 1), st.integers(1, 5), st.integers(1, 5))
def test_cells_lie_where_they_look(offset: float, h: int, w: int) -> None:
    frame = np.array([[[30.0, 4.0, 7.0], [-2.0, 50.0, 1.0]]])
    moved = registered(frame, offset, (h, w))
    centres = np.array([[(column + 0.5) / w, (row + 0.5) / h] for row in range(h) for column in range(w)])
    looks = centres + offset / np.array([w, h])
    np.testing.assert_allclose(Frame(moved[0]).to_pixels(centres), Frame(frame[0]).to_pixels(looks), atol=1e-9)
    if offset == 0:
        np.testing.assert_array_equal(moved, frame)


def test_what_no_cell_looks_at_is_out_of_reach() -> None:
    """Eight cells of 8 pixels that look 4 pixels aside reach to 60 of 64."""
    frames = registered(Frame.of_size(64, 64).matrix[None], -0.5, (8, 8))
    _, inside = to_film(np.random.default_rng(0).random((8, 8)), frames[0], (64, 64), 64)
    assert inside is not None
    assert inside[:60, :60].all()
    assert not inside[60:].any()
    assert not inside[:, 60:].any()


@pytest.mark.parametrize("offset", [-0.48, 0.25])
def test_pictures_agree_with_frames(offset: float) -> None:
    torch.manual_seed(0)
    maps = torch.rand(1, 1, 6, 6)
    frames = registered(Frame.of_size(96, 96).matrix[None], offset, (6, 6))
    grid, inside = to_film(maps[0, 0].numpy(), frames[0], (96, 96), 96)
    # cv2 samples at 1/32 of a cell; pictures go on unchanged where no cell looks.
    np.testing.assert_allclose(on_film(maps, 96, offset)[0, 0].numpy()[inside], grid[inside], atol=0.06)


def test_less_than_a_twentieth_of_a_cell_is_not_moved() -> None:
    assert offset_of(nn.Conv2d(1, 1, 2, stride=32)) == pytest.approx(-0.46875)
    # A kernel of 30 in a cell of 32 looks one pixel aside.
    assert LEAST > 1 / 32
    assert offset_of(nn.Conv2d(1, 1, 30, stride=32)) == 0.0
