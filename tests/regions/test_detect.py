"""One rule over many films: places, gate, progress, messages."""

import numpy as np
import pytest

from cxrlocus.regions.detect import detect
from cxrlocus.regions.rules import FixedThresholds, PeakComponent
from cxrlocus.types import Findings

FINDINGS = Findings(("Mass", "Nodule", "Effusion"))
IMAGES = ("a.png", "b.png")


def archive():
    rng = np.random.default_rng(0)
    maps = rng.normal(size=(2, 3, 8, 8)).astype(np.float16)
    sizes = np.array([[800, 600], [512, 512]])
    frames = np.array([[[w, 0, 0], [0, h, 0]] for w, h in sizes], dtype=np.float64)
    return maps, frames, sizes


def test_boxes_are_those_of_the_rule_film_by_film():
    maps, frames, sizes = archive()
    rule = FixedThresholds()
    found = detect(rule, maps, frames, sizes, IMAGES, FINDINGS)
    for i in range(2):
        for c in range(3):
            want = rule(maps[i, c], frames[i], tuple(sizes[i]))
            np.testing.assert_array_equal(found.of(i, c), want.xyxy)
            np.testing.assert_array_equal(found.score[(found.image == i) & (found.finding == c)], want.score)


def test_gate_and_progress():
    seen = []
    gate = np.array([[True, False, False], [False, False, True]])
    found = detect(PeakComponent(), *archive(), IMAGES, FINDINGS, gate=gate, progress=seen.append)
    assert list(zip(found.image.tolist(), found.finding.tolist(), strict=True)) == [(0, 0), (1, 2)]
    assert seen == [1, 2]


def test_no_films_and_closed_gates_give_no_boxes():
    maps, frames, sizes = archive()
    assert len(detect(PeakComponent(), maps[:0], frames[:0], sizes[:0], (), FINDINGS)) == 0
    closed = detect(PeakComponent(), maps, frames, sizes, IMAGES, FINDINGS, gate=np.zeros((2, 3), bool))
    assert (len(closed), closed.images) == (0, IMAGES)


def test_a_broken_map_is_named():
    maps, frames, sizes = archive()
    maps[1, 2, 0, 0] = np.inf
    with pytest.raises(ValueError, match=r"b\.png, Effusion: a map must be finite"):
        detect(PeakComponent(), maps, frames, sizes, IMAGES, FINDINGS)


def test_shapes_must_agree():
    maps, frames, sizes = archive()
    with pytest.raises(ValueError, match=r"with N=2, C=3; got \(2, 2, 8, 8\)"):
        detect(PeakComponent(), maps[:, :2], frames, sizes, IMAGES, FINDINGS)
    with pytest.raises(ValueError, match=r"and \(3, 2\)"):
        detect(PeakComponent(), maps, frames, sizes, IMAGES, FINDINGS, gate=np.ones((3, 2), bool))
