"""Pools by name: from map logits (N, C, h, w) to film logits (N, C), some with parameters of their own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cxrlocus.errors import ConfigError, check_rules
from cxrlocus.functional.pooling import (
    attention_pool,
    average_pool,
    average_probability_pool,
    generalized_mean_pool,
    lse_pool,
    lse_probability_pool,
    max_pool,
    noisy_or_pool,
    pcam_pool,
)

PoolName = Literal["average", "max", "noisy_or", "gm", "gm_adaptive", "lse", "lse_lba", "pcam", "gated_attention"]
Scale = Literal["feature", "logit", "probability"]


@dataclass(frozen=True)
class PoolKind:
    """A pool of POOLS.

    Args:
        on: what it is applied to on each scale that it knows; a function of maps, and of r if there is one.
        r: "none", "fixed" (one number) or "adaptive" (learned).
    """

    on: Mapping[str, Callable[..., Tensor]]
    r: Literal["none", "fixed", "adaptive"] = "none"


_LSE = {"feature": lse_pool, "logit": lse_pool, "probability": lse_probability_pool}

POOLS: Mapping[str, PoolKind] = {
    "average": PoolKind({"feature": average_pool, "logit": average_pool, "probability": average_probability_pool}),
    "max": PoolKind({"feature": max_pool, "logit": max_pool, "probability": max_pool}),
    "noisy_or": PoolKind({"probability": noisy_or_pool}),
    "gm": PoolKind({"probability": generalized_mean_pool}, "fixed"),
    "gm_adaptive": PoolKind({"probability": generalized_mean_pool}, "adaptive"),
    "lse": PoolKind(_LSE, "fixed"),
    "lse_lba": PoolKind(_LSE, "adaptive"),
    "pcam": PoolKind({"logit": pcam_pool}),
    "gated_attention": PoolKind({"logit": attention_pool}),
}
"""Every pool by name."""


@dataclass(frozen=True)
class PoolOptions:
    """How a map's cells become the film's logit.

    Args:
        pool: a name in POOLS: "average", "max", "noisy_or", "gm" and "gm_adaptive" (generalized mean), "lse" and
            "lse_lba" (log-sum-exp), "pcam" (Ye et al. 2020), "gated_attention" (Ilse et al. 2018).
        pool_on: what is pooled: the cells' "probability" (Yao et al. 2018) or "logit", or each "feature" before the
            linear head (Wang et al. 2017). Not every pool knows every one: noisy_or, gm and gm_adaptive pool
            probabilities; pcam and gated_attention average logits, with a linear head the same as features.
        lse_r: sharpness of "lse", positive.
        gm_r: exponent of "gm", positive; 1 is the average.
        r0: of the adaptive pools, r = r0 + exp(beta): the lower bound of the sharpness, at least 0.
        beta: one beta "per_finding", or one "shared" by all.
        decay_beta: whether weight decay pulls beta to 0, that is r to r0 + 1.
        attention: hidden channels of "gated_attention", at least 1.

    Raises:
        ConfigError: a number is out of range, or the pool does not know that scale.

    Example:
        >>> PoolOptions(pool="noisy_or")
        Traceback (most recent call last):
            ...
        cxrlocus.errors.ConfigError: pool noisy_or is not defined on pool_on=feature. Set pool_on=probability.
    """

    pool: PoolName = "average"
    pool_on: Scale = "feature"
    lse_r: float = 10.0
    gm_r: float = 3.0
    r0: float = 0.0
    beta: Literal["per_finding", "shared"] = "per_finding"
    decay_beta: bool = False
    attention: int = 32

    def __post_init__(self) -> None:
        rules = {
            "pool": (self.pool in POOLS, f"one of {', '.join(POOLS)}"),
            "pool_on": (self.pool_on in get_args(Scale), f"one of {', '.join(get_args(Scale))}"),
            "lse_r": (0 < self.lse_r < math.inf, "positive"),
            "gm_r": (0 < self.gm_r < math.inf, "positive"),
            "r0": (0 <= self.r0 < math.inf, "at least 0"),
            "beta": (self.beta in ("per_finding", "shared"), "per_finding or shared"),
            "attention": (self.attention >= 1, "at least 1"),
        }
        check_rules(self, rules)
        known = POOLS[self.pool].on
        if self.pool_on not in known:
            raise ConfigError(
                f"pool {self.pool} is not defined on pool_on={self.pool_on}. "
                f"Set {' or '.join(f'pool_on={scale}' for scale in known)}."
            )


class Sharpness(nn.Module):
    """``r = r0 + exp(beta)`` (Yao et al. 2018, sec. 3.5), beta = 0 at first.

    Args:
        r0: lower bound.
        count: how many r; 1 for one that is shared.
        decay: give beta a second axis. ``fit`` decays what has more than one axis, weights, and leaves vectors alone.

    Example:
        >>> Sharpness(5.0, count=2)()
        tensor([6., 6.], grad_fn=<AddBackward0>)
    """

    def __init__(self, r0: float, count: int, *, decay: bool = False) -> None:
        super().__init__()
        self.r0 = r0
        self.beta = nn.Parameter(torch.zeros((count, 1) if decay else (count,)))

    def forward(self) -> Tensor:
        """The sharpness r, (count,), or () for one that is shared."""
        r = self.r0 + torch.exp(self.beta.float().flatten())
        return r[0] if len(r) == 1 else r


class Pool(nn.Module):
    """A pool of POOLS with its sharpness: map logits, or features, (N, C, h, w) to (N, C).

    Args:
        options: which.
        maps: number C of maps.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> maps, features = torch.randn(1, 2, 4, 4), torch.randn(1, 8, 4, 4)
        >>> Pool(PoolOptions("lse_lba", "probability", r0=5.0), maps=2)(maps, features).shape
        torch.Size([1, 2])
    """

    def __init__(self, options: PoolOptions, maps: int) -> None:
        super().__init__()
        kind = POOLS[options.pool]
        self.name, self.scale = options.pool, options.pool_on
        self.function = kind.on[options.pool_on]
        self.r = {"gm": options.gm_r, "lse": options.lse_r}.get(options.pool)
        count = 1 if options.beta == "shared" else maps
        self.sharpness = Sharpness(options.r0, count, decay=options.decay_beta) if kind.r == "adaptive" else None

    def forward(self, maps: Tensor, _features: Tensor) -> Tensor:
        """Pooled maps (N, C), on the scale of the maps; features (N, D, h, w) are not looked at."""
        if self.sharpness is not None:
            return self.function(maps, self.sharpness())
        return self.function(maps) if self.r is None else self.function(maps, self.r)

    def level(self, logit: Tensor, cells: int) -> Tensor:
        """The logit that all of ``cells`` cells must have for the film to have this one: where a bias starts."""
        if self.name != "noisy_or":
            return logit
        # -log(1 - p) is the sum over the cells of -log(1 - S).
        return torch.log(torch.expm1(F.softplus(logit.double()) / cells)).to(logit.dtype)


class GatedAttention(nn.Module):
    """Gated attention (Ilse et al. 2018, eq. 9): ``e = W (tanh(V h) * sigmoid(U h))``, softmax over the cells.

    One attention map a finding; the film's logit is the mean of the finding's map logits under it.

    Args:
        channels: D of the features h.
        maps: number C of maps.
        hidden: rows of V and of U.

    Example:
        >>> _ = torch.manual_seed(0)
        >>> pool = GatedAttention(channels=8, maps=2, hidden=4)
        >>> pool(torch.full((1, 2, 4, 4), 3.0), torch.randn(1, 8, 4, 4)).detach()
        tensor([[3.0000, 3.0000]])
    """

    def __init__(self, channels: int, maps: int, hidden: int) -> None:
        super().__init__()
        self.gates = nn.Conv2d(channels, 2 * hidden, 1)
        self.attend = nn.Conv2d(hidden, maps, 1, bias=False)

    def forward(self, maps: Tensor, features: Tensor) -> Tensor:
        """Pooled maps (N, C) of map logits (N, C, h, w) and the features (N, D, h, w) that they are read from."""
        return attention_pool(maps, self.scores(features))

    def scores(self, features: Tensor) -> Tensor:
        """Attention (N, C, h, w) before the softmax."""
        content, gate = self.gates(features).chunk(2, dim=1)
        scores: Tensor = self.attend(torch.tanh(content) * torch.sigmoid(gate))
        return scores

    def level(self, logit: Tensor, _cells: int) -> Tensor:
        """The logit that all cells must have for the film to have this one."""
        return logit


def build_pool(options: PoolOptions, *, findings: int, channels: int) -> Pool | GatedAttention:
    """The pool of some options, for maps of C findings read from features of D channels."""
    if options.pool == "gated_attention":
        return GatedAttention(channels, findings, options.attention)
    return Pool(options, channels if options.pool_on == "feature" else findings)


def pool_options(config: Any) -> PoolOptions:
    """The pool's part of a method's Config, which has these fields among its own."""
    return PoolOptions(**{name: getattr(config, name) for name in PoolOptions.__dataclass_fields__})
