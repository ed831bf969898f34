"""Import a whole file into the ledger: accept the rows that are entries, and say why the others are not."""

import hashlib
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, BinaryIO, cast

from services.diary.ledger.imports import ImportReport
from services.diary.ledger.ledger import Ledger
from services.diary.transfer.formats import Format
from services.diary.transfer.reading import read_rows
from services.diary.transfer.row import Reject, Row
from services.local_time import IN_UTC, LocalTime

MAX_REJECTS = 1000  # are stored with line and reason; further ones are only counted
BATCH_ROWS = 500  # rows in one transaction
_MAX_FIELD_NAMES = 50


def no_check() -> None:
    """Never ends an import."""


def import_file(
    ledger: Ledger,
    owner: str,
    file: BinaryIO,
    form: Format,
    name: str,
    key: str | None = None,
    local: LocalTime = IN_UTC,
    check: Callable[[], None] = no_check,
    batch_rows: int = BATCH_ROWS,
) -> ImportReport:
    """Import a seekable file; on return everything that was accepted is on disk.

    `check` is called before each piece of the file is read. Whatever it raises ends the import: the rows that
    were accepted by then stay, and the same file under the same Idempotency-Key continues where it ended.

    The same Idempotency-Key with the same file returns the first import. Raises EntryRejected when the file
    as a whole can't be read, EntryConflict when the key was used for something else, LedgerFull or
    DiaryUnavailable: then the rows read so far are on disk, and sending the file again adds the rest.
    """
    rows = _opened(cast(BinaryIO, _CheckedFile(file, check)), form, name)
    entries = ledger.for_owner(owner, local)
    import_id = entries.begin_import(name, key, _sha256(file) if key else "")
    report = entries.import_report(import_id)
    if report.ended_at is None:
        _Importer(ledger, owner, report, local, batch_rows).read(rows)
    return entries.import_report(import_id)


def _opened(file: BinaryIO, form: Format, name: str) -> Iterator[Row | Reject]:
    """The rows. The first is read at once: a file that can't be read leaves no trace in the ledger."""
    rows = read_rows(file, form, name)
    return chain([first for first in [next(rows, None)] if first], rows)


def _sha256(file: BinaryIO) -> str:
    """The hash of the whole file, whose position stays as it was."""
    position = file.tell()
    file.seek(0)
    digest = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    file.seek(position)
    return digest


def _with_file(file: str, reason: str) -> str:
    """The reason, preceded by the file's name inside an archive."""
    return f"{file}: {reason}" if file else reason


class _CheckedFile:
    """A file that calls `check` before each read."""

    def __init__(self, file: BinaryIO, check: Callable[[], None]) -> None:
        self._file = file
        self._check = check

    def read(self, size: int = -1) -> bytes:
        self._check()
        return self._file.read(size)

    def readline(self, size: int = -1) -> bytes:
        self._check()
        return self._file.readline(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True


class _Importer:
    """Writes the rows of one file into the ledger, a batch in each transaction."""

    def __init__(
        self, ledger: Ledger, owner: str, report: ImportReport, local: LocalTime, batch_rows: int
    ) -> None:
        self._entries = ledger.for_owner(owner, local)
        self._import_id = report.id
        self._already_read = report.rows_read  # by an import of the same file that was interrupted
        self._batch_rows = batch_rows
        self._batch: list[Row] = []
        self._rejected: list[dict[str, Any]] = []
        self._rejected_count = 0
        self._undated = 0
        self._ignored_fields: set[str] = set()

    def read(self, rows: Iterator[Row | Reject]) -> None:
        """Read all rows, and end the import."""
        for row in rows:
            if isinstance(row, Reject):
                self._reject(row.line, _with_file(row.file, row.reason))
                continue
            self._batch.append(row)
            if len(self._batch) == self._batch_rows:
                self._write_batch()
        self._write_batch()
        self._entries.end_import(
            self._import_id,
            sorted(self._rejected, key=lambda reject: int(reject["line"])),
            self._rejected_count,
            self._undated,
            sorted(self._ignored_fields)[:_MAX_FIELD_NAMES],
        )

    def _write_batch(self) -> None:
        already_read = min(self._already_read, len(self._batch))
        drafts = [row.draft for row in self._batch]
        result = self._entries.add_rows(self._import_id, drafts, already_read)
        self._already_read -= already_read
        for position, row in enumerate(self._batch):
            if position in result.rejections:
                self._reject(row.line, _with_file(row.file, result.rejections[position]))
            elif row.draft.date is None:
                self._undated += 1
            if len(self._ignored_fields) < _MAX_FIELD_NAMES:
                self._ignored_fields |= {name[:64] for name in row.ignored}
        self._batch.clear()

    def _reject(self, line: int, reason: str) -> None:
        self._rejected_count += 1
        if len(self._rejected) < MAX_REJECTS:
            self._rejected.append({"line": line, "reason": reason})
