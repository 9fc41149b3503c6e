"""One DICOM radiograph as a grey array: what a viewer shows by default, over the full range of uint16."""

from __future__ import annotations

import io
import struct
import threading
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import BytesLengthException, InvalidDicomError
from pydicom.pixels.decoders.base import get_decoder
from pydicom.pixels.processing import apply_color_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, RLELossless

from cxrlocus.errors import ImageError
from cxrlocus.types import FloatArray

_DAMAGED = (
    BytesLengthException, InvalidDicomError, OSError, ValueError, TypeError, LookupError, AttributeError, RuntimeError,
    ArithmeticError, EOFError, struct.error, MemoryError,
)  # fmt: skip
_LUMA = np.array([0.299, 0.587, 0.114])


class _Quiet:
    """Silence the codecs' warnings from any number of threads: the first in mutes, the last out restores.

    ``warnings.catch_warnings`` alone is not for threads: two that overlap leave the process muted.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._saved = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._saved = warnings.catch_warnings()
                self._saved.__enter__()
                warnings.simplefilter("ignore")
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._saved.__exit__(None, None, None)


quiet = _Quiet()
"""``with quiet:`` around a codec."""


def read_dicom(data: bytes, path: Path, *, max_pixels: int) -> NDArray[np.uint16]:
    """A DICOM file's one frame (H, W) as it is meant to be seen: 0 is black, 65535 is white.

    In this order (PS3.3 C.11): stored values; modality LUT, or rescale slope and intercept; the first VOI LUT, else the
    first window (LINEAR, LINEAR_EXACT or SIGMOID), else the range of the values that occur (of all values that can
    occur if 8 bits or fewer are stored, so that an 8-bit film reads as its PNG does); MONOCHROME1 inverted. Padding is
    black and has no part in the range. Colour is turned to grey by ITU-R 601 and has no window.

    Args:
        data: the file's bytes.
        path: the file's name, for messages.
        max_pixels: a film of more is refused before it is decoded.

    Raises:
        ImageError: damaged, without pixels, of several frames, of more than 16 bits, or compressed in a way that
            no installed package decodes.

    Example:
        >>> read_dicom(b"not DICOM at all", Path("a.dcm"), max_pixels=10**6)
        Traceback (most recent call last):
            ...
        cxrlocus.errors.ImageError: a.dcm: not a DICOM file, or one without pixels
    """
    try:
        with quiet:
            dataset = _parse(data, path)
            _check(dataset, path, max_pixels)
            # pylibjpeg's RLE decoder panics (no Exception at all) on damaged data; pydicom's own raises.
            plugin = "pydicom" if dataset.file_meta.TransferSyntaxUID == RLELossless else ""
            return _display(pixel_array(dataset, decoding_plugin=plugin), dataset)
    except ImageError:
        raise
    except _DAMAGED as error:
        raise ImageError(path, f"damaged or unusual DICOM ({_one_line(error)})") from error


def _parse(data: bytes, path: Path) -> pydicom.Dataset:
    dataset = pydicom.dcmread(io.BytesIO(data), force=True)
    if not {"PixelData", "Rows", "Columns", "PhotometricInterpretation"} <= set(dataset.dir()):
        raise ImageError(path, "not a DICOM file, or one without pixels")
    if "TransferSyntaxUID" not in dataset.file_meta:
        implicit = dataset.original_encoding[0]
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    return dataset


def _check(dataset: pydicom.Dataset, path: Path, max_pixels: int) -> None:
    width, height = dataset.Columns, dataset.Rows
    if width * height > max_pixels:
        raise ImageError(path, f"{width} x {height} pixels; at most {max_pixels} are read. Shrink the film.")
    if int(dataset.get("NumberOfFrames") or 1) != 1:
        raise ImageError(path, f"{dataset.NumberOfFrames} frames; a film has one. Export the frame that you mean.")
    if not 1 <= dataset.BitsStored <= 16:
        raise ImageError(path, f"{dataset.BitsStored} bits are stored a pixel; 1 to 16 are read.")
    syntax = dataset.file_meta.TransferSyntaxUID
    try:
        available = get_decoder(syntax).is_available
    except NotImplementedError as error:
        raise ImageError(path, f"its pixels are stored as {syntax.name!r}, which is not read.") from error
    if not available:
        raise ImageError(path, f"compressed as {syntax.name!r}; to decode it, pip install 'cxrlocus[dicom]'")


def _display(pixels: NDArray[Any], dataset: pydicom.Dataset) -> NDArray[np.uint16]:
    if pixels.ndim == 3 or dataset.PhotometricInterpretation == "PALETTE COLOR":
        return _grey(pixels, dataset)
    return _monochrome(pixels, dataset)


def _monochrome(pixels: NDArray[Any], dataset: pydicom.Dataset) -> NDArray[np.uint16]:
    # At most 2^16 values can be stored: every formula runs once on the list of values, not on the pixels.
    first, last = int(pixels.min()), int(pixels.max())
    values = np.arange(first, last + 1, dtype=np.float64)
    padding = _padding(values, dataset)
    occurring = np.flatnonzero(np.bincount((pixels.astype(np.int64) - first).ravel(), minlength=len(values)) > 0)
    seen = occurring[~padding[occurring]]
    levels = _voi(values, values[seen] if len(seen) else values, dataset)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        levels = 1.0 - levels
    levels[padding] = 0.0
    table = np.rint(np.clip(levels, 0.0, 1.0) * 65535.0).astype(np.uint16)
    return np.asarray(table[pixels.astype(np.int32) - first])


def _padding(values: FloatArray, dataset: pydicom.Dataset) -> NDArray[np.bool_]:
    value = dataset.get("PixelPaddingValue")
    if not isinstance(value, int):
        return np.zeros(len(values), dtype=np.bool_)
    limit = dataset.get("PixelPaddingRangeLimit")
    ends = (value, limit if isinstance(limit, int) else value)
    return np.asarray((values >= min(ends)) & (values <= max(ends)))


def _voi(values: FloatArray, seen: FloatArray, dataset: pydicom.Dataset) -> FloatArray:
    """Stored values to display levels in [0, 1], MONOCHROME1 not yet inverted."""
    modality = _modality(values, dataset)
    if dataset.get("VOILUTSequence"):
        entries, top = _lookup(modality, dataset.VOILUTSequence[0], dataset)
        return entries / top
    centre, width = _first(dataset, "WindowCenter"), _first(dataset, "WindowWidth")
    if centre is not None and width is not None:
        return window(modality, centre, width, str(dataset.get("VOILUTFunction") or "LINEAR"))
    bits = dataset.BitsStored
    if bits <= 8:
        seen = np.arange(2.0**bits) - (2.0 ** (bits - 1) if dataset.PixelRepresentation else 0.0)
    ends = _modality(seen, dataset)
    low, high = float(ends.min()), float(ends.max())
    return (modality - low) / (high - low) if high > low else np.zeros_like(modality)


def window(values: FloatArray, centre: float, width: float, function: str = "LINEAR") -> FloatArray:
    """A DICOM window: values in modality units to levels in [0, 1] (PS3.3 C.11.2.1.2 and C.11.2.1.3).

    LINEAR: ``(x - (c - 0.5)) / (w - 1) + 0.5``; LINEAR_EXACT: ``(x - c) / w + 0.5``, both clipped to [0, 1];
    SIGMOID: ``1 / (1 + exp(-4 (x - c) / w))``.

    Args:
        values: any shape.
        centre: c, in the units of ``values``.
        width: w; at least 1 for LINEAR, above 0 for the others.
        function: LINEAR, LINEAR_EXACT or SIGMOID.

    Raises:
        ValueError: the width is too small or the function unknown.

    Example:
        >>> window(np.array([0.0, 127.5, 255.0, 300.0]), 128, 256).tolist()
        [0.0, 0.5, 1.0, 1.0]
    """
    linear = function == "LINEAR"
    if not (width >= 1 if linear else width > 0):
        raise ValueError(f"window width must be {'at least 1' if linear else 'above 0'} for {function}; got {width}")
    if function == "SIGMOID":
        return np.asarray(1.0 / (1.0 + np.exp(np.clip(-4.0 * (values - centre) / width, -700.0, 700.0))))
    if not linear and function != "LINEAR_EXACT":
        raise ValueError(f"VOI LUT function must be LINEAR, LINEAR_EXACT or SIGMOID; got {function!r}")
    if linear:
        centre, width = centre - 0.5, width - 1.0
    if width == 0.0:
        return np.asarray((values > centre).astype(np.float64))
    return np.clip((values - centre) / width + 0.5, 0.0, 1.0)


def _modality(values: FloatArray, dataset: pydicom.Dataset) -> FloatArray:
    if dataset.get("ModalityLUTSequence"):
        return _lookup(values, dataset.ModalityLUTSequence[0], dataset)[0]
    slope, intercept = _first(dataset, "RescaleSlope"), _first(dataset, "RescaleIntercept")
    if slope == 0.0:
        raise ValueError("RescaleSlope is 0")
    return values * (1.0 if slope is None else slope) + (intercept or 0.0)


def _lookup(values: FloatArray, item: pydicom.Dataset, dataset: pydicom.Dataset) -> tuple[FloatArray, float]:
    """A LUT item's entries for these values, and the highest entry that its bits allow (PS3.3 C.11.1.1, C.11.2.1.1)."""
    count, first, bits = (int(number) for number in item.LUTDescriptor)
    data = item.LUTData
    if isinstance(data, bytes):
        word = "u1" if bits <= 8 and len(data) <= (count or 2**16) + 1 else "u2"
        data = np.frombuffer(data, ("<" if dataset.original_encoding[1] is not False else ">") + word)
    entries = np.atleast_1d(np.asarray(data, dtype=np.float64))[: count or 2**16]
    return entries[np.clip(np.rint(values) - first, 0, len(entries) - 1).astype(np.int64)], 2.0**bits - 1.0


def _first(dataset: pydicom.Dataset, name: str) -> float | None:
    """The first of an element's values (alternative views of one film), None where there is none."""
    value = dataset.get(name)
    if isinstance(value, str) or value is None:
        return None
    numbers = [float(number) for number in np.atleast_1d(np.asarray(value, dtype=np.float64))]
    return numbers[0] if numbers else None


def _grey(pixels: NDArray[Any], dataset: pydicom.Dataset) -> NDArray[np.uint16]:
    if dataset.PhotometricInterpretation == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, dataset)
        top = float(np.iinfo(pixels.dtype).max)
    else:
        top = 2.0**dataset.BitsStored - 1.0
    grey = np.clip((pixels[..., :3] @ _LUMA) / top, 0.0, 1.0)
    return np.asarray(np.rint(grey * 65535.0), dtype=np.uint16)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
