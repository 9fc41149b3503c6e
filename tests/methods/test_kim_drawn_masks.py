"""Masks that are drawn from anatomy: they lie where their zones do, and where cells look."""

from __future__ import annotations

import numpy as np
import pytest

from cxrlocus.methods.kim2021 import KimConfig
from cxrlocus.methods.kim2021.anatomy import WHERE, ZONES, draw_mask
from cxrlocus.methods.kim2021.masks import drawn_masks
from cxrlocus.types import NIH14


def test_drawn_masks_lie_where_their_zones_do() -> None:
    masks, told = drawn_masks(KimConfig(masks="drawn", mask_findings="all"), NIH14, 64)
    assert set(WHERE) == set(NIH14)
    assert {row["rule"] for row in told.values()} == {"drawn"}
    assert set(masks.unique().tolist()) == {0.0, 1.0}
    rows, columns = np.indices((64, 64)) + 0.5
    for c, name in enumerate(NIH14):
        drawn = masks[c].numpy() > 0
        points = np.array([p for zone in WHERE[name] for outline in ZONES[zone] for p in outline]) * 64
        assert 0.01 < drawn.mean() < 0.45
        np.testing.assert_allclose(columns[drawn].min(), points[:, 0].min(), atol=1.5)
        np.testing.assert_allclose(rows[drawn].max(), points[:, 1].max(), atol=1.5)
    heart = draw_mask("Cardiomegaly", 64)
    assert heart is not None
    assert (heart * columns).sum() / heart.sum() == pytest.approx(0.53 * 64, abs=0.5)
    # An ellipse of half axes .20 and .16.
    assert heart.mean() == pytest.approx(np.pi * 0.20 * 0.16, rel=0.03)


@pytest.mark.parametrize("finding", ["Cardiomegaly", "Effusion", "Nodule"])
def test_a_drawn_mask_lies_where_cells_look(finding: str) -> None:
    """Cells that look a whole cell left and up see what the cell before them would on the plain grid."""
    plain, moved = draw_mask(finding, 16), draw_mask(finding, 16, -1.0)
    assert plain is not None
    assert moved is not None
    np.testing.assert_array_equal(moved[1:, 1:], plain[:-1, :-1])
    assert not np.array_equal(moved, plain)
