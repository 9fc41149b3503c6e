"""``cxrlocus data phantom``, ``cxrlocus data check`` and ``cxrlocus data split``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from cxrlocus.cli.common import LAYOUTS, check_folder_to_write, progress_bar, say
from cxrlocus.errors import ConfigError

HELP = "make a phantom data set, check a data set, or draw its splits"
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
        "--test-fraction",
        type=float,
        default=0.25,
        help="share of the films in the test list, by patient (default .25)",
    )
    phantom.add_argument(
        "--label-noise", type=float, default=0.0, help="probability that a label is flipped (default 0)"
    )
    phantom.add_argument(
        "--weight", action="append", default=[], metavar="FINDING=W",
        help="how often a finding is drawn, beside 1 for each other; may be repeated",
    )  # fmt: skip
    phantom.add_argument(
        "--normal-share", type=float, metavar="P", help="share of the films without a finding (default .47)"
    )  # fmt: skip
    phantom.add_argument(
        "--extra-finding", type=float, metavar="P",
        help="probability of a second finding where there is one, and of a third where there are two (default .36)",
    )  # fmt: skip
    phantom.add_argument("--workers", type=int, help="processes (default: one a core)")
    check = actions.add_parser("check", help="index, verify, count and hash a data set", allow_abbrev=False)
    check.add_argument("root", type=Path, metavar="ROOT")
    check.add_argument("--dataset", default="auto", help=LAYOUTS)
    check.add_argument("--no-read", action="store_true", help="do not open the films")
    check.add_argument("--strict", action="store_true", help="exit 1 if anything was left out or cannot be read")
    split = actions.add_parser(
        "split", help="draw train, val and test by patient and write them as lists", allow_abbrev=False
    )
    split.add_argument("root", type=Path, metavar="ROOT", help="folder of the data set; a test split there is kept")
    split.add_argument("--dataset", default="auto", help=LAYOUTS)
    split.add_argument("--seed", type=int, default=0, help="another seed, another draw (default 0)")
    split.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="folder of the lists; in ROOT itself they take effect"
    )


def run(args: argparse.Namespace) -> int:
    """Make, check or split."""
    return {"phantom": _phantom, "check": _check, "split": _split}[args.action](args)


def _phantom(args: argparse.Namespace) -> int:
    from cxrlocus.data.phantom import Parameters, write_phantom

    weights = {**Parameters().weights, **_weights(args.weight)}
    shares = {"normal_share": args.normal_share, "extra_finding": args.extra_finding}
    given = {name: share for name, share in shares.items() if share is not None}
    with progress_bar("phantom films") as bar:
        write_phantom(
            args.root,
            images=args.images,
            size=args.size,
            seed=args.seed,
            test_fraction=args.test_fraction,
            label_noise=args.label_noise,
            workers=args.workers,
            parameters=Parameters(weights=weights, **given),
            progress=lambda done: bar(done, args.images),
        )
    say(f"written: {args.root}")
    return 0


def _weights(texts: list[str]) -> dict[str, float]:
    try:
        return {finding: float(weight) for finding, _, weight in (text.partition("=") for text in texts)}
    except ValueError as error:
        raise ConfigError(f"--weight takes FINDING=W, W a number; got {' '.join(texts)}.") from error


def _check(args: argparse.Namespace) -> int:
    from cxrlocus.data import open_index
    from cxrlocus.data.check import check_dataset

    index = open_index(args.root, args.dataset)
    with progress_bar("reading films") as bar:
        report = check_dataset(index, read=not args.no_read, progress=bar)
    print("\n".join(report.lines(limit=sys.maxsize)))
    nothing = not args.no_read and len(report.unreadable) == len(index)
    return 1 if nothing or (args.strict and (index.dropped or report.unreadable or report.suspect)) else 0


def _split(args: argparse.Namespace) -> int:
    from cxrlocus.data import open_index
    from cxrlocus.data.nih_names import RSNA
    from cxrlocus.data.rsna import write_rsna_split
    from cxrlocus.data.splits import LIST_FILES, read_split, split_films, write_lists

    out: Path = args.out
    check_folder_to_write(out)
    index = open_index(args.root, args.dataset)
    if index.dataset in RSNA:
        out.mkdir(parents=True, exist_ok=True)
        hashes = write_rsna_split(args.root, seed=args.seed, out=out)
    else:
        splits = split_films(index, seed=args.seed)
        if out.resolve() == args.root.resolve() and (out / LIST_FILES["test"]).exists():
            # The list that the test split came from stays as it is.
            splits = {film: split for film, split in splits.items() if split != "test"}
        out.mkdir(parents=True, exist_ok=True)
        hashes = write_lists(out, splits)
    boxed = {r.image for r in index.records if r.boxes}
    for name, sha256 in hashes.items():
        films = read_split(out / name, sha256)
        print(f"{out / name}: {len(films)} films, {len(boxed.intersection(films))} with boxes, sha256 {sha256}")
    return 0
