"""Films that cannot be read, and odd ones that can: the rest goes on, and what did not is listed at the end."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from commands import TINY, cxrlocus
from cxrlocus.prediction.store import read_predictions

pytest_plugins = ("trained",)


def png(width: int, height: int, *, rows: int | None = None) -> bytes:
    """A black 1-bit PNG, small on disk whatever its size; with fewer rows it is cut short inside."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    line = bytes(1 + (width + 7) // 8)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    body = zlib.compress(line * (height if rows is None else rows), 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


SPOILT: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "truncated": (lambda whole: whole[: len(whole) // 2], "damaged or truncated PNG"),
    "zero bytes": (lambda _: b"", "the file is empty"),
    "text": (lambda _: b"this is no film\n", "not a PNG, JPEG or DICOM file"),
    "a JPEG's beginning": (lambda _: b"\xff\xd8\xff\xe0" + bytes(40), "damaged or truncated JPEG"),
    "a bomb": (lambda _: png(30_000, 30_000, rows=1), "30000 x 30000 pixels; at most 500000000 are read"),
    "no pixels": (lambda _: png(0, 5), "damaged or truncated PNG"),
}


@pytest.fixture
def spoilt(own_films: Path) -> tuple[Path, dict[str, str]]:
    """Films of which one in the test list is spoilt in each way: the folder, and file name -> what must be said."""
    names = (own_films / "test_list.txt").read_text(encoding="utf-8").split()
    reasons = {}
    for image, (spoil, reason) in zip(names, SPOILT.values(), strict=False):
        path = own_films / "images" / image
        path.write_bytes(spoil(path.read_bytes()))
        reasons[image] = reason
    return own_films, reasons


def test_predicting_goes_on_and_lists_what_it_could_not_read(
    spoilt: tuple[Path, dict[str, str]], run: Path, pred: Path, tmp_path: Path
) -> None:
    films, reasons = spoilt
    words = ("predict", run, "--data", films, "--out", tmp_path / "p", "--cache", tmp_path / "cache")
    outcome = cxrlocus(*words).succeeded()
    listed = [line for line in outcome.told if line.startswith("  ")]
    assert len(listed) == len(reasons)
    for (image, reason), line in zip(sorted(reasons.items()), sorted(listed), strict=True):
        assert image in line
        assert reason in line
    assert outcome.told[-2:] == [
        f"{len(reasons)} films could not be read",
        f"predicted: {tmp_path / 'p'} ({15 - len(reasons)} films)",
    ]
    some, every = read_predictions(tmp_path / "p"), read_predictions(pred)
    kept = [i for i, image in enumerate(every.images) if image not in reasons]
    assert some.images == tuple(every.images[i] for i in kept)
    # A batch of another size may round differently; nothing more than that may differ.
    np.testing.assert_allclose(some.prob, every.prob[kept], atol=1e-5)
    assert [Path(name).name for name, _ in some.meta["unreadable"]] == list(reasons)
    assert cxrlocus(*words, "--strict").status == 1
    assert (tmp_path / "p" / "meta.json").is_file()


def test_measuring_counts_unreadable_boxed_films_as_misses(
    spoilt: tuple[Path, dict[str, str]], run: Path, tmp_path: Path
) -> None:
    films, reasons = spoilt
    cxrlocus("predict", run, "--data", films, "--out", tmp_path / "p", "--cache", tmp_path / "cache").succeeded()
    boxed = {line.split(",")[0] for line in (films / "BBox_List_2017.csv").read_text(encoding="utf-8").splitlines()}
    lost = sorted(boxed & set(reasons))
    assert lost
    outcome = cxrlocus("evaluate", tmp_path / "p", "--data", films, "--resamples", 0, "--no-controls").succeeded()
    assert f"{len(lost)} boxed films have no prediction and count as misses: {', '.join(lost[:5])}" in outcome.told


def test_checking_lists_them_and_goes_on(spoilt: tuple[Path, dict[str, str]]) -> None:
    films, reasons = spoilt
    told = cxrlocus("data", "check", films).succeeded().out.splitlines()
    assert f"cannot be read: {len(reasons)}" in told
    for image, reason in reasons.items():
        assert any(image in line and reason in line for line in told), image
    assert cxrlocus("data", "check", films, "--strict").status == 1
    assert cxrlocus("data", "check", films, "--no-read", "--strict").status == 0


def test_training_goes_on_without_them_and_lists_them(own_films: Path, tmp_path: Path) -> None:
    names = (own_films / "train_val_list.txt").read_text(encoding="utf-8").split()
    reasons = {}
    for image, (spoil, reason) in zip(names, SPOILT.values(), strict=False):
        path = own_films / "images" / image
        path.write_bytes(spoil(path.read_bytes()))
        reasons[image] = reason
    told = cxrlocus(
        "train", "cam", "--data", own_films, "--out", tmp_path / "r", "--cache", tmp_path / "cache", *TINY,
        "--set", "epochs=1",
    ).succeeded().told  # fmt: skip
    for image, reason in reasons.items():
        assert any(image in line and reason in line for line in told), (image, told)
    assert f"{len(reasons)} films could not be read and were not trained on" in told
    listed = json.loads((tmp_path / "r" / "split.json").read_text(encoding="utf-8"))["unreadable"]
    assert sorted(Path(item).name for item, _ in listed) == sorted(reasons)


def test_nothing_readable_is_an_error_and_leaves_nothing(own_films: Path, run: Path, tmp_path: Path) -> None:
    for path in (own_films / "images").iterdir():
        path.write_bytes(b"")
    cache = ("--cache", tmp_path / "cache")
    line = cxrlocus("predict", run, "--data", own_films, "--out", tmp_path / "p", *cache).complaint()
    assert "the file is empty; no film could be read" in line
    assert not (tmp_path / "p").exists()
    assert cxrlocus("data", "check", own_films).status == 1
    line = cxrlocus("train", "cam", "--data", own_films, "--out", tmp_path / "r", *TINY, *cache).complaint()
    assert "films are readable; at least 1 must be" in line


@pytest.mark.parametrize("side", [1, 2, 20_000])
def test_a_film_of_any_size_is_read(side: int, run: Path, tmp_path: Path) -> None:
    film = tmp_path / "film.png"
    film.write_bytes(png(side, side))
    cxrlocus("predict", run, film, "--out", tmp_path / "p", "--cache", tmp_path / "c", "--boxes").succeeded()
    p = read_predictions(tmp_path / "p")
    assert p.sizes.tolist() == [[side, side]]
    assert np.isfinite(p.maps).all()
    corners = np.genfromtxt(tmp_path / "p" / "boxes.csv", delimiter=",", skip_header=1, usecols=(2, 3, 4, 5), ndmin=2)
    x, y, w, h = corners.T
    assert (np.minimum(x, y) >= 0).all()
    assert (np.maximum(x + w, y + h) <= side).all()


def test_a_film_that_is_not_square_gives_boxes_in_its_own_pixels(films: Path, run: Path, tmp_path: Path) -> None:
    pixels = cv2.imread(str(next(films.glob("images/*.png"))), cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(tmp_path / "wide.png"), cv2.resize(pixels, (640, 320)))
    cxrlocus("predict", run, tmp_path / "wide.png", "--out", tmp_path / "p", "--cache", tmp_path / "c").succeeded()
    p = read_predictions(tmp_path / "p")
    assert p.sizes.tolist() == [[640, 320]]
    # A letterbox: the square's middle row is the film's, its top lies above the film.
    centre, top = p.frames[0] @ np.array([0.5, 0.5, 1.0]), p.frames[0] @ np.array([0.5, 0.0, 1.0])
    np.testing.assert_allclose([centre, top], [[320, 160], [320, -160]])


def test_a_folder_of_anything_is_searched(films: Path, run: Path, tmp_path: Path) -> None:
    mixed = tmp_path / "mixed"
    (mixed / "deep er").mkdir(parents=True)
    (mixed / "empty").mkdir()
    first, second = sorted(films.glob("images/*.png"))[:2]
    shutil.copy(first, mixed / "a.png")
    shutil.copy(second, mixed / "deep er" / "b")
    cv2.imwrite(str(mixed / "c.jpg"), cv2.imread(str(first), cv2.IMREAD_GRAYSCALE))
    (mixed / "notes.txt").write_text("no film", encoding="utf-8")
    (mixed / "gone.png").symlink_to(tmp_path / "nowhere.png")
    outcome = cxrlocus("predict", run, mixed, "--out", tmp_path / "p", "--cache", tmp_path / "c").succeeded()
    said = {Path(name).relative_to(mixed).as_posix() for name in read_predictions(tmp_path / "p").images}
    assert said == {"a.png", "deep er/b", "c.jpg"}
    assert any("notes.txt: not a PNG, JPEG or DICOM file" in line for line in outcome.told)
    assert any("gone.png: no such file" in line for line in outcome.told)
    assert "2 films could not be read" in outcome.told


def test_a_file_given_twice_is_one_film(films: Path, run: Path, tmp_path: Path) -> None:
    film = next(films.glob("images/*.png"))
    cxrlocus("predict", run, film, film, "--out", tmp_path / "p", "--cache", tmp_path / "c").succeeded()
    assert len(read_predictions(tmp_path / "p")) == 1


def test_odd_names_are_names(films: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    names = ["--out.png", "-b.png", "a b.png", "élève 影像.png", 'quo"te,comma.png', "$HOME.png"]
    for name in names:
        shutil.copy(next(films.glob("images/*.png")), tmp_path / name)
    cxrlocus("predict", run, "--out", "p", "--cache", "c", "--boxes", "--", *names).succeeded()
    p = read_predictions(tmp_path / "p")
    assert list(p.images) == names
    np.testing.assert_allclose(p.prob, np.tile(p.prob[:1], (len(names), 1)), atol=1e-6)


def test_a_name_that_is_not_unicode_is_a_film_too(films: Path, run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "films"
    folder.mkdir()
    odd = folder / b"caf\xe9.png".decode("utf-8", "surrogateescape")
    try:
        shutil.copy(next(films.glob("images/*.png")), odd)
    except (OSError, UnicodeError):
        pytest.skip("this file system takes no such name")
    cxrlocus("predict", run, folder, "--out", tmp_path / "p", "--cache", tmp_path / "c", "--boxes").succeeded()
    assert read_predictions(tmp_path / "p").images == (f"{folder}/caf\\udce9.png",)


@pytest.mark.parametrize("bits", [8, 12, 16])
def test_a_dicom_file_is_a_film(bits: int, films: Path, run: Path, tmp_path: Path) -> None:
    film = next(films.glob("images/*.png"))
    pixels = cv2.imread(str(film), cv2.IMREAD_GRAYSCALE)
    write_dicom(tmp_path / "film.dcm", pixels.astype(np.uint16) << (bits - 8), bits)
    cxrlocus(
        "predict", run, tmp_path / "film.dcm", film, "--out", tmp_path / "p", "--cache", tmp_path / "c"
    ).succeeded()
    p = read_predictions(tmp_path / "p")
    assert p.sizes.tolist() == [[64, 64], [64, 64]]
    np.testing.assert_allclose(p.prob[0], p.prob[1], atol=0.02)


def write_dicom(path: Path, pixels: np.ndarray, bits: int) -> None:
    """A plain radiograph without a window, little endian, uncompressed."""
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = DigitalXRayImageStorageForPresentation
    meta.MediaStorageSOPInstanceUID = generate_uid()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    film = FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    film.SOPClassUID, film.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    film.Rows, film.Columns = pixels.shape
    film.SamplesPerPixel, film.PhotometricInterpretation = 1, "MONOCHROME2"
    film.BitsAllocated, film.BitsStored, film.HighBit, film.PixelRepresentation = 16, bits, bits - 1, 0
    film.PixelData = pixels.astype("<u2").tobytes()
    film.save_as(path, enforce_file_format=True)
