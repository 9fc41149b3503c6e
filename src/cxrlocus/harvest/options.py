"""What to harvest, and by which box rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from cxrlocus.data.records import Record
from cxrlocus.errors import ConfigError
from cxrlocus.regions.rules import RULES, FixedThresholds, PeakComponent, SeveralThresholds
from cxrlocus.types import Findings

Rule = FixedThresholds | PeakComponent | SeveralThresholds


@dataclass(frozen=True)
class Options:
    """What to harvest, and in what portions.

    Args:
        rule: what to draw on one map.
        min_prob: boxes only of findings at least this probable.
        unlabelled: of every finding of the model, not only of those that a film's label names.
        batch: films a forward pass.
        shard: films between two moments that a stopped harvest can go on from.

    Raises:
        ConfigError: a number is out of range.
    """

    rule: Rule = field(default_factory=PeakComponent)
    min_prob: float = 0.0
    unlabelled: bool = False
    batch: int = 32
    shard: int = 512

    def __post_init__(self) -> None:
        if not 0.0 <= self.min_prob <= 1.0:
            raise ConfigError(f"min-prob must be in [0, 1]; got {self.min_prob}.")
        if self.batch < 1 or self.shard < 1:
            raise ConfigError(f"batch and shard must be at least 1 film; got {self.batch} and {self.shard}.")

    def key(self) -> dict[str, Any]:
        """Everything here as JSON values, the rule by name."""
        name = next(name for name, rule in RULES.items() if rule is type(self.rule))
        return {**asdict(self), "rule": {"name": name, **asdict(self.rule)}}

    def wanted(self, record: Record, findings: Findings) -> list[int]:
        """The columns of ``findings`` to look for on a film.

        Example:
            >>> from pathlib import Path
            >>> record = Record("a", Path("a"), "1", positive=frozenset({"Mass"}), unknown=frozenset({"Edema"}))
            >>> Options().wanted(record, Findings(("Edema", "Mass", "Nodule")))
            [1]
        """
        if self.unlabelled:
            return list(range(len(findings)))
        named = record.positive - record.unknown
        return [c for c, finding in enumerate(findings) if finding in named]


def make_rule(name: str, thresholds: Sequence[float] = ()) -> Rule:
    """A box rule by name, at its own thresholds or at these, on the scale from 0 (a map's least value) to 1 (greatest).

    Raises:
        ConfigError: the name is unknown, a threshold is outside [0, 1), or there are several for a rule that takes one.

    Example:
        >>> make_rule("peak_component", [0.4]).threshold
        0.4
    """
    if name not in RULES:
        raise ConfigError(f"rule must be one of {', '.join(RULES)}; got {name!r}.")
    if name == "peak_component" and len(thresholds) > 1:
        raise ConfigError(f"threshold: {name} takes one; got {len(thresholds)}. Use several_thresholds.")
    options: dict[str, Mapping[str, Any]] = {
        "fixed_thresholds": {"levels": tuple(thresholds), "of": 1.0},
        "peak_component": {"threshold": next(iter(thresholds), None)},
        "several_thresholds": {"levels": tuple(thresholds)},
    }
    try:
        return RULES[name](**options[name]) if thresholds else RULES[name]()
    except ValueError as error:
        raise ConfigError(str(error)) from error
