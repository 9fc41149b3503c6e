"""Commands as a person gives them, run in this process; and the films and the run that many tests give them to."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cxrlocus.cli import main

TINY = ("--preset", "demo", "--set", "backbone=test_resnet", "--set", "size=64", "--set", "precision=fp32")
"""Options of a training that takes a second."""


@dataclass(frozen=True)
class Outcome:
    """What a command left: exit status, standard output, and the lines of standard error that are no progress bar."""

    status: int
    out: str
    told: list[str]

    def succeeded(self) -> Outcome:
        """Itself, if the command did."""
        assert self.status == 0, self.told
        return self

    def complaint(self, status: int = 1) -> str:
        """The last line of a command that failed so; it ends the talk, and no traceback is part of that."""
        assert self.status == status, (self.status, self.told)
        assert not any("Traceback" in line for line in self.told)
        assert "Please report it" not in self.told[-1]
        assert self.told[-1].startswith("cxrlocus")
        return self.told[-1]

    def only_complaint(self, status: int = 1) -> str:
        """The one line of a command that failed so and said nothing else."""
        assert len(self.told) == 1, self.told
        return self.complaint(status)


def cxrlocus(*words: object) -> Outcome:
    """Run ``cxrlocus WORDS...`` in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main([str(word) for word in words])
        except SystemExit as done:
            status = int(done.code or 0)
    return Outcome(status, out.getvalue(), lines_without_bars(err.getvalue()))


def lines_without_bars(text: str) -> list[str]:
    """The lines that say something."""
    return [line for line in text.splitlines() if line.strip() and "━" not in line]


def start(*words: object, **options: object) -> subprocess.Popen[str]:
    """``cxrlocus WORDS...`` as a process of its own, with pipes."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error"}
    command = [sys.executable, "-m", "cxrlocus", *map(str, words)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **options}
    return subprocess.Popen(command, text=True, env=environment, **pipes)  # type: ignore[call-overload,no-any-return]  # options


def finish(process: subprocess.Popen[str]) -> Outcome:
    """Wait for a process and say what it left."""
    out, err = process.communicate(timeout=60)
    return Outcome(process.returncode, out or "", lines_without_bars(err or ""))


def make_films(root: Path, images: int = 60, **options: object) -> Path:
    """Phantom films of 64 pixels."""
    more = [word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)]
    cxrlocus("data", "phantom", root, "--images", images, "--size", 64, "--workers", 1, *more).succeeded()
    return root


def edit(path: Path, change: Callable[[str], str]) -> None:
    """Change a text file, which must change."""
    before = path.read_text(encoding="utf-8")
    after = change(before)
    assert after != before
    path.write_text(after, encoding="utf-8")
