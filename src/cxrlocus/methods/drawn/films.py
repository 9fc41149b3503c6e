"""Drawn films beside the real ones of a step: new phantoms, and normal films with lesions planted in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cxrlocus.data.loader import Loader
from cxrlocus.data.phantom.film import generate_film
from cxrlocus.data.phantom.planting import PLANTED, plant
from cxrlocus.data.transforms import Augmentation, augment
from cxrlocus.errors import ConfigError
from cxrlocus.functional.alignment import warp
from cxrlocus.methods.drawn.config import DrawnConfig
from cxrlocus.types import BOXED8, Batch

FINEST = 4
"""Pixels a cell of the masks, on their way to the coarser cells of a map."""

LESIONS = (1, 2)
"""Of a planted film: at least, at most."""

SEEN = 0.25
"""Share of the greatest change from which on a pixel belongs to a planted lesion."""

HELD_OUT = 2**31
"""Films of the phantom from this number on are for validation alone."""

AUGMENTATION = Augmentation(rotation=8.0, shift=0.06, zoom=0.12, contrast=0.25, gamma=0.35)
"""Of real and drawn films alike; stronger in exposure than usual, since drawn films are exposed alike."""

_MOST = 2**30
_HELD, _LEARNED = 0, 1


class DrawnBatch(NamedTuple):
    """A Batch of real films, and drawn ones (M, 1, S, S) with their masks (M, K, S/4, S/4) in [0, 1]."""

    images: Tensor
    target: Tensor
    known: Tensor
    films: Tensor
    drawn: Tensor
    masks: Tensor


class Draughtsman:
    """Draws films with exact masks: the phantom's, and lesions in normal films.

    Args:
        findings: the K findings that have masks, names of BOXED8.
        config: how many, how plain.
        size: side of the films.
        seed: of the phantom.

    Example:
        >>> config = DrawnConfig(size=64, drawn=2, planted=0)
        >>> films, masks = Draughtsman(("Effusion", "Mass"), config, seed=0).draw(np.random.default_rng(0), [])
        >>> films.shape, masks.shape, masks.dtype
        ((2, 64, 64), (2, 2, 16, 16), dtype('float32'))
    """

    def __init__(self, findings: Sequence[str], config: DrawnConfig, seed: int) -> None:
        self.findings, self.config, self.seed = tuple(findings), config, seed
        self.can_plant = tuple(name for name in PLANTED if name in self.findings)

    def draw(
        self, rng: np.random.Generator, normal: Sequence[NDArray[np.uint8]], first: int = 0
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        """``config.drawn`` films of the phantom, and each normal film with lesions in it, all with masks.

        Args:
            rng: of the phantom's numbers, and of the lesions.
            normal: films (S, S) to plant in.
            first: the least number of a phantom film.

        Returns:
            Films (M, S, S) uint8 and the share (M, K, S/4, S/4) of each cell that a finding covers.
        """
        made = [self._phantom(first + int(rng.integers(_MOST))) for _ in range(self.config.drawn)]
        made += [self._planted(film, rng) for film in normal]
        side = self.config.size
        if not made:
            none = np.zeros((0, len(self.findings), side // FINEST, side // FINEST), np.float32)
            return np.zeros((0, side, side), np.uint8), none
        films, masks = zip(*made, strict=True)
        return np.stack(films), np.stack(masks)

    def _phantom(self, number: int) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        film = generate_film(self.seed, number, self.config.size)
        return film.pixels, self._shares({name: film.masks[name] for name in self.findings if name in film.masks})

    def _planted(
        self, film: NDArray[np.uint8], rng: np.random.Generator
    ) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
        masks: dict[str, NDArray[np.bool_]] = {}
        for _ in range(int(rng.integers(LESIONS[0], LESIONS[1] + 1))):
            name = self.can_plant[int(rng.integers(len(self.can_plant)))]
            made = plant(film, name, rng, float(rng.uniform(self.config.plainness, 1.0)))
            if made is not None:
                change = made.pixels.astype(np.int16) - film
                masks[name] = masks.get(name, np.zeros(film.shape, np.bool_)) | (change > SEEN * max(change.max(), 4))
                film = made.pixels
        return film, self._shares(masks)

    def _shares(self, masks: dict[str, Any]) -> NDArray[np.float32]:
        side = self.config.size // FINEST
        shares = np.zeros((len(self.findings), side, side), np.float32)
        for k, name in enumerate(self.findings):
            if name in masks:
                shares[k] = cv2.resize(masks[name].astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
        return shares


class Beside:
    """Puts drawn films beside the real ones of a Loader's batch, as a function of (seed, epoch, step, rank).

    Args:
        loader: of the real films.
        draughtsman: draws.
        normal: positions of the films to plant in.
    """

    def __init__(self, loader: Loader, draughtsman: Draughtsman, normal: NDArray[np.int64]) -> None:
        self._loader, self._draughtsman, self._normal = loader, draughtsman, normal

    def __call__(self, batch: Batch, epoch: int, step: int) -> DrawnBatch:
        """The batch with its drawn films, which are augmented as the real ones are."""
        loader = self._loader
        rng = np.random.default_rng([loader.seed, epoch, step, loader.rank, _LEARNED])
        drawn, masks = _drawn(self._draughtsman, loader, self._normal, rng)
        if loader.augmentation is not None and len(drawn):
            generator = torch.Generator().manual_seed(int(rng.integers(2**62)))
            drawn, affine = augment(drawn, generator, loader.augmentation)
            masks = warp(masks, affine.to(masks))
        return DrawnBatch(*batch, drawn, masks)


def held_out(draughtsman: Draughtsman, loader: Loader, normal: NDArray[np.int64], count: int) -> tuple[Tensor, Tensor]:
    """Films to validate by (M, 1, S, S), with their masks: ``count`` times as many as a step has.

    No step has a phantom of these numbers; planted ones are of the films of ``loader`` at the positions ``normal``.
    """
    rng = np.random.default_rng([loader.seed, _HELD])
    parts = [_drawn(draughtsman, loader, normal, rng, HELD_OUT) for _ in range(count)]
    return torch.cat([films for films, _ in parts]), torch.cat([masks for _, masks in parts])


def _drawn(
    draughtsman: Draughtsman, loader: Loader, normal: NDArray[np.int64], rng: np.random.Generator, first: int = 0
) -> tuple[Tensor, Tensor]:
    chosen = rng.choice(normal, draughtsman.config.planted if len(normal) else 0)
    films, masks = draughtsman.draw(rng, list(loader.films.pixels(chosen)), first)
    device = loader.device
    return torch.from_numpy(films).to(device)[:, None].float() / 255, torch.from_numpy(masks).to(device)


def drawable(findings: Sequence[str]) -> tuple[str, ...]:
    """The findings that the phantom draws, in the order of the data set.

    Raises:
        ConfigError: it draws none of them.

    Example:
        >>> drawable(("Edema", "Nodule", "Effusion"))
        ('Nodule', 'Effusion')
    """
    known = tuple(name for name in findings if name in BOXED8)
    if not known:
        raise ConfigError(
            f"method drawn knows the masks of {', '.join(BOXED8)}, and none is a finding of this data set "
            f"({', '.join(findings)}). Name its findings so, or use another method."
        )
    return known
