"""Maps under randomized weights (Adebayo et al. 2018): what does not need what was learned does not show it."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from cxrlocus.data.cache import Films
from cxrlocus.data.records import Index
from cxrlocus.prediction.predict import as_images, predict
from cxrlocus.prediction.store import Predictions, read_predictions
from cxrlocus.protocols.policies import CHOOSING_IOU, boxes_by_policy, hits_by_film
from cxrlocus.protocols.shared import boxed_pairs
from cxrlocus.regions.shares import on_unit_square, share_scale
from cxrlocus.study.sanity.rows import LEAST, Row, Verdict, mean_row
from cxrlocus.types import FloatArray, Localizer

CHECK = "weights"

SHARES = {"head": 0.0, "last quarter": 0.25, "last half": 0.5, "all": 1.0}
"""Parts of the network that are randomized, from the head on: the share of its layers, at least one."""

ENOUGH = 0.05
"""A loss of accuracy that is certainly below this is none."""

_CELLS = 32


def check_weights(
    load: Callable[[], Localizer],
    films: Films,
    index: Index,
    *,
    seed: int,
    scratch: Path,
    on_step: Callable[[int, int], None] | None = None,
) -> tuple[list[Row], Verdict]:
    """Accuracy of the maps with trained weights less that with randomized ones, and how alike the maps are.

    The heights at which maps are cut are chosen for each network by itself, on the boxes of the other half of the
    patients, so a network that is left with a place it always points at has the best box around it.

    Args:
        load: gives the trained localizer anew.
        films: decoded films at its size.
        index: the same films, with their boxes.
        seed: of the randomization, the halves and the bootstrap.
        scratch: a folder that maps are written to for the while.
        on_step: called with (networks measured, networks in all).

    Returns:
        Rows of "accuracy" (IoU > .3, all boxes together), "accuracy lost" (paired, by patient) and
        "rank correlation" (Spearman's, of trained and randomized maps of the boxed findings); and the verdict:

        * fail: with all weights randomized no accuracy is lost, or certainly less than ``ENOUGH``;
        * pass: else, where the loss is certainly above 0 (its interval);
        * undecided: otherwise, or with fewer than ``LEAST`` boxes, or a single patient.

        Its reason names the smaller parts that lose nothing.
    """
    known = load().findings
    count = sum(b.finding in known for r in index.records for b in r.boxes)
    if count < LEAST or len(set(index.patients)) < 2:
        return [], Verdict(CHECK, "undecided", f"{count} boxes to measure by; at least {LEAST} are needed")
    rows: list[Row] = []
    trained: tuple[Predictions, NDArray[np.int64]] | None = None
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        for step, (part, share) in enumerate({"": 0.0, **SHARES}.items()):
            localizer = load()
            if part:
                order = layers_from_head(localizer, as_images(films.pixels(np.flatnonzero(films.readable)[:1])))
                randomize(order[: max(1, math.ceil(share * len(order)))], seed)
            measured = _measure(localizer, films, index, Path(folder) / f"{step}", seed)
            if trained is None:
                trained = measured
            rows += _rows(part or "none", trained, measured, index, seed)
            if on_step:
                on_step(step + 1, 1 + len(SHARES))
        del trained, measured
    return rows, judge_weights([row for row in rows if row.quantity == "accuracy lost"])


def judge_weights(losses: Sequence[Row]) -> Verdict:
    """The verdict on the accuracy lost with all weights randomized, the last of the losses.

    Smaller parts that lose nothing are named: their maps look as good without what the head, say, has learned.

    Example:
        >>> judge_weights([Row("weights", "all", "accuracy lost", 0.2, 0.1, 0.3, 100)]).verdict
        'pass'
    """
    lost = losses[-1]
    told = f"accuracy lost with all weights randomized: {lost.value:.2f} [{lost.lo:.2f}, {lost.hi:.2f}]"
    if kept := ", ".join(row.subject for row in losses[:-1] if row.value <= 0):
        told += f"; none with these alone: {kept}"
    if lost.value <= 0 or lost.hi < ENOUGH:
        return Verdict(CHECK, "fail", f"{told}; the maps do not need what was learned, if anything was")
    if lost.lo > 0:
        return Verdict(CHECK, "pass", told)
    return Verdict(CHECK, "undecided", f"{told}; the interval holds 0")


def layers_from_head(localizer: Localizer, images: Tensor) -> list[nn.Module]:
    """Every module with parameters of its own, the one that is done last in ``explain`` first.

    A module whose parts are called but not it itself (a head that is a matrix product) is done after its last part.
    What is not called at all comes at the end.

    Raises:
        ValueError: the localizer has no network.
    """
    nets = [value for value in vars(localizer).values() if isinstance(value, nn.Module)]
    modules = list(dict.fromkeys(module for net in nets for module in net.modules()))
    if not any(True for net in nets for _ in net.parameters()):
        raise ValueError("localizer must keep its network as an attribute; it has none to randomize.")
    done: dict[nn.Module, int] = {}

    def note(module: nn.Module, *_: object) -> None:
        done[module] = len(called)
        called.append(module)

    called: list[nn.Module] = []
    hooks = [module.register_forward_hook(note) for module in modules]
    try:
        localizer.explain(images, np.tile(np.eye(2, 3), (len(images), 1, 1)))
    finally:
        for hook in hooks:
            hook.remove()
    last = {m: done.get(m, max((done.get(part, -1) for part in m.modules()), default=-1)) for m in modules}
    own = [m for m in modules if any(True for _ in m.parameters(recurse=False))]
    # Of two that are done at once the outer one came later; modules() has outer ones first.
    return sorted(own, key=lambda m: -last[m])


@torch.no_grad()
def randomize(modules: Sequence[nn.Module], seed: int) -> None:
    """Shuffle the numbers within each parameter, and within each statistic of a batch normalization.

    What a tensor holds stays, so signals keep their size; what it means is gone. A tensor of one number, and one whose
    numbers are all alike, stays as it is. Learned things that are no parameters (disease masks) stay, too.

    Example:
        >>> net = nn.Linear(8, 8)
        >>> before = net.weight.clone()
        >>> randomize([net], seed=0)
        >>> bool((net.weight != before).any()), bool((net.weight.sort().values.sum() - before.sum()).abs() < 1e-4)
        (True, True)
    """
    generator = torch.Generator().manual_seed(seed)
    for module in modules:
        tensors: list[Tensor] = list(module.parameters(recurse=False))
        tensors += [t for name, t in module.named_buffers(recurse=False) if name in ("running_mean", "running_var")]
        for tensor in tensors:
            order = torch.randperm(tensor.numel(), generator=generator).to(tensor.device)
            tensor.copy_(tensor.reshape(-1)[order].reshape(tensor.shape))


def _measure(
    localizer: Localizer, films: Films, index: Index, folder: Path, seed: int
) -> tuple[Predictions, NDArray[np.int64]]:
    """Its predictions, and how many boxes of each film and finding (N, C) they hit."""
    predict(localizer, films, index.images, folder, meta={"method": "", "variant": "", "dataset": index.dataset})
    predictions = read_predictions(folder)
    gate = boxed_pairs(predictions, index)
    found, _ = boxes_by_policy(predictions, index, "validation", seed=seed, gate=gate)
    return predictions, hits_by_film(found, index, CHOOSING_IOU)


def _rows(
    part: str,
    trained: tuple[Predictions, NDArray[np.int64]],
    other: tuple[Predictions, NDArray[np.int64]],
    index: Index,
    seed: int,
) -> list[Row]:
    (before, hits), (after, left) = trained, other
    records = [index.records[index.position[image]] for image in after.images]
    patients = [record.patient for record in records]
    counts = [sum(b.finding in after.findings for b in record.boxes) for record in records]
    rows = [mean_row(CHECK, part, "accuracy", left.sum(axis=1), patients, counts=counts, seed=seed)]
    if part != "none":
        lost = (hits - left).sum(axis=1)
        rows.append(mean_row(CHECK, part, "accuracy lost", lost, patients, counts=counts, seed=seed))
        pairs = boxed_pairs(after, index)
        alike = [_alike(before, after, i, np.flatnonzero(pairs[i])) for i in range(len(after))]
        rows.append(mean_row(CHECK, part, "rank correlation", alike, patients, seed=seed))
    return rows


def _alike(one: Predictions, other: Predictions, film: int, findings: NDArray[np.intp]) -> float:
    """Mean of Spearman's correlation over some findings of a film; NaN where a map is constant."""
    values = [rank_correlation(_ranks(one, film, c), _ranks(other, film, c)) for c in findings.tolist()]
    return float(np.mean(values)) if values else math.nan


def _ranks(predictions: Predictions, film: int, finding: int) -> FloatArray:
    size = (int(predictions.sizes[film, 0]), int(predictions.sizes[film, 1]))
    raw = np.asarray(predictions.maps[film, finding], dtype=np.float32)
    return share_scale(on_unit_square(raw, predictions.frames[film], size, _CELLS), "rank").astype(np.float64)


def rank_correlation(one: FloatArray, other: FloatArray) -> float:
    """Pearson's correlation of two maps of ranks over the cells that both reach; NaN where one is constant.

    Example:
        >>> round(rank_correlation(np.array([0.1, 0.2, 0.3, np.nan]), np.array([0.3, 0.2, 0.1, 0.5])), 6)
        -1.0
    """
    both = ~(np.isnan(one) | np.isnan(other))
    a, b = one[both] - one[both].mean(), other[both] - other[both].mean()
    size = math.sqrt(float((a * a).sum() * (b * b).sum()))
    return float((a * b).sum()) / size if size > 0 else math.nan
