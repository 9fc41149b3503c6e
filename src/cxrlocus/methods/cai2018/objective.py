"""What the stages minimize: the head's loss under fixed layers, and the loss of erased maps with preservation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from cxrlocus.functional.losses import LOSSES
from cxrlocus.functional.mining import erase_step, erased_logits
from cxrlocus.functional.preservation import preservation_loss
from cxrlocus.methods.cai2018.config import CaiConfig
from cxrlocus.methods.cai2018.model import MiningNet, Stages
from cxrlocus.methods.classification import ClassifierObjective
from cxrlocus.types import Batch


class NewLayersObjective(ClassifierObjective):
    """Classification with everything below MSA fixed, batch statistics too.

    Args:
        net: the network.
        loss: a name in LOSSES.
    """

    net: MiningNet

    def __init__(self, net: MiningNet, loss: str) -> None:
        super().__init__(net, loss)
        fix(net.stages)

    def train(self, mode: bool = True) -> Self:
        """Training mode, above the fixed layers."""
        super().train(mode)
        self.net.stages.eval()
        return self


class Eraser:
    """Masks M_{t-1}: which cells earlier mining steps leave open, on any films.

    Args:
        config: how a region is found, and by whom.
        step: t, from 1; at 1 nothing is erased.
        before: the networks as the steps before left them, in order, for masks="frozen". They are no part of what is
            trained or saved.
    """

    def __init__(self, config: CaiConfig, step: int, before: Sequence[MiningNet] = ()) -> None:
        self.config, self.step, self.before = config, step, tuple(before)

    @torch.no_grad()
    def __call__(self, images: Tensor, stages: Stages, evidence: Tensor) -> Tensor:
        """Open cells (N, C, h, w) bool of images (N, 1, H, W), and of the trained network's stages and evidence."""
        config = self.config
        open_cells = torch.ones_like(evidence, dtype=torch.bool, memory_format=torch.contiguous_format)
        for k in range(self.step - 1):
            seen = evidence
            if config.masks == "frozen":
                net = self.before[k]
                # A backbone that does not learn says to all what it says to one.
                looked = stages if config.tune == "top" else net.look(images)
                seen = net.evidence(net.top(looked))
            open_cells = erase_step(
                seen.detach().float(),
                open_cells,
                threshold=config.threshold,
                scale=config.scale,
                connectivity=config.connectivity,
            )
        return open_cells


class MiningObjective(nn.Module):
    """``L = L_cls + lambda L_KP`` at mining step t (Cai et al. 2018, eq. 1 to 6).

    The first n films of a batch are erased where earlier steps found something; the others are whole, and their
    features are held to those of the network before mining.

    Args:
        net: the network, N_B.
        config: of the stage.
        eraser: masks of the step.
        teacher: N_A, the network before mining, for kp="kp"; no part of what is trained or saved.

    Example:
        >>> from cxrlocus.methods.cai2018.model import build
        >>> _ = torch.manual_seed(0)
        >>> config = CaiConfig(backbone="test_resnet", msa_last=8, msa_before=4, masks="current")
        >>> net, teacher = build(config, 2), build(config, 2).eval()
        >>> objective = MiningObjective(net, config, Eraser(config, step=2), teacher)
        >>> batch = Batch(torch.rand(4, 1, 64, 64), torch.ones(4, 2), torch.ones(4, 2).bool(), torch.arange(4))
        >>> sorted(objective(batch))
        ['bce', 'kp']
    """

    tally: Tensor

    def __init__(self, net: MiningNet, config: CaiConfig, eraser: Eraser, teacher: MiningNet | None = None) -> None:
        super().__init__()
        self.net, self.config, self.eraser = net, config, eraser
        self._teacher = (teacher,)
        if config.tune == "top":
            fix(net.stages)
        self.register_buffer("tally", torch.zeros(2))

    def train(self, mode: bool = True) -> Self:
        """Training mode, but for what is fixed: norms with their running statistics, or all of the backbone."""
        super().train(mode)
        if self.config.tune == "top":
            self.net.stages.eval()
        if self.config.norm == "frozen":
            for module in self.net.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """``{loss name: scalar}``; L_KP already weighted."""
        config, films = self.config, len(batch.images)
        n = mined_films(config, films)
        stages = self.net.look(batch.images)
        x = self.net.top(stages)
        evidence = self.net.evidence(x)
        open_cells = torch.ones_like(evidence, dtype=torch.bool)
        open_cells[:n] = self._open(batch, Stages(*(s[:n] for s in stages)), evidence[:n])
        logits = erased_logits(evidence.float(), open_cells, self.net.bias)
        losses: dict[str, Tensor] = {config.loss: LOSSES[config.loss](logits, batch.target, batch.known)}
        if config.kp == "kp" and n < films:
            losses["kp"] = self._preserve(batch.images, stages, x, n, losses[config.loss])
        elif config.kp == "kp":
            losses["kp"] = losses[config.loss].new_zeros(())
        return losses

    def _open(self, batch: Batch, stages: Stages, evidence: Tensor) -> Tensor:
        n = len(evidence)
        open_cells = self.eraser(batch.images[:n], stages, evidence)
        if self.config.erase == "positive":
            named = (batch.target[:n] > 0.5) & batch.known[:n]
            open_cells = open_cells | ~named[:, :, None, None]
        if self.training:
            self.tally += torch.stack(
                [(~open_cells).sum(), open_cells.new_tensor(open_cells.numel(), dtype=torch.long)]
            )
        return open_cells

    def _preserve(self, images: Tensor, stages: Stages, x: Tensor, n: int, loss: Tensor) -> Tensor:
        config, (teacher,) = self.config, self._teacher
        if teacher is None:
            raise ValueError("teacher must be a network for kp='kp'; got None.")
        with torch.no_grad():
            rest = Stages(*(s[n:] for s in stages))
            seen = rest if config.tune == "top" else teacher.look(images[n:])
            theirs = teacher.pooled(seen, teacher.top(seen), config.layers)
        # Averages are cut, not features: the gradient of a cut is a copy of the whole.
        ours = [pooled[n:] for pooled in self.net.pooled(stages, x, config.layers)]
        distance = preservation_loss(ours, theirs, over=config.kp_over, squared=config.kp_squared)
        if config.kp_weight == "share":
            return config.kp_lambda * distance * (loss / distance.clamp(min=1e-12)).detach()
        return config.kp_lambda * distance

    def tallied(self) -> dict[str, float]:
        """Share of the mined films' cells that were erased since the last call: "erased"."""
        erased, seen = self.tally.tolist()
        self.tally.zero_()
        return {"erased": erased / max(seen, 1)}


class Erased(nn.Module):
    """A network as the validator wants one, with every film erased as in mining step t.

    Args:
        net: the network.
        eraser: masks of the step.
    """

    def __init__(self, net: MiningNet, eraser: Eraser) -> None:
        super().__init__()
        self.net, self.eraser = net, eraser
        self.backbone = nn.Identity()

    def classify(self, images: Tensor) -> Tensor:
        """Logits (N, C) of films."""
        stages = self.net.look(images)
        evidence = self.net.evidence(self.net.top(stages))
        return erased_logits(evidence.float(), self.eraser(images, stages, evidence), self.net.bias)


def mined_films(config: CaiConfig, films: int) -> int:
    """n: how many films of a batch are mined.

    Example:
        >>> [mined_films(CaiConfig(kp=kp), 64) for kp in ("none", "vanilla", "kp")], mined_films(CaiConfig(), 3)
        ([64, 8, 8], 1)
    """
    if config.kp == "none":
        return films
    return min(films, max(1, round(config.mined_share * films)))


def fix(module: nn.Module) -> None:
    """Let a module learn no more."""
    for parameter in module.parameters():
        parameter.requires_grad_(False)
