"""A whole file into the ledger: its rows that are entries, and the reasons why the others are none."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, BinaryIO, cast

from sqlalchemy import Connection, select

from services.diary.ledger import imports
from services.diary.ledger.database import insert_new
from services.diary.ledger.imports import ImportReport
from services.diary.ledger.ledger import Ledger
from services.diary.ledger.tables import idempotency_keys, utc_timestamp
from services.diary.transfer.formats import Format
from services.diary.transfer.reading import read_rows
from services.diary.transfer.row import Reject, Row
from services.errors import EntryConflict
from services.local_time import IN_UTC, LocalTime

MAX_REJECTS = 1000  # are told one by one; of the others only how many
_AT_ONCE = 500  # rows in one transaction
_MOST_NAMES = 50


@dataclass(frozen=True)
class Import:
    """What became of a file: the ledger's report, and what the reader noticed."""

    report: ImportReport
    rejected: list[dict[str, Any]]  # {line, reason}, MOST_REJECTS at most
    rejected_count: int
    undated: int  # entries that had no date, and were given the day of the import
    ignored_fields: list[str]  # of the file, that a diary does not keep


def no_check() -> None:
    """Nobody ends the reading."""


def import_file(
    ledger: Ledger,
    owner: str,
    file: BinaryIO,
    form: Format,
    name: str,
    key: str | None = None,
    local: LocalTime = IN_UTC,
    check: Callable[[], None] = no_check,
) -> Import:
    """Read a seekable file to its end; on return all that was accepted is on disk.

    `check` is called before each piece of the file, and ends the reading with what it raises: what was
    accepted by then stays, and under the same Idempotency-Key the reading goes on where it ended.

    The same Idempotency-Key with the same file gives the first import again. Raises EntryRejected when the
    file as a whole can't be read, EntryConflict when the key was used for something else, LedgerFull or
    DiaryUnavailable: then what was read so far is on disk, and sending the file again adds the rest.
    """
    rows = _checked(cast(BinaryIO, _Checked(file, check)), form, name)
    import_id = _begin(ledger, owner, file, name, key)
    report = ledger.for_owner(owner).import_report(import_id)
    if report.ended_at is None:
        _Reading(ledger, owner, import_id, report.rows_read, local).read(rows)
    return load_import(ledger, owner, import_id)


def load_import(ledger: Ledger, owner: str, import_id: str) -> Import:
    """How an import stands. Raises NotFound."""
    report = ledger.for_owner(owner).import_report(import_id)
    *rejected, told = report.rejected or [{}]
    count = told.get("rejected", 0)
    return Import(report, rejected, count, told.get("undated", 0), told.get("ignored_fields", []))


def _checked(file: BinaryIO, form: Format, name: str) -> Iterator[Row | Reject]:
    """The rows, the first of them read already, so that a file of no use leaves no trace."""
    rows = read_rows(file, form, name)
    return chain([first for first in [next(rows, None)] if first], rows)


def _begin(ledger: Ledger, owner: str, file: BinaryIO, name: str, key: str | None) -> str:
    if not key:
        return ledger.for_owner(owner).begin_import(name)
    sha256 = _sha256(file)
    with ledger.transaction() as connection:
        used = _used(connection, owner, key)
        if used is None:
            import_id = imports.begin(connection, owner, name)
            row = {"owner": owner, "key": key, "body_sha256": sha256, "entry_id": import_id, "version": 0}
            if insert_new(connection, idempotency_keys, {**row, "created_at": utc_timestamp()}):
                return import_id
            used = "", ""  # by somebody else in this moment
    if used[0] != sha256:
        raise EntryConflict(
            "this Idempotency-Key was used before for something else: take a new one", "Idempotency-Key"
        )
    return used[1]


def _used(connection: Connection, owner: str, key: str) -> tuple[str, str] | None:
    """The body's hash and the import's id under a key."""
    keys = idempotency_keys
    query = select(keys.c.body_sha256, keys.c.entry_id).where(keys.c.owner == owner, keys.c.key == key)
    found = connection.execute(query).first()
    return (found.body_sha256, found.entry_id) if found else None


def _sha256(file: BinaryIO) -> str:
    """Of the whole file, which is read on where it was afterwards."""
    place = file.tell()
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    file.seek(place)
    return digest


def _placed(file: str, reason: str) -> str:
    """The reason with the file of an archive."""
    return f"{file}: {reason}" if file else reason


class _Checked:
    """The file, of which each piece is read after a check."""

    def __init__(self, file: BinaryIO, check: Callable[[], None]) -> None:
        self._file = file
        self._check = check

    def read(self, size: int = -1) -> bytes:
        self._check()
        return self._file.read(size)

    def readline(self, size: int = -1) -> bytes:
        self._check()
        return self._file.readline(size)

    def seek(self, place: int, whence: int = 0) -> int:
        return self._file.seek(place, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True


@dataclass
class _Reading:
    """One reading of a file to its end."""

    ledger: Ledger
    owner: str
    import_id: str
    known: int  # rows that a reading before this one has taken
    local: LocalTime
    rejected: list[dict[str, Any]] = field(default_factory=list)
    rejected_count: int = 0
    undated: int = 0
    ignored: set[str] = field(default_factory=set)
    batch: list[Row] = field(default_factory=list)

    def read(self, rows: Iterator[Row | Reject]) -> None:
        for row in rows:
            if isinstance(row, Reject):
                self._reject(row.line, _placed(row.file, row.reason))
                continue
            self.batch.append(row)
            if len(self.batch) == _AT_ONCE:
                self._write()
        self._write()
        told = {"rejected": self.rejected_count, "undated": self.undated}
        summary = {**told, "ignored_fields": sorted(self.ignored)[:_MOST_NAMES]}
        rejected = sorted(self.rejected, key=lambda reject: int(reject["line"]))
        self.ledger.for_owner(self.owner).end_import(self.import_id, [*rejected, summary])

    def _write(self) -> None:
        known = min(self.known, len(self.batch))
        drafts = [row.draft for row in self.batch]
        added = self.ledger.for_owner(self.owner, self.local).add_rows(self.import_id, drafts, known)
        self.known -= known
        for place, row in enumerate(self.batch):
            if place in added.rejections:
                self._reject(row.line, _placed(row.file, added.rejections[place]))
            elif row.draft.date is None:
                self.undated += 1
            if len(self.ignored) < _MOST_NAMES:
                self.ignored |= {name[:64] for name in row.ignored}
        self.batch.clear()

    def _reject(self, line: int, reason: str) -> None:
        self.rejected_count += 1
        if len(self.rejected) < MAX_REJECTS:
            self.rejected.append({"line": line, "reason": reason})
