"""``cxrlocus sanity``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cxrlocus.cli.common import (
    add_cache,
    add_data,
    cache_folder,
    check_folder_to_write,
    load_index,
    progress_bars,
    say,
)

HELP = "check a run: do its maps need its weights, see a planted lesion, look past a marker?"
EXAMPLE = "cxrlocus sanity runs/cam --data NIH --out sanity"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="run folder of `cxrlocus train`")
    add_data(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of sanity.json and pictures")
    parser.add_argument("--split", default="test", help="whose films: train, val, test or all (default test)")
    parser.add_argument(
        "--films", type=int, default=100, help="boxed films, and films without a finding, at most (default 100)"
    )
    parser.add_argument(
        "--contrast",
        type=float,
        default=0.8,
        metavar="X",
        help="of planted lesions: 0 the phantom's faintest, 1 its plainest (default 0.8)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default 0)")
    add_cache(parser)


def run(args: argparse.Namespace) -> int:
    """Check and print the verdicts; a run that fails is no error of the command."""
    from cxrlocus.study.sanity import SanityOptions, check_sanity

    options = SanityOptions(args.split, args.films, args.contrast, args.seed)
    check_folder_to_write(args.out)
    index = load_index(args)
    with progress_bars() as bars:
        result = check_sanity(args.run_folder, index, args.out, options, cache=cache_folder(args), bars=bars)
    for line in told(result):
        print(line)
    say(f"rows: {args.out / 'sanity.json'}; pictures: {args.out / 'pictures'}")
    return 0


TITLES = {
    "weights": "Maps under randomized weights must lose their accuracy",
    "lesions": "A planted lesion must draw the map there",
    "markers": "A marker must not",
}


def told(result: Mapping[str, Any]) -> list[str]:
    """Verdicts and rows as lines; the last names what fails, and what could not be judged."""
    name = " ".join(filter(None, (result["method"], result["variant"])))
    lines = []
    for verdict in result["verdicts"]:
        lines += ["", f"{TITLES[verdict['check']]}: {verdict['verdict'].upper()}", f"  {verdict['reason']}"]
        lines += [_line(row) for row in _shown([r for r in result["rows"] if r["check"] == verdict["check"]])]
    by = {word: [v["check"] for v in result["verdicts"] if v["verdict"] == word] for word in ("fail", "undecided")}
    undecided = f"; undecided: {', '.join(by['undecided'])}" if by["undecided"] else ""
    return [*lines, f"\n{name} ({result['run']}) fails: {', '.join(by['fail']) or 'none'}{undecided}"]


def _shown(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The rows of one check; of a marker's numbers for each finding the greatest alone."""
    from cxrlocus.study.sanity.changes import OF_EACH

    kept = []
    for row in rows:
        each = next((start for start in OF_EACH if row["quantity"].startswith(start)), None)
        peers = [r for r in rows if each and r["subject"] == row["subject"] and r["quantity"].startswith(each)]
        if not peers or row is max(peers, key=lambda r: abs(r["value"] or 0.0)):
            kept.append(row)
    return kept


def _line(row: Mapping[str, Any]) -> str:
    value = "-" if row["value"] is None else f"{row['value']:.3f}"
    span = "" if row["lo"] is None else f" [{row['lo']:.3f}, {row['hi']:.3f}]"
    return f"  {row['subject']:<14}{row['quantity']:<28}{value:>8}{span:<20} n = {row['n']}"
