"""Whether anything below a folder is another than it was: told by states alone, for files that were really changed."""

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rag_assets.file_states import FileStates

TICK = 0.03
"""Seconds: longer than a tick of the clock that files' times are taken from."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two files, one of them in a folder, and one that is never a document."""
    top = tmp_path / "documents"
    for name in ("one.md", "below/two.md", "below/.hidden/three.md"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(f"This is {name}.", encoding="utf-8")
    return top


def state(folder: Path) -> str:
    states = FileStates()
    states.see_all(os.fsencode(folder))
    return states.digest()


def rewrite(path: Path) -> None:
    """Other content of the same length, and no trace of it in the file's own times."""
    before = path.stat()
    path.write_bytes(path.read_bytes().swapcase())
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


CHANGES: dict[str, Callable[[Path], Any]] = {
    "content, with its size and time kept": lambda folder: rewrite(folder / "one.md"),
    "content below": lambda folder: rewrite(folder / "below" / "two.md"),
    "a new file": lambda folder: (folder / "three.md").touch(),
    "a new folder": lambda folder: (folder / "aside").mkdir(),
    "a file gone": lambda folder: (folder / "one.md").unlink(),
    "another name": lambda folder: (folder / "one.md").rename(folder / "first.md"),
    "a folder's other name": lambda folder: (folder / "below").rename(folder / "above"),
    "a folder in another": lambda folder: (folder / "below").rename(folder / "below.md"),
    "who may read it": lambda folder: (folder / "one.md").chmod(0o600),
    "who may look into a folder": lambda folder: (folder / "below").chmod(0o700),
    "an equal file in its place": lambda folder: (
        (folder / "copy").write_bytes((folder / "one.md").read_bytes()),
        (folder / "copy").replace(folder / "one.md"),
    ),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_any_change_is_seen(change: Callable[[Path], Any], folder: Path) -> None:
    before = state(folder)
    assert state(folder) == before
    time.sleep(TICK)
    change(folder)
    assert state(folder) != before


def test_another_folder_in_its_place_is_seen(folder: Path) -> None:
    before = state(folder)
    folder.rename(folder.with_name("before"))
    folder.mkdir()
    assert state(folder) != before
    folder.rmdir()
    folder.symlink_to("before")
    assert state(folder) != before


def test_what_is_never_a_document_is_not_looked_at(folder: Path) -> None:
    before = state(folder)
    for name in (".git/index", "below/.two.md.swp", "one.md~", "node_modules/readme.md"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("Something.", encoding="utf-8")
    assert state(folder) == before


def test_what_is_ignored_elsewhere_can_be_looked_at(folder: Path) -> None:
    def everything() -> str:
        states = FileStates()
        states.see_all(os.fsencode(folder), ignored=True)
        return states.digest()

    before = everything()
    rewrite(folder / "below" / ".hidden" / "three.md")
    assert everything() != before


def test_a_folder_that_is_gone_says_so(folder: Path) -> None:
    with pytest.raises(FileNotFoundError):
        state(folder / "nowhere")


def test_a_file_that_comes_or_goes_is_seen(tmp_path: Path) -> None:
    def seen() -> str:
        states = FileStates()
        states.see(str(tmp_path / "settings.toml"))
        states.see(str(tmp_path / "settings.toml" / "below"))
        return states.digest()

    before = seen()
    (tmp_path / "settings.toml").touch()
    assert seen() != before
    (tmp_path / "settings.toml").unlink()
    assert seen() == before


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_when_the_last_change_was_is_known(change: Callable[[Path], Any], folder: Path) -> None:
    time.sleep(TICK)
    began = time.time_ns()
    time.sleep(TICK)

    def newest() -> int:
        states = FileStates()
        states.see_all(os.fsencode(folder))
        return states.newest

    assert newest() < began
    change(folder)
    assert newest() > began


@pytest.mark.parametrize("target", ["one.md", "below", "nowhere"])
def test_a_link_is_refused(target: str, folder: Path) -> None:
    (folder / "below" / "link").symlink_to(folder / target)
    with pytest.raises(OSError, match="link"):
        state(folder)
