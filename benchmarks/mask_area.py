"""Whether masks say by their size what they should say by their place: area against probability, finding by finding.

    python benchmarks/mask_area.py PREDICTIONS PREDICTIONS ...

Pearson's correlation, over the films, of the share of a mask that is open (above 0) with the probability of its
finding. A mask that localizes is larger where the finding is, moderately; near 1 or -1 the area *is* the score, and
below 0 the mask opens where the finding is absent. A dash: masks or probabilities of one value.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from cxrlocus.prediction.store import read_predictions


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", type=Path, nargs="+", help="what `cxrlocus predict` wrote, of maps that are masks")
    folders = parser.parse_args().folders
    said = {folder.name: correlations(folder) for folder in folders}
    findings = list(dict.fromkeys(f for one in said.values() for f in one))
    print("| predictions | " + " | ".join(findings) + " |")
    print("|:--|" + "--:|" * len(findings))
    for name, one in said.items():
        cells = [f"{one[f]:+.2f}" if np.isfinite(one.get(f, np.nan)) else "-" for f in findings]
        print(f"| {name} | " + " | ".join(cells) + " |")


def correlations(folder: Path) -> dict[str, float]:
    """By finding: NaN where either has one value."""
    p = read_predictions(folder)
    if p.kind != "mask":
        raise SystemExit(f"{folder}: its maps must be masks; they are {p.kind}s, which have no edge to be open within.")
    area = (np.asarray(p.maps) > 0).mean(axis=(2, 3))
    constant = (np.ptp(area, axis=0) == 0) | (np.ptp(p.prob, axis=0) == 0)
    return {
        name: np.nan if constant[c] else float(np.corrcoef(area[:, c], p.prob[:, c])[0, 1])
        for c, name in enumerate(p.findings)
    }


if __name__ == "__main__":
    main()
