"""Batches from cached films: order and augmentation are a pure function of (seed, epoch, step, rank)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cxrlocus.data.cache import Films
from cxrlocus.data.records import Index
from cxrlocus.data.transforms import Augmentation, augment
from cxrlocus.errors import ConfigError
from cxrlocus.types import Batch

_AHEAD = 2


class Loader:
    """Batches of an index's films, the unreadable ones left out.

    Each step takes ``batch_size * world`` films in order and deals them to the ranks in turn. Every rank takes the same
    number of steps, with equally many films in each: where the last step does not come out even, films from the
    beginning of the order fill it (never with one rank).

    Args:
        index: films and labels.
        films: the same films, in the same order.
        batch_size: films a step on this rank.
        shuffle: a new order each epoch, else the index's.
        seed: of order and augmentation, not negative.
        augmentation: None leaves the images as they are.
        rank: this process among ``world``.
        world: processes that share the films.
        drop_last: leave out the last step where it is not full.
        device: where batches are made and come out; None is the CPU. Films travel as bytes and are augmented there.
        beside: ``beside(batch, epoch, step)`` makes what comes out of a batch, ahead of its use; None leaves it.

    Raises:
        ConfigError: a number is out of range, ``films`` are not the index's, or no film is left.

    Example:
        >>> import tempfile, cv2
        >>> from pathlib import Path
        >>> from cxrlocus.data.cache import open_films
        >>> from cxrlocus.data.records import Record
        >>> from cxrlocus.types import Findings
        >>> folder = Path(tempfile.mkdtemp())
        >>> _ = cv2.imwrite(str(folder / "a.png"), np.full((8, 8), 255, dtype=np.uint8))
        >>> record = Record("a.png", folder / "a.png", "1", positive=frozenset({"Mass"}))
        >>> index = Index("one", folder, Findings(("Mass",)), (record,))
        >>> films = open_films(index, size=4, folder=folder / "cache")
        >>> batch, = Loader(index, films, 2, shuffle=True, seed=0).batches(epoch=0)
        >>> batch.images.shape, float(batch.images.max()), batch.target.tolist()
        (torch.Size([1, 1, 4, 4]), 1.0, [[1.0]])
    """

    def __init__(
        self,
        index: Index,
        films: Films,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int,
        augmentation: Augmentation | None = None,
        rank: int = 0,
        world: int = 1,
        drop_last: bool = False,
        device: torch.device | None = None,
        beside: Callable[[Batch, int, int], Any] | None = None,
    ) -> None:
        if batch_size < 1 or seed < 0 or not 0 <= rank < world:
            raise ConfigError(
                "batch_size must be at least 1, seed at least 0 and rank below world; "
                f"got batch_size {batch_size}, seed {seed}, rank {rank} of {world}."
            )
        if len(index) != len(films):
            raise ConfigError(f"films must be the index's; got {len(films)} films for {len(index)} records.")
        self.positions = np.flatnonzero(films.readable)
        whole, rest = divmod(len(self.positions), batch_size * world)
        self._steps = whole + (rest > 0 and not drop_last)
        if not self._steps:
            raise ConfigError(
                f"{index.root}: {len(self.positions)} of {len(index)} films are readable; at least "
                f"{batch_size * world if drop_last else 1} must be. Check the data set, or lower the batch size."
            )
        self.films, self.batch_size, self.shuffle, self.seed = films, batch_size, shuffle, seed
        self.augmentation, self.rank, self.world = augmentation, rank, world
        self.device = device or torch.device("cpu")
        self.beside = beside
        self._target = torch.from_numpy(index.target.astype(np.float32))
        self._known = torch.from_numpy(index.known)

    def __len__(self) -> int:
        """Steps an epoch, the same on every rank."""
        return self._steps

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The positions that an epoch visits, all ranks together, in order."""
        if not self.shuffle:
            return self.positions
        return np.random.default_rng([self.seed, epoch]).permutation(self.positions)

    def batches(self, epoch: int, start_step: int = 0) -> Iterator[Any]:
        """An epoch's batches (Batch, or what ``beside`` makes of it) from ``start_step`` on, as a whole epoch has them.

        One thread prepares up to two batches ahead; leaving the loop early stops it.
        """
        order = self.order(epoch)
        with ThreadPoolExecutor(1, thread_name_prefix="loader") as thread:
            ahead: deque[Future[Any]] = deque()
            try:
                for step in range(start_step, len(self)):
                    ahead.append(thread.submit(self._batch, order, epoch, step))
                    if len(ahead) > _AHEAD:
                        yield ahead.popleft().result()
                while ahead:
                    yield ahead.popleft().result()
            finally:
                for future in ahead:
                    future.cancel()

    def _batch(self, order: NDArray[np.int64], epoch: int, step: int) -> Any:
        dealt = order[step * self.batch_size * self.world : (step + 1) * self.batch_size * self.world]
        short = -len(dealt) % self.world
        if short:
            dealt = np.concatenate([dealt, np.resize(order, short)])
        mine = dealt[self.rank :: self.world]
        pixels = torch.from_numpy(self.films.pixels(mine)).unsqueeze(1)
        images = pixels.to(self.device).float().div_(255.0)
        if self.augmentation is not None:
            images, _ = augment(images, self._generator(epoch, step), self.augmentation)
        rows = torch.from_numpy(mine)
        labels = (self._target[rows], self._known[rows], rows)
        batch = Batch(images, *(part.to(self.device) for part in labels))
        return batch if self.beside is None else self.beside(batch, epoch, step)

    def _generator(self, epoch: int, step: int) -> torch.Generator:
        word = np.random.SeedSequence([self.seed, epoch, step, self.rank]).generate_state(1, np.uint64)[0]
        return torch.Generator().manual_seed(int(word >> np.uint64(1)))
