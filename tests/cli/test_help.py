"""Help: instant, complete, and with examples that can be typed."""

from __future__ import annotations

import importlib
import shlex
import subprocess
import sys

import pytest

from commands import cxrlocus, finish, start
from cxrlocus import __version__
from cxrlocus.cli import VERBS, parse

HEAVY = ("torch", "numpy", "matplotlib", "timm", "cv2", "scipy", "PIL", "jinja2", "rich", "lightning_fabric")


def example(verb: str) -> str:
    return str(importlib.import_module(f"cxrlocus.cli.{verb}").EXAMPLE)


def test_help_imports_nothing_that_takes_time() -> None:
    code = (
        "import sys, cxrlocus.cli\n"
        "try: cxrlocus.cli.main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        f"print([m for m in {HEAVY!r} if m in sys.modules], file=sys.stderr)"
    )
    for words in (["--help"], ["train", "--help"], ["nonsense"]):
        done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=True)
        assert done.stderr.splitlines()[-1] == "[]"


def test_help_names_every_verb_and_how_to_see_a_traceback() -> None:
    told = cxrlocus("--help").succeeded().out
    for verb in VERBS:
        assert f"\n    {verb} " in told
    assert "--debug" in told
    assert max(map(len, told.splitlines())) <= 120


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_shows_an_example(verb: str) -> None:
    told = cxrlocus(verb, "--help").succeeded().out
    assert f"example:\n  {example(verb)}" in told
    assert example(verb).startswith(f"cxrlocus {verb}")


@pytest.mark.parametrize("verb", VERBS)
def test_examples_can_be_typed(verb: str) -> None:
    commands = [c.strip() for line in example(verb).splitlines() for c in line.split("&&")]
    words = [shlex.split(command) for command in commands]
    assert {first for first, *_ in words} == {"cxrlocus"}
    assert verb in [parse(rest).verb for _, *rest in words]


def test_the_module_runs_as_the_command_does() -> None:
    assert finish(start("--version")).succeeded().out == f"cxrlocus {__version__}\n"


def test_files_may_come_after_options() -> None:
    here = ["predict", "run", "a.png", "--out", "p", "b.png", "--batch", "4", "c.png"]
    assert [str(p) for p in parse(here).images] == ["a.png", "b.png", "c.png"]
    odd = ["predict", "run", "--out", "p", "--", "--odd.png", "-b"]
    assert [str(p) for p in parse(odd).images] == ["--odd.png", "-b"]
    report = ["report", "one", "--data", "films", "--out", "page", "two"]
    assert [str(p) for p in parse(report).predictions] == ["one", "two"]
