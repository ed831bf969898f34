"""Whose life a diary's entries belong to, on SQLite and PostgreSQL.

.venv/bin/python -m pytest tests/diary/ledger/test_persona_record.py
"""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import select

from services.diary.entry import EntryDraft
from services.diary.ledger.ledger import Ledger
from services.diary.ledger.persona_record import PersonaRecord
from services.diary.ledger.tables import persona_record


@pytest.fixture
def ledger_url(either_ledger_url: str) -> str:
    return either_ledger_url


@pytest.fixture
def record(ledger: Ledger) -> PersonaRecord:
    return PersonaRecord(ledger)


def write(ledger: Ledger) -> None:
    ledger.for_owner("drew").add(EntryDraft(text="It rained.", id="e1", date="2026-01-02"))


def ada(record: PersonaRecord) -> str | None:
    return record.register("ada", "Ada", shared=False)


def tomas(record: PersonaRecord, *, shared: bool = False) -> str | None:
    return record.register("tomás", "Tomás", shared=shared)


def test_an_old_diary_is_of_whoever_is_served_first(ledger: Ledger, record: PersonaRecord):
    write(ledger)
    assert record.refusal() == ""
    assert ada(record) is None
    assert tomas(record) == "Ada"
    assert ada(record) is None


def test_while_another_is_served_nothing_may_be_written_until_it_is_shared(
    ledger: Ledger, record: PersonaRecord
):
    ada(record)
    write(ledger)
    tomas(record)
    assert record.refusal().startswith("the diary is Ada's and Tomás is served: ")
    assert tomas(record, shared=True) == "Ada"
    assert record.refusal() == ""
    tomas(record)
    ada(record)
    assert record.refusal() == ""


def test_an_empty_diary_belongs_to_nobody_for_long(ledger: Ledger, record: PersonaRecord):
    ada(record)
    assert tomas(record) is None
    write(ledger)
    assert ada(record) == "Tomás"
    ledger.for_owner("drew").remove("e1")
    assert ada(record) is None


def test_a_new_name_under_the_same_id_is_noted(ledger: Ledger, record: PersonaRecord):
    ada(record)
    write(ledger)
    assert record.register("ada", "Ada Byrne", shared=False) is None
    assert tomas(record) == "Ada Byrne"


def test_of_many_that_begin_at_once_one_has_the_diary(ledger: Ledger):
    write(ledger)
    names = [f"p{number}" for number in range(8)]

    def serve(name: str) -> str | None:
        return PersonaRecord(ledger).register(name, name, shared=False)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(serve, names))
    with ledger.reading() as connection:
        (row,) = connection.execute(select(persona_record)).all()
    assert [name for name in names if serve(name) is None] == [row.id]
