"""Disease masks: eq. 3 to 5 against plain loops, limits, invariances, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrlocus.functional.evidence import linear_evidence
from cxrlocus.functional.masks import attend, disease_mask, mirror, place_maps, stream_mean


def maps(n: int = 6, c: int = 2, seed: int = 0) -> torch.Tensor:
    return torch.randn(n, c, 4, 5, generator=torch.Generator().manual_seed(seed))


def test_place_maps_is_eq_3() -> None:
    given = maps()
    placed = place_maps(given, torch.tensor([True, False])).numpy()
    for n in range(6):
        for c, added in ((0, given[n, 0] + given[n, 0].fliplr()), (1, given[n, 1])):
            plain = added.numpy()
            expected = (plain - plain.min()) / (plain.max() - plain.min())
            np.testing.assert_allclose(placed[n, c], expected, rtol=1e-5, atol=1e-6)


def test_a_mirrored_map_is_symmetric_whichever_side_the_finding_is_on() -> None:
    both = torch.tensor([True, True])
    placed = place_maps(maps(), both)
    torch.testing.assert_close(placed, placed.flip(-1))
    torch.testing.assert_close(place_maps(maps().flip(-1), both), placed)
    one_sided = place_maps(maps(), torch.tensor([False, False]))
    assert not torch.allclose(one_sided, one_sided.flip(-1))


@pytest.mark.parametrize("offset", [0.0, -0.5, -0.484375, 0.25])
def test_a_mirror_shows_what_lies_as_far_on_the_other_side(offset: float) -> None:
    """A map that rises evenly across the film falls evenly in the mirror, wherever its cells look."""
    w = 8
    looks = (torch.arange(w) + 0.5 + offset) / w
    seen = mirror(looks.expand(1, 1, 3, w), offset)
    within = (1 - looks >= looks[0]) & (1 - looks <= looks[-1])
    torch.testing.assert_close(seen[0, 0, :, within], (1 - looks)[within].expand(3, -1))
    assert (seen <= looks[-1]).all()
    assert (seen >= looks[0]).all()


def test_mirrored_twice_a_map_is_itself_where_the_mirror_has_it() -> None:
    given = maps()
    assert torch.equal(mirror(mirror(given)), given)
    torch.testing.assert_close(mirror(mirror(given, -0.5), -0.5)[..., 1:], given[..., 1:])


def test_gradcheck_of_the_mirror() -> None:
    given = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda m: mirror(m, -0.3), given)


def test_level_and_height_of_a_map_do_not_count_and_a_constant_one_says_nothing() -> None:
    mirrored = torch.tensor([True, False])
    torch.testing.assert_close(place_maps(5 * maps() - 3, mirrored), place_maps(maps(), mirrored), rtol=0, atol=1e-5)
    assert (place_maps(torch.full((1, 2, 3, 3), 7.0), mirrored) == 0).all()


@settings(max_examples=25)
@given(sizes=st.lists(st.integers(0, 4), min_size=1, max_size=5), seed=st.integers(0, 99))
def test_a_streamed_mean_is_the_mean_of_the_chosen_maps_however_they_come(sizes: list[int], seed: int) -> None:
    total = sum(sizes)
    every, draw = maps(total, 3, seed), np.random.default_rng(seed)
    chosen = torch.from_numpy(draw.random((total, 3)) < 0.5)
    mean, count = torch.zeros(3, 4, 5, dtype=torch.float64), torch.zeros(3, dtype=torch.int64)
    start = 0
    for size in sizes:
        mean, count = stream_mean(mean, count, every[start : start + size], chosen[start : start + size])
        start += size
    assert count.tolist() == chosen.sum(0).tolist()
    for c in range(3):
        here = every[chosen[:, c], c].double()
        expected = here.mean(0) if len(here) else torch.zeros(4, 5, dtype=torch.float64)
        torch.testing.assert_close(mean[c], expected)


def test_t_keeps_what_is_above_and_its_values_or_ones() -> None:
    mean = torch.tensor([[[0.2, 0.4, 0.6, 1.0]]])
    assert disease_mask(mean, 0.5, rescale=False).flatten().tolist() == pytest.approx([0, 0, 0.6, 1])
    assert disease_mask(mean, 0.55).flatten().tolist() == pytest.approx([0, 0, 0, 1])
    assert disease_mask(mean, 0.45, "binary").flatten().tolist() == [0, 0, 1, 1]
    assert disease_mask(mean, 0.0, rescale=False).flatten().tolist() == pytest.approx(mean.flatten().tolist())
    # Strictly above: a cell at the threshold is out.
    assert disease_mask(torch.tensor([[[0.5, 1.0]]]), 0.5, rescale=False).flatten().tolist() == [0, 1]


def test_a_flat_mean_keeps_a_mask_only_if_it_is_rescaled() -> None:
    flat = 0.1 + 0.1 * torch.rand(2, 5, 5, generator=torch.Generator().manual_seed(0))
    assert (disease_mask(flat, rescale=False) == 0).all()
    assert 0 < (disease_mask(flat) > 0).float().mean() < 1
    assert (disease_mask(torch.zeros(1, 3, 3)) == 0).all()


def test_masks_shrink_as_the_threshold_grows() -> None:
    mean = torch.rand(3, 6, 6, generator=torch.Generator().manual_seed(1))
    areas = [(disease_mask(mean, t) > 0).sum().item() for t in (0.0, 0.25, 0.5, 0.75)]
    assert areas == sorted(areas, reverse=True)
    assert areas[0] > areas[-1]


def test_attention_on_evidence_is_attention_on_features() -> None:
    draw = torch.Generator().manual_seed(0)
    features = torch.randn(2, 7, 4, 5, generator=draw, dtype=torch.float64)
    weight = torch.randn(3, 7, generator=draw, dtype=torch.float64)
    masks = torch.rand(3, 4, 5, generator=draw, dtype=torch.float64)
    gated = attend(linear_evidence(features, weight), masks)
    for c in range(3):
        guided = masks[c] * features + features
        torch.testing.assert_close(gated[:, c], (weight[c][:, None, None] * guided).sum(1))
    torch.testing.assert_close(attend(gated, torch.zeros(3, 4, 5)), gated)
    torch.testing.assert_close(attend(gated, torch.ones(3, 4, 5)), 2 * gated)


def test_gradients_are_those_of_differences() -> None:
    draw = torch.Generator().manual_seed(2)
    evidence = torch.randn(2, 3, 3, 4, generator=draw, dtype=torch.float64, requires_grad=True)
    masks = torch.rand(3, 3, 4, generator=draw, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda e: attend(e, masks), evidence)


@settings(max_examples=25)
@given(shape=st.lists(st.integers(0, 3), min_size=0, max_size=4))
def test_other_shapes_are_refused(shape: list[int]) -> None:
    given = torch.zeros(shape)
    with pytest.raises(ValueError, match="mirrored"):
        place_maps(torch.zeros(2, 5, 3, 3), given > 0)
    with pytest.raises(ValueError, match="masks"):
        attend(torch.zeros(2, 5, 3, 3), given)
    with pytest.raises(ValueError, match="chosen"):
        stream_mean(torch.zeros(5, 3, 3), torch.zeros(5), torch.zeros(2, 5, 3, 3), given > 0)
    if given.ndim != 3:
        with pytest.raises(ValueError, match="mean must be"):
            disease_mask(given)


def test_thresholds_and_names_outside_their_range_are_refused() -> None:
    for threshold in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="threshold in"):
            disease_mask(torch.zeros(1, 2, 2), threshold)
    with pytest.raises(ValueError, match="keep must be one of"):
        disease_mask(torch.zeros(1, 2, 2), keep="hard")
    with pytest.raises(ValueError, match="bool"):
        place_maps(torch.zeros(1, 2, 3, 3), torch.zeros(2))
