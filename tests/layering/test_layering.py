"""The architecture, read from the imports: who may import whom, how long things may be, what must be documented."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

import cxrlocus
from cxrlocus.methods import METHODS

ROOT = Path(cxrlocus.__file__).parent
REPO = ROOT.parent.parent
VALUES = {"types", "errors", "files"}
PURE = {"functional", "regions", "metrics"}
ALLOWED: dict[str, set[str]] = {
    "types": set(),
    "errors": set(),
    "files": {"errors"},
    "runtime": set(),
    "functional": {"types", "errors"},
    "regions": {"types", "errors"},
    "metrics": {"types", "errors"},
    "models": VALUES | {"functional", "runtime"},
    "data": VALUES,
    "training": VALUES | {"data", "runtime", "version"},
    "prediction": VALUES | {"data", "regions"},
    "protocols": VALUES | {"data", "prediction", "regions", "metrics"},
    "methods": VALUES | PURE | {"models", "training", "data", "prediction"},
    "report": VALUES | {"data", "prediction", "protocols", "regions", "metrics"},
    "study": VALUES | PURE | {"models", "training", "data", "prediction", "protocols", "methods", "version"},
    "harvest": VALUES | PURE | {"models", "training", "data", "prediction", "protocols", "methods", "version"},
    "api": VALUES | {"methods", "prediction", "training"},
}
"""Package -> what of ours it may import; only ``cli`` may import everything, and nothing may import ``cli``."""

LATE = {
    "cli": "help must not wait for torch",
    "runtime": "torch is imported after the environment is set",
}
"""Where imports inside functions are allowed, and why."""

MAY_USE = {
    *("__future__", "collections", "dataclasses", "functools", "itertools", "math", "typing"),
    *("cv2", "cxrlocus", "numpy", "scipy", "torch"),
}
"""All that the pure core imports."""

SOURCES = sorted(ROOT.rglob("*.py"))
NAMES = [str(p.relative_to(ROOT)) for p in SOURCES]
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in zip(NAMES, SOURCES, strict=True)}


def package_of(name: str) -> str:
    return Path(name).parts[0].removesuffix(".py")


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module:
        if node.module == "cxrlocus":
            return [f"cxrlocus.{'version' if a.name == '__version__' else a.name}" for a in node.names]
        return [node.module]
    return []


@pytest.mark.parametrize("name", NAMES)
def test_imports_follow_the_layers(name: str) -> None:
    package = package_of(name)
    if package in ("cli", "__init__", "__main__"):
        return
    ours = {m.split(".")[1] for node in ast.walk(TREES[name]) for m in imported(node) if m.startswith("cxrlocus.")}
    assert ours - ALLOWED[package] - {package} == set()


def test_allowed_layers_have_no_cycle() -> None:
    done: set[str] = {"version"}
    while remaining := set(ALLOWED) - done:
        free = {p for p in remaining if ALLOWED[p] <= done}
        assert free, f"cycle among {sorted(remaining)}"
        done |= free


@pytest.mark.parametrize("name", NAMES)
def test_no_imports_inside_functions(name: str) -> None:
    functions = [n for n in ast.walk(TREES[name]) if isinstance(n, ast.FunctionDef)]
    late = [m for f in functions for n in ast.walk(f) for m in imported(n)]
    assert package_of(name) in LATE or not late


@pytest.mark.parametrize("name", NAMES)
def test_files_and_functions_stay_short(name: str) -> None:
    assert len((ROOT / name).read_text(encoding="utf-8").splitlines()) <= 400
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = body[-1].end_lineno - body[0].lineno + 1 if body else 0  # type: ignore[operator]
            assert length <= 50, f"{node.name} has {length} lines"


@pytest.mark.parametrize("name", [n for n in NAMES if package_of(n) in PURE])
def test_the_pure_core_has_running_examples_and_no_effects(name: str) -> None:
    used = {m.split(".")[0] for node in ast.walk(TREES[name]) for m in imported(node)}
    assert used <= MAY_USE
    called = {ast.unparse(n.func) for n in ast.walk(TREES[name]) if isinstance(n, ast.Call)}
    effects = ("open", "print", "np.random.", "np.save", "np.load", "torch.rand", "torch.save", "torch.load", "cv2.im")
    assert not {c for c in called if c.startswith(effects) or c.endswith((".cuda", ".to_device"))}
    for node in TREES[name].body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            assert ">>>" in (ast.get_docstring(node) or ""), f"{node.name} has no running example"


@pytest.mark.parametrize(
    "module",
    [
        "cxrlocus",
        "cxrlocus.cli",
        "cxrlocus.data",
        "cxrlocus.protocols",
        "cxrlocus.protocols.policies",
        "cxrlocus.report",
    ],
)
def test_torch_is_not_imported_by(module: str) -> None:
    code = f"import sys, importlib; importlib.import_module({module!r}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_public_names_are_what_all_says() -> None:
    assert cxrlocus.__all__ == sorted(cxrlocus.__all__) == sorted(cxrlocus._HOMES)
    for name in cxrlocus.__all__:
        assert getattr(cxrlocus, name).__name__ == name


@pytest.mark.parametrize("name", METHODS)
def test_every_method_has_notes_and_documents_its_options(name: str) -> None:
    spec = METHODS[name]
    folder = Path(inspect.getfile(spec.config)).parent
    assert (folder / "NOTES.md").is_file()
    told = "".join(inspect.getdoc(c) or "" for c in spec.config.__mro__)
    for field in fields(spec.config):
        assert any(line.strip().partition(":")[0].split(", ").count(field.name) for line in told.splitlines()), (
            field.name
        )


def test_pages_of_the_docs_link_to_files_that_exist() -> None:
    pages = [*REPO.glob("*.md"), *REPO.glob("docs/**/*.md")]
    assert len(pages) > 5
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for part in text.split("](")[1:]:
            target = part.split(")")[0].split("#")[0]
            if target and "://" not in target:
                assert (page.parent / target).exists(), f"{page.name} links to {target}"
