"""CamNet: the map is the classifier."""

from __future__ import annotations

import pytest
import torch

from cxrlocus.functional.evidence import pool_then_linear
from cxrlocus.functional.pooling import POOLS, lse_pool
from cxrlocus.models.backbones import Backbone
from cxrlocus.models.camnet import CamNet


def net(pool: str = "average", **options: float) -> CamNet:
    torch.manual_seed(0)
    made = CamNet(Backbone("test_resnet"), 3, pool=pool, **options).eval()
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


@pytest.mark.parametrize("pool", sorted(POOLS))
def test_every_pool_works_on_the_features(pool: str) -> None:
    model = net(pool)
    with torch.no_grad():
        out = model(FILMS)
        expected = pool_then_linear(POOLS[pool](out.features), model.weight, model.bias)
    torch.testing.assert_close(out.logits, expected)


def test_the_sharpness_of_lse_arrives() -> None:
    model = net("lse", lse_r=2.0)
    with torch.no_grad():
        out = model(FILMS)
        expected = pool_then_linear(lse_pool(out.features, 2.0), model.weight, model.bias)
    torch.testing.assert_close(out.logits, expected)


def test_maps_do_not_depend_on_the_pool() -> None:
    maps = []
    for pool in sorted(POOLS):
        with torch.no_grad():
            maps.append(net(pool)(FILMS).maps)
    for other in maps[1:]:
        torch.testing.assert_close(other, maps[0])


def test_classify_is_the_logits_of_forward() -> None:
    model = net("max")
    with torch.no_grad():
        out = model(FILMS)
        assert torch.equal(model.classify(out.features), out.logits)
