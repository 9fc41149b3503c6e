"""Pools: reference values, limits, bounds, invariances, gradients; nothing under- or overflows."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cxrlocus.functional.pooling import (
    attention_pool,
    average_pool,
    average_probability_pool,
    generalized_mean_pool,
    log_lse,
    lse_pool,
    lse_probability_pool,
    max_pool,
    noisy_or_pool,
    pcam_pool,
)

Pool = Callable[[torch.Tensor], torch.Tensor]

VALUES: dict[str, Pool] = {
    "average": average_pool,
    "max": max_pool,
    "lse": lse_pool,
    "lse_1": lambda maps: lse_pool(maps, torch.tensor(1.0)),
    "pcam": pcam_pool,
    "attention": lambda maps: attention_pool(maps, maps.sin()),
}  # fmt: skip
"""Pools whose result is a mean of the values."""

MEANS: dict[str, Pool] = {
    "average_probability": average_probability_pool,
    "gm_.5": lambda maps: generalized_mean_pool(maps, 0.5),
    "gm_3": generalized_mean_pool,
    "gm_30": lambda maps: generalized_mean_pool(maps, torch.tensor(30.0)),
    "lse_.1": lambda maps: lse_probability_pool(maps, 0.1),
    "lse_10": lse_probability_pool,
    "lse_300": lambda maps: lse_probability_pool(maps, torch.tensor(300.0, dtype=maps.dtype)),
}
"""Pools whose probability is a mean of the cells'."""

PROBABILITIES = {**MEANS, "noisy_or": noisy_or_pool}
ALL = {**VALUES, **PROBABILITIES}


def of(pools: dict[str, Pool]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("pool", list(pools.values()), ids=list(pools))


def random_maps(seed: int = 0, dtype: torch.dtype = torch.float64, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(2, 3, 5, 4, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def one(*cells: float) -> torch.Tensor:
    return torch.tensor([[[cells]]], dtype=torch.float64)


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


REFERENCES = {
    average_probability_pool: 0.2604441070426372,
    noisy_or_pool: 4.133695819654789,
    generalized_mean_pool: 0.9311488452889618,
    lse_probability_pool: 1.706285796135817,
    pcam_pool: 1.7297150719569154,
}
"""Of the logits -2, .5 and 3, made by

python -c "
import math; x = (-2, .5, 3); s = [1 / (1 + math.exp(-v)) for v in x]; logit = lambda p: math.log(p / (1 - p))
print(logit(sum(s) / 3), logit(1 - math.prod(1 - v for v in s)), logit((sum(v**3 for v in s) / 3) ** (1 / 3)),
      logit(math.log(sum(math.exp(10 * v) for v in s) / 3) / 10), sum(a * b for a, b in zip(s, x)) / sum(s))"
"""


@pytest.mark.parametrize("pool", REFERENCES, ids=lambda f: f.__name__)
def test_reference_values(pool: Pool) -> None:
    assert pool(one(-2.0, 0.5, 3.0)).item() == pytest.approx(REFERENCES[pool], abs=1e-12)


def test_attention_by_hand() -> None:
    # python -c "import math; print((math.exp(1) * -2 + .5 + math.exp(-1) * 3) / (math.exp(1) + 1 + math.exp(-1)))"
    pooled = attention_pool(one(-2.0, 0.5, 3.0), one(1.0, 0.0, -1.0))
    assert pooled.item() == pytest.approx(-0.9380259565111035, abs=1e-12)


def test_equation_4_with_a_sharpness_for_each_finding() -> None:
    maps, r = random_maps(scale=3.0), torch.tensor([0.3, 6.0, 11.0], dtype=torch.float64)
    cells = torch.sigmoid(maps)
    p = torch.log(torch.exp(r[:, None, None] * cells).mean((-2, -1))) / r
    torch.testing.assert_close(lse_probability_pool(maps, r), torch.logit(p))
    gm = (cells ** r[:, None, None]).mean((-2, -1)) ** (1 / r)
    torch.testing.assert_close(generalized_mean_pool(maps, r), torch.logit(gm))


def test_one_hot_cell_of_a_big_map_is_bounded_by_the_sharpness() -> None:
    # A cell of 1 among n of 0: p = log(1 + (e^r - 1) / n) / r, about 1 - log(n) / r where e^r > n.
    maps = torch.full((1, 1, 64, 64), -60.0, dtype=torch.float64)
    maps[0, 0, 3, 5] = 60.0
    for r in (2.0, 5.0, 11.0, 40.0):
        expected = math.log1p(math.expm1(r) / 4096) / r
        assert torch.sigmoid(lse_probability_pool(maps, r)).item() == pytest.approx(expected, rel=1e-9)


def test_lse_limits_are_average_and_max() -> None:
    maps = random_maps()
    torch.testing.assert_close(lse_pool(maps, 1e-6), average_pool(maps), atol=1e-5, rtol=0)
    torch.testing.assert_close(lse_pool(maps, 1e4), max_pool(maps), atol=math.log(20) / 1e4 + 1e-9, rtol=0)


def test_limits_of_the_probability_pools() -> None:
    maps = random_maps(scale=2.0)
    average, top = average_probability_pool(maps), max_pool(maps)
    torch.testing.assert_close(lse_probability_pool(maps, 1e-7), average, atol=1e-6, rtol=0)
    torch.testing.assert_close(generalized_mean_pool(maps, 1.0), average)
    for sharpest in (lse_probability_pool(maps, 1e6), generalized_mean_pool(maps, 1e6)):
        torch.testing.assert_close(torch.sigmoid(sharpest), torch.sigmoid(top), atol=1e-5, rtol=0)
    geometric = torch.logit(torch.exp(torch.nn.functional.logsigmoid(maps).mean((-2, -1))))
    torch.testing.assert_close(generalized_mean_pool(maps, 1e-7), geometric, atol=1e-5, rtol=0)
    one_cell = random_maps()[..., :1, :1]
    for pool in ALL.values():
        torch.testing.assert_close(pool(one_cell), one_cell[..., 0, 0])


def test_a_small_noisy_or_is_the_sum() -> None:
    maps = one(-40.0, -41.0, -45.0)
    assert noisy_or_pool(maps).item() == pytest.approx(torch.logsumexp(maps, -1).item(), abs=1e-12)


def test_pcam_and_attention_limits() -> None:
    maps = random_maps()
    torch.testing.assert_close(attention_pool(maps, torch.zeros_like(maps)), average_pool(maps))
    torch.testing.assert_close(attention_pool(maps, 1e4 * maps), max_pool(maps))
    # Where every cell is surely there, S is 1 everywhere.
    torch.testing.assert_close(pcam_pool(maps + 60.0), average_pool(maps) + 60.0)


def test_lse_grows_with_r_between_average_and_max() -> None:
    maps = random_maps()
    steps = torch.stack([average_pool(maps), *(lse_pool(maps, r) for r in (0.1, 1.0, 5.0, 50.0)), max_pool(maps)])
    assert (steps.diff(dim=0) > 0).all()


@pytest.mark.parametrize("pool", [lse_probability_pool, generalized_mean_pool])
def test_probability_pools_grow_with_r(pool: Callable[[torch.Tensor, float], torch.Tensor]) -> None:
    maps = random_maps(scale=3.0)
    steps = torch.stack([*(pool(maps, r) for r in (0.1, 1.0, 2.0, 5.0, 50.0)), max_pool(maps)])
    assert (steps.diff(dim=0) > 0).all()


@of({**VALUES, **MEANS})
def test_means_lie_between_minimum_and_maximum(pool: Pool) -> None:
    for scale in (0.1, 3.0, 30.0):
        maps = random_maps(scale=scale)
        assert (pool(maps) <= max_pool(maps) + 1e-9).all()
        assert (pool(maps) >= maps.amin((-2, -1)) - 1e-9).all()


@pytest.mark.parametrize("name", ["lse_.1", "lse_10", "lse_300", "gm_3", "gm_30", "noisy_or"])
def test_sharp_pools_are_above_the_average(name: str) -> None:
    maps = random_maps(scale=4.0)
    assert (PROBABILITIES[name](maps) > average_probability_pool(maps)).all()
    assert (pcam_pool(maps) > average_pool(maps)).all()


def test_noisy_or_is_at_least_the_maximum() -> None:
    maps = random_maps(scale=10.0)
    assert (noisy_or_pool(maps) > max_pool(maps)).all()


@of({**VALUES, **MEANS})
@pytest.mark.parametrize("value", [-300.0, -90.0, -20.0, -3.25, 0.0, 2.0, 17.0, 60.0, 300.0])
def test_a_constant_map_pools_to_its_value(pool: Pool, value: float) -> None:
    # From -300 to 300 in float32: sigmoids of 0 and 1, whose logarithms are not.
    torch.testing.assert_close(pool(torch.full((1, 2, 7, 7), value)), torch.full((1, 2), value), rtol=1e-4, atol=1e-4)


@of(ALL)
def test_pools_do_not_see_where_a_cell_is(pool: Pool) -> None:
    maps = random_maps(scale=2.0)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(1))
    shuffled = maps.flatten(-2)[..., order].reshape(maps.shape)
    torch.testing.assert_close(pool(shuffled), pool(maps))


@pytest.mark.parametrize("pool", [average_pool, max_pool, lse_pool])
def test_value_pools_follow_an_added_constant(pool: Pool) -> None:
    maps = random_maps()
    torch.testing.assert_close(pool(maps + 2.5), pool(maps) + 2.5)


@of(ALL)
def test_pools_treat_films_and_findings_apart(pool: Pool) -> None:
    maps = random_maps()
    torch.testing.assert_close(pool(maps.flip(0, 1)), pool(maps).flip(0, 1))


@of(ALL)
def test_pool_gradients(pool: Pool) -> None:
    for scale in (1.0, 8.0):
        assert torch.autograd.gradcheck(pool, (random_maps(scale=scale).requires_grad_(True),))


@pytest.mark.parametrize("pool", [lse_pool, lse_probability_pool, generalized_mean_pool])
def test_gradients_of_the_sharpness(pool: Callable[..., torch.Tensor]) -> None:
    beta = torch.tensor([0.2, 3.0, 12.0], dtype=torch.float64).log().requires_grad_(True)
    assert torch.autograd.gradcheck(lambda m, b: pool(m, b.exp()), (random_maps().requires_grad_(True), beta))
    assert torch.autograd.gradcheck(lambda m, b: pool(m, b.exp()[0]), (random_maps().requires_grad_(True), beta))


@pytest.mark.parametrize("pool", [average_probability_pool, lse_probability_pool, generalized_mean_pool, noisy_or_pool])
def test_second_derivatives_are_right_or_refused(pool: Pool) -> None:
    # What a backward pass by hand keeps is a constant to autograd: differentiated again it would be silently wrong.
    maps = random_maps().requires_grad_(True)
    (grad,) = torch.autograd.grad(pool(maps).sum(), maps, create_graph=True)
    try:
        torch.autograd.grad(grad.square().sum(), maps)
    except RuntimeError as error:
        assert "modified by an inplace operation" in str(error)  # noqa: PT017  # either outcome is right
    else:
        assert torch.autograd.gradgradcheck(pool, (maps,))


@of({k: v for k, v in ALL.items() if k not in ("pcam", "attention")})
def test_every_cell_pulls_upwards(pool: Pool) -> None:
    for scale in (1.0, 6.0):
        maps = random_maps(scale=scale).requires_grad_(True)
        (grad,) = torch.autograd.grad(pool(maps).sum(), maps)
        assert (grad >= 0).all()
        assert (grad.sum((-2, -1)) > 0).all()


def test_pcam_does_not_grow_with_a_cell_far_below() -> None:
    maps = one(-3.0, 4.0).requires_grad_(True)
    (grad,) = torch.autograd.grad(pcam_pool(maps).sum(), maps)
    assert grad[0, 0, 0, 0] < 0 < grad[0, 0, 0, 1]


SIDE = 512
HARD = {
    "one hot cell": (-30.0, 30.0),
    "all nearly 0": (-500.0, -400.0),
    "all nearly 1": (400.0, 500.0),
    "far apart": (-1e4, 1e4),
    "as a network begins": (-0.01, 0.01),
}
"""Logits of all cells but one, and of that one."""


@of(ALL)
@pytest.mark.parametrize(
    ("hard", "dtype"),
    [*((name, torch.float32) for name in HARD), ("one hot cell", torch.bfloat16), ("far apart", torch.bfloat16)],
)
def test_nothing_under_or_overflows_at_512(pool: Pool, hard: str, dtype: torch.dtype) -> None:
    rest, cell = HARD[hard]
    maps = torch.full((1, 1, SIDE, SIDE), rest)
    maps[0, 0, 100, 200] = cell
    maps = maps.to(dtype).requires_grad_(True)
    film = pool(maps)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(
        torch.cat([film.float()] * 2), torch.tensor([[0.0], [1.0]])
    )
    loss.backward()
    assert film.dtype == torch.float32 or pool in (average_pool, max_pool)
    assert torch.isfinite(film).all()
    assert torch.isfinite(loss)
    assert maps.grad is not None
    assert torch.isfinite(maps.grad).all()
    # Where the cells are 1 and 0 to ten thousand digits nothing is left to learn.
    assert maps.grad.abs().sum() > 0 or cell == 1e4
    # The same in float64, of the same map: six digits stay, of the logit or of the probability's logarithm.
    if dtype == torch.float32 and pool not in (average_pool, max_pool):
        exact = pool(maps.detach().double())
        torch.testing.assert_close(film.double(), exact, rtol=2e-4, atol=2e-4)


@of(PROBABILITIES)
def test_float32_gradients_are_those_of_float64(pool: Pool) -> None:
    for offset in (-95.0, -30.0, 0.0, 12.0):
        maps = random_maps(scale=3.0) + offset
        grads = []
        for dtype in (torch.float32, torch.float64):
            leaf = maps.to(dtype).requires_grad_(True)
            pool(leaf).sum().backward()
            assert leaf.grad is not None
            grads.append(leaf.grad.double())
        torch.testing.assert_close(grads[0], grads[1], rtol=2e-3, atol=1e-4)


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


@pytest.mark.parametrize("r", [-50.0, -2.0, -1e-3, 1e-3, 2.0, 50.0])
@pytest.mark.parametrize("shift", [-700.0, -40.0, -5.0, 0.0, 3.0])
def test_log_lse_is_the_formula_at_every_size(r: float, shift: float) -> None:
    # In float64 against a sum of terms that lose nothing: expm1 where r v is small, the plain formula elsewhere.
    log_values = random_maps() + shift
    v = log_values.exp()
    small = (r * v).abs().amax((-2, -1)) < 0.3
    tiny = torch.log1p(torch.expm1(r * v).mean((-2, -1))) / r
    plain = (torch.logsumexp(r * v, (-2, -1)) - math.log(20)) / r
    expected = torch.where(small, tiny, plain).log()
    torch.testing.assert_close(log_lse(log_values, r), expected, rtol=1e-8, atol=1e-8)
    assert torch.autograd.gradcheck(lambda x: log_lse(x, r), (log_values.requires_grad_(True),))


SHARP = [lse_pool, lse_probability_pool, generalized_mean_pool]


@pytest.mark.parametrize("pool", SHARP)
@given(r=st.one_of(st.floats(max_value=0.0), st.just(math.inf), st.just(math.nan)))
def test_a_sharpness_that_is_not_positive_is_refused(pool: Callable[..., torch.Tensor], r: float) -> None:
    with pytest.raises(ValueError, match="r must be a positive number"):
        pool(torch.zeros(1, 1, 2, 2), r)


@given(st.sampled_from([0.0, math.inf, -math.inf, math.nan]))
def test_log_lse_refuses_zero_and_what_is_not_finite(r: float) -> None:
    with pytest.raises(ValueError, match="r must be a finite number other than 0"):
        log_lse(torch.zeros(1, 1, 2, 2), r)


@pytest.mark.parametrize("pool", SHARP)
@given(count=st.integers(0, 6).filter(lambda n: n != 3))
def test_a_sharpness_for_other_maps_is_refused(pool: Callable[..., torch.Tensor], count: int) -> None:
    with pytest.raises(ValueError, match="r must be one number or one for each of 3 maps"):
        pool(random_maps(), torch.ones(count))


@of({k: v for k, v in ALL.items() if k not in ("average", "max", "attention")})
@given(shape=st.sampled_from([(3,), (1, 2, 0, 4), (2, 3, 4), (1, 1, 2, 2, 2)]))
def test_what_is_not_a_map_is_refused(pool: Pool, shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"maps must be \(N, C, h, w\) floating point"):
        pool(torch.zeros(shape))
    with pytest.raises(ValueError, match=r"maps must be \(N, C, h, w\) floating point"):
        pool(torch.zeros(1, 1, 2, 2, dtype=torch.int64))
