import base64
import math

import numpy as np
import pytest
from drawn import result, results_of
from hypothesis import given
from hypothesis import strategies as st

from cxrlocus.metrics.ranking import auroc
from cxrlocus.report.figures import Roc, accuracy_figure, lines, roc_figure, roc_points, small_multiples


def svg(uri):
    head, body = uri.split(",", 1)
    assert head == "data:image/svg+xml;base64"
    return base64.b64decode(body).decode()


def test_points_of_a_curve_are_the_results():
    rows = [*results_of("cam", 0.55), *results_of("centre_box", 0.25)]
    curves = lines(rows, "accuracy_iou", "mean", {"centre_box"})
    assert [(c.label, c.is_control) for c in curves] == [("cam", False), ("centre box", True)]
    made = {r.threshold: r for r in rows if (r.method, r.finding, r.quantity) == ("cam", "mean", "accuracy_iou")}
    assert dict(zip(curves[0].x.tolist(), curves[0].y.tolist(), strict=True)) == {t: r.value for t, r in made.items()}
    assert curves[0].lo.tolist() == [made[t].lo for t in sorted(made)]


def test_policies_and_protocols_of_one_method_are_curves_apart():
    rows = [result("cam", "mean", 0.1), result("cam", "mean", 0.2, policy="oracle"), result("gradcam", "mean", 0.2)]
    assert [c.label for c in lines(rows, "accuracy_iou", "mean")] == ["cam, fixed", "cam, oracle", "gradcam"]
    rows = [result("cam", "mean", 0.1), result("cam", "mean", 0.2, protocol="cai2018")]
    assert [c.label for c in lines(rows, "accuracy_iou", "mean")] == ["cam, wang2017", "cam, cai2018"]


def test_papers_are_not_drawn():
    assert lines([result("wang2017", "mean", 0.5, source="paper")], "accuracy_iou", "mean") == []


def test_figures_name_their_curves_and_do_not_change_from_run_to_run():
    rows = [*results_of("cam_one", 0.55), *results_of("centre_box", 0.25)]
    uri = accuracy_figure(rows, "accuracy_iou", "IoU must exceed", {"centre_box"})
    assert "cam one" in svg(uri)
    assert "IoU must exceed" in svg(uri)
    assert uri == accuracy_figure(rows, "accuracy_iou", "IoU must exceed", {"centre_box"})
    panels = svg(small_multiples(rows, "accuracy_iou", "IoU", ["Mass", "Nodule", "Hernia"], {"centre_box"}))
    assert "Mass" in panels
    assert "Hernia" not in panels


def test_controls_are_dashed_and_methods_are_not():
    dashed = svg(accuracy_figure(results_of("box", 0.25), "accuracy_iou", "IoU", {"box"})).count("stroke-dasharray")
    solid = svg(accuracy_figure(results_of("box", 0.25), "accuracy_iou", "IoU")).count("stroke-dasharray")
    assert dashed > solid


def test_nothing_to_draw_is_no_figure():
    nan = [result("cam", "Mass", math.nan)]
    assert accuracy_figure([], "accuracy_iou", "IoU") == ""
    assert small_multiples(nan, "accuracy_iou", "IoU", ["Mass"]) == ""
    assert roc_figure({"Mass": [Roc("cam", [1, 1], [0.5, 0.6], None)]}) == ""


def test_a_name_that_looks_like_mathematics_is_drawn_as_it_is():
    assert "a$\\frac$" in svg(accuracy_figure(results_of("a$\\frac$", 0.5), "accuracy_iou", "IoU"))


def test_roc_figure_prints_the_area_of_the_result_and_computes_none():
    area = result("cam", "Mass", 0.4321, quantity="auroc", threshold=math.nan)
    drawn = svg(roc_figure({"Mass": [Roc("cam", [0, 1], [0.1, 0.9], area)]}))
    assert "0.432" in drawn
    assert "1.000" not in drawn


def test_roc_of_a_perfect_and_of_a_constant_score():
    assert [r.tolist() for r in roc_points([0, 1], [0.1, 0.9])] == [[0, 0, 1], [0, 1, 1]]
    assert [r.tolist() for r in roc_points([0, 1, 0], [0.5, 0.5, 0.5])] == [[0, 1], [0, 1]]


@pytest.mark.parametrize("target", [[], [0, 0], [1, 1]])
def test_roc_without_both_classes_is_empty(target):
    assert [len(r) for r in roc_points(target, np.zeros(len(target)))] == [0, 0]


@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=2, max_size=30))
def test_area_under_the_curve_is_the_auroc(pairs):
    target, score = np.array(pairs).T
    x, y = roc_points(target, score)
    if len(x):
        area = float(np.sum(np.diff(x) * (y[1:] + y[:-1]) / 2))
        assert area == pytest.approx(auroc(target, score))
        assert (np.diff(x) >= 0).all()
        assert (np.diff(y) >= 0).all()
