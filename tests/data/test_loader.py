"""Batches: a pure function of (seed, epoch, step, rank), equal steps on every rank, nothing lost."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cxrlocus.data.cache import Films, open_films
from cxrlocus.data.loader import Loader
from cxrlocus.data.records import Index, Record
from cxrlocus.data.transforms import Augmentation
from cxrlocus.errors import ConfigError
from cxrlocus.types import Batch, Findings

COUNT = 23
BROKEN = (4, 11)
READABLE = [i for i in range(COUNT) if i not in BROKEN]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Index, Films]:
    folder = tmp_path_factory.mktemp("loader")
    records = []
    for i in range(COUNT):
        path = folder / f"{i}.png"
        Image.fromarray(np.full((8, 8), 10 * i, dtype=np.uint8)).save(path)
        if i in BROKEN:
            path.write_bytes(b"")
        labels = {"positive": frozenset({"Mass"} if i % 2 else ()), "unknown": frozenset({"Nodule"} if i % 3 else ())}
        records.append(Record(path.name, path, str(i), **labels))
    index = Index("x", folder, Findings(("Mass", "Nodule")), tuple(records))
    return index, open_films(index, size=8, folder=folder / "cache")


def loader(data: tuple[Index, Films], batch_size: int = 4, **options: object) -> Loader:
    return Loader(*data, batch_size, **{"shuffle": True, "seed": 1, **options})


def visited(batches: list[Batch]) -> list[int]:
    return [int(i) for batch in batches for i in batch.films]


def same(a: list[Batch], b: list[Batch]) -> bool:
    return len(a) == len(b) and all(
        torch.equal(x.images, y.images) and torch.equal(x.films, y.films) for x, y in zip(a, b, strict=True)
    )


def test_each_readable_film_once_with_its_own_pixels_and_labels(data: tuple[Index, Films]) -> None:
    batches = list(loader(data).batches(0))
    assert len(batches) == len(loader(data)) == 6
    assert sorted(visited(batches)) == READABLE
    for batch in batches:
        assert batch.images.dtype == batch.target.dtype == torch.float32
        assert (batch.known.dtype, batch.films.dtype) == (torch.bool, torch.int64)
        for image, target, known, i in zip(batch.images, batch.target, batch.known, batch.films.tolist(), strict=True):
            assert torch.equal(image, torch.full((1, 8, 8), 10 * i / 255))
            assert target.tolist() == [i % 2, 0]
            assert known.tolist() == [True, i % 3 == 0]


def test_without_shuffling_the_order_is_the_indexs(data: tuple[Index, Films]) -> None:
    assert visited(list(loader(data, shuffle=False).batches(5))) == READABLE


def test_epochs_and_seeds_differ_and_repeat(data: tuple[Index, Films]) -> None:
    first = visited(list(loader(data).batches(0)))
    assert first == visited(list(loader(data).batches(0)))
    assert first != visited(list(loader(data).batches(1)))
    assert first != visited(list(loader(data, seed=2).batches(0)))


@pytest.mark.parametrize("augmentation", [None, Augmentation()])
def test_a_resumed_epoch_gives_exactly_the_remaining_batches(
    data: tuple[Index, Films], augmentation: Augmentation | None
) -> None:
    whole = list(loader(data, augmentation=augmentation).batches(3))
    for start in range(7):
        assert same(list(loader(data, augmentation=augmentation).batches(3, start_step=start)), whole[start:])


def test_augmentation_differs_between_epochs_steps_and_ranks(data: tuple[Index, Films]) -> None:
    bright = Augmentation(rotation=0, shift=0, zoom=0, brightness=0.3, contrast=0, gamma=0)

    def drawn(epoch: int, step: int, rank: int) -> float:
        """The brightness that a film of one grey, far from black and white, is given at this place."""
        batches = loader(data, 1, augmentation=bright, rank=rank, world=3)
        return float(batches._batch(np.full(9, 12), epoch, step).images.mean())

    places = [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (2, 0, 0), (0, 2, 0), (0, 0, 2)]
    values = [round(drawn(*place), 5) for place in places]
    assert values == [round(drawn(*place), 5) for place in places]
    assert len(set(values)) == len(places)


@settings(max_examples=60)
@given(batch_size=st.integers(1, 30), world=st.integers(1, 6), drop_last=st.booleans(), epoch=st.integers(0, 3))
def test_every_rank_takes_equal_steps_of_equal_size_and_together_they_see_all(
    data: tuple[Index, Films], batch_size: int, world: int, drop_last: bool, epoch: int
) -> None:
    if drop_last and batch_size * world > len(READABLE):
        with pytest.raises(ConfigError, match="are readable; at least"):
            loader(data, batch_size, world=world, drop_last=True)
        return
    options = {"world": world, "drop_last": drop_last}
    ranks = [list(loader(data, batch_size, rank=rank, **options).batches(epoch)) for rank in range(world)]
    sizes = [[len(batch.films) for batch in batches] for batches in ranks]
    assert all(size == sizes[0] for size in sizes)
    seen = [i for batches in ranks for i in visited(batches)]
    full = batch_size * world
    if drop_last:
        assert len(seen) == len(set(seen)) == len(READABLE) // full * full
    else:
        assert set(seen) == set(READABLE)
        assert len(seen) - len(READABLE) < world


def test_ranks_together_take_what_one_process_takes(data: tuple[Index, Films]) -> None:
    whole = list(loader(data, 6).batches(0))
    halves = [list(loader(data, 3, rank=rank, world=2).batches(0)) for rank in (0, 1)]
    for step in range(3):
        assert sorted(visited([whole[step]])) == sorted(visited([half[step] for half in halves]))


def test_leaving_early_stops_the_thread(data: tuple[Index, Films]) -> None:
    before = threading.active_count()
    batches = loader(data).batches(0)
    next(batches)
    batches.close()
    assert threading.active_count() == before


def test_an_error_in_the_thread_reaches_the_loop(data: tuple[Index, Films], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("the cache was deleted")

    monkeypatch.setattr(Films, "pixels", fail)
    with pytest.raises(OSError, match="the cache was deleted"):
        list(loader(data).batches(0))


@pytest.mark.parametrize("options", [{"seed": -1}, {"rank": 2, "world": 2}, {"rank": -1}, {"batch_size": 0}])
def test_numbers_out_of_range_are_named(data: tuple[Index, Films], options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=r"must be at least 1.*got batch_size"):
        loader(data, **options)


def test_films_of_another_index_or_none_at_all_are_refused(data: tuple[Index, Films], tmp_path: Path) -> None:
    index, films = data
    with pytest.raises(ConfigError, match="films must be the index's; got 23 films for 2 records"):
        Loader(index.subset([0, 1]), films, 4, shuffle=False, seed=0)
    nothing = index.subset(list(BROKEN))
    with pytest.raises(ConfigError, match="0 of 2 films are readable"):
        Loader(nothing, open_films(nothing, size=8, folder=tmp_path), 4, shuffle=False, seed=0)
