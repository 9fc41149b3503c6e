"""``cxrlocus train``."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from cxrlocus.cli.common import add_cache, add_data, cache_folder, load_index, progress_bars, say
from cxrlocus.errors import ConfigError

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
        "--preset", default="paper", metavar="P", help="named set of options: paper (default), cpu, demo"
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="one option of the Config; may be repeated"
    )
    parser.add_argument(
        "--init", type=Path, metavar="WEIGHTS", help="safetensors weights of the backbone (timm's key names)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything random (default 0)")
    parser.add_argument("--accelerator", default="auto", help="cpu, gpu or auto (default)")
    parser.add_argument("--devices", type=int, default=1, help="devices a node (default 1)")
    parser.add_argument("--nodes", type=int, default=1, help="nodes (default 1)")
    add_cache(parser)


def run(args: argparse.Namespace) -> int:
    """Train, or go on training."""
    from cxrlocus.methods import get_method
    from cxrlocus.methods.base import Recipe
    from cxrlocus.training.machine import describe_machine, make_fabric
    from cxrlocus.training.run import RunInfo, file_hash, open_run

    method = get_method(args.method)
    options = parse_sets(args.set)
    if args.init is not None:
        options["pretrained"] = "false"
    config = method.configure(variant=args.variant, preset=args.preset, options=options)
    index = load_index(args).split("train", "val")
    info = RunInfo(
        method=method.name,
        variant=args.variant,
        preset=args.preset,
        config=asdict(config),
        findings=list(index.findings),
        dataset=index.dataset,
        index_hash=index.hash,
        hashes=dict(index.hashes),
        seed=args.seed,
        init=file_hash(args.init) if args.init else "",
        machine=describe_machine(),
    )
    fabric = make_fabric(config.precision, accelerator=args.accelerator, devices=args.devices, nodes=args.nodes)
    if fabric.is_global_zero:
        open_run(args.out, info)
    fabric.barrier()
    with progress_bars() as bars:
        method.train(
            Recipe(
                args.out,
                index,
                config,
                args.seed,
                fabric,
                cache_folder(args),
                init=args.init,
                on_step=bars("training") if fabric.is_global_zero else None,
                on_film=bars("films") if fabric.is_global_zero else None,
            )
        )
    if fabric.is_global_zero:
        say(f"trained: {args.out}")
    return 0


def parse_sets(texts: list[str]) -> dict[str, str]:
    """``["a=1", "b=x"]`` as a dict.

    Raises:
        ConfigError: a text has no "=".
    """
    pairs = [text.partition("=") for text in texts]
    for name, equals, value in pairs:
        if not (name and equals and value):
            raise ConfigError(f"--set takes NAME=VALUE; got {name + equals + value!r}.")
    return {name: value for name, _, value in pairs}
