"""What a writer may hand in, and what is sent back.

.venv/bin/python -m pytest tests/diary/test_entry.py
"""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.diary.entry import MAX_BYTES, Entry, EntryDraft


def handed_in(**fields: object) -> EntryDraft:
    """A draft as it arrives: JSON first, then validation."""
    return EntryDraft.model_validate(json.loads(json.dumps(fields)))


def field_at_fault(**fields: object) -> str:
    with pytest.raises(ValidationError) as rejected:
        handed_in(**fields)
    return str(rejected.value.errors()[0]["loc"][0])


@given(st.text(min_size=1, max_size=3000).filter(str.strip))
@example("Sea\u0000room\u202eedoc\u200b<|im_start|>system\n\x1b[31m\ufeff\r\n e\u0301 é 🐕‍🦺")
def test_any_text_within_limits_is_kept_to_the_letter(text: str):
    assert handed_in(text=text).text == text


@pytest.mark.parametrize("text", ["", " ", "\n\t\r\n", "\u00a0\u2003\u3000"])
def test_an_entry_without_a_word_is_rejected(text: str):
    assert field_at_fault(text=text) == "text"


@pytest.mark.parametrize("letter", ["a", "é", "語", "🐕"])
def test_32_kib_of_utf_8_are_accepted_and_one_byte_more_is_not(letter: str):
    full = letter * (MAX_BYTES // len(letter.encode()))
    full += "a" * (MAX_BYTES - len(full.encode()))
    assert handed_in(text=full).text == full
    with pytest.raises(ValidationError, match=f"{MAX_BYTES + 1} bytes: at most {MAX_BYTES}, split it"):
        handed_in(text=full + "a")


@pytest.mark.parametrize(
    "fields",
    [
        {"text": "half a \ud800 pair"},
        {"text": "a", "mood": "\udfff"},
        {"text": "a", "tags": ["\ud800"]},
        {"text": "a", "id": "\ud800"},
        {"text": "a", "date": "2026-01-02\ud80010:00"},
    ],
    ids=lambda fields: list(fields)[-1],
)
def test_half_a_surrogate_pair_is_rejected_wherever_it_stands(fields: dict[str, object]):
    """JSON can spell what UTF-8 can't write; it must end here and not in the ledger."""
    assert field_at_fault(**fields) == list(fields)[-1]


@pytest.mark.parametrize(
    "date", ["2026-01-02", "2026-01-02T10:00:00-03:30", "1998", "spring 1998", "May 3rd, 1998"]
)
def test_a_date_is_kept_as_it_was_given(date: str):
    """Which dates are taken and which are asked back: tests/diary/test_dates.py."""
    assert handed_in(text="a", date=date).date == date


@pytest.mark.parametrize("date", ["", "yesterday", "2023-02-29", "03/04/1998", "May 98", "2999-01-01"])
def test_a_date_that_is_not_clear_is_rejected_with_what_to_write_instead(date: str):
    with pytest.raises(ValidationError, match=r"[Ww]rite "):
        handed_in(text="a", date=date)


def test_a_date_fits_its_column():
    assert field_at_fault(text="a", date="2026-01-02T10:00:00." + "1" * 40) == "date"


@given(st.text(max_size=30))
def test_a_date_is_accepted_or_rejected_and_never_breaks_anything(date: str):
    try:
        handed_in(text="a", date=date).sha256()
    except ValidationError:
        pass


@pytest.mark.parametrize("entry_id", ["", "a b", "a/b", "../a", "é", "a\n", "a" * 65, "a.b", "a:b"])
def test_ids_are_letters_digits_underscore_and_hyphen(entry_id: str):
    assert field_at_fault(text="a", id=entry_id) == "id"


@pytest.mark.parametrize("entry_id", ["a", "-", "demo-14", "a-v2", "A_z-09", "a" * 64])
def test_good_ids_are_kept(entry_id: str):
    assert handed_in(text="a", id=entry_id).id == entry_id


@pytest.mark.parametrize(
    "fields",
    [
        {"colour": "red"},
        {"owner": "somebody else"},
        {"mood": "m" * 65},
        {"tags": ["t" * 65]},
        {"tags": [""]},
        {"tags": ["t"] * 33},
        {"tags": "work"},
        {"tags": [1]},
        {"text": 5},
        {"text": None},
    ],
    ids=str,
)
def test_unknown_fields_and_wrong_shapes_are_rejected_by_name(fields: dict[str, object]):
    assert field_at_fault(**{"text": "a", **fields}) == next(iter(fields))


def test_drafts_have_the_same_fingerprint_when_every_field_is_the_same():
    fields = {"text": "a", "date": "2026-01-02", "mood": "calm", "tags": ["x"], "id": "e"}
    assert handed_in(**fields).sha256() == handed_in(**dict(reversed(fields.items()))).sha256()
    other = {"text": "b", "date": "2026-01-03", "mood": "low", "tags": ["x", "y"], "id": "f"}
    prints = {handed_in(**{**fields, name: value}).sha256() for name, value in other.items()}
    assert len(prints | {handed_in(**fields).sha256()}) == 6


def test_an_entrys_day_is_the_first_that_its_date_spans():
    spring = Entry("o", "e", 1, "a", "spring 1998", "1998-03-01", "1998-05-31", None, (), "")
    assert spring.day == "1998-03-01"


def test_entries_can_be_put_into_a_set_whatever_they_came_from():
    entry = Entry("o", "e", 1, "a", "1998", "1998-01-01", "1998-12-31", None, (), "", origin={"turns": [1]})
    assert len({entry, entry}) == 1
