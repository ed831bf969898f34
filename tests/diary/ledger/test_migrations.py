"""How an older ledger becomes today's, on SQLite and PostgreSQL.

.venv/bin/python -m pytest tests/diary/ledger/test_migrations.py
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from postgresql_server import PostgresqlServer
from sqlalchemy import Connection, Engine, create_engine, inspect, text

from services.diary.entry import EntryDraft, IndexState
from services.diary.ledger import migrations
from services.diary.ledger.ledger import Ledger
from services.diary.ledger.paging import EntryFilter
from services.diary.ledger.tables import metadata
from services.errors import ConfigError, EntryConflict, NotFound

ROOT = Path(__file__).parents[3]
ALL = EntryFilter()
# As Ada 0.1 made it, by `create_all` and without a version.
FIRST_TABLE = """
CREATE TABLE entries (
    owner VARCHAR(64) NOT NULL, id VARCHAR(64) NOT NULL, version INTEGER NOT NULL, text TEXT NOT NULL,
    date VARCHAR(40) NOT NULL, mood VARCHAR(64), tags TEXT NOT NULL, written_at VARCHAR(40) NOT NULL,
    draft_sha256 VARCHAR(64) NOT NULL, idempotency_key VARCHAR(255), state VARCHAR(16) NOT NULL,
    queued_at VARCHAR(40) NOT NULL, reason TEXT,
    PRIMARY KEY (owner, id), UNIQUE (owner, idempotency_key)
);
CREATE INDEX entries_by_date ON entries (owner, date);
CREATE INDEX entries_by_state ON entries (state, queued_at);
"""


@pytest.fixture
def ledger_url(either_url: str) -> str:
    return either_url


@pytest.fixture
def engine(ledger_url: str) -> Iterator[Engine]:
    engine = create_engine(ledger_url.replace("postgresql://", "postgresql+psycopg://"))
    yield engine
    engine.dispose()


def make_first_table(connection: Connection) -> None:
    for statement in filter(str.strip, FIRST_TABLE.split(";")):
        connection.execute(text(statement))


def write_old(connection: Connection, draft: EntryDraft, **fields: object) -> None:
    """A row as Ada 0.1 wrote it."""
    row = {
        "owner": "ada",
        "id": draft.id,
        "version": 1,
        "text": draft.text,
        "date": draft.date,
        "mood": draft.mood,
        "tags": json.dumps(draft.tags, ensure_ascii=False),
        "written_at": "2026-11-01T10:00:00.000001+00:00",
        "draft_sha256": hashlib.sha256(
            json.dumps(draft.model_dump(), sort_keys=True, ensure_ascii=False).encode()
        ).hexdigest(),
        "idempotency_key": None,
        "state": "indexed",
        "queued_at": "2026-11-01T10:00:01.000001+00:00",
        "reason": None,
        **fields,
    }
    columns = ", ".join(row)
    values = ", ".join(f":{name}" for name in row)
    connection.execute(text(f"INSERT INTO entries ({columns}) VALUES ({values})"), row)


def draft(words: str, **fields: object) -> EntryDraft:
    return EntryDraft.model_validate({"text": words, **fields})


class TestAnOldLedger:
    def test_an_entry_of_the_first_version_keeps_all_it_said(self, engine: Engine, ledger_url: str):
        old = draft("Sea é\n🐕", date="2026-01-02T23:30:00-05:00", mood="calm", tags=["a", "é"], id="e")
        with engine.begin() as connection:
            make_first_table(connection)
            write_old(connection, old, state="failed", reason="ValueError: no")
        with Ledger(ledger_url) as ledger:
            entry = ledger.for_owner("ada").get("e")
            assert (entry.text, entry.date, entry.mood, entry.tags) == (
                old.text,
                old.date,
                "calm",
                ("a", "é"),
            )
            assert (entry.version, entry.written_at) == (1, "2026-11-01T10:00:00.000001+00:00")
            assert (entry.first_day, entry.last_day) == ("2026-01-02", "2026-01-02")
            assert (entry.state, entry.reason) == (IndexState.FAILED, "ValueError: no")
            assert ledger.for_owner("ada").history("e") == [entry]
            assert ledger.for_owner("ada").page(EntryFilter(text="SEA É", tag="é"), 10).entries == [entry]
            assert ledger.for_owner("ada").edit("e", draft("b")).version == 2

    def test_its_idempotency_keys_still_hold(self, engine: Engine, ledger_url: str):
        old = draft("a", date="2026-01-02")
        with engine.begin() as connection:
            make_first_table(connection)
            write_old(connection, old, id="e", idempotency_key="key")
        with Ledger(ledger_url) as ledger:
            assert ledger.for_owner("ada").add(old, "key").id == "e"
            with pytest.raises(EntryConflict):
                ledger.for_owner("ada").add(draft("b"), "key")

    def test_a_date_that_would_be_asked_back_today_is_kept_and_can_be_kept_in_an_edit(
        self, engine: Engine, ledger_url: str
    ):
        with engine.begin() as connection:
            make_first_table(connection)
            for date in ("0001-01-01", "9999-12-31"):
                write_old(connection, draft("a", id=date[:4]), date=date)
        with Ledger(ledger_url) as ledger:
            edited = [ledger.for_owner("ada").edit(entry_id, draft("b")) for entry_id in ("0001", "9999")]
            assert [(entry.text, entry.date) for entry in edited] == [
                ("b", "0001-01-01"),
                ("b", "9999-12-31"),
            ]
            assert [entry.first_day for entry in ledger.for_owner("ada").iter_entries(ALL)] == [
                "0001-01-01",
                "9999-12-31",
            ]

    def test_thousands_of_entries_of_many_owners_are_all_moved(self, engine: Engine, ledger_url: str):
        with engine.begin() as connection:
            make_first_table(connection)
            for number in range(1203):
                write_old(
                    connection, draft(f"{number}", id=f"e{number}"), owner=f"o{number % 3}", date="2026-01-02"
                )
        with Ledger(ledger_url) as ledger:
            texts = [
                entry.text
                for owner in ("o0", "o1", "o2")
                for entry in ledger.for_owner(owner).iter_entries(ALL)
            ]
        assert sorted(map(int, texts)) == list(range(1203))

    def test_the_old_table_is_gone(self, engine: Engine, ledger_url: str):
        with engine.begin() as connection:
            make_first_table(connection)
        Ledger(ledger_url).close()
        assert "entries_before" not in inspect(engine).get_table_names()


class TestTheSteps:
    def test_they_lead_to_the_tables_that_the_code_has(self, engine: Engine, ledger_url: str):
        Ledger(ledger_url).close()
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, metadata) == []

    def test_they_lead_there_from_the_first_table_too(self, engine: Engine, ledger_url: str):
        with engine.begin() as connection:
            make_first_table(connection)
        Ledger(ledger_url).close()
        with engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), metadata) == []

    def test_postgresql_orders_as_sqlite_does_in_whatever_language_its_database_is(
        self, postgresql: PostgresqlServer
    ):
        url = postgresql.empty_url()
        Ledger(url).close()
        engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
        collations = {
            column["name"]: getattr(column["type"], "collation", None)
            for column in inspect(engine).get_columns("entries")
        }
        engine.dispose()
        ordered = ("owner", "id", "moment", "created_at", "queued_at", "first_day", "last_day")
        assert {collations[name] for name in ordered} == {"C"}

    def test_a_ledger_that_lacks_nothing_is_opened_without_a_write(self, ledger_url: str, engine: Engine):
        Ledger(ledger_url).close()
        with engine.begin() as writer:
            writer.execute(text("INSERT INTO conversations VALUES ('o', 'c', '[]', '', false)"))
            Ledger(ledger_url).close()  # it would wait for 20 s, and then fail

    def test_a_ledger_of_a_later_version_is_refused(self, engine: Engine, ledger_url: str):
        Ledger(ledger_url).close()
        with engine.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
        with pytest.raises(ConfigError, match=r"of a later version of Ada, update Ada: .*9999"):
            Ledger(ledger_url)

    def test_a_step_that_fails_leaves_the_old_ledger_as_it_was(self, engine: Engine, ledger_url: str):
        with engine.begin() as connection:
            make_first_table(connection)
            write_old(connection, draft("a", date="2026-01-02", id="e"))
            write_old(connection, draft("b", date="2026-01-02", id="f"), tags="no JSON")
        with pytest.raises(json.JSONDecodeError):
            Ledger(ledger_url)
        with engine.begin() as connection:
            assert set(inspect(connection).get_table_names()) == {"entries"}
            texts = connection.execute(text("SELECT text FROM entries ORDER BY id")).scalars().all()
            assert texts == ["a", "b"]
            connection.execute(text("UPDATE entries SET tags = '[]'"))
        with Ledger(ledger_url) as ledger:
            assert ledger.for_owner("ada").count(ALL) == 2

    def test_an_old_ledger_can_be_opened_by_many_at_once(self, engine: Engine, ledger_url: str):
        with engine.begin() as connection:
            make_first_table(connection)
            for number in range(300):
                write_old(connection, draft("a", id=f"e{number}"), date="2026-01-02")
        counts: list[int] = []

        def open_it() -> None:
            with Ledger(ledger_url) as ledger:
                counts.append(ledger.for_owner("ada").count(ALL))

        threads = [threading.Thread(target=open_it) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert counts == [300] * 6


class TestAssumedDates:
    """Step 0006 finds the rows that earlier versions imported without a date."""

    def test_rows_without_a_date_are_marked_and_no_others(self, engine: Engine, ledger_url: str):
        with Ledger(ledger_url) as ledger:
            diary = ledger.for_owner("ada")
            rows = [draft("undated"), draft("dated", date="1998"), draft("given a date", id="row-own")]
            diary.add_rows(diary.begin_import("a"), [*rows, draft("undated, then edited")])
            ids = {entry.text: entry.id for entry in diary.iter_entries(ALL)}
            diary.edit(ids["undated, then edited"], draft("dated by hand", date="2001"))
            diary.add(draft("written"))
        with engine.begin() as connection:
            _revert_to_step_five(connection)
        with Ledger(ledger_url) as ledger:
            diary = ledger.for_owner("ada")
            assert {entry.text for entry in diary.iter_entries(ALL) if entry.date_assumed} == {"undated"}
            now, before = diary.history(ids["undated, then edited"])
            assert (now.date_assumed, before.date_assumed) == (False, True)


def _revert_to_step_five(connection: Connection) -> None:
    for table in ("entries", "versions"):
        connection.execute(text(f"ALTER TABLE {table} DROP COLUMN date_assumed"))
    connection.execute(text("DROP INDEX conflicts_by_settled"))
    for column in ("rejected_count", "undated", "ignored_fields"):
        connection.execute(text(f"ALTER TABLE imports DROP COLUMN {column}"))
    connection.execute(text("ALTER TABLE idempotency_keys DROP COLUMN import_id"))
    connection.execute(text("UPDATE alembic_version SET version_num = '0005'"))


class TestImportColumns:
    """Step 0007 moves what earlier versions hid in `imports.rejected` and in `idempotency_keys.entry_id`."""

    @staticmethod
    def import_row(
        import_id: str, rejected: object, ended_at: str | None = "2026-11-02"
    ) -> dict[str, object]:
        row = {"owner": "ada", "id": import_id, "name": "diary.csv", "accepted": 1, "duplicates": 0}
        return {**row, "rejected": json.dumps(rejected), "created_at": "2026-11-01", "ended_at": ended_at}

    @pytest.fixture
    def old(self, engine: Engine) -> None:
        """A ledger at step 0006 with imports and Idempotency-Keys as Ada wrote them then."""
        rejects = [{"line": 2, "reason": "no date"}, {"line": 7, "reason": "no text"}]
        summary = {"rejected": 1002, "undated": 3, "ignored_fields": ["weather", "é"]}
        imports = [
            self.import_row("ended", [*rejects, summary]),
            self.import_row("nothing-rejected", [{"rejected": 0, "undated": 0, "ignored_fields": []}]),
            self.import_row("unfinished", [], None),
            self.import_row("without-summary", rejects[:1]),
            *(self.import_row(f"many-{n}", [{**summary, "undated": n}]) for n in range(120)),
        ]
        keys = [("file", "f" * 64, "ended", 0), ("entry", draft("a").sha256(), "e", 1)]
        with engine.begin() as connection:
            migrations.upgrade(connection, "0006")
            columns = ", ".join(imports[0])
            values = ", ".join(f":{name}" for name in imports[0])
            connection.execute(text(f"INSERT INTO imports ({columns}) VALUES ({values})"), imports)
            for key, sha256, resource, version in keys:
                row = {"key": key, "sha256": sha256, "id": resource, "version": version}
                connection.execute(
                    text(
                        "INSERT INTO idempotency_keys"
                        " (owner, key, body_sha256, entry_id, version, created_at)"
                        " VALUES ('ada', :key, :sha256, :id, :version, '2026-11-01')"
                    ),
                    row,
                )

    def test_the_summary_of_an_import_is_no_longer_a_rejected_row(self, old: None, ledger_url: str):
        with Ledger(ledger_url) as ledger:
            report = ledger.for_owner("ada").import_report("ended")
        assert [row["line"] for row in report.rejected] == [2, 7]
        assert (report.rejected_count, report.undated) == (1002, 3)
        assert report.ignored_fields == ["weather", "é"]
        assert (report.name, report.accepted, report.ended_at) == ("diary.csv", 1, "2026-11-02")

    def test_imports_without_rejects_or_without_a_summary_lose_nothing(self, old: None, ledger_url: str):
        with Ledger(ledger_url) as ledger:
            owned = ledger.for_owner("ada")
            reports = [owned.import_report(name) for name in ("nothing-rejected", "unfinished")]
            assert [(r.rejected, r.rejected_count, r.ignored_fields) for r in reports] == [([], 0, [])] * 2
            assert owned.import_report("without-summary").rejected == [{"line": 2, "reason": "no date"}]

    def test_every_import_is_carried_over(self, old: None, ledger_url: str):
        with Ledger(ledger_url) as ledger:
            reports = [ledger.for_owner("ada").import_report(f"many-{n}") for n in range(120)]
        assert [(report.rejected, report.undated) for report in reports] == [([], n) for n in range(120)]

    def test_idempotency_keys_of_imports_and_of_entries_still_hold(self, old: None, ledger_url: str):
        with Ledger(ledger_url) as ledger:
            owned = ledger.for_owner("ada")
            assert owned.begin_import("diary.csv", "file", "f" * 64) == "ended"
            for key in ("file", "entry"):
                with pytest.raises(EntryConflict):
                    owned.begin_import("diary.csv", key, "0" * 64)
            with pytest.raises(EntryConflict):
                owned.add(draft("a"), "file")
            with pytest.raises(NotFound, match="'e'"):  # the row of the key is there, its entry is not
                owned.add(draft("a"), "entry")

    def test_the_columns_are_those_that_the_code_has(self, old: None, engine: Engine, ledger_url: str):
        Ledger(ledger_url).close()
        with engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True})
            assert compare_metadata(context, metadata) == []


def test_the_steps_are_found_wherever_the_code_lies_and_the_process_starts(tmp_path: Path):
    """As in a container: a copy of services/ elsewhere, which may not be written to, under an odd name."""
    elsewhere = tmp_path / "100% elsewhere"
    for part in ("services/diary", "services/errors.py", "services/local_time.py", "services/__init__.py"):
        source, target = ROOT / part, elsewhere / part
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(source, target) if source.is_dir() else shutil.copy(source, target)
    script = (
        "import sys; from services.diary.ledger.ledger import Ledger;"
        " print(Ledger(sys.argv[1]).for_owner('a').tags())"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, f"sqlite:///{tmp_path}/ledger.sqlite3"],
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(elsewhere), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("{}\n", "")
