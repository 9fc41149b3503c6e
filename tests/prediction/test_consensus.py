"""A consensus: what is averaged, what is refused, and a folder that a stop does not change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cxrlocus.errors import ConfigError, PredictionsError
from cxrlocus.prediction import consensus as module
from cxrlocus.prediction.consensus import (
    LEAST_PROB,
    Members,
    describe,
    join_members,
    join_predictions,
    mean_prob,
    write_consensus,
)
from cxrlocus.prediction.store import Predictions, read_predictions, write_predictions
from cxrlocus.regions.shares import share_scale
from cxrlocus.types import Findings
from stand_ins import made_up

NAMES = ["one", "other"]


def members(n: int = 3) -> Members:
    return join_predictions([made_up(n, seed=0), made_up(n, seed=1, method="yao2018")], NAMES)


def meta_of(of: Members, **more: object) -> dict[str, object]:
    told = {"scheme": "equal", "weights": [0.5, 0.5]}
    return {**describe(of, cells=8, scale="tail", weights=told, knows=""), **more}


def equal(of: Members) -> np.ndarray:
    return np.full((len(of.images), len(of.findings), len(of)), 1 / len(of))


def written(of: Members, out: Path, weights: np.ndarray | None = None, **more: object) -> Predictions:
    write_consensus(of, equal(of) if weights is None else weights, out, meta=meta_of(of, **more), cells=8)
    return read_predictions(out)


def test_probabilities_on_the_scale_of_log_odds() -> None:
    # logit(.9) = 2.1972, logit(.2) = -1.3863; (3 * 2.1972 - 1.3863) / 4 = 1.3013; sigmoid = .7861
    assert mean_prob(np.array([[0.9], [0.2]]), np.array([[3.0], [1.0]]))[0] == pytest.approx(0.7861, abs=1e-4)
    assert mean_prob(np.array([[0.9], [0.2]]), np.zeros((2, 1)))[0] == 0.5


@given(hnp.arrays(np.float64, (3, 2), elements=st.floats(0, 1)))
def test_mean_probabilities_stay_between_their_members(prob: np.ndarray) -> None:
    mean = mean_prob(prob, np.ones((3, 2)))
    held = np.clip(prob, LEAST_PROB, 1 - LEAST_PROB)
    assert (mean >= held.min(axis=0) - 1e-6).all()
    assert (mean <= held.max(axis=0) + 1e-6).all()
    assert mean_prob(1 - prob, np.ones((3, 2))) == pytest.approx(1 - mean, abs=1e-5)
    assert mean_prob(prob[::-1], np.ones((3, 2))) == pytest.approx(mean, abs=1e-6)


def test_one_member_alone_is_its_own_shares(tmp_path: Path) -> None:
    of = members()
    weights = np.zeros((3, 2, 2))
    weights[..., 1] = 1.0
    back = written(of, tmp_path / "out", weights)
    grid = module.on_unit_square(of.parts[1].maps[2, 0], of.parts[1].frames[2], (102, 80), 8)
    assert back.maps[2, 0] == pytest.approx(share_scale(grid), abs=1e-3)
    assert back.prob == pytest.approx(of.parts[1].prob, abs=1e-5)
    assert back.kind == "logit"
    assert back.frames[2].tolist() == [[102, 0, 0], [0, 80, 0]]


def test_the_unit_of_a_member_does_not_count(tmp_path: Path) -> None:
    one, other = made_up(seed=0), made_up(seed=1)
    louder = replace(other, maps=(4 * other.maps + 8).astype(np.float16), kind="mask")
    plain = written(join_predictions([one, other], NAMES), tmp_path / "a")
    loud = written(join_predictions([one, louder], NAMES), tmp_path / "b")
    # Halves are added within float16, so a few ties come and go.
    assert float(np.abs(plain.maps - loud.maps).mean()) < 0.01


def test_films_and_findings_are_matched_by_name(tmp_path: Path) -> None:
    one = made_up(4, seed=0)
    order = [2, 0, 3]
    other = replace(
        one, images=tuple(one.images[i] for i in order), findings=Findings(("Nodule", "Mass")),
        prob=one.prob[order][:, ::-1], maps=one.maps[order][:, ::-1], frames=one.frames[order], sizes=one.sizes[order],
    )  # fmt: skip
    of = join_predictions([one, other], NAMES)
    assert of.images == ("0.png", "2.png", "3.png")
    assert of.left_out == (("1.png", "in 1 of 2 members"),)
    back = written(of, tmp_path / "out")
    alone = written(join_predictions([one, made_up(4, seed=0)], NAMES), tmp_path / "alone")
    assert back.prob == pytest.approx(one.prob[[0, 2, 3]], abs=1e-5)
    assert np.array_equal(back.maps, alone.maps[[0, 2, 3]])
    assert back.meta["left_out"] == [["1.png", "in 1 of 2 members"]]


def test_a_member_without_a_map_has_no_say(tmp_path: Path) -> None:
    one, other = made_up(seed=0), made_up(seed=1)
    none = other.maps.copy()
    none[1, 0] = np.nan
    back = written(join_predictions([one, replace(other, maps=none)], NAMES), tmp_path / "out")
    first = np.zeros((3, 2, 2))
    first[..., 0] = 1.0
    alone = written(join_predictions([one, other], NAMES), tmp_path / "alone", first)
    assert np.array_equal(back.maps[1, 0], alone.maps[1, 0])
    none[1, 0, 0, 0] = 1.0
    with pytest.raises(PredictionsError, match=r"other: the map of 1\.png, Mass must be finite"):
        written(join_predictions([one, replace(other, maps=none)], NAMES), tmp_path / "bad")


def test_what_any_member_knew_the_consensus_knows() -> None:
    parts = [made_up(knows="boxes", leakage="", seed=1), made_up(knows="boxes", leakage="of RSNA", seed=2)]
    meta = describe(
        join_predictions(parts, NAMES), cells=8, scale="rank", weights={"scheme": "validation"}, knows="more boxes"
    )
    assert (meta["method"], meta["variant"]) == ("consensus", "validation")
    assert (meta["knows"], meta["leakage"]) == ("boxes; more boxes", "of RSNA")
    assert meta["members"][0]["content"] != meta["members"][1]["content"]


@pytest.mark.parametrize("stop_at", [2, 5])
def test_stopped_and_called_again_it_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop_at: int) -> None:
    of = members(7)
    whole = written(of, tmp_path / "whole")
    monkeypatch.setattr(module, "BATCH", 1)

    def stop(done: int, _: int) -> None:
        if done == stop_at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_consensus(of, equal(of), tmp_path / "out", meta=meta_of(of), cells=8, on_film=stop)
    assert not (tmp_path / "out" / "meta.json").exists()
    told: list[int] = []
    write_consensus(of, equal(of), tmp_path / "out", meta=meta_of(of), cells=8, on_film=lambda d, _: told.append(d))
    assert told == list(range(stop_at + 1, 8))
    back = read_predictions(tmp_path / "out")
    assert np.array_equal(back.maps, whole.maps)
    assert np.array_equal(back.prob, whole.prob)


def test_what_cannot_be_joined(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 1)):
        write_predictions(tmp_path / name, made_up(seed=seed))
    assert join_members([tmp_path / "a", tmp_path / "b"]).cells == 5
    with pytest.raises(ConfigError, match="at least two different"):
        join_members([tmp_path / "a"])
    with pytest.raises(ConfigError, match="at least two different"):
        join_members([tmp_path / "a", tmp_path / "b" / ".." / "a"])
    one = made_up()
    with pytest.raises(PredictionsError, match="one data set; got other, some"):
        join_predictions([one, made_up(dataset="other")], NAMES)
    with pytest.raises(PredictionsError, match="no finding is in all of one, other"):
        join_predictions([one, made_up(findings=("Edema",))], NAMES)
    with pytest.raises(PredictionsError, match="no film is in all"):
        join_predictions([one, replace(one, images=("x", "y", "z"))], NAMES)
    with pytest.raises(PredictionsError, match=r"other: 0\.png must have one size"):
        join_predictions([one, replace(one, sizes=one.sizes + 1)], NAMES)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    of = members()
    with pytest.raises(ConfigError, match="cells must be at least 1"):
        write_consensus(of, equal(of), tmp_path, meta=meta_of(of), cells=0)
    for weights in (-equal(of), equal(of)[:1], equal(of) * np.nan):
        with pytest.raises(ConfigError, match=r"weights must be \(3, 2, 2\)"):
            write_consensus(of, weights, tmp_path, meta=meta_of(of), cells=8)
