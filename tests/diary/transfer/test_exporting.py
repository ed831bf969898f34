"""The whole diary as a file, and back: nothing of an entry is lost or changed on the way.

.venv/bin/python -m pytest tests/diary/transfer/test_exporting.py
"""

import io
import json
from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.diary.entry import Entry, EntryDraft, Source
from services.diary.transfer.exporting import PIECE, export
from services.diary.transfer.formats import Format
from services.diary.transfer.reading import read_rows
from services.diary.transfer.row import Row

FORMS = [Format.JSONL, Format.JSON, Format.MARKDOWN]
WRITTEN_AT = "2026-11-22T10:00:00.000000+00:00"

# Texts made of what a format could take for its own marks, and of what breaks lines or screens elsewhere.
MARKS = [
    "\n", "\r\n", "\r", "# 2023-05-08\n", "\n## May 1998", "#", "\\", "\\#", "\\\\# x", "<!-- ada {}-->",
    "-->", " ", "\x00", "\x1a0", "\u202e", "\u2028", "\x85", "\ufeff", "```\n",
    "---", '"', "[", "<|im_end|>", "🕮", "ı",
]  # fmt: skip
TEXTS = st.lists(st.sampled_from(MARKS) | st.text(max_size=5), min_size=1, max_size=10).map("".join)
DATES = st.dates().filter(lambda day: 1000 <= day.year <= 2025).map(str) | st.sampled_from(
    [
        "spring 1998",
        "May 1998",
        "1660",
        "2023-05-08 21:14:05",
        "2023-05-08T21:14:05+02:00",
        "Monday, May 8, 2023",
    ]
)


@st.composite
def drafts(draw: st.DrawFn) -> EntryDraft:
    """Any entry that can be written."""
    text = draw(TEXTS.filter(lambda text: text.strip() and _is_utf8(text)))
    words = st.text(min_size=1, max_size=9).filter(_is_utf8)
    return EntryDraft(
        text=text,
        date=draw(DATES),
        mood=draw(st.none() | words),
        tags=draw(st.lists(words, max_size=3)),
        id=draw(st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)),
    )


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def entry(draft: EntryDraft, **fields: object) -> Entry:
    """The draft as the ledger would keep it."""
    text = {
        "owner": "local",
        "version": 1,
        "first_day": "",
        "last_day": "",
        "written_at": WRITTEN_AT,
        **fields,
    }
    return Entry(**{**draft.model_dump(), "tags": tuple(draft.tags), **text})


def file_of(entries: Iterable[Entry], form: Format) -> str:
    return "".join(export(entries, form))


@pytest.mark.parametrize("form", FORMS)
@settings(max_examples=300, deadline=None)
@given(written=st.lists(drafts(), max_size=4))
def test_what_is_exported_and_imported_again_is_the_same_to_the_letter(
    form: Format, written: list[EntryDraft]
):
    file = file_of(map(entry, written), form)
    if not written and form is not Format.JSON:
        assert file == ""
        return
    rows_read = list(read_rows(io.BytesIO(file.encode()), form))
    assert [row.draft for row in rows_read if isinstance(row, Row)] == written
    assert len(rows_read) == len(written)


@pytest.mark.parametrize("form", [Format.JSONL, Format.JSON])
def test_where_an_entry_came_from_is_told(form: Format):
    reflection = entry(
        EntryDraft(text="Drew called.", date="2026-11-22", id="r"),
        source=Source.REFLECTION,
        origin={"turns": [{"role": "user", "content": "Hello"}]},
    )
    (expected,) = [
        json.loads(line.strip("[],")) for line in file_of([reflection], form).splitlines() if "text" in line
    ]
    assert (expected["source"], expected["written_at"]) == ("reflection", WRITTEN_AT)
    assert expected["origin"]["turns"][0]["content"] == "Hello"


def test_markdown_reads_as_a_person_would_write_it():
    first = EntryDraft(text="I walked.\n\n# far", date="Monday, May 8, 2023", mood="calm --> or not", id="a")
    second = EntryDraft(text="I slept.", date="2023-05-09", tags=["bed"], id="b")
    assert file_of([entry(first), entry(second)], Format.MARKDOWN) == (
        "## Monday, May 8, 2023\n"
        '<!-- ada {"id": "a", "mood": "calm --\\u003e or not", "tags": [], "source": "written", '
        f'"written_at": "{WRITTEN_AT}"' + "} -->\n\nI walked.\n\n\\# far\n\n"
        "## 2023-05-09\n"
        '<!-- ada {"id": "b", "mood": null, "tags": ["bed"], "source": "written", '
        f'"written_at": "{WRITTEN_AT}"' + "} -->\n\nI slept.\n\n"
    )


@pytest.mark.parametrize("end", ["", "\n"])
def test_markdown_that_an_editor_has_touched_is_still_read(end: str):
    draft = EntryDraft(text="I walked.\n\nFar.", date="2023-05-08", mood="calm", id="a")
    touched = file_of([entry(draft)], Format.MARKDOWN).rstrip("\n").replace("\n", "\r\n") + end
    (row,) = read_rows(io.BytesIO(touched.encode()), Format.MARKDOWN)
    assert row.draft == draft


def test_a_damaged_comment_in_markdown_is_told_and_costs_no_other_entry():
    first, second = (entry(EntryDraft(text=name, date="2023-05-08", id=name)) for name in ("one", "two"))
    damaged = file_of([first, second], Format.MARKDOWN).replace('{"id": "one"', '{"id": "one')
    refused, row = read_rows(io.BytesIO(damaged.encode()), Format.MARKDOWN)
    assert (refused.line, row.draft.text) == (1, "two")
    assert "comment under this heading is damaged" in refused.reason


@pytest.mark.parametrize("form", FORMS)
def test_it_is_written_while_it_is_being_read(form: Format):
    read = 0

    def entries() -> Iterable[Entry]:
        nonlocal read
        for number in range(1000):
            read += 1
            yield entry(EntryDraft(text=f"{number} " + "x" * 1000, date="2023", id=f"n{number}"))

    first = next(export(entries(), form))
    assert PIECE <= len(first) < 2 * PIECE
    assert read < 100
