"""Grad-CAM and its kin as a Localizer around any trained classifier."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from cxrlocus.errors import ConfigError
from cxrlocus.functional.attribution import ATTRIBUTIONS
from cxrlocus.models.modes import evaluating
from cxrlocus.models.registration import registered
from cxrlocus.types import Explained, Findings, Fit, FloatArray, Localizer


@runtime_checkable
class Differentiable(Protocol):
    """What a localizer must offer to be looked into: its network, its logits with gradient, and a layer to look at.

    ``offset`` is how far from its own centre a cell of that layer looks (``models.registration``).
    """

    findings: Findings
    size: int
    fit: Fit
    net: nn.Module

    @property
    def offset(self) -> float:
        """In cells, right and down."""
        ...

    @property
    def target_layer(self) -> nn.Module:
        """Where gradient maps look by default; gives (N, D, h, w)."""
        ...

    def logits(self, images: Tensor) -> Tensor:
        """Logits (N, C) with gradient."""
        ...


class GradCamLocalizer:
    """Gradient maps of all findings from one forward and C backward passes through the layers above the chosen one.

    The maps are raw and >= 0, kind "logit". Nothing stays hooked, no gradient is left on the network's parameters, and
    its train or eval mode is as before.

    Args:
        localizer: a trained one.
        attribution: a name in ATTRIBUTIONS: "gradcam", "gradcam++", "layercam".
        layer: dotted module name in the network; "" is the localizer's target layer. Maps of another layer lie on the
            plain grid, as it is not told where its cells look.

    Raises:
        ConfigError: the attribution or the layer is unknown, or the localizer has no logits.
    """

    def __init__(self, localizer: Localizer, attribution: str = "gradcam", layer: str = "") -> None:
        if not isinstance(localizer, Differentiable):
            raise ConfigError(
                "gradient maps need logits of the film as it is, and this localizer "
                f"({type(localizer).__name__}) has none: a run of kim2021 that aligns its films, say. Leave --maps out."
            )
        if attribution not in ATTRIBUTIONS:
            raise ConfigError(f"maps must be one of {', '.join(ATTRIBUTIONS)}; got {attribution!r}.")
        modules = dict(localizer.net.named_modules())
        if layer and layer not in modules:
            near = [name for name in modules if name.count(".") <= 2 and name][:12]
            raise ConfigError(f"layer {layer!r} is not in the network; its modules begin with {', '.join(near)}.")
        self.localizer, self.attribution = localizer, ATTRIBUTIONS[attribution]
        self.layer = modules[layer] if layer else localizer.target_layer
        self.offset = localizer.offset if self.layer is localizer.target_layer else 0.0
        self.findings, self.size, self.fit = localizer.findings, localizer.size, localizer.fit

    def explain(self, images: Tensor, frames: FloatArray) -> Explained:
        """Probabilities and gradient maps, on the CPU in float32.

        Raises:
            ConfigError: the layer gives no feature grid, or the logits do not come from it.
        """
        net = self.localizer.net
        with evaluating(net), _without_gradients(net), torch.enable_grad(), _captured(self.layer) as seen:
            logits = self.localizer.logits(images.requires_grad_(False))
            maps = self._maps(logits, seen)
        prob = torch.sigmoid(logits.detach().float()).cpu()
        shown = torch.stack(maps, dim=1).cpu()
        return Explained(prob, shown, registered(frames, self.offset, shown.shape[2:]), "logit")

    def _maps(self, logits: Tensor, seen: list[Tensor]) -> list[Tensor]:
        if not seen or seen[-1].ndim != 4:
            got = f"gave {tuple(seen[-1].shape)}" if seen else "was not used"
            raise ConfigError(f"layer must give features (N, D, h, w) that the logits come from; it {got}.")
        if len(seen) > 1:
            raise ConfigError(
                f"layer must run once, for all findings; it ran {len(seen)} times (where one finding's map is looked "
                "at after the other, say). Choose a layer before it."
            )
        maps, activations = [], seen[-1]
        for c in range(logits.shape[1]):
            last = c == logits.shape[1] - 1
            (gradients,) = torch.autograd.grad(
                logits[:, c].sum(), activations, retain_graph=not last, materialize_grads=True
            )
            maps.append(self.attribution(activations.detach().float(), gradients.float()))
        return maps


@contextmanager
def _without_gradients(net: nn.Module) -> Iterator[None]:
    # Below the layer nothing needs a gradient then, so nothing is kept for a backward pass that never comes.
    learning = [parameter for parameter in net.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


@contextmanager
def _captured(layer: nn.Module) -> Iterator[list[Tensor]]:
    seen: list[Tensor] = []

    def keep(module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if not isinstance(output, Tensor):
            raise ConfigError(f"layer must give one tensor of features; {type(module).__name__} gives something else.")
        # A leaf of its own: gradients are taken down to here and no further, so layers below cost nothing.
        leaf = output.detach().requires_grad_(True)
        seen.append(leaf)
        # A copy goes on, because the next layer may work in place (ReLU) and a leaf must not be overwritten.
        return leaf.clone()

    handle = layer.register_forward_hook(keep)
    try:
        yield seen
    finally:
        handle.remove()
