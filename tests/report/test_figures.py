import base64
import math
from contextlib import contextmanager

import numpy as np
import pytest
from drawn import result, results_of
from hypothesis import given
from hypothesis import strategies as st

from cxrlocus.metrics.ranking import auroc
from cxrlocus.report import figures
from cxrlocus.report.figures import (
    TALLEST,
    Roc,
    accuracy_figure,
    density,
    density_figure,
    lines,
    roc_figure,
    roc_points,
    small_multiples,
)


@contextmanager
def plain_axes():
    """The upper ends of the axes of the figures that are drawn within the block."""
    tops, uri = [], figures._uri

    def seen(figure):
        tops.extend(axes.get_ylim()[1] for axes in figure.axes)
        return uri(figure)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(figures, "_uri", seen)
        yield tops


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


@given(st.lists(st.floats(0, 1), min_size=2, max_size=40), st.integers(0, 10**6))
def test_a_density_has_area_one_and_does_not_feel_the_order(values, seed):
    given_values = np.array(values).round(3)
    x = np.linspace(0, 1, 20_001)
    y = density(given_values, x)
    if np.ptp(given_values) < 1e-3:
        assert len(y) == 0
        return
    assert (y >= 0).all()
    if given_values.std() > 0.02:
        assert float(((y[1:] + y[:-1]) / 2 * np.diff(x)).sum()) == pytest.approx(1, abs=1e-3)
    shuffled = np.random.default_rng(seed).permutation(given_values)
    assert density(shuffled, x[::500]) == pytest.approx(y[::500])
    assert density(1 - given_values, 1 - x[::500]) == pytest.approx(y[::500], rel=1e-6, abs=1e-9)


def test_a_density_is_the_mirrored_sum_of_kernels():
    values, at = np.array([0.05, 0.2, 0.7]), 0.1
    # Scott: the sample's standard deviation times n ** (-1 / 5).
    h = values.std(ddof=1) * 3 ** (-1 / 5)
    kernels = [
        math.exp(-(((at - c) / h) ** 2) / 2) / (h * math.sqrt(2 * math.pi))
        for v in values
        for c in (v, -v, 2 - v, 2 + v, v - 2)
    ]
    assert density([*values, math.nan], [at]).item() == pytest.approx(sum(kernels) / 3)


def test_a_density_of_nothing_of_one_value_and_of_no_share():
    assert [len(density(v, [0.5])) for v in ([], [math.nan], [0.3], [0.3, 0.3])] == [0, 0, 0, 0]
    with pytest.raises(ValueError, match=r"values must be in \[0, 1\]; got -0.1 to 0.5"):
        density([-0.1, 0.5], [0.5])


def test_controls_stand_back_behind_methods_in_densities():
    rows = {"IoP": {"info": [0.1, 0.5], "box": [0.2, 0.7]}}
    plain, muted = (svg(density_figure(rows, controls)) for controls in ((), {"box"}))
    assert plain.count("stroke-opacity: 0.6") == 0
    assert muted.count("stroke-opacity: 0.6") > 0


def test_a_spike_does_not_flatten_the_other_densities():
    spread = np.linspace(0, 1, 50)
    spike = np.append(np.full(49, 0.5), 0.5001)
    assert density(spike, [0.5]).item() > 100 * TALLEST
    with plain_axes() as tops:
        density_figure({"IoP": {"spread": spread, "spike": spike}, "FPR": {"spread": spread}})
        density_figure({"IoP": {"spread": spread, "spike": spike}}, {"spike"})
    assert tops[0] == TALLEST
    assert tops[1] < 2
    assert tops[2] < 3


def test_density_figure_tells_films_and_draws_what_has_no_density_as_a_line():
    panels = {
        "IoP": {"info_mask": [0.1, 0.5, math.nan], "box": [0.2, 0.2]},
        "FNR": {"info_mask": [0.1, 0.5, 0.9], "box": [1.0, 1.0]},
        "FPR": {"info_mask": [], "box": [math.nan]},
    }
    drawn = svg(density_figure(panels, {"box"}))
    assert "info mask (IoP n = 2, 1 undefined; FNR n = 3; FPR n = 0)" in drawn
    assert "box (IoP FNR n = 2; FPR n = 0, 1 undefined)" in drawn
    assert ">FPR<" not in drawn
    assert "who" not in svg(density_figure({"IoP": {"box": [0.2, 0.4], "who": []}}))
    assert drawn.count("stroke-dasharray") > svg(density_figure(panels)).count("stroke-dasharray")
    assert density_figure({"IoP": {"box": [math.nan]}}) == density_figure({}) == ""
