"""Maps on their films: planted markers come back where they were planted, whatever the frame and the grid."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrlocus.regions.maps import minmax, raster_shape, to_film, value_range
from cxrlocus.types import Frame

SIZE = (1000, 800)


def rotated(degrees, size=SIZE, scale=1.0):
    """The frame of a square map turned about the film's middle, as an aligned film's is."""
    angle, side = np.deg2rad(degrees), max(size) * scale
    turn = side * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    shift = np.array(size) / 2 - turn @ [0.5, 0.5]
    return np.hstack([turn, shift[:, None]])


FRAMES = {
    "identity": Frame.of_size(*SIZE).matrix,
    "letterbox": np.array([[1000.0, 0, 0], [0, 1000.0, -100.0]]),
    "flip": Frame.of_size(*SIZE).then_crop(1.0, 0.0, 0.0, 1.0).matrix,
    "crop": Frame.of_size(*SIZE).then_crop(0.1, 0.2, 0.9, 0.9).matrix,
    "rotation": rotated(17.0, scale=1.3),
    "rotation and flip": rotated(-30.0) @ np.array([[-1.0, 0, 1], [0, 1, 0], [0, 0, 1]]),
}


def reference(values, frame, size, raster):
    """A second reading, cell by cell in plain Python."""
    (h, w), (gh, gw) = values.shape, raster_shape(size, raster)
    out, inside = np.zeros((gh, gw)), np.zeros((gh, gw), bool)
    for i in range(gh):
        for j in range(gw):
            centre = np.array([(j + 0.5) * size[0] / gw, (i + 0.5) * size[1] / gh])
            u, v = np.linalg.solve(frame[:, :2], centre - frame[:, 2])
            inside[i, j] = 0 <= u <= 1 and 0 <= v <= 1
            x, y = min(max(u * w - 0.5, 0), w - 1), min(max(v * h - 0.5, 0), h - 1)
            x0, y0 = int(x), int(y)
            x1, y1 = min(x0 + 1, w - 1), min(y0 + 1, h - 1)
            top = values[y0, x0] * (1 - x + x0) + values[y0, x1] * (x - x0)
            low = values[y1, x0] * (1 - x + x0) + values[y1, x1] * (x - x0)
            out[i, j] = top * (1 - y + y0) + low * (y - y0)
    return out, inside


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("grid", [(7, 7), (16, 12)])
def test_reference_by_a_second_reading(name, grid):
    values = np.random.default_rng(0).normal(size=grid)
    got, inside = to_film(values, FRAMES[name], SIZE, raster=30)
    want, want_inside = reference(values, FRAMES[name], SIZE, 30)
    # OpenCV before 5 rounds a warp's coordinates to 1/32 of a cell.
    np.testing.assert_allclose(got, want, atol=1e-5 if name == "identity" else 0.15)
    assert np.median(np.abs(got - want)) < 0.02
    np.testing.assert_array_equal(np.ones_like(want_inside) if inside is None else inside, want_inside)


@pytest.mark.parametrize("name", FRAMES)
@pytest.mark.parametrize("grid", [7, 16, 64])
@pytest.mark.parametrize("spot", [(0.3, 0.4), (0.6, 0.7), (0.5, 0.35)])
def test_convention_a_planted_marker_comes_back_where_it_was_planted(name, grid, spot):
    frame = FRAMES[name]
    column, row = int(spot[0] * grid), int(spot[1] * grid)
    values = np.zeros((grid, grid))
    values[row, column] = 1.0
    x, y = frame[:, :2] @ [(column + 0.5) / grid, (row + 0.5) / grid] + frame[:, 2]
    raster = 200
    got, _ = to_film(values, frame, SIZE, raster)
    gh, gw = got.shape
    weight = got / got.sum()
    found_x = weight.sum(0) @ (np.arange(gw) + 0.5) * SIZE[0] / gw
    found_y = weight.sum(1) @ (np.arange(gh) + 0.5) * SIZE[1] / gh
    assert (found_x, found_y) == pytest.approx((x, y), abs=6.0)


def test_convention_no_aligned_corners_and_constant_half_cells():
    got, inside = to_film(np.array([[0.0, 1.0]]), Frame.of_size(8, 8).matrix, (8, 8), raster=8)
    assert inside is None
    # As torch has it: interpolate(torch.tensor([[[[0., 1.]]]]), size=(1, 8), mode="bilinear", align_corners=False)
    np.testing.assert_allclose(got[0], [0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1])
    assert (got == got[0]).all()


def test_limit_a_map_of_the_raster_s_own_grid_is_itself():
    values = np.random.default_rng(1).normal(size=(24, 32)).astype(np.float32)
    got, _ = to_film(values, Frame.of_size(320, 240).matrix, (320, 240), raster=32)
    np.testing.assert_allclose(got, values, atol=1e-6)


def test_invariance_mirrored_map_in_a_mirrored_frame():
    values = np.random.default_rng(2).normal(size=(16, 16))
    straight, _ = to_film(values, FRAMES["identity"], SIZE)
    mirrored, _ = to_film(values[:, ::-1], FRAMES["flip"], SIZE)
    np.testing.assert_allclose(mirrored, straight, atol=0.15)
    assert np.median(np.abs(mirrored - straight)) < 0.02


def test_invariance_a_straight_frame_by_the_long_way_round():
    values = np.random.default_rng(3).normal(size=(16, 16))
    nearly = FRAMES["identity"] + np.array([[0, 0, 1e-9], [0, 0, 0]])
    direct, around = (to_film(values, frame, SIZE)[0] for frame in (FRAMES["identity"], nearly))
    np.testing.assert_allclose(around, direct, atol=0.15)


def test_inside_is_none_only_where_the_map_covers_the_film():
    assert to_film(np.eye(4), FRAMES["letterbox"], SIZE)[1] is None
    inside = to_film(np.eye(4), FRAMES["crop"], SIZE, 100)[1]
    assert inside.mean() == pytest.approx(0.8 * 0.7, abs=0.02)


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 300))
def test_raster_covers_any_film_with_nearly_square_cells(width, height, raster):
    gh, gw = raster_shape((width, height), raster)
    assert max(gh, gw) == raster
    assert abs(gh / height - gw / width) * min(width, height) <= 1.0


def test_films_of_one_pixel_and_of_very_long_shape():
    assert to_film(np.eye(2), Frame.of_size(1, 1).matrix, (1, 1), 16)[0].shape == (16, 16)
    assert to_film(np.eye(2), Frame.of_size(20000, 3).matrix, (20000, 3), 16)[0].shape == (1, 16)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros(4), FRAMES["flip"], SIZE), r"a map must be \(h, w\)"),
        ((np.zeros((0, 4)), FRAMES["flip"], SIZE), r"a map must be \(h, w\)"),
        ((np.eye(2), np.eye(3), SIZE), "frame must be a 2x3"),
        ((np.eye(2), np.zeros((2, 3)), SIZE), "frame must be a finite, invertible"),
        ((np.eye(2), np.full((2, 3), np.nan), SIZE), "frame must be a finite, invertible"),
        ((np.eye(2), FRAMES["flip"], (0, 5)), "size must be a positive"),
        ((np.eye(2), FRAMES["flip"], SIZE, 0), "raster must be at least 1"),
    ],
)
def test_bad_input_is_refused_by_name(arguments, message):
    with pytest.raises(ValueError, match=message):
        to_film(*arguments)


@given(st.integers(0, 10**6), st.floats(0.001, 1000), st.floats(-1000, 1000))
@settings(max_examples=50)
def test_minmax_is_the_same_at_any_scale_and_offset(seed, scale, offset):
    values = np.random.default_rng(seed).normal(size=(5, 6)) * scale
    got = minmax(values)
    assert (got.min(), got.max()) == (0.0, 1.0)
    np.testing.assert_allclose(minmax(values + offset * scale), got, atol=1e-3)


@pytest.mark.parametrize("constant", [0.0, 0.1, -3e4, np.float32(1 / 3)])
def test_limit_a_constant_map_has_no_range_even_when_resampled(constant):
    grid, _ = to_film(np.full((7, 7), constant), rotated(11.0), SIZE)
    assert value_range(grid) is None
    assert not minmax(grid).any()


def test_a_map_of_nan_is_no_map_but_one_with_holes_is_an_error():
    assert value_range(np.full((3, 3), np.nan)) is None
    assert not minmax(np.full((3, 3), np.nan)).any()
    for broken in (np.nan, np.inf, -np.inf):
        with pytest.raises(ValueError, match="got 1 of 9 cells that are not"):
            value_range(np.where(np.arange(9).reshape(3, 3) == 4, broken, 1.0))


def test_range_is_taken_inside_alone():
    values = np.array([[0.0, 5.0, 9.0]])
    assert value_range(values, np.array([[True, True, False]])) == (0.0, 5.0)
    assert value_range(values, np.zeros((1, 3), bool)) is None
