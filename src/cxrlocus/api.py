"""The Python face: load a run, explain films, get boxes in their pixels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cxrlocus.methods import load_run
from cxrlocus.prediction.predict import explain_files
from cxrlocus.prediction.store import Predictions
from cxrlocus.training.run import RunInfo
from cxrlocus.types import Findings, Localizer


@dataclass(frozen=True)
class Model:
    """A trained run: what it is (``info``) and what it can say (``explain``)."""

    localizer: Localizer
    info: RunInfo

    @property
    def findings(self) -> Findings:
        """The findings it knows, in the order of every column."""
        return self.localizer.findings

    def explain(self, paths: str | Path | Sequence[str | Path]) -> Predictions:
        """Probabilities and raw maps of PNG, JPEG or DICOM files, or of a single one.

        Raises:
            ImageError: a file cannot be read.
        """
        meta = {"method": self.info.method, "variant": self.info.variant, "dataset": "files"}
        several = [paths] if isinstance(paths, (str, Path)) else paths
        return explain_files(self.localizer, [Path(p) for p in several], meta=meta)


def load(folder: str | Path) -> Model:
    """The model in a run folder of ``cxrlocus train``; on the GPU if there is one. Nothing is unpickled.

    Raises:
        RunError: the folder is missing, incomplete, damaged, or of another version.
    """
    return Model(*load_run(Path(folder)))
