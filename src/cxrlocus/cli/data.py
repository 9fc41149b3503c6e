"""``cxrlocus data phantom`` and ``cxrlocus data check``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cxrlocus.cli.common import progress_bar, say

HELP = "make a phantom data set, or check one"
EXAMPLE = "cxrlocus data phantom films --images 2000 --size 256 && cxrlocus data check films"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    phantom = actions.add_parser(
        "phantom", help="write phantom films in NIH layout, with exact masks", allow_abbrev=False
    )
    phantom.add_argument("root", type=Path, metavar="DIR")
    phantom.add_argument("--images", type=int, default=2000, metavar="N", help="films (default 2000)")
    phantom.add_argument("--size", type=int, default=256, metavar="S", help="side in pixels (default 256)")
    phantom.add_argument("--seed", type=int, default=0)
    phantom.add_argument(
        "--test-fraction", type=float, default=0.25, help="share of the patients in the test list (default .25)"
    )
    phantom.add_argument(
        "--label-noise", type=float, default=0.0, help="probability that a label is flipped (default 0)"
    )
    phantom.add_argument("--workers", type=int, help="processes (default: one a core)")
    check = actions.add_parser("check", help="index, verify, count and hash a data set", allow_abbrev=False)
    check.add_argument("root", type=Path, metavar="ROOT")
    check.add_argument("--dataset", default="auto", help="nih, rsna, rsna-normal, folder or auto (default)")
    check.add_argument("--no-read", action="store_true", help="do not open the films")
    check.add_argument("--strict", action="store_true", help="exit 1 if anything was left out or cannot be read")


def run(args: argparse.Namespace) -> int:
    """Make or check."""
    return _phantom(args) if args.action == "phantom" else _check(args)


def _phantom(args: argparse.Namespace) -> int:
    from cxrlocus.data.phantom import write_phantom

    with progress_bar("phantom films") as bar:
        write_phantom(
            args.root,
            images=args.images,
            size=args.size,
            seed=args.seed,
            test_fraction=args.test_fraction,
            label_noise=args.label_noise,
            workers=args.workers,
            progress=lambda done: bar(done, args.images),
        )
    say(f"written: {args.root}")
    return 0


def _check(args: argparse.Namespace) -> int:
    from cxrlocus.data import open_index
    from cxrlocus.data.check import check_dataset

    index = open_index(args.root, args.dataset)
    with progress_bar("reading films") as bar:
        report = check_dataset(index, read=not args.no_read, progress=bar)
    print("\n".join(report.lines(limit=sys.maxsize)))
    nothing = not args.no_read and len(report.unreadable) == len(index)
    return 1 if nothing or (args.strict and (index.dropped or report.unreadable or report.suspect)) else 0
