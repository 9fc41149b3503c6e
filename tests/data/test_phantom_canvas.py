"""The phantom's geometry and its detector."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrlocus.data.phantom.anatomy import LEFT, RIGHT, draw_anatomy, lay_lungs
from cxrlocus.data.phantom.canvas import Curve, Pose, View, extent, unit
from cxrlocus.data.phantom.detector import Exposure, display, expose, finish

CLEAN = Exposure(photons=1e9, scatter=0.0, blur=0.0, centre=0.4, slope=1.0, collimation=0.0, turn=0.0)

poses = st.builds(Pose, st.floats(-15, 15), st.floats(-0.1, 0.1), st.floats(-0.1, 0.1), st.floats(0.8, 1.2))


@settings(max_examples=40)
@given(pose=poses, column=st.integers(0, 63), row=st.integers(0, 63))
def test_a_pixel_and_its_body_point_are_inverse(pose: Pose, column: int, row: int) -> None:
    view = View(pose, 64)
    x, y = (float(field[row, column]) for field in view.xy)
    assert view.pixels([[x, y]])[0] == pytest.approx((column, row), abs=1e-3)


def test_convention_rotation_is_clockwise_on_the_film() -> None:
    # A quarter turn takes the body's left (image right) down.
    assert Pose(90.0).to_film([(0.2, 0.0)])[0] == pytest.approx((0.5, 0.7))


def test_no_pose_is_the_unit_square() -> None:
    assert Pose().to_film([(-0.5, -0.5), (0.5, 0.5)]).ravel() == pytest.approx([0, 0, 1, 1])


def test_a_stroke_is_as_wide_as_asked_and_faint_below_a_pixel() -> None:
    view = View(Pose(), 128)
    for width in (1 / 64, 1 / 256):
        canvas = view.blank()
        view.strokes([[(-0.4, 0.0), (0.4, 0.0)]], width, canvas)
        assert unit(canvas)[:, 64].sum() == pytest.approx(128 * width, rel=0.35)


def test_curve_goes_through_its_points_and_is_constant_beyond() -> None:
    curve = Curve.through([(-0.2, 1.0), (0.2, 3.0)], [(0.0, 5.0)])
    assert curve.at(0.0) == pytest.approx(2.0, abs=0.02)
    assert curve.at(-0.9) == pytest.approx(1.0)
    assert curve.at(0.3, row=1) == pytest.approx(5.0)


def test_extent_of_an_empty_mask_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one true pixel"):
        extent(np.zeros((3, 3), bool))


def test_lung_points_lie_in_their_lung() -> None:
    for seed in range(5):
        anatomy = draw_anatomy(np.random.default_rng(seed))
        lungs = lay_lungs(anatomy, View(Pose(), 256))
        for side in (RIGHT, LEFT):
            for across in (0.1, 0.5, 0.9):
                for down in (0.1, 0.5, 0.95):
                    x, y = anatomy.lung_point(side, across, down)
                    row, column = round((y + 0.5) * 256 - 0.5), round((x + 0.5) * 256 - 0.5)
                    assert lungs.inside[row, column]
                    assert lungs.side[row, column] == side


def test_beer_lambert_without_scatter_noise_or_blur() -> None:
    lines = np.repeat(np.linspace(0.1, 4, 8, dtype=np.float32), 8)[None].repeat(64, axis=0)
    signal = expose(lines, CLEAN, np.random.default_rng(0))
    # np.exp(-np.linspace(0.1, 4, 8)) = 0.9048 0.5184 0.2969 0.1701 0.0974 0.0558 0.0320 0.0183
    expected = [0.9048, 0.5184, 0.2969, 0.1701, 0.0974, 0.0558, 0.0320, 0.0183]
    assert signal[32, 4::8] == pytest.approx(expected, rel=2e-3)


def test_scatter_adds_and_washes_out_contrast() -> None:
    lines = np.full((64, 64), 1.5, np.float32)
    lines[:, 32:] = 3.0
    clear = expose(lines, CLEAN, np.random.default_rng(0))
    hazy = expose(lines, Exposure(1e9, 0.8, 0.0, 0.4, 1.0, 0.0, 0.0), np.random.default_rng(0))
    assert (hazy > clear).all()
    assert hazy[32, 8] / hazy[32, 56] < clear[32, 8] / clear[32, 56]


def test_quantum_noise_follows_poisson() -> None:
    flat = np.full((256, 256), 1.0, np.float32)
    spread = {}
    for photons in (1e3, 1e5):
        exposure = Exposure(photons, 0.0, 0.0, 0.4, 1.0, 0.0, 0.0)
        spread[photons] = float(expose(flat, exposure, np.random.default_rng(1)).std())
    # 100 times the photons, a tenth of the noise; its size is sqrt(I/N) but for the least blur (sigma 0.3 pixels).
    assert spread[1e3] / spread[1e5] == pytest.approx(10, rel=0.02)
    assert 0.7 < spread[1e5] / np.sqrt(np.exp(-1) / 1e5) <= 1.0


def test_display_brightens_with_attenuation_and_the_rim_is_black() -> None:
    lines = np.linspace(0.5, 4, 96, dtype=np.float32)[:, None].repeat(96, axis=1)
    bright = display(np.exp(-lines), CLEAN)
    assert (np.diff(bright[8:-8, 48]) > 0).all()
    rim = Exposure(1e9, 0.0, 0.0, 0.4, 1.0, 0.05, 0.0)
    pixels = finish(bright, np.zeros_like(bright), rim)
    assert pixels[:3].max() < 8
    assert pixels[90, 48] > pixels[10, 48]
