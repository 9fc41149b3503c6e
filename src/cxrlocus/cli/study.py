"""``cxrlocus study``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
    from cxrlocus.study.papers import Setup

HELP = "train and measure every row of a paper's tables, ours beside theirs"
STUDY_HELP = (
    "wang2017, infomask2019, yao2018, cai2018, kim2021 or all; "
    "infomask2019-alpha and yao2018-resolution vary one option"
)
APART = "As printed by the papers, on other films: only the order of the rows compares"
EXAMPLE = "cxrlocus study wang2017 --data NIH --out study --seeds 0 1 2"


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
        help="one option, of all rows or (VARIANT.NAME=VALUE) of one variant; may be repeated",
    )
    parser.add_argument(
        "--init",
        type=Path,
        metavar="WEIGHTS",
        help="safetensors weights of a timm backbone, for the rows that have one; the papers' own networks begin from "
        "scratch",
    )
    parser.add_argument("--policy", choices=("fixed", "validation", "oracle"), default="fixed")
    parser.add_argument(
        "--criterion",
        choices=("fpr_fnr", "iop", "dice"),
        help="protocol infomask2019: what validation and oracle choose a mask's level by (default fpr_fnr)",
    )
    parser.add_argument("--split", default="test", help="the measured films (default test)")
    add_cache(parser)


def run(args: argparse.Namespace) -> int:
    """Run the study and write its tables."""
    from cxrlocus.cli.evaluate import tables
    from cxrlocus.files import write_text_whole
    from cxrlocus.protocols.result import write_results
    from cxrlocus.report.curves import option_figure
    from cxrlocus.report.published import published_results
    from cxrlocus.study.papers import STUDIES, Setup, protocol_of, run_study, unreadable
    from cxrlocus.study.score import Measure

    check_folder_to_write(args.out)
    if args.paper not in (*STUDIES, "all"):
        raise ConfigError(f"study must be one of {', '.join(STUDIES)} or all; got {args.paper!r}.")
    papers = list(STUDIES) if args.paper == "all" else [args.paper]
    check_criterion(args, [protocol_of(paper) for paper in papers])
    index = load_index(args)
    for paper in papers:
        out = args.out / paper
        setup = Setup(
            out, cache_folder(args), args.seeds, args.preset, parse_sets(args.set), args.init,
            Measure((protocol_of(paper),), args.policy, seed=0, **criterion(args, protocol_of(paper))), args.split,
        )  # fmt: skip
        with progress_bars() as bars:
            results, controls = run_study(paper, index, setup, bars)
        list_dropped(unreadable(paper, setup), "films could not be read: not learned from, not predicted")
        printed = published_results(protocol_of(paper)) if "-" not in paper else []
        beside = [r for r in printed if r.dataset == index.dataset]
        rows, written = (out / f"{what}-{setup.measure.told}" for what in ("results", "tables"))
        write_results(rows.with_suffix(".json"), results)
        text = [heading(paper, index, setup), *tables(results + beside, controls, markdown=True)]
        if apart := [r for r in printed if r.dataset != index.dataset]:
            text += [f"## {APART}\n", *tables(apart, frozenset(), markdown=True)]
        write_text_whole(written.with_suffix(".md"), "\n".join(text))
        varied = {name for row in STUDIES[paper] for name, _ in row.options} if "-" in paper else set()
        for option in varied:
            (out / f"{option}-{setup.measure.told}.svg").write_bytes(option_figure(results, option))
        for table in tables(results + beside, controls):
            print(table)
        say(f"rows: {rows.with_suffix('.json')}; tables: {written.with_suffix('.md')}")
    return 0


def check_criterion(args: argparse.Namespace, protocols: Sequence[str]) -> None:
    """See that ``--criterion`` has something to choose.

    Raises:
        ConfigError: it has not.
    """
    if args.criterion is None:
        return
    if args.policy == "fixed":
        raise ConfigError("--criterion chooses nothing under --policy fixed; give --policy validation or oracle.")
    if not any(criterion(args, protocol) for protocol in protocols):
        raise ConfigError(f"--criterion acts on protocol infomask2019 alone, not on {args.paper}'s; leave it out.")


def criterion(args: argparse.Namespace, protocol: str) -> dict[str, Any]:
    """The criterion as an option of a Measure; none where it is not given, or would choose nothing."""
    from cxrlocus.protocols.infomask2019 import NAME

    return {"criterion": args.criterion} if args.criterion and protocol == NAME else {}


def heading(paper: str, index: Index, setup: Setup) -> str:
    """What stands above a study's tables: what was trained and measured, and how to read the numbers."""
    films = index if setup.split == "all" else index.split(setup.split)
    options = ", ".join(f"{name}={text}" for name, text in setup.options.items()) or "none"
    several = len(setup.seeds) > 1
    spread = (
        f"t intervals over {len(setup.seeds)} seeds" if several else "over patients: one seed, no doubt of training"
    )
    lines = (
        f"- measured: split {setup.split} of {index.dataset}, {len(films)} films of {len(set(films.patients))} "
        f"patients, {films.box_count} boxes; policy {setup.measure.told}",
        f"- trained: preset {setup.preset}, seeds {', '.join(map(str, setup.seeds))}; options: {options}; "
        f"first weights of timm backbones: {setup.init.name if setup.init else 'as the preset has them'}",
        f"- intervals: 95 %; of methods {spread}; of controls (in italics) over patients",
        "- bold: the best of the methods that have not seen the measured boxes",
    )
    return "\n".join((f"# Study {paper}\n", *lines, ""))
