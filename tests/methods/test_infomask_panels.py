"""InfoMask's panels: what Fig. 4 shows is what the mask is made of."""

from __future__ import annotations

import numpy as np
import torch

from cxrlocus.functional.variational import clipped_mask
from cxrlocus.methods.baselines.gradcam import GradCamLocalizer
from cxrlocus.methods.infomask2019.config import InfoMaskConfig
from cxrlocus.methods.infomask2019.localizer import BaselineLocalizer, InfoMaskLocalizer
from cxrlocus.methods.infomask2019.model import build_baseline, build_infomask
from cxrlocus.prediction.panels import Shows
from cxrlocus.types import Findings, Frame

CONFIG = InfoMaskConfig(width=0.25, size=32)
FINDINGS = Findings(("Mass", "Nodule"))
FRAMES = np.tile(Frame.of_size(32, 32).matrix, (3, 1, 1))


def localizer() -> tuple[InfoMaskLocalizer, torch.Tensor]:
    torch.manual_seed(0)
    net, images = build_infomask(CONFIG, 2), torch.rand(3, 1, 32, 32)
    net.open_up(images)
    return InfoMaskLocalizer(net, FINDINGS, CONFIG, bf16=False), images


def test_the_mask_of_explain_is_the_clipped_mean_of_the_panels() -> None:
    one, images = localizer()
    shown = one.panels(images)
    assert list(shown) == ["attention A", "mean mu", "uncertainty sigma"]
    assert all(values.shape == (3, 2, 32, 32) and np.isfinite(values).all() for values in shown.values())
    mask = clipped_mask(torch.from_numpy(shown["mean mu"]), CONFIG.tau, straight_through=False)
    torch.testing.assert_close(mask, one.explain(images, FRAMES).maps)
    assert mask.std() > 0
    assert shown["attention A"].min() >= 0
    assert shown["uncertainty sigma"].min() > 0


def test_panels_leave_modes_and_random_numbers_alone_and_repeat_themselves() -> None:
    one, images = localizer()
    for training in (True, False):
        one.net.train(training)
        state = torch.get_rng_state()
        first, second = one.panels(images), one.panels(images)
        assert all(np.array_equal(first[name], second[name]) for name in first)
        assert torch.equal(torch.get_rng_state(), state)
        assert all(module.training is training for module in one.net.modules())
    alone = one.panels(images[1:2])
    for name, values in one.panels(images).items():
        np.testing.assert_allclose(alone[name][0], values[1], rtol=1e-3, atol=1e-5)


def test_only_those_that_have_latents_show_them() -> None:
    one, _ = localizer()
    assert isinstance(one, Shows)
    assert not isinstance(GradCamLocalizer(one), Shows)
    assert not isinstance(BaselineLocalizer(build_baseline(CONFIG, 2), FINDINGS, CONFIG, bf16=False), Shows)
