"""The alignment network (Kim et al. 2021, sec. 3.2), and the stages of a backbone that its loss compares."""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cxrlocus.errors import ConfigError
from cxrlocus.functional.alignment import bounded_pose
from cxrlocus.models.backbones import Backbone

PoseHead = Literal["average", "grid"]


class AlignmentNet(nn.Module):
    """Films to their pose (s_x, s_y, t_x, t_y, theta); the identity until it has learned.

    Args:
        backbone: films to features.
        scale, shift, angle: bounds of the pose, as ``bounded_pose``'s.
        side: films are shrunk to so many pixels first; 0 leaves them as they are.
        head: what the last layer reads: "average" of each feature, as in a ResNet, or a "grid" of 4 x 4 averages,
            which tells where things are.

    Raises:
        ConfigError: the head is unknown.

    Example:
        >>> net = AlignmentNet(Backbone("test_resnet", stem="adapt"), scale=1.5, shift=0.2, angle=20.0)
        >>> net(torch.rand(1, 1, 64, 64)).tolist()
        [[1.0, 1.0, 0.0, 0.0, 0.0]]
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        scale: float,
        shift: float,
        angle: float,
        side: int = 0,
        head: PoseHead = "average",
    ) -> None:
        super().__init__()
        if head not in ("average", "grid"):
            raise ConfigError(f"head must be average or grid; got {head!r}.")
        self.backbone, self.side, self.cells = backbone, side, 4 if head == "grid" else 1
        self.scale, self.shift, self.angle = scale, shift, angle
        self.pose = nn.Linear(backbone.channels * self.cells**2, 5)
        nn.init.zeros_(self.pose.weight)
        nn.init.zeros_(self.pose.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Pose (N, 5) of films (N, 1, H, W) in [0, 1], float32: as ``bounded_pose`` gives it."""
        return bounded_pose(self.raw(images), scale=self.scale, shift=self.shift, angle=self.angle)

    def raw(self, images: Tensor) -> Tensor:
        """The five free numbers (N, 5), float32, before they are bounded."""
        if self.side and self.side != images.shape[-1]:
            images = F.interpolate(images, size=(self.side, self.side), mode="area")
        features = F.adaptive_avg_pool2d(self.backbone(images).float(), self.cells).flatten(1)
        # In bfloat16 a pose near the identity would move in steps of whole pixels.
        with torch.autocast(features.device.type, enabled=False):
            raw: Tensor = self.pose(features)
        return raw

    def at_bound(self, pose: Tensor, share: float = 0.95) -> Tensor:
        """Whether a pose (N, 5) has a number beyond ``share`` of its bound, (N,) bool: a film that it cannot fit.

        Example:
            >>> net = AlignmentNet(Backbone("test_resnet", stem="adapt"), scale=1.5, shift=0.2, angle=20.0)
            >>> net.at_bound(torch.tensor([[1.0, 1.0, 0.0, 0.0, 0.0], [1.0, 1.0, 0.0, -0.39, 0.0]])).tolist()
            [False, True]
        """
        most = bounded_pose(pose.new_full((1, 5), torch.inf), scale=self.scale, shift=self.shift, angle=self.angle)
        given = torch.cat([pose[:, :2].log(), pose[:, 2:]], dim=1).abs()
        bounds = torch.cat([most[:, :2].log(), most[:, 2:]], dim=1)
        return ((given > share * bounds) & (bounds > 0)).any(dim=1)


class StageFeatures(nn.Module):
    """The outputs of a backbone's last stages: conv2_x to conv5_x of a ResNet (Kim et al. 2021, sec. 4.2).

    Args:
        backbone: films to features.
        stages: how many; at most as many as timm names.

    Raises:
        ConfigError: timm does not name so many stages of this backbone.

    Example:
        >>> stages = StageFeatures(Backbone("test_resnet"))
        >>> [tuple(f.shape) for f in stages(torch.zeros(1, 1, 64, 64))]
        [(1, 32, 16, 16), (1, 48, 8, 8), (1, 192, 4, 4), (1, 96, 2, 2)]
    """

    def __init__(self, backbone: Backbone, stages: int = 4) -> None:
        super().__init__()
        self.backbone = backbone
        info: Any = getattr(backbone.net, "feature_info", None)
        rows = info if isinstance(info, list) else getattr(info, "info", [])
        self._layers = [str(row["module"]) for row in rows if "module" in row][-stages:]
        if len(self._layers) < stages:
            raise ConfigError(
                f"backbone {backbone.name!r}: timm names {len(self._layers)} stages, and {stages} are compared. "
                "Choose another backbone."
            )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Features (N, C_s, H_s, W_s) of each stage, from fine to coarse, of images (N, 1, H, W) in [0, 1]."""
        kept: list[Tensor] = []

        def keep(_module: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> None:
            kept.append(output.permute(0, 3, 1, 2) if self.backbone.channels_last else output)

        # Hooked for this call only: the modules keep no tensor.
        handles = [self.backbone.net.get_submodule(layer).register_forward_hook(keep) for layer in self._layers]
        try:
            self.backbone(images)
        finally:
            for handle in handles:
                handle.remove()
        return kept
