"""Everything that makes the phantom easy or hard, in one frozen value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields

from cxrlocus.errors import ConfigError
from cxrlocus.types import BOXED8

Range = tuple[float, float]

VERSION = 1
"""Rises whenever the same seed would give another film."""


def _even() -> dict[str, float]:
    return dict.fromkeys(BOXED8.names, 1.0)


@dataclass(frozen=True)
class Parameters:
    """How often findings occur and how plainly they show.

    Contrast is drawn log-uniformly from its range, film by film. What it is a fraction of depends on the finding:

    * ``atelectasis``, ``infiltration``, ``pneumonia``, ``effusion``: the share of the lung's air that fluid replaces;
    * ``mass``, ``nodule``: density against that of soft tissue, over the lesion's own thickness (above 1: calcified);
    * ``pneumothorax``: the share of lung markings and lung tissue that is gone from the zone of free air;
    * ``cardiomegaly``: the heart's width against the patient's normal one (drawn uniformly; 1 would be a normal heart).

    Raises:
        ConfigError: a share is outside [0, 1], or a range is empty or not positive.

    Example:
        >>> easy = Parameters(nodule=(0.8, 1.0))
        >>> easy.contrast("Nodule"), Parameters.from_json(easy.as_json()) == easy
        ((0.8, 1.0), True)
    """

    normal_share: float = 0.47
    extra_finding: float = 0.36
    distractors: float = 1.0
    atelectasis: Range = (0.18, 0.85)
    cardiomegaly: Range = (1.24, 1.95)
    effusion: Range = (0.35, 1.0)
    infiltration: Range = (0.12, 0.60)
    mass: Range = (0.38, 1.6)
    nodule: Range = (0.6, 2.2)
    pneumonia: Range = (0.20, 0.85)
    pneumothorax: Range = (0.35, 1.0)
    weights: Mapping[str, float] = field(default_factory=_even)

    def __post_init__(self) -> None:
        for name in ("normal_share", "extra_finding", "distractors"):
            value = getattr(self, name)
            if not 0 <= value <= 1:
                raise ConfigError(f"{name} must lie in [0, 1]; got {value}. Give a share.")
        for finding in BOXED8:
            low, high = self.contrast(finding)
            if not 0 < low <= high:
                raise ConfigError(f"{finding.lower()} must be a range 0 < low <= high; got {(low, high)}.")
        if set(self.weights) != set(BOXED8.names) or min(self.weights.values()) < 0 or not any(self.weights.values()):
            raise ConfigError(
                f"weights must give each of {', '.join(BOXED8)} a number of at least 0, not all 0; "
                f"got {dict(self.weights)}."
            )

    def contrast(self, finding: str) -> Range:
        """The range that a finding's contrast is drawn from."""
        low, high = getattr(self, finding.lower())
        return float(low), float(high)

    def as_json(self) -> dict[str, object]:
        """Plain values, for phantom.json."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @staticmethod
    def from_json(values: Mapping[str, object]) -> Parameters:
        """The inverse of :meth:`as_json`.

        Raises:
            ConfigError: a name is not a parameter's.
        """
        strange = sorted(set(values) - {f.name for f in fields(Parameters)})
        if strange:
            raise ConfigError(f"{strange[0]!r} is not a parameter of the phantom. Remove it.")
        pairs = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return Parameters(**pairs)  # type: ignore[arg-type]  # checked in __post_init__
