import dataclasses
import math

import pytest
from drawn import result, results_of
from hypothesis import given
from hypothesis import strategies as st

from cxrlocus.protocols.result import Result
from cxrlocus.report.tables import (
    UNDEFINED,
    accuracy_table,
    grouped,
    interval,
    markdown_table,
    measured,
    number,
    pivot,
    short_names,
    text_table,
    thresholds,
)

ROWS = [*results_of("cam", 0.55), *results_of("gradcam", 0.45), *results_of("centre_box", 0.65, "knows nothing")]


def test_every_cell_is_the_result_it_was_made_from():
    table = accuracy_table(ROWS, 0.5)
    assert table.columns == ("Mass", "Nodule", "mean", "pooled")
    made = {(r.method, r.finding): r for r in ROWS if r.quantity == "accuracy_iou" and r.threshold == 0.5}
    for row in table.rows:
        for column, cell in zip(table.columns, row.cells, strict=True):
            assert cell is made[row.method, column]
    assert len(table.rows) * len(table.columns) == len(made)


def test_summaries_come_last_whatever_the_order_of_results():
    assert accuracy_table(reversed(ROWS)).columns == ("Nodule", "Mass", "mean", "pooled")


def test_a_cell_without_a_result_is_empty_and_not_undefined():
    rows = [result("cam", "Mass", 0.5), result("cam", "Nodule", math.nan, n=0), result("gradcam", "Nodule", 0.25)]
    table = accuracy_table(rows)
    assert table.rows[1].cells[0] is None
    text = text_table(rows).splitlines()
    assert text[1].split() == ["cam", "fixed", "0.50", UNDEFINED]
    assert text[2].split() == ["gradcam", "fixed", "0.25"]


def test_a_mean_of_fewer_findings_is_marked_and_never_the_best():
    rows = [result("cam", f, v) for f, v in (("Mass", 0.2), ("Nodule", 0.4), ("mean", 0.3), ("pooled", 0.3))]
    rows += [result("gradcam", f, v) for f, v in (("Mass", 0.5), ("Nodule", math.nan), ("mean", 0.5), ("pooled", 0.2))]
    rows += [result("wang2017", f, v, source="paper") for f, v in (("Mass", 0.6), ("mean", 0.6))]
    rows.append(result("chexcam", "mean", 0.1))
    table = accuracy_table(rows)
    at = table.columns.index("mean")
    assert [table.is_of_fewer(row, at) for row in table.rows] == [False, True, False, False]
    assert [table.is_best(row, at) for row in table.rows] == [True, False, False, False]
    assert not any(table.is_of_fewer(row, k) for row in table.rows for k in range(len(table.columns)) if k != at)
    for drawn in (markdown_table(rows), text_table(rows)):
        assert drawn.count("†") == 2
        assert "0.50†" in drawn
        assert drawn.endswith("in the rest it is undefined.")
    assert "†" not in markdown_table([r for r in rows if r.method == "cam"])


def test_best_leaves_out_controls_oracles_and_papers():
    rows = [
        result("cam", "mean", 0.3), result("gradcam", "mean", 0.4), result("cam", "mean", 0.6, policy="oracle"),
        result("wang2017", "mean", 0.7, source="paper"), result("centre_box", "mean", 0.8),
    ]  # fmt: skip
    table = accuracy_table(rows, controls=["centre_box"])
    assert table.best == (0.4,)
    assert [table.is_best(row, 0) for row in table.rows] == [False, True, False, False, False]
    assert markdown_table(rows, controls=["centre_box"]).count("**") == 2


def test_best_is_the_least_where_less_is_better_and_nothing_is_best_alone():
    rows = [result("cam", "mean", 0.3, quantity="afp"), result("gradcam", "mean", 0.4, quantity="afp")]
    assert pivot(rows, "afp", 0.3).best == (0.3,)
    assert math.isnan(pivot(rows[:1], "afp", 0.3).best[0])


def test_an_area_is_neither_good_nor_bad():
    rows = [result("cam", "Mass", 0.2, quantity="mask_area"), result("gradcam", "Mass", 0.3, quantity="mask_area")]
    assert math.isnan(pivot(rows, "mask_area", rows[0].threshold).best[0])


def test_details_are_rows_of_their_own_and_the_best_is_among_its_like():
    rows = [
        dataclasses.replace(result(method, "mean", value), detail=f"capped={capped}")
        for method, capped, value in (("cam", "true", 0.1), ("gradcam", "true", 0.2), ("cam", "false", 0.4),
                                      ("gradcam", "false", 0.3))
    ]  # fmt: skip
    table = accuracy_table(rows)
    assert [row.label for row in table.rows] == [f"{r.method} ({r.detail})" for r in rows]
    assert [table.is_best(row, 0) for row in table.rows] == [False, True, True, False]


def test_policies_and_variants_are_rows_of_their_own():
    rows = [result("cam", "mean", 0.1), result("cam", "mean", 0.2, policy="validation"),
            result("cam", "mean", 0.3, variant="lse")]  # fmt: skip
    table = accuracy_table(rows)
    names = [(r.label, r.policy) for r in table.rows]
    assert names == [("cam", "fixed"), ("cam", "validation"), ("cam (lse)", "fixed")]


def test_two_values_for_one_cell_are_an_error_that_names_both():
    with pytest.raises(ValueError, match=r"cam .*mean; got 0\.1 and 0\.2"):
        accuracy_table([result("cam", "mean", 0.1), result("cam", "mean", 0.2)])
    twice = accuracy_table([result("cam", "mean", 0.1)] * 2)
    assert len(twice.rows) == 1


def test_n_stands_in_the_heading_where_all_rows_agree_on_it():
    rows = [result("cam", "Mass", 0.1, n=7), result("gradcam", "Mass", 0.1, n=7), result("cam", "Nodule", 0.1, n=3),
            result("gradcam", "Nodule", 0.1, n=4), result("wang2017", "Mass", 0.1, n=85, source="paper")]  # fmt: skip
    assert accuracy_table(rows).counts == (7, None)


def test_note_of_a_row_is_what_all_its_results_say():
    rows = [result("cam", "Mass", 0.1, note="levels 60 and 180"),
            result("cam", "mean", 0.1, note="levels 60 and 180; mean of 1 finding")]  # fmt: skip
    assert accuracy_table(rows).rows[0].note == "levels 60 and 180"


def test_groups_are_methods_then_controls_then_papers():
    paper = result("wang2017", "mean", 0.1, source="paper")
    rows = [paper, result("centre_box", "mean", 0.1), result("cam", "mean", 0.1)]
    groups = grouped(accuracy_table(rows, controls={"centre_box"}))
    assert [[r.method for r in g] for g in groups] == [["cam"], ["centre_box"], ["wang2017"]]


def test_a_second_protocol_in_the_table_is_named():
    rows = [result("cam", "mean", 0.1), result("cam", "mean", 0.2, protocol="cai2018")]
    assert text_table(rows).splitlines()[0].split() == ["method", "policy", "protocol", "mean"]


def test_text_and_markdown_print_the_same_numbers():
    text = text_table(ROWS, controls=["centre_box"], intervals="all")
    marked = markdown_table(ROWS, controls=["centre_box"], intervals="all")
    for r in (r for r in ROWS if r.quantity == "accuracy_iou" and r.threshold == 0.3):
        shown = f"{number(r.value)} {interval(r)}"
        assert shown in text
        assert shown in marked.replace("**", "")
    assert {line.count("|") for line in marked.splitlines()} == {7}


def test_a_bar_in_a_name_does_not_split_a_markdown_cell():
    marked = markdown_table([result("a|b", "mean", 0.5)])
    assert r"| a\|b |" in marked


def test_without_results_there_is_a_heading_alone():
    assert text_table([]) == "method  policy"
    assert accuracy_table([]).rows == ()


def test_thresholds_are_sorted_and_leave_nan_out():
    assert thresholds(ROWS, "accuracy_iou") == (0.1, 0.3, 0.5, 0.7)
    assert thresholds(ROWS, "auroc") == ()


@given(st.floats(0, 1), st.integers(2, 4))
def test_number_is_the_value_to_its_digits(value, digits):
    assert abs(float(number(value, digits)) - value) <= 0.5000001 * 10**-digits


@given(st.lists(st.text("abcdefgh_", min_size=1, max_size=20), unique=True, max_size=12))
def test_short_names_stay_distinct_and_are_prefixes(names):
    short = short_names(names)
    assert len(set(short)) == len(names)
    for name, cut in zip(names, short, strict=True):
        assert cut == name or (cut.endswith(".") and name.startswith(cut[:-1]) and len(cut) < len(name))


def test_rows_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        accuracy_table(ROWS).rows[0].method = "other"
    assert isinstance(accuracy_table(ROWS).rows[0].cells[0], Result)


def test_columns_without_a_measure_are_named_below_and_not_drawn():
    rows = [result("cam", "Mass", 0.5), result("cam", "Nodule", math.nan, n=0), result("cam", "mean", 0.5)]
    assert markdown_table(rows).splitlines()[0] == "| method | policy | Mass (n=7) | mean (n=7) |"
    for text in (markdown_table(rows), text_table(rows)):
        assert text.splitlines()[-1] == "Not measured (n = 0): Nodule."
    table = accuracy_table(rows)
    assert table.columns == ("Mass", "Nodule", "mean")
    assert measured(measured(table)[0]) == (measured(table)[0], ())
    # An undefined mean of something, or a table of nothing, is shown.
    assert measured(accuracy_table([result("cam", "Mass", math.nan, n=3)]))[1] == ()
    assert measured(accuracy_table([result("cam", "Mass", math.nan, n=0)]))[1] == ()


def test_nothing_is_best_where_all_are_alike():
    rows = [result("cam", "Mass", 0.25), result("gradcam", "Mass", 0.25)]
    assert "**" not in markdown_table(rows)
    assert markdown_table([*rows, result("lse", "Mass", 0.5)]).count("**") == 2


def test_printed_numbers_that_differ_stay_different():
    """Table 1 of InfoMask: FPR .025 and .077, accuracy .8222 and .8248."""
    for quantity, values in (("fpr", (0.025, 0.0251)), ("accuracy", (0.8221, 0.8248))):
        texts = {text_table([result("m", "Mass", v, quantity=quantity)], quantity).splitlines()[1] for v in values}
        assert len(texts) == (1 if quantity == "fpr" else 2)
    assert "0.025" in text_table([result("m", "Mass", 0.025, quantity="fpr")], "fpr")
