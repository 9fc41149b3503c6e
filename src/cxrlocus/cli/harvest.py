"""``cxrlocus harvest``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cxrlocus.cli.common import add_data, list_dropped, load_index, progress_bar, say

if TYPE_CHECKING:
    from cxrlocus.harvest.run import Harvest
    from cxrlocus.harvest.summary import Summary

HELP = "boxes for the labelled findings of a whole archive; resumable"
EXAMPLE = """cxrlocus harvest runs/cam --data NIH --out boxes --min-prob 0.3
  cxrlocus evaluate boxes/boxes.csv --data NIH --split all"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="run folder of `cxrlocus train`")
    add_data(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder; a second call goes on in it")
    parser.add_argument("--split", default="all", help="train, val, test or all (default all films)")
    parser.add_argument(
        "--rule",
        choices=("peak_component", "fixed_thresholds", "several_thresholds"),
        default="peak_component",
        help="how boxes are drawn on a map (default peak_component: one box around the peak's region)",
    )
    parser.add_argument(
        "--threshold", type=float, nargs="+", default=[], metavar="H",
        help="of the rule, in [0, 1): 0 is a map's least value, 1 its greatest (default: the rule's own)",
    )  # fmt: skip
    parser.add_argument(
        "--min-prob", type=float, default=0.0, metavar="P", help="only findings at least this probable (default 0: all)"
    )
    parser.add_argument(
        "--unlabelled", action="store_true", help="look for every finding, not only those that a film's label names"
    )
    parser.add_argument("--batch", type=int, default=32, help="films a forward pass (default 32)")
    parser.add_argument(
        "--shard", type=int, default=512, help="films between two moments that it can go on from (default 512)"
    )
    parser.add_argument("--strict", action="store_true", help="exit 1 if any film was left out")


def run(args: argparse.Namespace) -> int:
    """Harvest, or go on harvesting."""
    from cxrlocus.harvest.options import Options, make_rule
    from cxrlocus.harvest.trained import harvest_run

    rule = make_rule(args.rule, args.threshold)
    options = Options(rule, args.min_prob, args.unlabelled, args.batch, args.shard)
    whole = load_index(args)
    index = whole if args.split == "all" else whole.split(args.split)
    with progress_bar("harvesting") as bar:
        done = harvest_run(args.run_folder, index, args.out, options, split=args.split, on_film=bar)
    return _tell(done, strict=args.strict)


def _tell(done: Harvest, *, strict: bool) -> int:
    from cxrlocus.data.records import Dropped
    from cxrlocus.harvest.export import has_parquet
    from cxrlocus.harvest.summary import table

    summary = done.summary
    list_dropped([Dropped(*one) for one in summary.unreadable], "films could not be read")
    list_dropped([Dropped(*one) for one in summary.failed], "maps could not be boxed")
    print("\n".join(table(summary)))
    _tell_precision(summary)
    if summary.beyond:
        named = ", ".join(f"{finding} (on {films} films)" for finding, films in summary.beyond.items())
        say(f"not looked for, as the run does not know them: {named}")
    if not has_parquet():
        say("no boxes.parquet: pyarrow is not installed (pip install pyarrow, then the same command again)")
    say(f"written: {', '.join(str(path) for path in done.files)}")
    looked = f"{summary.readable} of {summary.films} films at {summary.images_per_second:.1f} images/s"
    say(f"{summary.boxes} boxes on {looked}")
    return 1 if strict and (summary.unreadable or summary.failed) else 0


def _tell_precision(summary: Summary) -> None:
    measured = sum(one.measured for one in summary.findings)
    if measured:
        say(f"stated precision: of the {measured} rank-1 boxes beside a true box of their finding; unknown elsewhere")
    else:
        say("precision: unknown, for no harvested box stands beside a true box of its finding")
