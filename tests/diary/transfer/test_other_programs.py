"""Diaries as other programs export them, and headings that are meant as dates.

.venv/bin/python -m pytest tests/diary/transfer/test_other_programs.py
"""

import contextlib
import io
import itertools
import json
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.diary.entry import EntryDraft
from services.diary.ledger.ledger import Ledger
from services.diary.ledger.paging import EntryFilter
from services.diary.transfer.exporting import export
from services.diary.transfer.formats import Format
from services.diary.transfer.reading import read_rows
from services.diary.transfer.row import Reject, Row
from services.diary.transfer.zip_archive import ZipLimits, read_zip
from services.errors import EntryRejected

REGRESSIONS = Path(__file__).parents[2] / "regressions"
MARKDOWN, JSON, CSV, JRNL, ZIP, JSONL = (
    Format.MARKDOWN, Format.JSON, Format.CSV, Format.JRNL, Format.ZIP, Format.JSONL,
)  # fmt: skip


def rows(content: str | bytes, form: Format, name: str = "") -> list[Row | Reject]:
    data = content.encode() if isinstance(content, str) else content
    return list(read_rows(io.BytesIO(data), form, name))


def rows_within(content: bytes, limits: ZipLimits) -> list[Row | Reject]:
    return list(read_zip(io.BytesIO(content), read_rows, limits))


def entries(results: list[Row | Reject]) -> list[tuple[str | None, str]]:
    """Date and text of each entry."""
    return [(row.draft.date, row.draft.text) for row in results if isinstance(row, Row)]


def reasons(results: list[Row | Reject]) -> dict[int, str]:
    return {row.line: row.reason for row in results if isinstance(row, Reject)}


def archive(files: dict[str, str | bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as opened:
        for name, content in files.items():
            opened.writestr(name, content)
    return made.getvalue()


class TestHeadings:
    """The inputs are those of tests/regressions/headings_swallowed."""

    def read(self, name: str) -> list[Row | Reject]:
        return rows((REGRESSIONS / "headings_swallowed" / name).read_bytes(), MARKDOWN, "diary.md")

    def test_a_heading_that_is_meant_as_a_date_is_read_or_told_and_swallowed_by_no_day(self):
        results = self.read("m06_mixed_headings.md")
        assert entries(results) == [
            ("2023-05-08", "The stray dog came back."),
            ("2023-05-09", "It ate my left shoe."),
            ("2023-05-10", "Bought new shoes."),
            ("2023-05-12", "The dog has a collar."),
            ("2023-05-15", "Dog is back."),
        ]
        assert list(reasons(results)) == [13, 21, 25]
        assert "not English" in reasons(results)[13]
        assert "2023-05-13" in reasons(results)[21]
        assert "no year" in reasons(results)[25]

    def test_bold_and_underlined_dates_are_headings_too(self):
        assert entries(self.read("m07b_atx_then_bold.md")) == [
            ("2023-05-08", "The stray dog came back."),
            ("2023-05-09", "It ate my left shoe."),
            ("2023-05-10", "Bought shoes."),
        ]

    def test_what_stands_in_a_fence_is_text(self):
        first, second = entries(self.read("m09_fence.md"))
        assert (first[0], second) == ("2023-05-08", ("2023-05-09", "Nothing."))
        assert "```\n# 2022-01-01\nfirst line of a template\n```" in first[1]

    @pytest.mark.parametrize(
        "heading",
        [
            "2023.05.09", "2023/05/09", "2023-5-9", "09.05.2023", "8/5", "9.5.", "May 9", "9 May",
            "9th of May",
            "Sunday", "Sun 14 May", "Tuesday 2023-05-08", "Lundi 8 mai 2023", "8 de mayo de 2023",
            "Montag, 8. Mai",
            "2023年5月9日", "2023-W19-2", "20231399", "09-May-2023", "May 9, 2023, 10 pm",
            "Entry for 2023-05-09",
            "Letter, 9 May", "📅 2023-05-09", "Yesterday", "2023-02-30: a day that is none", "**9 May**",
            "[[May 9]]", "Week 19",
        ],
    )  # fmt: skip
    def test_a_date_that_is_not_understood_is_told_with_the_text_under_it(self, heading: str):
        results = rows(f"# 2023-05-08\nbefore\n\n# {heading}\n\nbehind\n\n# 2023-05-10\nlast\n", MARKDOWN)
        assert entries(results) == [("2023-05-08", "before"), ("2023-05-10", "last")]
        assert list(reasons(results)) == [4]

    @pytest.mark.parametrize(
        ("heading", "date"),
        [
            ("2023_05_09", "2023-05-09"), ("20230509", "2023-05-09"), ("[[2023-05-09]]", "2023-05-09"),
            ("[2023-05-09](x.md)", "2023-05-09"), ("**2023-05-09**", "2023-05-09"),
            ("2023-05-09 (Tue)", "2023-05-09"), ("Tuesday 2023-05-09", "2023-05-09"),
            ("Tue, 2023-05-09", "2023-05-09"), ("2023-05-09 9:14 PM", "2023-05-09 21:14:00"),
            ("May 9th, 2023", "May 9th, 2023"),
        ],
    )  # fmt: skip
    @pytest.mark.parametrize("form", ["# {}", "   ### {}", "{}\n=====", "{}\n---"])
    def test_one_that_is_clear_is_read_however_it_is_marked(self, form: str, heading: str, date: str):
        results = rows(f"# 2023-05-08\nbefore\n\n{form.format(heading)}\n\nbehind\n", MARKDOWN)
        assert entries(results) == [("2023-05-08", "before"), (date, "behind")]

    @pytest.mark.parametrize(
        "words",
        ["## 1984", "# Thoughts", "# Recipe 2", "**really**", "**1984**", "- 2023-05-10",
         "- [[2023-05-10]]\n- x",
         "## Letter of 2023-05-01", "1. May\n2. June", "Foo\n---", "a\n**2023-05-10**", "> # 2023-05-10",
         "    # 2023-05-10", "~~~\n# 2023-05-10\n~~~", "````\n```\n# 2023-05-10\n````", "---\nx: y\n---"],
    )  # fmt: skip
    def test_what_is_no_date_of_a_day_stays_text(self, words: str):
        text = f"before\n\n{words}\n\nbehind"
        assert entries(rows(f"# 2023-05-08\n{text}\n", MARKDOWN)) == [("2023-05-08", text)]

    def test_a_fence_that_is_never_closed_takes_no_day_along(self):
        results = rows("# 2023-05-08\n```\ncode\n\n# 2023-05-09\nnext\n", MARKDOWN)
        assert entries(results) == [("2023-05-08", "```\ncode"), ("2023-05-09", "next")]

    def test_months_and_days_beneath_a_year_are_dates(self):
        text = "# 2023\n\n## May\n\n### 8\na\n\n### 9\nb\n\n## June\n\n### 2023-06-01 09:00 Title\nc\n"
        assert entries(rows(text, MARKDOWN)) == [
            ("8 May 2023", "a"), ("9 May 2023", "b"), ("2023-06-01 09:00", "Title\nc"),
        ]  # fmt: skip

    @settings(max_examples=150, deadline=None)
    @given(lines=st.lists(st.sampled_from(
        ["# 2022-01-01", "**2022-01-01**", "2022-01-01", "-----", "```", "~~~", "---", "date: 2022-01-01",
         "- [[2022-01-01]]", "\t- x", "x", "", "# May 9", "\\# x", "<!-- ada {} -->"]
    ), max_size=12))  # fmt: skip
    def test_any_text_that_is_exported_comes_back_to_the_letter(self, tmp_path_factory, lines: list[str]):
        text = "\n".join(["first", *lines, "last"])
        where = tmp_path_factory.mktemp("l")
        with Ledger(f"sqlite:///{where}/l.sqlite3") as ledger:
            ledger.for_owner("ada").add(EntryDraft(text=text, date="2023-05-08", id="e"))
            ledger.for_owner("ada").add(EntryDraft(text="next", date="2023-05-09", id="f"))
            written = "".join(export(ledger.for_owner("ada").iter_entries(EntryFilter()), MARKDOWN))
        assert entries(rows(written, MARKDOWN)) == [("2023-05-08", text), ("2023-05-09", "next")]


class TestDayOne:
    """The input is that of tests/regressions/dayone_json."""

    def test_each_entry_has_the_day_of_its_own_time_zone(self):
        results = rows((REGRESSIONS / "dayone_json" / "Journal.json").read_bytes(), JSON)
        first, second = (row for row in results if isinstance(row, Row))
        assert first.draft.date == "2019-04-07T18:30:00+12:00"
        assert second.draft.date == "2019-04-10T07:45:10+12:00"
        assert first.draft.text == "# Kite day\n\nThe red kite stuck in the poplar. Ines climbed after it."
        assert (first.draft.tags, first.draft.id) == (["kite", "Ines"], "0A3BFC9847BD4173881DE43749F23B58")
        assert {"location", "weather"} <= first.ignored
        assert "no text" in reasons(results)[35]

    def test_it_is_read_from_the_zip_that_day_one_makes(self):
        journal = (REGRESSIONS / "dayone_json" / "Journal.json").read_bytes()
        results = rows(archive({"Journal.json": journal, "photos/x.jpeg": b"\xff"}), ZIP)
        assert [date for date, _ in entries(results)] == [
            "2019-04-07T18:30:00+12:00",
            "2019-04-10T07:45:10+12:00",
        ]

    @pytest.mark.parametrize("zone", ["Mars/Olympus", "../etc/passwd", "/etc/passwd", "x\x00", 5])
    def test_a_zone_that_is_none_is_told(self, zone: object):
        item = {"creationDate": "2019-04-07T06:30:00Z", "timeZone": zone, "text": "x"}
        assert "timeZone" in reasons(rows(json.dumps([item]), JSON))[1]

    @pytest.mark.parametrize("name", ["created_at", "timestamp", "createdAt", "Datum", "entry-date"])
    def test_a_date_under_an_unknown_name_is_told_and_not_taken_for_today(self, name: str):
        for content, form in (
            (json.dumps([{name: "2019-04-07", "text": "x"}]), JSON),
            (json.dumps({name: "2019-04-07", "text": "x"}), JSONL),
            (f"{name},text\n2019-04-07,x\n", CSV),
        ):
            (results,) = rows(content, form)
            assert isinstance(results, Reject)
            assert "call it `date`" in results.reason


class TestJrnl:
    def test_its_text_is_read_entry_by_entry(self):
        text = "[2023-05-08 09:14:00 PM] The dog.\nIt ate my shoe.\n\n[x] shoes\n\n[2023-05-09 09:14] Rain\n"
        assert entries(rows(text, JRNL)) == [
            ("2023-05-08 21:14:00", "The dog.\nIt ate my shoe.\n\n[x] shoes"), ("2023-05-09 09:14", "Rain"),
        ]  # fmt: skip

    def test_a_date_in_brackets_that_is_none_is_told(self):
        results = rows("[2023-05-08 09:14] a\n\n[2023-13-09 09:14] b\n", JRNL)
        assert entries(results) == [("2023-05-08 09:14", "a")]
        assert list(reasons(results)) == [3]

    def test_its_json_is_read(self):
        entry = {
            "title": "The dog.",
            "body": "It ate.\n",
            "date": "2023-05-08",
            "time": "09:14",
            "tags": ["@a"],
        }
        (row,) = rows(
            json.dumps({"tags": {"@a": 1}, "entries": [entry | {"starred": False}]}, indent=2), JSON
        )
        assert (row.draft.date, row.draft.text, row.draft.tags) == (
            "2023-05-08 09:14",
            "The dog.\nIt ate.",
            ["a"],
        )


class TestNotes:
    """Obsidian's daily notes and Logseq's journals."""

    def test_a_note_has_the_day_of_its_name_and_the_fields_of_its_front_matter(self):
        note = (
            "---\ntags: [dog, '#shoe']\nmood: calm\naliases: x\n---\n\nWoke.\n\n## Links\n\n[[2023-05-07]]\n"
        )
        (row,) = rows(note, MARKDOWN, "Daily/2023-05-08.md")
        assert (row.draft.date, row.draft.tags, row.draft.mood) == ("2023-05-08", ["dog", "shoe"], "calm")
        assert row.draft.text == "Woke.\n\n## Links\n\n[[2023-05-07]]"
        assert row.ignored == {"aliases"}

    def test_several_notes_in_one_file_begin_with_their_front_matter(self):
        text = "---\ndate: 2023-05-08\n---\na\n\n---\ndate: 2023-05-09\ntags:\n  - t\n---\nb\n\n---\n\nc\n"
        assert entries(rows(text, MARKDOWN)) == [("2023-05-08", "a"), ("2023-05-09", "b\n\n---\n\nc")]

    @pytest.mark.parametrize("name", ["2023_05_09.md", "May 9th, 2023.md", "journals/2023_05_09.md"])
    def test_logseqs_journals_are_named_by_their_day(self, name: str):
        blocks = "- woke\n\t- tea\n- ```\n  # 2022-01-01\n  ```"
        ((date, text),) = entries(rows(blocks, MARKDOWN, name))
        assert (date in ("2023-05-09", "May 9th, 2023"), text) == (True, blocks)

    def test_logseqs_days_in_one_file_and_in_json(self):
        text = "- [[May 9th, 2023]]\n\t- woke\n- [[May 10th, 2023]]\n\t- slept\n"
        assert entries(rows(text, MARKDOWN)) == [
            ("May 9th, 2023", "\t- woke"),
            ("May 10th, 2023", "\t- slept"),
        ]
        blocks = [{"content": "woke", "children": [{"content": "tea\nhot"}]}]
        pages = [
            {"page-name": "may 9th, 2023", "children": blocks},
            {"page-name": "Books", "children": blocks},
        ]
        results = rows(json.dumps({"version": 1, "blocks": pages}), JSON)
        assert entries(results) == [("may 9th, 2023", "- woke\n\t- tea\n\t  hot")]
        assert len(reasons(results)) == 1

    def test_a_zip_of_notes_is_read_by_their_names_and_tells_the_pages_that_are_no_days(self):
        files = {
            "vault/2023-05-09.md": "b", "vault/2023-05-08.md": "a", "vault/Books.md": "x\n\ny",
            "vault/.obsidian/app.json": "{", "vault/photo.png": b"\x89", "__MACOSX/2023-05-07.md": "z",
        }  # fmt: skip
        results = rows(archive(files), ZIP)
        assert entries(results) == [("2023-05-08", "a"), ("2023-05-09", "b")]
        (page,) = (row for row in results if isinstance(row, Reject))
        assert page.file == "vault/Books.md"
        assert "2023-05-08.md" in page.reason

    @pytest.mark.parametrize("flaw", ["a: [", "a: b: c", "[" * 900 + ": x", "a: " + "x" * 5000])
    def test_front_matter_that_can_not_be_read_costs_its_note_and_says_so(self, flaw: str):
        results = rows(f"---\n{flaw}\n---\ntext\n", MARKDOWN, "2023-05-08.md")
        assert entries(results) == []
        assert "front matter" in reasons(results)[1]


class TestArchives:
    @pytest.mark.parametrize("content", [b"no zip", b"PK\x03\x04", b"PK\x05\x06" + b"\x00" * 18])
    def test_what_is_no_archive_or_holds_nothing_is_refused(self, content: bytes):
        with pytest.raises(EntryRejected, match="archive"):
            rows(content, ZIP)

    def test_one_that_unpacks_to_far_more_than_it_is_ends_where_the_bound_is(self):
        packed = archive({f"2023-05-{day:02}.md": b"\n" * (1 << 18) for day in range(1, 20)})
        with pytest.raises(EntryRejected, match="far more"):
            rows_within(packed, ZipLimits(free_bytes=1 << 16))

    def test_a_list_of_files_that_is_very_long_is_not_read(self):
        packed = archive({f"{n:0200}.md": b"" for n in range(400)})
        with pytest.raises(EntryRejected, match="list of files"):
            rows_within(packed, ZipLimits(directory_bytes=1 << 16))

    def test_the_usual_limits_are_those_that_the_documentation_names(self):
        assert ZipLimits().budget(0) == 8 << 20
        assert ZipLimits().budget(1 << 20) == 50 << 20
        assert ZipLimits().budget(1 << 40) == 1 << 30

    def test_a_file_that_is_damaged_or_packed_otherwise_stops_no_other(self):
        packed = archive({"2023-05-08.md": "a", "2023-05-09.md": "secret" * 50})
        damaged = packed.replace(b"a", b"b", 1) if b"a" in packed else packed
        assert len(entries(rows(packed, ZIP))) == 2
        assert len(rows(damaged, ZIP)) == 2
        other = archive({"2023-05-08.md": "a"}, zipfile.ZIP_LZMA)
        assert "deflate" in reasons(rows(other, ZIP))[1]

    def test_no_flipped_bit_breaks_the_reader(self):
        packed = archive({"2023-05-08.md": "a day", "2023-05-09.md": "b" * 500})
        for offset, bit in itertools.product(range(len(packed)), range(8)):
            damaged = bytearray(packed)
            damaged[offset] ^= 1 << bit
            with contextlib.suppress(EntryRejected):
                rows(bytes(damaged), ZIP)


class TestDaylio:
    HEAD = "full_date,date,weekday,time,mood,activities,note_title,note\n"

    def test_its_columns_are_read_as_they_are(self):
        text = self.HEAD + '2023-05-08,May 8,Monday,9:14 PM,good,"work | dog","A dog","It came<br>back."\n'
        (row,) = rows(text.encode("utf-8-sig"), CSV)
        assert (row.draft.date, row.draft.text) == ("2023-05-08 21:14:00", "A dog\nIt came\nback.")
        assert (row.draft.mood, row.draft.tags, row.ignored) == ("good", ["work", "dog"], frozenset())

    def test_a_mood_alone_is_told_to_be_no_entry(self):
        results = rows(self.HEAD + "2023-05-08,May 8,Monday,21:00,meh,,,\n", CSV)
        assert "a mood alone is no entry" in reasons(results)[2]

    def test_a_head_without_a_text_is_told_with_its_columns(self):
        with pytest.raises(EntryRejected, match="one of them `text`, and is 'full_date, mood'"):
            rows("full_date;mood\n2023-05-08;good\n", CSV)


class TestCarriageReturns:
    """As Macs of old wrote them, and Excel for them still does: the diary's twin of cr_only_csv."""

    @pytest.mark.parametrize(
        ("form", "text"),
        [
            (CSV, "date,text\r2023-05-08,a\r2023-05-09,b\r"),
            (CSV, 'date;text\r"2023-05-08";"a"\r2023-05-09;b'),
            (JSONL, '{"date": "2023-05-08", "text": "a"}\r{"date": "2023-05-09", "text": "b"}\r'),
            (JSON, '[\r{"date": "2023-05-08", "text": "a"},\r{"date": "2023-05-09", "text": "b"}\r]\r'),
            (MARKDOWN, "# 2023-05-08\r\ra\r\r# 2023-05-09\rb\r"),
            (JRNL, "[2023-05-08] a\r\r[2023-05-09] b\r"),
        ],
    )
    def test_they_end_lines_in_every_format(self, form: Format, text: str):
        assert entries(rows(text, form)) == [("2023-05-08", "a"), ("2023-05-09", "b")]

    def test_line_feeds_within_a_cell_stay(self):
        assert entries(rows('date,text\r2023-05-08,"a\nb"\r', CSV)) == [("2023-05-08", "a\nb")]

    def test_a_row_is_told_by_its_own_line(self):
        assert list(reasons(rows('{"text": "a"}\r{}\r{"text": "b"}\r', JSONL))) == [2]

    def test_one_in_the_middle_of_a_file_with_line_feeds_is_told(self):
        results = rows("date,text\n2023-05-08,a\rb\n2023-05-09,c\n", CSV)
        assert entries(results) == [("2023-05-09", "c")]
        assert "carriage return" in reasons(results)[2]
