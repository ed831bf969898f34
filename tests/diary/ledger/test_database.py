"""Opening the ledger's database, many at once, and what happens when its disk is full or it breaks.

.venv/bin/python -m pytest tests/diary/ledger/test_database.py
"""

import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest
from postgresql_server import PostgresqlServer
from sqlalchemy import Connection, event

from services.diary.entry import EntryDraft
from services.diary.ledger.ledger import Ledger, LedgerOptions
from services.diary.ledger.paging import EntryFilter
from services.errors import ConfigError, DiaryUnavailable, LedgerFull

ROOT = Path(__file__).parents[3]
ALL = EntryFilter()
SQLITE_FULL = "database or disk is full"
WAL_PAGES_OF_ONE_INDEX = 4062


def draft(text: str = "a", **fields: object) -> EntryDraft:
    return EntryDraft.model_validate({"text": text, **fields})


def fill(ledger: Ledger, text: str) -> list[str]:
    """Add entries until the disk is full; returns the ids of those that were accepted."""
    ids: list[str] = []
    try:
        while len(ids) < 10_000:
            ids.append(ledger.for_owner("ada").add(draft(text)).id)
    except LedgerFull:
        return ids
    raise AssertionError("the disk is never full")


class TestUrls:
    @pytest.mark.parametrize(
        "url",
        ["ledger.sqlite3", "mysql://localhost/ada", "sqlite://", "sqlite:///:memory:", "", "postgresql"],
    )
    def test_a_url_of_no_use_is_an_error_with_the_remedy(self, url: str):
        with pytest.raises(ConfigError, match=r"LEDGER_URL .*: write sqlite:///.* or postgresql://"):
            Ledger(url)

    def test_a_database_that_is_away_makes_the_diary_unavailable_and_tells_no_password(self):
        with pytest.raises(DiaryUnavailable, match="refused") as raised:
            Ledger("postgresql://ada:secret@localhost:1/ada")
        assert "secret" not in str(raised.value)

    def test_a_database_in_another_encoding_is_refused(self, postgresql: PostgresqlServer):
        postgresql.execute("CREATE DATABASE narrow ENCODING 'LATIN1' TEMPLATE template0")
        with pytest.raises(ConfigError, match="is in LATIN1: make one with ENCODING 'UTF8'"):
            Ledger(postgresql.empty_url().replace("ledger", "narrow"))

    def test_a_folder_that_is_not_there_makes_the_diary_unavailable(self, tmp_path: Path):
        with pytest.raises(DiaryUnavailable, match="unable to open database file"):
            Ledger(f"sqlite:///{tmp_path}/nowhere/ledger.sqlite3")

    def test_a_file_that_is_no_database_makes_the_diary_unavailable(self, tmp_path: Path):
        (tmp_path / "ledger.sqlite3").write_text("Dear diary, " * 100)
        with pytest.raises(DiaryUnavailable, match="file is not a database"):
            Ledger(f"sqlite:///{tmp_path}/ledger.sqlite3")


class TestManyAtOnce:
    def test_a_new_ledger_can_be_opened_by_many_threads_at_once(self, either_url: str):
        with ThreadPoolExecutor(8) as pool:
            opened = list(pool.map(Ledger, [either_url] * 8))
        added = opened[0].for_owner("ada").add(draft(id="e"))
        assert [ledger.for_owner("ada").get("e") for ledger in opened] == [added] * 8
        for ledger in opened:
            ledger.close()

    def test_a_new_ledger_can_be_opened_by_many_processes_at_once(self, either_url: str):
        """The orchestrator and the worker start together over an empty volume."""
        script = (
            "import sys\n"
            "from services.diary.entry import EntryDraft\n"
            "from services.diary.ledger.ledger import Ledger\n"
            "print('ready', flush=True)\n"
            "sys.stdin.readline()\n"
            "Ledger(sys.argv[1]).for_owner('ada').add(EntryDraft(text=sys.argv[2]))\n"
        )
        command = [sys.executable, "-W", "error", "-c", script, either_url]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "cwd": ROOT}
        started = [subprocess.Popen([*command, str(number)], **pipes) for number in range(4)]
        for process in started:
            assert process.stdout.readline() == "ready\n"
        for process in started:
            process.stdin.write("\n")
            process.stdin.flush()
        for process in started:
            process.communicate(timeout=60)
        assert [process.returncode for process in started] == [0] * 4
        with Ledger(either_url) as ledger:
            assert {entry.text for entry in ledger.for_owner("ada").iter_entries(ALL)} == set("0123")

    def test_reading_does_not_wait_for_a_long_write(self, ledger: Ledger, tmp_path: Path):
        added = ledger.for_owner("ada").add(draft(id="e"))
        writer = sqlite3.connect(tmp_path / "ledger.sqlite3", isolation_level=None)
        writer.execute("BEGIN EXCLUSIVE")
        writer.execute("UPDATE entries SET text = 'not yet'")
        assert ledger.for_owner("ada").get("e") == added  # after 20 s of waiting it would be unavailable
        assert ledger.for_owner("ada").page(ALL, 1).entries == [added]
        writer.close()

    def test_a_ledger_of_sqlite_syncs_what_it_accepts_and_wipes_what_it_deletes(self, ledger: Ledger):
        pragmas = {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1, "busy_timeout": 20000}
        with ledger.transaction() as connection:
            set_to = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in pragmas}
        assert set_to == pragmas


class TestBreaking:
    def test_a_ledger_that_breaks_while_it_is_open_makes_the_diary_unavailable(
        self, ledger: Ledger, tmp_path: Path
    ):
        vandal = sqlite3.connect(tmp_path / "ledger.sqlite3")
        vandal.execute("DROP TABLE entries")
        vandal.close()
        diary = ledger.for_owner("ada")
        calls: list[Callable[[], object]] = [
            lambda: diary.add(draft()),
            lambda: diary.get("e"),
            lambda: diary.page(ALL, 1),
            lambda: list(diary.iter_entries(ALL)),
            lambda: ledger.due(1),
            ledger.requeue_indexed,
        ]
        for call in calls:
            with pytest.raises(DiaryUnavailable, match="no such table"):
                call()

    def test_a_postgresql_that_was_started_anew_is_found_again(self, postgresql: PostgresqlServer):
        with Ledger(postgresql.empty_url()) as ledger:
            ledger.for_owner("ada").add(draft("before"))
            postgresql.disconnect()
            ledger.for_owner("ada").add(draft("after"))
            assert ledger.for_owner("ada").count(ALL) == 2


@contextmanager
def bounded(ledger: Ledger, pages: int = 400) -> Iterator[None]:
    """SQLite's file may grow to so many pages and no further: it then says what it says on a full disk."""

    def limit(connection: Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count={pages}")

    engine = ledger._database._engine
    event.listen(engine, "begin", limit, insert=True)
    yield
    event.remove(engine, "begin", limit)
    pages = 2**30
    with ledger.reading() as connection:
        limit(connection)


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """A real file system of that size, where mounting is allowed."""
    folder.mkdir(exist_ok=True)
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("a small disk needs the right to mount one")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


class TestReadersAndWriters:
    def test_many_writers_that_wait_leave_readers_their_connections(self, tmp_path: Path):
        with Ledger(f"sqlite:///{tmp_path}/l.sqlite3") as ledger, ThreadPoolExecutor(40) as pool:
            entry = ledger.for_owner("ada").add(draft())
            with ledger.transaction() as locked:
                waiting = [pool.submit(ledger.for_owner("ada").add, draft(f"{n}")) for n in range(40)]
                for _ in range(20):
                    assert ledger.for_owner("ada").get(entry.id) == entry
                assert not any(future.done() for future in waiting)
                locked.rollback()
            assert len({future.result().id for future in waiting}) == 40


SMALL_DISK = LedgerOptions(min_free_bytes=0)


class TestFullDisk:
    def test_a_database_that_may_not_grow_refuses_by_name_and_keeps_all_it_accepted(self, ledger: Ledger):
        with bounded(ledger):
            ids = fill(ledger, "x" * 20_000)
        assert len(ids) > 10
        diary = ledger.for_owner("ada")
        assert {entry.id for entry in diary.iter_entries(ALL)} == set(ids)
        assert all(diary.get(entry_id).text == "x" * 20_000 for entry_id in ids)

    def test_nothing_of_a_transaction_that_fills_the_disk_is_kept(self, ledger: Ledger):
        diary = ledger.for_owner("ada")
        imported = diary.begin_import("a.jsonl")
        with bounded(ledger), pytest.raises(LedgerFull, match=SQLITE_FULL):
            diary.add_rows(imported, [draft(f"{number} " + "x" * 20_000) for number in range(400)])
        assert diary.count(ALL) == 0
        assert diary.import_report(imported).accepted == 0
        assert diary.add_rows(imported, [draft("a")]).accepted == 1

    def test_a_full_disk_keeps_all_that_was_accepted_and_takes_more_when_there_is_room(self, tmp_path: Path):
        with (
            small_disk(tmp_path / "disk", "2m") as disk,
            Ledger(f"sqlite:///{disk}/l.sqlite3", SMALL_DISK) as ledger,
        ):
            ids = fill(ledger, "x" * 20_000)
            assert len(ids) > 10
            diary = ledger.for_owner("ada")
            assert {entry.id for entry in diary.iter_entries(ALL)} == set(ids)
            for operation in (
                lambda: diary.edit(ids[0], draft("y" * 30_000)),
                lambda: diary.remove_where(ALL),
            ):
                with pytest.raises(LedgerFull, match="free some"):
                    operation()
            assert diary.history(ids[0]) == [diary.get(ids[0])]
            assert diary.count(ALL) == len(ids)
            subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
            diary.add(draft("There is room."))
            assert diary.count(ALL) == len(ids) + 1

    def test_a_log_that_finds_no_room_for_its_index_is_a_full_disk_too(self, tmp_path: Path):
        """SQLite calls it an I/O error: 4062 pages fill the log's first index, and the next has no room."""
        with (
            small_disk(tmp_path / "disk", "64m") as disk,
            Ledger(f"sqlite:///{disk}/l.sqlite3", SMALL_DISK) as ledger,
        ):
            reader = sqlite3.connect(disk / "l.sqlite3", isolation_level=None)
            reader.execute("BEGIN")
            reader.execute("SELECT * FROM entries").fetchall()  # so that the log can't begin anew
            log = disk / "l.sqlite3-wal"
            while (rest := WAL_PAGES_OF_ONE_INDEX * 4120 - log.stat().st_size) > 30 * 4120:
                ledger.for_owner("ada").add(draft("x" * 20_000))
            used = int(subprocess.check_output(["du", "-k", "-s", str(disk)]).split()[0])
            room = used + rest // 1024 + 40  # for those pages and some more, but not for 32 KiB of index
            subprocess.run(["mount", "-o", f"remount,size={room}k", str(disk)], check=True)
            ids = fill(ledger, "x")
            with pytest.raises(LedgerFull, match="disk I/O error"):
                ledger.for_owner("ada").add(draft("x"))
            assert len(ledger.for_owner("ada").get_many(ids)) == len(ids)
            reader.close()

    def test_a_full_tablespace_of_postgresql_keeps_all_that_was_accepted(self, postgresql: PostgresqlServer):
        with (
            small_disk(postgresql.room / "disk", "16m") as disk,
            postgresql.url_in(disk) as url,
            Ledger(url) as ledger,
        ):
            ids = fill(ledger, "".join(chr(33 + n * n % 5000) for n in range(8000)))
            assert len(ids) > 10
            assert {entry.id for entry in ledger.for_owner("ada").iter_entries(ALL)} == set(ids)
            with pytest.raises(LedgerFull, match="No space left"):
                ledger.for_owner("ada").remove_where(ALL)
            assert ledger.for_owner("ada").count(ALL) == len(ids)
