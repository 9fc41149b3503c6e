"""What a page is about: its methods and controls, and names that tell them apart."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from cxrlocus.prediction.panels import Panels
from cxrlocus.prediction.store import Predictions
from cxrlocus.protocols.masks import FilmMeasures
from cxrlocus.protocols.result import Result, label_of
from cxrlocus.regions.detections import Detections

MOST_FACTS = 3
"""Options that a name may hold; runs that differ in more are called by their preset."""


@dataclass(frozen=True)
class Entry:
    """What one method or control brings to the page.

    Args:
        predictions: probabilities and maps; None where only boxes are at hand.
        detections: its boxes; None where maps were measured on pixels alone.
        results: what it measured, under one or several policies.
        is_control: whether it is a control.
        films: its masks film by film, as protocol infomask2019 measured them; None where it did not.
        panels: what else it shows of a few films; None where there is nothing.
    """

    predictions: Predictions | None
    detections: Detections | None
    results: list[Result]
    is_control: bool
    films: FilmMeasures | None = None
    panels: Panels | None = None

    @property
    def label(self) -> str:
        """Method and variant, as a person reads them."""
        ours = next((r for r in self.results if r.source == "ours"), None)
        meta: Mapping[str, Any] = {} if self.predictions is None else self.predictions.meta
        method = ours.method if ours else str(meta.get("method", "boxes"))
        variant = ours.variant if ours else str(meta.get("variant", ""))
        return label_of(method, variant)

    @property
    def looked_at(self) -> tuple[str, ...] | None:
        """The films that were looked at; None where that is not known (a control's maps)."""
        if self.detections is not None:
            return self.detections.images
        return None if self.predictions is None else self.predictions.images


def distinct(entries: Sequence[Entry]) -> list[Entry]:
    """The entries, with more in the variant of those that claim the same rows as another.

    Trainings of one method that differ by seed are called "seed 0", "seed 1"; those that differ by an option or two are
    called by these, "alpha=0.1"; where nothing tells them apart, the second is "run 2", and so on in the order given.
    Entries of the same method under another policy or another
    protocol claim other rows and keep their name.
    """
    first: dict[tuple[object, ...], int] = {}
    groups: dict[int, list[int]] = {}
    for k, entry in enumerate(entries):
        claims = [_row_of(r) for r in entry.results]
        group = min((first[claim] for claim in claims if claim in first), default=k)
        for claim in claims:
            first.setdefault(claim, group)
        groups.setdefault(group, []).append(k)
    names = {k: name for group in groups.values() for k, name in zip(group, _told_apart(group, entries), strict=True)}
    return [
        replace(e, results=[replace(r, variant=f"{r.variant} {names[k]}".strip()) for r in e.results])
        for k, e in enumerate(entries)
    ]


def column_names(entries: Sequence[Entry]) -> list[str]:
    """A name of its own for each entry: its label, with its policies where another entry has the same label."""
    labels = [entry.label for entry in entries]
    full = [
        ", ".join((e.label, *dict.fromkeys(r.policy for r in e.results))) if labels.count(e.label) > 1 else e.label
        for e in entries
    ]
    return [name if full.count(name) == 1 else f"{name}, {full[: k + 1].count(name)}" for k, name in enumerate(full)]


def _row_of(r: Result) -> tuple[object, ...]:
    at = None if math.isnan(r.threshold) else r.threshold
    return (r.protocol, r.method, r.variant, r.policy, r.dataset, r.source, r.finding, r.quantity, at, r.detail)


def _told_apart(group: Sequence[int], entries: Sequence[Entry]) -> list[str]:
    if len(group) == 1:
        return [""]
    metas = [{} if p is None else p.meta for p in (entries[k].predictions for k in group)]
    facts = [{**_config(meta), "seed": meta.get("seed")} for meta in metas]
    if len(_different(facts)) > MOST_FACTS:
        facts = [{"preset": meta.get("preset"), "seed": meta.get("seed")} for meta in metas]
    names = [", ".join(_fact(key, told[key]) for key in _different(facts) if key in told) for told in facts]
    again = [names[: k + 1].count(name) for k, name in enumerate(names)]
    return [f"{name} run {k}".strip() if k > 1 else name for name, k in zip(names, again, strict=True)]


def _config(meta: Mapping[str, Any]) -> Mapping[str, Any]:
    config = meta.get("config")
    return config if isinstance(config, Mapping) else {}


def _different(facts: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = dict.fromkeys(key for told in facts for key in told)
    return [key for key in keys if len({repr(told.get(key)) for told in facts}) > 1]


def _fact(key: str, value: object) -> str:
    return "" if value is None else f"seed {value}" if key == "seed" else f"{key}={value}"
