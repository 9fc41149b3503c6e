"""``cxrlocus train``."""

from __future__ import annotations

import argparse
from pathlib import Path

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

HELP = "train a method from image-level labels"
EXAMPLE = "cxrlocus train cam --data NIH --out runs/cam --preset cpu --init mobilenetv2_100.safetensors"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument("method", metavar="METHOD", help="method id, e.g. cam")
    add_data(parser)
    parser.add_argument(
        "--out", type=Path, required=True, metavar="RUN", help="run folder; the same command goes on in it"
    )
    parser.add_argument("--variant", default="", metavar="V", help="named variant of the method, e.g. lse")
    parser.add_argument(
        "--preset",
        default="paper",
        metavar="P",
        help="named set of options: paper (default), cpu, demo; drawn: small-data",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="one option of the Config; may be repeated"
    )
    parser.add_argument(
        "--init", type=Path, metavar="WEIGHTS", help="safetensors weights of the backbone (timm's key names)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default 0)")
    parser.add_argument("--accelerator", choices=("auto", "cpu", "gpu"), default="auto", help="default auto")
    parser.add_argument("--devices", type=int, default=1, help="devices a node (default 1)")
    parser.add_argument("--nodes", type=int, default=1, help="nodes (default 1)")
    add_cache(parser)


def run(args: argparse.Namespace) -> int:
    """Train, or go on training."""
    from cxrlocus.study.steps import Job, train_run

    job = Job(
        args.method, args.variant, args.preset, parse_sets(args.set), args.seed, args.init,
        args.accelerator, args.devices, args.nodes,
    )  # fmt: skip
    check_folder_to_write(args.out)
    index = load_index(args)
    with progress_bars() as bars:
        speaks = train_run(job, index, args.out, cache=cache_folder(args), bars=bars)
    if speaks:
        tell_unreadable(args.out)
        say(f"trained: {args.out}")
    return 0


def tell_unreadable(folder: Path) -> None:
    """List the films that training had to leave out, as the run folder's split.json has them."""
    from cxrlocus.data.records import Dropped
    from cxrlocus.training.checkpoint import read_json

    split = folder / "split.json"
    if split.is_file():
        dropped = [Dropped(item, reason) for item, reason in read_json(split)["unreadable"]]
        list_dropped(dropped, "films could not be read and were not trained on")
