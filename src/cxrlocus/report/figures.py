"""Figures as inline SVG: accuracy against overlap, ROC curves, densities. Methods solid, controls dashed."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import ArrayLike
from scipy.stats import gaussian_kde

from cxrlocus.protocols.result import Result
from cxrlocus.report.tables import Pivot, Row, grouped, number, pivot, thresholds
from cxrlocus.types import FloatArray

METHOD_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#AA4499", "#000000", "#882255")
CONTROL_COLOURS = ("#7F7F7F", "#B08D2E", "#56B4E9", "#CC79A7", "#4D4D4D", "#A6A6A6")
"""Colours that stay apart for colour-blind readers (Okabe and Ito; Tol); dashes tell controls apart a second time."""

MUTED = {"alpha": 0.6, "linewidth": 1.1, "zorder": 1.5}
"""How controls stand back behind methods."""

DASHES = ((4, 1.6), (1.2, 1.2), (6, 1.5, 1.2, 1.5), (2.6, 1), (6, 1.2, 1.2, 1.2, 1.2, 1.2), (8, 2))

_STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888",
    "axes.linewidth": 0.7,
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.6,
    "xtick.color": "#555",
    "ytick.color": "#555",
    "text.color": "#222",
    "axes.labelcolor": "#444",
    "legend.frameon": False,
    "svg.hashsalt": "cxrlocus",
    "svg.fonttype": "none",
    "text.parse_math": False,
}


WIDTH = 11.6
"""Width of the page's figures in inches of 96 pixels: that of its tables."""

TALLEST = 25
"""Where densities are cut: a method that is the same on nearly all films would flatten every other."""

ABOVE_METHODS = 1.5
"""Controls are cut at this multiple of the methods' tallest peak: they say the same of every film, which is a spike."""

FLAT = 1e-9
"""Values that lie within this have no density: they are one value."""

_FONTS = "system-ui, -apple-system, 'Segoe UI', Helvetica, Arial, sans-serif"

Item = TypeVar("Item")


@dataclass(frozen=True)
class Line:
    """One row of Results as a curve over the threshold: its label, whether it is a control, x, y and the interval."""

    label: str
    is_control: bool
    x: FloatArray
    y: FloatArray
    lo: FloatArray
    hi: FloatArray


def lines(results: Iterable[Result], quantity: str, finding: str, controls: Collection[str] = ()) -> list[Line]:
    """Our Results of one quantity and finding as curves, methods first; every point is a Result's value.

    Example:
        >>> rows = [Result("p", "cam", "", "d", "mean", "accuracy_iou", t, "fixed", v, v, v, 9)
        ...         for t, v in ((0.5, 0.1), (0.1, 0.6))]
        >>> [curve] = lines(rows, "accuracy_iou", "mean")
        >>> curve.label, curve.x.tolist(), curve.y.tolist()
        ('cam', [0.1, 0.5], [0.6, 0.1])
    """
    ours = [r for r in results if r.source != "paper" and r.finding == finding and r.quantity == quantity]
    cells: dict[tuple[str, bool], list[Result]] = {}
    policies = {(r.method, r.variant, r.policy) for r in ours}
    protocols = {r.protocol for r in ours}
    for at in thresholds(ours, quantity):
        for row, cell in _cells(pivot(ours, quantity, at, controls), finding):
            alone = sum((m, v) == (row.method, row.variant) for m, v, _ in policies) == 1
            parts = [row.label.replace("_", " "), *([] if alone else [row.policy])]
            label = ", ".join(parts if len(protocols) == 1 else [*parts, row.protocol])
            cells.setdefault((label, row.is_control), []).append(cell)
    out = []
    for (label, is_control), rs in cells.items():
        x, y, lo, hi = (np.array([getattr(r, name) for r in rs]) for name in ("threshold", "value", "lo", "hi"))
        out.append(Line(label, is_control, x, y, lo, hi))
    return sorted(out, key=lambda line: line.is_control)


def accuracy_figure(results: Sequence[Result], quantity: str, label: str, controls: Collection[str] = ()) -> str:
    """Mean of findings against the threshold, with intervals, as an SVG data URI; empty if there is nothing to draw.

    Args:
        results: rows of one protocol.
        quantity: e.g. "accuracy_iou".
        label: what the axis of thresholds is called.
        controls: the methods that are controls.
    """
    curves = lines(results, quantity, "mean", controls)
    if not curves:
        return ""
    with figure_of(8.6, max(3.5, 0.6 + 0.17 * len(curves))) as figure:
        axes = figure.add_subplot()
        for line, style in zip(curves, _styles(curves), strict=True):
            axes.plot(line.x, line.y, label=line.label, zorder=2 if line.is_control else 3, **style)
            if not line.is_control:
                axes.fill_between(line.x, line.lo, line.hi, color=style["color"], alpha=0.13, linewidth=0)
        axes.set_xlabel(label)
        axes.set_ylabel("accuracy, mean of findings")
        _unit_range(axes, curves)
        axes.legend(loc="upper left", bbox_to_anchor=(1.02, 1.02), borderaxespad=0, handlelength=2.8)
    return _uri(figure)


def small_multiples(
    results: Sequence[Result], quantity: str, label: str, findings: Sequence[str], controls: Collection[str] = ()
) -> str:
    """Accuracy against the threshold, a panel a finding, as an SVG data URI; empty if there is nothing to draw."""
    curves = {finding: lines(results, quantity, finding, controls) for finding in findings}
    curves = {finding: found for finding, found in curves.items() if any(not np.isnan(c.y).all() for c in found)}
    if not curves:
        return ""
    labels = list(dict.fromkeys((c.label, c.is_control) for found in curves.values() for c in found))
    styles = dict(zip(labels, _styles_of([is_control for _, is_control in labels]), strict=True))
    with figure_of(WIDTH, 2.1 * math.ceil(len(curves) / _across(len(curves))) + 0.3) as figure:
        for axes, (finding, found) in _panels(figure, curves):
            for line in found:
                axes.plot(line.x, line.y, **{**styles[line.label, line.is_control], "linewidth": 1.3, "markersize": 2})
            axes.set_title(finding.replace("_", " "))
            axes.set_ylim(-0.02, 1.02)
            axes.set_yticks([0, 0.5, 1])
        figure.supxlabel(label, x=_middle(len(curves)), fontsize=9, color="#444")
    return _uri(figure)


@dataclass(frozen=True)
class Roc:
    """One method's probabilities for one finding: label, target (N,) 0/1, score (N,), and the AUROC's Result if any."""

    label: str
    target: ArrayLike
    score: ArrayLike
    area: Result | None


def roc_points(target: ArrayLike, score: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """False and true positive rates at every distinct score, from (0, 0) to (1, 1); empty without both classes.

    Films with equal scores are one step, so ties draw the straight line that the area counts as one half.

    Args:
        target: (N,) 0 or 1.
        score: (N,) higher is surer.

    Example:
        >>> [rate.tolist() for rate in roc_points([0, 1, 0, 1], [0.1, 0.2, 0.2, 0.9])]
        [[0.0, 0.0, 0.5, 1.0], [0.0, 0.5, 1.0, 1.0]]
    """
    positive = np.asarray(target).reshape(-1) == 1
    values = np.asarray(score, dtype=np.float64).reshape(-1)
    if positive.all() or not positive.any():
        return np.empty(0), np.empty(0)
    order = np.argsort(-values, kind="stable")
    last = np.append(np.diff(values[order]) != 0, True)
    hits, misses = np.cumsum(positive[order])[last], np.cumsum(~positive[order])[last]
    return np.append(0.0, misses / misses[-1]), np.append(0.0, hits / hits[-1])


def roc_figure(curves: Mapping[str, Sequence[Roc]]) -> str:
    """ROC curves, a panel a finding, areas as the Results give them, as an SVG data URI; empty if there is none."""
    drawn = {f: [(r, *roc_points(r.target, r.score)) for r in rocs] for f, rocs in curves.items()}
    drawn = {f: [d for d in rocs if len(d[1])] for f, rocs in drawn.items()}
    drawn = {f: rocs for f, rocs in drawn.items() if rocs}
    if not drawn:
        return ""
    labels = list(dict.fromkeys(d[0].label for rocs in drawn.values() for d in rocs))
    with figure_of(WIDTH, 10 / _across(len(drawn)) * math.ceil(len(drawn) / _across(len(drawn))) + 0.3) as figure:
        for axes, (finding, rocs) in _panels(figure, drawn):
            axes.plot([0, 1], [0, 1], color="#bbb", linewidth=0.8, linestyle=(0, (2, 2)))
            for k, (roc, x, y) in enumerate(rocs):
                colour = METHOD_COLOURS[labels.index(roc.label) % len(METHOD_COLOURS)]
                axes.plot(*_thinned(x, y), color=colour, linewidth=1.4)
                area = number(roc.area.value, 3) if roc.area else ""
                axes.text(0.98, 0.04 + 0.12 * (len(rocs) - 1 - k), area, color=colour, ha="right", fontsize=9)
            axes.set_title(finding.replace("_", " "))
            axes.set_aspect("equal")
            axes.set_xticks([0, 0.5, 1])
            axes.set_yticks([0, 0.5, 1])
        figure.supxlabel("false positive rate", x=_middle(len(drawn)), fontsize=9, color="#444")
        figure.supylabel("true positive rate", fontsize=9, color="#444")
        if len(labels) > 1:
            keys = [Line2D([], [], color=METHOD_COLOURS[k % len(METHOD_COLOURS)]) for k in range(len(labels))]
            names = [label.replace("_", " ") for label in labels]
            figure.legend(keys, names, loc="outside upper left", ncols=_columns_for(names))
    return _uri(figure)


def density(values: ArrayLike, at: ArrayLike) -> FloatArray:
    """Gaussian kernel density of values in [0, 1] (Scott's bandwidth), with nothing lost beyond the ends.

        f(x) = g(x - 2) + g(-x) + g(x) + g(2 - x) + g(x + 2),  0 <= x <= 1,  g the plain density

    What a kernel puts below 0 or above 1, where no share can be, is mirrored back, so that the area is 1.

    Args:
        values: (n,) in [0, 1]; NaN is left out.
        at: (k,) points in [0, 1].

    Returns:
        (k,) densities; empty without two distinct values, which have no bandwidth.

    Raises:
        ValueError: a value is outside [0, 1].

    Example:
        >>> density([0.0, 0.5, 1.0], [0.25, 0.75]).round(2).tolist(), density([0.5, 0.5], [0.5]).tolist()
        ([1.0, 1.0], [])
    """
    given = np.asarray(values, dtype=np.float64).reshape(-1)
    given = given[~np.isnan(given)]
    if given.size and not (given.min() >= 0 and given.max() <= 1):
        raise ValueError(f"values must be in [0, 1]; got {given.min()} to {given.max()}. Give shares.")
    if not given.size or np.ptp(given) < FLAT:
        return np.empty(0)
    x, kernel = np.asarray(at, dtype=np.float64), gaussian_kde(given)
    return np.asarray(sum(kernel(image) for image in (x - 2, -x, x, 2 - x, x + 2)))


def density_figure(panels: Mapping[str, Mapping[str, ArrayLike]], controls: Collection[str] = ()) -> str:
    """Kernel densities of measures in [0, 1], a panel a measure, as an SVG data URI; empty if there is nothing to draw.

    As Fig. 2 of InfoMask (2019), for its IoP, FPR and FNR of films. Values that are all the same are a vertical line.

    Args:
        panels: title of a measure -> label of a method -> its values (n,), a film each; NaN is left out, and counted.
        controls: the labels that are controls, drawn faintly.
    """
    labels = list(dict.fromkeys(label for rows in panels.values() for label in rows))
    labels.sort(key=lambda label: label in controls)
    styles = dict(zip(labels, _styles_of([label in controls for label in labels]), strict=True))
    for label in set(labels) & set(controls):
        styles[label] = {**styles[label], **MUTED}
    kept = {t: {k: _defined(v) for k, v in rows.items() if len(_defined(v))} for t, rows in panels.items()}
    kept = {title: rows for title, rows in kept.items() if rows}
    if not kept:
        return ""
    x = np.linspace(0, 1, 201)
    with figure_of(WIDTH, 3.2 + 0.1 * len(labels)) as figure:
        for k, (title, rows) in enumerate(kept.items()):
            axes = figure.add_subplot(1, len(kept), k + 1)
            for label in (label for label in labels if label in rows):
                style = {**styles[label], "marker": ""}
                y = density(rows[label], x)
                if len(y):
                    axes.plot(x, y, label=label, **style)
                else:
                    axes.axvline(rows[label][0], label=label, **style)
            axes.set_title(title)
            axes.set_xlim(-0.01, 1.01)
            axes.set_ylim(0, _top(axes, [label not in controls for label in labels if label in rows]))
        figure.supylabel("density over films", fontsize=9, color="#444")
        labels = [label for label in labels if any(np.size(rows.get(label, ())) for rows in panels.values())]
        keys = [Line2D([], [], **{**styles[label], "marker": ""}) for label in labels]
        told = [_counted(label, panels) for label in labels]
        figure.legend(keys, told, loc="outside lower center", ncols=_columns_for(told))
    return _uri(figure)


def _top(axes: Axes, are_methods: Sequence[bool]) -> float:
    curves = [line for line, is_method in zip(axes.get_lines(), are_methods, strict=True) if is_method]
    peaks = [float(np.max(y)) for y in (np.asarray(c.get_ydata()) for c in curves) if len(y) > 2]
    highest = ABOVE_METHODS * max(peaks) if peaks else math.inf
    return min(TALLEST, highest, axes.get_ylim()[1])


def _defined(values: ArrayLike) -> FloatArray:
    given = np.asarray(values, dtype=np.float64).reshape(-1)
    return np.asarray(given[~np.isnan(given)])


def _counted(label: str, panels: Mapping[str, Mapping[str, ArrayLike]]) -> str:
    """A method's name with how many films each panel is over and in how many it is undefined, once where they agree."""
    titles: dict[str, list[str]] = {}
    for title, rows in panels.items():
        given = np.asarray(rows.get(label, ()), dtype=np.float64).reshape(-1)
        lost = int(np.isnan(given).sum())
        told = f"n = {given.size - lost}" + (f", {lost} undefined" if lost else "")
        titles.setdefault(told, []).append(title)
    parts = [told if len(titles) == 1 else f"{' '.join(names)} {told}" for told, names in titles.items()]
    return f"{label.replace('_', ' ')} ({'; '.join(parts)})"


def _cells(table: Pivot, finding: str) -> Iterator[tuple[Row, Result]]:
    for group in grouped(table):
        for row in group:
            cell = table.value(row, finding)
            if cell is not None:
                yield row, cell


def _styles(curves: Sequence[Line]) -> list[dict[str, Any]]:
    return _styles_of([c.is_control for c in curves])


def _styles_of(are_controls: Sequence[bool]) -> list[dict[str, Any]]:
    styles: list[dict[str, Any]] = []
    for position, is_control in enumerate(are_controls):
        k = are_controls[:position].count(is_control)
        if is_control:
            dashes = (0, DASHES[k % len(DASHES)])
            styles.append({"color": CONTROL_COLOURS[k % len(CONTROL_COLOURS)], "linestyle": dashes, "linewidth": 1.4})
        else:
            colour = METHOD_COLOURS[k % len(METHOD_COLOURS)]
            styles.append({"color": colour, "linewidth": 2.0, "marker": "o", "markersize": 3.5})
    return styles


def _unit_range(axes: Axes, curves: Sequence[Line]) -> None:
    top = max((np.nanmax(np.append(np.append(c.y, c.hi), 0.0)) for c in curves), default=1.0)
    axes.set_ylim(-0.01, min(1.02, max(0.2, 1.08 * top)))
    axes.set_xticks(curves[0].x)


def _thinned(x: FloatArray, y: FloatArray, most: int = 400) -> tuple[FloatArray, FloatArray]:
    keep = np.unique(np.linspace(0, len(x) - 1, most).round().astype(int))
    return x[keep], y[keep]


def _columns_for(names: Sequence[str]) -> int:
    """How many columns of a legend fit the figure's width."""
    return max(1, min(4, 150 // (max(map(len, names)) + 8)))


def _across(panels: int) -> int:
    return 4 if panels <= 8 else 5


def _middle(panels: int) -> float:
    """Where the middle of the panels' first row is, a share of the figure's width."""
    return min(panels, _across(panels)) / (2 * _across(panels))


def _panels(figure: Figure, items: Mapping[str, Item]) -> Iterator[tuple[Axes, tuple[str, Item]]]:
    across = _across(len(items))
    for k, item in enumerate(items.items()):
        yield figure.add_subplot(math.ceil(len(items) / across), across, k + 1), item


@contextmanager
def figure_of(width: float, height: float) -> Iterator[Figure]:
    """A figure in the page's style, of a size in inches of 96 pixels."""
    with mpl.rc_context(_STYLE):
        yield Figure(figsize=(width, height), layout="constrained")


def svg_of(figure: Figure) -> bytes:
    """A figure as SVG: text stays text in the reader's own font, so the file is small and can be searched."""
    buffer = io.StringIO()
    with mpl.rc_context(_STYLE):
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue().replace("'DejaVu Sans'", _FONTS).encode("utf-8")


def _uri(figure: Figure) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg_of(figure)).decode("ascii")
