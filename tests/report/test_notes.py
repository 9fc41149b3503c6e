"""Lines below tables: what a method's every row says, and what papers say beside a quantity."""

import math

from drawn import result
from hypothesis import given
from hypothesis import strategies as st

from cxrlocus.report.notes import notes
from cxrlocus.report.published import published_results

WORDS = st.lists(st.sampled_from(("knows boxes", "mean of 3 seeds", "map > 0", "films left out")), unique=True)


def test_what_every_row_of_a_method_says_is_told_once():
    rows = [
        result("cai", "Mass", 0.5, note="trained on test labels; map > 0"),
        result("cai", "Mass", 0.25, quantity="iop", note="trained on test labels; map > 0.5"),
        result("cam", "Mass", 0.5, note="heights .5"),
        result("gradcam", "Mass", 0.5, note="heights .5"),
        result("max", "Mass", 0.5),
    ]
    assert notes(rows)[1:] == ["cai: trained on test labels", "cam, gradcam: heights .5"]


def test_the_data_are_named_first():
    rows = [result("cam", "Mass", 0.5, dataset="phantom, boxes of other.csv"), result("cam", "Mass", 0.5, dataset="d")]
    assert notes(rows) == ["measured on: phantom, boxes of other.csv, d"]
    assert notes([]) == []


def test_a_number_that_is_undefined_does_not_silence_the_others():
    rows = [result("cam", "Mass", 0.5, note="knows boxes"), result("cam", "Nodule", math.nan, n=0, note="no bound")]
    assert notes(rows)[1:] == ["cam: knows boxes"]


def test_a_mean_from_which_seeds_are_missing_is_named():
    rows = [
        result("m", "mean", 0.5, quantity="iop", note="mean of 1 seed, undefined in 2"),
        result("m", "mean", 0.5, quantity="fpr", note="mean of 3 seeds; n from 3 to 9"),
    ]
    assert notes(rows)[1:] == ["m iop: mean of 1 seed, undefined in 2"]


def test_a_papers_remark_on_one_quantity_names_it():
    """The published FNR of GradCAM contradicts its row, and nothing else of the table does."""
    (line,) = [line for line in notes(published_results("infomask2019")) if "contradicts its row" in line]
    assert line.startswith("infomask2019 (GradCAM) fnr: contradicts")
    assert not any(line.startswith("measured on") for line in notes(published_results("infomask2019")))


@given(st.lists(WORDS, min_size=1, max_size=4), st.randoms())
def test_only_what_all_rows_say_is_told_whatever_their_order(said: list[list[str]], random: object) -> None:
    rows = [result("cam", "Mass", 0.5, note="; ".join(words)) for words in said]
    shuffled = list(rows)
    random.shuffle(shuffled)  # type: ignore[attr-defined]  # a Random
    told = [
        {part for line in notes(some)[1:] for part in line.partition(": ")[2].split("; ")} for some in (rows, shuffled)
    ]
    assert told[0] == told[1] == set.intersection(*map(set, said))
