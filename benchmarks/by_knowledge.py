"""Accuracy of the same maps by what is known besides: a dot for each way of making boxes, controls below.

    python benchmarks/by_knowledge.py "fixed levels=cam.json,drawn.json" "heights=..." --out small_data.svg

Files are what ``cxrlocus evaluate --json`` wrote: of each way, one file a predictions folder.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from cxrlocus.methods.baselines.controls import CONTROLS
from cxrlocus.protocols.result import Result, read_results
from cxrlocus.report.compare import dots_figure


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("ways", nargs="+", metavar="LABEL=JSON[,JSON...]")
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    blocks = {}
    for way in args.ways:
        label, _, files = way.partition("=")
        blocks[label] = [row for file in files.split(",") for row in rows(Path(file))]
    args.out.write_bytes(dots_figure(blocks, tuple(CONTROLS)))


def rows(path: Path) -> list[Result]:
    """The rows of a file, the ways of one method under one name; the bound is no rival."""
    return [replace(r, variant="") for r in read_results(path) if r.method != "oracle_box"]


if __name__ == "__main__":
    main()
