"""Protocol cai2018: a brute-force second reading, limits, the order of reading, bounds, policies, bad input."""

import math
from dataclasses import replace

import numpy as np
import pytest
from box_worlds import film, found, index_of, overlap, random_world, values
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_worlds import FINDINGS, SIDE, mask_world, predicted

from cxrlocus.errors import ConfigError, PredictionsError
from cxrlocus.prediction.boxing import find_boxes
from cxrlocus.protocols import PIXEL_PROTOCOLS
from cxrlocus.protocols.cai2018 import CAPPED, FIXED, IOU, PRINTED_AFP, TRIPLES, WANG_AFP, WHOLE, aggregated, cai2018
from cxrlocus.protocols.shared import RunLabel
from cxrlocus.regions.rules import SeveralThresholds
from cxrlocus.report.published import published_results
from cxrlocus.types import BOXED8, Findings

LABEL = RunLabel("made", "v", "toy", "fixed", "a note")
SEED = st.integers(0, 10**6)


def measure(p, index, policy="fixed", **options):
    return cai2018(p, index, label=replace(LABEL, policy=policy), **{"resamples": 0, **options})


def by_cell(rows, *quantities):
    return {(r.quantity, r.detail, r.finding, r.threshold): r.value for r in rows if r.quantity in quantities}


def boxes_of(detections):
    columns = (detections.image, detections.finding, detections.xyxy, detections.score)
    return [
        (detections.images[i], detections.findings.names[c], xyxy, score)
        for i, c, xyxy, score in zip(*(column.tolist() for column in columns), strict=True)
    ]


def second_reading(detections, index, bounds):
    """The paper in plain loops: three ranked boxes a film, one list a finding, read box by box until the bound."""
    boxes, out = boxes_of(detections), {}
    for finding in index.findings:
        films = [r for r in index.records if any(b.finding == finding for b in r.boxes)]
        if not films:
            continue
        ranked = {}
        for record in films:
            mine = [(score, xyxy) for image, f, xyxy, score in boxes if (image, f) == (record.image, finding)]
            ranked[record.image] = [xyxy for _, xyxy in sorted(mine, key=lambda box: -box[0])][:3]
        listed = [
            (record, ranked[record.image][k]) for k in range(3) for record in films if k < len(ranked[record.image])
        ]
        truths = [(record.image, n, b.xyxy) for record in films for n, b in enumerate(record.boxes)
                  if b.finding == finding]  # fmt: skip
        for t_at, t in enumerate(IOU):
            for detail in (WHOLE, CAPPED):
                bound = math.inf if detail == WHOLE else bounds.get(finding, (math.nan,) * 7)[t_at]
                hit, false = set(), 0
                for record, xyxy in listed:
                    met = [(image, n) for image, n, b in truths
                           if image == record.image and overlap(xyxy, b, "iou") > t]  # fmt: skip
                    if not met and round(100 * (false + 1)) > round(100 * bound * len(films), 6):
                        break
                    hit.update(met)
                    false += not met
                known = not math.isnan(bound)
                out["accuracy_iou", detail, finding, t] = len(hit) / len(truths) if known else math.nan
                out["afp", detail, finding, t] = false / len(films) if known else math.nan
    return out


def means(cells):
    """Of the findings in which a cell is defined."""
    groups = {}
    for (quantity, detail, _, t), value in cells.items():
        groups.setdefault((quantity, detail, "mean", t), []).append(value)
    return {
        key: np.nanmean(each) if not np.isnan(each).all() else math.nan for key, each in groups.items()
    }  # fmt: skip


@given(seed=SEED, films=st.integers(1, 25), scores=st.integers(1, 40), bounds=st.sampled_from(["wang", "printed"]))
@settings(max_examples=80)
def test_a_brute_force_second_reading_agrees(seed, films, scores, bounds):
    index, boxes = random_world(seed, films=films, most=5)
    boxes = replace(boxes, score=np.random.default_rng(seed).integers(0, scores, len(boxes)).astype(float))
    expected = second_reading(boxes, index, WANG_AFP if bounds == "wang" else PRINTED_AFP)
    got = by_cell(measure(boxes, index, bounds=bounds), "accuracy_iou", "afp")
    assert {k: v for k, v in got.items() if k[2] not in ("mean", "pooled")} == pytest.approx(expected, nan_ok=True)
    if expected:
        mean = {k: v for k, v in got.items() if k[2] == "mean"}
        assert mean == pytest.approx(means(expected), nan_ok=True)


def test_the_list_is_rank_after_rank_in_the_order_of_the_films():
    index = index_of([film(n, ("Mass", 0, 0, 9, 9), size=(40, 40)) for n in ("b", "a", "c")])
    rows = [(0, "Mass", 0, 0, 1, 1), (1, "Mass", 0, 0, 2, 2), (1, "Mass", 0, 0, 3, 3), (2, "Mass", 0, 0, 4, 4),
            (0, "Mass", 0, 0, 5, 5), (0, "Nodule", 0, 0, 6, 6)]  # fmt: skip
    boxes = replace(found(("a", "b", "c"), rows), score=np.array([0.1, 0.2, 0.9, 0.5, 0.8, 1.0]))
    listed = aggregated(boxes, index)
    # First boxes of b, a, c, then second ones of b and a; nobody boxed a nodule, so its box is on no list.
    assert listed.xyxy[:, 2].tolist() == [3, 5, 4, 2, 1]


def ladder(films, wasted_first):
    """Films with a mass and two boxes each: a right one and a wrong one, whose scores say which comes first."""
    index = index_of([film(f"{i}", ("Mass", 0, 0, 10, 10), size=(40, 40)) for i in range(films)])
    rows = [row for i in range(films) for row in ((i, "Mass", 0, 0, 10, 10), (i, "Mass", 20, 20, 30, 30))]
    scores = [0.0, 1.0] if wasted_first else [1.0, 0.0]
    return index, replace(found(index.images, rows), score=np.array(scores * films))


def test_reading_stops_before_the_bound_is_exceeded():
    # .67 false boxes a film at T = .1: 67 of 100 may be read, the 68th may not, nor anything after it.
    index, boxes = ladder(100, wasted_first=False)
    got = by_cell(measure(boxes, index), "accuracy_iou", "afp")
    assert got["accuracy_iou", CAPPED, "Mass", 0.1] == 1
    assert got["afp", CAPPED, "Mass", 0.1] == 0.67
    assert got["afp", WHOLE, "Mass", 0.1] == 1
    index, boxes = ladder(100, wasted_first=True)
    got = by_cell(measure(boxes, index), "accuracy_iou", "afp")
    # The 68th box of the first rank is wrong and one too many: no second box is ever reached.
    assert got["accuracy_iou", CAPPED, "Mass", 0.1] == 0
    assert got["accuracy_iou", WHOLE, "Mass", 0.1] == 1
    assert got["afp", CAPPED, "Mass", 0.1] == 0.67


def test_a_second_hit_is_neither_a_hit_nor_false():
    index = index_of([film("a", ("Mass", 0, 0, 10, 10), size=(40, 40))])
    boxes = found(("a",), [(0, "Mass", 0, 0, 10, 10), (0, "Mass", 0, 0, 10, 9), (0, "Mass", 0, 0, 10, 8)])
    got = by_cell(measure(boxes, index), "accuracy_iou", "afp")
    assert {got["accuracy_iou", d, "Mass", 0.7] for d in (WHOLE, CAPPED)} == {1.0}
    assert {got["afp", d, "Mass", 0.7] for d in (WHOLE, CAPPED)} == {0.0}


def test_boxes_on_films_that_have_no_box_of_the_finding_do_not_count():
    index = index_of([film("a", ("Mass", 0, 0, 10, 10)), film("b", ("Nodule", 0, 0, 5, 5)), film("c")])
    rows = [(0, "Mass", 0, 0, 10, 10), (1, "Mass", 50, 50, 60, 60), (2, "Mass", 50, 50, 60, 60)]
    got = {(r.quantity, r.detail, r.finding): r for r in measure(found("abc", rows), index) if r.threshold == 0.5}
    assert (got["afp", WHOLE, "Mass"].value, got["afp", WHOLE, "Mass"].n) == (0.0, 1)
    assert (got["accuracy_iou", WHOLE, "Nodule"].value, got["accuracy_iou", WHOLE, "Nodule"].n) == (0.0, 1)


def test_false_positives_are_a_film_and_accuracy_is_a_box():
    # Two true boxes on one film: one hit of two boxes, and one false box of one film.
    index = index_of([film("a", ("Mass", 0, 0, 10, 10), ("Mass", 30, 0, 40, 10))])
    rows = measure(found("a", [(0, "Mass", 0, 0, 10, 10), (0, "Mass", 60, 60, 70, 70)]), index)
    got = {r.quantity: (r.value, r.n) for r in rows if (r.finding, r.threshold, r.detail) == ("Mass", 0.5, WHOLE)}
    assert got == {"accuracy_iou": (0.5, 2), "afp": (1.0, 1)}


@given(seed=SEED)
@settings(max_examples=20)
def test_the_order_of_predictions_does_not_matter(seed):
    index, boxes = random_world(seed)
    boxes = replace(boxes, score=np.random.default_rng(seed).random(len(boxes)))
    turn = np.random.default_rng(seed).permutation(len(index))
    place = np.argsort(turn)
    turned = replace(boxes, images=tuple(boxes.images[i] for i in turn), image=place[boxes.image])
    keys = ("accuracy_iou", "afp")
    assert by_cell(measure(boxes, index), *keys) == pytest.approx(by_cell(measure(turned, index), *keys), nan_ok=True)


@given(seed=SEED)
@settings(max_examples=20)
def test_the_bound_costs_hits_and_saves_false_boxes(seed):
    index, boxes = random_world(seed, films=15, most=5)
    got = by_cell(measure(boxes, index), "accuracy_iou", "afp")
    for (quantity, detail, finding, t), value in got.items():
        if detail == CAPPED and not math.isnan(value):
            assert value <= got[quantity, WHOLE, finding, t] + 1e-12
            if quantity == "afp" and finding in WANG_AFP:
                assert value <= WANG_AFP[finding][IOU.index(t)] + 1e-12


@given(seed=SEED)
@settings(max_examples=15)
def test_maps_are_boxed_at_three_heights_and_ranked_by_the_mean_heat_in_the_box(seed):
    p, index = mask_world(seed)
    assert SeveralThresholds().levels == FIXED
    boxes = find_boxes(p, SeveralThresholds(mean_of="box"))
    expected = second_reading(boxes, index, WANG_AFP)
    got = by_cell(measure(p, index), "accuracy_iou", "afp")
    assert {k: v for k, v in got.items() if k[2] not in ("mean", "pooled")} == pytest.approx(expected, nan_ok=True)


def test_heat_is_the_mean_of_the_whole_box_and_not_of_its_region():
    # A hot L around nothing, with a warm block beside it: the L is hotter, but the box around both is than the L's box.
    maps = np.zeros((1, 2, SIDE, SIDE), np.float32)
    maps[0, 0, 0:9, 9:16], maps[0, 0, 0:9, 0], maps[0, 0, 8, 0:9] = 0.45, 1.0, 1.0
    index = index_of([film("a", ("Mass", 0, 0, 16, 9), size=(SIDE, SIDE))], FINDINGS)
    big, hot = 17 + 63 * 0.45, 17
    assert big / (16 * 9) > hot / 81
    # On the grid that boxes are found on, so that nothing is interpolated.
    fine = np.kron(maps, np.ones((1, 1, 8, 8), np.float32))
    got = by_cell(measure(predicted(index, fine), index), "accuracy_iou", "afp")
    # Read second, behind a wrong box, it would not have been reached.
    assert got["accuracy_iou", CAPPED, "Mass", 0.7] == 1
    assert got["afp", WHOLE, "Mass", 0.7] == 1


def test_bounds_are_wangs_numbers_as_the_paper_prints_them():
    printed = {}
    for r in published_results("cai2018"):
        if r.method == "wang2017" and r.quantity == "afp" and r.finding in BOXED8:
            printed.setdefault(r.finding, {})[r.threshold] = r.value
    assert {f: tuple(row[t] for t in IOU) for f, row in printed.items()} == PRINTED_AFP
    differ = [(f, t) for f in BOXED8 for k, t in enumerate(IOU) if PRINTED_AFP[f][k] != WANG_AFP[f][k]]
    assert differ == [("Atelectasis", 0.3)]
    # What we take for the misprint lets them rise with T, as they must.
    assert all((np.diff(row) >= 0).all() for row in WANG_AFP.values())


def test_a_finding_without_a_bound_has_no_capped_rows_and_says_so():
    findings = Findings(("Mass", "Edema"))
    index = index_of([film("a", ("Mass", 0, 0, 9, 9), ("Edema", 0, 0, 9, 9))], findings)
    rows = measure(found("a", [(0, "Mass", 0, 0, 9, 9), (0, "Edema", 0, 0, 9, 9)], findings), index)
    edema = [r for r in rows if r.finding == "Edema"]
    capped = [r for r in edema if r.detail == CAPPED]
    assert {r.value for r in edema if r.detail == WHOLE and r.quantity == "accuracy_iou"} == {1.0}
    assert len(capped) == 14
    assert all(math.isnan(r.value) and r.n == 0 and "no bound" in r.note for r in capped)
    mean = [r for r in rows if r.finding == "mean" and r.quantity == "accuracy_iou"]
    assert [(r.detail, r.value) for r in mean if r.threshold == 0.1] == [(CAPPED, 1.0), (WHOLE, 1.0)]
    assert ["mean of the 1 " in r.note for r in mean if r.threshold == 0.1] == [True, False]
    assert {r.n for r in rows if r.finding == "pooled" and r.detail == CAPPED} == {1}


def test_heights_are_chosen_on_other_patients_or_on_the_measured_boxes():
    index = index_of([film(f"{i}", ("Mass", 4, 4, 8, 8), size=(SIDE, SIDE)) for i in range(8)], FINDINGS)
    maps = np.zeros((8, 2, SIDE, SIDE), np.float32)
    maps[:, 0, 0:14, 0:14], maps[:, 0, 4:8, 4:8] = 0.75, 1.0
    p = predicted(index, maps)
    got = {policy: measure(p, index, policy) for policy in ("fixed", "validation", "oracle")}
    cell = ("accuracy_iou", WHOLE, "Mass", 0.7)
    assert [by_cell(got[policy], "accuracy_iou")[cell] for policy in got] == [0, 1, 1]
    notes = [next(r.note for r in got[policy] if r.detail == CAPPED) for policy in got]
    assert notes[0] == "a note; heights 0.3 0.5 0.7"
    assert notes[1].startswith("a note; heights from the boxes of the other half of the patients: Mass 0.1, 0.2, 0.8")
    assert notes[2].startswith("a note; heights from these test boxes: Mass 0.1, 0.2, 0.8")
    assert len(set(TRIPLES)) == len(TRIPLES) == 84
    assert TRIPLES[0] == FIXED


@given(seed=SEED)
@settings(max_examples=8)
def test_no_fixed_heights_hit_more_than_the_oracles(seed):
    p, index = mask_world(seed)
    cells = [by_cell(measure(p, index, policy), "accuracy_iou") for policy in ("fixed", "oracle")]
    for finding in FINDINGS:
        key = ("accuracy_iou", WHOLE, finding, 0.3)
        assert key not in cells[0] or cells[0][key] <= cells[1][key] + 1e-12


def test_given_boxes_beyond_the_third_are_left_out_and_told():
    index = index_of([film("a", ("Mass", 0, 0, 9, 9))])
    rows = [(0, "Mass", 20 * k, 20, 20 * k + 5, 30) for k in range(4)] + [(0, "Mass", 0, 0, 9, 9)]
    boxes = replace(found("a", rows), score=np.array([5.0, 4.0, 3.0, 2.0, 1.0]))
    got = measure(boxes, index)
    assert by_cell(got, "accuracy_iou")["accuracy_iou", WHOLE, "Mass", 0.5] == 0
    assert by_cell(got, "afp")["afp", WHOLE, "Mass", 0.5] == 3
    assert all("2 given boxes beyond a film's 3 best left out" in r.note for r in got)


def test_intervals_hold_what_was_read():
    index, boxes = ladder(60, wasted_first=False)
    rows = [r for r in measure(boxes, index, resamples=200) if (r.finding, r.threshold) == ("Mass", 0.1)]
    afp = next(r for r in rows if (r.quantity, r.detail) == ("afp", CAPPED))
    # 40 of 60 films keep their false box: a share of .67 with a standard error of .06.
    assert afp.value == pytest.approx(40 / 60)
    assert (afp.lo, afp.hi) == pytest.approx((0.667 - 0.12, 0.667 + 0.12), abs=0.03)
    # Every film hits, in every resample.
    assert {(r.lo, r.hi) for r in rows if r.quantity == "accuracy_iou"} == {(1.0, 1.0)}


def test_bad_input_is_refused():
    p, index = mask_world(0)
    with pytest.raises(ConfigError, match="bounds must be one of wang, printed; got 'cai'"):
        measure(p, index, bounds="cai")
    with pytest.raises(PredictionsError, match=r"prob must be \(films, findings\)"):
        measure(p, index, prob=p.prob[:, :1])
    with pytest.raises(PredictionsError, match="every film of the predictions must be in the evaluated index"):
        measure(p, index.subset([0, 1]))


def test_it_is_called_as_the_other_protocols_of_maps():
    p, index = mask_world(1)
    assert PIXEL_PROTOCOLS["cai2018"] is cai2018
    rows = PIXEL_PROTOCOLS["cai2018"](p, index, prob=p.prob, label=LABEL, seed=0, resamples=5, sizes=None)
    assert {r.quantity for r in rows} == {"accuracy_iou", "afp", "auroc"}
    assert {r.detail for r in rows} == {CAPPED, WHOLE, ""}
    assert len(values(rows, "auroc", "mean")) == 1
