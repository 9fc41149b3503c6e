"""Record and Index: labels as two arrays, splits that patients do not cross, a hash that sees every change."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrlocus.data.records import Index, Record, TruthBox, check_leaks
from cxrlocus.errors import DataError, LeakError
from cxrlocus.types import Findings

FINDINGS = Findings(("Mass", "Nodule"))
RECORDS = (
    Record("a", Path("a.png"), "1", "train", frozenset({"Mass"})),
    Record("b", Path("b.png"), "1", "train", frozenset(), frozenset({"Nodule"})),
    Record("c", Path("c.png"), "2", "test", frozenset({"Nodule"}), boxes=(TruthBox("Nodule", (0, 0, 5, 5)),) * 2),
    Record("d", Path("d.png"), "3", None, size=(1024, 1024)),
)


def index(*records: Record) -> Index:
    return Index("some", Path("root"), FINDINGS, records or RECORDS)


def test_labels_are_target_and_known() -> None:
    assert index().target.tolist() == [[1, 0], [0, 0], [0, 1], [0, 0]]
    assert index().known.tolist() == [[True, True], [True, False], [True, True], [True, True]]
    assert index().target.dtype == np.uint8
    assert index().known.dtype == np.bool_


def test_an_index_without_films_still_has_columns() -> None:
    empty = Index("some", Path("root"), FINDINGS, ())
    assert empty.target.shape == empty.known.shape == (0, 2)
    assert len(empty) == empty.box_count == 0


def test_films_are_found_by_name() -> None:
    one = index()
    assert one.images == ("a", "b", "c", "d")
    assert one.patients == ("1", "1", "2", "3")
    assert all(one.records[one.position[name]].image == name for name in one.images)
    assert one.box_count == 2


def test_a_subset_keeps_the_order_asked_for() -> None:
    part = index().subset([2, 0])
    assert part.images == ("c", "a")
    assert part.target.tolist() == [[0, 1], [1, 0]]
    assert part.position == {"c": 0, "a": 1}


def test_splits_by_name() -> None:
    assert index().split("train").images == ("a", "b")
    assert index().split("train", "test").images == ("a", "b", "c")
    with pytest.raises(DataError, match="no film belongs to split val; the splits here are test, train"):
        index().split("val")


def test_a_name_that_stands_twice_is_refused() -> None:
    with pytest.raises(DataError, match="image names must be unique; 'a' stands more than once"):
        index(RECORDS[0], RECORDS[0])


@pytest.mark.parametrize(
    "fields",
    [
        {"positive": frozenset({"Gout"})},
        {"unknown": frozenset({"Gout"})},
        {"boxes": (TruthBox("Gout", (0, 0, 1, 1)),)},
    ],
)
def test_a_finding_outside_the_vocabulary_is_refused(fields: dict[str, object]) -> None:
    with pytest.raises(DataError, match="a is labelled 'Gout', which is not one of Mass, Nodule"):
        index(replace(RECORDS[0], **fields))  # type: ignore[arg-type]  # any field


def test_leaks_name_patients_and_their_splits() -> None:
    with pytest.raises(LeakError, match=r"1 patient stands in more than one split: 1 \(test, train\)"):
        index(RECORDS[0], replace(RECORDS[1], split="test"))
    many = tuple(Record(f"{i}{s}", Path(), str(i), s) for i in range(7) for s in ("train", "val"))
    with pytest.raises(LeakError, match=r"7 patients stand .*: 0 \(train, val\); .*; \.\.\."):
        check_leaks(many)


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["train", "val", "test", None])), max_size=12))
def test_leaks_are_found_exactly_when_a_patient_has_two_splits(films: list[tuple[int, str | None]]) -> None:
    records = tuple(Record(str(i), Path(), str(p), s) for i, (p, s) in enumerate(films))
    leaking = any(len({s for p, s in films if p == who and s}) > 1 for who in range(5))
    if not leaking:
        check_leaks(records)
        return
    with pytest.raises(LeakError):
        check_leaks(records)


CHANGES: dict[str, dict[str, object]] = {
    "name": {"image": "z"}, "patient": {"patient": "9"}, "split": {"split": None},
    "label": {"positive": frozenset({"Mass"})}, "unknown": {"unknown": frozenset({"Mass"})},
    "box": {"boxes": (TruthBox("Nodule", (0, 0, 5, 5)), TruthBox("Nodule", (0, 0, 5, 5.5)))},
    "box's finding": {"boxes": (TruthBox("Mass", (0, 0, 5, 5)),) * 2}, "frame": {"size": (512, 512)},
}  # fmt: skip


@pytest.mark.parametrize("change", sorted(CHANGES))
def test_the_hash_sees_every_change(change: str) -> None:
    moved = replace(RECORDS[2], **CHANGES[change])  # type: ignore[arg-type]  # any field
    assert index(*RECORDS[:2], moved, RECORDS[3]).hash != index().hash


def test_the_hash_sees_the_order_but_not_where_films_lie() -> None:
    assert index(*RECORDS[::-1]).hash != index().hash
    elsewhere = [replace(r, path=Path("elsewhere") / r.path) for r in RECORDS]
    assert index(*elsewhere).hash == index().hash
    assert len(index().hash) == 64


def test_only_some_findings_are_left_with_their_labels_and_boxes() -> None:
    boxes = (TruthBox("Mass", (0, 0, 4, 4)), TruthBox("Nodule", (1, 1, 2, 2)))
    films = (
        Record("a", Path("a"), "1", positive=frozenset({"Mass", "Nodule"}), boxes=boxes),
        Record("b", Path("b"), "2", positive=frozenset({"Mass"}), unknown=frozenset({"Nodule"})),
    )
    index = Index("some", Path(), Findings(("Mass", "Nodule")), films)
    one = index.only(("Nodule",))
    assert one.target.tolist() == [[1], [0]]
    assert one.known.tolist() == [[True], [False]]
    assert [box.finding for box in one.records[0].boxes] == ["Nodule"]
    assert one.images == index.images
    assert index.only(("Nodule", "Mass")).target.tolist() == index.target[:, ::-1].tolist()
    assert index.only(index.findings.names).hash == index.hash
    with pytest.raises(DataError, match="no label names 'Edema'; the findings are Mass, Nodule"):
        index.only(("Edema",))
