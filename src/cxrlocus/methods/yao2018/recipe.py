"""How the pyramid is trained: one stage."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict

import torch
from torch import nn

from cxrlocus.errors import ConfigError
from cxrlocus.methods.base import Recipe
from cxrlocus.methods.classification import ClassifierObjective, log_odds, training_parts, validator
from cxrlocus.methods.yao2018.config import AUGMENTATIONS, YaoConfig
from cxrlocus.methods.yao2018.down import TimmDown
from cxrlocus.methods.yao2018.localizer import STAGE
from cxrlocus.methods.yao2018.model import YaoNet, build
from cxrlocus.training.fit import fit
from cxrlocus.training.run import stage_done


def train_yao(recipe: Recipe[YaoConfig]) -> None:
    """Train into ``<run>/base``; nothing is done when that stage is there."""
    config, folder = recipe.config, recipe.folder / STAGE
    if stage_done(folder, asdict(config), recipe.seed):
        return
    train, val = training_parts(recipe)
    train.loader.augmentation = AUGMENTATIONS[config.augment]
    torch.manual_seed(recipe.seed)
    net = build(config, len(recipe.index.findings))
    if config.bias == "odds":
        net.start_at(log_odds(train.index.target, train.index.known), config.resolution**2)
    down = net.backbone.down
    if recipe.init is not None:
        if not isinstance(down, TimmDown):
            raise ConfigError(
                f"{recipe.init}: --init gives weights of a timm backbone, and the paper's way down begins from "
                "scratch. Leave it out, or choose a backbone (--variant timm)."
            )
        down.body.load(recipe.init)
    fit(
        recipe.fabric,
        ClassifierObjective(net, config.loss),
        net,
        train.loader,
        _figures(net, validator(recipe.fabric, net, val)),
        config,
        folder,
        seed=recipe.seed,
        head=_new_layers(net, down) if isinstance(down, TimmDown) else [],
        on_step=recipe.on_step,
    )


def _new_layers(net: YaoNet, down: TimmDown) -> list[nn.Parameter]:
    """What begins from scratch behind a timm backbone."""
    of_body = {id(p) for p in down.parameters()}
    return [p for p in net.parameters() if id(p) not in of_body]


def _figures(net: YaoNet, validate: Callable[[], Mapping[str, float]]) -> Callable[[], Mapping[str, float]]:
    """Validation figures, and with an adaptive pool the range of its sharpness."""

    def with_sharpness() -> Mapping[str, float]:
        r = net.sharpness()
        return {**validate(), **({"r_min": min(r), "r_max": max(r)} if r else {})}

    return with_sharpness
