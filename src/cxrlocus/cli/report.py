"""``cxrlocus report``."""

from __future__ import annotations

import argparse
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cxrlocus import __version__
from cxrlocus.cli.common import add_data, check_folder_to_write, progress_bar, say
from cxrlocus.cli.evaluate import add_measure, control_names, evaluated_films, measured_index, score_all

if TYPE_CHECKING:
    from cxrlocus.data.records import Index
    from cxrlocus.study.score import Scored

HELP = "one HTML page: tables, curves, and the best and worst films"
EXAMPLE = "cxrlocus report pred --data NIH --out page"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.set_defaults(files="predictions")
    parser.add_argument(
        "predictions", type=Path, nargs="+", metavar="PRED", help="predictions folders or CSVs of boxes"
    )
    add_data(parser)
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the page")
    add_measure(parser)


def run(args: argparse.Namespace) -> int:
    """Measure and write the page."""
    check_folder_to_write(args.out)
    whole = measured_index(args)
    print(write_page(score_all(args.predictions, args, whole), whole, args))
    return 0


def write_page(scored: list[Scored], whole: Index, args: argparse.Namespace) -> Path:
    """Write the page of what was scored, with its rows beside it, and return its path."""
    from cxrlocus.prediction.panels import read_panels
    from cxrlocus.protocols.result import write_results
    from cxrlocus.report import Entry, distinct, write_report
    from cxrlocus.report.mining import write_mining_figures
    from cxrlocus.training.machine import describe_machine

    first = next((one.predictions for one in scored if one.predictions is not None), None)
    split = args.split or str((first.meta.get("split") if first else "") or "test")
    index = evaluated_films(whole, split, first.images if first and args.subset else None)
    about = {
        "seed of the bootstrap": str(args.seed),
        "resamples": str(args.resamples),
        "machine": describe_machine(),
        "cxrlocus": __version__,
        "python": platform.python_version(),
        "written": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }
    # Every path was scored in its order; the controls follow.
    folders = [*args.predictions, *[None] * (len(scored) - len(args.predictions))]
    entries = [
        Entry(
            one.predictions,
            one.detections,
            one.results,
            one.is_control,
            one.films,
            read_panels(folder, one.predictions.meta) if folder and one.predictions is not None else None,
        )
        for one, folder in zip(scored, folders, strict=True)
    ]
    # Rows are written under the names that the page gives them: two seeds of one method are told apart in both.
    entries = distinct(entries)
    with progress_bar("drawing the page") as bar:
        bar(0)
        page = write_report(args.out, index=index, entries=entries, about=about)
        pictures = write_mining_figures(args.out, entries, index)
    write_results(args.out / "results.json", [row for entry in entries for row in entry.results])
    say(f"rows: {args.out / 'results.json'}; controls: {', '.join(sorted(control_names(scored))) or 'none'}")
    for picture in pictures:
        say(f"steps of mining: {picture}")
    return page
