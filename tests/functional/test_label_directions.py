"""Label directions: least squares in closed form, each finding by itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cxrlocus.functional.evidence import label_directions


def films(n: int = 60, d: int = 5, c: int = 3, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(seed)
    pooled = torch.randn(n, d, generator=draw) * torch.arange(1.0, d + 1)
    target = (torch.rand(n, c, generator=draw) < 0.4).float()
    return pooled, target, torch.rand(n, c, generator=draw) < 0.8


def test_they_are_numpys_least_squares_of_the_known_labels() -> None:
    pooled, target, known = films()
    found = label_directions(pooled, target, known, ridge=1e-9).numpy()
    for c in range(3):
        there = known[:, c].numpy()
        design = np.column_stack([pooled.numpy()[there], np.ones(there.sum())])
        expected = np.linalg.lstsq(design, target[:, c].numpy()[there], rcond=None)[0][:-1]
        assert found[c] == pytest.approx(expected, abs=1e-5)


def test_a_label_that_never_changes_has_no_direction() -> None:
    pooled, target, known = films()
    target[:, 0], known[:, 1] = 1.0, False
    found = label_directions(pooled, target, known)
    assert found[0].abs().max() < 1e-6
    assert found[1].abs().max() == 0
    assert found[2].abs().max() > 1e-3


def test_dead_features_have_none_either() -> None:
    pooled, target, known = films()
    assert label_directions(torch.zeros_like(pooled), target, known).abs().max() == 0
    pooled[:, 2] = 7.0
    assert label_directions(pooled, target, known)[:, 2].abs().max() < 1e-6


@given(st.integers(0, 50), st.floats(-100, 100))
def test_they_do_not_ask_for_the_features_level_or_the_order_of_films(seed: int, shift: float) -> None:
    pooled, target, known = films(seed=seed)
    order = torch.randperm(len(pooled), generator=torch.Generator().manual_seed(seed))
    expected = label_directions(pooled, target, known)
    found = label_directions((pooled + shift)[order], target[order], known[order])
    assert torch.allclose(found, expected, atol=1e-4)


def test_they_are_differentiable() -> None:
    pooled, target, known = films(n=12, d=2, c=2)
    assert torch.autograd.gradcheck(
        lambda p: label_directions(p, target.double(), known), pooled.double().requires_grad_(), atol=1e-4
    )


@pytest.mark.parametrize("change", ["rows", "columns", "ridge"])
def test_what_does_not_fit_is_refused(change: str) -> None:
    pooled, target, known = films()
    given_ = {
        "rows": (pooled[:-1], target, known, 1e-3),
        "columns": (pooled, target, known[:, :1], 1e-3),
        "ridge": (pooled, target, known, 0.0),
    }[change]
    with pytest.raises(ValueError, match="must be"):
        label_directions(*given_)
