"""Whole diaries handed in: each format, each way in which a row can be broken, and files of any size.

.venv/bin/python -m pytest tests/diary/transfer/test_importing.py
"""

import io
import json
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.diary.transfer.formats import Format, format_of
from services.diary.transfer.reading import read_rows
from services.diary.transfer.row import Reject, Row
from services.errors import EntryRejected
from services.tabular.json_rows import marks

JSONL, JSON, CSV, MARKDOWN = Format.JSONL, Format.JSON, Format.CSV, Format.MARKDOWN


def rows(text: str | bytes, form: Format) -> list[Row | Reject]:
    return list(read_rows(io.BytesIO(text.encode() if isinstance(text, str) else text), form))


def texts(results: list[Row | Reject]) -> list[tuple[int, str]]:
    """Line and text of each entry."""
    return [(row.line, row.draft.text) for row in results if isinstance(row, Row)]


def reasons(results: list[Row | Reject]) -> dict[int, str]:
    """Why each line was refused."""
    return {row.line: row.reason for row in results if isinstance(row, Reject)}


class TestAnyFormat:
    @pytest.mark.parametrize("form", list(Format))
    def test_an_empty_file_is_refused_as_a_whole(self, form: Format):
        with pytest.raises(EntryRejected, match="the file is empty"):
            rows("", form)

    @pytest.mark.parametrize("form", list(Format))
    @pytest.mark.parametrize("encoding", ["utf-16", "utf-32"])
    def test_another_encoding_is_told_by_its_name(self, form: Format, encoding: str):
        with pytest.raises(EntryRejected, match=f"{encoding.upper()}: save it as UTF-8"):
            rows('{"text": "x"}'.encode(encoding), form)

    @pytest.mark.parametrize(
        ("form", "text"),
        [
            (JSONL, '{"text": "Zoë"}'),
            (JSON, '[{"text": "Zoë"}]'),
            (CSV, "text\nZoë"),
            (MARKDOWN, "# 2023\nZoë"),
        ],
    )
    def test_a_byte_order_mark_is_no_part_of_the_text(self, form: Format, text: str):
        marked = rows(text.encode("utf-8-sig"), form)
        assert [text for _, text in texts(marked)] == ["Zoë"]
        assert texts(marked) == texts(rows(text, form))

    @pytest.mark.parametrize(
        ("form", "text", "line"),
        [
            (JSONL, b'{"text": "a"}\n{"text": "caf\xe9"}\n{"text": "b"}', 2),
            (JSON, b'[{"text": "a"},\n{"text": "caf\xe9"},\n{"text": "b"}]', 2),
            (CSV, b"text\na\ncaf\xe9\nb\n", 3),
            (MARKDOWN, b"# 2021\na\n# 2022\ncaf\xe9\n# 2023\nb\n", 3),
        ],
    )
    def test_a_row_that_is_not_utf8_does_not_stop_the_rest(self, form: Format, text: bytes, line: int):
        results = rows(text, form)
        assert [text for _, text in texts(results)] == ["a", "b"]
        assert list(reasons(results)) == [line]
        assert "not UTF-8" in reasons(results)[line]

    @pytest.mark.parametrize(
        ("form", "before", "after"),
        [
            (JSONL, '{"text": "', '"}\n{"text": "next"}\n'),
            (JSON, '[{"text": "', '"},\n{"text": "next"}]'),
            (CSV, "text\n", "\nnext\n"),
            (MARKDOWN, "# 2021\n", "\n# 2022\nnext\n"),
        ],
    )
    def test_a_row_of_fifty_megabytes_is_refused_and_never_held(self, form: Format, before: str, after: str):
        file = io.BytesIO(before.encode() + b"x" * 50_000_000 + after.encode())
        tracemalloc.start()
        results = list(read_rows(file, form))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert [text for _, text in texts(results)] == ["next"]
        (reason,) = reasons(results).values()
        assert "longer than 1 MiB" in reason
        assert peak < 12_000_000

    @pytest.mark.parametrize(
        ("form", "row"),
        [
            (JSONL, '{"date": "2023-05-08", "text": "A day like others, number %d."}\n'),
            (JSON, '{"date": "2023-05-08", "text": "A day like others, number %d."},'),
            (CSV, '2023-05-08,"A day like others, number %d."\n'),
            (MARKDOWN, "# 2023-05-08\n\nA day like others, number %d.\n\n"),
        ],
    )
    def test_memory_does_not_grow_with_the_file(self, form: Format, row: str):
        head = {JSON: "[", CSV: "date,text\n"}.get(form, "")
        text = head + "".join(row % number for number in range(20_000)) + ("]" if form is JSON else "")
        file = io.BytesIO(text.encode())
        tracemalloc.start()
        number = sum(1 for _ in read_rows(file, form))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert number == 20_000
        assert peak < 2_000_000

    @settings(max_examples=200, deadline=None)
    @given(data=st.binary(max_size=400), form=st.sampled_from(list(Format)))
    def test_no_bytes_at_all_break_a_reader(self, data: bytes, form: Format):
        try:
            results = rows(data, form)
        except EntryRejected:
            return
        assert all(row.line >= 1 for row in results)

    @settings(max_examples=300, deadline=None)
    @given(
        text=st.text(alphabet='[]{},:"\\\n# \r;x1textdn-', max_size=80),
        form=st.sampled_from(list(Format)),
        piece=st.integers(1, 7),
    )
    def test_nor_do_texts_made_of_their_own_marks(self, text: str, form: Format, piece: int):
        try:
            results = rows(text, form)
        except EntryRejected:
            return
        assert all(1 <= row.line <= text.count("\n") + text.count("\r") + 1 for row in results)


class TestJsonLines:
    def test_each_object_is_an_entry_with_its_line(self):
        text = (
            '{"text": "a", "date": "2023-05-08", "mood": "calm", "tags": ["t"], "id": "i"}\n\n{"text": "b"}'
        )
        results = rows(text, JSONL)
        assert texts(results) == [(1, "a"), (3, "b")]
        assert results[0].draft.model_dump() == {
            "text": "a", "date": "2023-05-08", "mood": "calm", "tags": ["t"], "id": "i",
        }  # fmt: skip

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ('{"text": "x"', "not JSON"),
            ("text", "not JSON"),
            ("[1, 2]", "no object"),
            ('"x"', "no object"),
            ("null", "no object"),
            ('{"date": "2023-05-08"}', "no text"),
            ('{"text": ""}', "no text"),
            ('{"text": " \\n "}', "empty: write something"),
            ('{"text": null}', "no text"),
            ('{"text": 5}', "text: "),
            ('{"text": "x", "date": true}', "date: "),
            ('{"text": ["x"]}', "text: "),
            ('{"text": "\\ud800"}', "text: "),
            ('{"text": "x", "mood": "\\ud800"}', "mood: "),
            ('{"text": "x", "date": "2023-02-30"}', "date: '2023-02-30'"),
            ('{"text": "x", "date": "05/08/98"}', "two digits"),
            ('{"text": "x", "date": "03/04/1998"}', "1998-04-03 or 1998-03-04"),
            ('{"text": "x", "date": "9999-01-01"}', "more than a year ahead"),
            ('{"text": "x", "date": {"year": 1998}}', "date: "),
            ('{"text": "x", "tags": "a, b"}', "tags: "),
            ('{"text": "x", "tags": [""]}', "tags.0: "),
            ('{"text": "%s"}' % ("ü" * 16_385), "32770 bytes"),
            ('{"n": %s}' % ("9" * 5000), "can be read"),
            ("[" * 100_000, "can be read"),
        ],
    )
    def test_a_broken_row_says_why_and_does_not_stop_the_rest(self, line: str, reason: str):
        results = rows('{"text": "before"}\n' + line + '\n{"text": "behind"}\n', JSONL)
        assert texts(results) == [(1, "before"), (3, "behind")]
        assert reason in reasons(results)[2]

    def test_what_looks_like_a_line_end_to_python_is_none(self):
        text = "a\u2028b\x85c\x0bd\x0ce\x1cf"
        results = rows(json.dumps({"text": text}, ensure_ascii=False), JSONL)
        assert texts(results) == [(1, text)]

    def test_fields_that_a_diary_does_not_keep_are_told(self):
        (row,) = rows('{"text": "x", "heading": "h", "written_at": "now", "weather": 1}', JSONL)
        assert row.ignored == {"heading", "weather"}
        (row,) = rows('{"text": "x", "content": "y"}', JSONL)
        assert (row.draft.text, row.ignored) == ("x", {"content"})

    @pytest.mark.parametrize("foreign", ["../etc", "note:7", "x" * 65, ["x"], "1661-10-17, 18"])
    def test_an_id_of_another_program_is_left_out_and_told(self, foreign):
        (row,) = rows(json.dumps({"text": "x", "id": foreign}), JSONL)
        assert (row.draft.id, row.ignored) == (None, {"id"})

    def test_a_year_and_an_id_may_be_numbers(self):
        (row,) = rows('{"text": "x", "date": 1998, "id": 7}', JSONL)
        assert (row.draft.date, row.draft.id) == ("1998", "7")


class TestTheSeedsJson:
    def test_a_diary_as_the_seed_saves_it(self):
        seeds = [
            {"date": "2024-11-02 21:14:05", "content": "Drew and I worked on the project."},
            {"date": "2024-11-03 08:00:00", "content": "Zoë said: \"{it's [over], 'we' lost}\" 🕮"},
        ]
        results = rows(json.dumps(seeds, indent=2), JSON)
        assert texts(results) == [(2, seeds[0]["content"]), (6, seeds[1]["content"])]
        assert [row.draft.date for row in results] == [seed["date"] for seed in seeds]

    @pytest.mark.parametrize(
        "text",
        [
            '{"entries": [{"text": "a"}]}',
            ' {"version": [1, {"entries": 2}], "owner": "}",\n"entries" :\n[ {"text": "a"} ], "more": {}}\n',
            '[{"text": "a"},]',
        ],
    )
    def test_an_object_with_entries_will_do(self, text: str):
        assert [text for _, text in texts(rows(text, JSON))] == ["a"]
        assert reasons(rows(text, JSON)) == {}

    @pytest.mark.parametrize("text", ["[]", ' {"entries": []} ', "[\n]\n"])
    def test_an_empty_list_is_no_mistake(self, text: str):
        assert rows(text, JSON) == []

    @pytest.mark.parametrize(
        "text",
        ["{}", "null", '"[]"', "5", " ", '{"items": [{"text": "a"}]}', '{"text": "a"}\n{"text": "b"}\n'],
    )
    def test_what_holds_no_list_is_refused_with_the_remedy(self, text: str):
        with pytest.raises(EntryRejected, match="format=jsonl"):
            rows(text, JSON)

    @pytest.mark.parametrize(
        ("item", "reason"),
        [
            ('{"text": "x" "y"}', "not JSON"),
            ('{"text": "x",}', "not JSON"),
            ("{'text': 'x'}", "not JSON"),
            ('{"text": "\\q"}', "not JSON"),
            ("5", "no object"),
            ("[[{}]]", "no object"),
            ("", "before the comma"),
            ('{"date": "2023"}', "no text"),
            ('{"a":' * 5000 + "1" + "}" * 5000, "can be read"),
            ('{"text": "%s"}' % ("x" * (1 << 20)), "longer than 1 MiB"),
        ],
    )
    @pytest.mark.parametrize("between", [",", ",\n", "\n,\n  "])
    def test_a_broken_item_spoils_no_other(self, item: str, reason: str, between: str):
        items = ['{"text": "before"}', item, '{"text": "behind"}']
        results = rows("[" + between.join(items) + "]", JSON)
        assert [text for _, text in texts(results)] == ["before", "behind"]
        (why,) = reasons(results).values()
        assert reason in why

    def test_behind_a_quote_that_is_not_closed_reading_goes_on_at_the_next_item(self):
        seeds = [{"date": f"202{n}-01-01", "content": f"number {n}", "tags": ["a", "b"]} for n in range(5)]
        text = json.dumps(seeds, indent=2).replace('"number 2"', '"number 2')
        results = rows(text, JSON)
        assert [text for _, text in texts(results)] == ["number 0", "number 1", "number 3", "number 4"]
        assert reasons(results) == {18: "a quote is not closed in line 20; reading goes on in line 26"}

    def test_so_it_does_in_the_last_item_and_the_list_still_ends(self):
        text = '[\n  {"content": "a"},\n  {\n    "content": "b\n  }\n]\n'
        results = rows(text, JSON)
        assert texts(results) == [(2, "a")]
        assert list(reasons(results)) == [3]

    @pytest.mark.parametrize("cut", ['{"text": "b"', '{"text": "b', '{"text": "b\\', '{"text": "b"}', ""])
    def test_a_file_that_was_cut_keeps_what_was_whole_and_says_so(self, cut: str):
        results = rows('[{"text": "a"},\n' + cut, JSON)
        assert texts(results)[0] == (1, "a")
        assert "ends before the list does" in list(reasons(results).values())[-1]

    def test_nothing_behind_the_list_is_lost_in_silence(self):
        results = rows('[{"text": "a"}]\n[{"text": "b"}]', JSON)
        assert texts(results) == [(1, "a")]
        assert "behind the end of the list" in reasons(results)[2]

    @settings(max_examples=300, deadline=None)
    @given(
        items=st.lists(
            st.dictionaries(st.text(max_size=4), st.text(max_size=12) | st.lists(st.text(max_size=3))),
            max_size=5,
        ),
        indent=st.sampled_from([None, 0, 2]),
        ascii_only=st.booleans(),
    )
    def test_any_list_that_json_writes_is_cut_where_json_ends_its_items(self, items, indent, ascii_only):
        written = json.dumps(
            {"entries": items} if indent == 0 else items, indent=indent, ensure_ascii=ascii_only
        )
        try:
            data = written.encode()
        except UnicodeEncodeError:
            return
        assert len(rows(data, JSON)) == len(items)

    @given(text=st.text(alphabet='[]{},"\\\nx', max_size=60), cuts=st.lists(st.integers(0, 60), max_size=6))
    def test_where_the_pieces_end_makes_no_difference(self, text: str, cuts: list[int]):
        def joined(pieces: list[str]) -> list[tuple[str, str]]:
            whole, before = [], ""
            for run, mark in marks(pieces):
                before += run
                if mark:
                    whole.append((before, mark))
                    before = ""
            return [*whole, (before, "")]

        edges = sorted({min(cut, len(text)) for cut in cuts} | {0, len(text)})
        pieces = [text[a:b] for a, b in pairwise(edges)]
        assert joined(pieces) == joined([text])


class TestCsv:
    @pytest.mark.parametrize("delimiter", [",", ";", "\t"])
    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    def test_columns_in_any_order_and_texts_of_several_lines(self, delimiter: str, end: str):
        table = [
            ["Mood", " Text", "TAGS", "date", "weather"],
            ["calm", f'"Two{end}lines; ""quoted"", and a comma"', '"a, b|c;d"', "2023-05-08", "fine"],
            ["", "second", "", "", ""],
        ]
        results = rows(end.join(delimiter.join(record) for record in table) + end, CSV)
        assert texts(results) == [(2, f'Two{end}lines; "quoted", and a comma'), (4, "second")]
        first, second = results
        assert (first.draft.mood, first.draft.tags, first.draft.date) == (
            "calm",
            ["a", "b", "c", "d"],
            "2023-05-08",
        )
        assert (second.draft.mood, second.draft.tags, second.draft.date) == (None, [], None)
        assert first.ignored == {"weather"}

    @pytest.mark.parametrize("text", ["a,b\n1,2\n", "\n", "2023-05-08,hello\n", "x" * 2_000_000])
    def test_without_a_head_it_is_refused_as_a_whole(self, text: str):
        with pytest.raises(EntryRejected, match="no head"):
            rows(text, CSV)

    @pytest.mark.parametrize(
        ("record", "reason"),
        [
            ("2023-13-01,x", "12 months"),
            ("2023-05-08,", "no text"),
            ("2023-05-08", "no text"),
            ("2023-05-08,one, two", "3 values and the head has 2"),
            ('2023-05-08,"a"b', "not CSV"),
            ('2023-05-08,"never closed', "not CSV"),
            ("2023-05-08," + "x" * 40_000, "40000 bytes"),
        ],
    )
    def test_a_broken_record_says_why_and_does_not_stop_the_rest(self, record: str, reason: str):
        results = rows(f"date,text\n2023,before\n{record}\n2023,behind\n2024,last\n", CSV)
        assert texts(results) == [(2, "before"), (4, "behind"), (5, "last")]
        assert reason in reasons(results)[3]

    def test_records_without_any_value_are_passed_over(self):
        assert texts(rows("text,date\n\n,\na,\n,,\n", CSV)) == [(4, "a")]


class TestMarkdown:
    @pytest.mark.parametrize(
        ("heading", "date"),
        [
            ("# 2023-05-08", "2023-05-08"),
            ("## Monday, May 8, 2023", "Monday, May 8, 2023"),
            ("### 8 May 2023 ###", "8 May 2023"),
            ("#  2023-05-08 21:14  ", "2023-05-08 21:14"),
            ("###### spring 1998", "spring 1998"),
            ("# 1998", "1998"),
        ],
    )
    def test_a_heading_that_is_a_date_begins_an_entry(self, heading: str, date: str):
        results = rows(f"{heading}\n\n  I walked.\n\n- far\n\n", MARKDOWN)
        assert texts(results) == [(1, "  I walked.\n\n- far")]
        assert results[0].draft.date == date

    @pytest.mark.parametrize(
        ("heading", "date"),
        [
            ("2023-05-08: The stray dog", "2023-05-08"),
            ("2023-05-08 The stray dog", "2023-05-08"),
            ("2023-05-08 21:14 The stray dog", "2023-05-08 21:14"),
            ("Monday, May 8, 2023 – The stray dog", "Monday, May 8, 2023"),
            ("8 May 2023 | The stray dog", "8 May 2023"),
        ],
    )
    def test_a_title_behind_the_date_is_the_first_line_of_the_entry(self, heading: str, date: str):
        results = rows(f"# {heading}\nI walked.\n", MARKDOWN)
        assert texts(results) == [(1, "The stray dog\nI walked.")]
        assert results[0].draft.date == date

    def test_what_stands_before_the_first_date_is_refused_with_its_line(self):
        results = rows("\n\n# My diary\n\nFor nobody's eyes.\n\n## 2023-05-08\nI walked.\n", MARKDOWN)
        assert texts(results) == [(7, "I walked.")]
        assert reasons(results) == {3: "it stands before the first heading with a date: "
                                     "write one above it, as # 2023-05-08"}  # fmt: skip

    def test_chapters_hold_no_entries_of_their_own(self):
        text = "# 2023\n\n## May 2023\n\n### 2023-05-08\nI walked.\n"
        text += "### 2023-05-09\nI slept.\n# 2024\nWhat a year.\n"
        results = rows(text, MARKDOWN)
        assert texts(results) == [(5, "I walked."), (7, "I slept."), (9, "What a year.")]
        assert reasons(results) == {}

    def test_titles_within_a_day_belong_to_its_entry(self):
        text = "# 2023-05-08\nI read.\n## 1984\nA book.\n### Sources\n#hashtag\n####### seven\n\n"
        text += "# 2023-05-09\nb\n"
        results = rows(text, MARKDOWN)
        assert [line for line, _ in texts(results)] == [1, 9]
        assert texts(results)[0][1] == "I read.\n## 1984\nA book.\n### Sources\n#hashtag\n####### seven"

    @pytest.mark.parametrize(
        ("heading", "reason"),
        [
            ("2023-02-30", "28 days"),
            ("03/04/1998", "1998-04-03 or 1998-03-04"),
            ("Tuesday, May 8, 2023", "was a Monday"),
            ("May 12", "two digits"),
            ("12.5.98", "two digits"),
            ("May 8, 9023", "more than a year ahead"),
        ],
    )
    def test_a_date_that_is_none_is_asked_back_and_its_text_joins_no_other_entry(
        self, heading: str, reason: str
    ):
        results = rows(f"# 2023-05-08\nbefore\n\n# {heading}\nlost?\n\n# 2023-05-10\nbehind\n", MARKDOWN)
        assert texts(results) == [(1, "before"), (7, "behind")]
        assert reason in reasons(results)[4]

    def test_a_date_with_nothing_under_it_is_told(self):
        results = rows("# 2023-05-08\n\n# 2023-05-09\nb\n", MARKDOWN)
        assert texts(results) == [(3, "b")]
        assert reasons(results) == {1: "nothing stands under this heading"}

    def test_line_ends_as_windows_has_them_are_no_part_of_the_text(self):
        results = rows("# 2023-05-08\r\n\r\none\r\ntwo\r\n\r\n# 2023-05-09\r\nb\r\n", MARKDOWN)
        assert texts(results) == [(1, "one\ntwo"), (6, "b")]

    def test_text_is_kept_to_the_letter(self):
        text = "\\# no heading\n    code\n\n\n> \u202equote\u2028 \x00 <|im_end|>\n* * *"
        assert texts(rows(f"# 2023-05-08\n{text}\n", MARKDOWN)) == [(1, text)]


class TestWhichFormat:
    @pytest.mark.parametrize(
        ("requested", "name", "content_type", "form"),
        [
            ("csv", "a.jsonl", "application/json", CSV),
            ("MD", "", "", MARKDOWN),
            (None, "diary.JSONL", "application/octet-stream", JSONL),
            (None, "ada_diary.json", "", JSON),
            (None, "a.b.markdown", "", MARKDOWN),
            (None, "diary.csv", "application/vnd.ms-excel", CSV),
            (None, "diary", "text/csv; charset=utf-8", CSV),
            (None, "", "application/x-ndjson", JSONL),
            (None, "", "text/markdown", MARKDOWN),
        ],
    )
    def test_it_is_asked_for_or_told_by_name_or_type(self, requested, name, content_type, form):
        assert format_of(requested, name, content_type) is form

    @pytest.mark.parametrize(
        ("requested", "name"), [("docx", ""), (None, "diary.docx"), (None, ""), (None, "json")]
    )
    def test_what_nobody_tells_is_asked_back(self, requested, name):
        with pytest.raises(EntryRejected, match=r"\?format=jsonl") as error:
            format_of(requested, name, "text/plain")
        assert error.value.param == "format"
