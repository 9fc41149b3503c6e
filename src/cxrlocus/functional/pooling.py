"""Pooling a map over its cells: (N, C, h, w) -> (N, C).

Two scales. On *values* (logits, features) the pool's result is on the scale of what went in. On *probabilities* the
cells are ``S = sigmoid(x)``, the film's probability is ``p = pool(S)``, and both ends are logits: map logits ``x`` go
in, ``logit(p)`` comes out, so that the loss is taken from logits and nothing is ever clamped. Everything between is
computed as ``log S``, ``log(1 - S)``, ``log p`` and ``log(1 - p)``, in float32 at least: a 512 x 512 map neither
underflows nor overflows.

The probability pools are one function, `log_lse`, on different values v >= 0 (S is a cell's probability):

    average    log p = log_lse_0(S)           log(1 - p) = log_lse_0(1 - S)
    LSE        log p = log_lse_r(S)           log(1 - p) = log_lse_-r(1 - S), as LSE_r(S) = 1 - LSE_-r(1 - S)
    GM         log(-log p) = log_lse_-r(-log S)
    Noisy-OR   log(-log(1 - p)) = log n + log_lse_0(-log(1 - S)), n cells
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def average_pool(maps: Tensor) -> Tensor:
    """Global average pooling of values: ``1/S sum_ij x_ij`` with S = h * w.

    Args:
        maps: (N, C, h, w), any range.

    Returns:
        (N, C), summed and kept in float32 or better: bfloat16 has two digits of an average over hundreds of cells.

    Example:
        >>> average_pool(torch.tensor([[[[0.0, 1.0], [2.0, 5.0]]]]))
        tensor([[2.]])
    """
    return maps.mean(dim=(-2, -1), dtype=torch.promote_types(maps.dtype, torch.float32))


def max_pool(maps: Tensor) -> Tensor:
    """Global max pooling: ``max_ij x_ij``; of values and, as the sigmoid grows, of probabilities alike.

    Args:
        maps: (N, C, h, w), any range.

    Returns:
        (N, C). Cells that tie share the gradient.

    Example:
        >>> max_pool(torch.tensor([[[[0.0, 1.0], [2.0, 5.0]]]]))
        tensor([[5.]])
    """
    return maps.amax(dim=(-2, -1))


def lse_pool(maps: Tensor, r: float | Tensor = 10.0) -> Tensor:
    """Log-sum-exp pooling of values, ``x* + 1/r log(1/S sum_ij exp(r (x_ij - x*)))`` (Wang et al. 2017, eq. 2).

    r -> 0 is the average, r -> infinity the maximum. There x* = max |x|; any x* gives the same value, and logsumexp's
    own never overflows. In float32 the result is good to about 1e-6 / r: take r above .01.

    Args:
        maps: (N, C, h, w), any range.
        r: sharpness, > 0; a tensor is () or (C,) and not looked into.

    Returns:
        (N, C), between the average and the maximum; float32 for bfloat16 maps.

    Raises:
        ValueError: r is not a positive number, or not one for each of the C maps.

    Example:
        >>> lse_pool(torch.tensor([[[[0.0, 1.0], [2.0, 5.0]]]]), r=10.0)
        tensor([[4.8614]])
    """
    maps = _wide(maps)
    each = _each(r, maps)
    return (torch.logsumexp(each[:, None, None] * maps, dim=(-2, -1)) - math.log(_cells(maps))) / each


def average_probability_pool(maps: Tensor) -> Tensor:
    """Average of probabilities: ``p = 1/n sum_j S_j``.

    Args:
        maps: (N, C, h, w) map logits x, S = sigmoid(x).

    Returns:
        (N, C): logit of p.

    Example:
        >>> torch.sigmoid(average_probability_pool(torch.logit(torch.tensor([[[[0.1, 0.2, 0.9]]]]))))
        tensor([[0.4000]])
    """
    maps = _wide(maps)
    # Both sums lack the same 1/n, and so does not their difference.
    return torch.logsumexp(logsigmoid(maps), dim=(-2, -1)) - torch.logsumexp(logsigmoid(-maps), dim=(-2, -1))


def noisy_or_pool(maps: Tensor) -> Tensor:
    """Noisy-OR of probabilities: ``p = 1 - prod_j (1 - S_j)`` (Yao et al. 2018, sec. 3.4).

    Args:
        maps: (N, C, h, w) map logits x, S = sigmoid(x).

    Returns:
        (N, C): logit of p, at least the maximum. n equal cells give more than one of them.

    Example:
        >>> torch.sigmoid(noisy_or_pool(torch.logit(torch.tensor([[[[0.1, 0.2, 0.5]]]]))))
        tensor([[0.6400]])
    """
    return _log_expm1(torch.logsumexp(_log_softplus(_wide(maps)), dim=(-2, -1)))


def generalized_mean_pool(maps: Tensor, r: float | Tensor = 3.0) -> Tensor:
    """Generalized mean of probabilities: ``p = (1/n sum_j S_j^r)^(1/r)`` (Yao et al. 2018, sec. 3.4).

    r = 1 is the average, r -> infinity the maximum, r -> 0 the geometric mean (not the average, as the paper has it).

    Args:
        maps: (N, C, h, w) map logits x, S = sigmoid(x).
        r: sharpness, > 0; a tensor is () or (C,) and not looked into.

    Returns:
        (N, C): logit of p.

    Raises:
        ValueError: r is not a positive number, or not one for each of the C maps.

    Example:
        >>> torch.sigmoid(generalized_mean_pool(torch.logit(torch.tensor([[[[0.3, 0.4]]]])), r=2.0))
        tensor([[0.3536]])
    """
    maps = _wide(maps)
    return -_log_expm1(_apply_log_lse(_log_softplus(-maps), -_each(r, maps)))


def lse_probability_pool(maps: Tensor, r: float | Tensor = 10.0) -> Tensor:
    """Log-sum-exp of probabilities: ``p = 1/r log(1/n sum_j exp(r S_j))`` (Yao et al. 2018, sec. 3.4; eq. 4).

    With ``r = r0 + exp(beta)`` it is LSE-LBA. All 0 gives 0, all 1 gives 1: p is a probability. One cell of 1 among n
    of 0 gives no more than about ``1 - log(n) / r``.

    Args:
        maps: (N, C, h, w) map logits x, S = sigmoid(x).
        r: sharpness, > 0; a tensor is () or (C,) and not looked into.

    Returns:
        (N, C): logit of p, between those of the average and the maximum.

    Raises:
        ValueError: r is not a positive number, or not one for each of the C maps.

    Example:
        >>> torch.sigmoid(lse_probability_pool(torch.logit(torch.tensor([[[[0.1, 0.2, 0.9]]]])), r=10.0))
        tensor([[0.7903]])
    """
    maps = _wide(maps)
    each = _each(r, maps)
    return _apply_log_lse(logsigmoid(maps), each) - _apply_log_lse(logsigmoid(-maps), -each)


def attention_pool(maps: Tensor, scores: Tensor) -> Tensor:
    """A weighted mean of values: ``z = sum_j a_j x_j``, a = softmax of scores over the cells (Ilse et al. 2018, eq. 7).

    They pool features, ``z = w . sum_j a_j h_j + b``; with the linear head that is the same mean of the map
    ``x_j = w . h_j + b``, and no feature is ever pooled.

    Args:
        maps: (N, C, h, w), any range.
        scores: (N, C, h, w) or (N, 1, h, w), before the softmax.

    Returns:
        (N, C), between the minimum and the maximum.

    Example:
        >>> attention_pool(torch.tensor([[[[0.0, 4.0]]]]), torch.tensor([[[[0.0, 0.0]]]]))
        tensor([[2.]])
    """
    maps, scores = _wide(maps), _wide(scores)
    weights = torch.softmax(scores.flatten(-2), dim=-1)
    return (weights * maps.flatten(-2)).sum(dim=-1)


def pcam_pool(maps: Tensor) -> Tensor:
    """Probabilistic CAM pooling of logits: ``z = sum_j S_j x_j / sum_j S_j`` (Ye et al. 2020).

    They weight features by S and let the head read the sum; see `attention_pool` for why the map is enough. It does not
    grow with every cell: raising one that is far below z draws weight to it.

    Args:
        maps: (N, C, h, w) map logits x (the head's bias among them), S = sigmoid(x).

    Returns:
        (N, C): the film's logits, between the average and the maximum of x.

    Example:
        >>> pcam_pool(torch.tensor([[[[-50.0, 0.0, 3.0]]]]))
        tensor([[1.9674]])
    """
    maps = _wide(maps)
    return attention_pool(maps, logsigmoid(maps))


def log_lse(log_values: Tensor, r: float | Tensor) -> Tensor:
    """``log LSE_r(v) = log(1/r log(1/n sum_j exp(r v_j)))`` of v = exp(log_values) >= 0, for r of either sign.

    Accurate to the relative precision of the numbers for values of any size: where r v is small everywhere, as log1p of
    the mean of expm1.

    Args:
        log_values: (N, C, h, w), any range.
        r: not 0; a tensor is () or (C,).

    Returns:
        (N, C).

    Raises:
        ValueError: r is 0 or not finite, or not one for each of the C maps.

    Example:
        >>> tiny = torch.tensor([[[[-200.0, -200.0], [-200.0, -230.0]]]])
        >>> log_lse(tiny, 10.0)
        tensor([[-200.2877]])
    """
    log_values = _wide(log_values)
    if not isinstance(r, Tensor) and (r == 0 or not math.isfinite(r)):
        raise ValueError(f"r must be a finite number other than 0; got {r}. For 0 it is the logarithm of the average.")
    each = torch.as_tensor(r, dtype=log_values.dtype, device=log_values.device)
    return _apply_log_lse(log_values, _for_each_map(each, log_values))


class _LogLse(torch.autograd.Function):
    """`log_lse`, keeping one map for the backward pass: ``d log s / d log v_j = w_j v_j / s``, w = softmax(r v)."""

    @staticmethod
    def forward(ctx: Any, log_values: Tensor, r: Tensor) -> Tensor:
        log_n, cells = math.log(_cells(log_values)), (-2, -1)
        log_top = log_values.amax(dim=cells, keepdim=True)
        shares = torch.exp(log_values - log_top)
        log_mean = log_top[..., 0, 0] + torch.log(shares.mean(dim=cells))
        steepest = r[:, None, None] * torch.exp(log_top)
        exponents = shares.mul_(steepest)
        level = torch.logsumexp(exponents, dim=cells) - log_n
        # exp(r s) - 1. It overflows where the level is far above 1, and is not looked at there.
        rise = torch.expm1(exponents).mean(dim=cells)
        small = torch.where(steepest[..., 0, 0].abs() < 1e-20, log_mean, torch.log(torch.log1p(rise) / r))
        log_s = torch.where(level.abs() > 1.0, torch.log(level / r), small)
        ctx.save_for_backward(log_values, r, level + log_n + log_s)
        return log_s

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        log_values, r, shift = ctx.saved_tensors
        grad = grads[0]
        share = torch.exp(r[:, None, None] * torch.exp(log_values) + log_values - shift[:, :, None, None])
        # ds/dr = (sum_j w_j v_j - s) / r.
        of_r = (grad * (share.sum(dim=(-2, -1)) - 1.0) / r).sum(dim=0)
        return share.mul_(grad[:, :, None, None]), of_r


def _apply_log_lse(log_values: Tensor, r: Tensor) -> Tensor:
    result: Tensor = _LogLse.apply(log_values, r)  # type: ignore[no-untyped-call]  # torch's stub has no types for it
    return result


def _log_expm1_ratio(t: Tensor) -> Tensor:
    """``log((exp(t) - 1) / t)`` for t of either sign and any size; 0 at 0."""
    size = t.abs()
    far = size.clamp(min=0.1)
    near = size.clamp(max=0.1)
    square = near * near
    series = near * -0.5 + square * (1 / 24 - square * (1 / 2880 - square / 181440))
    below = torch.where(size < 0.1, series, torch.log(-torch.expm1(-far) / far))
    return below + t.clamp(min=0.0)


def _log_expm1(log_s: Tensor) -> Tensor:
    """``log(exp(s) - 1)`` of s = exp(log_s): the logit of 1 - exp(-s)."""
    return log_s + _log_expm1_ratio(torch.exp(log_s))


class _LogSoftplus(torch.autograd.Function):
    """``log(log(1 + exp(x)))``, that is log(-log(1 - S)); about x where exp(x) underflows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        low = x - 0.5 * torch.exp(x)
        result = torch.where(x < -15.0, low, torch.log(-logsigmoid(-x)))
        ctx.save_for_backward(x, result)
        return result

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        x, result = ctx.saved_tensors
        return grads[0] * torch.exp(logsigmoid(x) - result)


def _log_softplus(x: Tensor) -> Tensor:
    result: Tensor = _LogSoftplus.apply(x)  # type: ignore[no-untyped-call]  # torch's stub has no types for it
    return result


def _wide(maps: Tensor) -> Tensor:
    if maps.ndim != 4 or not _cells(maps) or not maps.is_floating_point():
        raise ValueError(
            f"maps must be (N, C, h, w) floating point with at least one cell; got {tuple(maps.shape)} {maps.dtype}."
        )
    return maps.float() if maps.dtype in (torch.bfloat16, torch.float16) else maps


def _cells(maps: Tensor) -> int:
    return maps.shape[-2] * maps.shape[-1]


def _each(r: float | Tensor, maps: Tensor) -> Tensor:
    """A positive sharpness as (C,)."""
    if not isinstance(r, Tensor) and not (r > 0 and math.isfinite(r)):
        raise ValueError(f"r must be a positive number; got {r}. Use average_pool for 0, max_pool for infinity.")
    return _for_each_map(torch.as_tensor(r, dtype=maps.dtype, device=maps.device), maps)


def _for_each_map(r: Tensor, maps: Tensor) -> Tensor:
    if r.ndim > 1 or (r.ndim == 1 and len(r) != maps.shape[1]):
        raise ValueError(f"r must be one number or one for each of {maps.shape[1]} maps; got shape {tuple(r.shape)}.")
    return r.expand(maps.shape[1])
