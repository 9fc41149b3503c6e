"""How the networks are trained: a stage each, real and drawn films side by side in every step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace

import numpy as np
import torch
from numpy.typing import NDArray

from cxrlocus.data.phantom.planting import PLANTED
from cxrlocus.errors import ConfigError
from cxrlocus.methods.base import Recipe
from cxrlocus.methods.classification import Part, log_odds, telling, training_parts, validator
from cxrlocus.methods.drawn.config import DrawnConfig
from cxrlocus.methods.drawn.films import AUGMENTATION, Beside, Draughtsman, drawable, held_out
from cxrlocus.methods.drawn.model import DrawnNet, build, stage_of
from cxrlocus.methods.drawn.objective import DrawnObjective, cell_figures
from cxrlocus.training.fit import fit
from cxrlocus.training.run import stage_done

HELD_OUT_STEPS = 12
"""How many steps' worth of drawn films choose the epoch."""

_EMPTY = -3.0
"""Where the logit of a cell begins: few cells are covered."""


def train_drawn(recipe: Recipe[DrawnConfig]) -> None:
    """Train into ``<run>/base``, ``base2`` and so on; nothing is done for a stage that is there.

    Raises:
        ConfigError: the phantom draws none of the findings, none can be planted, there is no normal film to plant in,
            or no held-out film to choose the epoch by.
    """
    count, config = recipe.config.networks, replace(recipe.config, networks=1)
    # No two runs of different seeds have a network in common.
    seeds = {stage_of(k): recipe.seed * count + k for k in range(count)}
    left = {s: seed for s, seed in seeds.items() if not stage_done(recipe.folder / s, asdict(config), seed)}
    if not left:
        return
    drawn = drawable(recipe.index.findings.names)
    train, val = training_parts(recipe)
    if config.augment:
        train.loader.augmentation = AUGMENTATION
    for stage, seed in left.items():
        on_step = telling(recipe.on_step, stage) if count > 1 else recipe.on_step
        _train_network(replace(recipe, config=config, seed=seed, on_step=on_step), stage, drawn, train, val)


def _train_network(recipe: Recipe[DrawnConfig], stage: str, drawn: tuple[str, ...], train: Part, val: Part) -> None:
    config, names = recipe.config, recipe.index.findings.names
    draughtsman = Draughtsman(drawn, config, recipe.seed)
    if config.planted and not draughtsman.can_plant:
        raise ConfigError(
            f"{recipe.index.root}: of {', '.join(PLANTED)} at least one must be a finding here, for lesions of these "
            f"alone are planted; it has {', '.join(names)}. Set planted=0."
        )
    for part in (train, val):
        part.loader.seed = recipe.seed
    train.loader.beside = Beside(train.loader, draughtsman, normal_films(train, config))
    torch.manual_seed(recipe.seed)
    net = build(config, len(names))
    _start(net, train)
    if recipe.init is not None:
        net.backbone.stages.backbone.load(recipe.init)
    objective = DrawnObjective(net, config, torch.tensor([names.index(name) for name in drawn]))
    fit(
        recipe.fabric,
        objective,
        net,
        train.loader,
        _validator(recipe, objective, draughtsman, val),
        config,
        recipe.folder / stage,
        seed=recipe.seed,
        head=[net.weight, net.bias, net.odds, *net.backbone.new_parameters()],
        on_step=recipe.on_step,
    )


def normal_films(part: Part, config: DrawnConfig) -> NDArray[np.int64]:
    """Positions of the films to plant in: every label known, none positive; none are asked for where none is planted.

    Raises:
        ConfigError: there is none.
    """
    if not config.planted:
        return np.zeros(0, np.int64)
    index, readable = part.index, part.loader.positions
    normal = np.asarray(index.known.all(axis=1) & ~index.target.astype(bool).any(axis=1))
    able = readable[normal[readable]]
    if not len(able):
        raise ConfigError(
            f"{index.root}: lesions are planted in normal films (every label known, none positive), and none of these "
            f"{len(readable)} is one. Set planted=0."
        )
    return np.asarray(able)


def _start(net: DrawnNet, part: Part) -> None:
    """Cells begin empty, films at the odds of their labels."""
    with torch.no_grad():
        net.bias.fill_(_EMPTY)
        net.odds.copy_(log_odds(part.index.target, part.index.known) - _EMPTY)


def _validator(
    recipe: Recipe[DrawnConfig], objective: DrawnObjective, draughtsman: Draughtsman, val: Part
) -> Callable[[], Mapping[str, float]]:
    """The figures of any classifier, and the loss of cells on drawn films that no step has."""
    labels = validator(recipe.fabric, objective.net, val)
    if not (recipe.config.drawn or recipe.config.planted):
        return labels
    try:
        normal = normal_films(val, recipe.config)
    except ConfigError:
        # A handful of validation films may well have no normal one; the phantom's are then enough.
        normal = np.zeros(0, np.int64)
    films, masks = held_out(draughtsman, val.loader, normal, HELD_OUT_STEPS)
    if not len(films):
        if recipe.config.select == "cell_loss":
            raise ConfigError(
                f"{val.index.root}: select=cell_loss is measured on held-out films with drawn lesions; the phantom "
                f"draws none (drawn=0), and of the {len(val.index)} validation films none is normal (every label "
                "known, none positive). Hold out more (val_fraction), or set select=auroc."
            )
        return labels
    cells = cell_figures(recipe.fabric, objective, films, masks)
    return lambda: {**labels(), **cells()}
