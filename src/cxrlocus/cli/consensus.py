"""``cxrlocus consensus``."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cxrlocus.cli.common import add_data, check_folder_to_write, load_index, progress_bar, say
from cxrlocus.errors import ConfigError

if TYPE_CHECKING:
    from cxrlocus.prediction.consensus import Members
    from cxrlocus.regions.shares import Scale
    from cxrlocus.study.weights import Weights

HELP = "several predictions of the same films as one: maps on a shared scale, averaged"
EXAMPLE = """cxrlocus consensus pred/cam pred/yao pred/kim --out pred/consensus
  cxrlocus consensus pred/cam pred/yao --data NIH --weights validation --out pred/chosen"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.set_defaults(files="predictions")
    parser.add_argument("predictions", type=Path, nargs="+", metavar="PRED", help="two or more predictions folders")
    add_data(parser, required=False)
    parser.add_argument("--out", type=Path, required=True, metavar="PRED", help="predictions folder")
    parser.add_argument(
        "--weights",
        default="equal",
        metavar="W",
        help="equal (default), numbers (2,1,1), validation (each half of the patients by the other's boxes; "
        "needs --data), or oracle (by the test boxes: a bound)",
    )
    parser.add_argument(
        "--scale",
        choices=("tail", "rank"),
        default="tail",
        help="a cell becomes the logarithm of the share of the film that is hotter (default), or its rank",
    )
    parser.add_argument("--grid", type=int, metavar="N", help="cells a side (default: the finest map's, at most 64)")
    parser.add_argument("--seed", type=int, default=0, help="of the halves: that of `evaluate` (default 0)")


def run(args: argparse.Namespace) -> int:
    """Combine, or go on combining."""
    from cxrlocus.prediction.consensus import describe, join_members, write_consensus
    from cxrlocus.prediction.store import check_place

    check_folder_to_write(args.out)
    check_place(args.out)
    if args.out.resolve() in {folder.resolve() for folder in args.predictions}:
        raise ConfigError(f"{args.out}: --out must not be one of the combined folders. Give another.")
    members = join_members(args.predictions)
    cells = members.cells if args.grid is None else args.grid
    if not 1 <= cells <= 1024:
        raise ConfigError(f"--grid must be from 1 to 1024 cells; got {cells}.")
    for item, reason in members.left_out[:5]:
        say(f"left out: {item} ({reason})")
    if len(members.left_out) > 5:
        say(f"... and {len(members.left_out) - 5} more; meta.json lists them")
    with progress_bar("choosing weights") as bar:
        weights = _weights(args, members, cells, bar)
    meta = describe(members, cells=cells, scale=args.scale, weights=weights.told, knows=weights.knows)
    with progress_bar("combining") as bar:
        write_consensus(members, weights.values, args.out, meta=meta, cells=cells, scale=args.scale, on_film=bar)
    _tell(weights)
    say(f"combined: {args.out} ({len(members)} members, {len(members.images)} films)")
    return 0


def _weights(args: argparse.Namespace, members: Members, cells: int, bar: Callable[..., None]) -> Weights:
    from cxrlocus.study.weights import chosen_weights, fixed_weights

    scale: Scale = args.scale
    if args.weights in ("validation", "oracle"):
        if not args.data:
            raise ConfigError(f"--weights {args.weights} is chosen by a data set's boxes; give --data ROOT.")
        index = load_index(args)
        return chosen_weights(members, index, args.weights, cells=cells, scale=scale, seed=args.seed, progress=bar)
    if args.data:
        raise ConfigError(
            f"--data serves --weights validation or oracle, and --weights is {args.weights}; leave it out."
        )
    if args.weights == "equal":
        return fixed_weights(members)
    try:
        given = [float(word) for word in args.weights.split(",")]
    except ValueError as error:
        raise ConfigError(
            f"--weights must be equal, validation, oracle or numbers such as 2,1,1; got {args.weights!r}."
        ) from error
    return fixed_weights(members, given)


def _tell(weights: Weights) -> None:
    halves = weights.told.get("halves", ({}, {}))
    for finding in halves[0]:
        one, other = (" ".join(f"{w:.2f}" for w in half[finding]) for half in halves)
        say(f"{finding}: weights {one}" + ("" if one == other else f" and, in the other half, {other}"))
