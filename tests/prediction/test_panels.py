"""Panels: which films, how coarse, whose they are; and that predicting them is as safe as predicting without."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cxrlocus.data.cache import Films, open_films
from cxrlocus.errors import PredictionsError
from cxrlocus.prediction.panels import (
    CELLS,
    FILE,
    FILMS,
    Panels,
    Shows,
    choose_pairs,
    coarse,
    read_panels,
    write_panels,
)
from cxrlocus.prediction.predict import predict
from cxrlocus.prediction.store import PredictionsWriter, read_predictions
from cxrlocus.types import Findings
from stand_ins import SeesBrightness

META = {"method": "bright", "variant": "", "dataset": "some", "weights": {"base": "c0ffee"}, "sizes": (1, 2)}
NAMES = [f"{i}.png" for i in range(8)]
BOXED = [(name, "Mass") for name in NAMES[1:]] + [("0.png", "Nodule"), ("3.png", "Gout")]


class ShowsItself(SeesBrightness):
    """Panels: the film, and its negative beyond what float16 holds."""

    def __init__(self) -> None:
        super().__init__(findings=("Mass", "Nodule"))
        self.shown = 0

    def panels(self, images: torch.Tensor) -> Mapping[str, np.ndarray]:
        self.shown += 1
        film = images.expand(-1, 2, -1, -1).numpy() * np.array([1, 2], np.float32)[:, None, None]
        return {"film": film, "much less": -1e9 * film}


@pytest.fixture
def films(tmp_path: Path) -> Films:
    """Eight films, each of one grey; the sixth cannot be read."""
    for i, name in enumerate(NAMES):
        cv2.imwrite(str(tmp_path / name), np.full((40, 40), 10 * i + 5, np.uint8))
    (tmp_path / "5.png").write_text("no film", encoding="utf-8")
    return open_films([tmp_path / name for name in NAMES], size=64, folder=tmp_path / "cache")


def predicted(localizer: SeesBrightness, films: Films, out: Path, **options: object) -> Panels | None:
    predict(localizer, films, NAMES, out, meta=META, batch_size=3, **{"boxed": BOXED, **options})  # type: ignore[arg-type]  # options
    return read_panels(out, read_predictions(out).meta)


def test_a_few_boxed_films_are_kept_with_what_the_localizer_shows(films: Films, tmp_path: Path) -> None:
    localizer = ShowsItself()
    assert isinstance(localizer, Shows)
    assert not isinstance(SeesBrightness(), Shows)
    kept = predicted(localizer, films, tmp_path / "p")
    assert kept is not None
    # Of Mass' six readable films the first, the last, and two evenly between; a finding nobody asked for is none.
    assert list(zip(kept.images, kept.findings, strict=True)) == [
        ("1.png", "Mass"), ("3.png", "Mass"), ("4.png", "Mass"), ("7.png", "Mass"), ("0.png", "Nodule"),
    ]  # fmt: skip
    assert kept.names == ("film", "much less")
    greys = [15 / 255, 35 / 255, 45 / 255, 75 / 255, 2 * 5 / 255]
    np.testing.assert_allclose(kept.values[:, 0, 32, 32], greys, rtol=1e-3)
    assert (kept.values[:, 1, 32, 32] == -65504).all()
    assert localizer.shown == 5


def test_nothing_is_written_where_nothing_is_shown_and_what_was_there_goes(films: Films, tmp_path: Path) -> None:
    assert predicted(SeesBrightness(), films, tmp_path / "p") is None
    assert predicted(ShowsItself(), films, tmp_path / "p", boxed=()) is None
    assert not (tmp_path / "p" / FILE).exists()
    assert predicted(ShowsItself(), films, tmp_path / "p") is not None
    assert predicted(SeesBrightness(), films, tmp_path / "p") is None
    assert not (tmp_path / "p" / FILE).exists()


def test_panels_change_nothing_else_in_the_folder(films: Films, tmp_path: Path) -> None:
    predicted(ShowsItself(), films, tmp_path / "with")
    predicted(ShowsItself(), films, tmp_path / "without", boxed=())
    files = {p.name: p.read_bytes() for p in (tmp_path / "without").iterdir()}
    assert {p.name: p.read_bytes() for p in (tmp_path / "with").iterdir() if p.name != FILE} == files


@pytest.mark.parametrize("stop", ["films", "panels", "finish"])
def test_a_stopped_prediction_goes_on_to_the_same_panels(
    films: Films, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stop: str
) -> None:
    whole = predicted(ShowsItself(), films, tmp_path / "whole")

    def stops(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    where = {"films": (PredictionsWriter, "append"), "panels": (ShowsItself, "panels"),
             "finish": (PredictionsWriter, "finish")}  # fmt: skip
    with monkeypatch.context() as stopped:
        stopped.setattr(*where[stop], stops)
        with pytest.raises(KeyboardInterrupt):
            predicted(ShowsItself(), films, tmp_path / "p")
    again = ShowsItself()
    kept = predicted(again, films, tmp_path / "p")
    assert kept is not None
    assert whole is not None
    np.testing.assert_array_equal(kept.values, whole.values)
    assert (kept.images, kept.findings, kept.names) == (whole.images, whole.findings, whole.names)
    # Where all films were done, one batch tells how many, and no film is looked at twice.
    assert again.calls == (3 if stop == "films" else 1)
    assert sorted(p.name for p in (tmp_path / "p").iterdir()) == sorted(p.name for p in (tmp_path / "whole").iterdir())


def test_older_predictions_do_not_take_the_panels_of_newer_ones(
    films: Films, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    predicted(SeesBrightness(), films, tmp_path / "p")

    def stops(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as stopped:
        stopped.setattr(PredictionsWriter, "finish", stops)
        with pytest.raises(KeyboardInterrupt):
            predict(ShowsItself(), films, NAMES, tmp_path / "p", meta={**META, "seed": 1}, boxed=BOXED)
    assert (tmp_path / "p" / FILE).is_file()
    assert read_panels(tmp_path / "p", read_predictions(tmp_path / "p").meta) is None


def test_a_full_disk_is_told_and_the_same_call_goes_on(
    films: Films, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as stopped:
        stopped.setattr(np, "savez_compressed", full)
        with pytest.raises(PredictionsError, match=r"panels\.npz: cannot be written \(No space left"):
            predicted(ShowsItself(), films, tmp_path / "p")
    again = ShowsItself()
    assert predicted(again, films, tmp_path / "p") is not None
    assert again.calls == 1


@given(st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["Mass", "Nodule", "Gout"])), max_size=60))
def test_the_choice_is_of_boxed_films_of_known_findings_whatever_their_order(pairs: list[tuple[int, str]]) -> None:
    boxed = [(f"{k:02d}.png", finding) for k, finding in pairs]
    there, findings = [f"{k:02d}.png" for k in range(0, 31, 2)], Findings(("Mass", "Nodule"))
    chosen = choose_pairs(boxed, there, findings)
    assert chosen == choose_pairs(boxed[::-1] * 2, there, findings)
    assert len(set(chosen)) == len(chosen)
    for finding in findings:
        mine, known = ([i for i, f in some if f == finding] for some in (chosen, boxed))
        known = sorted(set(known) & set(there))
        assert set(mine) <= set(known)
        assert len(mine) == min(FILMS, len(known))
        if len(known) > 1:
            assert {mine[0], mine[-1]} == {known[0], known[-1]}


@pytest.mark.parametrize(("shape", "kept"), [((512, 512), (96, 96)), ((192, 384), (48, 96)), ((7, 9), (7, 9))])
def test_coarse_panels_are_means_of_their_cells(shape: tuple[int, int], kept: tuple[int, int]) -> None:
    values = np.random.default_rng(0).random((1, 2, *shape)).astype(np.float32)
    small = coarse({"a": values, "b": 1 - values}, finding=1)
    assert small.shape == (2, *kept)
    assert max(kept) <= CELLS
    mean = values[0, 1].mean()
    np.testing.assert_allclose(small.mean(axis=(1, 2), dtype=np.float64), [mean, 1 - mean], atol=1e-3)
    np.testing.assert_allclose(small[0].astype(float) + small[1], 1, atol=2e-3)


def test_panels_of_different_sizes_are_refused() -> None:
    with pytest.raises(PredictionsError, match="panels must be of one size"):
        coarse({"a": np.zeros((1, 1, 4, 4), np.float32), "b": np.zeros((1, 1, 8, 8), np.float32)}, finding=0)


def some() -> Panels:
    values = np.random.default_rng(0).random((2, 3, 5, 6)).astype(np.float16)
    return Panels(("a.png", "b.png"), ("Mass", "Nodule"), ("A", "mu", "sigma"), values)


def test_panels_come_back_to_those_they_belong_to(tmp_path: Path) -> None:
    write_panels(tmp_path, some(), META)
    # What a predictions folder adds to its meta, and what JSON makes of a tuple, does not make it another's.
    back = read_panels(
        tmp_path, {**META, "sizes": [1, 2], "schema": 1, "kind": "mask", "findings": ["Mass"], "films": 9}
    )
    assert back is not None
    assert (back.images, back.findings, back.names) == (some().images, some().findings, some().names)
    np.testing.assert_array_equal(back.values, some().values)
    assert read_panels(tmp_path, {**META, "weights": {"base": "other"}}) is None
    assert read_panels(tmp_path / "absent", META) is None
    assert [p.name for p in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize("damage", ["cut", "empty", "text", "part"])
def test_damaged_panels_are_one_clear_line(tmp_path: Path, damage: str) -> None:
    write_panels(tmp_path, some(), META)
    path = tmp_path / FILE
    if damage == "part":
        with np.load(path) as saved:
            np.savez(path, **{k: saved[k] for k in ("key", "image", "finding", "values")})
    else:
        path.write_bytes({"cut": path.read_bytes()[:-30], "empty": b"", "text": b"nonsense"}[damage])
    with pytest.raises(PredictionsError, match=r"panels\.npz: damaged panels .* again\."):
        read_panels(tmp_path, META)


@pytest.mark.parametrize("name", ["images", "findings", "names", "values"])
def test_shapes_that_disagree_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="images, findings, names and values must be"):
        replace(some(), **{name: getattr(some(), name)[:1]})


def test_batches_do_not_change_panels(films: Films, tmp_path: Path) -> None:
    kept = []
    for batch in (1, 8):
        out = tmp_path / str(batch)
        predict(ShowsItself(), films, NAMES, out, meta=META, batch_size=batch, boxed=BOXED)
        kept.append(read_panels(out, META))
    assert kept[0] is not None
    assert kept[1] is not None
    np.testing.assert_array_equal(kept[0].values, kept[1].values)
