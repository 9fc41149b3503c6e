"""Joining boxes and counting: against double loops."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cxrlocus.metrics.overlap import best, passes, same_key_pairs, tally

keys = st.lists(st.integers(-3, 5), max_size=25)


@given(keys, keys)
def test_pairs_are_those_of_a_double_loop(a, b):
    i, j = same_key_pairs(np.array(a, dtype=int), np.array(b, dtype=int))
    got = list(zip(i.tolist(), j.tolist(), strict=True))
    assert sorted(got) == sorted((p, q) for p, x in enumerate(a) for q, y in enumerate(b) if x == y)


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(0, 1)), max_size=30))
def test_best_is_the_greatest_of_each(pairs):
    got = best(np.array([p for p, _ in pairs], dtype=int), np.array([v for _, v in pairs], dtype=float), 5)
    assert got.tolist() == [max([v for q, v in pairs if q == p], default=0.0) for p in range(5)]


def test_convention_overlap_thresholds_are_strict():
    assert passes([0.1, 0.5, 0.7], [0.1, 0.5]).tolist() == [[False, False], [True, False], [True, True]]


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2), st.integers(0, 1), st.integers(0, 1)), max_size=30))
def test_tally_counts(events):
    rows = np.array(events, dtype=int).reshape(-1, 4)
    got = tally(rows[:, 2:], rows[:, 0], rows[:, 1], (4, 3))
    for p in range(4):
        for c in range(3):
            assert got[p, c].tolist() == [sum(e[k] for e in events if e[:2] == (p, c)) for k in (2, 3)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: same_key_pairs([0.5], [1]), r"a must be \(n,\) integers"),
        (lambda: same_key_pairs([1], [[1]]), r"b must be \(n,\) integers"),
        (lambda: best([0], [0.5, 0.6], 1), "value must be an overlap"),
        (lambda: best([0], [-0.5], 1), "value must be an overlap"),
        (lambda: best([0], [np.nan], 1), "value must be an overlap"),
        (lambda: best([3], [0.5], 3), "position must be below 3; got 3 to 3"),
        (lambda: tally([[1]], [0, 1], [0], (2, 2)), r"events must be \(n, T\)"),
        (lambda: tally([[1]], [2], [0], (2, 2)), "row must be below 2; got 2 to 2"),
        (lambda: tally([[1]], [0], [-1], (2, 2)), "column must be below 2; got -1 to -1"),
    ],
)
def test_bad_input_is_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call()
