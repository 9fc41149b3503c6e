"""Films of the phantom: what they show is what is true of them, as large, as varied and as plain as it should be."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cxrlocus.data.phantom import Film, Parameters, generate_film
from cxrlocus.data.phantom.devices import draw_devices
from cxrlocus.data.phantom.film import patients
from cxrlocus.data.phantom.lesions import draw_findings
from cxrlocus.data.phantom.pictures import only
from cxrlocus.errors import ConfigError
from cxrlocus.types import BOXED8

# Median area of NIH's boxes as a fraction of the film: computed over all 984 boxes of BBox_List_2017.csv.
REAL_AREA = {
    "Atelectasis": 0.019,
    "Cardiomegaly": 0.171,
    "Effusion": 0.056,
    "Infiltration": 0.057,
    "Mass": 0.015,
    "Nodule": 0.0046,
    "Pneumonia": 0.057,
    "Pneumothorax": 0.036,
}

FILMS = 100


@pytest.fixture(scope="module")
def boxes() -> dict[str, np.ndarray]:
    """Boxes (n, 4) of each finding, on films of 64 px, as fractions of the film."""
    return {f: np.array([film.boxes[f] for film in alone(f, FILMS, 64)]) / 1024 for f in BOXED8}


def alone(finding: str, count: int, size: int, plainness: float | None = None) -> Iterator[Film]:
    """Films with one finding only, at its own range of contrast or at one point of it."""
    weights = {f: float(f == finding) for f in BOXED8}
    spread = Parameters(normal_share=0.0, extra_finding=0.0, weights=weights)
    chosen = spread if plainness is None else only(finding, plainness)
    films = (generate_film(21, number, size, chosen) for number in range(count))
    return (film for film in films if finding in film.masks)


def iou(one: np.ndarray, many: np.ndarray) -> np.ndarray:
    wide = np.minimum(one[2], many[:, 2]) - np.maximum(one[0], many[:, 0])
    high = np.minimum(one[3], many[:, 3]) - np.maximum(one[1], many[:, 1])
    shared = np.clip(wide, 0, None) * np.clip(high, 0, None)
    area = (one[2] - one[0]) * (one[3] - one[1]) + (many[:, 2] - many[:, 0]) * (many[:, 3] - many[:, 1])
    return shared / (area - shared)


@pytest.mark.parametrize("finding", BOXED8.names)
def test_median_area_is_that_of_the_real_boxes(boxes: dict[str, np.ndarray], finding: str) -> None:
    b = boxes[finding]
    median = float(np.median((b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])))
    assert len(b) >= 0.95 * FILMS
    assert REAL_AREA[finding] / 1.35 < median < REAL_AREA[finding] * 1.35


def test_the_class_mean_box_solves_cardiomegaly_alone(boxes: dict[str, np.ndarray]) -> None:
    solved = {f: float((iou(b.mean(axis=0), b) > 0.3).mean()) for f, b in boxes.items()}
    assert solved.pop("Cardiomegaly") > 0.7
    assert max(solved.values()) < 0.2
    assert np.mean([*solved.values()]) < 0.1


@pytest.mark.parametrize("finding", BOXED8.names)
def test_places_scatter_over_both_lungs(boxes: dict[str, np.ndarray], finding: str) -> None:
    centre = (boxes[finding][:, 0] + boxes[finding][:, 2]) / 2
    if finding == "Cardiomegaly":
        assert centre.std() < 0.06
    else:
        assert 0.2 < (centre < 0.5).mean() < 0.8


@pytest.mark.parametrize("finding", BOXED8.names)
def test_a_finding_shows_where_its_mask_is_and_more_with_contrast(finding: str) -> None:
    if finding == "Cardiomegaly":
        widths = [
            np.mean([f.boxes[finding][2] - f.boxes[finding][0] for f in alone(finding, 4, 96, p)]) for p in (0, 1)
        ]
        assert widths[1] > 1.3 * widths[0]
        return
    change = {}
    for plainness in (0.0, 1.0):
        with_it = list(alone(finding, 6, 96, plainness))
        without = Parameters.from_json({**only(finding, 1.0).as_json(), finding.lower(): [1e-6, 1e-6]})
        differences = [f.pixels.astype(float) - generate_film(21, f.number, 96, without).pixels for f in with_it]
        inside = np.mean([d[f.masks[finding]].mean() for d, f in zip(differences, with_it, strict=True)])
        outside = np.mean([np.abs(d[~f.masks[finding]]).mean() for d, f in zip(differences, with_it, strict=True)])
        assert abs(inside) > 2 * outside
        change[plainness] = inside
    sign = -1 if finding == "Pneumothorax" else 1
    assert sign * change[1.0] > 1.5 * sign * change[0.0] > 0


def test_a_box_is_the_extent_of_its_mask() -> None:
    seen = 0
    for number in range(12):
        film = generate_film(4, number, 128)
        for finding, mask in film.masks.items():
            rows, columns = np.nonzero(mask)
            hull = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert film.boxes[finding] == tuple(8.0 * v for v in hull)
            seen += 1
    assert seen > 5


def test_a_film_is_the_same_alone_or_among_others() -> None:
    first = [generate_film(7, number, 64) for number in (0, 1, 2, 3)]
    again = [generate_film(7, number, 64) for number in (3, 1)]
    assert np.array_equal(first[3].pixels, again[0].pixels)
    assert np.array_equal(first[1].pixels, again[1].pixels)
    assert not np.array_equal(first[1].pixels, generate_film(8, 1, 64).pixels)


def test_size_changes_pixels_not_what_is_true() -> None:
    for number in range(10):
        small, large = generate_film(5, number, 128), generate_film(5, number, 256)
        assert small.landmarks == large.landmarks
        assert (small.name, small.lesions, small.devices) == (large.name, large.lesions, large.devices)
        for finding in set(small.boxes) & set(large.boxes):
            # Irregular borders and thin tips move a little with the grid; two pixels of the coarser are 16 of 1024.
            assert np.abs(np.subtract(small.boxes[finding], large.boxes[finding])).max() <= 32


def test_films_of_a_patient_share_the_anatomy_not_the_pose() -> None:
    patient, first, _ = next(p for p in patients(0, 64) if p[2] >= 2)
    one, two = generate_film(0, first, 64), generate_film(0, first + 1, 64)
    assert one.patient == two.patient == patient
    assert (one.follow_up, two.follow_up) == (0, 1)
    assert one.anatomy == two.anatomy
    assert one.pose != two.pose


def test_convention_heart_at_the_image_right_lungs_dark_mediastinum_bright() -> None:
    normal = Parameters(normal_share=1.0, distractors=0.0)
    for number in range(8):
        film = generate_film(2, 3 * number, 128, normal)
        right, left = film.landmarks["right_apex"], film.landmarks["left_apex"]
        assert right[0] < left[0]
        assert film.landmarks["heart"][0] > (right[0] + left[0]) / 2 - 20
        middle = film.pose.to_film([(0.0, -0.05), (-0.19, -0.05), (0.19, -0.12), (0.0, 0.35)]) * 128
        grey = [film.pixels[int(y) - 2 : int(y) + 3, int(x) - 2 : int(x) + 3].mean() for x, y in middle]
        assert min(grey[0], grey[3]) > max(grey[1], grey[2]) + 25


def test_landmarks_and_boxes_lie_in_the_1024_frame_at_every_size() -> None:
    for number in range(20):
        film = generate_film(1, number, 64)
        assert all(-60 < v < 1084 for point in film.landmarks.values() for v in point)
        for x0, y0, x1, y1 in film.boxes.values():
            assert 0 <= x0 < x1 <= 1024
            assert 0 <= y0 < y1 <= 1024


def test_about_half_of_the_films_are_normal_and_findings_are_even() -> None:
    drawn = [draw_findings(np.random.default_rng([3, k]), Parameters()) for k in range(4000)]
    assert abs(np.mean([not d for d in drawn]) - 0.47) < 0.03
    assert {len(d) for d in drawn} == {0, 1, 2, 3}
    share = [np.mean([f in d for d in drawn]) for f in BOXED8]
    assert max(share) / min(share) < 1.3


def test_chest_tubes_go_with_pneumothorax() -> None:
    def rate(findings: tuple[str, ...]) -> float:
        worn = [draw_devices(np.random.default_rng(k), findings, 0, False, 1.0).tubes for k in range(800)]
        return float(np.mean(["chest_tube" in tubes for tubes in worn]))

    assert rate(("Pneumothorax",)) > 5 * rate(())
    assert draw_devices(np.random.default_rng(0), ("Pneumothorax",), 0, True, 0.0).tubes == ()


@settings(max_examples=20)
@given(
    seed=st.integers(-5, -1) | st.integers(0, 3), number=st.integers(-3, 2), size=st.integers(-10, 63) | st.just(4097)
)
def test_bad_arguments_are_refused(seed: int, number: int, size: int) -> None:
    with pytest.raises(ConfigError, match="must"):
        generate_film(seed, number, size)


@settings(max_examples=30)
@given(low=st.floats(-1, 0), high=st.floats(-1, 2), share=st.floats(1.01, 9) | st.floats(-9, -0.01))
def test_bad_parameters_are_refused(low: float, high: float, share: float) -> None:
    with pytest.raises(ConfigError, match="nodule"):
        Parameters(nodule=(low, high))
    with pytest.raises(ConfigError, match="normal_share"):
        Parameters(normal_share=share)
    with pytest.raises(ConfigError, match="weights"):
        Parameters(weights={"Nodule": 1.0})
    with pytest.raises(ConfigError, match="is not a parameter"):
        Parameters.from_json({"nodules": [0.1, 0.2]})


def test_the_heart_landmark_is_the_middle_of_a_large_heart() -> None:
    for film in alone("Cardiomegaly", 8, 128):
        x0, y0, x1, y1 = film.boxes["Cardiomegaly"]
        if y1 < 1024:
            assert film.landmarks["heart"] == pytest.approx(((x0 + x1) / 2, (y0 + y1) / 2), abs=30)
