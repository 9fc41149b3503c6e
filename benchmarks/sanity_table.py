"""Several runs' sanity side by side, a line a run, from what `cxrlocus sanity` wrote.

    python benchmarks/sanity_table.py DIR DIR ... [--plain]

Accuracy with trained weights and what is lost with all of them shuffled; then, for each planted finding, the share of
films in which the map rises more on the lesion than beside it (*rises*), and the share in which it rises most there,
less that on another film's lesion (*gain*); then the marker that draws most peaks, of all findings and of one.
``--plain`` leaves intervals out. Verdicts as `cxrlocus sanity` gave them; a run that learned from planted lesions
(`drawn`) passes the second by its training, which is no test of it.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

RISES, GAIN, DRAWN = "rises", "peak of change, gain", "peak drawn"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folders", type=Path, nargs="+", help="the --out of `cxrlocus sanity`")
    parser.add_argument("--plain", action="store_true", help="without intervals")
    args = parser.parse_args()
    lines = [line_of(json.loads((f / "sanity.json").read_text(encoding="utf-8")), args.plain) for f in args.folders]
    planted = list(dict.fromkeys(name for line in lines for name in line["planted"]))
    print("| run | accuracy | lost | weights | " + " | ".join(f"{name}: rises, gain" for name in planted)
          + " | lesions | a marker draws | of one finding | markers |")  # fmt: skip
    print("|:--|--:|--:|:--|" + "--:|" * len(planted) + ":--|--:|--:|:--|")
    for line in lines:
        gains = [line["planted"].get(name, "") for name in planted]
        cells = [line["run"], line["accuracy"], line["lost"], line["weights"], *gains, line["lesions"],
                 line["drawn"], line["one"], line["markers"]]  # fmt: skip
        print("| " + " | ".join(cells) + " |")


def line_of(said: dict[str, Any], plain: bool = False) -> dict[str, Any]:
    """One run's cells."""

    def told(row: dict[str, Any] | None) -> str:
        if row is None or row["value"] is None:
            return "-"
        span = "" if plain or row["lo"] is None else f" [{row['lo']:.2f}, {row['hi']:.2f}]"
        return f"{row['value']:.2f}{span}"

    verdicts = {one["check"]: one["verdict"] for one in said["verdicts"]}
    numbers = {(r["check"], r["subject"], r["quantity"]): r for r in said["rows"]}
    most = greatest(r for r in said["rows"] if r["quantity"] == DRAWN)
    one = greatest(r for r in said["rows"] if r["quantity"].startswith(f"{DRAWN}, "))
    return {
        "run": said["run"].rpartition("-seed")[0] or said["run"],
        "accuracy": told(numbers.get(("weights", "none", "accuracy"))),
        "lost": told(numbers.get(("weights", "all", "accuracy lost"))),
        "planted": {
            subject: f"{told(numbers.get((check, subject, RISES)))}, {told(r)}"
            for (check, subject, quantity), r in numbers.items()
            if quantity == GAIN
        },
        "drawn": f"{most['subject']} {told(most)}" if most else "",
        "one": f"{one['quantity'].removeprefix(f'{DRAWN}, ')}, {one['subject']} {told(one)}" if one else "",
        **{check: verdicts.get(check, "") for check in ("weights", "lesions", "markers")},
    }


def greatest(rows: Iterable[dict[str, Any]]) -> dict[str, Any] | None:
    """The row of the greatest value, if any has one."""
    return max((r for r in rows if r["value"] is not None), key=lambda r: float(r["value"]), default=None)


if __name__ == "__main__":
    main()
