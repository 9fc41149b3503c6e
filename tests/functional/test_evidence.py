"""Evidence maps: the classifier's own sum, cell by cell."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cxrlocus.functional.evidence import linear_evidence, pool_then_linear
from cxrlocus.functional.pooling import average_pool


def parts(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    shapes = ((2, 6, 3, 4), (5, 6), (5,))
    features, weight, bias = (torch.randn(s, generator=draw, dtype=torch.float64) for s in shapes)
    return features, weight, bias


def test_evidence_is_the_sum_over_channels() -> None:
    features, weight, _ = parts()
    plain = torch.zeros(2, 5, 3, 4, dtype=torch.float64)
    for c in range(5):
        for d in range(6):
            plain[:, c] += weight[c, d] * features[:, d]
    torch.testing.assert_close(linear_evidence(features, weight), plain)


def test_logits_are_the_mean_of_the_evidence_and_the_bias() -> None:
    features, weight, bias = parts()
    logits = pool_then_linear(average_pool(features), weight, bias)
    torch.testing.assert_close(average_pool(linear_evidence(features, weight)) + bias, logits)


def test_a_zero_weight_says_nothing() -> None:
    features, weight, _ = parts()
    weight[2] = 0.0
    assert (linear_evidence(features, weight)[:, 2] == 0).all()


def test_evidence_is_linear_and_moves_with_its_cells() -> None:
    features, weight, _ = parts()
    maps = linear_evidence(features, weight)
    torch.testing.assert_close(linear_evidence(2 * features, weight), 2 * maps)
    torch.testing.assert_close(linear_evidence(features.flip(-1), weight), maps.flip(-1))
    torch.testing.assert_close(linear_evidence(features, weight.flip(0)), maps.flip(1))


def test_evidence_gradients() -> None:
    features, weight, bias = (p.requires_grad_(True) for p in parts())
    assert torch.autograd.gradcheck(linear_evidence, (features, weight))
    assert torch.autograd.gradcheck(lambda f, w, b: pool_then_linear(average_pool(f), w, b), (features, weight, bias))


def test_evidence_of_bfloat16_features_takes_their_type() -> None:
    features, weight, bias = parts()
    assert linear_evidence(features.bfloat16(), weight).dtype == torch.bfloat16
    with torch.autocast("cpu", torch.bfloat16):
        assert average_pool(features.bfloat16()).dtype == torch.float32
        assert pool_then_linear(average_pool(features).bfloat16(), weight, bias).dtype == torch.float32


@given(st.lists(st.integers(1, 3), min_size=0, max_size=5), st.lists(st.integers(1, 3), min_size=0, max_size=4))
def test_evidence_refuses_shapes_that_do_not_fit(features: list[int], weight: list[int]) -> None:
    if len(features) == 4 and len(weight) == 2 and features[1] == weight[1]:
        expected = (features[0], weight[0], *features[2:])
        assert linear_evidence(torch.ones(features), torch.ones(weight)).shape == expected
        return
    with pytest.raises(ValueError, match="features must be"):
        linear_evidence(torch.ones(features), torch.ones(weight))
