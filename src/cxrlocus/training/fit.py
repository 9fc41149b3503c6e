"""The one training loop: every stage of every method is a call of ``fit``."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from cxrlocus.data.loader import Loader
from cxrlocus.errors import ConfigError, CxrlocusError, check_rules
from cxrlocus.training.checkpoint import load_resume, load_weights, save_resume, save_weights, write_json
from cxrlocus.training.interrupt import Interrupt
from cxrlocus.training.machine import Precision, lay_channels_last

OnStep = Callable[[int, int, str], None]
"""Called after each step with (steps done, steps in all, a few words)."""

Validate = Callable[[], Mapping[str, float]]
"""Figures of the model as it stands, among them the one that chooses the checkpoint."""


FIGURES = {"auroc": 1.0, "accuracy": 1.0, "val_loss": -1.0, "cell_loss": -1.0}
"""The figures that may choose a checkpoint, and whether more (1) or less (-1) of them is better."""


@dataclass(frozen=True)
class FitConfig:
    """How a stage is trained; every method's Config is this and its own fields.

    Args:
        epochs: passes over the training films.
        batch_size: films a step and device.
        optimizer: "adamw", "adam" or "sgd" (momentum .9).
        lr: peak learning rate of the backbone.
        head_lr: peak learning rate of new layers, as a multiple of ``lr``.
        weight_decay: on weights; biases and normalization layers have none.
        warmup: share of all steps in which the rate grows linearly from 0.
        schedule: "cosine" to 0, or "constant".
        clip: largest norm of the whole gradient; 0 does not clip.
        patience: epochs without a better figure before stopping; 0 never stops early.
        select: the validation figure that chooses the checkpoint: a name in FIGURES.
        precision: "auto", "fp32" or "bf16" (autocast).
        channels_last: memory layout of the network; faster except for dilated depthwise convolutions on a CPU.
    """

    epochs: int = 10
    batch_size: int = 32
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = 1e-3
    head_lr: float = 1.0
    weight_decay: float = 1e-2
    warmup: float = 0.05
    schedule: Literal["cosine", "constant"] = "cosine"
    clip: float = 1.0
    patience: int = 0
    select: str = "auroc"
    precision: Precision = "auto"
    channels_last: bool = True

    def __post_init__(self) -> None:
        rules = {
            "epochs": (self.epochs >= 1, "at least 1"),
            "batch_size": (self.batch_size >= 1, "at least 1"),
            "optimizer": (self.optimizer in ("adamw", "adam", "sgd"), "adamw, adam or sgd"),
            "schedule": (self.schedule in ("cosine", "constant"), "cosine or constant"),
            "lr": (0 < self.lr < math.inf, "positive"),
            "head_lr": (0 < self.head_lr < math.inf, "positive"),
            "weight_decay": (0 <= self.weight_decay < math.inf, "at least 0"),
            "warmup": (0 <= self.warmup < 1, "in [0, 1)"),
            "clip": (0 <= self.clip < math.inf, "at least 0"),
            "patience": (self.patience >= 0, "at least 0"),
            "select": (self.select in FIGURES, "one of " + ", ".join(FIGURES)),
        }
        check_rules(self, rules)


@dataclass
class Progress:
    """Where a stage stands; saved with the weights, so that resuming is exact.

    ``best_epoch`` is -1 where nothing was better than the start, whose figures ``start`` holds.
    """

    epoch: int = 0
    step: int = 0
    best: float | None = None
    best_epoch: int = -1
    figures: dict[str, float] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)
    finalists: list[dict[str, float]] = field(default_factory=list)
    start: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Finals:
    """A checkpoint that is chosen in two steps: the best epochs by ``FitConfig.select``, then the best of these.

    Args:
        count: epochs that reach the second step, at least 1.
        score: of the model as it stands; more is better. Called at the end, once a finalist, on the first process.
    """

    count: int
    score: Callable[[], float]


def fit(
    fabric: Fabric,
    objective: nn.Module,
    model: nn.Module,
    loader: Loader,
    validate: Validate,
    config: FitConfig,
    folder: Path,
    *,
    seed: int,
    head: Sequence[nn.Parameter] = (),
    on_step: OnStep | None = None,
    finals: Finals | None = None,
    from_start: bool = False,
) -> Progress:
    """Minimize the sum of the objective's losses and keep the model's best weights in ``folder``.

    Writes weights.safetensors (the best epoch by ``config.select``, or of the ``finals``), resume.safetensors (the last
    state) and finalists/ (weights; both removed at the end), log.jsonl (a line an epoch) and, last of all,
    manifest.json, with the finalists' figures and scores. A stage with a manifest is done. Order of films,
    augmentation and dropout are functions of (seed, epoch, step), so a stage that was stopped and resumed on a CPU ends
    with bit-identical weights.

    Args:
        fabric: a launched Fabric.
        objective: ``objective(batch) -> dict of losses``; holds the model and whatever else the stage trains.
        model: the part of the objective whose weights are kept.
        loader: the training films.
        validate: figures of the model as it stands.
        config: how.
        folder: the stage's folder.
        seed: of everything random.
        head: parameters that learn at ``head_lr`` times ``lr``.
        on_step: called after each step.
        finals: how the checkpoint is chosen among the best epochs; None takes the best by ``config.select``.
        from_start: let the model as it comes be a checkpoint too: kept where no epoch is better.

    Returns:
        The final progress, with the best epoch's figures.

    Raises:
        CxrlocusError: the loss is not finite, or the disk is full.
        KeyboardInterrupt: Ctrl-C, after the state was saved at the end of the step.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if config.channels_last:
        lay_channels_last(objective)
    wrapped, optimizer = fabric.setup(objective, make_optimizer(objective, head, config))
    progress, resume = Progress(), folder / "resume.safetensors"
    if resume.is_file():
        # Only now: an optimizer's state is put where its parameters are, and setup has just moved them.
        progress = Progress(**load_resume(resume, objective, _plain(optimizer)))
    if fabric.is_global_zero:
        _trim_log(folder, progress.epoch)

    def save() -> None:
        if fabric.is_global_zero:
            save_resume(resume, objective, _plain(optimizer), asdict(progress))

    _keep_start(fabric, model, config, folder, progress, validate if from_start else None)
    with Interrupt() as interrupt:
        while progress.epoch < config.epochs and not _out_of_patience(progress, config):
            started = time.perf_counter()
            objective.train()
            losses = _train_epoch(fabric, wrapped, optimizer, loader, config, progress, seed, interrupt, save, on_step)
            figures = dict(validate())
            _keep_best(fabric, model, config, folder, progress, figures)
            _keep_finalists(fabric, model, config, folder, progress, figures, finals)
            seconds = time.perf_counter() - started
            if fabric.is_global_zero:
                _log(folder, {"epoch": progress.epoch, **losses, **figures, "seconds": round(seconds, 2)})
            progress.epoch, progress.step, progress.sums = progress.epoch + 1, 0, {}
            save()
            if _asked(fabric, interrupt) and progress.epoch < config.epochs:
                raise KeyboardInterrupt
    if fabric.is_global_zero:
        _decide(model, finals, folder, progress)
        write_json(folder / "manifest.json", {"config": asdict(config), "seed": seed, "progress": asdict(progress)})
        resume.unlink(missing_ok=True)
        shutil.rmtree(folder / "finalists", ignore_errors=True)
    fabric.barrier()
    return progress


def _train_epoch(
    fabric: Fabric,
    wrapped: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: Loader,
    config: FitConfig,
    progress: Progress,
    seed: int,
    interrupt: Interrupt,
    save: Callable[[], None],
    on_step: OnStep | None,
) -> dict[str, float]:
    steps = len(loader)
    sums = {name: torch.tensor(value, device=fabric.device) for name, value in progress.sums.items()}
    for batch in loader.batches(progress.epoch, start_step=progress.step):
        done = progress.epoch * steps + progress.step
        # Each rank draws its own noise; a single one draws what it always did.
        torch.manual_seed(seed * 1_000_003 + done + (fabric.global_rank << 40))
        set_lr(optimizer, rate_factor(done, config.epochs * steps, config))
        losses: dict[str, Tensor] = wrapped(fabric.to_device(batch))
        optimizer.zero_grad(set_to_none=True)
        fabric.backward(torch.stack(list(losses.values())).sum())
        if config.clip:
            fabric.clip_gradients(wrapped, optimizer, max_norm=config.clip, error_if_nonfinite=False)
        optimizer.step()
        progress.step += 1
        sums = {k: sums.get(k, torch.zeros_like(v)) + v.detach() for k, v in losses.items()}
        if on_step:
            on_step(
                done + 1, config.epochs * steps, f"epoch {progress.epoch + 1}/{config.epochs}{_best(progress, config)}"
            )
        if _asked(fabric, interrupt):
            progress.sums = {name: float(value) for name, value in sums.items()}
            save()
            raise KeyboardInterrupt
    means = {name: float(total) / steps for name, total in sums.items()}
    if not all(math.isfinite(value) for value in means.values()):
        raise CxrlocusError(
            f"the training loss is not finite in epoch {progress.epoch + 1} ({means}). "
            f"Lower lr (now {config.lr}) or use precision=fp32."
        )
    return means


def make_optimizer(objective: nn.Module, head: Sequence[nn.Parameter], config: FitConfig) -> torch.optim.Optimizer:
    """The optimizer over everything trainable: new layers at their own rate, no decay on vectors (biases, norms)."""
    of_head = {id(p) for p in head}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in objective.parameters():
        if parameter.requires_grad:
            groups.setdefault((id(parameter) in of_head, parameter.ndim > 1), []).append(parameter)
    options: list[dict[str, Any]] = [
        {
            "params": parameters,
            "lr": config.lr * (config.head_lr if is_head else 1.0),
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (is_head, decays), parameters in groups.items()
    ]
    for group in options:
        group["peak_lr"] = group["lr"]
    if config.optimizer == "sgd":
        return torch.optim.SGD(options, momentum=0.9)
    return torch.optim.Adam(options) if config.optimizer == "adam" else torch.optim.AdamW(options)


def rate_factor(step: int, steps: int, config: FitConfig) -> float:
    """The learning rate at a step, as a share of its peak: linear warm-up, then cosine to 0 or constant.

    Example:
        >>> [round(rate_factor(s, 100, FitConfig(warmup=0.1)), 3) for s in (0, 9, 55, 99)]
        [0.1, 1.0, 0.5, 0.0]
    """
    warm = config.warmup * steps
    if step < warm:
        return min(1.0, (step + 1) / warm)
    if config.schedule == "constant":
        return 1.0
    return 0.5 * (1.0 + math.cos(math.pi * (step - warm) / max(1.0, steps - warm)))


def set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's rate to ``factor`` of its peak."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak_lr"] * factor


def _keep_best(
    fabric: Fabric, model: nn.Module, config: FitConfig, folder: Path, progress: Progress, figures: dict[str, float]
) -> None:
    if config.select not in figures:
        raise ConfigError(f"select must be one of the validation figures {', '.join(figures)}; got {config.select!r}.")
    value = figures[config.select]
    sign = FIGURES[config.select]
    # While no epoch had a defined figure (no positive film in the validation part, say) the latest epoch is kept; an
    # undefined figure never replaces a defined one.
    if progress.best is None or sign * value > sign * progress.best:
        progress.best, progress.best_epoch = (None if math.isnan(value) else value), progress.epoch
        progress.figures = {k: v for k, v in figures.items() if not math.isnan(v)}
        if fabric.is_global_zero:
            save_weights(folder / "weights.safetensors", model)


def _keep_start(
    fabric: Fabric, model: nn.Module, config: FitConfig, folder: Path, progress: Progress, validate: Validate | None
) -> None:
    """Let the model as it comes be the best so far, if it is to be measured and the stage was not begun before."""
    if validate is None or progress.epoch or progress.step:
        return
    progress.start = {k: v for k, v in validate().items() if not math.isnan(v)}
    _keep_best(fabric, model, config, folder, progress, {config.select: math.nan, **progress.start})
    progress.best_epoch = -1


def _keep_finalists(
    fabric: Fabric,
    model: nn.Module,
    config: FitConfig,
    folder: Path,
    progress: Progress,
    figures: Mapping[str, float],
    finals: Finals | None,
) -> None:
    """Keep an epoch's weights while it is among the best: of equals the earlier; an undefined figure comes last."""
    if finals is None:
        return
    before = {_finalist(folder, one) for one in progress.finalists}
    here = {"epoch": progress.epoch, **{k: v for k, v in figures.items() if not math.isnan(v)}}
    sign, worst = FIGURES[config.select], -math.inf * FIGURES[config.select]
    ranked = sorted([*progress.finalists, here], key=lambda one: sign * one.get(config.select, worst), reverse=True)
    progress.finalists = ranked[: finals.count]
    if fabric.is_global_zero:
        # What the last saved state does not name can go: a stage that is killed here goes on from that state.
        for stray in set((folder / "finalists").glob("*.safetensors")) - before:
            stray.unlink()
        if here in progress.finalists:
            (folder / "finalists").mkdir(exist_ok=True)
            save_weights(_finalist(folder, here), model)


def _decide(model: nn.Module, finals: Finals | None, folder: Path, progress: Progress) -> None:
    """Let the finalist with the best score be the checkpoint; of equals the better by the first figure."""
    if finals is None:
        return
    for one in progress.finalists:
        load_weights(_finalist(folder, one), model)
        if not math.isnan(score := finals.score()):
            one["score"] = score
    best = max(progress.finalists, key=lambda one: one.get("score", -math.inf))
    load_weights(_finalist(folder, best), model)
    save_weights(folder / "weights.safetensors", model)
    progress.best_epoch = int(best["epoch"])
    progress.figures = {k: v for k, v in best.items() if k != "epoch"}


def _finalist(folder: Path, one: Mapping[str, float]) -> Path:
    return folder / "finalists" / f"epoch-{int(one['epoch'])}.safetensors"


def _out_of_patience(progress: Progress, config: FitConfig) -> bool:
    return 0 < config.patience <= progress.epoch - 1 - progress.best_epoch


def _best(progress: Progress, config: FitConfig) -> str:
    return "" if progress.best is None else f", best {config.select} {progress.best:.3f}"


def _asked(fabric: Fabric, interrupt: Interrupt) -> bool:
    """Whether to stop, the same on all ranks: one that left alone would take the others down before they had saved."""
    if fabric.world_size == 1:
        return interrupt.asked
    mine = torch.tensor(float(interrupt.asked), device=fabric.device)
    return float(cast(Tensor, fabric.all_reduce(mine, reduce_op="sum"))) > 0


def _plain(optimizer: torch.optim.Optimizer) -> torch.optim.Optimizer:
    # Fabric wraps the optimizer; the wrapper's state is the optimizer's own.
    return cast(torch.optim.Optimizer, getattr(optimizer, "optimizer", optimizer))


def _trim_log(folder: Path, epochs: int) -> None:
    """Keep the log's first epochs: a stage killed between its log and its checkpoint does the last one again."""
    path = folder / "log.jsonl"
    if path.is_file():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        path.write_text("".join(lines[:epochs]), encoding="utf-8")


def _log(folder: Path, row: Mapping[str, float]) -> None:
    with (folder / "log.jsonl").open("a", encoding="utf-8") as file:
        file.write(
            json.dumps({k: None if isinstance(v, float) and math.isnan(v) else v for k, v in row.items()}) + "\n"
        )
