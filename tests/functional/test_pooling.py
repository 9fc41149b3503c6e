"""Pools: reference value, limit, invariance, gradient; and no overflow."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cxrlocus.functional.pooling import POOLS, average_pool, lse_pool, max_pool


def random_maps(seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    return torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_lse_is_the_formula() -> None:
    # python -c "import math; v=[0,1,2,5]; print([math.log(sum(math.exp(r*x) for x in v)/4)/r for r in (.5, 3.)])"
    maps = torch.tensor([[[[0.0, 1.0], [2.0, 5.0]]]], dtype=torch.float64)
    assert lse_pool(maps, 0.5).item() == pytest.approx(2.957461861647329, abs=1e-12)
    assert lse_pool(maps, 3.0).item() == pytest.approx(4.537945163455934, abs=1e-12)


def test_lse_is_the_papers_form_with_any_shift() -> None:
    maps, r = random_maps(), 10.0
    shift = maps.abs().amax((-2, -1), keepdim=True)
    paper = shift[..., 0, 0] + torch.log(torch.exp(r * (maps - shift)).mean((-2, -1))) / r
    torch.testing.assert_close(lse_pool(maps, r), paper)


def test_average_and_max_are_themselves() -> None:
    maps = torch.tensor([[[[-1.0, 0.5], [2.5, 6.0]]]])
    assert average_pool(maps).item() == 2.0
    assert max_pool(maps).item() == 6.0


def test_lse_limits_are_average_and_max() -> None:
    maps = random_maps()
    torch.testing.assert_close(lse_pool(maps, 1e-6), average_pool(maps), atol=1e-5, rtol=0)
    torch.testing.assert_close(lse_pool(maps, 1e4), max_pool(maps), atol=math.log(20) / 1e4 + 1e-9, rtol=0)


def test_lse_grows_with_r_between_average_and_max() -> None:
    maps = random_maps()
    steps = torch.stack([average_pool(maps), *(lse_pool(maps, r) for r in (0.1, 1.0, 5.0, 50.0)), max_pool(maps)])
    assert (steps.diff(dim=0) > 0).all()


@pytest.mark.parametrize("name", sorted(POOLS))
def test_a_constant_map_pools_to_its_value(name: str) -> None:
    torch.testing.assert_close(POOLS[name](torch.full((1, 2, 7, 7), -3.25)), torch.full((1, 2), -3.25))


@pytest.mark.parametrize("name", sorted(POOLS))
def test_pools_do_not_see_where_a_cell_is(name: str) -> None:
    maps = random_maps()
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    shuffled = maps.flatten(-2)[..., order].reshape(maps.shape)
    torch.testing.assert_close(POOLS[name](shuffled), POOLS[name](maps))


@pytest.mark.parametrize("name", sorted(POOLS))
def test_pools_follow_an_added_constant(name: str) -> None:
    maps = random_maps()
    torch.testing.assert_close(POOLS[name](maps + 2.5), POOLS[name](maps) + 2.5)


@pytest.mark.parametrize("name", sorted(POOLS))
def test_pools_treat_films_and_findings_apart(name: str) -> None:
    maps = random_maps()
    torch.testing.assert_close(POOLS[name](maps.flip(0, 1)), POOLS[name](maps).flip(0, 1))


@pytest.mark.parametrize("name", sorted(POOLS))
def test_pool_gradients(name: str) -> None:
    assert torch.autograd.gradcheck(POOLS[name], (random_maps().requires_grad_(True),))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_lse_never_overflows(dtype: torch.dtype, sign: float) -> None:
    maps = (sign * torch.tensor([[[[1e4, 9e3], [0.0, 5e3]]]])).to(dtype).requires_grad_(True)
    pooled = lse_pool(maps, 100.0)
    pooled.sum().backward()
    top = 1e4 if sign > 0 else 0.0
    assert pooled.item() == pytest.approx(top - math.log(4) / 100, rel=5e-3, abs=0.02)
    assert maps.grad is not None
    assert torch.isfinite(maps.grad).all()
    assert maps.grad.sum().item() == pytest.approx(1.0, abs=0.02)


@given(st.one_of(st.floats(max_value=0.0), st.just(math.inf), st.just(math.nan)))
def test_lse_refuses_a_sharpness_that_is_not_positive(r: float) -> None:
    with pytest.raises(ValueError, match="r must be a positive number"):
        lse_pool(torch.zeros(1, 1, 2, 2), r)
