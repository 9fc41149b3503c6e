"""Alignment: eq. 6 to 8 against values worked out elsewhere, limits, invariances, gradients."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from cxrlocus.functional.alignment import (
    blur,
    bounded_pose,
    coverage,
    euclidean_loss,
    perceptual_loss,
    pose_affine,
    warp,
)
from cxrlocus.types import Frame

POSE = torch.tensor([[1.1, 0.9, 0.2, -0.1, 0.3]], dtype=torch.float64)
"""s_x, s_y, t_x, t_y, theta."""


def smooth(n: int = 2, side: int = 32, seed: int = 0) -> Tensor:
    """Films that a warp can be undone on: a few wide waves."""
    draw = torch.Generator().manual_seed(seed)
    coarse = torch.rand(n, 1, 5, 5, generator=draw, dtype=torch.float64)
    return F.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False)


def inverse(affine: Tensor) -> Tensor:
    row = affine.new_tensor([[0.0, 0.0, 1.0]]).expand(len(affine), 1, 3)
    return torch.linalg.inv(torch.cat([affine, row], dim=1))[:, :2]


def test_the_affine_is_eq_6_in_unit_squares() -> None:
    # c, s = cos(.3), sin(.3); M = [[1.1 c, -.9 s, .2], [1.1 s, .9 c, -.1], [0, 0, 1]]; U = [[.5, 0, .5], [0, .5, .5],
    # [0, 0, 1]] takes [-1, 1] to [0, 1]: (U @ M @ inv(U))[:2], with numpy
    expected = [[1.05087014, -0.26596819, 0.20754903], [0.32507223, 0.85980284, -0.14243753]]
    torch.testing.assert_close(pose_affine(POSE)[0].tolist(), expected, rtol=0, atol=1e-8)


def test_the_warp_is_that_of_spatial_transformers() -> None:
    sx, sy, tx, ty, theta = POSE[0].tolist()
    c, s = math.cos(theta), math.sin(theta)
    grid = F.affine_grid(
        torch.tensor([[[sx * c, -sy * s, tx], [sx * s, sy * c, ty]]], dtype=torch.float64), [1, 1, 32, 32],
        align_corners=False,
    )  # fmt: skip
    film = smooth(1)
    for border in ("zeros", "border"):
        expected = F.grid_sample(film, grid, padding_mode=border, align_corners=False)
        torch.testing.assert_close(warp(film, pose_affine(POSE), border), expected)


def test_convention_the_affine_goes_from_the_aligned_film_to_the_film() -> None:
    """A dot at (u, v) of the film is seen at A^-1 (u, v) of the aligned film, and its frame takes it back."""
    film = torch.zeros(1, 1, 64, 64, dtype=torch.float64)
    film[0, 0, 40, 20] = 1.0
    affine = pose_affine(POSE)
    aligned = warp(film, affine)[0, 0].numpy()
    weight = aligned / aligned.sum()
    row, column = np.indices(aligned.shape)
    seen = (np.array([(weight * column).sum(), (weight * row).sum()]) + 0.5) / 64
    frame = Frame.of_size(1024, 1024).compose(affine[0].numpy())
    back = frame.to_pixels(seen[None])[0]
    np.testing.assert_allclose(back, [20.5 * 16, 40.5 * 16], atol=4)
    np.testing.assert_allclose(frame.to_unit(np.array([[20.5 * 16, 40.5 * 16]]))[0], seen, atol=0.004)


def test_a_positive_angle_turns_the_content_counter_clockwise_and_a_zoom_above_one_shrinks_it() -> None:
    film = torch.zeros(1, 1, 65, 65)
    film[..., 32, 60] = 1.0
    quarter = warp(film, pose_affine(torch.tensor([[1.0, 1.0, 0.0, 0.0, math.pi / 2]])))
    assert divmod(int(quarter.argmax()), 65) == (4, 32)
    half = warp(F.max_pool2d(film, 3, 1, 1), pose_affine(torch.tensor([[2.0, 2.0, 0.0, 0.0, 0.0]])))
    assert divmod(int(half.argmax()), 65) == (32, 46)


def test_the_identity_changes_no_film() -> None:
    films = torch.rand(3, 1, 17, 17)
    still = bounded_pose(torch.zeros(3, 5), scale=2.0, shift=0.3, angle=30.0)
    torch.testing.assert_close(warp(films, pose_affine(still)), films)


def test_a_pose_keeps_its_bounds_and_opposite_numbers_give_opposite_moves() -> None:
    raw = torch.randn(50, 5, generator=torch.Generator().manual_seed(0)) * 10
    pose, back = (bounded_pose(r, scale=1.4, shift=0.2, angle=15.0) for r in (raw, -raw))
    assert pose[:, :2].min() >= 1 / 1.4 - 1e-6
    assert pose[:, :2].max() <= 1.4 + 1e-6
    assert pose[:, 2:4].abs().max() <= 0.4 + 1e-6
    assert pose[:, 4].abs().max() <= math.radians(15) + 1e-6
    torch.testing.assert_close(pose[:, :2] * back[:, :2], torch.ones(50, 2))
    torch.testing.assert_close(pose[:, 2:], -back[:, 2:])
    assert pose.abs().max(dim=0).values[2:4].min() > 0.39


def test_a_warp_and_its_inverse_give_the_film_back() -> None:
    film = smooth(1, side=128)
    affine = pose_affine(torch.tensor([[1.1, 0.95, 0.05, -0.04, 0.1]], dtype=torch.float64))
    back = warp(warp(film, affine, "border"), inverse(affine), "border")
    inner = (slice(None), slice(None), slice(32, 96), slice(32, 96))
    assert (back - film)[inner].abs().max() < 5e-3
    assert (warp(film, affine, "border") - film)[inner].abs().max() > 0.05


def test_half_precision_places_no_pixel_wrongly_under_autocast() -> None:
    film, affine = torch.rand(1, 1, 64, 64), pose_affine(POSE.float())
    with torch.autocast("cpu", torch.bfloat16):
        under = warp(film, pose_affine(bounded_pose(torch.zeros(1, 5), scale=1.5, shift=0.2, angle=9.0)))
        turned = warp(film, affine)
    torch.testing.assert_close(under, film)
    torch.testing.assert_close(turned, warp(film, affine))


def test_coverage_is_the_area_of_the_overlap() -> None:
    shifts = [
        [1.0, 1.0, 0.0, 0.0, 0.0],
        [1.0, 1.0, 1.0, 0.0, 0.0],
        [2.0, 2.0, 0.0, 0.0, 0.0],
        [1.0, 1.0, 0.0, 3.0, 0.0],
    ]
    assert coverage(pose_affine(torch.tensor(shifts)), 64).tolist() == [1.0, 0.5, 0.25, 0.0]
    # A square turned by 45 degrees: the octagon, 2 (sqrt 2 - 1) of its area.
    octagon = coverage(pose_affine(torch.tensor([[1.0, 1.0, 0.0, 0.0, math.pi / 4]])), 500)
    assert octagon.item() == pytest.approx(2 * (math.sqrt(2) - 1), abs=2e-3)


def test_blur_averages_and_grows() -> None:
    films = smooth(2, side=24)
    small = films.numpy().reshape(2, 1, 6, 4, 6, 4).mean(axis=(3, 5))
    expected = F.interpolate(torch.from_numpy(small), size=(24, 24), mode="bilinear", align_corners=False)
    torch.testing.assert_close(blur(films, 4), expected)
    assert blur(films, 1) is films
    torch.testing.assert_close(blur(torch.full((1, 1, 8, 8), 0.3), 8), torch.full((1, 1, 8, 8), 0.3))
    torch.testing.assert_close(blur(films.flip(-1), 4), blur(films, 4).flip(-1))


def test_the_perceptual_loss_is_eq_7() -> None:
    draw = np.random.default_rng(0)
    anchor = [draw.normal(size=(1, 3, 4, 4)), draw.normal(size=(1, 5, 2, 2))]
    films = [draw.normal(size=(2, 3, 4, 4)), draw.normal(size=(2, 5, 2, 2))]
    letter = squared = 0.0
    for a, f in zip(anchor, films, strict=True):
        for film in f:
            norm = math.sqrt(sum((x - y) ** 2 for x, y in zip(film.ravel(), a.ravel(), strict=True)))
            letter += norm / film.size / 2
            squared += norm**2 / film.size / 2
    given = [torch.from_numpy(x) for x in anchor], [torch.from_numpy(x) for x in films]
    assert perceptual_loss(*given, "letter").item() == pytest.approx(letter)
    assert perceptual_loss(*given).item() == pytest.approx(squared)


def test_the_euclidean_loss_is_eq_8() -> None:
    draw = np.random.default_rng(1)
    anchor, films = draw.normal(size=(1, 3, 4, 5)), draw.normal(size=(2, 3, 4, 5))
    total = sum(
        math.sqrt(((films[n, :, i, j] - anchor[0, :, i, j]) ** 2).sum())
        for n in range(2) for i in range(4) for j in range(5)
    )  # fmt: skip
    given = torch.from_numpy(anchor), torch.from_numpy(films)
    assert euclidean_loss(*given, "sum").item() == pytest.approx(total / 2)
    assert euclidean_loss(*given).item() == pytest.approx(total / 2 / 20)
    assert euclidean_loss(given[0], given[1][[1, 0]]).item() == pytest.approx(total / 2 / 20)
    assert euclidean_loss(*given, "squared").item() == pytest.approx(((films - anchor) ** 2).sum() / 2 / 20)
    twice = euclidean_loss(given[0], 2 * given[1] - given[0], "squared").item()
    assert twice == pytest.approx(4 * euclidean_loss(*given, "squared").item())


def test_equal_films_have_no_loss_and_no_gradient() -> None:
    films = torch.rand(2, 1, 4, 4)[:1].requires_grad_(True)
    anchor = films.detach().clone()
    for loss in (euclidean_loss(anchor, films), perceptual_loss([anchor], [films], "letter")):
        (gradient,) = torch.autograd.grad(loss, films)
        assert loss.item() == 0
        assert (gradient == 0).all()


def test_gradients_are_those_of_differences() -> None:
    draw = torch.Generator().manual_seed(3)
    raw = (0.3 * torch.randn(2, 5, generator=draw, dtype=torch.float64)).requires_grad_(True)
    film, anchor = smooth(2, 8), smooth(1, 8, seed=5)

    def seen(raw: Tensor) -> Tensor:
        pose = bounded_pose(raw, scale=1.5, shift=0.25, angle=20.0)
        return blur(warp(film, pose_affine(pose), "border"), 2)

    assert torch.autograd.gradcheck(lambda r: euclidean_loss(anchor, seen(r)), raw, eps=1e-7, atol=1e-5)
    assert torch.autograd.gradcheck(lambda r: euclidean_loss(anchor, seen(r), "squared"), raw, eps=1e-7, atol=1e-5)
    assert torch.autograd.gradcheck(lambda r: perceptual_loss([anchor], [seen(r)]), raw, eps=1e-7, atol=1e-5)
    assert torch.autograd.gradcheck(lambda r: perceptual_loss([anchor], [seen(r)], "letter"), raw, eps=1e-7, atol=1e-5)


def test_the_loss_leads_back_to_the_pose_that_a_film_was_taken_in() -> None:
    anchor = smooth(1, 64, seed=2)
    taken = torch.tensor([[1.08, 0.94, 0.06, -0.05, 0.08]], dtype=torch.float64)
    film = warp(anchor, inverse(pose_affine(taken)), "border")
    raw = torch.zeros(1, 5, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.Adam([raw], 0.03)
    for _ in range(150):
        pose = bounded_pose(raw, scale=1.5, shift=0.25, angle=20.0)
        loss = euclidean_loss(anchor, warp(film, pose_affine(pose), "border"))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.testing.assert_close(pose.detach(), taken, rtol=0, atol=0.01)


@settings(max_examples=30)
@given(shape=st.lists(st.integers(0, 6), min_size=0, max_size=4))
def test_other_shapes_are_refused(shape: list[int]) -> None:
    given = torch.zeros(shape)
    if given.ndim != 2 or shape[1] != 5:
        with pytest.raises(ValueError, match=r"raw must be \(N, 5\)"):
            bounded_pose(given, scale=1.5, shift=0.1, angle=9.0)
        with pytest.raises(ValueError, match=r"pose must be \(N, 5\)"):
            pose_affine(given)
    with pytest.raises(ValueError, match="affine"):
        warp(torch.zeros(7, 1, 4, 4), given)
    # No film at all is no other shape.
    if shape[1:] != [2, 3]:
        with pytest.raises(ValueError, match="affine"):
            coverage(given)
    with pytest.raises(ValueError, match="anchor"):
        euclidean_loss(given, torch.zeros(2, 1, 7, 7))


@given(
    bounds=st.fixed_dictionaries(
        {"scale": st.sampled_from([0.5, math.nan]), "shift": st.just(0.1), "angle": st.just(9.0)}
    )
    | st.fixed_dictionaries({"scale": st.just(1.5), "shift": st.sampled_from([-0.1, math.inf]), "angle": st.just(9.0)})
    | st.fixed_dictionaries({"scale": st.just(1.5), "shift": st.just(0.1), "angle": st.sampled_from([-1.0, 180.0])})
)
def test_bounds_that_bound_nothing_are_refused(bounds: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="scale must be at least 1"):
        bounded_pose(torch.zeros(1, 5), **bounds)


def test_unknown_names_and_kernels_are_refused() -> None:
    film = torch.zeros(1, 1, 8, 8)
    with pytest.raises(ValueError, match="border must be one of"):
        warp(film, torch.zeros(1, 2, 3), "reflection")
    with pytest.raises(ValueError, match="reduction must be one of"):
        euclidean_loss(film, film, "none")
    with pytest.raises(ValueError, match="norm must be one of"):
        perceptual_loss([film], [film], "l1")
    with pytest.raises(ValueError, match="same stages"):
        perceptual_loss([], [])
    with pytest.raises(ValueError, match="same stages"):
        perceptual_loss([film], [film[..., :4]])
    for kernel in (0, 3, 16):
        with pytest.raises(ValueError, match="kernel must divide"):
            blur(film, kernel)
