"""The steps of a study, and of the command line: train a run, predict with it. Each goes on where it was stopped."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np

from cxrlocus.data.cache import Films, open_films
from cxrlocus.data.nih_names import check_unseen, seen_films
from cxrlocus.data.records import Index
from cxrlocus.errors import ConfigError, DataError
from cxrlocus.functional.attribution import ATTRIBUTIONS
from cxrlocus.methods import get_method, load_run
from cxrlocus.methods.base import Recipe, learned_films
from cxrlocus.methods.baselines.gradcam import GradCamLocalizer
from cxrlocus.methods.options import MADE_FOR_WEIGHTS, PAPER, ScratchWarning
from cxrlocus.metrics.bootstrap import nanmean
from cxrlocus.metrics.pixels import dice_from
from cxrlocus.models.backbones import read_weights
from cxrlocus.prediction.predict import predict
from cxrlocus.prediction.store import check_place, read_predictions
from cxrlocus.protocols.masks import Criterion, FilmMeasures, Masking, measure_masks
from cxrlocus.study.sharing import reuse_stages
from cxrlocus.training.machine import describe_machine, make_fabric
from cxrlocus.training.run import RunInfo, check_run, file_hash, open_run, read_films
from cxrlocus.types import Localizer

ON_GRID = "grid"
"""As the kind of maps: the method's own on the plain grid (``models.registration``)."""

Bars = Callable[[str], Callable[..., None]]
"""``bars(label)`` gives a function to call with (done, in all) or (done, in all, words)."""


@dataclass(frozen=True)
class Job:
    """What to train, and on what.

    Args:
        method, variant, preset: by name.
        options: Config fields as text.
        seed: of everything random.
        init: safetensors weights of the backbone, or None.
        accelerator, devices, nodes: as Lightning Fabric has them.
    """

    method: str
    variant: str = ""
    preset: str = "paper"
    options: Mapping[str, str] = field(default_factory=dict)
    seed: int = 0
    init: Path | None = None
    accelerator: str = "auto"
    devices: int = 1
    nodes: int = 1


def train_run(job: Job, index: Index, out: Path, *, cache: Path, bars: Bars, siblings: Sequence[Path] = ()) -> bool:
    """Train a job on the films of an index that may be trained on; True on the process that speaks for all.

    Args:
        job: what.
        index: the data set.
        out: the run folder.
        cache: folder of decoded films.
        bars: progress.
        siblings: run folders to take stages from that this run would train again.

    Raises:
        ConfigError: the job names something unknown.
        RunError: ``out`` holds another run.
        DataError: no film belongs to split "train".
    """
    method = get_method(job.method)
    # Weights from a file stand in for timm's own, which would only be downloaded and overwritten.
    options = {**job.options, "pretrained": "false"} if job.init else dict(job.options)
    config = method.configure(variant=job.variant, preset=job.preset, options=options)
    if job.preset in MADE_FOR_WEIGHTS and not job.init and config.backbone != PAPER and not config.pretrained:
        warnings.warn(
            f"preset {job.preset} is made for pretrained weights, and {config.backbone} begins from random numbers. "
            "Give --init WEIGHTS, or --set pretrained=true to fetch timm's own.",
            ScratchWarning,
            stacklevel=2,
        )
    init = file_hash(job.init) if job.init else ""
    if job.init:
        # A slip here would else be told after films were decoded, and leave a folder.
        read_weights(job.init)
    films = learned_films(config, index)
    info = RunInfo(
        method=method.name,
        variant=job.variant,
        preset=job.preset,
        config=asdict(config),
        findings=list(films.findings),
        dataset=films.dataset,
        index_hash=films.hash,
        hashes=dict(films.hashes),
        seed=job.seed,
        init=init,
        machine=describe_machine(),
    )
    # Before processes are started: each would otherwise fail by itself, and the others wait for it.
    defaults = asdict(type(config)())
    check_run(out, info, defaults)
    fabric = make_fabric(config.precision, accelerator=job.accelerator, devices=job.devices, nodes=job.nodes)
    speaks, begun = bool(fabric.is_global_zero), (out / "run.json").is_file()
    if speaks:
        open_run(out, info, defaults)
        for sibling in siblings:
            reuse_stages(out, info, method.stages(config), sibling)
    fabric.barrier()
    on_step, on_film = (bars("training"), bars("films")) if speaks else (None, None)
    try:
        judge = partial(judge_maps, cache=cache)
        method.train(Recipe(out, films, config, job.seed, fabric, cache, job.init, on_step, on_film, judge))
    except ConfigError:
        # A run that could not begin must not stand in the way of the corrected command.
        if speaks and not begun:
            (out / "run.json").unlink(missing_ok=True)
        raise
    return speaks


def judge_maps(localizer: Localizer, index: Index, criterion: str, scratch: Path, *, cache: Path) -> float:
    """How well a localizer's maps agree with the boxes of films: the paper's choice of a checkpoint (InfoMask, sec. 4).

    The maps of each finding are cut at the level that serves these very boxes best; they must not be the films that a
    result is measured on.

    Args:
        localizer: whose maps.
        index: the films, with boxes.
        criterion: one of ``protocols.masks.Criterion``.
        scratch: a folder that maps are written to for the while.
        cache: folder of decoded films.

    Returns:
        The mean over films and findings by the criterion; more is better.
    """
    films = open_films(index, size=localizer.size, fit=localizer.fit, folder=cache)
    meta = {"method": "", "variant": "", "dataset": index.dataset}
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        predict(localizer, films, index.images, Path(folder), meta=meta)
        masking = Masking("oracle", cast(Criterion, criterion))
        return agreement(measure_masks(read_predictions(Path(folder)), index, masking), masking.criterion)


def agreement(measures: FilmMeasures, criterion: Criterion) -> float:
    """What a criterion says of measured masks, the mean over films and findings; more is better.

    -(FPR + FNR) / 2; or IoP, 0 for an empty mask; or DICE, the harmonic mean of IoP and 1 - FNR.
    """
    if criterion == "fpr_fnr":
        each = -(measures.fpr + measures.fnr) / 2
    elif criterion == "iop":
        each = np.nan_to_num(measures.iop)
    else:
        each = dice_from(measures.iop, measures.fnr)
    return float(nanmean(each, axis=0))


def predict_run(
    run: Path, index: Index, out: Path, *, split: str, cache: Path, bars: Bars, maps: str = "", layer: str = "",
    batch: int = 32, unseen: bool = False, names: Path | None = None,
) -> Films:  # fmt: skip
    """Predict the films of an index with a trained run, by its own maps or by gradient maps of its network.

    Args:
        run: its folder.
        index: the films.
        out: the predictions folder.
        split: what they are, for the record.
        cache: folder of decoded films.
        bars: progress.
        maps: "" for the method's own, "grid" for these drawn on the plain grid, else a name in ATTRIBUTIONS.
        layer: with ``maps``, the module to look at.
        batch: films a forward pass.
        unseen: leave out the films of patients that the run learned from.
        names: the map of RSNA's ids to NIH's names, where a run or films of RSNA lack it.

    Returns:
        The decoded films, with the list of those that could not be read.

    Raises:
        ConfigError: ``maps`` is none of these, or the run has none of the kind.
        RunError: the run cannot be loaded.
        LeakError: the run learned from RSNA's films and these are NIH's, or the reverse, and they share patients.
        DataError: ``unseen`` leaves no film, or the run does not list its films.
        ImageError: not one film could be read.
        PredictionsError: ``out`` holds something else than predictions.
    """
    check_place(out)
    learned = read_films(run)
    if unseen:
        index = _unseen(learned, index, names)
    leakage = check_unseen(learned, index, split=split, names=names)
    localizer, info = load_run(run)
    variant = info.variant
    if maps not in ("", *ATTRIBUTIONS, ON_GRID):
        raise ConfigError(f"maps must be one of {', '.join((*ATTRIBUTIONS, ON_GRID))}; got {maps!r}.")
    if maps == ON_GRID:
        localizer, variant = on_grid(localizer), f"{info.variant} {ON_GRID}".strip()
    elif maps:
        localizer, variant = GradCamLocalizer(localizer, maps, layer), f"{info.method} {info.variant} {layer}".strip()
    films = open_films(index, size=localizer.size, fit=localizer.fit, folder=cache, progress=bars("films"))
    meta: dict[str, Any] = {
        "method": info.method if maps in ("", ON_GRID) else maps,
        "variant": variant,
        "dataset": index.dataset,
        "split": split,
        "seed": info.seed,
        "run": run.name,
        "trained_on": info.dataset,
        "knows": info.knows,
        "leakage": leakage,
        "preset": info.preset,
        "config": dict(info.config),
        "init": info.init,
        "weights": {p.parent.name: file_hash(p) for p in sorted(run.rglob("weights.safetensors"))},
        "index_hash": index.hash,
        "hashes": dict(index.hashes),
        "machine": info.machine,
        "version": info.version,
        "unreadable": [
            [index.images[int(i)], one.reason]
            for i, one in zip(np.flatnonzero(~films.readable), films.unreadable, strict=True)
        ],
    }
    boxed = [(r.image, box.finding) for r in index.records for box in r.boxes]
    predict(localizer, films, index.images, out, meta=meta, batch_size=batch, on_film=bars("predicting"), boxed=boxed)
    return films


def on_grid(localizer: Localizer) -> Localizer:
    """The localizer with its maps drawn on the plain grid, as papers do, instead of where their cells look."""
    if hasattr(localizer, "offset"):
        localizer.offset = 0.0
    return localizer


def _unseen(learned: Index, index: Index, names: Path | None) -> Index:
    if not len(learned):
        raise DataError(f"{learned.root}: the run does not list the films that it learned from. Train it again.")
    rest = index.subset(np.flatnonzero(~seen_films(learned, index, names)).tolist())
    if not len(rest):
        raise DataError(f"{index.root}: the run learned from the patients of all {len(index)} films. Give it others.")
    return rest
