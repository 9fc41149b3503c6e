"""InfoMask's formulas: reference values, limits, invariances, gradients, refusals."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from cxrlocus.functional.variational import (
    SIGMA_FLOOR,
    SIGMAS,
    clipped_mask,
    flat_masks,
    kl_standard_normal,
    l1_norm,
    positive_sigma,
    reparameterize,
)


def maps(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_kl_is_that_of_torch_distributions() -> None:
    mu, sigma = maps(3, 2, 4, 5), maps(3, 2, 4, 5, seed=1).exp()
    expected = kl_divergence(Normal(mu, sigma), Normal(torch.zeros_like(mu), torch.ones_like(mu)))
    torch.testing.assert_close(kl_standard_normal(mu, sigma, "none"), expected)
    torch.testing.assert_close(kl_standard_normal(mu, sigma, "mean"), expected.mean())
    torch.testing.assert_close(kl_standard_normal(mu, sigma, "sum"), expected.sum() / 3)


def test_kl_of_a_value_by_hand() -> None:
    # python -c "import math; print((1.5**2 + .5**2 - 1) / 2 - math.log(.5))"
    got = kl_standard_normal(torch.tensor([[1.5]]), torch.tensor([[0.5]]))
    assert float(got) == pytest.approx(1.4431471805599454)


def test_kl_is_zero_at_the_prior_only() -> None:
    assert float(kl_standard_normal(torch.zeros(2, 3), torch.ones(2, 3), "sum")) == 0.0
    for mu, sigma in ((0.1, 1.0), (0.0, 1.1), (0.0, 0.9)):
        assert float(kl_standard_normal(torch.tensor([[mu]]), torch.tensor([[sigma]]))) > 0


def test_kl_does_not_know_the_sign_of_mu_nor_the_order_of_pixels() -> None:
    mu, sigma = maps(2, 1, 3, 3), maps(2, 1, 3, 3, seed=1).exp()
    flipped = kl_standard_normal(-mu.flip(-1), sigma.flip(-1), "none").flip(-1)
    torch.testing.assert_close(flipped, kl_standard_normal(mu, sigma, "none"))


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_gradients_of_the_penalties(reduction: str) -> None:
    mu, sigma = maps(2, 1, 2, 3).requires_grad_(), maps(2, 1, 2, 3, seed=1).exp().requires_grad_()
    assert torch.autograd.gradcheck(lambda m, s: kl_standard_normal(m, s, reduction), (mu, sigma))  # type: ignore[arg-type]
    assert torch.autograd.gradcheck(lambda m: l1_norm(m, reduction), (mu,))  # type: ignore[arg-type]


@pytest.mark.parametrize("penalty", [lambda r: kl_standard_normal(torch.zeros(1), torch.ones(1), r),
                                     lambda r: l1_norm(torch.zeros(1), r)])  # fmt: skip
@given(reduction=st.text(max_size=8).filter(lambda t: t not in ("none", "mean", "sum")))
def test_an_unknown_reduction_is_refused(penalty: Callable[[str], torch.Tensor], reduction: str) -> None:
    with pytest.raises(ValueError, match="reduction must be none, mean or sum; got"):
        penalty(reduction)


def test_l1_is_the_mean_or_the_sum_a_film() -> None:
    mask = torch.tensor([[[[0.5, 0.0]]], [[[0.25, -0.25]]]])
    assert float(l1_norm(mask)) == pytest.approx(0.25)
    assert float(l1_norm(mask, "sum")) == pytest.approx(0.5)
    assert float(l1_norm(torch.zeros(2, 3), "sum")) == 0.0
    assert torch.equal(l1_norm(mask, "none"), mask.abs())


def test_a_sample_is_the_mean_without_noise_and_has_the_deviation_with_it() -> None:
    mu, sigma = torch.full((200_000,), 1.5), torch.full((200_000,), 0.25)
    assert torch.equal(reparameterize(mu, sigma, torch.zeros_like(mu)), mu)
    z = reparameterize(mu, sigma, torch.randn(200_000, generator=torch.Generator().manual_seed(0)))
    assert float(z.mean()) == pytest.approx(1.5, abs=3e-3)
    assert float(z.std()) == pytest.approx(0.25, abs=3e-3)


def test_gradients_pass_through_a_sample() -> None:
    inputs = (maps(2, 3).requires_grad_(), maps(2, 3, seed=1).exp().requires_grad_(), maps(2, 3, seed=2))
    assert torch.autograd.gradcheck(reparameterize, inputs)


def test_sigmas_by_hand() -> None:
    # python -c "import math; print(math.log1p(math.exp(-2)), math.exp(-1))"
    raw = torch.tensor([3.0], dtype=torch.float64)
    assert float(positive_sigma(raw, "softplus", -5.0)) == pytest.approx(0.1269280110429726 + SIGMA_FLOOR)
    assert float(positive_sigma(raw, "exp", -5.0)) == pytest.approx(0.36787944117144233 + SIGMA_FLOOR)


@pytest.mark.parametrize("activation", SIGMAS)
def test_sigma_keeps_the_kl_finite_and_grows_with_its_input(activation: str) -> None:
    raw = torch.tensor([[-1e4, -200.0, -1.0, 0.0, 1.0, 60.0]])
    sigma = positive_sigma(raw, activation)
    assert float(sigma.min()) >= SIGMA_FLOOR * 0.999
    assert (sigma.diff() >= 0).all()
    assert torch.isfinite(kl_standard_normal(torch.zeros_like(raw), sigma, "none")).all()
    assert torch.equal(positive_sigma(raw, activation, 2.0), positive_sigma(raw + 2.0, activation))
    smooth = maps(3, 2).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: positive_sigma(x, activation, -0.5), (smooth,))


@given(activation=st.text(max_size=8).filter(lambda t: t not in SIGMAS))
def test_an_unknown_activation_is_refused(activation: str) -> None:
    with pytest.raises(ValueError, match="activation must be one of softplus, exp; got"):
        positive_sigma(torch.zeros(1), activation)


def test_a_mask_by_hand() -> None:
    # python -c "import math; print(1 / (1 + math.exp(-1)) - .3)"
    got = clipped_mask(torch.tensor([1.0, -3.0], dtype=torch.float64), tau=0.3)
    assert got.tolist() == pytest.approx([0.4310585786300049, 0.0])


@given(tau=st.floats(0, 0.99), z=st.lists(st.floats(-1e30, 1e30), min_size=1, max_size=8),
       through=st.booleans())  # fmt: skip
def test_a_mask_stays_in_its_bounds_and_grows_with_z(tau: float, z: list[float], through: bool) -> None:
    mask = clipped_mask(torch.tensor(sorted(z)), tau, through)
    assert float(mask.min()) >= 0
    assert float(mask.max()) <= 1 - tau + 1e-6
    assert (mask.diff() >= -1e-7).all()


def test_tau_zero_leaves_the_sigmoid() -> None:
    z = maps(10)
    assert torch.equal(clipped_mask(z, 0.0), torch.sigmoid(z))


def test_only_straight_through_gives_closed_pixels_a_gradient() -> None:
    z = torch.tensor([-2.0, 2.0], dtype=torch.float64)
    grads = {}
    for through in (False, True):
        leaf = z.clone().requires_grad_()
        mask = clipped_mask(leaf, 0.5, through)
        assert torch.equal(mask.detach(), clipped_mask(z, 0.5))
        (grads[through],) = torch.autograd.grad(mask.sum(), leaf)
    slope = torch.sigmoid(z) * (1 - torch.sigmoid(z))
    assert grads[False].tolist() == pytest.approx([0.0, float(slope[1])])
    torch.testing.assert_close(grads[True], slope)
    assert torch.autograd.gradcheck(
        lambda x: clipped_mask(x, 0.5), (torch.tensor([-1.0, 0.7]).double().requires_grad_(),)
    )


@given(tau=st.one_of(st.floats(max_value=-1e-9), st.floats(min_value=1.0), st.just(math.nan)))
def test_a_tau_out_of_range_is_refused(tau: float) -> None:
    with pytest.raises(ValueError, match=r"tau must be in \[0, 1\); got"):
        clipped_mask(torch.zeros(1), tau)


def test_flat_masks_are_those_without_a_place() -> None:
    mask = torch.zeros(1, 4, 3, 3)
    mask[0, 1] = 0.4
    mask[0, 2, 1, 1] = 0.4
    mask[0, 3, 1, 1] = 1e-7
    assert flat_masks(mask).tolist() == [[True, True, False, True]]
    assert flat_masks(mask, tolerance=0.0).tolist() == [[True, True, False, False]]
    assert torch.equal(flat_masks(mask.flip(-1)), flat_masks(mask))
