"""What every classifier stage shares: its objective, its films, and its validation figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor, nn

from cxrlocus.data.cache import open_films
from cxrlocus.data.loader import Loader
from cxrlocus.data.records import Dropped, Index
from cxrlocus.data.splits import hold_out, write_split
from cxrlocus.data.transforms import Augmentation
from cxrlocus.errors import CxrlocusError
from cxrlocus.functional.losses import LOSSES, masked_bce
from cxrlocus.methods.base import TRANSDUCTIVE, Recipe
from cxrlocus.metrics.bootstrap import nanmean
from cxrlocus.metrics.ranking import auroc
from cxrlocus.training.checkpoint import write_json
from cxrlocus.training.fit import OnStep
from cxrlocus.training.run import write_films
from cxrlocus.types import Batch, BoolArray


class Classifier(Protocol):
    """A network in two calls: what the head reads, and the head."""

    @property
    def backbone(self) -> Callable[[Tensor], Tensor]:
        """Images (N, 1, H, W) in [0, 1] to whatever ``classify`` takes."""
        ...

    def classify(self, features: Tensor, /) -> Tensor:
        """Logits (N, C)."""
        ...

    def eval(self) -> Any:
        """Evaluation mode."""
        ...


class ClassifierObjective(nn.Module):
    """Classification loss of a network; its maps are not computed.

    Args:
        net: the network.
        loss: a name in LOSSES.
    """

    def __init__(self, net: Classifier, loss: str) -> None:
        super().__init__()
        self.net = net
        self.loss_name = loss

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``{loss name: scalar}``."""
        logits = self.net.classify(self.net.backbone(batch.images))
        return {self.loss_name: LOSSES[self.loss_name](logits.float(), batch.target, batch.known)}


def log_odds(target: NDArray[np.uint8], known: BoolArray) -> Tensor:
    """Each finding's log odds (C,) among its known labels, one film of each kind added: where a head starts.

    Starting there spares the first epochs, which would only learn that findings are rare.
    """
    positive = (target.astype(bool) & known).sum(axis=0)
    negative = known.sum(axis=0) - positive
    return torch.from_numpy(np.log((positive + 1.0) / (negative + 1.0))).float()


def telling(on_step: OnStep | None, stage: str, after: str = "") -> OnStep | None:
    """The progress line of a stage: its name before the words, and what else is to be told after them.

    Example:
        >>> told = telling(lambda done, total, words: print(f"{done}/{total} {words}"), "mine1", ", 0.70 M parameters")
        >>> told(3, 8, "loss 0.41")
        3/8 mine1 loss 0.41, 0.70 M parameters
        >>> telling(None, "mine1") is None
        True
    """
    if on_step is None:
        return None
    return lambda done, total, words: on_step(done, total, f"{stage} {words}{after}")


@dataclass(frozen=True)
class Part:
    """Some films and their loader."""

    index: Index
    loader: Loader


def training_films(recipe: Recipe[Any]) -> tuple[Index, Index]:
    """The films to train on and those that choose the checkpoint: split "val", or a share of the training patients.

    In the transductive setting the boxed films that joined are trained on, and choose nothing.
    """
    index = recipe.index
    if any(r.split == "val" for r in index.records):
        train, val = index.split("train"), index.split("val")
    else:
        train, val = hold_out(index.split("train"), recipe.config.val_fraction, seed=recipe.seed)
    if recipe.config.setting == "transductive":
        train = replace(train, records=train.records + index.split(TRANSDUCTIVE).records)
    return train, val


def training_parts(recipe: Recipe[Any]) -> tuple[Part, Part]:
    """The films to train on and those that choose the checkpoint.

    Into the run folder go val_list.txt, split.json with its hash, the counts and the films that could not be read, and
    films.csv, by which a prediction tells whether it was learned from its films.
    """
    config, fabric = recipe.config, recipe.fabric
    train, val = training_films(recipe)
    unreadable: list[Dropped] = []

    def part(index: Index, *, learning: bool) -> Part:
        films = open_films(index, size=config.size, fit=config.fit, folder=recipe.cache, progress=recipe.on_film)
        unreadable.extend(films.unreadable)
        augmentation = Augmentation() if learning and config.augment else None
        loader = Loader(
            index, films, config.batch_size, shuffle=learning, seed=recipe.seed, augmentation=augmentation,
            rank=fabric.global_rank, world=fabric.world_size, device=fabric.device,
        )  # fmt: skip
        return Part(index, loader)

    parts = part(train, learning=True), part(val, learning=False)
    if fabric.is_global_zero:
        listed = write_split(recipe.folder / "val_list.txt", val.images)
        write_films(recipe.folder, train, val)
        write_json(
            recipe.folder / "split.json",
            {
                "val_list": listed,
                "train": len(train),
                "val": len(val),
                "unreadable": [[one.item, one.reason] for one in unreadable],
            },
        )
    fabric.barrier()
    return parts


def validator(fabric: Fabric, net: Classifier, part: Part) -> Callable[[], Mapping[str, float]]:
    """Figures on the held-out films, of the known labels.

    "auroc": mean of the findings that have both classes. "accuracy": mean, over the findings with a label, of the share
    of films that a probability above .5 calls rightly. "val_loss": cross-entropy.
    """

    @torch.no_grad()
    def validate() -> dict[str, float]:
        net.eval()
        shards: list[tuple[Tensor, Tensor]] = []
        for batch in part.loader.batches(0):
            with fabric.autocast():
                logits = net.classify(net.backbone(fabric.to_device(batch.images)))
            shards.append((logits.float(), fabric.to_device(batch.films)))
        logits = torch.cat([part for part, _ in shards])
        index = torch.cat([part for _, part in shards])
        # Ranks are padded to equal length, so a film can come twice: its last logits count, once.
        everyone = fabric.all_gather((logits, index)) if fabric.world_size > 1 else (logits, index)
        by_film = {
            int(i): row for i, row in zip(everyone[1].flatten(), everyone[0].reshape(-1, logits.shape[-1]), strict=True)
        }
        films = sorted(by_film)
        scores = torch.stack([by_film[i] for i in films]).cpu()
        if not torch.isfinite(scores).all():
            raise CxrlocusError("the network's logits are not finite on the validation films. Lower lr or use fp32.")
        target, known = part.index.target[films], part.index.known[films]
        loss = masked_bce(scores, torch.from_numpy(target).float(), torch.from_numpy(known))
        each = [auroc(target[:, c], scores[:, c].numpy(), known[:, c]) for c in range(target.shape[1])]
        right = np.where(known, (scores.numpy() > 0) == target.astype(bool), np.nan)
        return {
            "auroc": float(nanmean(each, axis=0)),
            "accuracy": float(nanmean(nanmean(right, axis=0), axis=0)),
            "val_loss": float(loss),
        }

    return validate
