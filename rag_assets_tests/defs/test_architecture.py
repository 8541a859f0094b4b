"""Who imports whom, and what importing the code location costs."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rag_assets

PACKAGE = Path(rag_assets.__file__).parent
HEAVY = ("torch", "sentence_transformers", "transformers", "unstructured", "spacy", "litellm", "ragas", "weaviate",
         "pandas", "matplotlib", "docx", "pptx", "openvino")  # fmt: skip


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def imported(tree: ast.AST) -> Iterator[str]:
    """Every module a tree imports, wherever the statement stands."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def test_only_the_definitions_know_dagster() -> None:
    knowing = {
        path.relative_to(PACKAGE).parts[0]
        for path in modules()
        for name in imported(ast.parse(path.read_text(encoding="utf-8")))
        if name.split(".")[0].startswith("dagster")
    }
    assert knowing == {"defs", "definitions.py"}


@pytest.mark.parametrize("module", ["plan", "fingerprint", "models", "config_file", "settings", "errors"])
def test_the_core_imports_nothing_of_the_project_but_the_core(module: str) -> None:
    folder = PACKAGE / module
    files = sorted(folder.glob("*.py")) if folder.is_dir() else [PACKAGE / f"{module}.py"]
    core = ("errors", "fingerprint", "models", "config_file", module)
    known = tuple(f"rag_assets.{name}" for name in core)
    for path in files:
        names = {
            name for name in imported(ast.parse(path.read_text(encoding="utf-8"))) if name.startswith("rag_assets")
        }
        assert all(name.startswith(known) for name in names), path


COMMANDS = "from rag_assets.cli import main; import click; main.list_commands(click.Context(main))"


@pytest.mark.parametrize("importing", ["import rag_assets.definitions", COMMANDS], ids=["definitions", "commands"])
def test_importing_an_entry_point_imports_no_heavy_library(importing: str, tmp_path: Path) -> None:
    """The code location is imported again for every run: seconds here are seconds of each."""
    script = f"{importing}; import sys; print(*sorted(name for name in {HEAVY!r} if name in sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, timeout=120, check=True
    )
    assert done.stdout.split() == []
    # Nor does it start a server, or write anything, where it happens to be imported.
    assert list(tmp_path.iterdir()) == []
