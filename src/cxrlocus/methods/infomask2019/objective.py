"""What InfoMask minimizes: cross-entropy plus alpha times a penalty (eq. 3), with the draws of z."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from cxrlocus.functional.losses import LOSSES
from cxrlocus.functional.variational import kl_standard_normal, l1_norm
from cxrlocus.methods.infomask2019.config import InfoMaskConfig
from cxrlocus.methods.infomask2019.model import InfoMaskNet, Masked
from cxrlocus.types import Batch

EMPTY, ZERO, SEEN = 0, 1, 2
"""Positions in the tally of training masks: empty masks, share of zero pixels summed over masks, masks."""


class InfoMaskObjective(nn.Module):
    """``L = E_eps[CE] + alpha KL[N(mu, sigma^2), N(0, 1)]`` (InfoMask, eq. 3), one draw of eps a film and step.

    alpha = 0 computes no penalty at all, so it is FeatureMask to the bit.

    Args:
        net: the network.
        config: loss, penalty and warm-ups.
        steps: of the whole stage, which the warm-ups are shares of.

    Example:
        >>> from cxrlocus.methods.infomask2019.model import build_infomask
        >>> _ = torch.manual_seed(0)
        >>> config = InfoMaskConfig(width=0.25)
        >>> objective = InfoMaskObjective(build_infomask(config, 1), config, steps=10)
        >>> batch = Batch(torch.rand(2, 1, 32, 32), torch.ones(2, 1), torch.ones(2, 1).bool(), torch.arange(2))
        >>> sorted(objective(batch))
        ['bce', 'kl']
    """

    step: Tensor
    tally: Tensor

    def __init__(self, net: InfoMaskNet, config: InfoMaskConfig, steps: int) -> None:
        super().__init__()
        self.net, self.config, self.steps = net, config, steps
        # Buffers, so that a stage that was stopped goes on in its warm-up where it was.
        self.register_buffer("step", torch.zeros((), dtype=torch.int64))
        self.register_buffer("tally", torch.zeros(3))

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``{loss name: scalar}``; the penalty already times alpha."""
        config = self.config
        size = (len(batch.images), batch.target.shape[1], *batch.images.shape[-2:])
        eps = torch.randn(size, device=batch.images.device) if config.sample else None
        out = self.net(batch.images, eps, tau=self._ramped(config.tau, config.tau_warmup))
        losses: dict[str, Tensor] = {}
        losses[config.loss] = LOSSES[config.loss](out.logits.float(), batch.target, batch.known)
        alpha = self._ramped(config.alpha, config.alpha_warmup)
        if config.alpha > 0 and config.penalty != "none":
            losses[config.penalty] = alpha * self._penalty(out)
        if self.training:
            self.step += 1
            self._count(out.mask.detach())
        return losses

    def _penalty(self, out: Masked) -> Tensor:
        if self.config.penalty == "l1":
            return l1_norm(out.mask, self.config.reduction)
        return kl_standard_normal(out.latents.mu, out.latents.sigma, self.config.reduction)

    def _ramped(self, value: float, warmup: float) -> float:
        """The value at this step: it grows linearly from 0 over the warm-up."""
        if warmup == 0:
            return value
        return value * min(1.0, float(self.step) / (warmup * self.steps))

    def _count(self, mask: Tensor) -> None:
        zero = (mask <= 0).flatten(2).float().mean(dim=-1)
        self.tally += torch.stack([(zero == 1).sum(), zero.sum(), zero.new_tensor(zero.numel())])

    def tallied(self) -> dict[str, float]:
        """Shares of the training masks since the last call: "train_mask_empty" and "train_mask_zero" (of pixels)."""
        empty, zero, seen = self.tally.tolist()
        self.tally.zero_()
        return {"train_mask_empty": empty / max(seen, 1), "train_mask_zero": zero / max(seen, 1)}
