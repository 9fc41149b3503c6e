"""Knowledge preservation: equations 4 and 5, their two readings, and gradients."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cxrlocus.functional.preservation import gap_distance, preservation_loss

readings = pytest.mark.parametrize(
    ("over", "squared"), [("film", False), ("film", True), ("batch", False), ("batch", True)]
)


def features(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_distances_by_hand() -> None:
    # Rows differ by (3, 4) and (0, 12): norms 5 and 12, all together 13; squared 25 + 144.
    ours, theirs = torch.tensor([[3.0, 4.0], [1.0, 12.0]]), torch.tensor([[0.0, 0.0], [1.0, 0.0]])
    assert float(gap_distance(ours, theirs)) == pytest.approx(8.5)
    assert float(gap_distance(ours, theirs, over="batch")) == pytest.approx(6.5)
    for over in ("film", "batch"):
        assert float(gap_distance(ours, theirs, over=over, squared=True)) == pytest.approx(84.5)


@readings
def test_equal_features_are_at_no_distance_and_pull_nowhere(over: str, squared: bool) -> None:
    ours = features(3, 4).requires_grad_()
    distance = gap_distance(ours, ours.detach().clone(), over=over, squared=squared)
    distance.backward()
    assert float(distance.detach()) == 0.0
    assert ours.grad is not None
    assert float(ours.grad.abs().max()) == 0.0


@readings
def test_no_film_is_no_distance(over: str, squared: bool) -> None:
    ours = torch.zeros(0, 4, requires_grad=True)
    distance = gap_distance(ours, torch.zeros(0, 4), over=over, squared=squared)
    distance.backward()
    assert float(distance.detach()) == 0.0


@readings
def test_the_order_of_films_and_channels_and_the_sign_do_not_count(over: str, squared: bool) -> None:
    a, b = features(5, 7), features(5, 7, seed=1)
    expected = gap_distance(a, b, over=over, squared=squared)
    for x, y in ((b, a), (a.flip(0), b.flip(0)), (a.flip(1), b.flip(1)), (a + 3, b + 3)):
        torch.testing.assert_close(gap_distance(x, y, over=over, squared=squared), expected)


def test_the_norm_over_the_batch_falls_with_the_root_of_its_films() -> None:
    a, b = features(2, 6), features(2, 6, seed=1)
    again = [torch.cat([x] * 9) for x in (a, b)]
    torch.testing.assert_close(gap_distance(*again), gap_distance(a, b))
    torch.testing.assert_close(gap_distance(*again, over="batch"), gap_distance(a, b, over="batch") / 3)


@readings
def test_gradients(over: str, squared: bool) -> None:
    a, b = features(3, 4).requires_grad_(), features(3, 4, seed=1)
    assert torch.autograd.gradcheck(lambda x: gap_distance(x, b, over=over, squared=squared), (a,))


def test_half_precision_is_compared_in_single() -> None:
    # 300^2 is beyond float16, and the sum of 4096 of 16^2 beyond bfloat16's 8 bits.
    a = torch.full((1, 4096), 300.0, dtype=torch.float16)
    assert float(gap_distance(a, torch.zeros_like(a))) == pytest.approx(300 * 64)
    assert gap_distance(a.bfloat16(), torch.zeros_like(a)).dtype == torch.float32


def test_layers_count_alike() -> None:
    ours = [features(3, 2), features(3, 8, seed=1)]
    theirs = [features(3, 2, seed=2), features(3, 8, seed=3)]
    each = [float(gap_distance(a, b)) for a, b in zip(ours, theirs, strict=True)]
    assert float(preservation_loss(ours, theirs)) == pytest.approx(sum(each) / 2)
    assert math.isclose(float(preservation_loss(ours[:1], theirs[:1])), each[0])


@given(
    shapes=st.tuples(st.tuples(st.integers(1, 4), st.integers(1, 4)), st.tuples(st.integers(1, 4), st.integers(1, 4)))
)
def test_features_of_other_shapes_are_refused(shapes: tuple[tuple[int, int], tuple[int, int]]) -> None:
    if shapes[0] != shapes[1]:
        with pytest.raises(ValueError, match=r"must be \(M, D\)"):
            gap_distance(torch.zeros(shapes[0]), torch.zeros(shapes[1]))


def test_other_arguments_that_are_off_are_refused() -> None:
    one = torch.zeros(2, 2)
    with pytest.raises(ValueError, match="over must be one of film, batch; got 'x'"):
        gap_distance(one, one, over="x")
    with pytest.raises(ValueError, match=r"must be \(M, D\)"):
        gap_distance(one[None], one[None])
    for ours, theirs in (([], []), ([one], [one, one])):
        with pytest.raises(ValueError, match="same layers"):
            preservation_loss(ours, theirs)
