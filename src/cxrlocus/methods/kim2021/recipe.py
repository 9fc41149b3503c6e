"""How it is trained: a classifier, the anchor, the alignment, a classifier of aligned films, masks, and it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cxrlocus.functional.alignment import pose_affine, warp
from cxrlocus.methods.base import Recipe
from cxrlocus.methods.classification import ClassifierObjective, Part, log_odds, telling, training_parts, validator
from cxrlocus.methods.kim2021.config import (
    ALIGN,
    ALIGNED,
    ANCHOR,
    BASE,
    MASKS,
    RETRAIN,
    KimConfig,
    in_round,
    round_of,
    stage_config,
    stages_of,
)
from cxrlocus.methods.kim2021.masks import load_masks
from cxrlocus.methods.kim2021.model import KimNet, build, build_aligner, build_backbone, without_alignment
from cxrlocus.methods.kim2021.objective import AlignmentObjective, alignment_figures
from cxrlocus.methods.kim2021.passes import anchor_films, load_anchor, make_anchor, make_masks
from cxrlocus.methods.kim2021.pictures import draw_aligned, draw_masks
from cxrlocus.models.aligner import AlignmentNet, StageFeatures
from cxrlocus.training.checkpoint import load_weights
from cxrlocus.training.fit import fit
from cxrlocus.training.machine import lay_channels_last
from cxrlocus.training.run import stage_done
from cxrlocus.types import BoolArray, Findings

Figures = Callable[[], Mapping[str, float]]


@dataclass(frozen=True)
class Films:
    """The films to learn from and those that choose checkpoints."""

    train: Part
    val: Part


def train_kim(recipe: Recipe[KimConfig], until: str = "") -> None:
    """Train the stages that are not there yet, each from what the ones before have left.

    Args:
        recipe: what to train, and on what.
        until: the last stage to train; "" trains all.

    Raises:
        ConfigError: ``mask_findings`` or ``asymmetric`` names something unknown, timm has no such ``align_backbone``,
            ``backbone`` has too few stages to compare, or no film can make the anchor; before anything is trained.
    """
    config, findings = recipe.config, recipe.index.findings
    stages = stages_of(config)
    stages = stages[: stages.index(until) + 1] if until else stages
    of = {name: stage_config(config, name) for name in stages}
    done = {name: stage_done(recipe.folder / name, asdict(of[name]), recipe.seed) for name in stages}
    if all(done.values()):
        return
    _check(config, findings)
    needed = [name for name in stages if not done[name]]
    # Stages differ in their batches, and a loader is of one size.
    films: dict[int, Films] = {}
    for name in needed:
        if (batch := of[name].batch_size) not in films:
            films[batch] = Films(*training_parts(replace(recipe, config=of[name])))
    if ANCHOR in needed:
        anchor_films(of[ANCHOR], films[of[ANCHOR].batch_size].train, recipe.seed)
    for name in needed:
        one = replace(recipe, config=of[name], on_step=telling(recipe.on_step, name))
        _STAGES[round_of(name)[0]](one, films[one.config.batch_size])


def _check(config: KimConfig, findings: Findings) -> None:
    """See that what later stages need can be had, before any is trained: a slip would show itself after hours."""
    config.masked(findings)
    config.mirrored(findings)
    if config.align:
        build_aligner(config)
        if config.perceptual_weight:
            StageFeatures(build_backbone(replace(config, pretrained=False)))


def _base(recipe: Recipe[KimConfig], films: Films) -> None:
    _classifier(replace(recipe, config=without_alignment(recipe.config)), films, BASE, recipe.config)


def _classifier(recipe: Recipe[KimConfig], films: Films, stage: str, config: KimConfig) -> None:
    """Train a classifier from its first weights, with the aligner that is there."""
    torch.manual_seed(recipe.seed)
    net = build(recipe.config, len(recipe.index.findings))
    net.bias.data.copy_(first_bias(films.train.index.target, films.train.index.known, recipe.config.loss))
    if recipe.init is not None:
        net.features.load(recipe.init)
    if net.aligner is not None:
        net.aligner.load_state_dict(load_aligner(recipe.folder, recipe.config).state_dict())
    _fit(replace(recipe, config=config), stage, net, films)


def first_bias(target: NDArray[np.uint8], known: BoolArray, loss: str) -> Tensor:
    """Where the head's bias (C,) starts: what serves the loss best before anything is seen.

    That is each finding's log odds; under eq. 10, which weighs the positives of all findings together as much as all
    negatives, less the log odds of a label of any finding. A bias that starts elsewhere is made up for by the maps,
    whose level eq. 4 then doubles inside the masks.

    Example:
        >>> target, known = np.array([[1, 0], [1, 0], [0, 0], [0, 0]], np.uint8), np.ones((4, 2), bool)
        >>> first_bias(target, known, "bce").tolist()[0], first_bias(target, known, "weighted_bce")[0] > 0.5
        (0.0, tensor(True))
    """
    each = log_odds(target, known)
    return each if loss == "bce" else each - log_odds(target.reshape(-1, 1), known.reshape(-1, 1))


def _anchor(recipe: Recipe[KimConfig], films: Films) -> None:
    config, device, before = recipe.config, recipe.fabric.device, recipe.config.anchor_rounds - 1
    if not before:
        make_anchor(recipe, films.train)
        return
    aligner = load_aligner(recipe.folder, config, before).to(device)

    def aligned(images: Tensor) -> Tensor:
        images = images.to(device)
        return warp(images, pose_affine(aligner(images)), config.align_border)

    make_anchor(recipe, films.train, aligned)


def _align(recipe: Recipe[KimConfig], films: Films) -> None:
    config, device = recipe.config, recipe.fabric.device
    torch.manual_seed(recipe.seed)
    number = config.anchor_rounds
    aligner = build_aligner(config) if number == 1 else load_aligner(recipe.folder, config, number - 1)
    base = _trained(recipe, BASE).to(device).eval().requires_grad_(False)
    if config.channels_last:
        # It is no part of what fit lays out, and each step goes through it and back.
        lay_channels_last(base)
    anchor = load_anchor(recipe.folder / in_round(ANCHOR, number)).to(device)
    objective = AlignmentObjective(aligner, anchor, StageFeatures(base.features), config)
    stage = in_round(ALIGN, number)
    figures = alignment_figures(recipe.fabric, objective, films.val)
    # Where no epoch brings films closer to the anchor than they came, they stay as they came.
    _run(recipe, stage, objective, aligner, films, figures, [], from_start=True)
    if recipe.fabric.is_global_zero:
        best = load_aligner(recipe.folder, config)
        draw_aligned(recipe.folder / stage / "aligned.png", best, config, anchor.cpu(), films.val)
    recipe.fabric.barrier()


def _aligned(recipe: Recipe[KimConfig], films: Films) -> None:
    _classifier(recipe, films, ALIGNED, recipe.config)


def _masks(recipe: Recipe[KimConfig], films: Films) -> None:
    net = _trained(recipe, ALIGNED if recipe.config.align else BASE)
    make_masks(recipe, net, films.train)
    if recipe.fabric.is_global_zero:
        anchor = recipe.folder / in_round(ANCHOR, recipe.config.anchor_rounds)
        draw_masks(recipe.folder / MASKS, anchor, recipe.index.findings, net.offset())
    recipe.fabric.barrier()


def _retrain(recipe: Recipe[KimConfig], films: Films) -> None:
    net = _trained(recipe, ALIGNED if recipe.config.align else BASE)
    net.masks.copy_(load_masks(recipe.folder / MASKS))
    _fit(recipe, RETRAIN, net, films)


_STAGES: Mapping[str, Callable[[Recipe[KimConfig], Films], None]] = {
    BASE: _base, ANCHOR: _anchor, ALIGN: _align, ALIGNED: _aligned, MASKS: _masks, RETRAIN: _retrain,
}  # fmt: skip


def _fit(recipe: Recipe[KimConfig], stage: str, net: KimNet, films: Films) -> None:
    objective = ClassifierObjective(net, recipe.config.loss)
    figures = validator(recipe.fabric, net, films.val)
    _run(recipe, stage, objective, net, films, figures, [net.weight, net.bias])


def _run(
    recipe: Recipe[KimConfig],
    stage: str,
    objective: nn.Module,
    net: nn.Module,
    films: Films,
    figures: Figures,
    head: list[nn.Parameter],
    *,
    from_start: bool = False,
) -> None:
    fit(
        recipe.fabric, objective, net, films.train.loader, figures, recipe.config, recipe.folder / stage,
        seed=recipe.seed, head=head, on_step=recipe.on_step, from_start=from_start,
    )  # fmt: skip


def _trained(recipe: Recipe[KimConfig], stage: str) -> KimNet:
    """The classifier as a stage left it."""
    config = replace(recipe.config, pretrained=False)
    net = build(without_alignment(config) if stage == BASE else config, len(recipe.index.findings))
    load_weights(recipe.folder / stage / "weights.safetensors", net)
    return net


def load_aligner(folder: Path, config: KimConfig, number: int | None = None) -> AlignmentNet:
    """The alignment network that a run folder holds of a round, the last by default, on the CPU in evaluation mode.

    Raises:
        RunError: its weights are missing or damaged.
    """
    net = build_aligner(config)
    load_weights(folder / in_round(ALIGN, number or config.anchor_rounds) / "weights.safetensors", net)
    return net.eval()
