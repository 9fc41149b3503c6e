"""``cxrlocus study``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cxrlocus.cli.common import (
    add_cache,
    add_data,
    cache_folder,
    check_folder_to_write,
    list_dropped,
    load_index,
    parse_sets,
    progress_bars,
    say,
)
from cxrlocus.errors import ConfigError

if TYPE_CHECKING:
    from cxrlocus.data.records import Index
    from cxrlocus.study.rows import Row
    from cxrlocus.study.setup import Setup

HELP = "train and measure every row of a paper's tables, ours beside theirs; or all methods side by side"
STUDY_HELP = (
    "wang2017, infomask2019, yao2018, cai2018 or kim2021; infomask2019-alpha and yao2018-resolution vary one option; "
    "all compares the methods, by every protocol and policy"
)
UNREAD = "films could not be read: not learned from, not predicted"
APART = "As printed by the papers, on other films: only the order of the rows compares"
EXAMPLE = """cxrlocus study wang2017 --data NIH --out study --seeds 0 1 2
  cxrlocus study all --data NIH --out study --budget 600"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("paper", metavar="PAPER", help=STUDY_HELP)
    add_data(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder; a second call goes on in it")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], help="runs of each row (default 0 1 2)")
    parser.add_argument("--preset", default="paper", metavar="P", help="of the training: paper (default), cpu, demo")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="one option, of all rows or (METHOD.NAME=VALUE, VARIANT.NAME=VALUE) of some; may be repeated. "
        "With all, size=N is the side of every row's films (512, 256 or 128 by preset)",
    )
    parser.add_argument(
        "--init",
        type=Path,
        metavar="WEIGHTS",
        help="safetensors weights of a timm backbone, for the rows that have one; the papers' own networks begin from "
        "scratch",
    )
    parser.add_argument(
        "--budget",
        type=float,
        metavar="MINUTES",
        help="begin no training once they are over (one under way is finished); the same command goes on",
    )
    parser.add_argument(
        "--rows",
        nargs="+",
        default=[],
        metavar="ROW",
        help="begin cells of these rows alone, named as in predictions/ without the seed; the same command with other "
        "rows, or without, goes on",
    )
    parser.add_argument(
        "--policy",
        choices=("fixed", "validation", "oracle"),
        help="of map thresholds (default fixed); all measures by each of them",
    )
    parser.add_argument(
        "--criterion",
        choices=("fpr_fnr", "iop", "dice"),
        help="protocol infomask2019: what validation and oracle choose a mask's level by (default fpr_fnr)",
    )
    parser.add_argument("--split", default="test", help="the measured films (default test)")
    add_cache(parser)


def run(args: argparse.Namespace) -> int:
    """Run the study and write its tables."""
    from cxrlocus.cli.study_all import run_all
    from cxrlocus.study.rows import STUDIES

    check_folder_to_write(args.out)
    if args.paper == "all":
        return run_all(args)
    if args.paper not in STUDIES:
        raise ConfigError(f"study must be one of {', '.join(STUDIES)} or all; got {args.paper!r}.")
    args.policy = args.policy or "fixed"
    check_criterion(args)
    _run_paper(args, load_index(args))
    return 0


def _run_paper(args: argparse.Namespace, index: Index) -> None:
    from cxrlocus.cli.evaluate import tables
    from cxrlocus.files import write_text_whole
    from cxrlocus.protocols.result import write_results
    from cxrlocus.protocols.yao2018 import NAME as YAO
    from cxrlocus.report.curves import option_figure
    from cxrlocus.report.published import published_results
    from cxrlocus.study.cells import unreadable
    from cxrlocus.study.papers import run_study
    from cxrlocus.study.rows import STUDIES, protocol_of

    paper = args.paper
    setup = setup_of(args)
    with progress_bars() as bars:
        study = run_study(paper, index, setup, bars)
    results = study.results
    list_dropped(unreadable(STUDIES[paper], setup), UNREAD)
    printed = published_results(protocol_of(paper)) if "-" not in paper else []
    beside = [r for r in printed if r.dataset == index.dataset]
    rows, written = (setup.out / f"{what}-{setup.measure.told}" for what in ("results", "tables"))
    write_results(rows.with_suffix(".json"), results)
    text = [heading(paper, index, setup), *tables(results + beside, study.controls, markdown=True)]
    if apart := [r for r in printed if r.dataset != index.dataset]:
        text += [f"## {APART}\n", *tables(apart, frozenset(), markdown=True)]
    if study.missing:
        text.append("Missing: " + ", ".join(study.missing) + ".\n")
    write_text_whole(written.with_suffix(".md"), "\n".join(text))
    varied = {name for row in STUDIES[paper] for name, _ in row.options} if "-" in paper else set()
    for option in varied:
        (setup.out / f"{option}-{setup.measure.told}.svg").write_bytes(option_figure(results, option))
    if protocol_of(paper) == YAO:
        write_maps(setup.out / f"maps-{setup.measure.told}.png", STUDIES[paper], index, setup)
    for table in tables(results + beside, study.controls):
        print(table)
    say(f"rows: {rows.with_suffix('.json')}; tables: {written.with_suffix('.md')}")
    tell_unfinished(study.missing, len(STUDIES[paper]) * len(setup.seeds), setup)


def write_maps(out: Path, rows: Sequence[Row], index: Index, setup: Setup) -> None:
    """Draw the first seed's maps of every row that is done, side by side on the same films (Fig. 1 and 3 of Yao)."""
    from cxrlocus.prediction.store import read_predictions
    from cxrlocus.report.maps import map_sheet

    folders = {
        row.told or row.variant or row.method: setup.out / "predictions" / f"{row.name}-seed{setup.seeds[0]}"
        for row in rows
    }
    done = {name: read_predictions(folder) for name, folder in folders.items() if (folder / "meta.json").is_file()}
    if picture := map_sheet(setup.films(index), done):
        out.write_bytes(picture)


def setup_of(args: argparse.Namespace) -> Setup:
    """What the arguments say of all rows."""
    from cxrlocus.study.rows import protocol_of
    from cxrlocus.study.score import Measure
    from cxrlocus.study.setup import Budget, Setup

    protocol = protocol_of(args.paper)
    chosen = {"criterion": args.criterion} if args.criterion else {}
    # What ``all`` measures by is its own affair.
    named = {} if args.paper == "all" else {"protocols": (protocol,), "policy": args.policy}
    return Setup(
        args.out / args.paper, cache_folder(args), args.seeds, args.preset, parse_sets(args.set), args.init,
        Measure(**named, **chosen), args.split, Budget(args.budget), args.rows,
    )  # fmt: skip


def tell_unfinished(missing: Sequence[str], cells: int, setup: Setup) -> None:
    """Say what a budget, or a choice of rows, left undone."""
    if missing:
        named = ", ".join(missing[:6]) + (" ..." if len(missing) > 6 else "")
        same = "the same command without --rows goes on" if setup.rows else "the same command goes on"
        say(f"missing: {len(missing)} of {cells} cells ({named}); {same}")


def check_criterion(args: argparse.Namespace) -> None:
    """See that ``--criterion`` has something to choose.

    Raises:
        ConfigError: it has not.
    """
    from cxrlocus.protocols.infomask2019 import NAME
    from cxrlocus.study.rows import protocol_of

    if args.criterion is None:
        return
    if args.policy == "fixed":
        raise ConfigError("--criterion chooses nothing under --policy fixed; give --policy validation or oracle.")
    if protocol_of(args.paper) != NAME:
        raise ConfigError(f"--criterion acts on protocol {NAME} alone, not on {args.paper}'s; leave it out.")


def heading(paper: str, index: Index, setup: Setup) -> str:
    """What stands above a study's tables: what was trained and measured, and how to read the numbers."""
    lines = (
        f"- measured: {measured_films(index, setup)}; policy {setup.measure.told}",
        trained_line(setup),
        f"- intervals: 95 %; of methods {spread_of(setup)}; of controls (in italics) over patients",
        "- bold: the best of the methods that have not seen the measured boxes",
    )
    return "\n".join((f"# Study {paper}\n", *lines, ""))


def measured_films(index: Index, setup: Setup) -> str:
    """The measured films in words."""
    films = setup.films(index)
    normal = sum(r.is_normal for r in films.records)
    return (
        f"split {setup.split} of {index.dataset}, {len(films)} films of {len(set(films.patients))} patients "
        f"({normal or 'none'} without a finding), {films.box_count} boxes"
    )


def trained_line(setup: Setup) -> str:
    """How the rows were trained, in words."""
    options = ", ".join(f"{name}={text}" for name, text in setup.options.items()) or "none"
    return (
        f"- trained: preset {setup.preset}, seeds {', '.join(map(str, setup.seeds))}; options: {options}; "
        f"first weights of timm backbones: {setup.init.name if setup.init else 'as the preset has them'}"
    )


def spread_of(setup: Setup) -> str:
    """What the methods' intervals are over."""
    several = len(setup.seeds) > 1
    return f"t intervals over {len(setup.seeds)} seeds" if several else "over patients: one seed, no doubt of training"
