"""The maps of attention mining: equation 8, one network or several, the step of each cell, the panels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from contract import frames

from cxrlocus.functional.mining import final_map, mine_maps
from cxrlocus.harvest.find import MiningLocalizer
from cxrlocus.methods.cai2018 import CaiConfig, CaiLocalizer
from cxrlocus.methods.cai2018.model import MiningNet, build
from cxrlocus.types import Findings

SMALL = CaiConfig(backbone="test_resnet", msa_last=8, msa_before=4, mined_share=0.5, size=64)
IMAGES = torch.rand(4, 1, 64, 64, generator=torch.Generator().manual_seed(0))


def net(seed: int = 0, config: CaiConfig = SMALL) -> MiningNet:
    torch.manual_seed(seed)
    made = build(config, 2)
    torch.nn.init.normal_(made.weight)
    return made.eval()


def localizer_of(count: int, **options: object) -> CaiLocalizer:
    nets = [net(seed) for seed in range(count)]
    made = CaiLocalizer(nets, FINDINGS, replace(SMALL, **options), bf16=False)  # type: ignore[arg-type]  # Config fields
    made.offset = 0.0
    return made


FINDINGS = Findings(("Mass", "Nodule"))


def test_the_map_is_equation_8_over_the_networks_of_the_steps() -> None:
    localizer = localizer_of(3)
    said = localizer.explain(IMAGES, frames(4))
    with torch.no_grad():
        evidence = [one.evidence(one.features(IMAGES)) for one in localizer.nets]
        logits = localizer.nets[2].classify(localizer.nets[2].features(IMAGES))
    torch.testing.assert_close(said.maps, final_map(mine_maps(evidence)))
    torch.testing.assert_close(said.prob, torch.sigmoid(logits), rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(localizer.logits(IMAGES).detach(), logits)


def test_one_network_gives_its_plain_evidence_raw_and_another_map_scaled() -> None:
    raw, scaled = localizer_of(1, steps=3), localizer_of(1, steps=3, combine="scaled")
    with torch.no_grad():
        plain = raw.last.evidence(raw.last.features(IMAGES))
    torch.testing.assert_close(raw.explain(IMAGES, frames(4)).maps, plain)
    said = scaled.explain(IMAGES, frames(4))
    assert said.kind == "mask"
    assert 0 <= float(said.maps.min()) < float(said.maps.max()) <= 1
    low, high = plain.amin((-2, -1), keepdim=True), plain.amax((-2, -1), keepdim=True)
    assert float((said.maps - (plain - low) / (high - low)).max()) > 0.05, "later steps' regions are raised"


def test_layers_above_one_backbone_are_asked_with_one_pass() -> None:
    nets = [net(seed) for seed in range(3)]
    for one in nets[1:]:
        one.stages.load_state_dict(nets[0].stages.state_dict())
    each = CaiLocalizer(nets, FINDINGS, SMALL, bf16=False)
    top = CaiLocalizer(nets, FINDINGS, replace(SMALL, tune="top"), bf16=False)
    each.offset = top.offset = 0.0
    calls: list[int] = []
    for one in nets:
        one.stages.register_forward_hook(lambda *_: calls.append(1))
    one, other = each.explain(IMAGES, frames(4)), top.explain(IMAGES, frames(4))
    assert len(calls) == 4
    torch.testing.assert_close(one.maps, other.maps)
    torch.testing.assert_close(one.prob, other.prob)


def test_a_mining_localizer_tells_the_step_of_each_cell() -> None:
    localizer = localizer_of(3)
    assert isinstance(localizer, MiningLocalizer)
    said, steps = localizer.explain_steps(IMAGES, frames(4))
    assert torch.equal(said.maps, localizer.explain(IMAGES, frames(4)).maps)
    assert steps.shape == said.maps.shape
    assert set(steps.unique().tolist()) == {1, 2, 3}
    none = localizer_of(1, steps=0)
    assert set(none.explain_steps(IMAGES, frames(4))[1].unique().tolist()) == {1}


def test_panels_show_each_step() -> None:
    localizer = localizer_of(2)
    shown = localizer.panels(IMAGES)
    assert list(shown) == ["H_1", "found 1", "H_2", "found 2", "H_f"]
    erased = shown["found 1"] == 1
    assert erased.any()
    assert (shown["H_2"][erased] == 0).all()
    assert not (erased & (shown["found 2"] == 1)).any()
    steps = localizer.explain_steps(IMAGES, frames(4))[1].numpy()
    assert np.array_equal(shown["found 2"] == 1, steps == 2)
