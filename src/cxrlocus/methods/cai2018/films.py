"""Which films mining trains on: the inductive and the transductive setting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cxrlocus.data.loader import Loader
from cxrlocus.data.records import Index
from cxrlocus.errors import ConfigError
from cxrlocus.methods.base import TRANSDUCTIVE


class TransductiveLoader(Loader):
    """Batches of n films to be mined, then N - n that are not.

    An epoch has as many steps as visiting each film to be mined once takes at ``pace`` films a step. The others are
    drawn anew each epoch without repeating one before all had their turn. Where the films to be mined do not fill the
    last step, some come twice.

    Args:
        index: all films; those of split "transductive" are mined, the others not.
        films: the same films, decoded.
        batch_size: N.
        mined: n of each batch; N for no others.
        pace: films a step that the length of an epoch is reckoned with, n if not given: so that training with and
            without others takes the same number of steps.
        options: as ``Loader``'s.

    Raises:
        ConfigError: no film to be mined is readable, or none of the others and n < N.
    """

    def __init__(self, index: Index, films: Any, batch_size: int, *, mined: int, pace: int = 0, **options: Any) -> None:
        super().__init__(index, films, batch_size, **options)
        joining = np.array([r.split == TRANSDUCTIVE for r in index.records], dtype=np.bool_)
        self.mined = mined
        self._joining = self.positions[joining[self.positions]]
        self._others = self.positions[~joining[self.positions]]
        if not len(self._joining) or (mined < batch_size and not len(self._others)):
            raise ConfigError(
                f"{index.root}: the transductive setting needs readable films of splits {TRANSDUCTIVE!r} and train; "
                f"there are {len(self._joining)} and {len(self._others)}. Use setting=inductive."
            )
        self._steps = -(-len(self._joining) // ((pace or mined) * self.world))

    def order(self, epoch: int) -> NDArray[np.int64]:
        """The positions that an epoch visits, all ranks together, in order."""
        draw = np.random.default_rng([self.seed, epoch])
        mined, others = self.mined * self.world, (self.batch_size - self.mined) * self.world
        first = np.resize(draw.permutation(self._joining), (self._steps, mined))
        if not others:
            return first.ravel()
        return np.hstack([first, np.resize(draw.permutation(self._others), (self._steps, others))]).ravel()


def setting_of(meta: Mapping[str, Any]) -> str:
    """The setting that a predictions folder's meta tells of; "" for another method's.

    Example:
        >>> setting_of({"method": "cai2018", "config": {"setting": "transductive"}}), setting_of({"method": "cam"})
        ('transductive', '')
    """
    return str(dict(meta.get("config") or {}).get("setting", ""))
