"""Score predictions, and the controls beside them, by protocols: what `evaluate` prints and `report` draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from cxrlocus.data.images import read_film
from cxrlocus.data.records import Index
from cxrlocus.errors import ConfigError
from cxrlocus.methods.baselines.controls import CONTROLS, Setting
from cxrlocus.prediction.store import Predictions
from cxrlocus.protocols import PIXEL_PROTOCOLS, PROTOCOLS
from cxrlocus.protocols.either import boxes_by_either
from cxrlocus.protocols.infomask2019 import NAME as INFOMASK
from cxrlocus.protocols.masks import Criterion, FilmMeasures, Masking, Scale, measure_masks
from cxrlocus.protocols.places import boxes_by_places
from cxrlocus.protocols.policies import boxes_by_policy, check_halves
from cxrlocus.protocols.result import Result
from cxrlocus.protocols.shared import RunLabel
from cxrlocus.protocols.yao2018 import NAME as YAO
from cxrlocus.regions.detections import Detections
from cxrlocus.types import Findings, FloatArray, Frame, Policy

Boxes = Literal["heights", "places", "either"]
"""How a map becomes boxes."""

DEFAULT_GRID = (16, 16)
"""The grid of map controls beside boxes that came without maps."""


@dataclass(frozen=True)
class Scored:
    """A method or control under one policy.

    Args:
        predictions: its maps; None for boxes that came without, and for controls.
        detections: its boxes; None where maps were measured by protocols of pixels alone.
        results: its rows.
        is_control: whether it is a control.
        films: its masks film by film; None where protocol infomask2019 was not asked for.
    """

    predictions: Predictions | None
    detections: Detections | None
    results: list[Result]
    is_control: bool
    films: FilmMeasures | None = None


@dataclass(frozen=True)
class Measure:
    """How to measure.

    Args:
        protocols: by name.
        policy: where map thresholds come from.
        seed, resamples: of the bootstrap; the seed is that of the halves and of the random map, too.
        criterion, scale, raster: of the masks of protocol infomask2019, as ``masks.Masking`` has them.
        boxes: how a map becomes boxes: at "heights" of the map, or, under policy "validation", at the "places" of other
            patients' boxes (``protocols.places``), or by "either", as these choose (``protocols.either``); rows then
            say so as a variant.

    Raises:
        ConfigError: one of them is not what it may be.
    """

    protocols: Sequence[str] = ("wang2017",)
    policy: Policy = "fixed"
    seed: int = 0
    resamples: int = 1000
    criterion: Criterion = "fpr_fnr"
    scale: Scale | None = None
    raster: int = 256
    boxes: Boxes = "heights"

    def __post_init__(self) -> None:
        if self.boxes != "heights" and self.policy != "validation":
            raise ConfigError(
                f"boxes={self.boxes} takes the places of other patients' boxes, which policy {self.policy} does not "
                "have; take policy validation."
            )
        if min(self.seed, self.resamples) < 0:
            raise ConfigError(f"resamples and seed must not be negative; got {self.resamples} and {self.seed}.")
        self._masking(self.policy)
        known = (*PROTOCOLS, *PIXEL_PROTOCOLS)
        for name in self.protocols:
            if name not in known:
                raise ConfigError(f"protocol must be one of {', '.join(known)}; got {name!r}.")
            if self.boxes != "heights" and name not in PROTOCOLS:
                raise ConfigError(
                    f"boxes={self.boxes} acts on protocol {', '.join(PROTOCOLS)} alone: {name} boxes or cuts maps by "
                    "its own rule. Ask for it in another call."
                )

    @property
    def needs_boxes(self) -> bool:
        """Whether any protocol asks for the boxes of maps."""
        return any(name in PROTOCOLS for name in self.protocols)

    @property
    def told(self) -> str:
        """The policy, and what it chooses by where that is not the default: a name for files."""
        parts = [getattr(self, name) for name in ("criterion", "boxes") if not self._at_default(name)]
        return "-".join([self.policy, *parts])

    def _at_default(self, name: str) -> bool:
        return bool(getattr(self, name) == type(self).__dataclass_fields__[name].default)

    def check(self, images: Sequence[str], findings: Findings, index: Index) -> None:
        """See that the policy has boxes to choose by, where a protocol lets it choose; before a training, best.

        Raises:
            DataError: it has not.
        """
        if self.policy == "validation" and any(name != YAO for name in self.protocols):
            check_halves(images, findings, index, self.seed)

    def variant(self, of: str) -> str:
        """A row's variant, with how its boxes were drawn where that is not by heights."""
        return of if self.boxes == "heights" else ", ".join(filter(None, (of, f"by {self.boxes}")))

    def box(
        self, predictions: Predictions, index: Index, policy: Policy, gate: NDArray[np.bool_] | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> tuple[Detections, str]:  # fmt: skip
        """The boxes of maps, and a note of what was chosen."""
        if self.boxes == "places":
            return boxes_by_places(predictions, index, seed=self.seed, gate=gate, progress=progress)
        if self.boxes == "either":
            return boxes_by_either(predictions, index, seed=self.seed, gate=gate, progress=progress)
        return boxes_by_policy(predictions, index, policy, seed=self.seed, progress=progress, gate=gate)

    def films(
        self,
        found: Predictions | Detections,
        index: Index,
        policy: Policy,
        sizes: NDArray[np.int64] | None = None,
    ) -> FilmMeasures | None:
        """The masks of protocol infomask2019 film by film; None where it is not asked for."""
        if INFOMASK not in self.protocols:
            return None
        return measure_masks(found, index, self._masking(policy), sizes)

    def _masking(self, policy: Policy) -> Masking:
        return Masking(policy, self.criterion, self.scale, self.raster, self.seed)

    def results(
        self, detections: Detections, index: Index, label: RunLabel, prob: NDArray[np.float32] | None
    ) -> list[Result]:
        """The rows of all protocols of boxes."""
        return [
            row
            for name in self.protocols
            if name in PROTOCOLS
            for row in PROTOCOLS[name](
                detections, index, prob=prob, label=label, seed=self.seed, resamples=self.resamples
            )
        ]

    def pixel_results(
        self,
        found: Predictions | Detections,
        index: Index,
        label: RunLabel,
        prob: NDArray[np.float32] | None = None,
        sizes: NDArray[np.int64] | None = None,
        films: FilmMeasures | None = None,
    ) -> list[Result]:
        """The rows of all protocols of pixels: of maps, or of boxes on films of these sizes (N, 2).

        ``films`` is what ``Measure.films`` says of the same, under the label's policy.
        """
        rows: list[Result] = []
        for name in (n for n in self.protocols if n in PIXEL_PROTOCOLS):
            known = {"measures": films} if name == INFOMASK else {}
            rows += PIXEL_PROTOCOLS[name](
                found, index, prob=prob, label=label, seed=self.seed, resamples=self.resamples, sizes=sizes, **known
            )
        return rows


def score_predictions(
    predictions: Predictions, index: Index, measure: Measure, progress: Callable[[int], object] | None = None
) -> Scored:
    """Apply the measure's protocols to maps: to their boxes under its policy, to the maps themselves, or to both.

    Raises:
        DataError: the policy is "validation" and all boxes are on one half of the patients.
    """
    measure.check(predictions.images, predictions.findings, index)
    meta = predictions.meta
    knows = str(meta.get("knows", ""))
    variant = measure.variant(str(meta.get("variant", "")))
    label = RunLabel(str(meta["method"]), variant, index.dataset, measure.policy, knows)
    detections, results = None, []
    if measure.needs_boxes:
        # Only boxed films are measured, 880 of the 25,596 of NIH's test list: the rest need no boxes.
        boxed = {r.image for r in index.records if r.boxes}
        gate = np.array([[name in boxed] * len(predictions.findings) for name in predictions.images], dtype=np.bool_)
        detections, note = measure.box(predictions, index, measure.policy, gate, progress)
        noted = replace(label, note="; ".join(filter(None, (knows, note))))
        results = measure.results(detections, index, noted, predictions.prob)
    films = measure.films(predictions, index, label.policy)
    results += measure.pixel_results(predictions, index, label, predictions.prob, films=films)
    return Scored(predictions, detections, results, is_control=False, films=films)


def score_boxes(detections: Detections, index: Index, measure: Measure, name: str) -> Scored:
    """Apply the protocols to boxes that came without maps; no threshold is chosen, so the policy is "fixed"."""
    label = RunLabel(f"{name}.csv" if name in CONTROLS else name, "", index.dataset, "fixed", "boxes as given")
    results, films = measure.results(detections, index, label, None), None
    if any(name in PIXEL_PROTOCOLS for name in measure.protocols):
        # A film's size may stand in its file alone, so only films that are measured are asked for theirs.
        looked_at = set(detections.images)
        boxed = index.subset([i for i, r in enumerate(index.records) if r.boxes and r.image in looked_at])
        sizes, given = film_sizes(boxed, detections), on_films(detections, boxed.images)
        films = measure.films(given, index, label.policy, sizes)
        results += measure.pixel_results(given, index, label, sizes=sizes, films=films)
    return Scored(None, detections, results, is_control=False, films=films)


def on_films(detections: Detections, images: Sequence[str]) -> Detections:
    """The detections on some of their films, in the order of ``images``."""
    wanted = {name: i for i, name in enumerate(images)}
    place = np.array([wanted.get(name, -1) for name in detections.images], dtype=np.int64)
    kept = place[detections.image] >= 0
    return Detections(
        tuple(images),
        detections.findings,
        place[detections.image[kept]],
        detections.finding[kept],
        detections.xyxy[kept],
        detections.score[kept],
    )


def score_controls(index: Index, measure: Measure, like: Predictions | Detections) -> list[Scored]:
    """Every control on the boxed films of the index, on the findings and the grid of what it stands beside.

    A control that learns from other patients is left out where there are none.
    """
    grid = (like.maps.shape[2], like.maps.shape[3]) if isinstance(like, Predictions) else DEFAULT_GRID
    boxed = index.subset([i for i, r in enumerate(index.records) if r.boxes])
    sizes = film_sizes(boxed, like)
    setting = Setting(boxed, sizes, map_frames(boxed, sizes, like), like.findings, grid, measure.seed)
    scored = []
    for name, control in CONTROLS.items():
        if control.needs_patients > len(set(boxed.patients)):
            continue
        policy = measure.policy if control.policy == "any" else control.policy
        variant = measure.variant("") if control.policy == "any" else ""
        label = RunLabel(name, variant, index.dataset, policy, f"knows {control.knows}")
        scored.append(_score_control(control.make(setting), boxed, measure, label, sizes))
    return scored


def _score_control(
    made: Predictions | Detections, index: Index, measure: Measure, label: RunLabel, sizes: NDArray[np.int64]
) -> Scored:
    detections, note = (made, "") if isinstance(made, Detections) else (None, "")
    if isinstance(made, Predictions) and measure.needs_boxes:
        detections, note = measure.box(made, index, label.policy)
    results = []
    if detections is not None:
        noted = replace(label, note="; ".join(filter(None, (label.note, note))))
        results = measure.results(detections, index, noted, None)
    films = measure.films(made, index, label.policy, sizes)
    results += measure.pixel_results(made, index, label, sizes=sizes, films=films)
    return Scored(None, detections, results, is_control=True, films=films)


def map_frames(index: Index, sizes: NDArray[np.int64], like: Predictions | Detections) -> FloatArray:
    """The frame (N, 2, 3) of each film's map: the predictions' own, or the whole film where there is none."""
    known = dict(zip(like.images, like.frames, strict=True)) if isinstance(like, Predictions) else {}
    whole = (Frame.of_size(*size).matrix for size in sizes.tolist())
    return np.array([known.get(name, frame) for name, frame in zip(index.images, whole, strict=True)]).reshape(-1, 2, 3)


def film_sizes(index: Index, like: Predictions | Detections) -> NDArray[np.int64]:
    """Width and height (N, 2) of each film: from its record, from the predictions, or from the file.

    Raises:
        ImageError: a file that must be read for its size cannot be.
    """
    known: dict[str, tuple[int, int]] = {}
    if isinstance(like, Predictions):
        known = {name: (int(w), int(h)) for name, (w, h) in zip(like.images, like.sizes, strict=True)}

    def size(image: str, path: Path, declared: tuple[int, int] | None) -> tuple[int, int]:
        if declared or image in known:
            return declared or known[image]
        height, width = read_film(path).shape
        return width, height

    return np.array([size(r.image, r.path, r.size) for r in index.records], dtype=np.int64).reshape(-1, 2)
