"""Small worlds of films, true boxes and detected boxes for the tests of protocols."""

from collections import Counter
from pathlib import Path

import numpy as np

from cxrlocus.data.records import Index, Record, TruthBox
from cxrlocus.protocols.wang2017 import IOBB, IOU, RunLabel, wang2017
from cxrlocus.regions.detections import Detections
from cxrlocus.types import BOXED8, Findings

LABEL = RunLabel("hand", "v", "toy", "fixed", "a note")
ACCURACIES = {"accuracy_iou": IOU, "accuracy_iobb": IOBB}
FALSE = {"afp": IOU, "afp_labelled": IOU, "afp_iobb": IOBB}
OFFICIAL = dict(zip(BOXED8, (180, 146, 153, 123, 85, 79, 120, 98), strict=True))


def index_of(records, findings=BOXED8):
    return Index("toy", Path("toy"), findings, tuple(records))


def film(name, *boxes, patient=None, positive=None, unknown=(), size=(1024, 1024)):
    """A film with boxes (finding, x0, y0, x1, y1); its label names their findings unless told otherwise."""
    truth = tuple(TruthBox(f, tuple(map(float, xyxy))) for f, *xyxy in boxes)
    named = {f for f, *_ in boxes} if positive is None else set(positive)
    return Record(name, Path(name), patient or name, "test", frozenset(named), frozenset(unknown), truth, size)


def found(images, rows, findings=BOXED8):
    """Detections from rows (film position, finding, x0, y0, x1, y1)."""
    return Detections(
        tuple(images),
        findings,
        np.array([r[0] for r in rows], dtype=int),
        np.array([findings.index(r[1]) for r in rows], dtype=int),
        np.array([r[2:] for r in rows], dtype=float).reshape(-1, 4),
        np.ones(len(rows)),
    )


def perfect(index):
    """The true boxes as detections."""
    rows = [(i, b.finding, *b.xyxy) for i, r in enumerate(index.records) for b in r.boxes]
    return found(index.images, rows, index.findings)


def random_world(seed, films=12, most=3):
    """Films of a few patients with up to ``most`` true and detected boxes of three findings at whole coordinates."""
    rng = np.random.default_rng(seed)
    findings = Findings(("Mass", "Nodule", "Effusion"))

    def boxes(k):
        corner, size = rng.integers(0, 20, (k, 2)), rng.integers(1, 20, (k, 2))
        names = [findings.names[c] for c in rng.integers(0, 3, k)]
        return [(n, *map(int, c), *map(int, c + s)) for n, c, s in zip(names, corner, size, strict=True)]

    records = [
        film(
            f"{i}.png",
            *boxes(int(rng.integers(0, most + 1))),
            patient=str(rng.integers(0, 6)),
            size=(40, 40),
            positive=[f for f in findings if rng.random() < 0.5],
            unknown=[],
        )
        for i in range(films)
    ]
    index = index_of(records, findings)
    rows = [(i, *box) for i in range(films) for box in boxes(int(rng.integers(0, most + 2)))]
    return index, found(index.images, rows, findings)


def official_world(seed=0):
    """880 films of 726 patients with the official 984 boxes: one a film and finding, in NIH's numbers a finding."""
    rng = np.random.default_rng(seed)
    todo = [name for name, n in OFFICIAL.items() for _ in range(n)]
    holding = [[] for _ in range(880)]
    for k, name in enumerate(todo):
        place = k if k < 880 else next(i for i in rng.permutation(880) if name not in holding[i])
        holding[place].append(name)
    records = []
    for i, names in enumerate(holding):
        corner, size = rng.uniform(0, 600, (len(names), 2)), rng.uniform(20, 400, (len(names), 2))
        boxes = [(n, *c, *(c + s)) for n, c, s in zip(names, corner, size, strict=True)]
        records.append(film(f"{i:04}.png", *boxes, patient=str(i % 726)))
    return index_of(records)


def values(rows, quantity, finding):
    return [r.value for r in rows if r.quantity == quantity and r.finding == finding]


def measure(detections, index, **options):
    """wang2017 with the toy label, and without intervals unless they are asked for."""
    return wang2017(detections, index, label=LABEL, **{"resamples": 0, **options})


def overlap(p, t, quantity):
    """IoU or IoBB of a detected and a true box."""
    w, h = min(p[2], t[2]) - max(p[0], t[0]), min(p[3], t[3]) - max(p[1], t[1])
    common = w * h if w > 0 and h > 0 else 0
    area_p, area_t = (p[2] - p[0]) * (p[3] - p[1]), (t[2] - t[0]) * (t[3] - t[1])
    return common / area_p if quantity.endswith("iobb") else common / (area_p + area_t - common)


def second_reading(detections, index):
    """The paper in plain loops: no arrays, no joins, boxes as four numbers."""
    boxes = list(zip(detections.image.tolist(), detections.finding.tolist(), detections.xyxy.tolist(), strict=True))

    def of(record, finding):
        return [
            xyxy
            for i, c, xyxy in boxes
            if detections.images[i] == record.image and detections.findings.names[c] == finding
        ]

    n = Counter(b.finding for r in index.records for b in r.boxes)
    out = {}
    for quantity, thresholds in {**ACCURACIES, **FALSE}.items():
        for t in thresholds:
            each = []
            for finding in (f for f in index.findings if n[f]):
                count = 0
                for record in (r for r in index.records if r.boxes):
                    truth = [b.xyxy for b in record.boxes if b.finding == finding]
                    if quantity in ACCURACIES:
                        count += sum(any(overlap(p, b, quantity) > t for p in of(record, finding)) for b in truth)
                    elif quantity != "afp_labelled" or finding in record.positive:
                        count += sum(not any(overlap(p, b, quantity) > t for b in truth) for p in of(record, finding))
                out[quantity, finding, t] = count / (n[finding] if quantity in ACCURACIES else n.total())
                each.append((out[quantity, finding, t], count))
            if each:
                out[quantity, "mean", t] = sum(value for value, _ in each) / len(each)
                if quantity in ACCURACIES:
                    out[quantity, "pooled", t] = sum(count for _, count in each) / n.total()
    return out
