"""``cxrlocus predict``."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cxrlocus.cli.common import (
    add_cache,
    add_data,
    cache_folder,
    check_folder_to_write,
    list_dropped,
    load_index,
    progress_bars,
    say,
)
from cxrlocus.errors import ConfigError

if TYPE_CHECKING:
    from cxrlocus.data.records import Index

HELP = "say where: probabilities and raw maps of films, as a predictions folder"
EXAMPLE = """cxrlocus predict runs/cam --data NIH --split test --out pred
  cxrlocus predict runs/cam film.dcm --out pred --boxes"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.set_defaults(files="images")
    parser.add_argument("run_folder", type=Path, metavar="RUN", help="run folder of `cxrlocus train`")
    parser.add_argument(
        "images", type=Path, nargs="*", metavar="IMAGES", help="PNG, JPEG or DICOM files, or folders of them"
    )
    add_data(parser, required=False)
    parser.add_argument("--split", default="test", help="with --data: train, val, test or all (default test)")
    parser.add_argument(
        "--unseen", action="store_true", help="with --data: leave out the films of patients that the run learned from"
    )
    parser.add_argument(
        "--rsna-map", type=Path, metavar="FILE",
        help="RSNA's map to NIH's film names, where a run or data set of RSNA lacks it: shows films shared with NIH",
    )  # fmt: skip
    parser.add_argument("--out", type=Path, required=True, metavar="PRED", help="predictions folder")
    parser.add_argument(
        "--maps", default="", metavar="KIND",
        help="instead of the method's own maps: gradcam, gradcam++ or layercam; or grid: its own, drawn on the plain "
        "grid and not where their cells look",
    )  # fmt: skip
    parser.add_argument(
        "--layer", default="", help="with --maps: module of the network to look at (default: the last features)"
    )
    parser.add_argument("--batch", type=int, default=32, help="films a forward pass (default 32)")
    parser.add_argument(
        "--boxes", action="store_true", help="write boxes.csv too: the peak's region at half height, a box a finding"
    )
    parser.add_argument(
        "--min-prob", type=float, default=0.0, help="with --boxes: only findings at least this probable"
    )
    parser.add_argument("--strict", action="store_true", help="exit 1 if any film cannot be read")
    add_cache(parser)


def run(args: argparse.Namespace) -> int:
    """Predict, or go on predicting."""
    from cxrlocus.study.steps import ON_GRID, predict_run

    if args.layer and args.maps in ("", ON_GRID):
        raise ConfigError("--layer says where --maps looks; give --maps gradcam, or leave it out.")
    if args.unseen and not args.data:
        raise ConfigError("--unseen is told by a data set's patients; give --data ROOT, or leave it out.")
    if not 0 <= args.min_prob <= 1:
        raise ConfigError(f"--min-prob must be in [0, 1]; got {args.min_prob}.")
    check_folder_to_write(args.out)
    index = _films_asked_for(args)
    with progress_bars() as bars:
        films = predict_run(
            args.run_folder, index, args.out, split=args.split if args.data else "", cache=cache_folder(args),
            bars=bars, maps=args.maps, layer=args.layer, batch=args.batch, unseen=args.unseen, names=args.rsna_map,
        )  # fmt: skip
    if args.unseen:
        say(f"{len(index) - len(films.readable)} films of patients that the run learned from left out")
    list_dropped(films.unreadable, "films could not be read")
    say(f"predicted: {args.out} ({int(films.readable.sum())} films)")
    if args.boxes:
        _write_boxes(args.out, args.min_prob)
    return 1 if args.strict and films.unreadable else 0


def _films_asked_for(args: argparse.Namespace) -> Index:
    from cxrlocus.data.records import Index, Record
    from cxrlocus.training.run import read_run
    from cxrlocus.types import Findings

    if bool(args.images) == bool(args.data):
        raise ConfigError("give either --data ROOT or image files, one of the two.")
    if args.data:
        index = load_index(args)
        return index if args.split == "all" else index.split(args.split)
    files = [file for path in args.images for file in (_films_in(path) if path.is_dir() else [path])]
    if not files:
        raise ConfigError(f"no files in {', '.join(map(str, args.images))}.")
    findings = Findings(tuple(read_run(args.run_folder).findings))
    # A name that is not UTF-8 is written with escapes, because every table is UTF-8; the path stays as it is.
    names = {path: str(path).encode("utf-8", "backslashreplace").decode() for path in files}
    records = tuple(Record(name, path, patient=name) for path, name in names.items())
    return Index("files", Path(), findings, records)


def _films_in(folder: Path) -> list[Path]:
    """The files below a folder, sorted; one that links make two of once, by its first path."""
    from cxrlocus.data.folder import walk_films

    files = sorted(Path(name) for _, name in walk_films(folder))
    return list({file.resolve(): file for file in reversed(files)}.values())[::-1]


def _write_boxes(folder: Path, min_prob: float) -> None:
    from cxrlocus.prediction.boxing import find_boxes
    from cxrlocus.prediction.store import BOXES, read_predictions
    from cxrlocus.protocols.boxlist import write_boxes
    from cxrlocus.regions.detections import Detections
    from cxrlocus.regions.rules import PeakComponent

    predictions = read_predictions(folder)
    found = find_boxes(predictions, PeakComponent())
    keep = predictions.prob[found.image, found.finding] >= min_prob
    kept = Detections(
        found.images, found.findings, found.image[keep], found.finding[keep], found.xyxy[keep], found.score[keep]
    )
    write_boxes(folder / BOXES, kept)
    say(f"boxes: {folder / BOXES} ({len(kept)})")
