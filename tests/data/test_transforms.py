"""Augmented images and the affine that lets frames and boxes follow."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrlocus.data.transforms import Augmentation, _affines, _grid, augment
from cxrlocus.types import Frame

STILL = {"rotation": 0.0, "shift": 0.0, "zoom": 0.0, "brightness": 0.0, "contrast": 0.0, "gamma": 0.0}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def blobs(height: int, width: int, x: float, y: float, n: int) -> torch.Tensor:
    """n images with one Gaussian marker at pixel (x, y)."""
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return torch.exp(-((u - x) ** 2 + (v - y) ** 2) / (2 * 3.0**2)).expand(n, 1, height, width).contiguous()


def centroid(image: torch.Tensor) -> np.ndarray:
    height, width = image.shape[-2:]
    mass = image[0].double()
    x = (mass.sum(0) * (torch.arange(width) + 0.5)).sum() / mass.sum()
    y = (mass.sum(1) * (torch.arange(height) + 0.5)).sum() / mass.sum()
    return np.array([[float(x) / width, float(y) / height]])


@pytest.mark.parametrize(("height", "width"), [(96, 96), (64, 128)])
def test_convention_boxes_follow_a_planted_marker(height: int, width: int) -> None:
    config = Augmentation(rotation=20, shift=0.08, zoom=0.2, brightness=0, contrast=0, gamma=0, flip=0.5)
    images, affine = augment(blobs(height, width, width * 0.6, height * 0.45, 24), seeded(), config)
    original = Frame.of_size(1000, 500)
    for image, inner in zip(images, affine, strict=True):
        found = original.compose(inner.numpy()).to_pixels(centroid(image))
        assert np.allclose(found, [[600, 225]], atol=4), found
    assert len({tuple(a.flatten().tolist()) for a in affine}) == 24


def test_convention_boxes_follow_a_film_that_is_shrunk() -> None:
    # Yao et al. 2018 as printed: a quarter to three quarters of the size, 50 of 512 pixels, 25 degrees.
    config = Augmentation(**{**STILL, "rotation": 25.0, "shift": 50 / 512}, scale=(0.25, 0.75))
    images, affine = augment(blobs(192, 192, 115.2, 86.4, 24), seeded(), config)
    original = Frame.of_size(1000, 1000)
    for image, inner in zip(images, affine, strict=True):
        found = original.compose(inner.numpy()).to_pixels(centroid(image))
        assert np.allclose(found, [[600, 450]], atol=6), found
    scales = 1 / torch.linalg.det(affine[:, :, :2]).sqrt()
    assert 0.25 <= float(scales.min()) < 0.35
    assert 0.65 < float(scales.max()) <= 0.75


def test_a_shrunk_film_is_shifted_by_parts_of_the_picture_not_of_itself() -> None:
    config = Augmentation(**{**STILL, "shift": 0.1}, scale=(0.5, 0.5))
    _, affine = augment(torch.zeros(400, 1, 4, 4), seeded(), config)
    # Where the film's middle comes to lie in the new picture: up to a tenth of a side from its middle.
    middle = torch.linalg.solve(affine[:, :, :2], torch.full((400, 2), 0.5, dtype=torch.float64) - affine[:, :, 2])
    assert 0.09 < float((middle - 0.5).abs().max()) <= 0.1 + 1e-12


def test_grid_equals_torchs_affine_grid() -> None:
    affine = torch.rand(5, 2, 3)
    square = torch.tensor([[2.0, 0, -1], [0, 2, -1], [0, 0, 1]])  # unit square to -1..1
    theta = (square @ torch.cat([affine, torch.tensor([[0.0, 0, 1]]).expand(5, 1, 3)], 1) @ square.inverse())[:, :2]
    expected = F.affine_grid(theta, [5, 1, 7, 9], align_corners=False)
    assert torch.allclose(_grid(affine, 7, 9), expected, atol=1e-6)


def test_nothing_turned_on_changes_nothing() -> None:
    images = torch.rand(3, 1, 8, 10)
    same, affine = augment(images, seeded(), Augmentation(**STILL))
    assert torch.equal(same, images)
    assert torch.equal(affine, torch.eye(2, 3, dtype=torch.float64).expand(3, 2, 3))


def test_a_flip_is_exact() -> None:
    images = torch.rand(3, 1, 8, 10)
    flipped, affine = augment(images, seeded(), Augmentation(**STILL, flip=1.0))
    assert torch.allclose(flipped, images.flip(3), atol=1e-6)
    assert affine[0].tolist() == [[-1, 0, 1], [0, 1, 0]]


def test_a_quarter_turn_is_exact() -> None:
    draws = torch.full((5, 1), 0.5, dtype=torch.float64)
    draws[0] = 1.0
    affine = _affines(draws, 1.0, Augmentation(**{**STILL, "rotation": 90.0}))
    image = torch.rand(1, 1, 6, 6)
    turned = F.grid_sample(image, _grid(affine.float(), 6, 6), align_corners=False)
    # The new (u, v) looks at the old (1 - v, u): new[r, c] = old[c, S - 1 - r], which is rot90 by +1.
    assert torch.allclose(turned, image.rot90(1, (2, 3)), atol=1e-5)


def test_photometric_formula() -> None:
    config = Augmentation(**{**STILL, "gamma": 0.3, "contrast": 0.2, "brightness": 0.1})
    images = torch.rand(4, 1, 5, 5) * 0.9 + 0.05
    changed, _ = augment(images, seeded(3), config)
    spread = torch.rand(8, 4, generator=seeded(3), dtype=torch.float64)[5:] * 2 - 1
    for i in range(4):
        g, k, b = math.exp(spread[0, i] * 0.3), math.exp(spread[1, i] * 0.2), float(spread[2, i]) * 0.1
        expected = ((images[i] ** g - 0.5) * k + 0.5 + b).clip(0, 1)
        assert torch.allclose(changed[i], expected, atol=1e-5)


def test_black_stays_black_under_gamma() -> None:
    changed, _ = augment(torch.zeros(2, 1, 4, 4), seeded(), Augmentation(**{**STILL, "gamma": 1.0}))
    assert changed.max() < 0.01


def test_same_seed_same_images_and_draws_do_not_depend_on_what_is_on() -> None:
    images = torch.rand(4, 1, 16, 16)
    first, second = (augment(images, seeded(7), Augmentation())[0] for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, augment(images, seeded(8), Augmentation())[0])
    _, whole = augment(images, seeded(7), Augmentation())
    _, without = augment(images, seeded(7), Augmentation(gamma=0, brightness=0))
    assert torch.equal(whole, without)


def test_a_big_batch_gives_the_same_as_its_images_in_small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.rand(7, 1, 12, 12)
    whole, _ = augment(images, seeded(1), Augmentation())
    monkeypatch.setattr("cxrlocus.data.transforms._GROUP_PIXELS", 300)
    assert torch.allclose(augment(images, seeded(1), Augmentation())[0], whole, atol=1e-6)


def test_border_repeats_the_edge_and_zeros_does_not() -> None:
    far = {**STILL, "shift": 0.5}
    white = torch.ones(8, 1, 8, 8)
    assert augment(white, seeded(), Augmentation(**far))[0].min() == 0
    assert augment(white, seeded(), Augmentation(**far, border="border"))[0].min() > 0.999


@settings(max_examples=30)
@given(seed=st.integers(0, 1000), rotation=st.floats(0, 180), shift=st.floats(0, 1), zoom=st.floats(0, 1))
def test_images_stay_in_range_and_affines_invertible(seed: int, rotation: float, shift: float, zoom: float) -> None:
    config = Augmentation(rotation, shift, zoom, brightness=1, contrast=1, gamma=1, flip=0.5)
    images, affine = augment(torch.rand(2, 1, 6, 9), seeded(seed), config)
    assert images.min() >= 0
    assert images.max() <= 1
    assert torch.isfinite(images).all()
    assert (torch.linalg.det(affine[:, :, :2]).abs() > 0.1).all()


@given(
    name=st.sampled_from(["rotation", "shift", "zoom", "brightness", "contrast", "gamma", "flip"]),
    value=st.one_of(st.floats(max_value=-1e-9), st.floats(min_value=180.1), st.just(math.nan)),
)
def test_numbers_out_of_range_are_named(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=rf"Augmentation\.{name} must be in"):
        Augmentation(**{name: value})


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"Augmentation\.border must be"):
        Augmentation(border="reflect")
    for scale in ((0.0, 1.0), (0.75, 0.25), (1.0, 11.0), (math.nan, 1.0)):
        with pytest.raises(ValueError, match=r"Augmentation\.scale must be \(smallest, largest\)"):
            Augmentation(scale=scale)
    for images in (torch.rand(1, 3, 4, 4), torch.rand(4, 4), torch.zeros(1, 1, 4, 4, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="images must be"):
            augment(images, seeded(), Augmentation())
