from __future__ import annotations

import hashlib
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from miniature import Film, write_folder, write_lines, write_nih

from cxrlocus.data import open_index
from cxrlocus.data.records import Index, Record
from cxrlocus.data.splits import (
    draw_split,
    hold_out,
    kfold_of_patients,
    read_split,
    select,
    shuffled_patients,
    split_films,
    write_lists,
    write_split,
)
from cxrlocus.errors import ConfigError, DataError, LeakError
from cxrlocus.types import BOXED8

patients = st.lists(st.text(alphabet="abc12", min_size=1, max_size=3), min_size=2, max_size=60).filter(
    lambda names: len(set(names)) > 1
)
fractions = st.floats(0.01, 0.99)
seeds = st.integers(0, 10)


def index_of(names: list[str]) -> Index:
    return Index("t", Path(), BOXED8, tuple(Record(f"{i}.png", Path(f"{i}.png"), p) for i, p in enumerate(names)))


def test_order_is_the_order_of_sha256() -> None:
    # for p in a b c d; do printf "0:$p" | sha256sum; done -> 9df3c5..., e02192..., be086d..., 7d98c2...
    assert shuffled_patients(["a", "b", "c", "d", "a"], 0) == ["d", "a", "c", "b"]


@given(patients, fractions, seeds)
def test_hold_out_keeps_every_film_once_and_no_patient_crosses(names: list[str], fraction: float, seed: int) -> None:
    index = index_of(names)
    rest, held = hold_out(index, fraction, seed=seed)
    assert sorted(rest.images + held.images) == sorted(index.images)
    assert not set(rest.patients) & set(held.patients)
    assert len(rest) >= 1
    assert len(held) >= 1
    assert list(held.images) == [name for name in index.images if name in held.position]


@given(patients, fractions, seeds)
def test_hold_out_is_as_near_as_whole_patients_allow(names: list[str], fraction: float, seed: int) -> None:
    """Off by half of the largest patient at most, unless a side has only one patient left to give."""
    rest, held = hold_out(index_of(names), fraction, seed=seed)
    off = abs(len(held) - fraction * len(names))
    assert off <= max(Counter(names).values()) / 2 or min(len(set(rest.patients)), len(set(held.patients))) == 1


@given(patients, fractions, seeds, st.randoms(use_true_random=False))
def test_hold_out_does_not_depend_on_order(
    names: list[str], fraction: float, seed: int, shuffle: random.Random
) -> None:
    index = index_of(names)
    order = list(range(len(names)))
    shuffle.shuffle(order)
    first, second = (hold_out(i, fraction, seed=seed)[1] for i in (index, index.subset(order)))
    assert sorted(first.images) == sorted(second.images)


def test_hold_out_fraction_and_seed_matter() -> None:
    index = index_of([f"p{i // 3}" for i in range(3000)])
    rest, held = hold_out(index, 0.125, seed=0)
    assert len(held) == 375
    other = hold_out(index, 0.125, seed=1)[1]
    # Two independent draws share about 1/8 of their patients.
    assert 0.06 < len(set(held.patients) & set(other.patients)) / 125 < 0.2
    assert hold_out(index, 0.125, seed=0)[1].images == held.images
    assert len(rest) == 2625


def test_a_larger_fraction_holds_out_the_same_patients_and_more() -> None:
    index = index_of([f"p{i // 2}" for i in range(200)])
    small, large = (set(hold_out(index, fraction, seed=3)[1].patients) for fraction in (0.1, 0.3))
    assert small < large


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 2.0, float("nan")])
def test_hold_out_fraction_out_of_range(fraction: float) -> None:
    with pytest.raises(ConfigError, match="fraction must be above 0 and below 1"):
        hold_out(index_of(["a", "b"]), fraction, seed=0)


@pytest.mark.parametrize("names", [[], ["a"], ["a", "a"]])
def test_hold_out_needs_two_patients(names: list[str]) -> None:
    with pytest.raises(DataError, match=f"at least 2 patients; there are {len(set(names))}"):
        hold_out(index_of(names), 0.5, seed=0)


@given(patients, st.integers(2, 8), seeds, st.randoms(use_true_random=False))
def test_folds(names: list[str], folds: int, seed: int, shuffle: random.Random) -> None:
    """A patient is in one fold, folds differ by one patient at most, and order does not matter."""
    folds = min(folds, len(set(names)))
    fold = kfold_of_patients(names, folds, seed=seed)
    of = {patient: {int(f) for f, p in zip(fold, names, strict=True) if p == patient} for patient in names}
    assert all(len(found) == 1 for found in of.values())
    sizes = Counter(min(found) for found in of.values())
    assert set(sizes) == set(range(folds))
    assert max(sizes.values()) - min(sizes.values()) <= 1
    order = list(range(len(names)))
    shuffle.shuffle(order)
    assert np.array_equal(kfold_of_patients([names[i] for i in order], folds, seed=seed), fold[order])


def test_folds_bad_arguments() -> None:
    with pytest.raises(ConfigError, match="folds must be at least 2; got 1"):
        kfold_of_patients(["a", "b"], 1, seed=0)
    with pytest.raises(DataError, match="3 folds need at least 3 patients; there are 2"):
        kfold_of_patients(["a", "b", "a"], 3, seed=0)


@given(st.lists(st.text(alphabet="ab_0. é", min_size=1).map(lambda s: f"x{s}x"), min_size=1, unique=True))
def test_a_split_survives_the_disk(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    path = tmp_path_factory.getbasetemp() / "list.txt"
    digest = write_split(path, names)
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert read_split(path, digest) == tuple(names)


def test_a_changed_split_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "val.txt"
    digest = write_split(path, ["a.png", "b.png"])
    path.write_text("a.png\nc.png\n")
    with pytest.raises(DataError, match=rf"val\.txt: its sha256 must be {digest}"):
        read_split(path, digest)
    assert read_split(path) == ("a.png", "c.png")


@pytest.mark.parametrize("names", [[], ["a", "a"], ["a\nb"], [" a"], [""]])
def test_write_split_refuses_what_would_not_come_back(names: list[str], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"list\.txt"):
        write_split(tmp_path / "list.txt", names)
    assert not (tmp_path / "list.txt").exists()


def test_split_files_that_are_not(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_split(tmp_path / "none.txt")
    with pytest.raises(DataError, match="cannot be written"):
        write_split(tmp_path / "no" / "folder.txt", ["a"])
    bad = {b"\n\n": "names none", b"a\nb\na\n": "'a' is there again", b"a\xff\n": "must be UTF-8"}
    for data, complaint in bad.items():
        (tmp_path / "list.txt").write_bytes(data)
        with pytest.raises(DataError, match=complaint):
            read_split(tmp_path / "list.txt")


def test_select() -> None:
    index = index_of(["a", "b", "c"])
    assert select(index, ["2.png", "0.png"]).images == ("2.png", "0.png")
    with pytest.raises(DataError, match=r"names 2 films that are not here, '7\.png' first"):
        select(index, ["0.png", "7.png", "9.png"])


def test_draw_split_by_hand() -> None:
    """The order of seed 0 is d, a, c, b (above): .25, .5, .75, 1 of the films; .1 is nearest to d, .2 to a."""
    drawn = draw_split({f"{p}.png": p for p in "abcd"}, seed=0)
    assert drawn == {"a.png": "test", "b.png": "train", "c.png": "train", "d.png": "val"}
    with pytest.raises(DataError, match="at least 3 patients; there are 2"):
        draw_split({"a": "1", "b": "2", "c": "2"}, seed=0)


def split_index(owners: str, splits: str) -> Index:
    """Film i is of patient owners[i]; its split is t(rain), v(al), x (test) or - (none)."""
    names = {"t": "train", "v": "val", "x": "test", "-": None}
    films = (Record(f"{i}.png", Path(), p, names[s]) for i, (p, s) in enumerate(zip(owners, splits, strict=True)))
    return Index("t", Path("films"), BOXED8, tuple(films))


@given(st.text("abcdefgh", min_size=6, max_size=40).filter(lambda t: len(set(t)) > 5), seeds)
def test_a_test_split_stays_and_the_rest_is_drawn(owners: str, seed: int) -> None:
    index = split_index(owners, "".join("x" if p == owners[0] else "t" for p in owners))
    drawn = split_films(index, seed=seed)
    assert {film for film, split in drawn.items() if split == "test"} == set(index.split("test").images)
    _, val = hold_out(index.split("train"), 0.1, seed=seed)
    assert {film for film, split in drawn.items() if split == "val"} == set(val.images)
    assert len(drawn) == len(index)


def test_without_a_test_split_all_is_drawn_and_a_drawn_one_stays() -> None:
    bare = split_index("abcdef", "tttt--")
    assert split_films(bare, seed=1) == draw_split(dict(zip(bare.images, "abcdef", strict=True)), seed=1)
    with pytest.raises(DataError, match="films: a split is drawn once, and val is there already"):
        split_films(split_index("abc", "tvx"), seed=0)


def test_a_film_in_no_list_of_a_test_patient_stays_in_none() -> None:
    drawn = split_films(split_index("aabcd", "x-ttt"), seed=0)
    assert drawn["0.png"] == "test"
    assert set(drawn) == {"0.png", "2.png", "3.png", "4.png"}


@pytest.mark.parametrize("layout", ["nih", "folder"])
def test_drawn_lists_are_picked_up_by_every_layout(layout: str, tmp_path: Path) -> None:
    films = [Film(f"{p}_{k}.png", str(p), "test" if p > 9 else "train") for p in range(1, 13) for k in range(2)]
    root = {"nih": write_nih, "folder": write_folder}[layout](tmp_path / "films", films)
    before = open_index(root)
    drawn = split_films(before, seed=0)
    lists = {film: split for film, split in drawn.items() if layout == "folder" or split != "test"}
    hashes = write_lists(root, lists)
    index = open_index(root)
    assert {r.image: r.split for r in index.records} == drawn
    assert Counter(drawn.values()) == {"train": 16, "val": 2, "test": 6}
    assert {name: index.hashes[name] for name in hashes} == hashes
    (told,) = index.dropped
    assert told.item == {"nih": "train_val_list.txt", "folder": "labels.csv: column split"}[layout]
    assert told.reason == "not read: train_list.txt is there too"
    with pytest.raises(DataError, match=r"train_list\.txt: a split is drawn once"):
        write_lists(root, lists)


def test_lists_that_lack_a_film_or_each_other_are_told(tmp_path: Path) -> None:
    root = write_folder(tmp_path / "films")
    write_lines(root / "train_list.txt", ["a_0.png", "a_1.png", "z.png"])
    index = open_index(root)
    assert [r.split for r in index.records] == ["train", "train", None, None, None]
    assert [(d.item, d.reason) for d in index.dropped] == [
        ("labels.csv: column split", "not read: train_list.txt is there too"),
        ("train_list.txt line 3: z.png", "no label row names this film"),
        ("val_list.txt", "no such file, so no film has split 'val'"),
        ("test_list.txt", "no such file, so no film has split 'test'"),
    ]
    write_lines(root / "val_list.txt", ["a_1.png"])
    with pytest.raises(LeakError, match=r"val_list.txt line 1: 'a_1.png' is in train_list.txt too"):
        open_index(root)
