"""Attention mining: regions against scipy's labels, erasing to the letter of the paper, and eq. 8."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage

from cxrlocus.functional.evidence import linear_evidence
from cxrlocus.functional.mining import (
    Mined,
    erase_step,
    erased_evidence,
    erased_logits,
    final_map,
    flood,
    mine_maps,
    peak_component,
    steps_found,
    unit_scale,
)

CROSS = {8: np.ones((3, 3), dtype=int), 4: np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])}
scales = pytest.mark.parametrize("scale", ["minmax", "relu"])
connectivities = pytest.mark.parametrize("connectivity", [4, 8])


def maps(*shape: int, seed: int = 0, shift: float = 0.0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def everywhere(evidence: torch.Tensor) -> torch.Tensor:
    return torch.ones_like(evidence, dtype=torch.bool)


def plain_erase(
    evidence: NDArray[np.float64], open_cells: NDArray[np.bool_], threshold: float, scale: str, connectivity: int
) -> NDArray[np.bool_]:
    """One step for one map, read from the paper once more with scipy's labels."""
    if not open_cells.any():
        return open_cells
    values = evidence[open_cells]
    low, high = (values.min() if scale == "minmax" else 0.0), values.max()
    if high <= low:
        return open_cells
    above = open_cells & ((evidence - low) / (high - low) > threshold)
    labels, _ = ndimage.label(above, CROSS[connectivity])
    peak = np.unravel_index(np.where(open_cells, evidence, -np.inf).argmax(), evidence.shape)
    return np.asarray(open_cells & (labels != labels[peak]))


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    threshold=st.sampled_from([0.0, 0.3, 0.5, 0.8]),
    scale=st.sampled_from(["minmax", "relu"]),
    connectivity=st.sampled_from([4, 8]),
    shift=st.sampled_from([-5.0, 0.0, 5.0]),
    steps=st.integers(1, 5),
)
def test_steps_are_those_of_scipys_labels_map_by_map(
    seed: int, size: tuple[int, int], threshold: float, scale: str, connectivity: int, shift: float, steps: int
) -> None:
    evidence = maps(2, 3, *size, seed=seed, shift=shift)
    options = {"threshold": threshold, "scale": scale, "connectivity": connectivity}
    mined = mine_maps([evidence] * steps, **options)  # type: ignore[arg-type]  # three types in one dict
    for n in range(2):
        for c in range(3):
            open_cells, values = np.ones(size, dtype=np.bool_), evidence[n, c].numpy()
            for t in range(steps):
                assert np.array_equal(mined.maps[t, n, c].numpy(), np.where(open_cells, values, 0.0))
                open_cells = plain_erase(values, open_cells, threshold, scale, connectivity)
                assert np.array_equal(mined.open[t + 1, n, c].numpy(), open_cells)


@settings(max_examples=40)
@given(seed=st.integers(0, 10_000), share=st.floats(0.3, 0.8), connectivity=st.sampled_from([4, 8]))
def test_a_flood_is_the_labels_that_hold_a_seed(seed: int, share: float, connectivity: int) -> None:
    draw = np.random.default_rng(seed)
    cells, seeds = draw.random((3, 12, 17)) < share, draw.random((3, 12, 17)) < 0.03
    got = flood(torch.from_numpy(seeds), torch.from_numpy(cells), connectivity).numpy()
    for k in range(3):
        labels, _ = ndimage.label(cells[k], CROSS[connectivity])
        held = np.unique(labels[seeds[k] & cells[k]])
        assert np.array_equal(got[k], np.isin(labels, held))


def test_a_flood_follows_a_spiral_to_its_end() -> None:
    # A path of one cell's width through the whole grid: the longest way there is.
    cells = torch.ones(15, 15, dtype=torch.bool)
    cells[1::2] = False
    for row in range(1, 15, 2):
        cells[row, 14 if row % 4 == 1 else 0] = True
    seeds = torch.zeros_like(cells)
    seeds[0, 0] = True
    assert torch.equal(flood(seeds, cells, 4), cells)


def test_a_step_by_hand() -> None:
    # By hand: the peak 9 with 6 and 5 beside it is above half of 0 to 9; 8 touches only 4, which is not.
    evidence = torch.tensor([[[[9.0, 6.0, 4.0, 8.0], [5.0, 0.0, 4.0, 4.0], [1.0, 1.0, 1.0, 1.0]]]])
    expected = torch.tensor([[[[1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]]]).bool()
    assert torch.equal(peak_component(evidence, everywhere(evidence)), expected)
    assert torch.equal(erase_step(evidence, everywhere(evidence)), ~expected)


def test_corners_connect_with_8_and_not_with_4() -> None:
    evidence = torch.tensor([[[[9.0, 0.0], [0.0, 8.0]]]])
    assert int(peak_component(evidence, everywhere(evidence), connectivity=8).sum()) == 2
    assert int(peak_component(evidence, everywhere(evidence), connectivity=4).sum()) == 1


@scales
def test_the_peak_is_never_an_erased_cell(scale: str) -> None:
    # All evidence is negative: an erased cell, 0 in eq. 7, would be the greatest value of the map and stop the mining.
    evidence = maps(1, 1, 6, 6, shift=-20.0)
    mined = mine_maps([evidence] * 4, scale=scale)
    erased = [int((~one).sum()) for one in mined.open]
    if scale == "minmax":
        assert all(before < after for before, after in pairwise(erased))
    else:
        assert erased == [0] * 5, "relu: evidence that is nowhere positive names no region"


@scales
def test_masks_only_ever_close(scale: str) -> None:
    mined = mine_maps([maps(2, 2, 7, 7, seed=s) for s in range(4)], scale=scale)
    for before, after in pairwise(mined.open):
        assert not (after & ~before).any()


def test_maps_that_say_nothing_lose_nothing() -> None:
    flat, wide_open = torch.full((1, 1, 3, 3), 2.0), torch.ones(1, 1, 3, 3, dtype=torch.bool)
    assert torch.equal(erase_step(flat, wide_open), wide_open)
    assert torch.equal(erase_step(-flat, wide_open, scale="relu"), wide_open)
    closed = ~wide_open
    assert torch.equal(erase_step(maps(1, 1, 3, 3), closed), closed)
    assert float(unit_scale(maps(1, 1, 3, 3), closed).abs().max()) == 0.0


def test_a_single_cell_is_its_own_range() -> None:
    evidence = torch.tensor([[[[3.0]]]])
    assert bool(erase_step(evidence, everywhere(evidence)).all()), "minmax: constant, nothing stands out"
    assert not bool(erase_step(evidence, everywhere(evidence), scale="relu").any())


@scales
def test_the_scale_does_not_know_units(scale: str) -> None:
    evidence = maps(2, 2, 5, 5)
    moved = evidence * 7.0 + (11.0 if scale == "minmax" else 0.0)
    torch.testing.assert_close(
        unit_scale(moved, everywhere(moved), scale), unit_scale(evidence, everywhere(evidence), scale)
    )
    assert torch.equal(
        erase_step(moved, everywhere(moved), scale=scale), erase_step(evidence, everywhere(evidence), scale=scale)
    )


@connectivities
def test_erasing_moves_with_the_map(connectivity: int) -> None:
    evidence = maps(2, 2, 6, 5)
    for turn in (lambda m: m.flip(-1), lambda m: m.flip(-2), lambda m: m.transpose(-1, -2)):
        turned = turn(evidence)
        assert torch.equal(
            erase_step(turned, everywhere(turned), connectivity=connectivity),
            turn(erase_step(evidence, everywhere(evidence), connectivity=connectivity)),
        )


def test_findings_and_films_do_not_see_each_other() -> None:
    evidence = maps(3, 4, 6, 6)
    alone = [[erase_step(m[None, None], everywhere(m[None, None])) for m in film] for film in evidence]
    together = erase_step(evidence, everywhere(evidence))
    assert torch.equal(together, torch.cat([torch.cat(film, dim=1) for film in alone]))


def test_gated_evidence_is_erased_features_through_the_head() -> None:
    # Equations 1, 2 and 7 to the letter: a copy of the features for each finding, which the code never makes.
    features, weight, bias = maps(2, 6, 4, 5), maps(3, 6, seed=1), maps(3, seed=2)
    open_cells = maps(2, 3, 4, 5, seed=3) > 0
    copies = features[:, None] * open_cells[:, :, None]
    evidence = linear_evidence(features, weight)
    torch.testing.assert_close(erased_evidence(evidence, open_cells), torch.einsum("ncdhw,cd->nchw", copies, weight))
    logits = torch.einsum("ncd,cd->nc", copies.mean(dim=(-2, -1)), weight) + bias
    torch.testing.assert_close(erased_logits(evidence, open_cells, bias), logits)


def test_gradients_reach_the_open_cells_only() -> None:
    evidence, open_cells = maps(2, 2, 3, 3).requires_grad_(), maps(2, 2, 3, 3, seed=1) > 0
    bias = maps(2).requires_grad_()
    assert torch.autograd.gradcheck(lambda e, b: erased_logits(e, open_cells, b), (evidence, bias))
    assert torch.autograd.gradcheck(lambda e: erased_evidence(e, open_cells), (evidence,))
    (gradient,) = torch.autograd.grad(erased_logits(evidence, open_cells, bias).sum(), evidence)
    assert torch.equal(gradient != 0, open_cells)


def literal_equation_8(mined: Mined) -> torch.Tensor:
    steps = len(mined.maps)
    total = torch.zeros_like(mined.maps[0])
    for t in range(1, steps + 1):
        total += mined.maps[t - 1]
        for earlier in range(1, t):
            total += mined.maps[earlier - 1] * (~mined.open[earlier])
    return total / steps


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_the_final_map_is_equation_8(steps: int) -> None:
    mined = mine_maps([maps(2, 3, 5, 6, seed=s) for s in range(steps)])
    torch.testing.assert_close(final_map(mined), literal_equation_8(mined))


def test_the_final_map_fills_a_cell_in_from_the_step_that_erased_it() -> None:
    # By hand: cell 0 is erased at step 1 (value 4), cell 1 at step 2 (value 3), cells 2 and 3 never.
    evidence = [torch.tensor([[[[4.0, 1.0, 0.0, 0.5]]]]), torch.tensor([[[[9.0, 3.0, 0.0, 1.0]]]])]
    evidence.append(torch.tensor([[[[9.0, 9.0, -3.0, 1.5]]]]))
    got = final_map(mine_maps(evidence))
    torch.testing.assert_close(got, torch.tensor([[[[4.0, (1.0 + 3.0 + 3.0) / 3, -1.0, 1.0]]]]))


@pytest.mark.parametrize("steps", [1, 2, 3, 6])
@scales
def test_one_network_for_all_steps_gives_its_evidence_back(steps: int, scale: str) -> None:
    evidence = maps(2, 3, 6, 6)
    torch.testing.assert_close(final_map(mine_maps([evidence] * steps, scale=scale)), evidence)


def test_maps_scaled_one_by_one_raise_what_later_steps_found() -> None:
    evidence = torch.tensor([[[[0.0, 4.0, 0.0, 2.0]]]])
    mined = mine_maps([evidence] * 2)
    scaled = torch.stack([unit_scale(h, m) for h, m in zip(mined.maps, mined.open[:-1], strict=True)])
    torch.testing.assert_close(final_map(Mined(scaled, mined.open)), torch.tensor([[[[0.0, 1.0, 0.0, 0.75]]]]))


def test_a_cells_step_is_the_one_that_erased_it() -> None:
    evidence = torch.tensor([[[[9.0, 0.0, 7.0, 0.0, 5.0, 0.0]]]])
    assert steps_found(mine_maps([evidence] * 3).open).tolist() == [[[[1, 1, 2, 1, 3, 1]]]]
    assert steps_found(mine_maps([evidence]).open).tolist() == [[[[1] * 6]]]


bad_shapes = st.lists(st.integers(1, 3), min_size=1, max_size=5).filter(lambda s: len(s) != 4)


@given(shape=bad_shapes)
def test_maps_of_other_shapes_are_refused(shape: list[int]) -> None:
    wrong = torch.zeros(shape)
    for function in (erased_evidence, unit_scale, peak_component, erase_step):
        with pytest.raises(ValueError, match=r"must be \(N, C, h, w\)"):
            function(wrong, torch.ones(shape, dtype=torch.bool))


@given(threshold=st.floats().filter(lambda t: not 0 <= t < 1))
def test_thresholds_outside_the_scale_are_refused(threshold: float) -> None:
    evidence = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match=r"threshold must be in \[0, 1\)"):
        peak_component(evidence, everywhere(evidence), threshold=threshold)


def test_other_arguments_that_are_off_are_refused() -> None:
    evidence = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match="the latter bool"):
        erased_evidence(evidence, torch.ones(1, 1, 2, 2))
    with pytest.raises(ValueError, match="scale must be one of minmax, relu; got 'x'"):
        unit_scale(evidence, everywhere(evidence), "x")
    with pytest.raises(ValueError, match="connectivity must be 4 or 8; got 6"):
        erase_step(evidence, everywhere(evidence), connectivity=6)
    with pytest.raises(ValueError, match="bool of one shape"):
        flood(torch.zeros(2, 2), torch.ones(2, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="at least 1 step"):
        mine_maps([])
    with pytest.raises(ValueError, match="at least 1 step"):
        steps_found(everywhere(evidence)[None])
    with pytest.raises(ValueError, match=r"\(T, N, C, h, w\) and open cells \(T \+ 1"):
        final_map(Mined(evidence[None], everywhere(evidence)[None]))
