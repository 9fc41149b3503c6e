"""Gradient maps: reference values, what they become in simple nets, invariances."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrlocus.functional.attribution import ATTRIBUTIONS, grad_cam, grad_cam_plus_plus, layer_cam
from cxrlocus.functional.evidence import linear_evidence, pool_then_linear
from cxrlocus.functional.pooling import average_pool

names = pytest.mark.parametrize("name", sorted(ATTRIBUTIONS))


def activations_and_gradients(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    activations = torch.randn(2, 5, 3, 4, generator=draw, dtype=torch.float64)
    return activations, torch.randn(2, 5, 3, 4, generator=draw, dtype=torch.float64)


def test_reference_values() -> None:
    # >>> A=[[1.,2.],[3.,-1.]]; G=[[.5,-1.],[2.,.25]]; relu=lambda v: max(v,0.)
    # >>> print([relu(sum(sum(G[d])/2*A[d][k] for d in (0,1))) for k in (0,1)])
    # >>> w=[sum(g*g/(2*g*g+sum(A[d])*g**3)*relu(g) for g in G[d]) for d in (0,1)]
    # >>> print([relu(sum(w[d]*A[d][k] for d in (0,1))) for k in (0,1)])
    # >>> print([relu(sum(relu(G[d][k])*A[d][k] for d in (0,1))) for k in (0,1)])
    activations = torch.tensor([[[[1.0, 2.0]], [[3.0, -1.0]]]], dtype=torch.float64)
    gradients = torch.tensor([[[[0.5, -1.0]], [[2.0, 0.25]]]], dtype=torch.float64)
    assert grad_cam(activations, gradients).flatten().tolist() == pytest.approx([3.125, 0.0])
    expected = [1.4428571428571428, 0.0]
    assert grad_cam_plus_plus(activations, gradients).flatten().tolist() == pytest.approx(expected)
    assert layer_cam(activations, gradients).flatten().tolist() == pytest.approx([6.5, 0.0])


@settings(max_examples=20)
@given(st.integers(0, 10_000))
def test_grad_cam_of_average_pool_and_linear_head_is_the_positive_cam_over_its_cells(seed: int) -> None:
    draw = torch.Generator().manual_seed(seed)
    features = torch.randn(2, 6, 3, 5, generator=draw, dtype=torch.float64, requires_grad=True)
    weight, bias = (torch.randn(s, generator=draw, dtype=torch.float64) for s in ((4, 6), (4,)))
    logits = pool_then_linear(average_pool(features), weight, bias)
    cams = torch.relu(linear_evidence(features.detach(), weight)) / 15
    for c in range(4):
        (gradients,) = torch.autograd.grad(logits[:, c].sum(), features, retain_graph=True)
        torch.testing.assert_close(grad_cam(features.detach(), gradients), cams[:, c])


def test_layer_cam_with_one_gradient_a_channel_and_none_negative_is_grad_cam() -> None:
    activations, gradients = activations_and_gradients()
    constant = gradients.abs()[:, :, :1, :1].expand_as(gradients)
    torch.testing.assert_close(layer_cam(activations, constant), grad_cam(activations, constant))


@names
def test_no_gradient_no_map(name: str) -> None:
    activations, _ = activations_and_gradients()
    assert (ATTRIBUTIONS[name](activations, torch.zeros_like(activations)) == 0).all()


@names
def test_maps_are_finite_and_not_negative(name: str) -> None:
    activations, gradients = activations_and_gradients()
    gradients[:, :, 0] = 0.0
    maps = ATTRIBUTIONS[name](activations, gradients)
    assert maps.shape == (2, 3, 4)
    assert torch.isfinite(maps).all()
    assert (maps >= 0).all()
    assert maps.max() > 0


@names
def test_channels_have_no_order(name: str) -> None:
    activations, gradients = activations_and_gradients()
    turned = ATTRIBUTIONS[name](activations.flip(1), gradients.flip(1))
    torch.testing.assert_close(turned, ATTRIBUTIONS[name](activations, gradients))


@names
def test_a_flipped_film_has_a_flipped_map(name: str) -> None:
    activations, gradients = activations_and_gradients()
    turned = ATTRIBUTIONS[name](activations.flip(-1), gradients.flip(-1))
    torch.testing.assert_close(turned, ATTRIBUTIONS[name](activations, gradients).flip(-1))


@pytest.mark.parametrize("name", ["gradcam", "layercam"])
def test_a_steeper_logit_scales_the_map(name: str) -> None:
    activations, gradients = activations_and_gradients()
    torch.testing.assert_close(
        ATTRIBUTIONS[name](activations, 3 * gradients), 3 * ATTRIBUTIONS[name](activations, gradients)
    )


@names
def test_map_gradients(name: str) -> None:
    # Away from the kinks of ReLU: everything positive.
    activations, gradients = (part.abs() + 0.1 for part in activations_and_gradients())
    assert torch.autograd.gradcheck(
        ATTRIBUTIONS[name], (activations.requires_grad_(True), gradients.requires_grad_(True))
    )


@names
@given(*(st.lists(st.integers(1, 2), min_size=2, max_size=5) for _ in range(2)))
def test_shapes_that_differ_are_refused(name: str, a: list[int], b: list[int]) -> None:
    if a == b and len(a) == 4:
        assert ATTRIBUTIONS[name](torch.ones(a), torch.ones(b)).shape == (a[0], a[2], a[3])
        return
    with pytest.raises(ValueError, match="activations and gradients must both be"):
        ATTRIBUTIONS[name](torch.ones(a), torch.ones(b))
