"""How a CAM classifier is trained: one stage."""

from __future__ import annotations

from dataclasses import asdict

import torch

from cxrlocus.methods.base import Recipe
from cxrlocus.methods.cam.config import CamConfig
from cxrlocus.methods.cam.model import STAGE, build
from cxrlocus.methods.classification import ClassifierObjective, log_odds, training_parts, validator
from cxrlocus.training.fit import fit
from cxrlocus.training.run import stage_done


def train_cam(recipe: Recipe[CamConfig]) -> None:
    """Train the classifier into ``<run>/base``; nothing is done when that stage is there."""
    config, folder = recipe.config, recipe.folder / STAGE
    if stage_done(folder, asdict(config), recipe.seed):
        return
    train, val = training_parts(recipe)
    torch.manual_seed(recipe.seed)
    net = build(config, len(recipe.index.findings))
    if config.loss == "bce":
        net.start_at(log_odds(train.index.target, train.index.known), (config.size // config.stride) ** 2)
    if recipe.init is not None:
        net.backbone.load(recipe.init)
    fit(
        recipe.fabric,
        ClassifierObjective(net, config.loss),
        net,
        train.loader,
        validator(recipe.fabric, net, val),
        config,
        folder,
        seed=recipe.seed,
        head=[net.weight, net.bias, *net.pooling.parameters()],
        on_step=recipe.on_step,
    )
