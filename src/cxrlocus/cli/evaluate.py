"""``cxrlocus evaluate``."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cxrlocus.cli.common import add_data, check_file_to_write, load_index, progress_bar, say
from cxrlocus.errors import ConfigError, PredictionsError

if TYPE_CHECKING:
    from cxrlocus.data.records import Index
    from cxrlocus.protocols.result import Result
    from cxrlocus.study.score import Measure, Scored

HELP = "measure predictions, or anybody's boxes, against radiologists' boxes"
EXAMPLE = "cxrlocus evaluate pred --data NIH --policy validation --json results.json"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The verb's arguments."""
    parser.add_argument(
        "predictions",
        type=Path,
        metavar="PRED",
        help="predictions folder, or a CSV of boxes: image,finding,x,y,w,h,score in original pixels (NIH: 1024)",
    )
    add_data(parser)
    add_measure(parser)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write every row")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="write the tables as Markdown")


def add_measure(parser: argparse.ArgumentParser) -> None:
    """How to measure."""
    parser.add_argument(
        "--protocol",
        action="append",
        nargs="+",
        metavar="P",
        help="wang2017 (default), infomask2019, yao2018, cai2018, kim2021, modern; may be repeated",
    )
    parser.add_argument(
        "--policy",
        choices=("fixed", "validation", "oracle"),
        default="fixed",
        help="of map thresholds: fixed (default), validation (other patients' boxes), oracle (test boxes)",
    )
    parser.add_argument(
        "--boxes",
        choices=("heights", "places", "either"),
        default="heights",
        help="how a map becomes a box in protocol wang2017: by its heights (default), or, with --policy validation, at "
        "the likeliest of the places where other patients' boxes of the finding lie, or by either, as served others "
        "better",
    )
    _add_masks(parser)
    parser.add_argument(
        "--truth",
        type=Path,
        metavar="CSV",
        help="measure against these boxes (image,finding,x,y,w,h) in place of the data set's: a second reader's, say",
    )
    parser.add_argument("--split", help="the measured films (default: the split that was predicted, else test)")
    parser.add_argument(
        "--subset",
        action="store_true",
        help="only the predicted films; else a film without a prediction is a miss",
    )
    parser.add_argument("--no-controls", action="store_true", help="leave the controls out of the table")
    parser.add_argument(
        "--seed", type=int, default=0, help="of the bootstrap, the folds and the random map (default 0)"
    )
    parser.add_argument("--resamples", type=int, default=1000, help="of the patient bootstrap (default 1000)")


def _add_masks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--criterion",
        choices=("fpr_fnr", "iop", "dice"),
        help="protocol infomask2019: what validation and oracle choose a mask's level by: "
        "the least mean of FPR and FNR (default), the greatest IoP, or the greatest DICE",
    )
    parser.add_argument(
        "--scale",
        choices=("absolute", "relative"),
        help="protocol infomask2019: cut maps as they are, or on a scale from their least to their greatest value "
        "(default: by their kind, logits relative and the rest absolute)",
    )
    parser.add_argument(
        "--raster",
        type=int,
        metavar="N",
        help="protocol infomask2019: cells of a mask along the film's longest side (default 256)",
    )


def run(args: argparse.Namespace) -> int:
    """Measure and print the table."""
    from cxrlocus.files import write_text_whole
    from cxrlocus.protocols.result import write_results

    for file in filter(None, (args.json, args.markdown)):
        check_file_to_write(file)
    scored = score_all([args.predictions], args, measured_index(args))
    results = [row for one in scored for row in one.results]
    controls = control_names(scored)
    # Files first: printing ends early where the reader (head, say) closes the pipe.
    if args.json:
        write_results(args.json, results)
        say(f"rows: {args.json} ({len(results)})")
    if args.markdown:
        write_text_whole(args.markdown, "\n".join(tables(results, controls, markdown=True)))
    for table in tables(results, controls):
        print(table)
    return 0


def measured_index(args: argparse.Namespace) -> Index:
    """The data set, with the boxes of ``--truth`` in place of its own where that is given."""
    from cxrlocus.protocols.boxlist import as_truth, read_boxes

    index = load_index(args)
    if args.truth is None:
        return index
    return as_truth(read_boxes(args.truth, index), index, f"{index.dataset}, boxes of {args.truth.name}")


def measure_asked_for(args: argparse.Namespace) -> Measure:
    """The Measure that the arguments name.

    Raises:
        ConfigError: one of them is not what it may be, or acts on a protocol that is not asked for.
    """
    from cxrlocus.protocols.infomask2019 import NAME
    from cxrlocus.study.score import Measure

    protocols = tuple(dict.fromkeys(p for group in args.protocol or [["wang2017"]] for p in group))
    masks = {k: getattr(args, k) for k in ("criterion", "scale", "raster") if getattr(args, k) is not None}
    if masks and NAME not in protocols:
        raise ConfigError(f"--{next(iter(masks))} acts on protocol {NAME} alone; give --protocol {NAME} too.")
    if "criterion" in masks and args.policy == "fixed":
        raise ConfigError("--criterion chooses nothing under --policy fixed; give --policy validation or oracle.")
    return Measure(protocols, args.policy, args.seed, args.resamples, boxes=args.boxes, **masks)


def score_all(paths: Sequence[Path], args: argparse.Namespace, whole: Index) -> list[Scored]:
    """Every given prediction scored, then the controls once, on the grid of the first."""
    from cxrlocus.prediction.store import read_predictions
    from cxrlocus.protocols.boxlist import read_boxes
    from cxrlocus.protocols.shared import film_positions
    from cxrlocus.study.score import score_boxes, score_controls, score_predictions

    measure = measure_asked_for(args)
    scored: list[Scored] = []
    measured: list[Index] = []
    with progress_bar("measuring") as bar:
        for path in paths:
            if path.is_file():
                index = evaluated_films(whole, args.split or "test", None)
                scored.append(score_boxes(read_boxes(path, index), index, measure, path.stem))
            else:
                predictions = read_predictions(path)
                split = args.split or str(predictions.meta.get("split") or "test")
                index = evaluated_films(whole, split, predictions.images if args.subset else None)
                # Of another data set every film would be told as missing, before the refusal.
                film_positions(predictions, index)
                tell_missing(predictions.images, index)
                scored.append(score_predictions(predictions, index, measure, partial(bar, total=len(predictions))))
            measured.append(index)
        if not args.no_controls:
            # One of the two there is: maps, or the boxes that came without.
            like = next(found for found in (scored[0].predictions, scored[0].detections) if found is not None)
            scored += score_controls(measured[0], measure, like)
    return scored


def evaluated_films(whole: Index, split: str, only: Sequence[str] | None) -> Index:
    """The films of a split ("all": of every split), or those of them that are named.

    Raises:
        PredictionsError: none of them has a box.
    """
    index = whole if split == "all" else whole.split(split)
    if only is not None:
        wanted = set(only)
        index = index.subset([i for i, r in enumerate(index.records) if r.image in wanted])
    if not index.box_count:
        raise PredictionsError(
            f"{whole.root}: no film of split {split!r} has a box to measure against. Give --split, or a box list."
        )
    return index


def tell_missing(predicted: Sequence[str], index: Index) -> None:
    """Say how many boxed films have no prediction: they count as misses."""
    there = set(predicted)
    missing = [r.image for r in index.records if r.boxes and r.image not in there]
    if missing:
        named = ", ".join(missing[:5]) + (" ..." if len(missing) > 5 else "")
        say(f"{len(missing)} boxed films have no prediction and count as misses: {named}")


def control_names(scored: Sequence[Scored]) -> frozenset[str]:
    """The methods among them that are controls."""
    return frozenset(row.method for one in scored if one.is_control for row in one.results)


SHOWN = (
    ("accuracy_iou", 0.3, "Accuracy at IoU > .3"),
    ("accuracy_iou", 0.5, "Accuracy at IoU > .5"),
    ("accuracy_iobb", 0.5, "Accuracy at IoBB > .5"),
    ("afp", 0.3, "Average false positives: boxes with IoU <= .3"),
    ("dice", math.nan, "DICE of the probability map and the boxes"),
    ("dice_mask", math.nan, "DICE of the probability map and the exact masks"),
    ("iop", math.nan, "Pixels: share of the mask inside the boxes (IoP)"),
    ("fpr", math.nan, "Pixels: share of the outside that the mask covers (FPR)"),
    ("fnr", math.nan, "Pixels: share of the boxes that the mask leaves out (FNR)"),
    ("mask_area", math.nan, "Pixels: share of the film that the mask covers"),
    ("maxboxacc_v2", math.nan, "MaxBoxAccV2: mean of IoU > .3, .5 and .7; a tau chosen is each one's own"),
    ("pxap", math.nan, "Pixels: average precision of map values (PxAP)"),
    ("pointing", math.nan, "Pointing game: peaks that lie in a box"),
    ("froc", 0.3, "FROC at IoU > .3: mean sensitivity at 1/8 to 8 false positives a film"),
    ("average_precision", 0.3, "Average precision of boxes at IoU > .3"),
    ("average_precision", 0.5, "Average precision of boxes at IoU > .5"),
    ("nothing_found", math.nan, "Share of boxed films on which nothing is found: no box that meets a true one"),
    ("accuracy", 0.5, "Accuracy of the labels at probability .5"),
    ("auroc", math.nan, "AUROC of the labels"),
)
"""What a table shows: quantity, threshold, heading. Every other row is in the JSON."""


def tables(results: Sequence[Result], controls: frozenset[str], *, markdown: bool = False) -> list[str]:
    """The shown quantities as text or Markdown tables, then notes; a quantity that nothing measured is left out."""
    from cxrlocus.report.notes import notes
    from cxrlocus.report.tables import markdown_table, text_table

    draw = markdown_table if markdown else text_table
    results = _labels_once(results)
    there = {row.quantity for row in results if not math.isnan(row.value)}
    heading = "### {}\n" if markdown else "\n{}"
    below = "\n".join(f"- {line}" for line in notes(results))
    return [
        f"{heading.format(title)}\n{draw(results, quantity, threshold, controls)}\n"
        for quantity, threshold, title in SHOWN
        if quantity in there
    ] + ([f"Notes:\n\n{below}\n"] if below else [])


def _labels_once(results: Sequence[Result]) -> list[Result]:
    """Without the AUROC that several protocols say of the same run on the same films: it is the first one's."""
    first: dict[tuple[str, ...], str] = {}
    kept = []
    for r in results:
        key = (r.method, r.variant, r.dataset, r.finding, r.source)
        if r.quantity != "auroc" or first.setdefault(key, r.protocol) == r.protocol:
            kept.append(r)
    return kept
