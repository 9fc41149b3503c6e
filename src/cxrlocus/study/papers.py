"""A paper's table as a list of runs: train, predict and measure every row for several seeds; done cells are skipped."""

from __future__ import annotations

from dataclasses import dataclass

from cxrlocus.data.records import Index
from cxrlocus.errors import ConfigError
from cxrlocus.prediction.store import read_predictions
from cxrlocus.protocols.result import Result
from cxrlocus.study.cells import cell, predictions_folder, result_file
from cxrlocus.study.rows import STUDIES
from cxrlocus.study.score import score_controls
from cxrlocus.study.seeds import over_seeds
from cxrlocus.study.setup import Setup, check_chosen, check_rows, check_same_study
from cxrlocus.study.steps import Bars


@dataclass(frozen=True)
class PaperStudy:
    """What a study gave.

    Args:
        results: its rows over all seeds, then the controls'.
        controls: the names of the controls.
        missing: the cells ("cam-seed0") that the budget, or a choice of rows, left undone.
    """

    results: list[Result]
    controls: frozenset[str]
    missing: tuple[str, ...]


def run_study(name: str, index: Index, setup: Setup, bars: Bars) -> PaperStudy:
    """All rows of a study over all seeds, and the controls.

    Raises:
        ConfigError: there is no such study, it has no such row, or an option or the weights are of none of its rows.
        DataError: no film to be measured has a box, or the policy has none to choose by.
    """
    if name not in STUDIES:
        raise ConfigError(f"study must be one of {', '.join(STUDIES)} or all; got {name!r}.")
    rows = STUDIES[name]
    check_chosen(rows, setup)
    check_rows(rows, setup)
    films = setup.films(index)
    setup.measure.check(films.images, films.findings, films)
    check_same_study(index, setup)
    by_cell: dict[str, list[Result]] = {}
    missing = []
    for seed in setup.seeds:
        for row in rows:
            here = f"{row.name}-seed{seed}"
            if not result_file(setup, here).is_file() and setup.lacking(row):
                missing.append(here)
            else:
                by_cell[here] = cell(row, seed, index, films, setup, bars)
    controls: list[Result] = []
    if by_cell:
        like = read_predictions(predictions_folder(setup, next(iter(by_cell))))
        controls = [row for one in score_controls(films, setup.measure, like) for row in one.results]
    results = over_seeds([row for rows in by_cell.values() for row in rows]) + controls
    return PaperStudy(results, frozenset(row.method for row in controls), tuple(missing))
