"""Accuracy at IoU > .3 on each half of the boxed patients apart: for a method that was developed while looking at one.

    python benchmarks/halves.py PRED ... --data ROOT

The halves are those of policy `validation`: each is boxed by what the other chose or knows (`heights`: one box around
the peak; `places`: other patients' boxes; `either`: the better there; see docs/protocols/places.md), so nothing
of a half serves its own boxes; `levels` are the two of policy `fixed`, which nobody's boxes chose. The first half is
fold 0 of ``--seed``. A line is a predictions folder or a control, and the mean is over findings.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cxrlocus.data import open_index
from cxrlocus.data.records import Index
from cxrlocus.data.splits import kfold_of_patients
from cxrlocus.prediction.store import read_predictions
from cxrlocus.protocols.policies import hits_by_film
from cxrlocus.regions.detections import Detections
from cxrlocus.study.score import Measure, score_controls, score_predictions

IOU = 0.3

MAPS = ("random_map", "lung_prior")
"""The controls that are maps."""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("predictions", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--dataset", default="auto")
    parser.add_argument("--split", default="test")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    index = open_index(args.data, args.dataset).split(args.split)
    found: list[tuple[str, Detections]] = []
    measures = {
        "levels": Measure(policy="fixed", seed=args.seed, resamples=1),
        "heights": Measure(policy="validation", seed=args.seed, resamples=1),
        "places": Measure(policy="validation", seed=args.seed, resamples=1, boxes="places"),
        "either": Measure(policy="validation", seed=args.seed, resamples=1, boxes="either"),
    }
    for boxes, measure in measures.items():
        for folder in args.predictions:
            scored = score_predictions(read_predictions(folder), index, measure)
            found += [(f"{folder.name}, {boxes}", scored.detections)] if scored.detections else []
        for one in score_controls(index, measure, read_predictions(args.predictions[0])):
            name = one.results[0].method
            # The others draw boxes themselves, whatever is made of maps.
            if one.detections and (boxes == "heights" or name in MAPS):
                found.append((f"*{name}*, {boxes}", one.detections))
    names = [name for name in index.findings if any(b.finding == name for r in index.records for b in r.boxes)]
    print("| what | first half | second half | " + " | ".join(names) + " |")
    print("|:--|--:|--:|" + "--:|" * len(names))
    for name, detections in found:
        first, second = (accuracy(detections, index, names, args.seed, half) for half in (0, 1))
        each = " | ".join(f"{v:.2f}" for v in second)
        print(f"| {name} | {np.nanmean(first):.3f} | {np.nanmean(second):.3f} | {each} |")
    counts = [
        sum(len(r.boxes) for r, h in zip(index.records, halves(index, args.seed), strict=True) if h == k)
        for k in (0, 1)
    ]
    print(f"\nBoxes: {counts[0]} and {counts[1]}; the findings' columns are of the second half.")


def halves(index: Index, seed: int) -> NDArray[np.int64]:
    """Which half (N,) each film's patient is of."""
    return np.asarray(kfold_of_patients(index.patients, 2, seed=seed))


def accuracy(detections: Detections, index: Index, names: list[str], seed: int, half: int) -> NDArray[np.float64]:
    """The share of each finding's true boxes that are hit, on one half."""
    of = dict(zip(index.images, halves(index, seed).tolist(), strict=True))
    here = np.array([of.get(name, -1) == half for name in detections.images])
    hits = hits_by_film(detections, index, IOU)[here].sum(axis=0)
    out = []
    for name in names:
        boxes = sum(b.finding == name for r in index.records if of[r.image] == half for b in r.boxes)
        out.append(hits[detections.findings.index(name)] / boxes if boxes else np.nan)
    return np.array(out)


if __name__ == "__main__":
    main()
