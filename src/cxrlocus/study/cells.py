"""Cells of a study, a row and a seed each: trained, predicted and measured once, wherever the study was stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from cxrlocus.data.records import Dropped, Index
from cxrlocus.prediction.store import read_predictions
from cxrlocus.protocols.result import Result, read_results, write_results
from cxrlocus.study.rows import Row
from cxrlocus.study.score import score_predictions
from cxrlocus.study.setup import Setup
from cxrlocus.study.steps import Bars, Job, predict_run, train_run
from cxrlocus.training.checkpoint import read_json


def result_file(setup: Setup, cell: str) -> Path:
    """Where the results of a cell ("cam-seed0") stand under the setup's measure."""
    return setup.out / "results" / f"{cell}-{setup.measure.told}.json"


def predictions_folder(setup: Setup, cell: str) -> Path:
    """Where the predictions of a cell stand."""
    return setup.out / "predictions" / cell


def predicted(row: Row, seed: int, index: Index, films: Index, setup: Setup, bars: Bars) -> Path:
    """The predictions of one row for one seed: trained and predicted where that is not done."""
    run = setup.out / "runs" / f"{row.trained}-seed{seed}"
    pred = predictions_folder(setup, f"{row.name}-seed{seed}")
    if (pred / "meta.json").is_file():
        return pred

    def labelled(label: str) -> Callable[..., None]:
        return bars(f"{row.name} seed {seed}: {label}")

    init = setup.init if setup.takes_weights(row) else None
    job = Job(row.method, row.variant, setup.preset, setup.options_of(row), seed, init)
    others = sorted(p.parent for p in run.parent.glob(f"{row.method}*-seed{seed}/run.json") if p.parent != run)
    train_run(job, index, run, cache=setup.cache, bars=labelled, siblings=others)
    predict_run(run, films, pred, split=setup.split, cache=setup.cache, bars=labelled, maps=row.maps)
    return pred


def cell(row: Row, seed: int, index: Index, films: Index, setup: Setup, bars: Bars) -> list[Result]:
    """The results of one row for one seed, read if they are there."""
    done = result_file(setup, f"{row.name}-seed{seed}")
    if done.is_file():
        return read_results(done)
    pred = predicted(row, seed, index, films, setup, bars)
    results = told_of(row, score_predictions(read_predictions(pred), films, setup.measure).results)
    done.parent.mkdir(parents=True, exist_ok=True)
    write_results(done, results)
    return results


def told_of(row: Row, results: Sequence[Result]) -> list[Result]:
    """Results whose variant says what makes the row one of its own."""
    return [replace(r, variant=", ".join(filter(None, (r.variant, row.told)))) for r in results]


def learned_from(rows: Sequence[Row], setup: Setup) -> list[tuple[int, int]]:
    """How many films the runs of a study learn from and choose their checkpoint by, each pair once.

    Films that join the training films by their labels (``setting=transductive``) are learned from, too.
    """
    runs = [setup.out / "runs" / f"{row.trained}-seed{seed}" / "split.json" for row in rows for seed in setup.seeds]
    told = [read_json(split) for split in runs if split.is_file()]
    return sorted({(split["train"] + split.get("transductive", 0), split["val"]) for split in told})


def unreadable(rows: Sequence[Row], setup: Setup) -> list[Dropped]:
    """The films that a study could neither train on nor measure, each once."""
    told: list[tuple[str, str]] = []
    for seed in setup.seeds:
        for row in rows:
            split = setup.out / "runs" / f"{row.trained}-seed{seed}" / "split.json"
            meta = predictions_folder(setup, f"{row.name}-seed{seed}") / "meta.json"
            told += read_json(split)["unreadable"] if split.is_file() else []
            told += read_json(meta).get("unreadable", []) if meta.is_file() else []
    return [Dropped(item, reason) for item, reason in dict(told).items()]
