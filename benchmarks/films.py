"""One film a finding, and each method's map and box on it (Kim et al. 2021, Fig. 6 and 8; Cai et al. 2018, Fig. 4).

    python benchmarks/films.py PRED PRED ... --data ROOT --out films.png [--policy validation]

A column is a finding and a row a predictions folder, under the film itself. True boxes are red, the method's box black
on white: one a map, around its peak, as protocol `kim2021` draws `boxes=one`. The film is the one whose IoU is the
median of the last row's, among films with a single true box of the finding: chosen by rule, not by eye.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from cxrlocus.data import open_index
from cxrlocus.data.images import read_film
from cxrlocus.data.records import Index
from cxrlocus.prediction.store import Predictions, read_predictions
from cxrlocus.protocols.kim2021 import SHARE
from cxrlocus.protocols.policies import boxes_by_policy
from cxrlocus.protocols.shared import boxed_pairs
from cxrlocus.regions.maps import to_film, value_range
from cxrlocus.regions.rules import PeakComponent
from cxrlocus.report.gallery import Case, cases

SIDE = 200
"""Longest side of a film, pixels."""

MARGIN = 150
"""Room for the rows' names."""

RED, BLACK, WHITE = (40, 40, 230), (0, 0, 0), (255, 255, 255)

Picture = NDArray[np.uint8]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("predictions", type=Path, nargs="+")
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--dataset", default="auto")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--policy", choices=("fixed", "validation", "oracle"), default="fixed")
    parser.add_argument("--findings", nargs="*", help="columns; all that have boxes by default")
    args = parser.parse_args()
    index = open_index(args.data, args.dataset)
    rows = [(name_of(one), one) for one in map(read_predictions, args.predictions)]
    found = [boxed(one, index, args.policy) for _, one in rows]
    columns = [name for name in args.findings or index.findings if (name in found[-1])]
    if not columns:
        parser.error("no finding has a film with a single true box in the last predictions folder")
    chosen = [median(found[-1][name]) for name in columns]
    for (name, one), folder in zip(rows, args.predictions, strict=True):
        if lacking := [c.image for c in chosen if c.image not in one.images or c.finding not in one.findings]:
            parser.error(f"{folder}: {name} was not predicted on {lacking[0]}; give predictions of the same films")
    picture = [np.hstack([label("film"), *(on_film(index, case, None, None) for case in chosen)])]
    for (name, one), by_finding in zip(rows, found, strict=True):
        there = [next(c for c in by_finding[case.finding] if c.image == case.image) for case in chosen]
        picture.append(np.hstack([label(name), *(on_film(index, case, one, case) for case in there)]))
    cv2.imwrite(str(args.out), np.vstack(picture))
    for case in chosen:
        print(f"  {case.finding}: {case.image}")


def name_of(one: Predictions) -> str:
    return "-".join(filter(None, (str(one.meta.get("method", "")), str(one.meta.get("variant", "")))))


def boxed(one: Predictions, index: Index, policy: str) -> dict[str, list[Case]]:
    """By finding, the films with a single true box of it, in the index's order."""
    fixed = (PeakComponent(SHARE), "")
    boxes, _ = boxes_by_policy(one, index, policy, gate=boxed_pairs(one, index), fixed=fixed)  # type: ignore[arg-type]  # a choice of the parser
    by_finding: dict[str, list[Case]] = {}
    for case in cases(index, boxes):
        if len(case.truth) == 1:
            by_finding.setdefault(case.finding, []).append(case)
    return by_finding


def median(some: list[Case]) -> Case:
    """The case of median IoU; no box counts as an IoU of 0."""
    return sorted(some, key=lambda case: (np.nan_to_num(case.iou), case.image))[len(some) // 2]


def on_film(index: Index, case: Case, one: Predictions | None, drawn: Case | None) -> Picture:
    """A film with its finding's name, or with a map and boxes."""
    record = index.records[index.position[case.image]]
    pixels = read_film(record.path)
    grey = np.asarray(pixels if pixels.dtype == np.uint8 else np.rint(pixels / 257.0), np.uint8)
    width, height = record.size or (grey.shape[1], grey.shape[0])
    scale = SIDE / max(width, height)
    wide, high = max(1, round(width * scale)), max(1, round(height * scale))
    tile = cv2.cvtColor(cv2.resize(grey, (wide, high), interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2BGR)
    if one is not None:
        i, c = one.images.index(case.image), one.findings.index(case.finding)
        values, inside = to_film(one.maps[i, c].astype(np.float32), one.frames[i], (round(width), round(height)))
        low, high_value = value_range(values, inside) or (0.0, 1.0)
        share = np.clip((values - low) / (high_value - low), 0, 1)
        if inside is not None:
            share = np.where(inside, share, 0)
        share = cv2.resize(share.astype(np.float32), (wide, high))[:, :, None]
        heat = cv2.applyColorMap(np.round(share * 255).astype(np.uint8), cv2.COLORMAP_JET)
        tile = tile * (1 - 0.5 * share) + heat * 0.5 * share
    tile = np.ascontiguousarray(np.round(tile).astype(np.uint8))
    for box in drawn.predicted if drawn else ():
        rectangle(tile, box * scale, WHITE, 3)
        rectangle(tile, box * scale, BLACK, 1)
    for box in case.truth:
        rectangle(tile, box * scale, RED, 1)
    if drawn is None:
        write(tile, case.finding, (4, high - 6))
    whole = np.zeros((SIDE, SIDE, 3), np.uint8)
    whole[:high, :wide] = tile
    return whole


def rectangle(tile: Picture, box: NDArray[np.float64], colour: tuple[int, int, int], width: int) -> None:
    x1, y1, x2, y2 = (round(float(v)) for v in box)
    cv2.rectangle(tile, (x1, y1), (x2 - 1, y2 - 1), colour, width)


def write(tile: Picture, text: str, at: tuple[int, int]) -> None:
    for colour, width in ((BLACK, 3), (WHITE, 1)):
        cv2.putText(tile, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.42, colour, width, cv2.LINE_AA)


def label(text: str) -> Picture:
    tile = np.zeros((SIDE, MARGIN, 3), np.uint8)
    write(tile, text, (4, SIDE // 2))
    return tile


if __name__ == "__main__":
    main()
