"""A paper's table as a list of runs: train, predict and measure every row for several seeds; done cells are skipped."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import mean, stdev

from scipy.stats import t as student

from cxrlocus import __version__
from cxrlocus.data.records import Dropped, Index
from cxrlocus.errors import ConfigError, DataError, RunError
from cxrlocus.methods import get_method
from cxrlocus.prediction.store import read_predictions
from cxrlocus.protocols.result import Result, read_results, write_results
from cxrlocus.study.score import Measure, score_controls, score_predictions
from cxrlocus.study.steps import Bars, Job, predict_run, train_run
from cxrlocus.training.checkpoint import read_json, write_json
from cxrlocus.training.run import file_hash


@dataclass(frozen=True)
class Row:
    """A row of a table.

    Args:
        method, variant: by name.
        maps: how its maps are taken, "" for the method's own.
        options: Config fields as (name, text) that make it a row of its own.
    """

    method: str
    variant: str = ""
    maps: str = ""
    options: tuple[tuple[str, str], ...] = ()

    @property
    def told(self) -> str:
        """Its options in words."""
        return ", ".join(f"{name}={text}" for name, text in self.options)

    @property
    def trained(self) -> str:
        """Name of the run that the row needs; rows that differ in ``maps`` only share it."""
        return "-".join(filter(None, (self.method, self.variant, self.told)))

    @property
    def name(self) -> str:
        """Name of the row's predictions."""
        return "-".join(filter(None, (self.trained, self.maps)))


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
    ),
    # Tables 1, 2 and 4; "blank" trains as long without masks.
    "kim2021": (
        Row("kim2021", "resnet"),
        Row("kim2021", "alignment"),
        Row("kim2021", "pdm"),
        Row("kim2021", "blank"),
        Row("kim2021"),
    ),
    # How narrow the bottleneck is: alpha = 0 is FeatureMask.
    "infomask2019-alpha": tuple(
        Row("infomask2019", options=(("alpha", alpha),)) for alpha in ("0", "0.0001", "0.001", "0.01", "0.1", "1")
    ),
    # Fig. 1: finer and finer maps.
    "yao2018-resolution": tuple(Row("yao2018", options=(("resolution", n),)) for n in ("16", "32", "64", "128")),
}
"""Every study by the paper's name, or the paper's and what is varied."""

OWN_BACKBONE = "paper"
"""The backbone of a Config that is a paper's own network: it begins from scratch, and no file has weights for it."""


def protocol_of(study: str) -> str:
    """The protocol that a study is measured by.

    Example:
        >>> protocol_of("infomask2019-alpha")
        'infomask2019'
    """
    return study.partition("-")[0]


@dataclass(frozen=True)
class Setup:
    """What all rows of a study share.

    Args:
        out: the study's folder: runs/, predictions/, results/.
        cache: folder of decoded films.
        seeds: a run of each row for each.
        preset, init: of the training.
        options: Config fields as text: ``name`` for every row, ``variant.name`` for the rows of one variant.
        measure: protocols and policy.
        split: the measured films.

    Raises:
        ConfigError: a seed is negative, or stands twice: its interval would be of less doubt than there is.
    """

    out: Path
    cache: Path
    seeds: Sequence[int] = (0, 1, 2)
    preset: str = "paper"
    options: Mapping[str, str] = field(default_factory=dict)
    init: Path | None = None
    measure: Measure = field(default_factory=Measure)
    split: str = "test"

    def __post_init__(self) -> None:
        if len(set(self.seeds)) < len(self.seeds) or min(self.seeds, default=-1) < 0:
            raise ConfigError(
                f"seeds must be different and at least 0; got {', '.join(map(str, self.seeds))}. "
                "Each is a training of its own."
            )


def run_study(name: str, index: Index, setup: Setup, bars: Bars) -> tuple[list[Result], frozenset[str]]:
    """All rows of a study over all seeds, and the controls; with the names of the controls.

    Raises:
        ConfigError: there is no such study, or an option or the weights are of none of its rows.
        DataError: no film to be measured has a box.
    """
    if name not in STUDIES:
        raise ConfigError(f"study must be one of {', '.join(STUDIES)} or all; got {name!r}.")
    check_rows(STUDIES[name], setup)
    films = index if setup.split == "all" else index.split(setup.split)
    if not films.box_count:
        raise DataError(
            f"{index.root}: no film of split {setup.split!r} has a box to measure against. Give --split, or a box list."
        )
    check_same_study(index, setup)
    by_seed = [cell(row, seed, index, films, setup, bars) for seed in setup.seeds for row in STUDIES[name]]
    rows = over_seeds([row for rows in by_seed for row in rows])
    first = STUDIES[name][0]
    like = read_predictions(setup.out / "predictions" / f"{first.name}-seed{setup.seeds[0]}")
    controls = [row for one in score_controls(films, setup.measure, like) for row in one.results]
    return rows + controls, frozenset(row.method for row in controls)


def check_rows(rows: Sequence[Row], setup: Setup) -> None:
    """See that every row can be configured, before the first is trained: a slip in the last would cost all others.

    Raises:
        ConfigError: an option is of none of the rows, or has a value that it may not have, or no row takes weights.
    """
    variants = {row.variant for row in rows}
    for option in setup.options:
        variant, dot, _ = option.rpartition(".")
        if dot and variant not in variants:
            known = ", ".join(sorted(variants - {""}))
            rule = f"must name a variant of {known}" if known else "must be NAME=VALUE: this study has no variants"
            raise ConfigError(f"--set {option}: {rule}.")
    takers = [takes_weights(row, setup) for row in rows]
    if setup.init and not any(takers):
        raise ConfigError(f"{setup.init}: --init gives weights of a timm backbone, and no row has one. Leave it out.")


def takes_weights(row: Row, setup: Setup) -> bool:
    """Whether a row's network has a timm backbone, which ``Setup.init`` is for; the papers' own begin from scratch.

    Raises:
        ConfigError: the row cannot be configured so.
    """
    options = options_of(row, setup.options)
    config = get_method(row.method).configure(variant=row.variant, preset=setup.preset, options=options)
    return getattr(config, "backbone", OWN_BACKBONE) != OWN_BACKBONE


def unreadable(name: str, setup: Setup) -> list[Dropped]:
    """The films that a study could neither train on nor measure, each once."""
    first = f"{STUDIES[name][0].trained}-seed{setup.seeds[0]}"
    split, meta = setup.out / "runs" / first / "split.json", setup.out / "predictions" / STUDIES[name][0].name
    told = read_json(split)["unreadable"] if split.is_file() else []
    told += read_predictions(meta.with_name(f"{meta.name}-seed{setup.seeds[0]}")).meta.get("unreadable", [])
    return [Dropped(item, reason) for item, reason in dict(told).items()]


def options_of(row: Row, options: Mapping[str, str]) -> dict[str, str]:
    """The options that are a row's: those of every row, over them those of its variant, over both its own.

    Example:
        >>> options_of(Row("cam", "max"), {"epochs": "9", "max.lr": "0.1", "lse.lr": "1", "max.epochs": "3"})
        {'epochs': '3', 'lr': '0.1'}
    """
    own = {n.removeprefix(f"{row.variant}."): text for n, text in options.items() if n.startswith(f"{row.variant}.")}
    return {**{name: text for name, text in options.items() if "." not in name}, **own, **dict(row.options)}


def check_same_study(index: Index, setup: Setup) -> None:
    """See that the study's folder holds this study's cells, or begin it.

    Raises:
        RunError: it was begun with other data, options, weights or measures.
    """
    now = {
        "index": index.hash,
        "preset": setup.preset,
        "options": dict(setup.options),
        "init": file_hash(setup.init) if setup.init else "",
        "split": setup.split,
        "protocols": list(setup.measure.protocols),
        "bootstrap": [setup.measure.seed, setup.measure.resamples],
        "version": __version__,
    }
    path = setup.out / "study.json"
    # A study whose first run could not begin holds nothing that other options would spoil. Once there is a run,
    # another seed's with other options would be merged with it.
    begun = any(any(setup.out.glob(part)) for part in ("runs/*/run.json", "predictions", "results"))
    if not (path.is_file() and begun):
        setup.out.mkdir(parents=True, exist_ok=True)
        write_json(path, now)
        return
    before = read_json(path)
    other = [key for key in now if before.get(key) != now[key]]
    if other:
        raise RunError(
            f"{setup.out}: holds a study with another {other[0]}. Choose another --out, or delete the folder."
        )


def cell(row: Row, seed: int, index: Index, films: Index, setup: Setup, bars: Bars) -> list[Result]:
    """One row for one seed: its results, read if they are there."""
    done = setup.out / "results" / f"{row.name}-seed{seed}-{setup.measure.told}.json"
    if done.is_file():
        return read_results(done)
    run = setup.out / "runs" / f"{row.trained}-seed{seed}"
    pred = setup.out / "predictions" / f"{row.name}-seed{seed}"

    def labelled(label: str) -> Callable[..., None]:
        return bars(f"{row.name} seed {seed}: {label}")

    init = setup.init if takes_weights(row, setup) else None
    job = Job(row.method, row.variant, setup.preset, options_of(row, setup.options), seed, init)
    others = sorted(p.parent for p in run.parent.glob(f"{row.method}*-seed{seed}/run.json") if p.parent != run)
    train_run(job, index, run, cache=setup.cache, bars=labelled, siblings=others)
    if not (pred / "meta.json").is_file():
        predict_run(run, films, pred, split=setup.split, cache=setup.cache, bars=bars, maps=row.maps)
    results = score_predictions(read_predictions(pred), films, setup.measure).results
    if row.options:
        results = [replace(r, variant=", ".join(filter(None, (r.variant, row.told)))) for r in results]
    done.parent.mkdir(parents=True, exist_ok=True)
    write_results(done, results)
    return results


def over_seeds(results: Sequence[Result]) -> list[Result]:
    """Rows that differ in their seed only, as one: their mean, and a 95 % t interval of it.

    One seed keeps its own interval (of patients). A seed in which the number is undefined is left out and told. What
    all seeds ask a reader to know stays in the note; n is that of the seed with the fewest.
    """
    groups: dict[tuple[object, ...], list[Result]] = {}
    for r in results:
        key = (r.protocol, r.method, r.variant, r.dataset, r.finding, r.quantity, repr(r.threshold), r.policy, r.detail)
        groups.setdefault(key, []).append(r)
    return [_merged(group) for group in groups.values()]


def _merged(group: Sequence[Result]) -> Result:
    values = [r.value for r in group if not math.isnan(r.value)]
    if len(group) == 1 or not values:
        return group[0]
    k, middle = len(values), mean(values)
    half = float(student.ppf(0.975, k - 1)) * stdev(values) / math.sqrt(k) if k > 1 else math.nan
    lost = f", undefined in {len(group) - k}" if k < len(group) else ""
    said, n = [r.note.split("; ") for r in group], sorted(r.n for r in group if not math.isnan(r.value))
    shared = [part for part in said[0] if part and all(part in parts for parts in said)]
    count = [f"n from {n[0]} to {n[-1]}"] if n[0] < n[-1] else []
    note = "; ".join([*shared, f"mean of {k} seeds{lost}", *count])
    return replace(group[0], value=middle, lo=middle - half, hi=middle + half, n=n[0], note=note)
