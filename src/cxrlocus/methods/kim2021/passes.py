"""The two stages that learn nothing: the mean of normal films, and the mean of maps. Both leave a manifest."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from cxrlocus.data.loader import Loader
from cxrlocus.errors import ConfigError, RunError
from cxrlocus.files import writing_whole
from cxrlocus.methods.base import Recipe
from cxrlocus.methods.classification import Part
from cxrlocus.methods.kim2021.config import ANCHOR, MASKS, KimConfig, in_round
from cxrlocus.methods.kim2021.masks import MapStream, drawn_masks, save_masks, threshold
from cxrlocus.methods.kim2021.model import KimNet
from cxrlocus.training.checkpoint import write_json
from cxrlocus.training.interrupt import Interrupt
from cxrlocus.training.machine import lay_channels_last
from cxrlocus.types import Batch, FloatArray

ANCHOR_FILE = "anchor.safetensors"
PART_FILE = "part.safetensors"

SAVE_EVERY = 200
"""Batches between two moments that a killed mask stage can go on from."""

_FILMS_AT_ONCE = 32


def make_anchor(recipe: Recipe[KimConfig], part: Part, seen: Callable[[Tensor], Tensor] | None = None) -> None:
    """The mean of training films drawn at random, into ``<run>/anchor``: a generalized chest (sec. 3.2).

    Args:
        recipe: of the stage.
        part: the training films.
        seen: films (N, 1, S, S) in [0, 1] as they go into the mean, of the same shape; None takes them as they are.
    """
    if recipe.fabric.is_global_zero:
        folder = recipe.folder / in_round(ANCHOR, recipe.config.anchor_rounds)
        folder.mkdir(parents=True, exist_ok=True)
        able, drawn = anchor_films(recipe.config, part, recipe.seed)
        mean = mean_film(part, drawn, seen)
        with writing_whole(folder / ANCHOR_FILE) as file:
            save_file({"anchor": torch.from_numpy(mean).float()[None, None]}, file)
        with writing_whole(folder / "anchor.png") as file:
            file.write_bytes(cv2.imencode(".png", np.round(mean * 255).astype(np.uint8))[1].tobytes())
        _manifest(recipe, folder, {"films": len(drawn), "of": able, "from": recipe.config.anchor_from})
    recipe.fabric.barrier()


def anchor_films(config: KimConfig, part: Part, seed: int) -> tuple[int, NDArray[np.int64]]:
    """How many films may make the anchor, and the positions of those drawn, in order.

    Raises:
        ConfigError: there is none.
    """
    index, readable = part.index, part.loader.positions
    normal = np.asarray(index.known.all(axis=1) & ~(index.target.astype(bool) & index.known).any(axis=1))
    able = readable[normal[readable]] if config.anchor_from == "normal" else readable
    if not len(able):
        raise ConfigError(
            f"{index.root}: the anchor is the mean of normal films (every label known, none positive), and none of the "
            f"{len(readable)} training films is one. Use anchor_from=all, or align=false."
        )
    drawn = np.random.default_rng(seed).permutation(able)[: config.anchor_films]
    return len(able), np.sort(drawn)


@torch.no_grad()
def mean_film(part: Part, positions: NDArray[np.int64], seen: Callable[[Tensor], Tensor] | None = None) -> FloatArray:
    """The mean (S, S) in [0, 1] of films, or of what ``seen`` makes of them (``make_anchor``), a few at a time."""
    total = np.zeros((part.loader.films.size,) * 2)
    for start in range(0, len(positions), _FILMS_AT_ONCE):
        films = torch.from_numpy(part.loader.films.pixels(positions[start : start + _FILMS_AT_ONCE]))[:, None] / 255
        shown = films if seen is None else seen(films)
        total += shown[:, 0].sum(dim=0, dtype=torch.float64).cpu().numpy()
    return np.asarray(total / len(positions))


def load_anchor(folder: Path) -> Tensor:
    """Read the anchor (1, 1, S, S) in [0, 1].

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        return load_file(folder / ANCHOR_FILE)["anchor"]
    except (OSError, SafetensorError, KeyError) as error:
        raise RunError(f"{folder / ANCHOR_FILE}: cannot be read ({error}). Train again.") from error


def make_masks(recipe: Recipe[KimConfig], net: KimNet, part: Part) -> None:
    """The masks psi, into ``<run>/masks``: from the maps of one pass over the training films, or drawn, or blank.

    Killed or stopped, the pass goes on where it last saved. The manifest tells how many films each mask is of.

    Raises:
        KeyboardInterrupt: Ctrl-C, after the pass was saved.
    """
    config, findings = recipe.config, recipe.index.findings
    folder, side = recipe.folder / MASKS, net.masks.shape[-1]
    if recipe.fabric.is_global_zero:
        folder.mkdir(parents=True, exist_ok=True)
        if config.masks == "learned":
            stream = _stream(recipe, net, part)
            mean, told = stream.means()
            masks = threshold(mean, told, config, findings)
        elif config.masks == "drawn":
            masks, told = drawn_masks(config, findings, side, net.offset())
            mean = masks
        else:
            masks, told = torch.zeros(len(findings), side, side), {}
            mean = masks
        save_masks(folder, masks, mean)
        for c, name in enumerate(findings):
            if name in told:
                told[name]["area"] = round(float((masks[c] > 0).float().mean()), 4)
        _manifest(recipe, folder, {"masks": told})
        (folder / PART_FILE).unlink(missing_ok=True)
    recipe.fabric.barrier()


def _stream(recipe: Recipe[KimConfig], net: KimNet, part: Part) -> MapStream:
    """All maps of the training films as they are, taken in."""
    config, device = recipe.config, recipe.fabric.device
    stream = MapStream(config, recipe.index.findings, net.masks.shape[-1], net.offset())
    loader = Loader(part.index, part.loader.films, config.batch_size, shuffle=False, seed=recipe.seed, device=device)
    path = recipe.folder / MASKS / PART_FILE
    done = stream.load(path) if path.is_file() else 0
    net.to(device).eval()
    if config.channels_last:
        lay_channels_last(net)
    with Interrupt() as interrupt:
        for step, batch in enumerate(loader.batches(0, start_step=done), start=done + 1):
            _take_in(recipe, net, batch, stream)
            if recipe.on_step:
                recipe.on_step(step, len(loader), "maps")
            if interrupt.asked or step % SAVE_EVERY == 0:
                stream.save(path, step)
            if interrupt.asked:
                raise KeyboardInterrupt
    return stream


@torch.no_grad()
def _take_in(recipe: Recipe[KimConfig], net: KimNet, batch: Batch, stream: MapStream) -> None:
    with recipe.fabric.autocast():
        maps = net.evidence(net.backbone(batch.images))
    prob = torch.sigmoid(maps.mean(dim=(-2, -1)) + net.bias)
    stream.add(maps.float().cpu(), prob.float().cpu(), ((batch.target > 0.5) & batch.known).cpu())


def _manifest(recipe: Recipe[KimConfig], folder: Path, told: dict[str, Any]) -> None:
    write_json(folder / "manifest.json", {"config": asdict(recipe.config), "seed": recipe.seed, **told})
