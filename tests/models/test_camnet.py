"""CamNet: the map is the classifier."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from cxrlocus.functional.evidence import pool_then_linear
from cxrlocus.functional.pooling import average_pool, lse_pool, max_pool, noisy_or_pool, pcam_pool
from cxrlocus.models.backbones import Backbone
from cxrlocus.models.camnet import CamNet
from cxrlocus.models.pools import POOLS


def net(pool: str = "average", **options: float | str) -> CamNet:
    torch.manual_seed(0)
    made = CamNet(Backbone("test_resnet"), 3, pool=pool, **options).eval()
    torch.manual_seed(1)
    torch.nn.init.normal_(made.weight)
    torch.nn.init.normal_(made.bias)
    return made


FILMS = torch.rand(2, 1, 96, 64, generator=torch.Generator().manual_seed(0))


def test_average_logits_are_the_maps_mean_and_the_bias() -> None:
    model = net()
    with torch.no_grad():
        out = model(FILMS)
    torch.testing.assert_close(out.logits, out.maps.mean((-2, -1)) + model.bias, rtol=1e-4, atol=1e-4)
    assert out.maps.shape == (2, 3, 3, 2)
    assert out.maps.flatten(1).std() > 0


@pytest.mark.parametrize(("pool", "function"), [("average", average_pool), ("max", max_pool), ("lse", lse_pool)])
def test_by_default_features_are_pooled(pool: str, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
    model = net(pool)
    with torch.no_grad():
        out = model(FILMS)
        expected = pool_then_linear(function(out.features), model.weight, model.bias)
    torch.testing.assert_close(out.logits, expected)


@pytest.mark.parametrize(
    ("pool", "scale", "function"), [("noisy_or", "probability", noisy_or_pool), ("pcam", "logit", pcam_pool)]
)
def test_the_map_with_its_bias_is_pooled(
    pool: str, scale: str, function: Callable[[torch.Tensor], torch.Tensor]
) -> None:
    model = net(pool, pool_on=scale)
    with torch.no_grad():
        out = model(FILMS)
        torch.testing.assert_close(out.logits, function(out.maps + model.bias[:, None, None]))


def test_an_average_of_logits_is_one_of_features() -> None:
    with torch.no_grad():
        torch.testing.assert_close(
            net(pool_on="logit")(FILMS).logits, net(pool_on="feature")(FILMS).logits, rtol=1e-4, atol=1e-4
        )


@pytest.mark.parametrize(("pool", "scale"), [(name, scale) for name, kind in POOLS.items() for scale in kind.on])
def test_a_film_of_equal_cells_starts_at_the_odds(pool: str, scale: str) -> None:
    model, odds = net(pool, pool_on=scale), torch.tensor([-3.0, -1.0, 0.5])
    torch.nn.init.zeros_(model.weight)
    model.start_at(odds, cells=6)
    with torch.no_grad():
        torch.testing.assert_close(model(FILMS).logits, odds.expand(2, 3))


def test_the_sharpness_of_lse_arrives() -> None:
    model = net("lse", lse_r=2.0)
    with torch.no_grad():
        out = model(FILMS)
        expected = pool_then_linear(lse_pool(out.features, 2.0), model.weight, model.bias)
    torch.testing.assert_close(out.logits, expected)


def test_maps_do_not_depend_on_the_pool() -> None:
    maps = []
    for pool, kind in POOLS.items():
        with torch.no_grad():
            maps.append(net(pool, pool_on=next(iter(kind.on)))(FILMS).maps)
    for other in maps[1:]:
        torch.testing.assert_close(other, maps[0])


def test_classify_is_the_logits_of_forward() -> None:
    model = net("max")
    with torch.no_grad():
        out = model(FILMS)
        assert torch.equal(model.classify(out.features), out.logits)
