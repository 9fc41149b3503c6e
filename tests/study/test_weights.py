"""Weights of a consensus: the members that serve other patients' boxes best, and nobody's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrlocus.data.records import Index, Record, TruthBox
from cxrlocus.data.splits import kfold_of_patients
from cxrlocus.errors import ConfigError, DataError
from cxrlocus.prediction.consensus import Members, join_predictions
from cxrlocus.prediction.store import Predictions
from cxrlocus.study.weights import candidates, chosen_weights, fixed_weights
from cxrlocus.types import Findings, Frame

SIZE, FILMS = 64, 12
FINDINGS = Findings(("Mass", "Nodule"))


def world(seed: int = 0) -> tuple[Index, np.ndarray]:
    """Films with a Mass of 16 px each, and maps (N, 1, 16, 16) that are 1 on it."""
    rng, records, maps = np.random.default_rng(seed), [], np.zeros((FILMS, 1, 16, 16), np.float32)
    for i in range(FILMS):
        x, y = (int(v) for v in rng.integers(0, 12, 2))
        box = TruthBox("Mass", (4.0 * x, 4.0 * y, 4.0 * x + 16, 4.0 * y + 16))
        records.append(Record(f"{i}.png", Path(f"{i}.png"), f"p{i}", "test", frozenset({"Mass"}), boxes=(box,)))
        maps[i, 0, y : y + 4, x : x + 4] = 1.0
    return Index("toy", Path("toy"), FINDINGS, tuple(records)), maps


def said(mass: np.ndarray) -> Predictions:
    noise = np.random.default_rng(9).random(mass.shape).astype(np.float32)
    images = tuple(f"{i}.png" for i in range(FILMS))
    frames, sizes = np.tile(Frame.of_size(SIZE, SIZE).matrix, (FILMS, 1, 1)), np.full((FILMS, 2), SIZE)
    meta, prob = {"method": "m", "variant": "", "dataset": "toy"}, np.full((FILMS, 2), 0.5, np.float32)
    return Predictions(meta, images, FINDINGS, prob, np.concatenate([mass, noise], axis=1), frames, sizes, "logit")


def members_of(*masses: np.ndarray) -> Members:
    return join_predictions([said(m) for m in masses], [f"m{k}" for k in range(len(masses))])


def elsewhere(maps: np.ndarray) -> np.ndarray:
    return np.asarray(np.roll(maps, 8, axis=(2, 3)))


@pytest.mark.parametrize("policy", ["validation", "oracle"])
def test_the_member_that_sees_is_chosen(policy: str) -> None:
    index, maps = world()
    weights = chosen_weights(members_of(elsewhere(maps), 3 * maps), index, policy, cells=16, scale="tail")  # type: ignore[arg-type]  # parametrized
    assert weights.values[:, 0].tolist() == [[0.0, 1.0]] * FILMS
    # Nobody has a box of Nodule.
    assert weights.values[:, 1].tolist() == [[0.5, 0.5]] * FILMS
    assert weights.told["boxes"] == FILMS
    assert weights.told["scheme"] == policy
    assert "boxes" in weights.knows


def test_a_tie_leaves_all_in() -> None:
    index, maps = world()
    weights = chosen_weights(members_of(maps, 2 * maps), index, "validation", cells=16, scale="tail")
    assert (weights.values == 0.5).all()


def test_a_films_own_half_has_no_part_in_its_weights() -> None:
    """Which member sees is another in each half: validation takes the one that the other half saw with."""
    index, maps = world()
    fold = kfold_of_patients(index.patients, 2, seed=0)
    one, other = elsewhere(maps), elsewhere(maps)
    one[fold == 0], other[fold == 1] = maps[fold == 0], maps[fold == 1]
    weights = chosen_weights(members_of(one, other), index, "validation", cells=16, scale="tail").values[:, 0]
    assert weights[fold == 0].tolist() == [[0.0, 1.0]] * int((fold == 0).sum())
    assert weights[fold == 1].tolist() == [[1.0, 0.0]] * int((fold == 1).sum())
    # Moving a half's boxes cannot change its own weights.
    moved = Index("toy", Path("toy"), FINDINGS, tuple(
        Record(r.image, r.path, r.patient, r.split, r.positive, boxes=(TruthBox("Mass", (0.0, 0.0, 5.0, 60.0)),))
        if fold[i] == 0 else r for i, r in enumerate(index.records)
    ))  # fmt: skip
    again = chosen_weights(members_of(one, other), moved, "validation", cells=16, scale="tail").values[:, 0]
    assert again[fold == 0].tolist() == weights[fold == 0].tolist()


def test_without_boxes_there_is_nothing_to_choose_by() -> None:
    index, maps = world()
    bare = Index("toy", Path("toy"), FINDINGS, tuple(Record(r.image, r.path, r.patient) for r in index.records))
    with pytest.raises(DataError, match="no predicted film has a box of Mass, Nodule"):
        chosen_weights(members_of(maps, maps), bare, "validation", cells=16, scale="tail")


@given(st.integers(1, 8))
def test_candidates_are_distinct_and_whole_first(k: int) -> None:
    rows = candidates(k)
    assert rows[0].tolist() == [1 / k] * k
    assert rows.sum(axis=1) == pytest.approx(1.0)
    assert len({tuple(row) for row in rows.tolist()}) == len(rows)
    assert len(rows) == (2**k - 1 if k <= 5 else 2 * k + 1)


def test_given_weights_are_shares() -> None:
    _, maps = world()
    of = members_of(maps, maps)
    assert fixed_weights(of).values[3, 1].tolist() == [0.5, 0.5]
    assert fixed_weights(of, [3, 1]).values[3, 1].tolist() == [0.75, 0.25]
    for bad in ([1.0], [0.0, 0.0], [1.0, -1.0], [1.0, float("nan")]):
        with pytest.raises(ConfigError, match="weights must be 2 numbers"):
            fixed_weights(of, bad)
