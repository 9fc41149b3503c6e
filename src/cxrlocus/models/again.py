"""Layers that are computed twice: kept small for the backward pass, and the same to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


def run(layers: nn.Module, *inputs: Any, again: bool) -> Tensor:
    """``layers(*inputs)``; with ``again`` nothing within is kept in training, and the backward pass computes it again.

    The second time leaves the running means of batch normalization alone: weights, gradients and buffers are those of
    a step without it.

    Example:
        >>> norm = nn.BatchNorm2d(1)
        >>> run(norm, torch.rand(2, 1, 4, 4), again=True).sum().backward()
        >>> int(norm.num_batches_tracked)
        1
    """
    if again and layers.training and torch.is_grad_enabled():
        result: Tensor = checkpoint(
            layers, *inputs, use_reentrant=False, preserve_rng_state=False,
            context_fn=lambda: (nullcontext(), _counting_nothing(layers)),
        )  # fmt: skip
        return result
    once: Tensor = layers(*inputs)
    return once


@contextmanager
def _counting_nothing(layers: nn.Module) -> Iterator[None]:
    # Not by track_running_stats: without running means the operator keeps other tensors than it did the first time.
    norms = [m for m in layers.modules() if isinstance(m, nn.BatchNorm2d)]
    counted = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms]
    for norm in norms:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, batches in counted:
            norm.momentum, norm.num_batches_tracked = momentum, batches
