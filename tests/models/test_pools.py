"""One contract over POOLS, on every scale that a pool knows; and what each does with its options."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cxrlocus.errors import ConfigError
from cxrlocus.functional.pooling import average_pool, average_probability_pool, lse_probability_pool
from cxrlocus.models.pools import POOLS, GatedAttention, Pool, PoolOptions, Sharpness, build_pool
from cxrlocus.training.fit import FitConfig, make_optimizer

EVERY = [(name, scale) for name, kind in POOLS.items() for scale in kind.on]
D, C = 6, 3


def made(name: str, scale: str, **options: object) -> Pool | GatedAttention:
    torch.manual_seed(0)
    pool = build_pool(PoolOptions(name, scale, **options), findings=C, channels=D)  # type: ignore[arg-type]
    return pool.double()


def maps(scale: str, size: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    """What is pooled, and the features beside it."""
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(2, D, 4, 5, generator=generator, dtype=torch.float64)
    logits = size * torch.randn(2, C, 4, 5, generator=generator, dtype=torch.float64)
    return (features if scale == "feature" else logits), features


every = pytest.mark.parametrize(("name", "scale"), EVERY)


@every
def test_gradients_reach_maps_features_and_parameters(name: str, scale: str) -> None:
    pool = made(name, scale, r0=2.0)
    x, features = (t.requires_grad_(True) for t in maps(scale))
    if isinstance(pool, GatedAttention):
        assert torch.autograd.gradcheck(pool, (x, features))
    else:
        assert torch.autograd.gradcheck(lambda m: pool(m, features), (x,))
    pool(x, features).sum().backward()
    for parameter in pool.parameters():
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


@every
def test_a_constant_map_pools_to_its_value_or_what_level_says(name: str, scale: str) -> None:
    pool, (_, features) = made(name, scale), maps(scale)
    # Noisy-OR of 20 cells of .9 is 1 - 1e-20: it is asked below.
    film = torch.tensor([-4.0, -0.5, 1.0], dtype=torch.float64)
    if scale == "feature":
        film = torch.linspace(-3, 3, D, dtype=torch.float64)
    cell = pool.level(film, 20)
    x = cell[None, :, None, None].expand(2, -1, 4, 5)
    torch.testing.assert_close(pool(x, features), film.expand(2, -1))


@every
def test_pools_stay_between_the_lowest_and_the_highest_cell(name: str, scale: str) -> None:
    pool, (x, features) = made(name, scale), maps(scale)
    pooled = pool(x, features)
    assert (pooled >= x.amin((-2, -1)) - 1e-9).all()
    assert name == "noisy_or" or (pooled <= x.amax((-2, -1)) + 1e-9).all()


@every
def test_pools_do_not_see_where_a_cell_is(name: str, scale: str) -> None:
    pool, (x, features) = made(name, scale), maps(scale)
    order = torch.randperm(20, generator=torch.Generator().manual_seed(2))
    moved = [t.flatten(-2)[..., order].reshape(t.shape) for t in (x, features)]
    torch.testing.assert_close(pool(*moved), pool(x, features))


@every
def test_films_are_pooled_apart(name: str, scale: str) -> None:
    pool, (x, features) = made(name, scale), maps(scale)
    torch.testing.assert_close(pool(x.flip(0), features.flip(0)), pool(x, features).flip(0))


@every
def test_every_pool_but_pcam_grows_with_every_cell(name: str, scale: str) -> None:
    pool, (x, features) = made(name, scale), maps(scale)
    (grad,) = torch.autograd.grad(pool(x.requires_grad_(True), features).sum(), x)
    assert (grad >= 0).all() == (name != "pcam")


@every
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_pool_is_finite_on_a_hard_map(name: str, scale: str, dtype: torch.dtype) -> None:
    pool = made(name, scale).float()
    x = torch.full((1, D if scale == "feature" else C, 96, 96), -90.0)
    x[..., 7, 9] = 90.0
    features = torch.ones(1, D, 96, 96)
    x = x.to(dtype).requires_grad_(True)
    pooled = pool(x, features).float()
    torch.nn.functional.binary_cross_entropy_with_logits(pooled, torch.zeros_like(pooled)).backward()
    assert torch.isfinite(pooled).all()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    for parameter in pool.parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()


def test_noisy_ors_level_is_the_share_of_a_cell() -> None:
    pool = made("noisy_or", "probability")
    film = torch.tensor([-6.0, 0.0, 4.0], dtype=torch.float64)
    cell = torch.sigmoid(pool.level(film, 4096))
    torch.testing.assert_close(1 - (1 - cell) ** 4096, torch.sigmoid(film))


def test_sharpness_is_its_formula() -> None:
    sharpness = Sharpness(5.0, 2)
    torch.nn.init.constant_(sharpness.beta, math.log(3.0))
    assert sharpness().tolist() == pytest.approx([8.0, 8.0])
    torch.nn.init.constant_(sharpness.beta, -60.0)
    assert sharpness().tolist() == [5.0, 5.0]
    assert Sharpness(0.0, 1)().shape == ()


def test_beta_is_shared_or_each_findings_own() -> None:
    x, features = maps("probability")
    shared, own = made("lse_lba", "probability", beta="shared"), made("lse_lba", "probability", r0=1.0)
    assert [p.shape for p in shared.parameters()] == [(1,)]
    assert [p.shape for p in own.parameters()] == [(C,)]
    torch.testing.assert_close(shared(x, features), lse_probability_pool(x, 1.0))
    torch.testing.assert_close(own(x, features), lse_probability_pool(x, 2.0))
    assert [p.shape for p in made("lse_lba", "feature").parameters()] == [(D,)]


@pytest.mark.parametrize("decay", [False, True])
def test_weight_decay_finds_beta_only_where_it_is_asked_to(decay: bool) -> None:
    pool = made("lse_lba", "probability", decay_beta=decay)
    optimizer = make_optimizer(pool, [], FitConfig(optimizer="adam", weight_decay=1e-5))
    assert [group["weight_decay"] for group in optimizer.param_groups] == [1e-5 if decay else 0.0]
    x, features = maps("probability")
    assert pool(x, features).shape == (2, C)


def test_the_options_of_fixed_pools_arrive() -> None:
    x, features = maps("probability")
    torch.testing.assert_close(
        made("lse", "probability", lse_r=2.0)(x, features), lse_probability_pool(x, 2.0)
    )  # fmt: skip
    torch.testing.assert_close(made("gm", "probability", gm_r=1.0)(x, features), average_probability_pool(x))


def test_gated_attention_is_ilses_formula() -> None:
    pool = made("gated_attention", "logit", attention=4)
    assert isinstance(pool, GatedAttention)
    x, features = maps("logit")
    h = features.flatten(-2)
    both = torch.einsum("ld,ndj->nlj", pool.gates.weight[..., 0, 0], h) + pool.gates.bias[:, None]  # type: ignore[index]
    e = torch.einsum("cl,nlj->ncj", pool.attend.weight[..., 0, 0], both[:, :4].tanh() * both[:, 4:].sigmoid())
    expected = (e.softmax(-1) * x.flatten(-2)).sum(-1)
    torch.testing.assert_close(pool(x, features), expected)
    torch.nn.init.zeros_(pool.attend.weight)
    torch.testing.assert_close(pool(x, features), average_pool(x))


def test_a_mean_of_logits_is_the_linear_heads_mean_of_features() -> None:
    # Why pcam and attention need no pooled features: sum_j a_j (w . h_j + b) = w . (sum_j a_j h_j) + b.
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.randn(C, D, generator=generator).double(), torch.randn(C, generator=generator).double()
    _, features = maps("logit")
    x = torch.einsum("cd,ndhw->nchw", weight, features) + bias[:, None, None]
    s = torch.sigmoid(x)
    pooled = torch.einsum("nchw,ndhw->ncd", s, features) / s.sum((-2, -1))[..., None]
    expected = (pooled * weight).sum(-1) + bias
    torch.testing.assert_close(made("pcam", "logit")(x, features), expected)


@given(
    option=st.sampled_from(["lse_r", "gm_r", "r0", "attention"]),
    value=st.one_of(st.floats(max_value=-1e-6), st.just(math.nan), st.just(-1.0)),
)
def test_numbers_out_of_range_are_named(option: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{option} must be"):
        PoolOptions(**{option: value})  # type: ignore[arg-type]


@given(name=st.text(max_size=12).filter(lambda t: t not in POOLS))
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="pool must be one of average, max"):
        PoolOptions(pool=name)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="pool_on must be one of feature, logit, probability"):
        PoolOptions(pool_on=name)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="beta must be"):
        PoolOptions(beta=name)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(POOLS))
def test_a_pool_says_where_it_can_be_put(name: str) -> None:
    for scale in {"feature", "logit", "probability"} - set(POOLS[name].on):
        with pytest.raises(ConfigError, match=rf"pool {name} is not defined on pool_on={scale}\. Set pool_on="):
            PoolOptions(name, scale)  # type: ignore[arg-type]
