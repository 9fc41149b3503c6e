"""Losses: the papers' sums read once more in plain Python, and what unknown labels must not do."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cxrlocus.functional.losses import LOSSES, masked_bce, weighted_bce

names = pytest.mark.parametrize("name", sorted(LOSSES))


def batch(seed: int = 0, n: int = 6, c: int = 4) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(n, c, generator=draw, dtype=torch.float64)
    target = (torch.rand(n, c, generator=draw) < 0.3).double()
    return logits, target, torch.rand(n, c, generator=draw) < 0.7


def plain(logits: torch.Tensor, target: torch.Tensor, known: torch.Tensor) -> list[tuple[float, float]]:
    """(label, its cross-entropy) of each known label."""
    rows = zip(logits.flatten().tolist(), target.flatten().tolist(), known.flatten().tolist(), strict=True)
    return [
        (y, -math.log(1 / (1 + math.exp(-s))) if y else -math.log(1 - 1 / (1 + math.exp(-s)))) for s, y, k in rows if k
    ]


def test_bce_is_the_mean_over_known_labels() -> None:
    each = [loss for _, loss in plain(*batch())]
    assert masked_bce(*batch()).item() == pytest.approx(sum(each) / len(each))


def test_weighted_bce_is_wangs_equation_1_over_the_number_of_labels() -> None:
    each = plain(*batch())
    positive = [loss for y, loss in each if y]
    negative = [loss for y, loss in each if not y]
    both = len(positive) + len(negative)
    beta_p, beta_n = both / len(positive), both / len(negative)
    equation_1 = beta_p * sum(positive) + beta_n * sum(negative)
    assert weighted_bce(*batch()).item() == pytest.approx(equation_1 / both)


def test_reference_values() -> None:
    # >>> import math; s=lambda x: 1/(1+math.exp(-x)); p=[-math.log(s(2)),-math.log(s(-1))]; n=[-math.log(1-s(.5))]
    # >>> print((sum(p)+n[0])/3, sum(p)/2+n[0])
    logits = torch.tensor([[2.0, -1.0, 0.5]], dtype=torch.float64)
    target, known = torch.tensor([[1.0, 1.0, 0.0]], dtype=torch.float64), torch.ones(1, 3, dtype=torch.bool)
    assert masked_bce(logits, target, known).item() == pytest.approx(0.8047555609137674, abs=1e-12)
    assert weighted_bce(logits, target, known).item() == pytest.approx(1.6941718334607045, abs=1e-12)


@names
def test_nothing_known_is_no_loss_and_no_gradient(name: str) -> None:
    logits = torch.randn(3, 2, requires_grad=True)
    loss = LOSSES[name](logits, torch.ones(3, 2), torch.zeros(3, 2, dtype=torch.bool))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


@names
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_batch_of_one_kind_has_a_finite_loss_and_gradient(name: str, value: float) -> None:
    logits = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)
    target, known = torch.full((3, 2), value, dtype=torch.float64), torch.ones(3, 2, dtype=torch.bool)
    loss = LOSSES[name](logits, target, known)
    loss.backward()
    sign = 1.0 if value == 0.0 else -1.0
    expected = torch.nn.functional.softplus(sign * logits.detach()).mean()
    torch.testing.assert_close(loss.detach(), expected)
    assert logits.grad is not None
    assert (sign * logits.grad > 0).all()


@names
def test_a_sure_and_right_answer_costs_nothing_and_a_sure_and_wrong_one_stays_finite(name: str) -> None:
    target, known = torch.tensor([[1.0, 0.0]]), torch.ones(1, 2, dtype=torch.bool)
    right = torch.tensor([[1e4, -1e4]])
    assert LOSSES[name](right, target, known).item() == 0.0
    assert LOSSES[name](-right, target, known).item() == pytest.approx(1e4 if name == "bce" else 2e4)


@names
def test_the_order_of_films_and_findings_does_not_matter(name: str) -> None:
    turned = [part.flip(0, 1) for part in batch()]
    torch.testing.assert_close(LOSSES[name](*turned), LOSSES[name](*batch()))


@names
@given(st.integers(0, 1000), st.floats(-5, 5))
def test_what_stands_under_an_unknown_label_does_not_matter(name: str, seed: int, junk: float) -> None:
    logits, target, known = batch(seed)
    other = torch.where(known, target, 1 - target)
    moved = torch.where(known, logits, logits + junk)
    assert LOSSES[name](moved, other, known).item() == LOSSES[name](logits, target, known).item()


@names
def test_weighting_makes_the_loss_independent_of_repeats(name: str) -> None:
    twice = [torch.cat([part, part]) for part in batch()]
    torch.testing.assert_close(LOSSES[name](*twice), LOSSES[name](*batch()))


def test_repeating_the_negatives_leaves_the_weighted_loss_alone() -> None:
    logits, target = torch.tensor([[1.0], [-2.0]]), torch.tensor([[1.0], [0.0]])
    more = (torch.tensor([[1.0], [-2.0], [-2.0], [-2.0]]), torch.tensor([[1.0], [0.0], [0.0], [0.0]]))
    once = weighted_bce(logits, target, torch.ones(2, 1, dtype=torch.bool))
    torch.testing.assert_close(weighted_bce(*more, torch.ones(4, 1, dtype=torch.bool)), once)


@names
def test_loss_gradients(name: str) -> None:
    logits, target, known = batch()
    assert torch.autograd.gradcheck(lambda x: LOSSES[name](x, target, known), (logits.requires_grad_(True),))


@names
@given(*(st.lists(st.integers(1, 3), min_size=0, max_size=3) for _ in range(3)))
def test_losses_refuse_shapes_that_differ(name: str, a: list[int], b: list[int], c: list[int]) -> None:
    parts = torch.zeros(a), torch.zeros(b), torch.ones(c, dtype=torch.bool)
    if a == b == c:
        assert torch.isfinite(LOSSES[name](*parts))
        return
    with pytest.raises(ValueError, match="must have one shape"):
        LOSSES[name](*parts)
