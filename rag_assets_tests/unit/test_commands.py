"""Commands are imported when they are asked for, and none is forgotten by that."""

import pkgutil
import subprocess
import sys
from importlib import import_module

import click
import pytest

import rag_assets.cli
from rag_assets.cli import main


def test_every_command_is_listed() -> None:
    listed = main.list_commands(click.Context(main))
    for module in pkgutil.iter_modules(rag_assets.cli.__path__):
        import_module(f"rag_assets.cli.{module.name}")
    assert listed == sorted(main.commands)


@pytest.mark.parametrize("name", main.list_commands(click.Context(main)))
def test_a_command_is_found_by_its_name_alone(name: str) -> None:
    code = f"""
import sys, click
from rag_assets.cli import main
found = main.get_command(click.Context(main), {name!r})
assert found is not None and found.name == {name!r}, found
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_command_imports_no_other() -> None:
    code = """
import sys, click
from rag_assets.cli import main
main.get_command(click.Context(main), "sync")
print(*sorted(name for name in sys.modules if name.startswith("rag_assets.cli.")))
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["rag_assets.cli.documents", "rag_assets.cli.main", "rag_assets.cli.output"]


def test_a_stamp_is_compared_without_what_a_sync_needs() -> None:
    needed = ("click", "dagster", "dataclasses", "numpy", "psycopg", "psycopg2", "pydantic", "tomllib")
    code = (
        f"import rag_assets.__main__, rag_assets.stamp, sys; print(*(name for name in {needed} if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []


def test_a_typo_is_told_with_what_was_meant() -> None:
    done = subprocess.run([sys.executable, "-m", "rag_assets", "snyc"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Did you mean 'sync'?" in done.stderr
