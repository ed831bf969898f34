"""A whole file into the ledger: batches, keys, what is told, and a reading that was interrupted.

.venv/bin/python -m pytest tests/diary/transfer/test_importer.py
"""

import io
import json

import pytest

from services.diary.entry import EntryDraft
from services.diary.ledger.ledger import Ledger
from services.diary.ledger.owner_ledger import OwnerLedger
from services.diary.ledger.paging import EntryFilter
from services.diary.transfer.formats import Format
from services.diary.transfer.importer import import_file
from services.errors import DiaryUnavailable, EntryConflict, EntryRejected, NotFound

OWNER = "drew"


@pytest.fixture
def ledger_url(either_ledger_url: str) -> str:
    """These tests run over SQLite and over PostgreSQL."""
    return either_ledger_url


def file_of(number: int, **more: object) -> io.BytesIO:
    """So many entries in JSON Lines."""
    rows = ({"date": "2023-05-08", "text": f"Entry {n}\x00", **more} for n in range(number))
    return io.BytesIO("".join(json.dumps(row) + "\n" for row in rows).encode())


def count(ledger: Ledger, owner: str = OWNER) -> int:
    return ledger.for_owner(owner).count(EntryFilter())


def test_a_file_of_several_batches_is_taken_whole_and_in_its_order(ledger: Ledger):
    report = import_file(ledger, OWNER, file_of(30), Format.JSONL, "d.jsonl", batch_rows=7)
    assert (report.accepted, report.duplicates, report.rejected_count) == (30, 0, 0)
    assert report.ended_at is not None
    assert [entry.text for entry in ledger.for_owner(OWNER).iter_entries(EntryFilter())] == [
        f"Entry {n}\x00" for n in range(30)
    ]
    assert count(ledger, "somebody else") == 0


def test_rejects_are_told_in_the_order_of_lines_from_reader_and_ledger(ledger: Ledger):
    ledger.for_owner(OWNER).add(EntryDraft(text="mine", id="taken"))
    rows = ['{"text": "a"}', '{"text": "b", "id": "taken"}', "{}", '{"text": "c", "id": "taken"}', "[]"]
    report = import_file(ledger, OWNER, io.BytesIO("\n".join(rows).encode()), Format.JSONL, "d", batch_rows=2)
    assert [row["line"] for row in report.rejected] == [2, 3, 4, 5]
    assert (report.accepted, report.rejected_count, report.undated) == (1, 4, 1)


def test_the_same_key_reads_the_same_file_once(ledger: Ledger):
    first = import_file(ledger, OWNER, file_of(3, weather="fine"), Format.JSONL, "d", "k")
    again = import_file(ledger, OWNER, file_of(3, weather="fine"), Format.JSONL, "d", "k")
    assert first == again
    assert again.ignored_fields == ["weather"]
    with pytest.raises(EntryConflict, match="Idempotency-Key was used before"):
        import_file(ledger, OWNER, file_of(4), Format.JSONL, "d", "k")
    assert count(ledger) == 3
    import_file(ledger, "somebody else", file_of(4), Format.JSONL, "d", "k")
    assert count(ledger, "somebody else") == 4


def test_a_reading_that_was_interrupted_goes_on_under_the_same_key(ledger: Ledger, monkeypatch):
    real, calls = OwnerLedger.add_rows, []

    def fails_at_the_third(self, import_id, drafts, known):
        calls.append(import_id)
        if len(calls) == 3:
            raise DiaryUnavailable("the diary's ledger failed: gone")
        return real(self, import_id, drafts, known)

    monkeypatch.setattr(OwnerLedger, "add_rows", fails_at_the_third)
    with pytest.raises(DiaryUnavailable):
        import_file(ledger, OWNER, file_of(20), Format.JSONL, "d", "k", batch_rows=4)
    assert count(ledger) == 8
    assert ledger.for_owner(OWNER).import_report(calls[0]).ended_at is None
    report = import_file(ledger, OWNER, file_of(20), Format.JSONL, "d", "k", batch_rows=4)
    assert (report.id, count(ledger)) == (calls[0], 20)
    assert (report.accepted, report.duplicates) == (20, 0)


def test_one_whose_client_has_gone_ends_and_keeps_what_it_took(ledger: Ledger):
    pieces = iter(range(10))

    def check() -> None:
        if next(pieces, None) is None:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        import_file(ledger, OWNER, file_of(200), Format.JSONL, "d", "k", check=check, batch_rows=4)
    assert 0 < count(ledger) <= 10
    report = import_file(ledger, OWNER, file_of(200), Format.JSONL, "d", "k", batch_rows=4)
    assert (report.accepted, report.duplicates, count(ledger)) == (200, 0, 200)


def test_one_that_goes_on_tells_what_one_without_a_break_does(ledger: Ledger, monkeypatch):
    rows = ['{"text": "a"}', '{"text": "a"}', '{"text": "b", "id": "taken"}', "{}", '{"text": "c"}', "[]"]
    rows.append('{"text": "d"}')
    content, results = "\n".join(rows).encode(), []
    for owner, failing_calls in (("ada", []), ("bríd", [2]), ("cleo", [1, 2])):
        ledger.for_owner(owner).add(EntryDraft(text="mine", id="taken"))
        for failing_call in failing_calls:
            with monkeypatch.context() as patch:
                patch.setattr(OwnerLedger, "add_rows", fails_at(failing_call, OwnerLedger.add_rows))
                with pytest.raises(DiaryUnavailable):
                    import_file(ledger, owner, io.BytesIO(content), Format.JSONL, "d", "k", batch_rows=3)
        report = import_file(ledger, owner, io.BytesIO(content), Format.JSONL, "d", "k", batch_rows=3)
        results.append((report.accepted, report.duplicates, report.rejected, report.rejected_count))
    assert results[0] == results[1] == results[2]
    assert results[0][:2] == (3, 1)


def fails_at(number: int, real):
    """The ledger is gone at the given call."""
    calls = []

    def add_rows(self, *arguments):
        calls.append(number)
        if len(calls) == number:
            raise DiaryUnavailable("the diary's ledger failed: gone")
        return real(self, *arguments)

    return add_rows


def test_what_had_been_removed_is_back_and_told(ledger: Ledger):
    import_file(ledger, OWNER, file_of(3), Format.JSONL, "d")
    for entry in list(ledger.for_owner(OWNER).iter_entries(EntryFilter()))[:2]:
        ledger.for_owner(OWNER).remove(entry.id)
    report = import_file(ledger, OWNER, file_of(3), Format.JSONL, "d")
    assert (report.accepted, report.restored, report.duplicates) == (2, 2, 1)


def test_a_file_of_no_use_leaves_no_trace_and_its_key_is_free(ledger: Ledger):
    with pytest.raises(EntryRejected):
        import_file(ledger, OWNER, io.BytesIO(b"a,b\n"), Format.CSV, "d", "k")
    assert import_file(ledger, OWNER, file_of(1), Format.JSONL, "d", "k").accepted == 1


def test_an_import_of_another_owner_is_not_there(ledger: Ledger):
    report = import_file(ledger, OWNER, file_of(1), Format.JSONL, "d")
    with pytest.raises(NotFound):
        ledger.for_owner("somebody else").import_report(report.id)
