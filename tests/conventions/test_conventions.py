"""The conventions that every part relies on, each pinned on the way from a file to a box."""

from __future__ import annotations

import ast
import math
from dataclasses import fields
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

import cxrlocus
from cxrlocus.data import load_folder
from cxrlocus.data.cache import open_films
from cxrlocus.data.images import read_film, to_square
from cxrlocus.data.loader import Loader
from cxrlocus.data.nih import load_nih
from cxrlocus.data.records import Index
from cxrlocus.data.splits import read_split, write_split
from cxrlocus.data.transforms import Augmentation, augment
from cxrlocus.errors import DataError, LeakError
from cxrlocus.functional.losses import LOSSES
from cxrlocus.methods.baselines.controls import CONTROLS
from cxrlocus.methods.baselines.gradcam import GradCamLocalizer
from cxrlocus.methods.cam.model import CamLocalizer
from cxrlocus.metrics.ranking import auroc
from cxrlocus.models.backbones import Backbone
from cxrlocus.models.camnet import CamNet
from cxrlocus.prediction.boxing import find_boxes
from cxrlocus.prediction.predict import explain_files
from cxrlocus.prediction.store import Predictions, read_predictions, write_predictions
from cxrlocus.protocols.boxlist import write_boxes
from cxrlocus.protocols.policies import boxes_by_policy
from cxrlocus.protocols.result import Result
from cxrlocus.regions.boxes import area, iou
from cxrlocus.regions.detections import Detections
from cxrlocus.regions.maps import to_film
from cxrlocus.regions.rules import PeakComponent
from cxrlocus.types import MAP_KINDS, POLICIES, Findings, Frame
from stand_ins import SeesBrightness, made_up

SIZE = 448  # a multiple of 7, 16 and 64
SQUARE = (110.0, 60.0, 200.0, 150.0)
SHAPES = {"landscape": (320, 200), "portrait": (220, 320), "square": (256, 256)}
HALF = PeakComponent(0.5)


def planted(folder: Path, width: int, height: int) -> Path:
    film = np.full((height, width), 30, np.uint8)
    x0, y0, x1, y1 = map(int, SQUARE)
    film[y0:y1, x0:x1] = 240
    cv2.imwrite(str(folder / "film.png"), film)
    return folder / "film.png"


def cell_of(frame: np.ndarray, grid: int) -> np.ndarray:
    """Width and height of a map's cell in pixels of the film, as x, y, x, y."""
    return np.tile(np.linalg.norm(frame[:, :2], axis=0) / grid, 2)


@pytest.mark.parametrize("grid", [7, 16, 64])
@pytest.mark.parametrize("fit", ["letterbox", "stretch"])
@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_convention_boxes_are_xyxy_in_pixels_of_the_original_film(
    tmp_path: Path, shape: str, fit: str, grid: int
) -> None:
    path = planted(tmp_path, *SHAPES[shape])
    localizer = SeesBrightness(SIZE, grid, fit)  # type: ignore[arg-type]  # a Literal
    said = explain_files(localizer, [path])
    found = find_boxes(said, HALF)
    assert len(found) == 1
    error = np.abs(found.xyxy[0] - SQUARE)
    assert (error <= cell_of(said.frames[0], grid)).all(), error


@pytest.mark.parametrize("grid", [16, 64])
@pytest.mark.parametrize("seed", range(4))
def test_convention_frames_compose_through_augmentation(tmp_path: Path, grid: int, seed: int) -> None:
    square, frame = to_square(read_film(planted(tmp_path, *SHAPES["landscape"])), SIZE)
    far = Augmentation(rotation=25, shift=0.1, zoom=0.3, brightness=0, contrast=0, gamma=0, flip=0.5)
    images = torch.from_numpy(square)[None, None].float() / 255
    changed, affine = augment(images, torch.Generator().manual_seed(seed), far)
    moved = frame.compose(affine[0].numpy())
    localizer = SeesBrightness(SIZE, grid)
    said = localizer.explain(changed, moved.matrix[None])
    sizes = np.array([SHAPES["landscape"]], dtype=np.int64)
    predictions = Predictions(
        {}, ("film.png",), localizer.findings, said.prob.numpy(), said.maps.numpy(), said.frames, sizes, said.kind
    )
    found = find_boxes(predictions, HALF)
    error = np.abs(found.xyxy[0] - SQUARE)
    assert (error <= 1.5 * cell_of(said.frames[0], grid)).all(), error


def test_convention_boxes_are_never_rotated(tmp_path: Path) -> None:
    square, frame = to_square(read_film(planted(tmp_path, 256, 256)), SIZE)
    turned, affine = augment(
        torch.from_numpy(square)[None, None].float() / 255,
        torch.Generator().manual_seed(1),
        Augmentation(45, 0, 0, 0, 0, 0),
    )
    moved = frame.compose(affine[0].numpy())
    assert abs(moved.matrix[0, 1]) > 10, "the film must be turned for this to say anything"
    localizer = SeesBrightness(SIZE, 64)
    said = localizer.explain(turned, moved.matrix[None])
    predictions = Predictions(
        {},
        ("a",),
        localizer.findings,
        said.prob.numpy(),
        said.maps.numpy(),
        said.frames,
        np.array([[256, 256]]),
        said.kind,
    )
    upright = find_boxes(predictions, HALF)
    assert iou(upright.xyxy, np.array([SQUARE]))[0, 0] > 0.9


def test_convention_boxes_are_half_open() -> None:
    assert area([[10, 10, 12, 13]]).tolist() == [6.0]
    assert iou([[0, 0, 10, 10]], [[10, 0, 20, 10]])[0, 0] == 0.0
    one_cell = np.zeros((1, 1, 8, 8), np.float32)
    one_cell[0, 0, 2, 5] = 1.0
    frames, sizes = Frame.of_size(8, 8).matrix[None], np.array([[8, 8]])
    prob = np.ones((1, 1), np.float32)
    predictions = Predictions({}, ("a",), Findings(("Mass",)), prob, one_cell, frames, sizes, "mask")
    assert find_boxes(predictions, PeakComponent(0.5, raster=8)).xyxy.tolist() == [[5.0, 2.0, 6.0, 3.0]]


def write_nih_film(root: Path, stored: int) -> None:
    (root / "images").mkdir()
    cv2.imwrite(str(root / "images" / "a.png"), np.full((stored, stored), 99, np.uint8))
    label_head = "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position"
    (root / "Data_Entry_2017_v2020.csv").write_text(f"{label_head}\na.png,Mass,0,1,50,M,PA\n", encoding="utf-8")
    boxes = "Image Index,Finding Label,Bbox [x,y,w,h],,,\na.png,Mass,100.5,200,300,400.25\n"
    (root / "BBox_List_2017.csv").write_text(boxes, encoding="utf-8")


@pytest.mark.parametrize("stored", [64, 1024])
def test_convention_nih_boxes_are_converted_at_the_door_and_on_the_way_out(tmp_path: Path, stored: int) -> None:
    write_nih_film(tmp_path, stored)
    index = load_nih(tmp_path)
    (box,) = index.records[0].boxes
    assert box.xyxy == (100.5, 200.0, 400.5, 600.25)
    films = open_films(index, size=32, folder=tmp_path / "cache")
    assert Frame(films.frames[0]).to_pixels(np.array([[1.0, 1.0]])).tolist() == [[1024.0, 1024.0]]
    assert films.sizes[0].tolist() == [1024, 1024]
    found = Detections(index.images, index.findings, [0], [index.findings.index("Mass")], [box.xyxy], [0.9])  # type: ignore[arg-type]  # lists will do
    write_boxes(tmp_path / "boxes.csv", found)
    row = (tmp_path / "boxes.csv").read_text(encoding="utf-8").splitlines()[1].split(",")
    assert row[:2] == ["a.png", "Mass"]
    assert [float(v) for v in row[2:6]] == [100.5, 200.0, 300.0, 400.25]


@pytest.mark.parametrize("kind", MAP_KINDS)
def test_convention_maps_are_raw_and_nothing_guesses(tmp_path: Path, kind: str) -> None:
    wild = made_up(2, kind=kind)  # type: ignore[arg-type]  # a Literal
    assert wild.maps.min() < 0
    assert wild.maps.max() > 1
    write_predictions(tmp_path, wild)
    back = read_predictions(tmp_path)
    assert back.kind == kind
    assert np.array_equal(back.maps, wild.maps)


def test_convention_only_box_rules_normalize() -> None:
    one = made_up(3)
    scaled = Predictions(
        one.meta,
        one.images,
        one.findings,
        one.prob,
        one.maps.astype(np.float32) * 8 - 100,
        one.frames,
        one.sizes,
        one.kind,
    )
    same, other = find_boxes(one, HALF), find_boxes(scaled, HALF)
    assert np.array_equal(same.xyxy, other.xyxy)
    np.testing.assert_allclose(other.score, same.score * 8 - 100, rtol=1e-4)


def test_convention_a_frame_covers_a_grid_of_any_size() -> None:
    frame, sizes = Frame.of_size(100, 50).matrix[None], np.array([[100, 50]])
    boxes = []
    for grid in (2, 4, 8):
        maps = np.zeros((1, 1, grid, grid), np.float32)
        maps[..., : grid // 2] = 1.0
        said = Predictions({}, ("a",), Findings(("Mass",)), np.ones((1, 1), np.float32), maps, frame, sizes, "mask")
        boxes.append(find_boxes(said, HALF).xyxy[0].tolist())
    assert boxes == [[0.0, 0.0, 50.0, 50.0]] * 3


def test_convention_cells_lie_where_they_look() -> None:
    """A ResNet's cell of 32 pixels looks at its first one, so its map's frame begins 15.5 pixels before the film."""
    net = CamNet(Backbone("resnet18"), findings=1)
    localizer = CamLocalizer(net, Findings(("Mass",)), size=128, fit="letterbox", bf16=False)
    frames = Frame.of_size(128, 128).matrix[None]
    said = localizer.explain(torch.rand(1, 1, 128, 128), frames)
    np.testing.assert_allclose(said.frames[0], [[128, 0, -15.5], [0, 128, -15.5]], atol=0.05)
    # Gradient maps of the same layer lie there too, however it is named; where another layer looks is not told.
    for layer, offset in (("", localizer.offset), ("backbone", localizer.offset), ("backbone.net.layer3", 0.0)):
        assert GradCamLocalizer(localizer, layer=layer).offset == offset
    localizer.offset = 0.0
    np.testing.assert_array_equal(localizer.explain(torch.rand(1, 1, 128, 128), frames).frames, frames)


def test_convention_unknown_is_never_negative(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    for i in range(3):
        cv2.imwrite(str(tmp_path / "images" / f"{i}.png"), np.full((8, 8), 40 * i, np.uint8))
    (tmp_path / "labels.csv").write_text("image,Mass,Edema\n0.png,1,\n1.png,0,-1\n2.png,-1,1\n", encoding="utf-8")
    index = load_folder(tmp_path)
    assert index.known.tolist() == [[True, False], [True, False], [False, True]]
    films = open_films(index, size=8, folder=tmp_path / "cache")
    (batch,) = Loader(index, films, 3, shuffle=False, seed=0).batches(0)
    assert torch.equal(batch.known, torch.from_numpy(index.known))
    for loss in LOSSES.values():
        logits = torch.zeros(3, 2, requires_grad=True)
        loss(logits, batch.target, batch.known).backward()
        assert logits.grad is not None
        assert ((logits.grad == 0) == ~batch.known).all()
    assert auroc(index.target[:, 0], np.array([0.9, 0.1, 0.0]), index.known[:, 0]) == 1.0


def test_convention_an_undefined_metric_is_nan() -> None:
    for target in (np.zeros(3, np.uint8), np.ones(3, np.uint8)):
        assert math.isnan(auroc(target, np.array([0.1, 0.2, 0.3]), np.ones(3, bool)))


def test_convention_images_are_float32_in_0_1_at_the_door(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images" / "a.png"), np.array([[0, 65535], [65535, 0]], np.uint16))
    (tmp_path / "labels.csv").write_text("image,Mass\na.png,1\n", encoding="utf-8")
    index = load_folder(tmp_path)
    films = open_films(index, size=2, folder=tmp_path / "cache")
    for augmentation in (None, Augmentation(brightness=1.0, contrast=1.0)):
        (batch,) = Loader(index, films, 1, shuffle=False, seed=0, augmentation=augmentation).batches(0)
        assert batch.images.dtype == torch.float32
        assert batch.images.min() >= 0
        assert batch.images.max() <= 1
        if augmentation is None:
            assert batch.images.flatten().tolist() == [0.0, 1.0, 1.0, 0.0]


def test_convention_normalization_is_the_methods_first_layer() -> None:
    torch.manual_seed(0)
    one = Backbone("test_resnet", mean=0.0, std=1.0).eval()
    other = Backbone("test_resnet", mean=0.5, std=0.25).eval()
    other.net.load_state_dict(one.net.state_dict())
    images = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(other(images), one((images - 0.5) / 0.25))


def test_convention_align_corners_is_false_everywhere() -> None:
    source = Path(cxrlocus.__file__).parent
    for path in sorted(source.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.keyword) and node.arg == "align_corners":
                assert isinstance(node.value, ast.Constant), path.name
                assert node.value.value is False, path.name
            if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in {"grid_sample", "affine_grid"}:
                assert "align_corners" in {k.arg for k in node.keywords}, path.name


def test_convention_a_cell_is_an_area_and_not_a_point() -> None:
    grid, _ = to_film(np.array([[0.0, 1.0]]), Frame.of_size(4, 2).matrix, (4, 2), raster=4)
    assert grid[0].tolist() == [0.0, 0.25, 0.75, 1.0]
    film = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    barely = Augmentation(rotation=1e-9, shift=0, zoom=0, brightness=0, contrast=0, gamma=0)
    still, _ = augment(film, torch.Generator().manual_seed(0), barely)
    torch.testing.assert_close(still, film, atol=1e-5, rtol=0)


def test_convention_a_split_is_a_list_with_a_hash(tmp_path: Path) -> None:
    digest = write_split(tmp_path / "list.txt", ["b.png", "a.png"])
    assert read_split(tmp_path / "list.txt", digest) == ("b.png", "a.png")
    (tmp_path / "list.txt").write_text("a.png\nb.png\n", encoding="utf-8")
    with pytest.raises(DataError, match="sha256"):
        read_split(tmp_path / "list.txt", digest)


def test_convention_patients_never_cross_splits(planted: Index) -> None:
    records = list(planted.records)
    crossing = next(r for r in records if r.patient == "p0")
    moved = type(crossing)(**{f.name: getattr(crossing, f.name) for f in fields(crossing)} | {"split": "test"})
    with pytest.raises(LeakError, match=r"1 patient stands in more than one split: p0 \(test, train\)"):
        Index("some", Path(), planted.findings, (moved, *records[1:]))


def test_convention_every_threshold_has_a_declared_policy(planted: Index, planted_root: Path) -> None:
    assert POLICIES == ("fixed", "validation", "oracle")
    assert "policy" in {f.name for f in fields(Result)}
    assert all(control.policy in (*POLICIES, "any") for control in CONTROLS.values())
    test = planted.split("test")
    said = explain_files(SeesBrightness(64, 16, findings=("Mass", "Nodule")), [r.path for r in test.records])
    named = Predictions(said.meta, test.images, *(getattr(said, f.name) for f in fields(said)[2:]))
    notes = {policy: boxes_by_policy(named, test, policy)[1] for policy in POLICIES}  # type: ignore[arg-type]  # a Literal
    assert "these test boxes" in notes["oracle"]
    assert "other half of the patients" in notes["validation"]
    assert "255" in notes["fixed"]


def test_convention_planted_squares_are_found_by_brightness(planted: Index) -> None:
    alone = [i for i, r in enumerate(planted.records) if r.positive == {"Mass"}]
    part = planted.subset(alone)
    said = explain_files(SeesBrightness(64, 32), [r.path for r in part.records])
    found = find_boxes(said, HALF)
    for i, record in enumerate(part.records):
        assert iou(found.of(i, 0), np.array([record.boxes[0].xyxy])).max() > 0.8


def test_convention_vocabulary() -> None:
    words = {"bbox", "heatmap", "saliency", "pathology", "confidence"}
    strange = set()
    for path in sorted(Path(cxrlocus.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.arg):
                name = node.arg if isinstance(node, ast.arg) else node.name
                strange |= {f"{path.name}: {name}" for word in words if word in name.lower()}
    assert not strange
