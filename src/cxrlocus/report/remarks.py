"""What a page does not show, said in sentences: what was left out, and what its numbers cannot tell."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from cxrlocus.data.records import Index


def remarks(index: Index, looked_at: Sequence[Sequence[str]], galleries: Sequence[tuple[str, int]]) -> list[str]:
    """Sentences on films left out, truths that are missing, and pictures that are not shown.

    Args:
        index: the films.
        looked_at: names of the films that each method looked at.
        galleries: label and number of cases of each method whose films are shown.

    Example:
        >>> from pathlib import Path
        >>> from cxrlocus.data.records import Record
        >>> from cxrlocus.types import Findings
        >>> index = Index("d", Path("."), Findings(("Mass",)), (Record("a", Path("a"), "p"),))
        >>> remarks(index, [], [])[0]
        'No box of Mass is in this data set: nothing is said of where a method sees it.'
    """
    said = [
        *_dropped(index),
        *_not_looked_at(index, looked_at),
        *_unboxed(index),
        *_without_boxes(index),
        *_one_class(index),
    ]
    for label, count in galleries:
        said.append(
            f"{label} looked at {count} pairs of film and finding with a true box; the films shown are the best, the "
            f"median and the worst of each finding and a few of those in which nothing was found, and no others."
        )
    said.append(
        "Intervals are 95 % bootstraps over patients of these films: they hold no doubt about training (another seed), "
        "about the labels, or about another hospital's films, and they are not corrected for the number of comparisons."
    )
    said.append("This is a research report and not for clinical use.")
    return said


def _dropped(index: Index) -> list[str]:
    if not index.dropped:
        return []
    reasons = Counter(d.reason for d in index.dropped)
    named = "; ".join(f"{count} × {reason}" for reason, count in reasons.most_common(8))  # noqa: RUF001 (a times sign)
    more = "; ..." if len(reasons) > 8 else ""
    return [f"{len(index.dropped)} items were left out of the data set: {named}{more}. They are listed below."]


def _not_looked_at(index: Index, looked_at: Sequence[Sequence[str]]) -> list[str]:
    said = []
    counts = Counter(len(set(index.images) - set(images)) for images in looked_at)
    for count, methods in sorted(counts.items()):
        if count:
            who = f"{methods} of {len(looked_at)} methods" if len(looked_at) > 1 else "The method"
            said.append(
                f"{who} did not look at {count} of the {len(index)} films. Boxes on them count as missed; "
                "the AUROC is of the other films."
            )
    strangers = len({name for images in looked_at for name in images} - set(index.images))
    if strangers:
        said.append(f"{strangers} films were predicted on that this data set does not hold; they are not shown.")
    return said


def _unboxed(index: Index) -> list[str]:
    boxed = {(r.image, b.finding) for r in index.records for b in r.boxes}
    found = {f for _, f in boxed}
    count = sum((r.image, f) not in boxed for r in index.records for f in r.positive if f in found)
    if not count:
        return []
    return [f"{count} labels of boxed findings have no box; a box found there may be right and still count as false."]


def _without_boxes(index: Index) -> list[str]:
    boxed = {b.finding for r in index.records for b in r.boxes}
    bare = [f.replace("_", " ") for f in index.findings if f not in boxed]
    if not bare:
        return []
    return [f"No box of {_listed(bare)} is in this data set: nothing is said of where a method sees it."]


def _one_class(index: Index) -> list[str]:
    said = []
    normal = sum(r.is_normal for r in index.records)
    if not normal:
        said.append("No film here is free of all findings, so false positives on normal films are not measured.")
    for c, finding in enumerate(index.findings):
        known = index.target[index.known[:, c], c]
        if len(set(known.tolist())) < 2:
            said.append(f"{finding.replace('_', ' ')} is either on all films or on none, so it has no ROC curve.")
    return said


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " or " + names[-1]
