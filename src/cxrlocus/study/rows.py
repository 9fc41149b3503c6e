"""Rows of tables: what is trained and how its maps are taken; the papers' tables, and the comparison of them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cxrlocus.errors import ConfigError
from cxrlocus.methods import get_method


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Args:
        method, variant: by name.
        maps: how its maps are taken, "" for the method's own ("grid", "gradcam" and others as in ``predict --maps``).
        options: Config fields as (name, text) that make it a row of its own.
        called: the options in words; None spells them out.
    """

    method: str
    variant: str = ""
    maps: str = ""
    options: tuple[tuple[str, str], ...] = ()
    called: str | None = None

    @property
    def told(self) -> str:
        """Its options in words."""
        spelt = ", ".join(f"{name}={text}" for name, text in self.options)
        return spelt if self.called is None else self.called

    @property
    def trained(self) -> str:
        """Name of the run that the row needs; rows that differ in ``maps`` only share it."""
        return "-".join(filter(None, (self.method, self.variant, self.told)))

    @property
    def name(self) -> str:
        """Name of the row's predictions."""
        return "-".join(filter(None, (self.trained, self.maps)))

    @property
    def names(self) -> tuple[str, ...]:
        """What an option that is not for all rows may be given by: method, variant, or both."""
        both = "-".join(filter(None, (self.method, self.variant)))
        return tuple(dict.fromkeys(filter(None, (self.method, self.variant, both))))


STUDIES: dict[str, tuple[Row, ...]] = {
    "wang2017": (
        Row("cam"),
        Row("cam", "max"),
        Row("cam", "lse"),
        Row("cam", "weighted"),
        Row("cam", "wang2017"),
        Row("cam", maps="gradcam"),
    ),
    "infomask2019": (
        Row("infomask2019", "gradcam"),
        Row("infomask2019", "featuremask"),
        Row("infomask2019", "regl1"),
        Row("infomask2019", "chexcam"),
        Row("infomask2019"),
    ),
    # Tables 2 and 3, r0 = 0, 5 and 10, then the other pools.
    "yao2018": (
        Row("yao2018", "r0_0"),
        Row("yao2018"),
        Row("yao2018", "r0_10"),
        Row("yao2018", "average"),
        Row("yao2018", "max"),
        Row("yao2018", "noisy_or"),
        Row("yao2018", "gm"),
        Row("yao2018", "gm_adaptive"),
        Row("yao2018", "lse"),
        Row("yao2018", "pcam"),
        Row("yao2018", "gated_attention"),
    ),
    # Table 1 (scales at two sizes), Table 2 (base and ours), Table 3 (t = 1, 2, 3 without KP, vanilla, with KP).
    "cai2018": (
        Row("cai2018", "msa-none"),
        Row("cai2018", "msa-bilinear"),
        Row("cai2018", "msa-deconv"),
        Row("cai2018", "double-none"),
        Row("cai2018", "double-bilinear"),
        Row("cai2018", "double-deconv"),
        Row("cai2018", "base"),
        Row("cai2018", "kp-none", options=(("steps", "1"),)),
        Row("cai2018", "kp-none", options=(("steps", "2"),)),
        Row("cai2018", "kp-none"),
        Row("cai2018", "kp-vanilla", options=(("steps", "2"),)),
        Row("cai2018", "kp-vanilla"),
        Row("cai2018", "t1"),
        Row("cai2018", "t2"),
        Row("cai2018"),
        # Eq. 7 to the letter: the last network's maps alone, which cost one pass.
        Row("cai2018", "one-network"),
        # The same networks' maps on the plain grid, not where their cells look.
        *(Row("cai2018", variant, maps="grid") for variant in ("msa-none", "msa-bilinear", "msa-deconv", "")),
    ),
    # Tables 1, 2 and 4; "blank" trains as long without masks, "sharp" aligns better; "grid" draws on the plain grid.
    "kim2021": (
        Row("kim2021", "resnet"),
        Row("kim2021", "alignment"),
        Row("kim2021", "pdm"),
        Row("kim2021", "blank"),
        Row("kim2021"),
        Row("kim2021", "sharp"),
        *(Row("kim2021", variant, maps="grid") for variant in ("resnet", "alignment", "")),
    ),
    # How narrow the bottleneck is: alpha = 0 is FeatureMask.
    "infomask2019-alpha": tuple(
        Row("infomask2019", options=(("alpha", alpha),)) for alpha in ("0", "0.0001", "0.001", "0.01", "0.1", "1")
    ),
    # Fig. 1: finer and finer maps.
    "yao2018-resolution": tuple(Row("yao2018", options=(("resolution", n),)) for n in ("16", "32", "64", "128")),
}
"""Every study by the paper's name, or the paper's and what is varied."""

SHARED = "shared"
"""As the backbone of a row of ``COMPARED``: the one that ``cam`` has."""

_BLOCKS = (("map_stride", "4"),)
"""Of InfoMask: its masks are as large as the film, which for fourteen findings of an archive no disk holds."""

COMPARED: tuple[Row, ...] = (
    Row("cam"),
    Row("cam", maps="gradcam"),
    Row("cam", maps="grid"),
    Row("cam", "lse"),
    Row("cam", "wang2017"),
    Row("yao2018"),
    Row("yao2018", "average"),
    Row("infomask2019", "all", options=_BLOCKS, called=""),
    Row("kim2021", "resnet"),
    Row("kim2021", "alignment"),
    Row("kim2021"),
    Row("cai2018", "base"),
    Row("cai2018"),
    # Ours, which knows the masks of drawn films; on the phantom these are of the films' own kind.
    Row("drawn"),
    # The two that have a network of their own, on the backbone that the others have.
    Row("yao2018", options=(("backbone", SHARED),), called="shared-backbone"),
    Row("infomask2019", "all", options=(("backbone", SHARED), ("stride", "16"), *_BLOCKS), called="shared-backbone"),
)
"""Every row of ``study all``: baselines, the four methods with their main variants, and ours."""

MEMBERS = tuple(row for row in COMPARED if row.name in ("cam", "yao2018", "infomask2019-all", "kim2021", "cai2018"))
"""The rows whose consensus is one more: the baseline and each method as it is, no two of one training."""


def protocol_of(study: str) -> str:
    """The protocol that a study is measured by.

    Example:
        >>> protocol_of("infomask2019-alpha")
        'infomask2019'
    """
    return study.partition("-")[0]


def options_of(row: Row, options: Mapping[str, str]) -> dict[str, str]:
    """The options that are a row's: those of every row, over them those of its method, its variant, and its own.

    Example:
        >>> options_of(Row("cam", "max"), {"epochs": "9", "max.lr": "0.1", "lse.lr": "1", "max.epochs": "3"})
        {'epochs': '3', 'lr': '0.1'}
        >>> options_of(Row("cam", "max"), {"cam.lr": "1", "cam-max.lr": "2", "kim2021.lr": "3"})
        {'lr': '2'}
    """
    chosen = {name: text for name, text in options.items() if "." not in name}
    for whose in row.names:
        chosen |= {n.removeprefix(f"{whose}."): text for n, text in options.items() if n.startswith(f"{whose}.")}
    return {**chosen, **dict(row.options)}


def check_names(rows: Sequence[Row], options: Mapping[str, str]) -> None:
    """See that what stands before an option's dot names rows that there are.

    Raises:
        ConfigError: it does not.
    """
    known = {name for row in rows for name in row.names}
    for option in options:
        whose, dot, _ = option.rpartition(".")
        if dot and whose not in known:
            told = ", ".join(sorted(known))
            raise ConfigError(f"--set {option}: must name a method or variant of this study before the dot ({told}).")


def configured(row: Row, preset: str, options: Mapping[str, str]) -> Any:
    """The Config of a row under a preset and the options of ``options_of``.

    Raises:
        ConfigError: there is none; the message names the row.
    """
    try:
        return get_method(row.method).configure(variant=row.variant, preset=preset, options=options)
    except ConfigError as error:
        raise ConfigError(f"{row.name}: {error}") from error
