"""The README's Python runs as it stands there, and its commands can be typed."""

from __future__ import annotations

import doctest
import re
import shlex
import shutil
from pathlib import Path

import pytest

from cxrlocus.cli import parse

pytest_plugins = ("trained",)

README = Path(__file__).parents[1] / "README.md"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", README.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


EXAMPLES = [block for block in blocks("python") if ">>>" in block]
COMMANDS = [line for block in blocks("sh") for line in block.splitlines() if line.startswith("cxrlocus ")]


def test_there_is_something_to_run() -> None:
    assert EXAMPLES
    assert COMMANDS


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_the_python_runs(number: int, films: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a folder with a trained run at runs/cam and a film at film.png."""
    shutil.copytree(run, tmp_path / "runs" / "cam")
    shutil.copy(sorted(films.glob("images/*.png"))[0], tmp_path / "film.png")
    monkeypatch.chdir(tmp_path)
    parsed = doctest.DocTestParser().get_doctest(EXAMPLES[number], {}, README.name, str(README), 0)
    told: list[str] = []
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert runner.run(parsed, out=told.append).failed == 0, "".join(told)


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_can_be_typed(line: str) -> None:
    _, *words = shlex.split(line, comments=True)
    assert parse(words).verb == words[0]
