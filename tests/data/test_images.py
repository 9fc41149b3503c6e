"""Films of every kind come in as one grey channel, and a square knows where its pixels were."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from cxrlocus.data import images as module
from cxrlocus.data.dicom import quiet
from cxrlocus.data.images import (
    FITS,
    content_box,
    decode_film,
    film_frame,
    film_size,
    read_film,
    square_frame,
    to_square,
)
from cxrlocus.data.records import Record
from cxrlocus.errors import ImageError
from cxrlocus.types import Frame

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def png(image: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def raw_png(width: int, height: int, depth: int, rows: list[bytes], colour: int = 0) -> bytes:
    """A PNG written by hand: any bit depth, and a header that may lie about the size."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def grey_palette() -> Image.Image:
    # Palette entry i is grey 255 - i, so a reader that takes indices for grey is found out.
    image = Image.fromarray(255 - RAMP).convert("L").convert("P")
    image.putpalette([255 - i // 3 for i in range(768)])
    image.putdata(list(RAMP.ravel()))
    return image


MODES = {
    "L": Image.fromarray(RAMP),
    "LA": Image.merge("LA", (Image.fromarray(RAMP), Image.fromarray(255 - RAMP))),
    "RGB": Image.fromarray(RAMP).convert("RGB"),
    "RGBA": Image.merge("RGBA", (*[Image.fromarray(RAMP)] * 3, Image.fromarray(255 - RAMP))),
}


@pytest.mark.parametrize("mode", MODES)
def test_every_png_mode_gives_the_same_grey(mode: str) -> None:
    film = decode_film(png(MODES[mode]), Path("film.png"))
    assert film.dtype == np.uint8
    assert np.array_equal(film, RAMP)


def test_palette_indices_are_looked_up_and_its_transparency_is_dropped_without_a_warning() -> None:
    for options in ({}, {"transparency": bytes(range(256))}, {"transparency": 3}):
        film = decode_film(png(grey_palette(), **options), Path("film.png"))
        assert np.array_equal(film, 255 - RAMP)


def test_16_bit_png_keeps_its_depth() -> None:
    deep = np.array([[0, 1, 256], [4095, 40000, 65535]], dtype=np.uint16)
    film = decode_film(cv2.imencode(".png", deep)[1].tobytes(), Path("film.png"))
    assert film.dtype == np.uint16
    assert np.array_equal(film, deep)


@pytest.mark.parametrize(
    ("depth", "row", "expected"),
    [(1, b"\x40", [0, 255]), (2, b"\x60", [85, 170]), (4, b"\x5f", [85, 255])],
)
def test_less_than_8_bits_span_the_full_range(depth: int, row: bytes, expected: list[int]) -> None:
    assert decode_film(raw_png(2, 1, depth, [row]), Path("film.png")).tolist() == [expected]


def test_colour_is_itu_601_luma() -> None:
    # Pillow 13: Image.new("RGB", (1, 1), (255, 0, 0)).convert("L").getpixel((0, 0)) == 76 == round(.299 * 255)
    assert decode_film(png(Image.new("RGB", (1, 1), (255, 0, 0))), Path("film.png")).tolist() == [[76]]


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg(mode: str) -> None:
    buffer = io.BytesIO()
    Image.new(mode, (8, 8), {"L": 200, "RGB": (200,) * 3, "CMYK": (0, 0, 0, 55)}[mode]).save(buffer, "JPEG", quality=95)
    film = decode_film(buffer.getvalue(), Path("film.jpg"))
    assert abs(film.astype(int) - 200).max() <= 1


def test_exif_orientation_of_a_jpeg_is_honoured() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown upright after a quarter turn clockwise
    pixels = np.zeros((16, 32), dtype=np.uint8)
    pixels[:, 16:] = 255
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95, exif=exif)
    film = decode_film(buffer.getvalue(), Path("film.jpg"))
    assert film.shape == (32, 16)
    assert film[:14].max() < 10
    assert film[18:].min() > 245


def test_content_decides_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "film.jpg"
    path.write_bytes(png(MODES["L"]))
    assert np.array_equal(read_film(path), RAMP)
    path = tmp_path / "film.dcm"
    path.write_bytes(png(MODES["L"]))
    assert np.array_equal(read_film(path), RAMP)


def test_every_failure_is_one_line_with_file_and_reason(tmp_path: Path) -> None:
    whole = png(Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)))
    damaged = bytearray(whole)
    damaged[len(damaged) // 2] ^= 255
    files = {
        "empty.png": (b"", "the file is empty"),
        "text.png": (b"Image Index,Finding Labels\n" * 20, "not a PNG, JPEG or DICOM file"),
        "short.png": (whole[: len(whole) // 2], "damaged or truncated PNG"),
        "head.png": (whole[:20], "damaged or truncated PNG"),
        "flipped.png": (bytes(damaged), "damaged or truncated PNG"),
        "short.jpg": (b"\xff\xd8\xff\xe0\x00\x10JFIF", "damaged or truncated JPEG"),
    }
    for name, (data, reason) in files.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ImageError) as caught:
            read_film(tmp_path / name)
        assert reason in str(caught.value), name
        assert str(tmp_path / name) in str(caught.value)
        assert "\n" not in str(caught.value)
    for path, reason in ((tmp_path / "none.png", "no such file"), (tmp_path, "directory")):
        with pytest.raises(ImageError, match=reason):
            read_film(path)


def test_a_truncated_jpeg_is_not_half_a_film() -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), dtype=np.uint8)).save(buffer, "JPEG")
    with pytest.raises(ImageError, match="truncated JPEG"):
        decode_film(buffer.getvalue()[:-200], Path("film.jpg"))


def test_a_bomb_is_refused_by_its_header_but_pillows_limit_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ImageError, match=r"60000 x 60000 pixels; at most 500000000"):
        decode_film(raw_png(60000, 60000, 8, [b"\0"]), Path("bomb.png"))
    # Pillow itself would raise at twice this many pixels and warn at once.
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert decode_film(png(Image.new("L", (100, 100), 9)), Path("film.png")).shape == (100, 100)
    assert module.MAX_PIXELS > 20_000**2


def test_a_1x1_film_and_a_20000_px_strip() -> None:
    assert read_square(raw_png(1, 1, 8, [b"\xc8"]), 4).tolist() == [[200] * 4] * 4
    strip = read_square(png(Image.new("L", (20_000, 3), 50)), 8)
    assert strip[3].tolist() == [50] * 8
    assert np.delete(strip, 3, axis=0).max() == 0


def read_square(data: bytes, size: int) -> np.ndarray:
    return to_square(decode_film(data, Path("film.png")), size)[0]


@settings(max_examples=150)
@given(cut=st.integers(0, 400), at=st.integers(0, 400), byte=st.integers(0, 255), kind=st.sampled_from(["PNG", "JPEG"]))
def test_damaged_files_give_a_film_or_an_image_error(cut: int, at: int, byte: int, kind: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(RAMP).save(buffer, kind)
    data = bytearray(buffer.getvalue())
    data[at % len(data)] = byte
    try:
        film = decode_film(bytes(data[: len(data) - cut]), Path("film"))
    except ImageError as error:
        assert "\n" not in str(error)  # noqa: PT017 - a film is a right answer too
    else:
        assert film.ndim == 2
        assert film.dtype in (np.uint8, np.uint16)


def test_quiet_from_overlapping_threads_leaves_the_warnings_as_they_were() -> None:
    before = list(warnings.filters)
    quiet.__enter__()
    quiet.__enter__()
    quiet.__exit__()
    warnings.warn("muted", stacklevel=1)
    quiet.__exit__()
    assert warnings.filters == before
    with pytest.raises(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)


def test_shrinking_averages_areas() -> None:
    pixels = np.array([[0, 100, 10, 10], [100, 200, 10, 10], [0, 0, 255, 255], [0, 0, 255, 255]], dtype=np.uint8)
    assert to_square(pixels, 2)[0].tolist() == [[100, 10], [0, 255]]


def test_growing_is_linear_with_pixel_centres_at_halves() -> None:
    # torch 2.13: F.interpolate(tensor([[[0., 100.]]]), size=4, mode="linear", align_corners=False) == 0 25 75 100
    assert to_square(np.array([[0, 100], [0, 100]], dtype=np.uint8), 4)[0][0].tolist() == [0, 25, 75, 100]


def test_a_film_that_shrinks_one_way_and_grows_the_other_is_still_averaged() -> None:
    pixels = np.tile(np.array([0, 200], dtype=np.uint8), 50)[None, :].repeat(2, axis=0)  # 2 x 100, stripes
    square, _ = to_square(pixels, 4, "stretch")
    assert abs(square.astype(int) - 100).max() <= 8


def test_16_bits_round_to_8() -> None:
    pixels = np.array([[0, 128, 129, 65535]], dtype=np.uint16).repeat(4, axis=0)
    assert to_square(pixels, 4)[0][0].tolist() == [0, 0, 1, 255]


def test_letterbox_and_stretch_agree_on_square_films() -> None:
    pixels = np.random.default_rng(1).integers(0, 256, (37, 37), dtype=np.uint8)
    (a, frame_a), (b, frame_b) = to_square(pixels, 16, "letterbox"), to_square(pixels, 16, "stretch")
    assert np.array_equal(a, b)
    assert np.array_equal(frame_a.matrix, frame_b.matrix)


@settings(max_examples=60)
@given(w=st.integers(1, 300), h=st.integers(1, 300), size=st.integers(1, 64), fit=st.sampled_from(FITS))
def test_convention_the_frame_maps_content_corners_to_file_corners(w: int, h: int, size: int, fit: str) -> None:
    x, y, cw, ch = content_box(w, h, size, fit)
    corners = np.array([[x, y], [x + cw, y + ch]]) / size
    assert np.allclose(square_frame(w, h, size, fit).to_pixels(corners), [[0, 0], [w, h]])
    assert x >= 0
    assert x + cw <= size
    assert max(cw, ch) == size


@pytest.mark.parametrize("fit", FITS)
def test_a_planted_block_is_found_where_the_frame_says(fit: str) -> None:
    pixels = np.zeros((300, 200), dtype=np.uint8)
    pixels[60:90, 40:80] = 255
    square, frame = to_square(pixels, 100, fit)
    rows, columns = np.nonzero(square > 127)
    corners = np.array([[columns.min(), rows.min()], [columns.max() + 1, rows.max() + 1]]) / 100
    assert np.allclose(frame.to_pixels(corners), [[40, 60], [80, 90]], atol=1.5)


def test_convention_boxes_of_nih_are_in_1024_pixels_whatever_the_file() -> None:
    nih = Record("a.png", Path("a.png"), "1", size=(1024, 1024))
    own = Record("a.png", Path("a.png"), "1")
    frame = square_frame(512, 512, 256, "letterbox")
    assert film_size(nih, (512, 512)) == (1024, 1024)
    assert film_size(own, (512, 256)) == (512, 256)
    assert film_frame(nih, frame, (512, 512)).to_pixels(np.array([[0.5, 0.25]])).tolist() == [[512.0, 256.0]]
    assert np.array_equal(film_frame(own, frame, (512, 512)).matrix, frame.matrix)


@pytest.mark.parametrize(
    ("pixels", "size", "fit"),
    [
        (RAMP.astype(np.float32), 8, "letterbox"),
        (RAMP[None], 8, "letterbox"),
        (RAMP[:0], 8, "letterbox"),
        (RAMP, 0, "letterbox"),
        (RAMP, 8, "crop"),
    ],
)
def test_bad_arguments_name_themselves(pixels: np.ndarray, size: int, fit: str) -> None:
    with pytest.raises(ValueError, match=r"must be"):
        to_square(pixels, size, fit)


def test_a_frame_of_an_empty_file_is_refused() -> None:
    with pytest.raises(ValueError, match="file_size must be at least"):
        film_frame(Record("a", Path("a"), "1"), Frame.of_size(1, 1), (0, 5))


def test_real_originals_are_read_and_rgba_ones_are_grey() -> None:
    folder = Path(__file__).parents[3] / "shared" / "nih14-mini" / "originals_1024_sample"
    if not folder.is_dir():
        pytest.skip("shared/nih14-mini is not beside the repository")
    for path in sorted(folder.glob("*.png")):
        film = read_film(path)
        assert film.shape == (1024, 1024)
        assert film.dtype == np.uint8
        assert film.std() > 20
