"""The comparative study: every method, the baselines and a consensus on the same films, by every protocol and policy.

A cell is a row and a seed: it is trained and predicted once, then measured from these predictions under the policies
fixed, validation and oracle. See docs/study.md.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from cxrlocus.data.records import Index
from cxrlocus.errors import ConfigError
from cxrlocus.methods.options import PAPER
from cxrlocus.prediction.consensus import describe, join_members, write_consensus
from cxrlocus.prediction.store import read_predictions
from cxrlocus.protocols import PIXEL_PROTOCOLS, PROTOCOLS
from cxrlocus.protocols.policies import check_halves
from cxrlocus.protocols.result import Result, label_of, read_results, write_results
from cxrlocus.protocols.yao2018 import NAME as YAO
from cxrlocus.study.cells import predicted, predictions_folder, result_file, told_of
from cxrlocus.study.hits import measured_of, read_measured, write_measured
from cxrlocus.study.measured import Measured
from cxrlocus.study.measured import over_seeds as measured_over_seeds
from cxrlocus.study.paired import Difference, paired_differences
from cxrlocus.study.rows import COMPARED, MEMBERS, Row
from cxrlocus.study.score import Scored, score_controls, score_predictions
from cxrlocus.study.seeds import over_seeds
from cxrlocus.study.setup import Setup, check_chosen, check_rows, check_same_study
from cxrlocus.study.steps import Bars
from cxrlocus.study.weights import chosen_weights
from cxrlocus.training.checkpoint import read_json
from cxrlocus.types import Policy

CONSENSUS = Row("consensus")
"""The row that is not trained: the maps of ``MEMBERS`` joined, with weights chosen on boxes of other patients."""

ALL_PROTOCOLS = (*PROTOCOLS, *PIXEL_PROTOCOLS)
"""Every protocol, the first first."""

SIZES: Mapping[str, int] = {"paper": 512, "cpu": 256, "demo": 128}
"""Side of the films in pixels by preset, where no option says it: the rows' own presets differ."""

HELD_OUT = "0.1"
"""Share of the training patients that choose checkpoints, where no option says it: the rows' own presets differ."""

UNDER: tuple[Policy, ...] = ("fixed", "validation", "oracle")
"""The policies, in the order of the tables."""

WAITS = "waits for"
"""How the reason begins why a consensus is not begun."""

PAIRED_UNDER: Policy = "validation"
"""The policy under which methods are compared pair by pair."""


@dataclass(frozen=True)
class Method:
    """A row as the tables have it.

    Args:
        method, variant: as in its Results.
        seeds: those that are done.
        knows: what it was told beyond image-level labels, whatever the policy; "" for nothing.
    """

    method: str
    variant: str
    seeds: tuple[int, ...]
    knows: str

    @property
    def name(self) -> str:
        """As tables and pairs call it."""
        return label_of(self.method, self.variant)


@dataclass(frozen=True)
class Comparison:
    """What the study gave.

    Args:
        blocks: by policy the rows over all seeds, then the controls'.
        seeds: by policy the rows of each seed.
        methods: the rows of which there is something, in order.
        controls: the names of the controls.
        cells: whose cells the controls' maps have, and how many; "" before there are any.
        differences: of every two methods, and of every method and control but the oracle's, under ``PAIRED_UNDER``.
        missing: the cells ("cam-seed0") that are not there, with the reason.
    """

    blocks: Mapping[Policy, list[Result]]
    seeds: Mapping[Policy, list[Result]]
    methods: tuple[Method, ...]
    controls: frozenset[str]
    cells: str
    differences: list[Difference]
    missing: tuple[tuple[str, str], ...]

    @property
    def results(self) -> list[Result]:
        """Every row once: what chooses nothing stands in all blocks alike."""
        rows: dict[tuple[object, ...], Result] = {}
        for block in self.blocks.values():
            for r in block:
                key = (r.protocol, r.method, r.variant, r.finding, r.quantity, repr(r.threshold), r.policy, r.detail)
                rows.setdefault(key, r)
        return list(rows.values())


def compared_setup(setup: Setup, rows: Sequence[Row] = COMPARED) -> Setup:
    """The setup with one input size and one split for all rows, and a given backbone going to the rows that have one.

    Raises:
        ConfigError: a row cannot be configured so, or would have another size or another backbone; it names the row.
    """
    if setup.preset not in SIZES:
        raise ConfigError(f"--preset must be one of {', '.join(SIZES)}; got {setup.preset!r}.")
    options = {"size": str(SIZES[setup.preset]), "val_fraction": HELD_OUT, **setup.options}
    if "backbone" in options:
        given = options.pop("backbone")
        plain = replace(setup, options={})
        takers = dict.fromkeys(r.method for r in rows if not r.options and plain.takes_weights(r))
        options |= {f"{method}.backbone": given for method in takers if f"{method}.backbone" not in options}
    return replace(setup, options=options, measure=replace(setup.measure, protocols=ALL_PROTOCOLS))


def check_alike(rows: Sequence[Row], setup: Setup) -> None:
    """See that every row can be configured, with the same films of one size and backbones of one name.

    Raises:
        ConfigError: one cannot; it is named.
    """
    check_rows(rows, setup)
    backbones: dict[str, str] = {}
    for row in rows:
        config = setup.config_of(row)
        size, wanted = config.size * getattr(config, "magnify", 1), setup.options["size"]
        if str(size) != wanted:
            raise ConfigError(
                f"{row.name}: its films have {size} pixels, the study's {wanted}. Use --set size=N alone."
            )
        if config.val_fraction != float(setup.options["val_fraction"]):
            raise ConfigError(
                f"{row.name}: val_fraction is {config.val_fraction}, the study's {setup.options['val_fraction']}: rows "
                "learn from the same films. Use --set val_fraction=X alone."
            )
        if config.backbone != PAPER:
            backbones.setdefault(config.backbone, row.name)
    if len(backbones) > 1:
        (one, first), (other, second) = list(backbones.items())[:2]
        raise ConfigError(
            f"{second}: backbone {other!r} must be that of {first}, {one!r}: rows are compared on one. "
            "Give --set backbone=NAME."
        )


def with_consensus(rows: Sequence[Row]) -> tuple[Row, ...]:
    """The rows and, where two or more of ``MEMBERS`` are among them, the consensus of these.

    Example:
        >>> [row.name for row in with_consensus((Row("cam"), Row("cam", "lse"), Row("kim2021")))]
        ['cam', 'cam-lse', 'kim2021', 'consensus']
    """
    return (*rows, CONSENSUS) if len(members_of(rows)) > 1 else tuple(rows)


def members_of(rows: Sequence[Row]) -> tuple[Row, ...]:
    """Those of the rows that the consensus is of."""
    return tuple(row for row in rows if row in MEMBERS)


def compare(index: Index, setup: Setup, bars: Bars, rows: Sequence[Row] = COMPARED) -> Comparison:
    """Train, predict and measure every row for every seed as far as the budget goes, and put them side by side.

    Args:
        index: the data set.
        setup: as ``compared_setup`` has it.
        bars: progress.
        rows: what is trained.

    Raises:
        ConfigError: a row cannot be made so.
        DataError: no film to be measured has a box, or all boxes are on one half of the patients.
        RunError: the folder holds another study.
    """
    check_chosen(with_consensus(rows), setup)
    check_alike(rows, setup)
    films = setup.films(index)
    check_halves(films.images, films.findings, films, setup.measure.seed)
    check_same_study(index, setup)
    missing: dict[str, str] = {}
    for seed in setup.seeds:
        members = [f"{row.name}-seed{seed}" for row in members_of(rows)]
        for row in with_consensus(rows):
            here = f"{row.name}-seed{seed}"
            waits = [cell for cell in members if cell in missing] if row is CONSENSUS else []
            if lacking := _lacking(row, here, waits, setup):
                missing[here] = lacking
                continue
            # Called for each policy that is not measured yet: what is predicted is not predicted again.
            make = (
                partial(_combined, here, members, films, setup, bars)
                if row is CONSENSUS
                else partial(predicted, row, seed, index, films, setup, bars)
            )
            _measure_cell(row, here, make, films, setup, bars)
    return _gathered(films, setup, rows, missing)


def measures_of(setup: Setup) -> dict[Policy, Setup]:
    """The setup once a policy, each with what differs under it.

    A criterion chooses nothing under "fixed", and protocol yao2018 chooses nothing at all: it is measured once.
    """
    out: dict[Policy, Setup] = {}
    for policy in UNDER:
        measure = replace(setup.measure, policy=policy)
        if policy == "fixed":
            measure = replace(measure, criterion=type(measure)().criterion)
        else:
            measure = replace(measure, protocols=[name for name in measure.protocols if name != YAO])
        out[policy] = replace(setup, measure=measure)
    return out


def _lacking(row: Row, here: str, waits: Sequence[str], setup: Setup) -> str:
    """Why a cell is not begun; "" where it is there, or may be."""
    if all(result_file(one, here).is_file() for one in measures_of(setup).values()):
        return ""
    if waits:
        return f"{WAITS} {', '.join(waits)}"
    reason = setup.lacking(row)
    # Else a reader who measures by another criterion would take trainings for lost.
    there = (predictions_folder(setup, here) / "meta.json").is_file()
    return f"predicted, not measured: {reason}" if reason and there else reason


def _measure_cell(row: Row, here: str, make: Callable[[], Path], films: Index, setup: Setup, bars: Bars) -> None:
    """See that a cell is measured under every policy, from the predictions that ``make`` says where to find."""
    for policy, one in measures_of(setup).items():
        done = result_file(one, here)
        if done.is_file():
            continue
        predictions = read_predictions(make())
        bar = partial(bars(f"{here}: measuring, {policy}"), total=len(predictions))
        scored = score_predictions(predictions, films, one.measure, bar)
        results = told_of(row, scored.results)
        name = label_of(results[0].method, results[0].variant)
        done.parent.mkdir(parents=True, exist_ok=True)
        # The results stand for the whole cell, so they come last.
        write_measured(_hits_file(done), measured_of(scored, films, name))
        write_results(done, results)


def _hits_file(results: Path) -> Path:
    folder = results.parent.with_name("hits")
    folder.mkdir(parents=True, exist_ok=True)
    return folder / results.name


def _combined(here: str, names: Sequence[str], films: Index, setup: Setup, bars: Bars) -> Path:
    """The consensus of a seed's members, with weights chosen on boxes of other patients."""
    out = predictions_folder(setup, here)
    if (out / "meta.json").is_file():
        return out
    members = join_members([predictions_folder(setup, name) for name in names])
    weights = chosen_weights(
        members, films, "validation", cells=members.cells, scale="tail", seed=setup.measure.seed,
        progress=bars(f"{here}: choosing weights"),
    )  # fmt: skip
    meta = describe(members, cells=members.cells, scale="tail", weights=weights.told, knows=weights.knows)
    write_consensus(members, weights.values, out, meta=meta, cells=members.cells, on_film=bars(f"{here}: combining"))
    return out


def _gathered(films: Index, setup: Setup, rows: Sequence[Row], missing: Mapping[str, str]) -> Comparison:
    blocks: dict[Policy, list[Result]] = {}
    by_seed: dict[Policy, list[Result]] = {}
    pairs: list[Difference] = []
    names: frozenset[str] = frozenset()
    grid = ""
    cells = {row: [s for s in setup.seeds if f"{row.name}-seed{s}" not in missing] for row in with_consensus(rows)}
    there = [(row, seed) for row, seeds in cells.items() for seed in seeds]
    for policy, one in measures_of(setup).items() if there else ():
        files = {(row, seed): result_file(one, f"{row.name}-seed{seed}") for row, seed in there}
        by_seed[policy] = [r for file in files.values() for r in read_results(file)]
        controls, measured = _controls(films, one, there[0])
        names = frozenset(r.method for r in controls)
        blocks[policy] = over_seeds(by_seed[policy]) + controls
        if policy == PAIRED_UNDER:
            ours = [
                merged
                for row, seeds in cells.items()
                if seeds
                for merged in _over_seeds([read_measured(_hits_file(files[row, seed])) for seed in seeds])
            ]
            pairs = list(_differences(ours, measured, films, setup))
    if there:
        row, seed = there[0]
        maps = read_predictions(predictions_folder(setup, f"{row.name}-seed{seed}")).maps
        grid = f"{row.name}, {maps.shape[3]} x {maps.shape[2]}"
    methods = tuple(_method(row, seeds, setup) for row, seeds in cells.items() if seeds)
    return Comparison(blocks, by_seed, methods, names, grid, pairs, tuple(missing.items()))


def _method(row: Row, seeds: Sequence[int], setup: Setup) -> Method:
    fixed = measures_of(setup)["fixed"]
    here = f"{row.name}-seed{seeds[0]}"
    first = read_results(result_file(fixed, here))[0]
    knows = read_json(predictions_folder(setup, here) / "meta.json").get("knows", "")
    return Method(first.method, first.variant, tuple(seeds), str(knows))


def _controls(films: Index, setup: Setup, like: tuple[Row, int]) -> tuple[list[Result], list[Measured]]:
    """The controls on the grid of a cell's maps, read if they are there."""
    row, seed = like
    done = result_file(setup, f"controls-like-{row.name}")
    if not done.is_file():
        predictions = read_predictions(predictions_folder(setup, f"{row.name}-seed{seed}"))
        scored: list[Scored] = score_controls(films, setup.measure, predictions)
        # Controls are scored on the boxed films alone, and methods on all: positions are in one or the other.
        at = np.array([i for i, r in enumerate(films.records) if r.boxes], dtype=np.int64)
        boxed = films.subset(at.tolist())
        alone = [m for one in scored for m in measured_of(one, boxed, one.results[0].method)]
        measured = [replace(m, film=at[m.film]) for m in alone]
        write_measured(_hits_file(done), measured)
        write_results(done, [r for one in scored for r in one.results])
    return read_results(done), read_measured(_hits_file(done))


def _over_seeds(cells: Sequence[Sequence[Measured]]) -> list[Measured]:
    """One method's cells as one: each of its quantities over the seeds."""
    return [measured_over_seeds(same) for same in zip(*cells, strict=True)]


def _differences(
    ours: Sequence[Measured], controls: Sequence[Measured], films: Index, setup: Setup
) -> Iterable[Difference]:
    """Of every two methods, then of every method and every control."""
    m = setup.measure
    for k, one in enumerate(ours):
        # That everybody is worse than a box drawn by the truth is no news.
        for other in (*ours[k + 1 :], *(c for c in controls if c.policy != "oracle")):
            if one.kind == other.kind:
                yield from paired_differences(one, other, films, seed=m.seed, resamples=m.resamples)
