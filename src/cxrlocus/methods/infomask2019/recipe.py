"""How InfoMask and its rivals are trained: one stage, or two where a masked network starts from the baseline."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from cxrlocus.data.records import Index
from cxrlocus.errors import ConfigError
from cxrlocus.functional.evidence import label_directions
from cxrlocus.functional.variational import flat_masks, kl_standard_normal
from cxrlocus.methods.base import Recipe
from cxrlocus.methods.classification import (
    ClassifierObjective,
    Part,
    log_odds,
    telling,
    training_films,
    training_parts,
    validator,
)
from cxrlocus.methods.infomask2019.config import BASELINE, InfoMaskConfig, baseline_config, stage_configs
from cxrlocus.methods.infomask2019.localizer import (
    chosen_findings,
    infer,
    localizer_of,
)
from cxrlocus.methods.infomask2019.model import (
    BaselineNet,
    InfoMaskNet,
    build_net,
    parameter_count,
    start_as_he,
)
from cxrlocus.methods.infomask2019.objective import InfoMaskObjective
from cxrlocus.models.backbones import Backbone
from cxrlocus.models.camnet import CamNet
from cxrlocus.training.checkpoint import load_weights, read_json, write_json
from cxrlocus.training.fit import Finals, fit
from cxrlocus.training.run import KNOWS, stage_done

Figures = Callable[[], Mapping[str, float]]

WARM_FILMS = 1024
"""Films by whose labels a warm start looks for the finding among an encoder's features."""

CENTRING = 4
"""Batches over which a warm start brings mu to the prior."""

REPORT = "network.json"
"""What a run tells of its network and its masks."""


class DeadMaskWarning(UserWarning):
    """A trained mask is the same everywhere on every validation film: it points nowhere."""


def train_infomask(recipe: Recipe[InfoMaskConfig]) -> None:
    """Train the stages of ``stage_configs``, skipping what is there.

    Into the run folder goes network.json: the number of parameters, the chosen checkpoint's figures of its masks, and
    what the run knows beyond labels.

    Raises:
        ConfigError: ``choose="boxes"``, and no validation film has a box of the findings.
    """
    recipe = replace(recipe, index=recipe.index.only(chosen_findings(recipe.config, recipe.index.findings).names))
    stages = stage_configs(recipe.config)
    done = {name: stage_done(recipe.folder / name, given, recipe.seed) for name, given in stages.items()}
    if [*done.values()][-1]:
        _report_late(recipe)
        return
    _check_choice(recipe)
    parts = training_parts(recipe)
    for name in (name for name in stages if not done[name]):
        one = replace(recipe, config=baseline_config(recipe.config)) if name == BASELINE else recipe
        net, figures = _train_stage(one, name, *parts)
    if recipe.fabric.is_global_zero:
        _report(recipe, net, figures)


def _train_stage(
    recipe: Recipe[InfoMaskConfig], stage: str, train: Part, val: Part
) -> tuple[InfoMaskNet | BaselineNet | CamNet, Mapping[str, float]]:
    config = recipe.config
    torch.manual_seed(recipe.seed)
    net = build_net(config, len(recipe.index.findings))
    backbone = net.encoder if isinstance(net, InfoMaskNet) else net.backbone
    warm = isinstance(net, InfoMaskNet) and config.start == "warm"
    if recipe.init is not None and not warm:
        if not isinstance(backbone, Backbone):
            raise ConfigError(
                f"{recipe.init}: --init gives weights of a timm backbone, and the paper's encoder begins from scratch. "
                "Leave it out, or choose a backbone (--variant timm, --variant chexcam)."
            )
        backbone.load(recipe.init)
    if warm:
        _warm(recipe, cast(InfoMaskNet, net), train)
    elif config.start != "torch":
        # Behind the weights of a file: mu is brought to the prior by what the encoder says of films.
        _open(net, train)
    if config.loss == "bce":
        _head_bias(net).data.copy_(log_odds(train.index.target, train.index.known))
    objective, validate = _objective(recipe, net, train, val)
    progress = fit(
        recipe.fabric,
        objective,
        net,
        train.loader,
        validate,
        config,
        recipe.folder / stage,
        seed=recipe.seed,
        head=_head(net, backbone),
        on_step=telling(recipe.on_step, f"{stage}:", f", {parameter_count(net) / 1e6:.2f} M parameters"),
        finals=_finals(recipe, net, stage),
    )
    return net, progress.figures


@torch.no_grad()
def _warm(recipe: Recipe[InfoMaskConfig], net: InfoMaskNet, train: Part) -> None:
    """Begin at the encoder of stage ``baseline``, and at what its features say of the labels of some films."""
    baseline = build_net(baseline_config(recipe.config), len(recipe.index.findings))
    load_weights(recipe.folder / BASELINE / "weights.safetensors", baseline)
    encoder = cast(BaselineNet, baseline).backbone.eval()
    some, pooled, seen = [], [], []
    for batch in train.loader.batches(0):
        images = batch.images.cpu()
        some.append(images)
        pooled.append(encoder(images).mean(dim=(-2, -1)))
        seen.append((batch.target.cpu(), batch.known.cpu()))
        if len(pooled) * len(images) >= WARM_FILMS:
            break
    target, known = (torch.cat(part) for part in zip(*seen, strict=True))
    net.warm_up(encoder, label_directions(torch.cat(pooled), target, known), torch.cat(some[:CENTRING]))


def _finals(recipe: Recipe[InfoMaskConfig], net: InfoMaskNet | BaselineNet | CamNet, stage: str) -> Finals | None:
    """How the checkpoint is chosen by boxes, where the Config says so."""
    config, judge = recipe.config, recipe.judge
    if config.choose == "labels" or judge is None:
        return None
    boxed, scratch = _boxed(recipe), recipe.folder / stage / "finalists"
    maps = localizer_of(net, boxed.findings, config)
    return Finals(config.finalists, lambda: judge(maps, boxed, config.criterion, scratch))


def _boxed(recipe: Recipe[InfoMaskConfig]) -> Index:
    """The validation films that have boxes of the findings."""
    _, val = training_films(recipe)
    boxed = val.subset([i for i, r in enumerate(val.records) if r.boxes])
    if not len(boxed):
        raise ConfigError(
            f"choose=boxes needs validation films with boxes of {', '.join(val.findings)}; none of the {len(val)} has "
            "one. Take lists with boxed films in split val (`cxrlocus data split` draws them), or choose=labels."
        )
    return boxed


def _check_choice(recipe: Recipe[InfoMaskConfig]) -> None:
    """See, before films are decoded, that there is something to choose by."""
    if recipe.config.choose == "boxes":
        _boxed(recipe)
        if recipe.judge is None:
            raise ConfigError("choose=boxes needs a judge of maps in the Recipe. Give one, or take choose=labels.")


def _open(net: InfoMaskNet | BaselineNet | CamNet, train: Part) -> None:
    if isinstance(net, InfoMaskNet):
        first = next(iter(train.loader.batches(0)))
        net.open_up(first.images.cpu())
    elif isinstance(net, BaselineNet):
        start_as_he(net)


def _head_bias(net: InfoMaskNet | BaselineNet | CamNet) -> nn.Parameter:
    return net.bias if isinstance(net, CamNet) else net.verdict.bias


def _head(net: nn.Module, backbone: nn.Module) -> list[nn.Parameter]:
    """The layers that begin from scratch on top of a timm model; the paper's networks learn at one rate."""
    if not isinstance(backbone, Backbone):
        return []
    own = {id(p) for p in backbone.parameters()}
    return [p for p in net.parameters() if id(p) not in own]


def _objective(
    recipe: Recipe[InfoMaskConfig], net: InfoMaskNet | BaselineNet | CamNet, train: Part, val: Part
) -> tuple[nn.Module, Figures]:
    config, fabric = recipe.config, recipe.fabric
    if isinstance(net, InfoMaskNet):
        masked = InfoMaskObjective(net, config, config.epochs * len(train.loader))
        watched = Watched(net, config.samples)
        figures = validator(fabric, watched, val)
        return masked, lambda: {**figures(), **watched.figures(fabric), **masked.tallied()}
    return ClassifierObjective(net, config.loss), validator(fabric, net, val)


class Watched(nn.Module):
    """An InfoMask network as the validator wants one, that keeps count of the masks it shows on the way.

    Args:
        net: the network.
        samples: draws of z, as in prediction.
    """

    NAMES = ("mask_flat", "mask_empty", "mask_open", "mask_mean", "val_kl")

    def __init__(self, net: InfoMaskNet, samples: int) -> None:
        super().__init__()
        self.net, self.samples = net, samples
        self.backbone = nn.Identity()
        self.sums, self.masks = torch.zeros(len(self.NAMES)), 0

    def classify(self, images: Tensor) -> Tensor:
        """Logits (N, C) of films."""
        out = infer(self.net, images, self.samples)
        mask, latents = out.mask.float(), out.latents
        each = (
            flat_masks(mask),
            mask.amax(dim=(-2, -1)) <= 0,
            (mask > 0).float().mean(dim=(-2, -1)),
            mask.mean(dim=(-2, -1)),
            kl_standard_normal(latents.mu, latents.sigma, "none").mean(dim=(-2, -1)),
        )
        self.sums = self.sums.to(mask.device) + torch.stack([one.float().sum() for one in each])
        self.masks += mask.shape[0] * mask.shape[1]
        return out.logits

    def figures(self, fabric: Fabric) -> dict[str, float]:
        """Means over the masks since the last call, of all ranks.

        "mask_flat": share of dead masks (the same value everywhere); "mask_empty": share of masks that are zero
        everywhere; "mask_open": share of pixels above zero; "mask_mean": mean value; "val_kl": KL a pixel.
        """
        sums = torch.cat([self.sums, self.sums.new_tensor([self.masks])])
        if fabric.world_size > 1:
            sums = cast(Tensor, fabric.all_reduce(sums, reduce_op="sum"))
        self.sums, self.masks = torch.zeros(len(self.NAMES)), 0
        *totals, masks = sums.tolist()
        return {name: total / masks for name, total in zip(self.NAMES, totals, strict=True)}


def _report_late(recipe: Recipe[InfoMaskConfig]) -> None:
    """The report of a run that was stopped between its last weights and its report."""
    if recipe.fabric.is_global_zero and not (recipe.folder / REPORT).is_file():
        last = [*stage_configs(recipe.config)][-1]
        figures = read_json(recipe.folder / last / "manifest.json")["progress"]["figures"]
        _report(recipe, build_net(recipe.config, len(recipe.index.findings)), figures)


def _report(recipe: Recipe[InfoMaskConfig], net: nn.Module, figures: Mapping[str, float]) -> None:
    count = parameter_count(net)
    masks = {name: figures[name] for name in Watched.NAMES if name in figures}
    knows = KNOWS.get(("choose", recipe.config.choose), "")
    write_json(recipe.folder / REPORT, {"parameters": count, "masks": masks, "knows": knows})
    if masks.get("mask_flat") == 1:
        warnings.warn(
            f"{recipe.folder}: dead masks: the same value everywhere on every validation film (log.jsonl has each "
            "epoch). Lower alpha or lr, or try --set straight_through=true, alpha_warmup=0.3 or tau=0.3.",
            DeadMaskWarning,
            stacklevel=2,
        )
