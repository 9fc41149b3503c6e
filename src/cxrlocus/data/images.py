"""Films as grey arrays: any PNG, JPEG or DICOM in, one grey channel out, and the square that a model sees."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile

from cxrlocus.data.dicom import quiet, read_dicom
from cxrlocus.data.records import Record
from cxrlocus.errors import ImageError
from cxrlocus.types import Fit, Frame

Film = NDArray[np.uint8] | NDArray[np.uint16]
"""A grey film (H, W); the full range of its dtype is [0, 1]."""

FITS: tuple[str, ...] = get_args(Fit)
"""How a film comes into a square: its shape kept and the rest black, or each side scaled by itself."""

MAX_PIXELS = 500_000_000
"""A film of more pixels is refused before it is decoded: a 20,000 px square is read, a decompression bomb is not."""

_HEAD = 132
"""Bytes that tell a film: DICOM's mark ends there."""

_NO_FILM = "not a PNG, JPEG or DICOM file, whatever its name"

_DAMAGED = (OSError, SyntaxError, ValueError, TypeError, LookupError, EOFError, struct.error, zlib.error, MemoryError)


def read_film(path: Path) -> Film:
    """Read a film as one grey channel (H, W), uint8 or uint16, whose full range is [0, 1].

    PNG (1 to 16 bits, grey, palette, colour, with or without alpha, which is dropped), JPEG (its EXIF orientation
    honoured) and DICOM are told apart by content; a name is believed only for DICOM without a preamble.

    Raises:
        ImageError: the file is missing, empty, damaged, too large (``MAX_PIXELS``), or of another kind.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "film.png"
        >>> Image.fromarray(np.array([[0, 255]], dtype=np.uint8)).save(path)
        >>> read_film(path).tolist()
        [[0, 255]]
    """
    return decode_film(read_bytes(path), path)


def read_bytes(path: Path) -> bytes:
    """A film's bytes; of a file that begins like none, no more than its beginning is read.

    Raises:
        ImageError: it is missing, empty, a folder, not to be read, or no film.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_HEAD)
            if data and _kind(data, path):
                file.seek(0)
                data = file.read()
    except FileNotFoundError as error:
        raise ImageError(path, "no such file") from error
    except (OSError, ValueError) as error:
        raise ImageError(path, getattr(error, "strerror", None) or str(error)) from error
    if not data:
        raise ImageError(path, "the file is empty")
    if not _kind(data, path):
        raise ImageError(path, _NO_FILM)
    return data


def _kind(data: bytes, path: Path) -> Literal["DICOM", "PNG", "JPEG", ""]:
    """What a file is by its first bytes, or by its name where DICOM has no preamble; "" for no film."""
    if data[128:132] == b"DICM":
        return "DICOM"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    return "DICOM" if path.suffix.lower() in {".dcm", ".dicom"} else ""


def decode_film(data: bytes, path: Path) -> Film:
    """``read_film`` of bytes already in memory; ``path`` names the film in messages.

    Raises:
        ImageError: as ``read_film``.
    """
    kind = _kind(data, path)
    if kind == "PNG":
        return _decode(PngImageFile, data, path, "PNG")
    if kind == "JPEG":
        return _decode(JpegImageFile, data, path, "JPEG")
    if kind == "DICOM":
        return read_dicom(data, path, max_pixels=MAX_PIXELS)
    raise ImageError(path, _NO_FILM)


def _decode(opener: type[PngImageFile] | type[JpegImageFile], data: bytes, path: Path, kind: str) -> Film:
    # The plugin itself and not Image.open: Image.open refuses large films by a process-wide setting, and warns.
    try:
        with quiet:
            image: Image.Image = opener(io.BytesIO(data))
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise ImageError(path, f"{width} x {height} pixels; at most {MAX_PIXELS} are read. Shrink the film.")
            return _grey(ImageOps.exif_transpose(image) if kind == "JPEG" else image)
    except _DAMAGED as error:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise ImageError(path, f"damaged or truncated {kind} ({why})") from error


def _grey(image: Image.Image) -> Film:
    if image.mode.startswith("I"):
        return np.asarray(image).astype(np.uint16)
    if image.mode not in {"L", "1", "P", "LA", "RGB", "RGBA"}:
        image = image.convert("RGB")
    # Pillow would warn of a palette with transparency; alpha is dropped anyway.
    image.info.pop("transparency", None)
    return np.asarray(image if image.mode == "L" else image.convert("L"))


def content_box(width: int, height: int, size: int, fit: Fit) -> tuple[int, int, int, int]:
    """Where a film of ``width`` x ``height`` comes to lie in a square of ``size``: x, y, w, h in the square's pixels.

    Raises:
        ValueError: a side is below 1 or ``fit`` unknown.

    Example:
        >>> content_box(1000, 500, 256, "letterbox")
        (0, 64, 256, 128)
    """
    if min(width, height, size) < 1:
        raise ValueError(f"width, height and size must be at least 1; got {width}, {height} and {size}.")
    if fit not in FITS:
        raise ValueError(f"fit must be one of {', '.join(FITS)}; got {fit!r}.")
    if fit == "stretch":
        return 0, 0, size, size
    longest = max(width, height)
    w, h = max(1, round(width * size / longest)), max(1, round(height * size / longest))
    return (size - w) // 2, (size - h) // 2, w, h


def square_frame(width: int, height: int, size: int, fit: Fit) -> Frame:
    """From the unit square of ``to_square``'s result to pixels of the file: ``x = (u size - x0) width / w``.

    Raises:
        ValueError: as ``content_box``.

    Example:
        >>> square_frame(1000, 500, 256, "letterbox").to_pixels(np.array([[0.0, 0.25], [1.0, 0.75]])).tolist()
        [[0.0, 0.0], [1000.0, 500.0]]
    """
    x, y, w, h = content_box(width, height, size, fit)
    sx, sy = width / w, height / h
    return Frame(np.array([[size * sx, 0.0, -x * sx], [0.0, size * sy, -y * sy]]))


def to_square(pixels: Film, size: int, fit: Fit = "letterbox") -> tuple[NDArray[np.uint8], Frame]:
    """A film (H, W) as the square (size, size) uint8 that a model sees, and the square's frame in the file's pixels.

    Each side is shrunk by area averaging or grown by linear interpolation (pixel centres at halves); what a letterbox
    leaves free is black. 16-bit films become 8-bit after resizing.

    Raises:
        ValueError: the film is not (H, W) uint8 or uint16, ``size`` is below 1, or ``fit`` unknown.

    Example:
        >>> square, frame = to_square(np.full((2, 4), 200, dtype=np.uint8), 4)
        >>> square.tolist()
        [[0, 0, 0, 0], [200, 200, 200, 200], [200, 200, 200, 200], [0, 0, 0, 0]]
        >>> frame.to_pixels(np.array([[0.5, 0.5]])).tolist()
        [[2.0, 1.0]]
    """
    if pixels.ndim != 2 or pixels.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"pixels must be (H, W) uint8 or uint16; got {pixels.shape} {pixels.dtype}.")
    height, width = pixels.shape
    x, y, w, h = content_box(width, height, size, fit)
    content = _resize(pixels, w, h)
    if content.dtype == np.uint16:
        content = ((content.astype(np.uint32) + 128) // 257).astype(np.uint8)
    square = np.zeros((size, size), dtype=np.uint8)
    square[y : y + h, x : x + w] = content
    return square, square_frame(width, height, size, fit)


def _resize(pixels: Film, width: int, height: int) -> NDArray[Any]:
    # OpenCV averages areas only where no side grows, so the sides that shrink go first.
    rows, columns = pixels.shape
    resized: NDArray[Any] = pixels
    small = (min(width, columns), min(height, rows))
    if small != (columns, rows):
        resized = cv2.resize(resized, small, interpolation=cv2.INTER_AREA).reshape(small[1], small[0])
    if small != (width, height):
        resized = cv2.resize(resized, (width, height), interpolation=cv2.INTER_LINEAR).reshape(height, width)
    return resized


def film_size(record: Record, file_size: tuple[int, int]) -> tuple[int, int]:
    """(width, height) of the original film: the record's where its boxes have a frame of their own, else the file's.

    Example:
        >>> film_size(Record("a.png", Path("a.png"), "1", size=(1024, 1024)), (512, 512))
        (1024, 1024)
    """
    return record.size or file_size


def film_frame(record: Record, frame_in_file_pixels: Frame, file_size: tuple[int, int]) -> Frame:
    """A frame in the file's pixels as one in the original film's (``film_size``): NIH's boxes are in 1024 x 1024.

    Args:
        record: the film.
        frame_in_file_pixels: unit square to pixels of the file.
        file_size: (width, height) of the file.

    Raises:
        ValueError: a side of the file is below 1.

    Example:
        >>> nih = Record("a.png", Path("a.png"), "1", size=(1024, 1024))
        >>> film_frame(nih, Frame.of_size(512, 512), (512, 512)).matrix.tolist()
        [[1024.0, 0.0, 0.0], [0.0, 1024.0, 0.0]]
    """
    if min(file_size) < 1:
        raise ValueError(f"file_size must be at least 1 x 1; got {file_size}.")
    size = film_size(record, file_size)
    scale = np.array([[size[0] / file_size[0]], [size[1] / file_size[1]]])
    return Frame(frame_in_file_pixels.matrix * scale)
