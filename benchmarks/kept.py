"""What a training step keeps; shared by the benchmarks that count it."""

from __future__ import annotations

import torch
from torch import nn


def kept_bytes(net: nn.Module, images: object) -> int:
    """What a training step keeps for its backward pass beside the weights."""
    weights = {p.untyped_storage().data_ptr() for p in net.parameters()}
    seen: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        out = net(images)
    del out
    return sum(size for place, size in seen.items() if place not in weights)
