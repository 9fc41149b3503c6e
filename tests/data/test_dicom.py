"""DICOM films, written here and read back: every step from stored value to grey."""

import io
from pathlib import Path

import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.pixels.processing import apply_windowing
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from cxrlocus.data import dicom as module
from cxrlocus.data.dicom import read_dicom, window
from cxrlocus.data.images import decode_film, read_film
from cxrlocus.errors import ImageError

DIGITAL_XRAY = UID("1.2.840.10008.5.1.4.1.1.1.1")


def make(pixels: np.ndarray, bits: int = 12, syntax: UID = ExplicitVRLittleEndian, **elements: object) -> Dataset:
    """A data set as an X-ray unit writes it; ``elements`` are set last, None deletes."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = DIGITAL_XRAY
    dataset.file_meta.MediaStorageSOPInstanceUID = UID("1.2.3.4")
    dataset.SOPClassUID, dataset.SOPInstanceUID = DIGITAL_XRAY, UID("1.2.3.4")
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated = pixels.dtype.itemsize * 8
    dataset.BitsStored, dataset.HighBit = bits, bits - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    dataset["PixelData"].VR = "OB" if pixels.dtype.itemsize == 1 else "OW"
    for name, value in elements.items():
        setattr(dataset, name, value)
    return dataset


def encode(dataset: Dataset) -> bytes:
    buffer = io.BytesIO()
    dataset.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def read(dataset: Dataset) -> np.ndarray:
    return decode_film(encode(dataset), Path("film"))


def lut(descriptor: list[int], data: list[int]) -> list[Dataset]:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", descriptor)
    item.add_new("LUTData", "US", data)
    return [item]


VALUES = np.array([[0, 1000, 2000], [2047, 3000, 4095]], dtype=np.uint16)


def test_without_a_window_the_values_that_occur_span_the_range() -> None:
    film = read(make(np.array([[100, 200, 300]], dtype=np.uint16)))
    assert film.dtype == np.uint16
    assert film.tolist() == [[0, 32768, 65535]]


def test_8_bits_without_a_window_read_as_their_png() -> None:
    pixels = np.array([[3, 100, 250]], dtype=np.uint8)
    assert (read(make(pixels, 8)) == pixels.astype(np.uint16) * 257).all()
    signed = np.array([[-128, 0, 127]], dtype=np.int8)
    assert read(make(signed, 8)).tolist() == [[0, 128 * 257, 65535]]


def test_monochrome1_is_inverted() -> None:
    straight, inverted = read(make(VALUES)), read(make(VALUES, PhotometricInterpretation="MONOCHROME1"))
    assert (straight.astype(int) + inverted == 65535).all()
    assert inverted[0, 0] == 65535


def test_signed_values_and_unused_high_bits() -> None:
    signed = np.array([[-1024, 0, 1024]], dtype=np.int16)
    assert read(make(signed, 16)).tolist() == [[0, 32768, 65535]]
    # An overlay in the bits above BitsStored must not shine through.
    dirty = np.array([[0, 2000, 4000]], dtype=np.uint16) | 0xF000
    assert read(make(dirty)).tolist() == [[0, 32768, 65535]]


@pytest.mark.parametrize("function", ["LINEAR", "LINEAR_EXACT", "SIGMOID"])
def test_a_window_agrees_with_pydicom(function: str) -> None:
    dataset = make(VALUES, WindowCenter=2000, WindowWidth=1800, VOILUTFunction=function)
    reference = apply_windowing(VALUES, dataset) / 4095  # pydicom scales to the stored range
    assert np.allclose(window(VALUES.astype(float), 2000, 1800, function), reference, atol=1e-12)
    assert np.allclose(read(dataset) / 65535, reference, atol=1e-5)


def test_the_standards_own_example_of_a_linear_window() -> None:
    # PS3.3 C.11.2.1.2.1: c=2048, w=4096 maps x <= 0 to 0, x > 4095 to the top, else (x - 2047.5) / 4095 + 0.5;
    # c=2048, w=1 maps x <= 2047.5 to 0 and x > 2047.5 to the top.
    assert window(np.array([-5.0, 0, 2047.5, 4095, 9999]), 2048, 4096).tolist() == [0, 0, 0.5, 1, 1]
    assert window(np.array([2047.0, 2047.5, 2048.0]), 2048, 1).tolist() == [0, 0, 1]


def test_a_sigmoid_far_from_its_centre_does_not_overflow() -> None:
    assert np.allclose(window(np.array([-1e9, 0.0, 1e9]), 0, 1e-3, "SIGMOID"), [0, 0.5, 1])


def test_a_window_is_in_rescaled_units() -> None:
    plain = read(make(VALUES, WindowCenter=2000, WindowWidth=1000))
    rescaled = read(make(VALUES, WindowCenter=3000, WindowWidth=2000, RescaleSlope=2, RescaleIntercept=-1000))
    # LINEAR takes half a unit from the centre and one from the width, so only LINEAR_EXACT scales exactly.
    assert abs(plain.astype(int) - rescaled).max() < 70
    exact = {"VOILUTFunction": "LINEAR_EXACT"}
    plain = read(make(VALUES, WindowCenter=2000, WindowWidth=1000, **exact))
    rescaled = read(make(VALUES, WindowCenter=3000, WindowWidth=2000, RescaleSlope=2, RescaleIntercept=-1000, **exact))
    assert np.array_equal(plain, rescaled)


def test_a_negative_slope_turns_the_film_over() -> None:
    up, down = read(make(VALUES)), read(make(VALUES, RescaleSlope=-1, RescaleIntercept=4095))
    assert (up.astype(int) + down == 65535).all()


def test_the_first_of_several_windows_is_shown() -> None:
    one = read(make(VALUES, WindowCenter=1000, WindowWidth=500))
    assert np.array_equal(read(make(VALUES, WindowCenter=[1000, 3000], WindowWidth=[500, 900])), one)


def test_a_voi_lut_goes_before_a_window_and_clamps_at_its_ends() -> None:
    pixels = np.array([[0, 10, 11, 12, 99]], dtype=np.uint16)
    film = read(make(pixels, VOILUTSequence=lut([3, 10, 12], [0, 1000, 4095]), WindowCenter=5, WindowWidth=2))
    assert film.tolist() == [[0, 0, round(1000 / 4095 * 65535), 65535, 65535]]


def test_a_modality_lut_goes_before_the_window() -> None:
    pixels = np.array([[0, 1, 2]], dtype=np.uint16)
    film = read(make(pixels, ModalityLUTSequence=lut([3, 0, 12], [300, 100, 200])))
    assert film.tolist() == [[65535, 0, 32768]]


def test_lut_data_as_words_in_bytes() -> None:
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [2, 0, 16])
    item.add_new("LUTData", "OW", np.array([65535, 0], dtype="<u2").tobytes())
    assert read(make(np.array([[0, 1]], dtype=np.uint16), VOILUTSequence=[item])).tolist() == [[65535, 0]]


def test_padding_is_black_and_has_no_part_in_the_range() -> None:
    pixels = np.array([[4000, 100, 200, 300]], dtype=np.uint16)
    for photometric, expected in (("MONOCHROME2", [0, 0, 32768, 65535]), ("MONOCHROME1", [0, 65535, 32768, 0])):
        film = read(make(pixels, PixelPaddingValue=4000, PhotometricInterpretation=photometric))
        assert abs(film.astype(int) - [expected]).max() <= 1
    ranged = read(make(pixels, PixelPaddingValue=3500, PixelPaddingRangeLimit=4095))
    assert ranged.tolist() == [[0, 0, 32768, 65535]]
    assert read(make(pixels * 0, PixelPaddingValue=0)).tolist() == [[0, 0, 0, 0]]


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_uncompressed_syntaxes(syntax: UID) -> None:
    assert np.array_equal(read(make(VALUES, syntax=syntax)), read(make(VALUES)))


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda uid: uid.name)
@pytest.mark.parametrize("bits", [8, 12, 16])
def test_lossless_compression_changes_nothing(syntax: UID, bits: int) -> None:
    dtype = np.uint8 if bits == 8 else np.uint16
    pixels = np.random.default_rng(bits).integers(0, 2**bits, (72, 64)).astype(dtype)
    dataset = make(pixels, bits)
    before = read(dataset)
    try:
        dataset.compress(syntax, generate_instance_uid=False)
    except RuntimeError as error:
        pytest.skip(f"no encoder: {error}")
    assert dataset.file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(read(dataset), before)


def test_baseline_jpeg_inside_dicom() -> None:
    buffer = io.BytesIO()
    pixels = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (64, 1))
    Image.fromarray(pixels).save(buffer, "JPEG", quality=95)
    dataset = make(pixels, 8, UID("1.2.840.10008.1.2.4.50"), PixelData=encapsulate([buffer.getvalue()]))
    dataset["PixelData"].VR = "OB"
    assert abs(read(dataset).astype(int) // 257 - pixels).max() <= 3


def test_a_missing_decoder_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing:
        is_available = False

    dataset = make(VALUES)
    dataset.compress(RLELossless, generate_instance_uid=False)
    monkeypatch.setattr(module, "get_decoder", lambda syntax: Nothing())
    with pytest.raises(ImageError, match=r"film: compressed as 'RLE Lossless'.*pip install 'cxrlocus\[dicom\]'"):
        read(dataset)


def test_colour_becomes_grey() -> None:
    pixels = np.array([[[255, 0, 0], [200, 200, 200]]], dtype=np.uint8)
    elements = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    film = read(make(pixels, 8, **elements))
    assert film.tolist() == [[round(0.299 * 65535), round(200 / 255 * 65535)]]


def test_palette_colour_becomes_grey() -> None:
    dataset = make(np.array([[0, 1]], dtype=np.uint8), 8, PhotometricInterpretation="PALETTE COLOR")
    for colour in ("Red", "Green", "Blue"):
        dataset.add_new(f"{colour}PaletteColorLookupTableDescriptor", "US", [2, 0, 16])
        dataset.add_new(f"{colour}PaletteColorLookupTableData", "OW", np.array([65535, 0], dtype="<u2").tobytes())
    assert read(dataset).tolist() == [[65535, 0]]


def test_without_preamble_the_suffix_is_believed(tmp_path: Path) -> None:
    dataset = make(VALUES, syntax=ImplicitVRLittleEndian)
    expected = read(dataset)
    path = tmp_path / "old.dcm"
    del dataset.file_meta
    dataset.save_as(path, implicit_vr=True, little_endian=True)
    assert path.read_bytes()[128:132] != b"DICM"
    assert np.array_equal(read_film(path), expected)


@pytest.mark.parametrize(
    ("elements", "reason"),
    [
        ({"NumberOfFrames": 3, "PixelData": VALUES.tobytes() * 3}, "3 frames; a film has one"),
        ({"BitsStored": 24, "BitsAllocated": 32, "HighBit": 23}, "24 bits are stored"),
        ({"WindowCenter": 5, "WindowWidth": 0}, "window width must be at least 1 for LINEAR; got 0"),
        ({"WindowCenter": 5, "WindowWidth": 9, "VOILUTFunction": "CUBIC"}, "must be LINEAR, LINEAR_EXACT or SIGMOID"),
        ({"RescaleSlope": 0, "RescaleIntercept": 0}, "RescaleSlope is 0"),
        ({"PixelData": VALUES.tobytes()[:-4]}, "damaged or unusual DICOM"),
        ({"Rows": 60000, "Columns": 60000}, "60000 x 60000 pixels; at most 500000000"),
        ({"Rows": 0}, "damaged or unusual DICOM"),
    ],
)
def test_what_is_not_a_film_is_refused_in_one_line(elements: dict[str, object], reason: str) -> None:
    with pytest.raises(ImageError) as caught:
        read(make(VALUES, **elements))
    assert reason in str(caught.value)
    assert "\n" not in str(caught.value)


def test_video_and_reports_are_refused() -> None:
    with pytest.raises(ImageError, match="'MPEG2 Main Profile / Main Level', which is not read"):
        read(make(VALUES, syntax=UID("1.2.840.10008.1.2.4.100"), PixelData=encapsulate([b"video"])))
    dataset = make(VALUES)
    del dataset.PixelData
    with pytest.raises(ImageError, match="one without pixels"):
        read(dataset)


def test_empty_window_elements_count_as_none() -> None:
    assert np.array_equal(read(make(VALUES, WindowCenter=None, WindowWidth=None)), read(make(VALUES)))


@settings(max_examples=150)
@given(at=st.integers(0, 10_000), byte=st.integers(0, 255), cut=st.integers(0, 200), implicit=st.booleans())
def test_damaged_files_give_a_film_or_an_image_error(at: int, byte: int, cut: int, implicit: bool) -> None:
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    data = bytearray(encode(make(VALUES, syntax=syntax, WindowCenter=2000, WindowWidth=1800)))
    data[at % len(data)] = byte
    try:
        film = read_dicom(bytes(data[: len(data) - cut]), Path("film"), max_pixels=10**6)
    except ImageError as error:
        assert "\n" not in str(error)  # noqa: PT017 - a film is a right answer too
    else:
        assert film.ndim == 2
        assert film.dtype == np.uint16


def test_pydicoms_own_opinion_of_a_whole_film() -> None:
    rng = np.random.default_rng(3)
    pixels = rng.integers(-2000, 2000, (30, 20)).astype(np.int16)
    dataset = make(pixels, 16, RescaleSlope="0.5", RescaleIntercept="-10", WindowCenter="50", WindowWidth="800")
    ends = np.array([-32768, 32767]) * 0.5 - 10
    shown = apply_windowing(pydicom.pixels.apply_rescale(pixels, dataset), dataset)
    assert np.allclose(read(dataset) / 65535, (shown - ends[0]) / (ends[1] - ends[0]), atol=1e-5)
