"""Paired differences: both numbers are the protocols', resamples in loops, coverage, power against unpaired, tables."""

import math
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrlocus.data.records import Index, Record, TruthBox
from cxrlocus.errors import ConfigError, PredictionsError
from cxrlocus.protocols.result import read_results, write_results
from cxrlocus.protocols.shared import RunLabel, patient_draws
from cxrlocus.protocols.wang2017 import wang2017
from cxrlocus.report.tables import pivot
from cxrlocus.study.measured import Measured, accuracy_of
from cxrlocus.study.paired import difference_table, every_pair, paired_differences
from cxrlocus.types import Findings

sys.path.insert(0, str(Path(__file__).parents[1] / "protocols"))
from box_worlds import found, random_world

SEED = st.integers(0, 10**6)
TWO = Findings(("Mass", "Nodule"))


def films(patients, findings=("Mass",)) -> Index:
    """A film each, with a box of each finding, of the patients named."""
    boxes = tuple(TruthBox(f, (0.0, 0.0, 8.0, 8.0)) for f in findings)
    records = (Record(f"{i}", Path(f"{i}"), str(p), "test", boxes=boxes) for i, p in enumerate(patients))
    return Index("toy", Path("toy"), TWO, tuple(records))


def hits(name, index, values, quantity="accuracy_iou", findings=("Mass",), policy="fixed") -> Measured:
    """One number a film and finding, (films, findings)."""
    values = np.asarray(values, dtype=float).reshape(len(index), len(findings))
    film, finding = (a.ravel() for a in np.meshgrid(range(len(index)), range(len(findings)), indexing="ij"))
    kind = ("wang2017", "toy", policy, quantity, "", (0.3,))
    return Measured(name, *kind, film, finding, values.reshape(-1, 1), findings)


@given(SEED)
@settings(max_examples=10)
def test_the_two_numbers_are_the_tables(seed):
    index, boxes = random_world(seed)
    _, others = random_world(seed + 1)
    labels = [RunLabel(name, "", "toy") for name in ("one", "other")]
    tables = [wang2017(b, index, label=x, resamples=0) for b, x in zip((boxes, others), labels, strict=True)]
    one, other = (accuracy_of(b, index, x) for b, x in zip((boxes, others), labels, strict=True))
    rows = paired_differences(one, other, index, resamples=20)
    for row in rows:
        cell = ("accuracy_iou", row.finding, row.threshold)
        want = [next(r.value for r in t if (r.quantity, r.finding, r.threshold) == cell) for t in tables]
        assert [row.a, row.b] == pytest.approx(want, nan_ok=True)
        assert row.value == pytest.approx(row.a - row.b, nan_ok=True)


def test_reference_resamples_in_loops():
    # Two findings, patients with one to three films, values that are shares and sometimes undefined.
    rng = np.random.default_rng(0)
    index = films(["a", "b", "b", "c", "c", "c", "d", "e"], TWO.names)
    values = rng.random((2, 8, 2)).round(2)
    values[0, 3, 1] = values[1, 5, 0] = np.nan
    one, other = (hits(n, index, v, findings=TWO.names) for n, v in zip(("one", "other"), values, strict=True))
    rows = {r.finding: r for r in paired_differences(one, other, index, seed=3, resamples=200)}
    patients = sorted(set(index.patients))
    samples = {name: [] for name in (*TWO.names, "mean", "pooled")}
    for draw in patient_draws(len(patients), 200, 3):
        chosen = [i for p, n in zip(patients, draw, strict=True) for i in range(8) if index.patients[i] == p
                  for _ in range(int(n))]  # fmt: skip
        each = [[np.nanmean(v[chosen, c]) for c in (0, 1)] for v in values]
        for c, name in enumerate(TWO.names):
            samples[name].append(each[0][c] - each[1][c])
        samples["mean"].append(np.mean(each[0]) - np.mean(each[1]))
        samples["pooled"].append(np.nanmean(values[0][chosen]) - np.nanmean(values[1][chosen]))
    for name, drawn in samples.items():
        assert (rows[name].lo, rows[name].hi) == pytest.approx(np.percentile(drawn, [2.5, 97.5]))
        sides = min(np.mean(np.array(drawn) <= 0), np.mean(np.array(drawn) >= 0))
        assert rows[name].share == pytest.approx(min(1, 2 * sides))
    assert rows["Nodule"].note == "undefined in 1 of 8 of one"
    assert rows["mean"].note == "undefined in 1 of 16 of one; undefined in 1 of 16 of other"


@given(SEED)
@settings(max_examples=15)
def test_invariance_exchanged_the_sign_turns_and_with_itself_it_is_0(seed):
    rng = np.random.default_rng(seed)
    index = films(rng.integers(0, 9, 20))
    one, other = (hits(n, index, rng.random(20) < 0.5) for n in ("one", "other"))
    there, back = (paired_differences(*pair, index, resamples=50) for pair in ((one, other), (other, one)))
    for a, b in zip(there, back, strict=True):
        assert (a.value, a.lo, a.hi) == pytest.approx((-b.value, -b.hi, -b.lo))
        assert a.share == b.share
        assert {a.verdict, b.verdict} in ({""}, {"better", "worse"})
    for same in paired_differences(one, one, index, resamples=50):
        assert (same.value, same.lo, same.hi, same.share, same.verdict) == (0, 0, 0, 1, "")


def test_pairing_sees_what_two_intervals_do_not():
    # 100 patients, half of them easy; the first method hits all that the second does and six more.
    index = films(range(100))
    other = np.arange(100) < 50
    one = other | ((np.arange(100) >= 50) & (np.arange(100) < 56))
    d = paired_differences(hits("one", index, one), hits("other", index, other), index)[0]
    assert d.value == pytest.approx(0.06)
    # sqrt(.06 * .94 / 100) = .0237, where the two alone have .05 each.
    assert d.hi - d.lo == pytest.approx(2 * 1.96 * 0.0237, rel=0.15)
    assert (d.verdict, d.share) == ("better", pytest.approx(0.0, abs=0.02))
    again = paired_differences(hits("one", index, one), hits("other", index, other[::-1]), index)[0]
    assert again.verdict == ""


def test_limit_films_of_one_patient_err_together():
    alone, together = films(range(40)), films([i // 10 for i in range(40)])
    values = np.repeat([1, 1, 1, 0], 10)
    wide, narrow = (paired_differences(hits("a", i, values), hits("b", i, values * 0), i)[0] for i in (together, alone))
    assert wide.value == narrow.value == 0.75
    assert wide.hi - wide.lo > 2 * (narrow.hi - narrow.lo)
    single = paired_differences(
        hits("a", films([1] * 40), values), hits("b", films([1] * 40), values * 0), films([1] * 40)
    )
    assert math.isnan(single[0].lo)
    assert math.isnan(single[0].share)
    assert single[0].verdict == ""


def test_methods_that_do_not_differ_are_called_so_nineteen_times_of_twenty():
    index, rng = films(range(80)), np.random.default_rng(0)
    trials = 150
    verdicts = [
        paired_differences(
            hits("a", index, rng.random(80) < 0.4), hits("b", index, rng.random(80) < 0.4), index, resamples=300, seed=k
        )[0].verdict
        for k in range(trials)
    ]  # fmt: skip
    wrong = sum(v != "" for v in verdicts) / trials
    # .05 and three standard errors of it; percentiles of 80 patients are a little narrow.
    assert 0 < wrong < 0.05 + 3 * math.sqrt(0.05 * 0.95 / trials)


def test_less_is_better_of_errors_and_neither_of_areas():
    index = films(range(30))
    high, low = np.ones(30), np.arange(30) / 30
    for quantity, verdict in (("iop", "better"), ("fpr", "worse"), ("fnr", "worse"), ("mask_area", "more")):
        d = paired_differences(hits("a", index, high, quantity), hits("b", index, low, quantity), index)[0]
        assert (d.value > 0, d.verdict) == (True, verdict)


def test_findings_that_one_alone_knows_are_listed_and_not_compared():
    index = films(range(10), TWO.names)
    both = hits("both", index, np.ones((10, 2)), findings=TWO.names)
    one = both.only(index, ("Mass",))
    rows = paired_differences(replace(one, name="one", value=one.value * 0), both, index, resamples=10)
    assert [(r.finding, r.value, r.n) for r in rows[:3]] == [("Mass", -1, 10), ("mean", -1, 10), ("pooled", -1, 10)]
    assert (rows[3].finding, rows[3].n) == ("Nodule", 0)
    assert math.isnan(rows[3].value)
    assert rows[3].note == "not compared: only both knows this finding"


def test_rows_are_results_and_a_table(tmp_path):
    index = films(range(30))
    a, b, c = (hits(n, index, np.arange(30) < k) for n, k in (("a|x", 30), ("b", 10), ("c", 10)))
    rows = every_pair([a, b, replace(c, policy="oracle")], index, resamples=50)
    assert [(r.first, r.second) for r in rows if r.finding == "mean"] == [("a|x", "b"), ("a|x", "c"), ("b", "c")]
    assert [r.policy for r in rows if r.finding == "mean"] == ["fixed", "fixed - oracle", "fixed - oracle"]
    results = [r.as_result() for r in rows]
    write_results(tmp_path / "r.json", results)
    assert read_results(tmp_path / "r.json") == results
    table = pivot(results, "accuracy_iou_difference", 0.3)
    assert [(row.label, round(table.value(row, "mean").value, 4)) for row in table.rows] == [
        ("a|x - b", 0.6667), ("a|x - c", 0.6667), ("b - c", 0.0),
    ]  # fmt: skip
    assert results[0].note.startswith("1 - 0.3333; share beyond 0: 0; better")
    text = difference_table(rows, 0.3).splitlines()
    assert len(text) == 5
    assert text[2].startswith("| a\\|x | b | fixed | 1.000 | 0.333 | +0.667 [+0.")
    assert text[2].endswith("| 0.000 | better |")
    assert text[4] == "| b | c | fixed - oracle | 0.333 | 0.333 | +0.000 [+0.000, +0.000] | 1.000 |  |"


def test_what_cannot_be_compared_is_refused():
    index = films(range(4))
    one = hits("one", index, np.ones(4))
    with pytest.raises(PredictionsError, match="compared in one quantity; got accuracy_iou of wang2017"):
        paired_differences(one, hits("other", index, np.ones(4), "iop"), index)
    with pytest.raises(PredictionsError, match="one and other must be measured on the same films"):
        paired_differences(one, replace(one, name="other", film=np.array([0, 1, 2, 2])), index)
    with pytest.raises(ConfigError, match="resamples and seed must not be negative"):
        paired_differences(one, one, index, resamples=-1)
    assert all(math.isnan(r.lo) for r in paired_differences(one, one, index, resamples=0))


def test_given_boxes_against_a_method_as_a_user_would():
    index, boxes = random_world(4, films=30)
    nothing = found(index.images, [], index.findings)
    a, b = (accuracy_of(d, index, RunLabel(n, "", "toy")) for n, d in (("boxes", boxes), ("nothing", nothing)))
    rows = paired_differences(a, b, index, resamples=100)
    assert all(r.b == 0 and r.value == r.a for r in rows)
