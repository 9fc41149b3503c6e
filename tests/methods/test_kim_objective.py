"""What alignment minimizes: what it looks at, and what it does not."""

from __future__ import annotations

import pytest
import torch

from cxrlocus.methods.kim2021 import KimConfig
from cxrlocus.methods.kim2021.model import build_aligner, build_backbone
from cxrlocus.methods.kim2021.objective import AlignmentObjective, match_level
from cxrlocus.models.aligner import StageFeatures


def test_the_margin_keeps_the_rim_out_of_the_euclidean_loss() -> None:
    torch.manual_seed(0)
    anchor, film, same = torch.rand(1, 1, 64, 64), torch.rand(2, 1, 64, 64), torch.tensor([[1.0, 1, 0, 0, 0]] * 2)
    rimmed = film.clone()
    rimmed[..., :16, :] = rimmed[..., 48:, :] = rimmed[..., :, :16] = rimmed[..., :, 48:] = 0

    def loss(images: torch.Tensor, margin: float) -> float:
        config = KimConfig(
            backbone="test_resnet", align_backbone="test_resnet", size=64, blur=1, perceptual_weight=0.0,
            euclidean_margin=margin,
        )  # fmt: skip
        stages = StageFeatures(build_backbone(config))
        return float(
            AlignmentObjective(build_aligner(config), anchor, stages, config).losses(images, same)["euclidean"]
        )

    assert loss(film, 0.25) == pytest.approx(float((film - anchor)[..., 16:48, 16:48].abs().mean()), rel=1e-5)
    assert loss(rimmed, 0.25) == loss(film, 0.25)
    assert loss(rimmed, 0.0) != pytest.approx(loss(film, 0.0), rel=0.05)


def test_matched_levels_do_not_know_exposure() -> None:
    film, anchor = torch.rand(2, 1, 8, 8), torch.rand(1, 1, 8, 8)
    torch.testing.assert_close(match_level(0.5 * film + 0.2, anchor), match_level(film, anchor), rtol=0, atol=1e-5)
    seen = match_level(film, anchor)
    torch.testing.assert_close(seen.mean((-2, -1)), anchor.mean((-2, -1)).expand(2, 1))
    assert torch.isfinite(match_level(torch.zeros(1, 1, 8, 8), anchor)).all()
