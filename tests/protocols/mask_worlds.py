"""Small worlds of films with true boxes and maps on the film's own pixels, for the tests of pixel protocols."""

import numpy as np
from box_worlds import film, index_of

from cxrlocus.prediction.store import Predictions
from cxrlocus.types import Findings, Frame

SIDE = 16
FINDINGS = Findings(("Mass", "Nodule"))


def predicted(index, maps, kind="probability", prob=None, findings=None):
    """Predictions of an index whose films are SIDE x SIDE, with maps (N, C, h, w)."""
    findings = findings or index.findings
    n = len(index)
    frames = np.tile(Frame.of_size(SIDE, SIDE).matrix, (n, 1, 1))
    prob = np.full((n, len(findings)), 0.5, np.float32) if prob is None else np.asarray(prob, np.float32)
    meta = {"method": "made", "variant": "", "dataset": "toy"}
    return Predictions(meta, index.images, findings, prob, np.asarray(maps), frames, np.full((n, 2), SIDE), kind)


def mask_world(seed, films=10, most=2, kind="probability", patients=5):
    """Films of a few patients with up to ``most`` boxes of two findings, and maps somewhat higher in the boxes."""
    rng = np.random.default_rng(seed)
    records, maps = [], rng.random((films, 2, SIDE, SIDE)).astype(np.float32)
    for i in range(films):
        boxes = []
        for _ in range(int(rng.integers(0, most + 1))):
            (x, y), (w, h), c = rng.integers(0, 12, 2), rng.integers(1, 9, 2), int(rng.integers(0, 2))
            boxes.append((FINDINGS.names[c], x, y, min(x + w, SIDE), min(y + h, SIDE)))
            maps[i, c, y : y + h, x : x + w] += rng.random()
        positive = [f for f in FINDINGS if rng.random() < 0.5]
        unknown = [f for f in FINDINGS if f not in positive and rng.random() < 0.2]
        patient = f"p{i % patients}"
        records.append(film(f"{i}.png", *boxes, patient=patient, positive=positive, unknown=unknown, size=(SIDE, SIDE)))
    index = index_of(records, FINDINGS)
    maps = maps * 4 - 2 if kind == "logit" else np.clip(maps - (kind == "mask") * 0.6, 0, 1)
    prob = rng.random((films, 2)).round(1)
    return predicted(index, maps, kind, prob), index


def truth_of(index, i, finding):
    """The pixels of a film's boxes of a finding, marked one by one."""
    truth = [[False] * SIDE for _ in range(SIDE)]
    for b in index.records[i].boxes:
        if b.finding == finding:
            x0, y0, x1, y1 = map(int, b.xyxy)
            for y in range(y0, y1):
                for x in range(x0, x1):
                    truth[y][x] = True
    return truth


def rates(mask, truth):
    """IoP, FPR, FNR and DICE of a mask, pixel by pixel; None where undefined."""
    pixels = [(m, t) for row in zip(mask, truth, strict=True) for m, t in zip(*row, strict=True)]
    tp, fp = sum(m and t for m, t in pixels), sum(m and not t for m, t in pixels)
    fn, tn = sum(t and not m for m, t in pixels), sum(not m and not t for m, t in pixels)
    return {
        "iop": tp / (tp + fp) if tp + fp else None,
        "fpr": fp / (fp + tn) if fp + tn else None,
        "fnr": fn / (fn + tp) if fn + tp else None,
        "mask_area": (tp + fp) / len(pixels),
        "dice": 2 * tp / (2 * tp + fp + fn) if tp + fp + fn else None,
    }


def score(rate, criterion):
    """What a level is chosen by, of one film: greater is better."""
    if criterion == "fpr_fnr":
        return None if rate["fpr"] is None else -(rate["fpr"] + rate["fnr"]) / 2
    return rate["dice"] if criterion == "dice" else rate["iop"] or 0.0


def best_level(index, maps, films, finding, levels, criterion):
    """The lowest of the levels with the best mean score over films."""
    best = None
    for level in sorted(levels):
        each = [score(rates((maps[i] > level).tolist(), truth_of(index, i, finding)), criterion) for i in films]
        each = [s for s in each if s is not None]
        if each and (best is None or sum(each) / len(each) > best[0] + 1e-12):
            best = (sum(each) / len(each), level)
    return best[1]
