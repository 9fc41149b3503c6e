"""The phantom on disk: NIH's layout to the letter, the same films whoever makes them, and clear errors."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from cxrlocus.data.phantom import Parameters, generate_film, pictures, write_phantom
from cxrlocus.data.phantom.film import patients
from cxrlocus.data.phantom.worker import Job, flips, main, make
from cxrlocus.data.phantom.writer import _test_patients
from cxrlocus.errors import ConfigError, DataError
from cxrlocus.types import BOXED8

IMAGES = 24


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("phantom") / "data"
    write_phantom(folder, images=IMAGES, size=96, seed=5, label_noise=0.1, workers=1)
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def test_layout_is_nihs(root: Path) -> None:
    boxes = (root / "BBox_List_2017.csv").read_text().splitlines()
    assert boxes[0] == "Image Index,Finding Label,Bbox [x,y,w,h],,,"
    assert all(len(line.split(",")) == 6 for line in boxes[1:])
    entries = rows(root / "Data_Entry_2017_v2020.csv")
    assert len(entries) == IMAGES == len(list((root / "images").iterdir()))
    assert all(e["Image Index"] == f"{int(e['Patient ID']):08d}_{int(e['Follow-up #']):03d}.png" for e in entries)
    lists = [(root / f"{name}_list.txt").read_text().split() for name in ("train_val", "test")]
    assert sorted(lists[0] + lists[1]) == sorted(e["Image Index"] for e in entries)
    assert not {n[:8] for n in lists[0]} & {n[:8] for n in lists[1]}


def test_boxes_are_those_of_the_masks_of_true_and_labelled_findings(root: Path) -> None:
    labels = {e["Image Index"]: set(e["Finding Labels"].split("|")) for e in rows(root / "Data_Entry_2017_v2020.csv")}
    truth = {r["image"]: set(filter(None, r["true_findings"].split("|"))) for r in rows(root / "films.csv")}
    boxed: dict[str, set[str]] = {name: set() for name in labels}
    for line in (root / "BBox_List_2017.csv").read_text().splitlines()[1:]:
        name, written, *numbers = line.split(",")
        finding = {"Infiltrate": "Infiltration"}.get(written, written)
        boxed[name].add(finding)
        mask = cv2.imread(str(root / "masks" / f"{name[:-4]}_{finding}.png"), cv2.IMREAD_GRAYSCALE) > 0
        x, y, w, h = (float(n) * 96 / 1024 for n in numbers)
        r, c = np.nonzero(mask)
        assert (c.min(), r.min(), c.max() + 1, r.max() + 1) == pytest.approx((x, y, x + w, y + h))
    assert sum(map(len, boxed.values())) > 5
    assert boxed == {name: truth[name] & labels[name] for name in labels}
    drawn = {(p.name[:12] + ".png", p.stem[13:]) for p in (root / "masks").iterdir()}
    assert drawn == {(name, f) for name, found in truth.items() for f in found}


def test_label_noise_is_recorded_and_leaves_the_films_alone(root: Path) -> None:
    labels = {
        e["Image Index"]: set(e["Finding Labels"].split("|")) - {"No Finding"}
        for e in rows(root / "Data_Entry_2017_v2020.csv")
    }
    wrong = 0
    for number, row in enumerate(rows(root / "films.csv")):
        truth, flipped = (set(filter(None, row[key].split("|"))) for key in ("true_findings", "flipped"))
        assert labels[row["image"]] == truth ^ flipped
        wrong += len(flipped)
        if number < 4:
            pixels = cv2.imread(str(root / "images" / row["image"]), cv2.IMREAD_UNCHANGED)
            assert np.array_equal(pixels, generate_film(5, number, 96).pixels)
    assert 0 < wrong < 0.25 * 8 * IMAGES
    share = np.mean([len(flips(0, k, 0.2)) for k in range(1000)]) / len(BOXED8)
    assert share == pytest.approx(0.2, abs=0.02)


def test_workers_and_count_change_no_byte(root: Path, tmp_path: Path) -> None:
    heard: list[int] = []
    write_phantom(tmp_path / "two", images=10, size=96, seed=5, label_noise=0.1, workers=2, progress=heard.append)
    assert heard == list(range(1, 11))
    for path in sorted((tmp_path / "two" / "images").iterdir()) + sorted((tmp_path / "two" / "masks").iterdir()):
        assert path.read_bytes() == (root / path.relative_to(tmp_path / "two")).read_bytes()
    for name in ("Data_Entry_2017_v2020.csv", "BBox_List_2017.csv", "films.csv", "train_val_list.txt", "test_list.txt"):
        part, whole = (tmp_path / "two" / name).read_text(), (root / name).read_text()
        assert part
        assert whole.startswith(part)


def test_a_second_call_does_nothing_and_a_broken_one_is_mended(tmp_path: Path) -> None:
    arguments = {"images": 3, "size": 64, "seed": 1}
    write_phantom(tmp_path / "p", **arguments)
    film = next((tmp_path / "p" / "images").iterdir())
    whole = film.read_bytes()
    film.write_bytes(b"")
    write_phantom(tmp_path / "p", **arguments)
    assert film.read_bytes() == b""
    described = json.loads((tmp_path / "p" / "phantom.json").read_text())
    (tmp_path / "p" / "phantom.json").write_text(json.dumps({**described, "finished": False}))
    write_phantom(tmp_path / "p", **arguments)
    assert film.read_bytes() == whole


def test_what_is_there_is_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(DataError, match="must be empty or absent"):
        write_phantom(tmp_path, images=2, size=64)
    with pytest.raises(DataError, match="is a file"):
        write_phantom(tmp_path / "notes.txt", images=2, size=64)
    write_phantom(tmp_path / "p", images=2, size=64)
    with pytest.raises(DataError, match=r"another phantom \(images, seed differ\)"):
        write_phantom(tmp_path / "p", images=3, size=64, seed=1)
    (tmp_path / "p" / "phantom.json").write_text("[]")
    with pytest.raises(DataError, match="not a phantom's description"):
        write_phantom(tmp_path / "p", images=2, size=64)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("images", 0),
        ("size", 63),
        ("size", 5000),
        ("seed", -1),
        ("test_fraction", 1.5),
        ("label_noise", -0.1),
        ("workers", 0),
    ],
)
def test_bad_arguments_name_themselves(tmp_path: Path, name: str, value: float) -> None:
    with pytest.raises(ConfigError, match=name):
        write_phantom(tmp_path / "p", **{"images": 2, name: value})
    assert not (tmp_path / "p").exists()


def test_a_process_that_fails_is_an_error_with_its_reason(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    job = Job(str(tmp_path / "absent"), 0, 64, 0.0, Parameters().as_json(), 0, 1, 1)
    with pytest.raises(DataError, match="cannot be written"):
        next(make(job))
    assert main([job.as_json()]) == 1
    assert "cannot be written" in capsys.readouterr().err
    root = tmp_path / "p"
    root.mkdir()
    write_phantom(root, images=2, size=64)
    described = json.loads((root / "phantom.json").read_text())
    (root / "phantom.json").write_text(json.dumps({**described, "finished": False}))
    film = next((root / "images").iterdir())
    film.unlink()
    film.mkdir()
    with pytest.raises(DataError, match=r"a process that made films failed: .*cannot be written"):
        write_phantom(root, images=2, size=64, workers=2)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="cannot be written"):
        write_phantom(tmp_path / "file" / "p", images=1, size=64)


def test_the_test_list_has_its_share_and_whole_patients() -> None:
    for fraction in (0.0, 0.25, 1.0):
        chosen = _test_patients(3, 2000, fraction)
        films = sum(count for patient, _, count in patients(3, 2000) if patient in chosen)
        assert films == pytest.approx(2000 * fraction, abs=3)
    assert _test_patients(3, 300, 0.25) == {
        p for p in _test_patients(3, 900, 0.25) if p <= max(_test_patients(3, 300, 0.25))
    }


def test_pictures_are_written(tmp_path: Path) -> None:
    assert pictures.main([]) == 2
    sheet = pictures.findings_sheet(("Mass",), size=64)
    assert sheet.shape == (64, 6 * 64, 3)
    plain, marked = sheet[:40, :64], sheet[:40, 64:128]
    assert (plain[..., 0] == plain[..., 2]).all()
    assert pictures.normals_sheet(rows=1, columns=2, size=64).shape == (64, 128, 3)
    assert marked.shape == plain.shape
