"""Arithmetic of boxes: reference values, limits, invariances, bad input."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from cxrlocus.regions.boxes import area, clip, iobb, iou, paired_iobb, paired_iou

A = [[0, 0, 10, 10], [20, 20, 30, 40]]
B = [[5, 5, 15, 15], [0, 0, 10, 5], [22, 25, 26, 30]]


@st.composite
def some_boxes(draw, n=4):
    corner = draw(arrays(np.int64, (n, 2), elements=st.integers(-50, 50)))
    size = draw(arrays(np.int64, (n, 2), elements=st.integers(1, 60)))
    return np.hstack([corner, corner + size]).astype(float)


def test_reference_values():
    # By hand: 25 of 175 and 50 of 100 square pixels; 20 of 200.
    np.testing.assert_allclose(iou(A, B), [[25 / 175, 0.5, 0.0], [0.0, 0.0, 0.1]])
    np.testing.assert_allclose(iobb(A, B), [[0.25, 0.5, 0.0], [0.0, 0.0, 0.1]])
    np.testing.assert_allclose(iobb(B, A), [[0.25, 0.0], [1.0, 0.0], [0.0, 1.0]])


@given(some_boxes(), some_boxes())
@settings(max_examples=50)
def test_agrees_with_counting_pixels(a, b):
    # Boxes at whole numbers cover whole pixels, so painting them is a second reading of both ratios.
    def painted(box):
        film = np.zeros((170, 170), bool)
        x0, y0, x1, y1 = (box + 55).astype(int)
        film[y0:y1, x0:x1] = True
        return film

    p, q = painted(a[0]), painted(b[0])
    assert iou(a, b)[0, 0] == pytest.approx((p & q).sum() / (p | q).sum())
    assert iobb(a, b)[0, 0] == pytest.approx((p & q).sum() / p.sum())


def test_convention_boxes_are_half_open():
    assert area([[10, 10, 12, 11]]).tolist() == [2.0]
    assert iou([[0, 0, 10, 10]], [[10, 0, 20, 10]]).tolist() == [[0.0]]


def test_convention_iobb_divides_by_the_detected_box():
    assert iobb([[3, 3, 4, 4]], [[0, 0, 10, 10]]).tolist() == [[1.0]]
    assert iobb([[0, 0, 10, 10]], [[3, 3, 4, 4]]).tolist() == [[0.01]]


@given(some_boxes())
def test_a_box_meets_itself_wholly(a):
    np.testing.assert_array_equal(np.diag(iou(a, a)), 1.0)
    np.testing.assert_array_equal(np.diag(iobb(a, a)), 1.0)


@given(some_boxes(), some_boxes(n=3), st.integers(-3, 8), st.integers(-40, 40))
def test_invariant_under_common_scale_shift_and_mirror(a, b, power, shift):
    moved_a, moved_b = a * 2.0**power + shift, b * 2.0**power + shift
    np.testing.assert_allclose(iou(moved_a, moved_b), iou(a, b))
    np.testing.assert_allclose(iobb(moved_a, moved_b), iobb(a, b))
    mirror = np.array([-1.0, 1.0, -1.0, 1.0])
    np.testing.assert_array_equal(iou(a[:, [2, 1, 0, 3]] * mirror, b[:, [2, 1, 0, 3]] * mirror), iou(a, b))


@given(some_boxes(), some_boxes())
def test_symmetry_and_bounds(a, b):
    np.testing.assert_array_equal(iou(a, b), iou(b, a).T)
    assert (iou(a, b) <= np.minimum(iobb(a, b), iobb(b, a).T) + 1e-12).all()
    np.testing.assert_array_equal(paired_iou(a, b), np.diag(iou(a, b)))
    np.testing.assert_array_equal(paired_iobb(a, b), np.diag(iobb(a, b)))


def test_iou_of_huge_and_of_minute_boxes_is_finite():
    huge, minute = [[0, 0, 1.2e154, 1.2e154]], [[0, 0, 1e-150, 1e-150]]
    assert iou(huge, huge).tolist() == [[1.0]]
    assert iou(minute, minute).tolist() == [[1.0]]


def test_clip_cuts_and_empties():
    cut = clip([[-10, -10, 5, 5], [90, 90, 120, 130], [200, 0, 210, 10]], (100, 110))
    assert cut.tolist() == [[0, 0, 5, 5], [90, 90, 100, 110], [100, 0, 100, 10]]
    with pytest.raises(ValueError, match=r"size must be a positive .* got \(0, 5\)"):
        clip(A, (0, 5))


def test_no_boxes_are_no_boxes():
    assert iou([], B).shape == (0, 3)
    assert iobb(A, np.zeros((0, 4))).shape == (2, 0)


@pytest.mark.parametrize("function", [iou, iobb, paired_iou, paired_iobb])
@given(
    bad=st.sampled_from(
        [
            [0, 0, 0, 5],
            [5, 0, 4, 5],
            [0, 0, np.nan, 5],
            [0, 0, np.inf, 5],
            [-np.inf, 0, 1, 1],
            [0, 0, 1e-300, 1e-300],
            [0, 0, 1e200, 1e200],
        ]
    ),
    first=st.booleans(),
)
def test_bad_boxes_are_refused_by_name(function, bad, first):
    with pytest.raises(ValueError, match=r"must be finite with x1 > x0 and y1 > y0; got \["):
        function(*([[bad], [[0, 0, 1, 1]]] if first else [[[0, 0, 1, 1]], [bad]]))


@pytest.mark.parametrize("bad", [[0, 0, 1, 1], [[0, 0, 1]], [[[0, 0, 1, 1]]]])
def test_bad_shapes_are_refused(bad):
    with pytest.raises(ValueError, match=r"must be \(n, 4\)"):
        iou(bad, B)


def test_pairs_must_be_as_many():
    with pytest.raises(ValueError, match="got 2 and 3"):
        paired_iou(A, B)
