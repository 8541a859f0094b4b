"""Databases of trials: each is a copy of one that was prepared once."""

import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from shutil import copytree, rmtree
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from rag_assets_tests.faults.subject import Subject


def named(server: str, name: str) -> str:
    """The URL of a database of the server at ``server``."""
    parts = urlsplit(server)
    return urlunsplit((parts.scheme, parts.netloc, f"/{name}", parts.query, ""))


class Databases:
    """Makes and drops databases of one server."""

    def __init__(self, server: str, *, home: Path | None = None) -> None:
        """``home``: of the embedded server, if it is one that may be killed."""
        self.server, self.home = server, home

    def _execute(self, statement: str, *names: str) -> None:
        with psycopg.connect(self.server, autocommit=True) as connection:
            connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))

    def create(self, template: str = "template_rag") -> str:
        """A new database, a copy of ``template``; returns its name."""
        name = f"fault_{uuid.uuid4().hex[:12]}"
        if self.home is None:
            # Half the work of the other way, on a server that waits for no disk.
            self._execute("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY", name, template)
        else:
            self._execute("CREATE DATABASE {} TEMPLATE {} STRATEGY WAL_LOG", name, template)
            self._log_sequences(name)
        return name

    def _log_sequences(self, name: str) -> None:
        """Keep a crash from setting the copy's sequences back.

        WAL_LOG logs their pages with values that count as logged ahead and are not, in the copy's log (seen with
        PostgreSQL 18.4); that is no fault of what is tested here. ``setval`` logs them properly.
        """
        with psycopg.connect(named(self.server, name), autocommit=True) as connection:
            connection.execute(
                "SELECT setval(format('%I.%I', schemaname, sequencename)::regclass, last_value) FROM pg_sequences"
                " WHERE last_value IS NOT NULL"
            )

    def drop(self, name: str) -> None:
        try:
            self._execute("DROP DATABASE {} WITH (FORCE)", name)
        except psycopg.errors.InsufficientPrivilege:
            # An autovacuum worker is the server's own; without FORCE, PostgreSQL ends it itself.
            self._execute("DROP DATABASE {}", name)

    @contextmanager
    def subject(self, folder: Path, copy_of: Subject | None = None) -> Iterator[Subject]:
        """A new index in ``folder``: empty, or a copy of another one that nobody is connected to."""
        template = urlsplit(copy_of.url).path.strip("/") if copy_of else "template_rag"
        name = self.create(template)
        try:
            if copy_of is None:
                (folder / "documents").mkdir(parents=True)
                yield Subject(folder, named(self.server, name), self.home)
            else:
                copytree(copy_of.folder, folder, symlinks=True)
                yield replace(copy_of, folder=folder, url=named(self.server, name))
        finally:
            self.drop(name)
            rmtree(folder, ignore_errors=True)
