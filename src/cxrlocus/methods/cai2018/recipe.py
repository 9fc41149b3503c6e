"""How attention mining is trained: base, new layers alone, end to end, then a training at each mining step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import nn

from cxrlocus.data.cache import open_films
from cxrlocus.data.records import Dropped, Index
from cxrlocus.data.splits import write_split
from cxrlocus.data.transforms import Augmentation
from cxrlocus.errors import ConfigError
from cxrlocus.methods.base import TRANSDUCTIVE, Recipe
from cxrlocus.methods.cai2018.config import (
    BASE,
    JOINT,
    LAYERS_ALONE,
    MINE,
    CaiConfig,
    stage_config,
    stages_of,
)
from cxrlocus.methods.cai2018.films import TransductiveLoader
from cxrlocus.methods.cai2018.model import MiningNet, build
from cxrlocus.methods.cai2018.objective import Erased, Eraser, MiningObjective, NewLayersObjective, fix, mined_films
from cxrlocus.methods.classification import ClassifierObjective, Part, log_odds, telling, training_parts, validator
from cxrlocus.training.checkpoint import load_weights, read_json, write_json
from cxrlocus.training.fit import fit
from cxrlocus.training.machine import lay_channels_last
from cxrlocus.training.run import stage_done, write_films

Figures = Callable[[], Mapping[str, float]]


@dataclass(frozen=True)
class Films:
    """The films of every stage: to learn from, to choose checkpoints by, and to mine."""

    train: Part
    val: Part
    mined: Part


def train_cai(recipe: Recipe[CaiConfig]) -> None:
    """Train the stages that are not there yet, each from the best weights of the one before."""
    stages = stages_of(recipe.config)
    of = {name: stage_config(recipe.config, name) for name in stages}
    done = {name: stage_done(recipe.folder / name, asdict(of[name]), recipe.seed) for name in stages}
    if all(done.values()):
        return
    if any(name.startswith(MINE) for name in stages):
        _check_setting(recipe.config, recipe.index)
    films = _films(recipe, of[BASE])
    for name in stages:
        if not done[name]:
            _stage(replace(recipe, config=of[name], on_step=telling(recipe.on_step, name)), films, name)


def _stage(recipe: Recipe[CaiConfig], films: Films, name: str) -> None:
    if name.startswith(MINE):
        _mine(recipe, films, int(name.removeprefix(MINE)))
    else:
        {BASE: _base, LAYERS_ALONE: _new_layers, JOINT: _joint}[name](recipe, films)


def _check_setting(config: CaiConfig, index: Index) -> None:
    there = any(r.split == TRANSDUCTIVE for r in index.records)
    if config.setting == "transductive" and not there:
        raise ConfigError(
            f"{index.root}: setting=transductive needs films of split {TRANSDUCTIVE!r} (labels, no boxes) among "
            "those to train on, and there is none. Use setting=inductive."
        )


def _films(recipe: Recipe[CaiConfig], config: CaiConfig) -> Films:
    train, val = training_parts(replace(recipe, config=config))
    if recipe.config.setting == "inductive" or not recipe.config.steps:
        return Films(train, val, train)
    fabric, mined = recipe.fabric, mined_films(recipe.config, config.batch_size)
    pace = mined_films(replace(recipe.config, kp="vanilla"), config.batch_size)
    joining = [i for i, r in enumerate(recipe.index.records) if r.split == TRANSDUCTIVE]
    index = recipe.index.subset([recipe.index.position[name] for name in train.index.images] + joining)
    decoded = open_films(index, size=config.size, fit=config.fit, folder=recipe.cache, progress=recipe.on_film)
    loader = TransductiveLoader(
        index, decoded, config.batch_size, mined=mined, pace=pace, shuffle=True, seed=recipe.seed,
        augmentation=Augmentation() if config.augment else None, rank=fabric.global_rank, world=fabric.world_size,
        device=fabric.device,
    )  # fmt: skip
    if fabric.is_global_zero:
        _tell_joining(recipe, index, val.index, recipe.index.subset(joining), decoded.unreadable)
    fabric.barrier()
    return Films(train, val, Part(index, loader))


def _tell_joining(
    recipe: Recipe[CaiConfig], learning: Index, val: Index, joining: Index, unreadable: Sequence[Dropped]
) -> None:
    """Beside the lists of training films goes that of the films that join them; films.csv names them all."""
    write_films(recipe.folder, learning, val)
    listed = write_split(recipe.folder / "transductive_list.txt", joining.images)
    split = read_json(recipe.folder / "split.json")
    told = {item for item, _ in split["unreadable"]}
    more = [[one.item, one.reason] for one in unreadable if one.item not in told]
    write_json(
        recipe.folder / "split.json",
        {
            **split,
            "transductive": len(joining),
            "transductive_list": listed,
            "unreadable": split["unreadable"] + more,
        },
    )


def _base(recipe: Recipe[CaiConfig], films: Films) -> None:
    config = recipe.config
    torch.manual_seed(recipe.seed)
    net = build(replace(config, msa="none"), len(recipe.index.findings))
    if config.loss == "bce":
        net.bias.data.copy_(log_odds(films.train.index.target, films.train.index.known))
    if recipe.init is not None:
        net.stages.backbone.load(recipe.init)
    objective = ClassifierObjective(net, config.loss)
    _fit(recipe, BASE, objective, net, films.train, validator(recipe.fabric, net, films.val), [net.weight, net.bias])


def _new_layers(recipe: Recipe[CaiConfig], films: Films) -> None:
    base, net = _trained(recipe, BASE), _fresh(recipe)
    net.stages.load_state_dict(base.stages.state_dict())
    # The base network's bias: the training films' log odds, as far as it learnt to leave them.
    net.bias.data.copy_(base.bias.data)
    objective = NewLayersObjective(net, recipe.config.loss)
    new = [p for p in net.parameters() if p.requires_grad]
    _fit(recipe, LAYERS_ALONE, objective, net, films.train, validator(recipe.fabric, net, films.val), new)


def _joint(recipe: Recipe[CaiConfig], films: Films) -> None:
    net = _trained(recipe, LAYERS_ALONE)
    objective = ClassifierObjective(net, recipe.config.loss)
    _fit(recipe, JOINT, objective, net, films.train, validator(recipe.fabric, net, films.val), [])


def _mine(recipe: Recipe[CaiConfig], films: Films, step: int) -> None:
    config, fabric = recipe.config, recipe.fabric
    original = BASE if config.msa == "none" else JOINT
    net = _trained(recipe, original if step == 1 else f"{MINE}{step - 1}")
    earlier = range(1, step) if config.masks == "frozen" else ()
    eraser = Eraser(config, step, [_frozen(recipe, f"{MINE}{t}") for t in earlier])
    teacher = _frozen(recipe, original) if config.kp == "kp" else None
    objective = MiningObjective(net, config, eraser, teacher)
    whole, erased = validator(fabric, net, films.val), validator(fabric, Erased(net, eraser), films.val)

    def validate() -> dict[str, float]:
        seen = {f"{name}_whole": value for name, value in whole().items()}
        return {**(erased() if step > 1 else whole()), **seen, **objective.tallied()}

    _fit(recipe, f"{MINE}{step}", objective, net, films.mined, validate, [])


def _fit(
    recipe: Recipe[CaiConfig],
    stage: str,
    objective: nn.Module,
    net: MiningNet,
    part: Part,
    validate: Figures,
    head: list[nn.Parameter],
) -> None:
    fit(
        recipe.fabric, objective, net, part.loader, validate, recipe.config, recipe.folder / stage,
        seed=recipe.seed, head=head, on_step=recipe.on_step,
    )  # fmt: skip


def _fresh(recipe: Recipe[CaiConfig]) -> MiningNet:
    torch.manual_seed(recipe.seed)
    return build(replace(recipe.config, pretrained=False), len(recipe.index.findings))


def _trained(recipe: Recipe[CaiConfig], stage: str) -> MiningNet:
    """The network as a stage left it."""
    net = _fresh(replace(recipe, config=replace(recipe.config, msa="none")) if stage == BASE else recipe)
    load_weights(recipe.folder / stage / "weights.safetensors", net)
    return net


def _frozen(recipe: Recipe[CaiConfig], stage: str) -> MiningNet:
    net = _trained(recipe, stage).to(recipe.fabric.device).eval()
    if recipe.config.channels_last:
        lay_channels_last(net)
    fix(net)
    return net
