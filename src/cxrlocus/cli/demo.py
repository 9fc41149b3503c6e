"""``cxrlocus demo``."""

from __future__ import annotations

import argparse
from pathlib import Path

from cxrlocus.cli.common import say

HELP = "phantom films -> train -> predict -> evaluate -> report.html; no data needed"
EXAMPLE = "cxrlocus demo --out demo"

FILMS = 6000
"""Films of the short demo: a quarter of the patients are measured, the rest trained on."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("demo"),
        metavar="DIR",
        help="folder (default demo); a second call goes on in it",
    )
    parser.add_argument(
        "--full", action="store_true", help="three times the films, twice the pixels: an hour instead of minutes"
    )
    parser.add_argument("--seed", type=int, default=0)


def run(args: argparse.Namespace) -> int:
    """Each step is the verb a user would call; a step that is done is not done again."""
    from cxrlocus.cli import main

    films, run_folder, pred, page = (args.out / part for part in ("films", "run", "predictions", "page"))
    count, size = (3 * FILMS, 256) if args.full else (FILMS, 128)
    cache = ["--cache", str(args.out / "cache")]
    steps: list[tuple[Path | None, list[str]]] = [
        (None, ["data", "phantom", str(films), "--images", str(count), "--size", "256"]),
        (
            run_folder / "base" / "manifest.json",
            [
                "train",
                "cam",
                "--data",
                str(films),
                "--out",
                str(run_folder),
                "--preset",
                "demo",
                "--set",
                f"size={size}",
                *cache,
            ],
        ),
        (
            pred / "meta.json",
            ["predict", str(run_folder), "--data", str(films), "--split", "test", "--out", str(pred), *cache],
        ),
    ]
    for made, command in steps:
        if made is not None and made.is_file():
            say(f"already there: {made.parent}")
            continue
        say(f"$ cxrlocus {' '.join(command)}")
        seed = [] if command[0] == "predict" else ["--seed", str(args.seed)]
        status = main([*command, *seed])
        if status:
            return status
    say(f"$ cxrlocus evaluate {pred} --data {films}; cxrlocus report {pred} --data {films} --out {page}")
    return _measure(films, pred, page)


def _measure(films: Path, pred: Path, page: Path) -> int:
    from cxrlocus.cli import evaluate, parse, report
    from cxrlocus.cli.common import load_index

    args = parse(["report", str(pred), "--data", str(films), "--out", str(page)])
    whole = load_index(args)
    scored = evaluate.score_all([pred], args, whole)
    written = report.write_page(scored, whole, args)
    results = [row for one in scored for row in one.results]
    for table in evaluate.tables(results, evaluate.control_names(scored)):
        print(table)
    print(f"page: {written}")
    return 0
