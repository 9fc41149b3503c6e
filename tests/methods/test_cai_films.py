"""Attention mining's two settings: whose films are mined, what is written down of them, and how batches are made."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import contract
import numpy as np
import pytest
from lightning_fabric import Fabric

from cxrlocus.data.cache import open_films
from cxrlocus.data.nih_names import seen_films
from cxrlocus.data.records import Index
from cxrlocus.errors import ConfigError
from cxrlocus.methods import METHODS
from cxrlocus.methods.base import TRANSDUCTIVE, Recipe, learned_films
from cxrlocus.methods.cai2018 import CaiConfig, setting_of
from cxrlocus.methods.cai2018.films import TransductiveLoader
from cxrlocus.training.run import open_run, read_films, read_run

BOTH = CaiConfig(setting="transductive")


@pytest.fixture(scope="module")
def joined(planted: Index) -> Index:
    """36 films to train on, and the 9 boxed ones of the 12 test films."""
    return learned_films(BOTH, planted)


def loader(
    index: Index, cache: Path, *, mined: int, batch: int = 8, rank: int = 0, world: int = 1
) -> TransductiveLoader:
    films = open_films(index, size=64, folder=cache)
    return TransductiveLoader(index, films, batch, mined=mined, shuffle=True, seed=3, rank=rank, world=world)


def test_boxed_test_films_join_with_their_labels_and_without_their_boxes(planted: Index, joined: Index) -> None:
    came = [r for r in joined.records if r.split == TRANSDUCTIVE]
    boxed = [r for r in planted.records if r.split == "test" and r.boxes]
    assert [r.image for r in came] == [r.image for r in boxed]
    assert [r.positive for r in came] == [r.positive for r in boxed]
    assert not any(r.boxes for r in came)
    assert len(came) == 9
    assert len(joined) == 45
    assert joined.hash != planted.split("train").hash
    assert learned_films(CaiConfig(), planted).hash == planted.split("train").hash


def test_without_boxed_films_there_is_nothing_to_join(planted: Index) -> None:
    with pytest.raises(ConfigError, match="learns from the boxed films of split 'test', and there is none"):
        learned_films(BOTH, planted.split("train"))


@pytest.mark.parametrize(("mined", "world"), [(1, 1), (2, 1), (2, 2), (8, 1), (3, 4)])
def test_each_batch_begins_with_films_to_be_mined(joined: Index, cache: Path, mined: int, world: int) -> None:
    seen: Counter[int] = Counter()
    ranks = [loader(joined, cache, mined=mined, rank=r, world=world) for r in range(world)]
    assert len({len(one) for one in ranks}) == 1
    for one in ranks:
        for batch in one.batches(0):
            kinds = [joined.records[i].split == TRANSDUCTIVE for i in batch.films.tolist()]
            assert kinds == [True] * mined + [False] * (8 - mined)
            seen.update(batch.films[:mined].tolist())
    assert len(seen) == 9, "an epoch visits every film to be mined"
    assert len(ranks[0]) == -(-9 // (mined * world))
    assert max(seen.values()) <= 1 + -(-mined * world // 9)


def test_other_films_all_have_their_turn_before_one_comes_again(joined: Index, cache: Path) -> None:
    seen = Counter(i for batch in loader(joined, cache, mined=1).batches(0) for i in batch.films[1:].tolist())
    assert len(seen) == 36
    assert sum(seen.values()) == 63
    assert max(seen.values()) == 2


def test_epochs_with_and_without_other_films_are_equally_long(joined: Index, cache: Path) -> None:
    films = open_films(joined, size=64, folder=cache)
    alone = TransductiveLoader(joined, films, 8, mined=8, pace=2, shuffle=True, seed=3)
    assert len(alone) == len(loader(joined, cache, mined=2)) == 5
    seen = Counter(i for batch in alone.batches(0) for i in batch.films.tolist())
    assert sorted(seen.values()) == [4] * 5 + [5] * 4


def test_order_is_a_function_of_seed_and_epoch(joined: Index, cache: Path) -> None:
    one, other = loader(joined, cache, mined=2), loader(joined, cache, mined=2)
    assert np.array_equal(one.order(4), other.order(4))
    assert not np.array_equal(one.order(4), one.order(5))
    whole = [b.films.tolist() for b in one.batches(1)]
    assert [b.films.tolist() for b in one.batches(1, start_step=2)] == whole[2:]


def test_a_loader_without_films_to_be_mined_is_refused(planted: Index, joined: Index, cache: Path) -> None:
    with pytest.raises(ConfigError, match="there are 0 and 36"):
        loader(planted.split("train"), cache, mined=1)
    only = joined.subset([i for i, r in enumerate(joined.records) if r.split == TRANSDUCTIVE])
    with pytest.raises(ConfigError, match="there are 9 and 0"):
        loader(only, cache, mined=1)
    assert len(loader(only, cache, mined=8)) == 2


def train(index: Index, folder: Path, cache: Path, fabric: Fabric, **options: str) -> Path:
    tiny = {**contract.TINY["cai2018"], "epochs": "1", "steps": "1", "setting": "transductive", **options}
    config = METHODS["cai2018"].configure(preset="demo", options=tiny)
    open_run(folder, contract.info_of("cai2018", index, vars(config)))
    METHODS["cai2018"].train(Recipe(folder, index, config, 0, fabric, cache))
    return folder


def test_a_run_says_which_setting_it_has(joined: Index, cache: Path, fabric: Fabric, tmp_path: Path) -> None:
    folder = train(joined, tmp_path / "run", cache, fabric)
    info = read_run(folder)
    assert setting_of({"config": info.config}) == "transductive"
    assert info.index_hash == joined.hash
    split = json.loads((folder / "split.json").read_text(encoding="utf-8"))
    assert split["transductive"] == 9
    assert split["train"] + split["val"] == 36
    came = (folder / "transductive_list.txt").read_text(encoding="utf-8").split()
    assert came == [r.image for r in joined.records if r.split == TRANSDUCTIVE]
    held = (folder / "val_list.txt").read_text(encoding="utf-8").split()
    assert not set(held) & set(came)
    # Whoever predicts only films that the run has not seen must not be given those that joined.
    learned = read_films(folder)
    assert {r.image for r in learned.records} == {r.image for r in joined.records}
    assert set(learned.split("val").images) == set(held)
    assert seen_films(learned, joined.split(TRANSDUCTIVE)).all()


def test_unreadable_films_that_were_to_join_are_listed(
    joined: Index, cache: Path, fabric: Fabric, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no film")
    last = replace(joined.records[-1], path=broken)
    index = replace(joined, records=(*joined.records[:-1], last))
    folder = train(index, tmp_path / "run", cache, fabric)
    split = json.loads((folder / "split.json").read_text(encoding="utf-8"))
    assert [item for item, _ in split["unreadable"]] == [str(broken)]


def test_the_transductive_setting_needs_such_films(planted: Index, cache: Path, fabric: Fabric, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="needs films of split 'transductive'"):
        train(planted.split("train"), tmp_path / "run", cache, fabric)
    assert not (tmp_path / "run" / "base").exists(), "before anything is trained"


def test_inductive_training_leaves_such_films_alone(joined: Index, cache: Path, fabric: Fabric, tmp_path: Path) -> None:
    folder = train(joined, tmp_path / "run", cache, fabric, setting="inductive")
    split = json.loads((folder / "split.json").read_text(encoding="utf-8"))
    assert "transductive" not in split
    assert split["train"] + split["val"] == 36
