"""The report: one HTML page that holds everything it shows, and computes none of the numbers it shows."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from cxrlocus.data.records import Index
from cxrlocus.errors import ConfigError
from cxrlocus.files import explained, write_text_whole
from cxrlocus.prediction.store import Predictions
from cxrlocus.protocols.result import Result
from cxrlocus.regions.detections import Detections
from cxrlocus.report.entries import Entry, distinct
from cxrlocus.report.figures import Roc, accuracy_figure, roc_figure, small_multiples
from cxrlocus.report.gallery import Case, Tile, cases, choose, missed, spread, tile
from cxrlocus.report.masks import masks_section
from cxrlocus.report.published import published_results
from cxrlocus.report.remarks import remarks
from cxrlocus.report.tables import (
    OF_FEWER,
    OF_FEWER_TOLD,
    SUMMARIES,
    Pivot,
    Row,
    digits_of,
    grouped,
    interval,
    number,
    pivot,
    short_names,
    thresholds,
)

PAGE = "report.html"
"""The page's file name."""

MAIN_THRESHOLD = 0.3
"""The overlap of the headline and of the first table."""

MOST_GALLERIES = 3
MOST_MISSED = 12

POLICIES = {
    "fixed": "map threshold fixed beforehand",
    "validation": "map threshold chosen on boxes of other patients",
    "oracle": "map threshold chosen on the test boxes themselves: an upper bound",
}

QUANTITIES = {
    "accuracy_iou": "Accuracy by IoU",
    "accuracy_iobb": "Accuracy by IoBB",
    "afp": "Average false positives, by IoU",
    "afp_labelled": "Average false positives on films labelled with the finding, by IoU",
    "afp_iobb": "Average false positives, by IoBB",
    "dice": "DICE of the probability map and the boxes",
    "dice_mask": "DICE of the probability map and the exact masks",
    "iop": "Pixels: share of the mask inside the boxes (IoP)",
    "fpr": "Pixels: share of the outside that the mask covers (FPR)",
    "fnr": "Pixels: share of the boxes that the mask leaves out (FNR)",
    "mask_area": "Pixels: share of the film that the mask covers",
    "maxboxacc": "MaxBoxAcc: accuracy of the map's boxes at one tau for all films",
    "maxboxacc_v2": "MaxBoxAccV2: mean of IoU > .3, .5 and .7; a tau chosen is each one's own",
    "pxap": "Pixels: average precision of map values (PxAP)",
    "pointing": "Pointing game: peaks that lie in a box",
    "froc": "FROC: mean sensitivity at 1/8 to 8 false positives a film",
    "average_precision": "Average precision of boxes",
    "no_box": "Share of boxed films without any box of the finding",
    "nothing_found": "Share of boxed films on which nothing is found: no box that meets a true one",
    "accuracy": "Accuracy of the labels at probability .5",
    "auroc": "AUROC of the labels",
}

MASK_QUANTITIES = ("iop", "fpr", "fnr", "mask_area")
"""Quantities of masks, first those of InfoMask's Table 1 in its order; the page shows them openly, the rest folded."""

_HERE = Path(__file__).parent


@dataclass(frozen=True)
class Section:
    """A table of the page: its threshold in words, the pivot, and its rows as methods, controls and papers."""

    title: str
    table: Pivot
    groups: list[tuple[Row, ...]]


@dataclass(frozen=True)
class Headline:
    """A method's main number beside the best control that has not seen the test boxes."""

    row: Row
    cell: Result
    control: tuple[Row, Result] | None

    @property
    def ahead(self) -> bool:
        """Whether the method's value is above the control's."""
        return self.control is not None and self.cell.value > self.control[1].value


@dataclass(frozen=True)
class MaskHeadline:
    """A method's masks in three numbers (IoP, FPR, FNR) beside those of the control of greatest IoP."""

    row: Row
    cells: list[Result]
    control: tuple[Row, list[Result]] | None


@dataclass(frozen=True)
class Gallery:
    """A method's films: by finding the chosen ones and how many there were, then those in which nothing was found."""

    label: str
    findings: list[tuple[str, int, list[Tile]]]
    missed: list[Tile]
    missed_count: int
    case_count: int


def write_report(out: Path, *, index: Index, entries: Sequence[Entry], about: Mapping[str, str]) -> Path:
    """Write the page of a set of methods and controls, measured on the same films.

    Args:
        out: the folder; the page in it is ``report.html``.
        index: the films, with their labels and true boxes.
        entries: one for each method or control; the first method is the one the page is about.
        about: what was run, shown as it is: "seed", "machine", "software", "date", ...

    Returns:
        The page's path.

    Raises:
        ConfigError: there is no entry, or the folder cannot be written.
        ValueError: an entry's Results contradict one another.
    """
    page = out / PAGE
    text = render(index, entries, about)
    with explained(page, ConfigError):
        out.mkdir(parents=True, exist_ok=True)
    write_text_whole(page, text, ConfigError)
    return page


_HELPERS: Mapping[str, Any] = {
    "number": number,
    "interval": interval,
    "of_fewer": OF_FEWER,
    "of_fewer_told": OF_FEWER_TOLD,
    "digits_of": digits_of,
    "isnan": math.isnan,
    "policies": POLICIES,
    "grouped": grouped,
    "short_names": short_names,
}
"""What the template calls or says."""


def render(index: Index, entries: Sequence[Entry], about: Mapping[str, str]) -> str:
    """The page's HTML, with styles and pictures inside it.

    Raises:
        ConfigError: there is no entry.
        ValueError: an entry's Results contradict one another.
    """
    if not entries:
        raise ConfigError("entries must hold a method or a control; got none. Evaluate some predictions first.")
    entries = distinct(entries)
    results = [r for entry in entries for r in entry.results]
    controls = frozenset(r.method for entry in entries if entry.is_control for r in entry.results)
    papers = [r for r in published_results() if r.dataset == index.dataset]
    boxed = [(e, e.detections) for e in entries if not e.is_control and e.detections is not None]
    galleries = [_gallery(e, found, index) for e, found in boxed[:MOST_GALLERIES]]
    found = [c for c in _columns(results) if c not in SUMMARIES]
    shown = {QUANTITIES[q] for q in (*MASK_QUANTITIES, "auroc")}
    environment = Environment(loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined)
    environment.globals.update(_HELPERS)
    return environment.get_template("page.html").render(
        style=Markup((_HERE / "style.css").read_text(encoding="utf-8")),
        index=index,
        about=about,
        entries=entries,
        runs=_runs(entries),
        used=list(dict.fromkeys(r.policy for e in entries if not e.is_control for r in e.results if r.policy)),
        headlines=headlines(_table(results, "accuracy_iou", controls)),
        mask_headlines=mask_headlines(results, controls),
        main=_table([*results, *(p for p in papers if p.protocol == "wang2017")], "accuracy_iou", controls),
        masks=masks_section(entries, index),
        mask_tables=_mask_tables([*results, *papers], controls),
        others=[s for s in _sections(results, controls) if s[0] not in shown],
        published=_sections(papers, ()),
        afps=_table(results, "afp", controls),
        areas=pivot(results, "auroc", controls=controls),
        curves=accuracy_figure(_first_kind(results), "accuracy_iou", "IoU must exceed", controls),
        panels=small_multiples(_first_kind(results), "accuracy_iou", "IoU must exceed", found, controls),
        rocs=roc_figure(_rocs(entries, index)),
        galleries=galleries,
        remarks=[
            *remarks(
                index,
                [e.looked_at for e in entries if not e.is_control and e.looked_at is not None],
                [(g.label, g.case_count) for g in galleries],
            ),
            *_hidden([e for e, _ in boxed]),
            *_unmeasured(results),
        ],
    )


def headlines(table: Pivot) -> list[Headline]:
    """A headline for each method in a table of accuracies that has a mean, all by the protocol that stands first."""
    rows = [(row, table.value(row, "mean")) for row in table.rows if row.source != "paper"]
    rated = [(row, cell) for row, cell in rows if cell is not None and not math.isnan(cell.value)]
    rated = [(r, cell) for r, cell in rated if (r.protocol, r.detail) == (rated[0][0].protocol, rated[0][0].detail)]
    fair = [(row, cell) for row, cell in rated if row.is_control and not row.is_oracle]
    best = max(fair, key=lambda pair: pair[1].value, default=None)
    return [Headline(row, cell, best) for row, cell in rated if not row.is_control]


def _first_kind(results: Sequence[Result]) -> list[Result]:
    """Accuracies of the protocol and detail that stand first: curves of several would cover one another."""
    boxed = [r for r in results if r.source != "paper" and r.quantity == "accuracy_iou"]
    return [r for r in boxed if (r.protocol, r.detail) == (boxed[0].protocol, boxed[0].detail)]


def mask_headlines(results: Sequence[Result], controls: frozenset[str]) -> list[MaskHeadline]:
    """A headline for each method whose masks were measured; the control beside it has not seen the test boxes."""
    tables = [pivot([r for r in results if r.source != "paper"], q, controls=controls) for q in MASK_QUANTITIES]
    rated = []
    for row in tables[0].rows:
        like = [[r for r in table.rows if _run_of(r) == _run_of(row)] for table in tables]
        cells = [table.value(rows[0], "mean") if rows else None for table, rows in zip(tables, like, strict=True)]
        rated.append((row, [cell for cell in cells if cell is not None]))
    rated = [(row, cells) for row, cells in rated if len(cells) == len(tables)]
    fair = [(row, cells) for row, cells in rated if row.is_control and not row.is_oracle]
    fair = [(row, cells) for row, cells in fair if not math.isnan(cells[0].value)]
    best = max(fair, key=lambda pair: pair[1][0].value, default=None)
    return [MaskHeadline(row, cells, best) for row, cells in rated if not row.is_control]


def _run_of(row: Row) -> tuple[str, ...]:
    return (row.protocol, row.method, row.variant, row.policy, row.dataset)


def _mask_tables(results: Sequence[Result], controls: frozenset[str]) -> list[tuple[str, Pivot]]:
    """The tables of masks, papers among them, of the findings in which anything was measured."""
    ours = [r for r in results if r.source != "paper" and r.quantity in MASK_QUANTITIES]
    there = {r.finding for r in ours if r.n} | set(SUMMARIES)
    kept = [r for r in results if r.finding in there]
    return [(QUANTITIES[q], pivot(kept, q, controls=controls)) for q in MASK_QUANTITIES] if ours else []


def _unmeasured(results: Sequence[Result]) -> list[str]:
    """A sentence on the boxed findings of which no mask was measured."""
    ours = [r for r in results if r.quantity in MASK_QUANTITIES]
    bare = dict.fromkeys(r.finding for r in ours if not any(s.n for s in ours if s.finding == r.finding))
    names = ", ".join(name.replace("_", " ") for name in bare if name not in SUMMARIES)
    return [f"No mask of {names} was measured, though there are boxes: no method here knows them."] if names else []


def _columns(results: Sequence[Result]) -> tuple[str, ...]:
    at = _main_threshold(results, "accuracy_iou")
    return pivot([r for r in results if r.source != "paper"], "accuracy_iou", at).columns


def _main_threshold(results: Sequence[Result], quantity: str) -> float:
    there = thresholds(results, quantity)
    return min(there, key=lambda t: abs(t - MAIN_THRESHOLD), default=MAIN_THRESHOLD)


def _table(results: Sequence[Result], quantity: str, controls: frozenset[str]) -> Pivot:
    ours = [r for r in results if r.source != "paper"]
    return pivot(results, quantity, _main_threshold(ours, quantity), controls)


def _runs(entries: Sequence[Entry]) -> list[tuple[str, bool, list[tuple[str, str]]]]:
    """What each predictions folder says of itself, once, however many policies it was measured under."""
    runs: dict[int, tuple[str, bool, list[tuple[str, str]]]] = {}
    for entry in entries:
        if entry.predictions is not None:
            meta = [(key, _shown(value)) for key, value in entry.predictions.meta.items()]
            runs.setdefault(id(entry.predictions), (entry.label, entry.is_control, meta))
    return list(runs.values())


def _hidden(entries: Sequence[Entry]) -> list[str]:
    hidden = [e.label for e in entries][MOST_GALLERIES:]
    return [f"The films of {', '.join(hidden)} are not shown; their numbers are."] if hidden else []


def _shown(value: object) -> str:
    if isinstance(value, Mapping):
        return "; ".join(f"{key}: {_shown(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_shown(inner) for inner in value)
    return str(value)


def _sections(results: Sequence[Result], controls: Sequence[str] | frozenset[str]) -> list[tuple[str, list[Section]]]:
    """Every quantity's tables, one a threshold, but for the AUROC, which has none."""
    out = []
    for quantity, title in QUANTITIES.items():
        tables = [pivot(results, quantity, at, controls) for at in (thresholds(results, quantity) or (math.nan,))]
        sections = [Section(_threshold_title(t), t, grouped(t)) for t in tables if t.rows]
        if sections:
            out.append((title, sections))
    return out


def _threshold_title(table: Pivot) -> str:
    if math.isnan(table.threshold) or table.quantity == "accuracy":
        return ""
    return f"{'IoBB' if table.quantity.endswith('iobb') else 'IoU'} > {table.threshold:g}"


def _rocs(entries: Sequence[Entry], index: Index) -> dict[str, list[Roc]]:
    """The methods' probabilities by finding, for films whose label says anything of it."""
    curves: dict[str, list[Roc]] = {}
    seen: list[Predictions] = []
    for entry in entries:
        predictions = entry.predictions
        if entry.is_control or predictions is None or any(predictions is other for other in seen):
            continue
        seen.append(predictions)
        rows = [(i, index.position[name]) for i, name in enumerate(predictions.images) if name in index.position]
        for finding in (f for f in index.findings if f in predictions.findings):
            c, k = index.findings.index(finding), predictions.findings.index(finding)
            known = [(i, at) for i, at in rows if index.known[at, c]]
            area = next((r for r in entry.results if r.quantity == "auroc" and r.finding == finding), None)
            target, score = index.target[[at for _, at in known], c], predictions.prob[[i for i, _ in known], k]
            curves.setdefault(finding, []).append(Roc(entry.label, target, score, area))
    return curves


def _gallery(entry: Entry, found: Detections, index: Index) -> Gallery:
    every = cases(index, found)
    nothing = missed(every)
    findings = []
    for finding in index.findings:
        tiles = [_tile(c, caption, entry, index) for caption, c in choose(every, finding)]
        if tiles:
            findings.append((finding, sum(c.finding == finding for c in every), tiles))
    shown = [_tile(c, "nothing found", entry, index) for c in spread(nothing, index.findings, MOST_MISSED)]
    policies = dict.fromkeys(r.policy for r in entry.results if r.quantity.startswith("accuracy"))
    return Gallery(", ".join((entry.label, *policies)), findings, shown, len(nothing), len(every))


def _tile(case: Case, caption: str, entry: Entry, index: Index) -> Tile:
    return tile(case, caption, index.records[index.position[case.image]], entry.predictions)
