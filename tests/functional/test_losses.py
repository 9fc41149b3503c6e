"""Losses: the papers' sums read once more in plain Python, and what unknown labels must not do."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cxrlocus.functional.losses import LOSSES, cell_bce, masked_bce, weighted_bce

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


def cells(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    logits = 3 * torch.randn(3, 4, 2, 5, generator=draw, dtype=torch.float64)
    shares = torch.rand(3, 4, 2, 5, generator=draw, dtype=torch.float64)
    return logits, shares, torch.rand(3, 4, generator=draw) < 0.7


def test_cells_reference_value() -> None:
    # >>> import math; s=lambda x: 1/(1+math.exp(-x)); row=[(2.0, .25), (-1.0, 1.0)]
    # >>> print(sum(-(3*y*math.log(s(x)) + (1-y)*math.log(1-s(x))) for x, y in row) / 2)
    logits = torch.tensor([[[[2.0, -1.0]], [[7.0, 7.0]]]], dtype=torch.float64)
    shares = torch.tensor([[[[0.25, 1.0]], [[0.5, 0.5]]]], dtype=torch.float64)
    told = torch.tensor([[True, False]])
    assert cell_bce(logits, shares, told, rare=3.0).item() == pytest.approx(2.8150885395595635, abs=1e-12)


def test_cells_of_whole_shares_are_labels() -> None:
    logits, shares, told = cells()
    whole = (shares > 0.5).double()
    known = told[:, :, None, None].expand_as(whole)
    torch.testing.assert_close(
        cell_bce(logits, whole, told), masked_bce(logits.flatten(1), whole.flatten(1), known.flatten(1))
    )


def test_cells_say_their_share_where_nothing_is_rare_and_more_where_it_is() -> None:
    share = torch.full((1, 1, 1, 1), 0.2, dtype=torch.float64)
    told = torch.ones(1, 1, dtype=torch.bool)
    for rare, best in ((1.0, 0.2), (3.0, 0.6 / 1.4)):
        at = torch.logit(torch.full_like(share, best)).requires_grad_()
        cell_bce(at, share, told, rare).backward()
        assert at.grad is not None
        assert abs(at.grad.item()) < 1e-12


def test_cells_are_averaged_in_any_order_and_what_is_not_told_counts_nothing() -> None:
    logits, shares, told = cells()
    loss = cell_bce(logits, shares, told, 2.0)
    turned = cell_bce(logits.flip(0, 1, 2, 3), shares.flip(0, 1, 2, 3), told.flip(0, 1), 2.0)
    torch.testing.assert_close(turned, loss)
    noise = torch.where(told[:, :, None, None], shares, 1 - shares)
    torch.testing.assert_close(cell_bce(logits, noise, told, 2.0), loss)
    alone = logits.clone().requires_grad_()
    nothing = cell_bce(alone, shares, torch.zeros_like(told), 2.0)
    nothing.backward()
    assert nothing.item() == 0.0
    assert alone.grad is not None
    assert (alone.grad == 0).all()


def test_cells_have_the_gradient_of_their_loss() -> None:
    logits, shares, told = cells()
    assert torch.autograd.gradcheck(lambda x: cell_bce(x, shares, told, 3.0), logits.requires_grad_())


@pytest.mark.parametrize("wrong", ["logits", "shares", "told"])
def test_cells_of_other_shapes_are_refused(wrong: str) -> None:
    given_ = dict(zip(("logits", "shares", "told"), cells(), strict=True))
    given_[wrong] = given_[wrong][:2] if wrong != "logits" else given_[wrong][..., 0]
    with pytest.raises(ValueError, match=r"must be \(N, C, h, w\) and told \(N, C\)"):
        cell_bce(**given_)
