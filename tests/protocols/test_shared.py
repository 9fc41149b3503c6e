"""What the protocols share: draws of patients, and boxes at the index's places."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from box_worlds import film, found, index_of

from cxrlocus.errors import ConfigError
from cxrlocus.protocols.shared import (
    boxed_pairs,
    chosen_rows,
    detected_boxes,
    film_positions,
    patient_draws,
    ranks,
    true_boxes,
)
from cxrlocus.types import Findings


def test_draws_are_with_replacement_and_from_the_seed_alone():
    draws = patient_draws(50, 400, seed=1)
    assert (draws.sum(axis=1) == 50).all()
    # With replacement each patient is drawn Binomial(50, 1/50) times: mean 1, variance 49/50.
    assert draws.var() == pytest.approx(0.98, abs=0.03)
    np.testing.assert_array_equal(draws, patient_draws(50, 400, seed=1))
    assert (draws != patient_draws(50, 400, seed=2)).any()


def test_limit_fewer_than_two_patients_have_no_resample():
    assert patient_draws(1, 100, seed=0).shape == (0, 1)
    assert patient_draws(0, 100, seed=0).shape == (0, 0)
    with pytest.raises(ConfigError, match="got 10 and -1"):
        patient_draws(3, 10, seed=-1)


def test_boxes_stand_at_the_index_s_places_whatever_the_predictions_order():
    index = index_of([film("a"), film("b", ("Mass", 0, 0, 2, 2), ("Nodule", 1, 1, 3, 3)), film("c")])
    detections = found(
        "cb", [(0, "Mass", 0, 0, 1, 1), (1, "Scar", 0, 0, 2, 2), (1, "Mass", 0, 0, 3, 3)], Findings(("Scar", "Mass"))
    )
    mass = index.findings.index("Mass")
    assert film_positions(detections, index).tolist() == [2, 1]
    got = detected_boxes(detections, index)
    assert (got.film.tolist(), got.finding.tolist(), got.xyxy[:, 2].tolist()) == ([2, 1], [mass, mass], [1, 3])
    truth = true_boxes(index)
    assert (truth.film.tolist(), truth.finding[0], truth.xyxy[1].tolist()) == ([1, 1], mass, [1, 1, 3, 3])


def test_ranks_are_of_a_film_and_finding_best_first_and_ties_as_they_stand():
    rows = [(1, "Mass", 0, 0, 1, 1), (0, "Mass", 0, 0, 2, 2), (1, "Mass", 0, 0, 3, 3), (1, "Nodule", 0, 0, 4, 4),
            (1, "Mass", 0, 0, 5, 5)]  # fmt: skip
    boxes = replace(found("ab", rows), score=np.array([0.5, 0.1, 0.5, 0.2, 0.9]))
    assert ranks(boxes).tolist() == [1, 0, 2, 0, 0]
    some = chosen_rows(boxes, np.array([4, 0]))
    assert (some.images, some.score.tolist(), some.xyxy[:, 2].tolist()) == (("a", "b"), [0.9, 0.5], [5, 1])
    assert ranks(chosen_rows(boxes, np.zeros(5, dtype=bool))).tolist() == []


def test_pairs_that_have_a_true_box():
    index = index_of([film("a", ("Mass", 0, 0, 2, 2)), film("b", ("Scar", 0, 0, 2, 2)), film("c")],
                     Findings(("Scar", "Mass")))  # fmt: skip
    assert boxed_pairs(found("cba", [], Findings(("Mass", "Other"))), index).tolist() == [
        [False, False], [False, False], [True, False]
    ]  # fmt: skip


def test_protocols_need_no_torch():
    code = "import sys, cxrlocus.protocols, cxrlocus.protocols.boxlist; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
