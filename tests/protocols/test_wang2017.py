"""Protocol wang2017: a second reading of the paper, integer properties, limits, invariances, bad input."""

import math
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from box_worlds import (
    ACCURACIES,
    FALSE,
    OFFICIAL,
    film,
    found,
    index_of,
    measure,
    official_world,
    perfect,
    random_world,
    second_reading,
    values,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrlocus.data.records import TruthBox
from cxrlocus.errors import ConfigError, DataError, PredictionsError
from cxrlocus.protocols import PROTOCOLS
from cxrlocus.protocols.wang2017 import RunLabel
from cxrlocus.types import BOXED8, Findings

SEED = st.integers(0, 10**6)


@given(seed=SEED, most=st.integers(1, 4))
@settings(max_examples=60)
def test_a_second_reading_of_the_paper_agrees(seed, most):
    index, detections = random_world(seed, most=most)
    got = {(r.quantity, r.finding, r.threshold): r.value for r in measure(detections, index)}
    want = second_reading(detections, index)
    assert not want or set(got) == set(want)
    assert {key: got[key] for key in want} == pytest.approx(want, abs=1e-12)


def test_every_accuracy_is_a_whole_number_of_boxes_and_every_afp_of_984():
    index = official_world()
    assert (index.box_count, Counter(b.finding for r in index.records for b in r.boxes)) == (984, OFFICIAL)
    rng = np.random.default_rng(1)
    shaken = perfect(index)
    shaken = replace(shaken, xyxy=shaken.xyxy * rng.uniform(0.9, 1.1, (984, 1)) + rng.normal(size=(984, 4)))
    rows = measure(shaken, index, resamples=5)
    fractions = set()
    for row in rows:
        if row.finding in OFFICIAL:
            whole = OFFICIAL[row.finding] if row.quantity in ACCURACIES else 984
            assert row.n == whole
            assert row.value * whole == pytest.approx(round(row.value * whole), abs=1e-9)
            fractions.add(row.value)
    assert len(fractions) > 30
    pooled = [r for r in rows if r.finding == "pooled"]
    assert {r.n for r in pooled} == {984}


# Acc of the paper's Table 7 (IoU) a finding, T = .1 to .7, as printed: four digits, some cut and some rounded.
TABLE_7 = {
    0.1: (0.6888, 0.9383, 0.6601, 0.7073, 0.4000, 0.1392, 0.6333, 0.3775),
    0.2: (0.4722, 0.6849, 0.4509, 0.4796, 0.2588, 0.0506, 0.3500, 0.2346),
    0.3: (0.2444, 0.4589, 0.3006, 0.2764, 0.1529, 0.0379, 0.1666, 0.1326),
    0.4: (0.0944, 0.2808, 0.2026, 0.1219, 0.0705, 0.0126, 0.0750, 0.0714),
    0.5: (0.0500, 0.1780, 0.1111, 0.0650, 0.0117, 0.0126, 0.0333, 0.0306),
    0.6: (0.0222, 0.0753, 0.0457, 0.0243, 0.0, 0.0126, 0.0166, 0.0306),
    0.7: (0.0055, 0.0273, 0.0196, 0.0, 0.0, 0.0, 0.0083, 0.0204),
}


def test_printed_accuracies_are_hits_over_the_official_number_of_boxes():
    for t, printed in TABLE_7.items():
        for (finding, n), value in zip(OFFICIAL.items(), printed, strict=True):
            assert any(abs(k / n - value) < 1e-4 for k in range(n + 1)), (t, finding, value)
    # The property tells these numbers of boxes from others: with one box more, a good part no longer fits.
    wrong = [
        min(abs(k / (n + 1) - v) for k in range(n + 2))
        for row in TABLE_7.values()
        for n, v in zip(OFFICIAL.values(), row, strict=True)
        if v > 0
    ]
    assert sum(d > 1e-4 for d in wrong) > 30


def test_limit_perfect_boxes():
    index = official_world()
    for row in measure(perfect(index), index, resamples=20):
        assert row.value == (1.0 if row.quantity in ACCURACIES else 0.0)
        assert (row.lo, row.hi) == (row.value, row.value)


def test_limit_no_boxes():
    index = official_world()
    assert {r.value for r in measure(found(index.images, []), index)} == {0.0}


def test_limit_the_whole_film_boxed():
    index = index_of([film("a", ("Mass", 0, 0, 512, 512)), film("b", ("Mass", 0, 0, 1024, 1024))])
    rows = measure(found("ab", [(i, "Mass", 0, 0, 1024, 1024) for i in (0, 1)]), index)
    assert values(rows, "accuracy_iou", "Mass") == [1, 1, 0.5, 0.5, 0.5, 0.5, 0.5]
    assert values(rows, "accuracy_iobb", "Mass") == [1, 0.5, 0.5, 0.5, 0.5]
    assert values(rows, "afp", "Mass") == [0, 0, 0.5, 0.5, 0.5, 0.5, 0.5]


def test_convention_thresholds_are_strict():
    index = index_of([film("a", ("Mass", 0, 0, 10, 10))])
    rows = measure(found("a", [(0, "Mass", 0, 0, 10, 5)]), index)
    assert values(rows, "accuracy_iou", "Mass") == [1, 1, 1, 1, 0, 0, 0]
    assert values(rows, "accuracy_iobb", "Mass") == [1] * 5


def test_a_second_hit_on_one_box_is_neither_a_hit_nor_false():
    index = index_of([film("a", ("Mass", 0, 0, 10, 10)), film("b", ("Nodule", 0, 0, 10, 10))])
    rows = measure(found("ab", [(0, "Mass", 0, 0, 10, k) for k in (10, 9, 2)]), index)
    assert values(rows, "accuracy_iou", "Mass") == [1] * 7
    assert values(rows, "afp", "Mass") == [0.0, 0.5, 0.5, 0.5, 0.5, 0.5, 0.5]


def test_false_boxes_count_on_every_boxed_film_and_on_no_other():
    index = index_of(
        [film("a", ("Mass", 0, 0, 10, 10)), film("b", ("Nodule", 0, 0, 10, 10), positive=["Nodule", "Mass"]), film("c")]
    )
    rows = measure(found("abc", [(i, "Mass", 500, 500, 600, 600) for i in (0, 1, 1, 2, 2, 2)]), index)
    assert values(rows, "afp", "Mass") == [1.5] * 7
    assert values(rows, "afp_labelled", "Mass") == [1.5] * 7
    assert values(rows, "afp", "mean") == [0.75] * 7
    unlabelled = index_of([index.records[0], replace(index.records[1], positive=frozenset(["Nodule"]))])
    rows = measure(found("ab", [(i, "Mass", 500, 500, 600, 600) for i in (0, 1, 1)]), unlabelled)
    assert (values(rows, "afp", "Mass")[0], values(rows, "afp_labelled", "Mass")[0]) == (1.5, 0.5)


def test_each_of_several_true_boxes_counts_and_is_hit_once():
    index = index_of([film("a", ("Mass", 0, 0, 10, 10), ("Mass", 100, 100, 110, 110), ("Mass", 0, 0, 10, 8))])
    row = measure(found("a", [(0, "Mass", 0, 0, 10, 10)]), index)[4]
    assert (row.threshold, row.value, row.n) == (0.5, 2 / 3, 3)


@given(seed=SEED)
@settings(max_examples=30)
def test_monotone_in_the_threshold_and_bounded(seed):
    index, detections = random_world(seed)
    rows = measure(detections, index, resamples=10)
    for quantity in (*ACCURACIES, *FALSE):
        for finding in {r.finding for r in rows}:
            steps = np.diff(values(rows, quantity, finding))
            assert ((steps <= 0) if quantity in ACCURACIES else (steps >= 0)).all() or np.isnan(steps).all()
    for row in rows:
        if row.quantity in ACCURACIES and row.n:
            assert 0 <= row.lo <= row.hi <= 1


@given(seed=SEED)
@settings(max_examples=20)
def test_invariance_order_of_boxes_and_films_and_common_scale(seed):
    index, detections = random_world(seed)
    rng = np.random.default_rng(seed)
    want = measure(detections, index, resamples=20)
    boxes, films = rng.permutation(len(detections)), rng.permutation(len(index))
    place = np.argsort(films)

    def scaled_boxes(record):
        return tuple(TruthBox(b.finding, tuple(4 * x for x in b.xyxy)) for b in record.boxes)

    scaled = index_of([replace(r, boxes=scaled_boxes(r)) for r in index.subset(films.tolist()).records], index.findings)
    moved = replace(
        detections,
        images=tuple(detections.images[i] for i in films),
        image=place[detections.image[boxes]],
        finding=detections.finding[boxes],
        xyxy=4 * detections.xyxy[boxes],
        score=detections.score[boxes],
    )
    got = measure(moved, scaled, resamples=20)
    assert [repr(r) for r in got] == [repr(r) for r in want]


def test_intervals_are_those_of_drawn_patients():
    index = official_world()
    half = perfect(index)
    half = replace(half, xyxy=half.xyxy + 1e4 * (np.arange(984) % 2)[:, None])
    rows = measure(half, index, resamples=1000)
    pooled = next(r for r in rows if r.quantity == "accuracy_iou" and r.finding == "pooled")
    assert pooled.value == 0.5
    assert (pooled.hi - pooled.lo) / 2 == pytest.approx(1.96 * math.sqrt(0.25 / 984), rel=0.25)
    nodules = next(r for r in rows if r.quantity == "accuracy_iou" and r.finding == "Nodule")
    mean = next(r for r in rows if r.quantity == "accuracy_iou" and r.finding == "mean")
    assert nodules.hi - nodules.lo > 2 * (mean.hi - mean.lo)
    assert mean.lo < mean.value < mean.hi
    assert measure(half, index, resamples=50, seed=3) == measure(half, index, resamples=50, seed=3)
    assert measure(half, index, resamples=50, seed=3) != measure(half, index, resamples=50, seed=4)


def test_films_of_one_patient_are_drawn_together():
    # Two patients: one all hits, one all misses; every resample is 0, 1/2 or 1 however many films each has.
    films = [film(f"{p}{k}", ("Mass", 0, 0, 10, 10), patient=p) for p in "ab" for k in range(50)]
    index = index_of(films)
    hits = found(index.images, [(k, "Mass", 0, 0, 10, 10) for k in range(50)])
    row = measure(hits, index, resamples=500)[0]
    assert (row.value, row.lo, row.hi) == (0.5, 0.0, 1.0)


def test_one_patient_has_no_interval():
    index = index_of([film("a", ("Mass", 0, 0, 10, 10))])
    rows = measure(perfect(index), index, resamples=100, prob=np.full((1, 8), 0.5))
    assert all(math.isnan(r.lo) and math.isnan(r.hi) for r in rows)


def test_auroc_counts_known_labels_only():
    index = index_of(
        [film("a", positive=["Mass"]), film("b", positive=["Mass"]), film("c"), film("d"), film("e", unknown=["Mass"])]
    )
    prob = np.full((5, 8), 0.5)
    prob[:, BOXED8.index("Mass")] = (0.9, 0.4, 0.6, 0.1, 1.0)
    rows = {r.finding: r for r in measure(found("abcde", []), index, prob=prob, resamples=200) if r.quantity == "auroc"}
    mass, mean = rows["Mass"], rows["mean"]
    assert (mass.value, mass.n, mass.note) == (0.75, 4, "a note; 2 positive films")
    assert 0 <= mass.lo < 0.75 < mass.hi <= 1
    assert math.isnan(mass.threshold)
    assert math.isnan(rows["Nodule"].value)
    assert (mean.value, mean.n) == (0.75, 5)
    assert mean.note == "a note; mean of the 1 findings with positive and negative films"


def test_convention_prob_is_aligned_with_the_detections_not_with_the_index():
    index = index_of([film("a", positive=["Mass"]), film("b"), film("c")])
    two = Findings(("Nodule", "Mass"))
    rows = measure(found("ba", [], two), index, prob=np.array([[0.5, 0.1], [0.5, 0.9]]))
    auroc = {r.finding: r.value for r in rows if r.quantity == "auroc"}
    assert set(auroc) == {"Nodule", "Mass", "mean"}
    assert auroc["Mass"] == 1.0


def test_boxed_films_not_looked_at_are_misses_and_said_so():
    index = index_of([film("a", ("Mass", 0, 0, 10, 10)), film("b", ("Mass", 0, 0, 10, 10))])
    rows = measure(found("a", [(0, "Mass", 0, 0, 10, 10)]), index)
    assert values(rows, "accuracy_iou", "Mass") == [0.5] * 7
    assert all("1 boxed films were not looked at" in r.note for r in rows)


def test_a_finding_unknown_to_the_predictions_is_not_measured_and_said_so():
    index = index_of([film("a", ("Mass", 0, 0, 10, 10), ("Nodule", 0, 0, 4, 4))])
    rows = measure(found("a", [(0, "Mass", 0, 0, 10, 10)], Findings(("Mass", "Fracture"))), index)
    nodule = [r for r in rows if r.finding == "Nodule"]
    assert len(nodule) == 31
    assert all(math.isnan(r.value) and r.n == 0 and "do not know this finding" in r.note for r in nodule)
    assert values(rows, "accuracy_iou", "mean") == [1.0] * 7
    assert not [r for r in rows if r.finding == "Fracture"]


def test_an_index_without_boxes_gives_undefined_accuracies():
    rows = measure(found("a", [(0, "Mass", 0, 0, 10, 10)]), index_of([film("a")]), resamples=10)
    assert {r.finding for r in rows} == {"mean", "pooled"}
    assert all(math.isnan(r.value) and r.n == 0 for r in rows)


def test_rows_carry_the_label_and_the_paper_s_thresholds():
    index = index_of([film("a", ("Mass", 0, 0, 10, 10))])
    label = RunLabel("cam", "lse", "nih", "oracle", "chosen on these boxes")
    rows = PROTOCOLS["wang2017"](perfect(index), index, label=label, resamples=0)
    kinds = {(r.protocol, r.method, r.variant, r.dataset, r.policy, r.source) for r in rows}
    assert kinds == {("wang2017", "cam", "lse", "nih", "oracle", "ours")}
    assert all(r.note.startswith("chosen on these boxes") for r in rows)
    for quantity, thresholds in {**ACCURACIES, **FALSE}.items():
        assert tuple(r.threshold for r in rows if r.quantity == quantity and r.finding == "Mass") == thresholds


def test_bad_input_is_refused_by_name():
    index = index_of([film("a", ("Mass", 0, 0, 10, 10))])
    with pytest.raises(PredictionsError, match=r"'z' is not \(1 of 2\)"):
        measure(found("az", []), index)
    with pytest.raises(PredictionsError, match="'a' stands more than once"):
        measure(found("aa", []), index)
    with pytest.raises(PredictionsError, match=r"prob must be .* = \(1, 8\); got \(1, 7\)"):
        measure(found("a", []), index, prob=np.zeros((1, 7)))
    with pytest.raises(ConfigError, match="got -1 and 0"):
        measure(found("a", []), index, resamples=-1)
    with pytest.raises(ConfigError, match="policy must be one of fixed, validation, oracle; got 'best'"):
        RunLabel("cam", "", "nih", "best")


@given(st.sampled_from([(0, 0, 0, 5), (5, 0, 4, 5), (0, 0, math.nan, 5), (0, -math.inf, 5, 5)]))
def test_a_broken_true_box_is_refused_with_its_film(bad):
    with pytest.raises(DataError, match=r"toy: a\.png: a box must be finite with x1 > x0"):
        measure(found(["a.png"], []), index_of([film("a.png", ("Mass", *bad))]))
