"""From a localizer to a predictions folder: nothing lost, nothing dropped in silence."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from cxrlocus.data.cache import Films, open_films
from cxrlocus.data.records import Index, Record
from cxrlocus.errors import CxrlocusError, ImageError
from cxrlocus.prediction import predict as predict_module
from cxrlocus.prediction.boxing import find_boxes
from cxrlocus.prediction.predict import explain_files, predict
from cxrlocus.prediction.store import Predictions, PredictionsWriter, read_predictions
from cxrlocus.regions.rules import PeakComponent
from cxrlocus.types import Explained
from stand_ins import SeesBrightness

META = {"method": "bright", "variant": "", "dataset": "some"}


@pytest.fixture
def paths(tmp_path: Path) -> list[Path]:
    """Ten films of several sizes; the fourth and the last cannot be read."""
    draw, paths = np.random.default_rng(0), [tmp_path / f"{i}.png" for i in range(10)]
    for i, path in enumerate(paths):
        cv2.imwrite(str(path), draw.integers(0, 255, (60 + 10 * i, 90)).astype(np.uint8))
    paths[3].write_text("no film", encoding="utf-8")
    paths[9].unlink()
    return paths


@pytest.fixture
def films(paths: list[Path], tmp_path: Path) -> Films:
    return open_films(paths, size=64, folder=tmp_path / "cache")


def names(paths: list[Path]) -> list[str]:
    return [p.name for p in paths]


def same(one: Predictions, other: Predictions) -> bool:
    return one.images == other.images and all(
        np.array_equal(getattr(one, k), getattr(other, k)) for k in ("prob", "maps", "frames", "sizes")
    )


def test_unreadable_films_are_left_out_and_listed(paths: list[Path], films: Films, tmp_path: Path) -> None:
    count = predict(SeesBrightness(), films, names(paths), tmp_path / "pred", meta=META, batch_size=3)
    back = read_predictions(tmp_path / "pred")
    assert count == 8
    assert back.images == tuple(f"{i}.png" for i in range(9) if i != 3)
    assert {Path(d.item).name for d in films.unreadable} == {"3.png", "9.png"}
    assert back.sizes[-1].tolist() == [90, 140]
    assert back.meta["method"] == "bright"


def test_progress_is_told_to_the_end(paths: list[Path], films: Films, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    predict(
        SeesBrightness(), films, names(paths), tmp_path / "p", meta=META, batch_size=3,
        on_film=lambda done, total: told.append((done, total)),
    )  # fmt: skip
    assert told == [(3, 8), (6, 8), (8, 8)]


class StopsAfter(SeesBrightness):
    def __init__(self, batches: int, error: type[BaseException]) -> None:
        super().__init__()
        self.left, self.error = batches, error

    def explain(self, images: torch.Tensor, frames: np.ndarray) -> Explained:
        if not self.left:
            raise self.error("stopped")
        self.left -= 1
        return super().explain(images, frames)


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_a_stopped_prediction_goes_on_and_equals_an_undisturbed_one(
    paths: list[Path], films: Films, tmp_path: Path, error: type[BaseException]
) -> None:
    predict(SeesBrightness(), films, names(paths), tmp_path / "whole", meta=META, batch_size=2)
    with pytest.raises(error):
        predict(StopsAfter(2, error), films, names(paths), tmp_path / "stopped", meta=META, batch_size=2)
    again = SeesBrightness()
    predict(again, films, names(paths), tmp_path / "stopped", meta=META, batch_size=2)
    assert again.calls == 1 + 2
    assert same(read_predictions(tmp_path / "stopped"), read_predictions(tmp_path / "whole"))


def test_a_killed_prediction_goes_on_from_the_last_flush(
    paths: list[Path], films: Films, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(predict_module, "FLUSH_EVERY", 1)
    predict(SeesBrightness(), films, names(paths), tmp_path / "whole", meta=META, batch_size=3)
    flush, flushes = PredictionsWriter.flush, []

    def only_once(writer: PredictionsWriter) -> None:
        flushes.append(writer.done)
        if len(flushes) == 1:
            flush(writer)

    stops = StopsAfter(2, KeyboardInterrupt)
    with monkeypatch.context() as killed:
        killed.setattr(PredictionsWriter, "flush", only_once)
        with pytest.raises(KeyboardInterrupt):
            predict(stops, films, names(paths), tmp_path / "killed", meta=META, batch_size=3)
    assert flushes == [3, 6, 6]
    again = SeesBrightness()
    predict(again, films, names(paths), tmp_path / "killed", meta=META, batch_size=3)
    assert again.calls == 1 + 2
    assert same(read_predictions(tmp_path / "killed"), read_predictions(tmp_path / "whole"))


@pytest.mark.parametrize("batch_size", [1, 5, 100])
def test_the_batch_size_changes_nothing(paths: list[Path], films: Films, tmp_path: Path, batch_size: int) -> None:
    predict(SeesBrightness(), films, names(paths), tmp_path / "a", meta=META, batch_size=3)
    predict(SeesBrightness(), films, names(paths), tmp_path / "b", meta=META, batch_size=batch_size)
    assert same(read_predictions(tmp_path / "a"), read_predictions(tmp_path / "b"))


def test_nothing_readable_is_an_error_that_names_a_file(paths: list[Path], tmp_path: Path) -> None:
    films = open_films([paths[3], paths[9]], size=64, folder=tmp_path / "cache")
    with pytest.raises(ImageError, match=r"3\.png: .*no film could be read"):
        predict(SeesBrightness(), films, ["3", "9"], tmp_path / "pred", meta=META)


class SaysNaN(SeesBrightness):
    def explain(self, images: torch.Tensor, frames: np.ndarray) -> Explained:
        said = super().explain(images, frames)
        return Explained(said.prob * torch.nan, said.maps, said.frames, said.kind)


def test_a_probability_that_is_no_number_is_an_error(paths: list[Path], films: Films, tmp_path: Path) -> None:
    with pytest.raises(CxrlocusError, match=r"0\.png: prob must be in"):
        predict(SaysNaN(), films, names(paths), tmp_path / "pred", meta=META)


def test_files_are_explained_as_from_the_cache(paths: list[Path], films: Films, tmp_path: Path) -> None:
    good = [p for i, p in enumerate(paths) if i not in (3, 9)]
    predict(SeesBrightness(), films, names(paths), tmp_path / "pred", meta=META)
    stored, direct = read_predictions(tmp_path / "pred"), explain_files(SeesBrightness(), good, meta=META)
    assert direct.images == tuple(map(str, good))
    assert np.array_equal(direct.prob, stored.prob)
    assert np.array_equal(direct.maps.astype(np.float16), stored.maps)
    assert np.array_equal(direct.frames, stored.frames)
    assert np.array_equal(direct.sizes, stored.sizes)
    one, other = find_boxes(direct, PeakComponent()), find_boxes(stored, PeakComponent())
    np.testing.assert_allclose(one.xyxy, other.xyxy, atol=2.0)


def test_a_file_that_cannot_be_read_is_named(paths: list[Path]) -> None:
    with pytest.raises(ImageError, match=r"3\.png: "):
        explain_files(SeesBrightness(), paths)


def test_boxes_are_in_the_frame_of_the_record(tmp_path: Path) -> None:
    film = np.zeros((512, 512), np.uint8)
    film[128:256, 256:384] = 255
    cv2.imwrite(str(tmp_path / "a.png"), film)
    record = Record("a.png", tmp_path / "a.png", "1", size=(1024, 1024))
    localizer = SeesBrightness()
    index = Index("nih", tmp_path, localizer.findings, (record,))
    films = open_films(index, size=64, folder=tmp_path / "cache")
    predict(localizer, films, index.images, tmp_path / "pred", meta=META)
    found = find_boxes(read_predictions(tmp_path / "pred"), PeakComponent(0.5))
    np.testing.assert_allclose(found.xyxy[0], [512, 256, 768, 512], atol=16)
