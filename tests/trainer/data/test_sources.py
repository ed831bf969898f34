"""The four sources: what reaches a sample, what never does, and what a broken file says.

.venv/bin/python -m pytest tests/trainer/data/test_sources.py
"""

import contextlib
import csv
import hashlib
import io
import itertools
import json
import re
import tracemalloc
import zipfile
from collections import Counter
from itertools import combinations
from pathlib import Path
from types import ModuleType

import pyarrow
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from services.errors import ConfigError
from services.tabular.lines import Line
from trainer.config import TrainingConfig
from trainer.data.sample import Sample
from trainer.data.source import Rejections
from trainer.data.sources import conversations, hippocorpus, journals, reddit, rows
from trainer.data.sources.turns import LEARN_FLAGS, ROW_LISTS

SAMPLES = Path(__file__).parents[3] / "data" / "samples"
REGRESSIONS = Path(__file__).parents[2] / "regressions"
SOURCES = {source.NAME: source for source in (hippocorpus, journals, reddit, conversations)}
SETTINGS = {
    "hippocorpus": "hippocorpus_path",
    "journals": "journal_path",
    "reddit": "reddit_path",
    "conversations": "generated_data_path",
}
FILES = {"hippocorpus": "a.csv", "journals": "a.csv", "reddit": "a.jsonl", "conversations": "a.json"}
MIB = 1 << 20
# Each example of a property writes its file anew, so that one folder serves all of them.
one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
written_text = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
some_text = written_text.filter(str.strip)


def config(source: str, path: Path, **others: object) -> TrainingConfig:
    return TrainingConfig(**{SETTINGS[source]: path, **others})


def read(source: str, path: Path, **others: object) -> list[Sample]:
    return list(
        SOURCES[source].read_samples(config(source, path, **others), Rejections(refuse_bad_rows=True))
    )


def skipping(source: str, path: Path, **others: object) -> tuple[list[Sample], Rejections]:
    """What is read where bad rows are skipped, and what was left out."""
    rejections = Rejections(refuse_bad_rows=False)
    return list(SOURCES[source].read_samples(config(source, path, **others), rejections)), rejections


def dropped(source: str, path: Path, **others: object) -> Counter[str]:
    return skipping(source, path, **others)[1].reasons


def refusal(source: str, path: Path, **others: object) -> str:
    """What a broken file says."""
    with pytest.raises(ConfigError) as error:
        read(source, path, **others)
    return str(error.value)


def read_or_refusal(source: str, path: Path, *, skip: bool, **others: object) -> list[Sample] | str:
    try:
        return skipping(source, path, **others)[0] if skip else read(source, path, **others)
    except ConfigError as error:
        return str(error)


def write(folder: Path, content: str | bytes, name: str = "a.csv") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def table(*rows: list[str], separator: str = ",") -> str:
    text = io.StringIO(newline="")
    csv.writer(text, delimiter=separator).writerows(rows)
    return text.getvalue()


def turns(*message: tuple[str, object]) -> dict[str, object]:
    return {"conversations": [{"role": role, "content": text} for role, text in message]}


def talk(*message: tuple[str, object]) -> str:
    return json.dumps([turns(*message)])


class Kind:
    """A kind of file, with rows that tell a text, each on a line of its own."""

    def __init__(self, source: str, name: str, head: str, row: str, between: str = "\n", tail: str = "\n"):
        self.source, self.name = source, name
        self.head, self._row, self.between, self.tail = head, row, between, tail

    def row(self, text: str) -> bytes:
        return self._row.replace("TEXT", text).encode()

    def write(self, folder: Path, *rows: bytes) -> Path:
        content = self.head.encode() + self.between.encode().join(rows) + self.tail.encode()
        return write(folder, content, self.name)

    @property
    def line(self) -> int:
        """The line of its second row."""
        return self.head.count("\n") + 2


TALK = json.dumps(turns(("user", "And?"), ("assistant", "TEXT")))
POST = json.dumps({"title": "A", "selftext": "TEXT"})
KINDS = {
    "hippocorpus.csv": Kind("hippocorpus", "a.csv", "story,memType\n", '"TEXT",recalled'),
    "journals.csv": Kind("journals", "a.csv", "Answer,Answer.t1.food.raw\n", '"TEXT",TRUE'),
    "reddit.csv": Kind("reddit", "a.csv", "title,selftext\n", 'A,"TEXT"'),
    "reddit.jsonl": Kind("reddit", "a.jsonl", "", POST),
    "conversations.json": Kind("conversations", "a.json", "[\n  ", TALK, ",\n  ", "\n]\n"),
    "conversations.jsonl": Kind("conversations", "a.jsonl", "", TALK),
}
every_source = pytest.mark.parametrize("source", SOURCES)
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


# What every source promises


@every_source
def test_a_source_says_who_it_is_and_under_which_licence(source: str):
    module: ModuleType = SOURCES[source]
    assert module.LICENCE
    assert "\n" not in module.LICENCE
    assert SETTINGS[source] in module.REMEDY


@pytest.mark.parametrize(
    ("source", "file", "count"),
    [
        ("hippocorpus", "hippocorpus.csv", 200),
        ("journals", "journal_entries.csv", 200),
        ("conversations", "generated_conversations.json", 60),
    ],
)
def test_the_committed_samples_are_read_whole(source: str, file: str, count: int):
    samples, rejections = skipping(source, SAMPLES / file)
    assert len(samples) == count
    assert not rejections.reasons
    assert {sample.source for sample in samples} == {source}
    assert len({sample.origin for sample in samples}) == count
    for sample in samples:
        roles = [turn["role"] for turn in sample.turns]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert all(turn["content"].strip() for turn in sample.turns)


@pytest.mark.parametrize(
    ("source", "file"), [("hippocorpus", "hippocorpus.csv"), ("journals", "journal_entries.csv")]
)
def test_drew_has_several_ways_to_ask_for_every_telling(source: str, file: str):
    for sample in read(source, SAMPLES / file):
        assert len(set(sample.prompt_variants)) == len(sample.prompt_variants) >= 4
        assert sample.turns[0] == {"role": "user", "content": sample.prompt_variants[0]}
        assert all(asking[-1] in ".?" for asking in sample.prompt_variants)
        assert not any(set("{}") & set(asking) for asking in sample.prompt_variants)


@every_source
def test_a_source_says_whether_its_file_is_there_and_which_it_was(write_sources, tmp_path: Path, source: str):
    files = write_sources(tmp_path)
    path = files[SETTINGS[source]]
    assert SOURCES[source].is_available(TrainingConfig(**files))
    assert SOURCES[source].provenance(TrainingConfig(**files)) == {
        "file": str(path),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    path.unlink()
    assert not SOURCES[source].is_available(TrainingConfig(**files))


def test_the_small_sources_tell_where_each_sample_is_from_and_no_two_are_alike(write_sources, tmp_path: Path):
    files = write_sources(tmp_path)
    message = [sample for source in SOURCES for sample in read(source, files[SETTINGS[source]])]
    assert [re.search(r"is (\w+ \d+)\.", sample.answer).group(1) for sample in message] == [
        f"{source} {n}" for source in SOURCES for n in range(20)
    ]
    words = [re.findall(r"\w+", sample.answer.lower()) for sample in message]
    triples = [set(zip(message, message[1:], message[2:], strict=False)) for message in words]
    assert max(len(first & other) / len(first | other) for first, other in combinations(triples, 2)) < 0.5


@every_source
def test_a_missing_file_is_named_with_the_setting_that_mends_it(tmp_path: Path, source: str):
    nowhere = tmp_path / f"nowhere{Path(FILES[source]).suffix}"
    message = refusal(source, nowhere)
    assert message.startswith(f"no file {nowhere}. ")
    assert f"set {SETTINGS[source]}" in message


@every_source
@pytest.mark.parametrize("content", [b"", b"\xef\xbb\xbf"])
def test_an_empty_file_is_named(tmp_path: Path, source: str, content: bytes):
    path = write(tmp_path, content, FILES[source])
    for skip in (True, False):
        message = read_or_refusal(source, path, skip=skip)
        assert message == f"{path} is empty. {SOURCES[source].REMEDY}"


@every_source
def test_a_folder_in_place_of_a_file_is_named(tmp_path: Path, source: str):
    path = tmp_path / FILES[source]
    path.mkdir()
    assert refusal(source, path).startswith(f"{path} can't be read (Is a directory). ")


@every_kind
@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be"])
def test_a_file_in_utf16_is_told_to_be_saved_again(tmp_path: Path, kind: Kind, encoding: str):
    text = kind.write(tmp_path, kind.row("I went out.")).read_text()
    path = write(tmp_path, text.encode(encoding), kind.name)
    for skip in (True, False):
        message = read_or_refusal(kind.source, path, skip=skip)
        assert message.startswith(f"{path} is UTF-16, or no text at all: save it again as UTF-8. ")


@every_kind
def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path, kind: Kind):
    content = kind.write(tmp_path, kind.row("I went out.")).read_bytes()
    (sample,) = read(kind.source, write(tmp_path, b"\xef\xbb\xbf" + content, kind.name))
    assert sample.answer == "I went out."


GOOD = ("I went out.", "I came home.", "I went to bed.")
BROKEN = {
    "not UTF-8": (b"caf\xe9", "is not UTF-8"),
    "a NUL": (b"\0", ""),
    "too long": (b"x" * (17 * MIB), "longer than 16 MiB"),
}


@every_kind
@pytest.mark.parametrize("flaw", BROKEN)
def test_a_bad_row_is_named_by_its_line_and_where_it_may_be_skipped_the_others_are_read(
    tmp_path: Path, kind: Kind, flaw: str
):
    words, expected = BROKEN[flaw]
    bad = kind.row("secret WORDS").replace(b"WORDS", words)
    path = kind.write(tmp_path, kind.row(GOOD[0]), bad, *map(kind.row, GOOD[1:]))
    message = refusal(kind.source, path)
    assert message.startswith(f"{path}, line {kind.line}")
    assert expected in message
    assert "secret" not in message
    assert message.endswith("Or set bad_rows=skip to count such rows and go on")
    samples, rejections = skipping(kind.source, path)
    assert [sample.answer for sample in samples] == list(GOOD)
    assert rejections.reasons == {"bad row": 1}
    assert rejections.bad_rows == [
        message.removesuffix(". Or set bad_rows=skip to count such rows and go on")
    ]


@every_kind
def test_half_a_row_at_the_end_of_a_file_is_bad(tmp_path: Path, kind: Kind):
    content = kind.write(tmp_path, *map(kind.row, GOOD)).read_bytes()
    end = content[: content.rindex(b"bed")]
    samples, rejections = skipping(kind.source, write(tmp_path, end, kind.name))
    assert [sample.answer for sample in samples] == list(GOOD[:2])
    assert rejections.reasons == {"bad row": 1}


@every_kind
@one_folder
@example(rest=b"x\n", skip=False)
@example(rest=b"1" * 5000 + b"]", skip=False)
@example(rest=b"1e999999999999999999999]", skip=False)
@example(rest=b"[" * 200_000, skip=True)
@given(rest=st.binary() | written_text.map(str.encode), skip=st.booleans())
def test_whatever_a_file_holds_it_is_read_or_refused_by_name(
    tmp_path: Path, kind: Kind, rest: bytes, skip: bool
):
    path = write(tmp_path, kind.head.encode() + rest, kind.name)
    matches = read_or_refusal(kind.source, path, skip=skip)
    if isinstance(matches, str):
        assert str(path) in matches
    else:
        assert all(turn["content"].encode() for sample in matches for turn in sample.turns)


@every_kind
@one_folder
@given(
    data=st.data(),
    new=st.sampled_from([b"", b'"', b"\\", b"{", b"]", b"\n", b",", b"\0"]) | st.binary(max_size=2),
)
def test_an_altered_row_costs_no_other_and_is_not_repeated(
    tmp_path: Path, kind: Kind, data: st.DataObject, new: bytes
):
    row = kind.row("Qzjxk vwqzj")
    index = data.draw(st.integers(0, len(row) - 1))
    altered = row[:index] + new + row[index + 1 :]
    path = kind.write(tmp_path, kind.row("I am above."), altered, kind.row("I am below."))
    message = read_or_refusal(kind.source, path, skip=False)
    assert isinstance(message, list) or "zj" not in message.replace(str(tmp_path), "")
    answers = [sample.answer for sample in skipping(kind.source, path)[0]]
    assert (answers[0], answers[-1]) == ("I am above.", "I am below.")


@every_kind
def test_a_file_of_any_size_is_read_in_little_memory(tmp_path: Path, kind: Kind):
    path = kind.write(tmp_path, *[kind.row("I went out. " * 200)] * 1500)
    assert path.stat().st_size > 3 * MIB
    tracemalloc.start()
    samples = SOURCES[kind.source].read_samples(config(kind.source, path), Rejections(refuse_bad_rows=True))
    assert sum(1 for _ in samples) == 1500
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < MIB


@pytest.mark.parametrize("kind", ["reddit.jsonl", "conversations.json", "conversations.jsonl"])
def test_text_that_utf8_cannot_write_is_refused_here(tmp_path: Path, kind: str):
    half = KINDS[kind].write(tmp_path, KINDS[kind].row(r"cut \ud83d"))
    assert "must be text" in refusal(KINDS[kind].source, half)


# Tables


def test_a_table_saved_again_with_semicolons_is_read(tmp_path: Path):
    rows = [["story", "memType", "summary"], ["I went out; it rained, too.", "recalled", "Rain."]]
    (sample,) = read("hippocorpus", write(tmp_path, table(*rows, separator=";")))
    assert (sample.answer, sample.summary) == ("I went out; it rained, too.", "Rain.")


def test_a_story_longer_than_csvs_own_limit_is_read(tmp_path: Path):
    (sample,) = read("hippocorpus", write(tmp_path, table(["story"], ["x" * 200_000])))
    assert len(sample.answer) == 200_000


def test_a_row_of_several_lines_is_named_by_its_first(tmp_path: Path):
    path = write(tmp_path, table(["story"], ["One.\n\nTwo."], ["Three."]))
    assert [sample.origin for sample in read("hippocorpus", path)] == ["a.csv:2", "a.csv:5"]
    assert read("hippocorpus", path)[0].answer == "One.\n\nTwo."


def test_an_empty_story_is_no_sample(tmp_path: Path):
    samples, rejections = skipping("hippocorpus", write(tmp_path, "story,memType\n  ,\nOnce.,\n,\n"))
    assert [sample.origin for sample in samples] == ["a.csv:3"]
    assert rejections.reasons == {"empty": 2}


@pytest.mark.parametrize(
    ("source", "header", "column"),
    [
        ("hippocorpus", "summary,memType", "story"),
        ("hippocorpus", "story,summary", "memType"),
        ("journals", "answer,Answer.t1.food.raw", "Answer"),
    ],
)
def test_a_missing_column_is_named_with_those_there_are(
    tmp_path: Path, source: str, header: str, column: str
):
    path = write(tmp_path, f"{header}\nI went out.,recalled\n")
    columns = header.replace(",", ", ")
    complaint = f"no column {column!r}, there are: {columns}"
    for skip in (True, False):
        message = read_or_refusal(source, path, skip=skip, hippocorpus_mem_types=["recalled"])
        assert message == f"{path}, line 1: {complaint}. {SOURCES[source].REMEDY}"


def test_a_table_without_a_header_does_not_have_its_first_row_repeated(tmp_path: Path):
    message = refusal(
        "hippocorpus", write(tmp_path, table(["I went out, secretly, and nobody saw me.", "recalled"]))
    )
    assert "line 1: no column 'story', there are: …, recalled. " in message


def test_a_row_cut_short_is_named_by_its_line(tmp_path: Path):
    path = write(tmp_path, "memType,story\nrecalled,Once.\nimagined\nimagined,Twice.\n")
    assert refusal("hippocorpus", path).startswith(
        f"{path}, line 3: the row has not as many fields as the header. {hippocorpus.REMEDY}. "
    )
    samples, rejections = skipping("hippocorpus", path)
    assert [sample.answer for sample in samples] == ["Once.", "Twice."]
    assert rejections.reasons == {"bad row": 1}


def test_broken_quotes_are_named_by_their_own_line(tmp_path: Path):
    path = write(tmp_path, 'memType,story\nrecalled,Once.\nrecalled,"a"b\nrecalled,Twice.\n')
    assert f"{path}, line 3: it is not CSV: ',' expected after '\"'. " in refusal("hippocorpus", path)


@pytest.mark.parametrize("rows", [3, 9000])
def test_a_quote_that_is_never_closed_swallows_no_row_behind_it(tmp_path: Path, rows: int):
    story = "I went out " + "and about " * 200
    path = write(tmp_path, 'memType,story\nrecalled,"I was torn\n' + f"recalled,{story}\n" * rows)
    assert refusal("hippocorpus", path).startswith(f"{path}, line 2: ")
    samples, rejections = skipping("hippocorpus", path)
    assert len(samples) == rows
    assert {sample.answer for sample in samples} == {story.strip()}
    assert rejections.reasons == {"bad row": 1}


def test_what_is_left_of_a_torn_row_is_no_row(tmp_path: Path):
    content = 'story,memType\n"I was "torn"\nin two",recalled\n"I am whole.",recalled\n'
    samples, rejections = skipping("hippocorpus", write(tmp_path, content))
    assert [sample.answer for sample in samples] == ["I am whole."]
    assert rejections.reasons["bad row"] >= 1


@one_folder
@given(stories=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0\r")), max_size=5))
def test_any_story_that_csv_can_write_is_read_again(tmp_path: Path, stories: list[str]):
    path = write(tmp_path, table(["story", "memType"], *([story, "recalled"] for story in stories)))
    samples, rejections = skipping("hippocorpus", path)
    assert [sample.answer for sample in samples] == [story.strip() for story in stories if story.strip()]
    assert rejections.reasons["empty"] == len(stories) - len(samples)
    assert not rejections.bad_rows


# Hippocorpus

# The columns of Microsoft's hippoCorpusV2.csv, in its order.
COLUMNS = (
    "AssignmentId WorkTimeInSeconds WorkerId annotatorAge annotatorGender annotatorRace distracted draining "
    "frequency importance logTimeSinceEvent mainEvent memType mostSurprising openness recAgnPairId "
    "recImgPairId similarity similarityReason story stressful summary timeSinceEvent"
)
OFFICIAL = COLUMNS.split()


def official(**settings: str) -> str:
    """The official table, with a mark in every column that names it."""
    return table(OFFICIAL, [settings.get(name, f"my <{name}> there") for name in OFFICIAL])


def prompt_variants(folder: Path, **settings: str) -> tuple[str, ...]:
    (sample,) = read("hippocorpus", write(folder, official(story="We went to the sea.", **settings)))
    return sample.prompt_variants


def test_of_the_official_table_five_columns_are_used_and_no_other_reaches_a_sample(tmp_path: Path):
    (sample,) = read("hippocorpus", write(tmp_path, official(mainEvent="my going to sea")))
    assert sample.answer == "my <story> there"
    assert sample.summary == "my <summary> there"
    assert "Tell me about your going to sea." in sample.prompt_variants
    assert set(re.findall(r"<(\w+)>", repr(sample))) == {"story", "summary"}


@pytest.mark.parametrize("column", sorted(set(OFFICIAL) - set(hippocorpus.COLUMNS)))
def test_what_a_column_about_the_writer_holds_changes_nothing(tmp_path: Path, column: str):
    plain, other = (
        read("hippocorpus", write(tmp_path, official(**{column: words}))) for words in ("A", "my other words")
    )
    assert plain == other


def test_only_the_chosen_kinds_of_memory_are_read(tmp_path: Path):
    kinds = ["recalled", "imagined", "retold", "recalled"]
    path = write(tmp_path, table(["story", "memType"], *([f"I was {kind}.", kind] for kind in kinds)))
    assert len(read("hippocorpus", path)) == 4
    samples, rejections = skipping("hippocorpus", path, hippocorpus_mem_types=["recalled", "retold"])
    assert [sample.answer for sample in samples] == ["I was recalled.", "I was retold.", "I was recalled."]
    assert rejections.reasons == {"memType not chosen": 1}


def test_a_table_without_memtypes_is_read_when_none_is_chosen(tmp_path: Path):
    assert len(read("hippocorpus", write(tmp_path, "AssignmentId,story\nA,I went out.\n"))) == 1


@pytest.mark.parametrize(
    ("days", "when"),
    [
        ("1.0", "a few days ago"),
        ("7", "around a week ago"),
        ("14.0", "around two weeks ago"),
        ("30.0", "around a month ago"),
        ("90.0", "around three months ago"),
        ("365.0", "around a year ago"),
        ("3650", "around ten years ago"),
    ],
)
def test_when_it_happened_is_asked_as_a_friend_would_say_it(tmp_path: Path, days: str, when: str):
    prompts = prompt_variants(tmp_path, timeSinceEvent=days)
    assert f"Tell me about something that happened {when}." in prompts
    assert set(hippocorpus.PLAIN) < set(prompts)


@pytest.mark.parametrize("days", ["", "  ", "nan", "inf", "-90", "0", "1e300", "some time"])
def test_a_time_that_is_none_asks_for_no_time(tmp_path: Path, days: str):
    assert not any(" ago" in asking for asking in prompt_variants(tmp_path, timeSinceEvent=days))


@given(days=st.floats(0.01, 12 * 365))
def test_no_time_reads_badly(days: float):
    when = hippocorpus._when(str(days))
    assert re.fullmatch(
        r"a few days ago|around (a|two|three|four|five|six|\w+) (week|month|year)s? ago", when
    )
    assert not re.search(r"\b(no|one|zero)\b", when)


@pytest.mark.parametrize(
    ("event", "prompts"),
    [
        ("My sister's wedding.", "Tell me about your sister's wedding."),
        ("getting lost with my brother in Rome", "Tell me about getting lost with your brother in Rome."),
        ("The birth of our first child", "Tell me about the birth of your first child."),
    ],
)
def test_a_short_main_event_phrases_a_question(tmp_path: Path, event: str, prompts: str):
    assert prompts in prompt_variants(tmp_path, mainEvent=event)


@pytest.mark.parametrize(
    "event",
    [
        "",
        "concert",
        "I got married",
        "my dog, he died",
        "the day I was born",
        "Morning walk by the sea",
        "a" * 99,
    ],
)
def test_a_main_event_that_reads_badly_phrases_none(tmp_path: Path, event: str):
    assert prompt_variants(tmp_path, mainEvent=event, timeSinceEvent="") == hippocorpus.PLAIN


def zipped(folder: Path, members: dict[str, str]) -> Path:
    path = folder / "hippocorpus.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def test_the_stories_are_read_out_of_the_official_zip(tmp_path: Path):
    first, other = official(story="I am of the second version."), official(story="I am of the third.")
    both = {"V2README.txt": "Hello", "u/hcV3-stories.csv": other, "u/hippoCorpusV2.csv": first}
    (sample,) = read("hippocorpus", zipped(tmp_path, both))
    assert sample.answer == "I am of the second version."
    assert sample.origin == "hippocorpus.zip:2"
    (sample,) = read("hippocorpus", zipped(tmp_path, {"hcV3-stories.csv": other}))
    assert sample.answer == "I am of the third."


def test_a_zip_without_stories_says_what_it_holds(tmp_path: Path):
    path = zipped(tmp_path, {"V2README.txt": "Hello", "__MACOSX/._hippoCorpusV2.csv": "x"})
    assert refusal("hippocorpus", path) == (
        f"{path} holds neither hippoCorpusV2.csv nor hcV3-stories.csv, but: "
        f"V2README.txt, ._hippoCorpusV2.csv. {hippocorpus.REMEDY}"
    )


@pytest.mark.parametrize("damage", ["no zip", "cut", "altered"])
def test_a_damaged_zip_is_named(tmp_path: Path, damage: str):
    whole = zipped(tmp_path, {"hippoCorpusV2.csv": official(story="I went out. " * 500)})
    content = bytearray(whole.read_bytes())
    if damage == "altered":
        content[120] ^= 255
    path = write(tmp_path, {"no zip": b"story\nOnce.\n", "cut": content[:300]}.get(damage, content), "b.zip")
    assert refusal("hippocorpus", path).startswith(f"{path}")
    assert "is no zip that can be read" in refusal("hippocorpus", path)


def test_no_flipped_bit_of_a_zip_is_a_traceback(tmp_path: Path):
    whole = zipped(tmp_path, {"hippoCorpusV2.csv": official(story="I went out. " * 500)}).read_bytes()
    for offset, bit in itertools.product(range(len(whole)), range(8)):
        content = bytearray(whole)
        content[offset] ^= 1 << bit
        path = write(tmp_path, content, "b.zip")
        with contextlib.suppress(ConfigError):
            read("hippocorpus", path)


def test_a_bad_row_in_a_zip_is_named_by_member_and_line(tmp_path: Path):
    path = zipped(tmp_path, {"hippoCorpusV2.csv": "story,memType\nOnce.,recalled\nTwice.\n"})
    assert refusal("hippocorpus", path).startswith(f"{path} (hippoCorpusV2.csv), line 3: ")


# Journals


def entry(folder: Path, *labels: str, value: str = "TRUE") -> Sample:
    (sample,) = read(
        "journals", write(folder, table(["Answer", *labels], ["I wrote this.", *[value] * len(labels)]))
    )
    return sample


def test_the_thirty_columns_of_the_data_set_are_known():
    with (SAMPLES / "journal_entries.csv").open(encoding="utf-8") as file:
        header = next(csv.reader(file))
    labels = [f"Answer.f1.{emotion}.raw" for emotion in journals.EMOTIONS]
    labels += [f"Answer.t1.{topic}.raw" for topic in journals.TOPICS]
    assert header == ["Answer", *labels]


@pytest.mark.parametrize("topic", journals.TOPICS)
def test_a_topic_phrases_drews_questions(tmp_path: Path, topic: str):
    prompts = entry(tmp_path, f"Answer.t1.{topic}.raw").prompt_variants
    assert prompts == (*journals.TOPICS[topic], *journals.PLAIN)


@pytest.mark.parametrize("emotion", journals.EMOTIONS)
def test_an_emotion_phrases_drews_questions(tmp_path: Path, emotion: str):
    prompts = set(entry(tmp_path, f"Answer.f1.{emotion}.raw").prompt_variants) - set(journals.PLAIN)
    assert len(prompts) >= 2
    assert all(emotion in asking for asking in prompts)


def test_emotion_and_topic_phrase_a_question_together(tmp_path: Path):
    prompts = entry(tmp_path, "Answer.f1.proud.raw", "Answer.t1.school.raw").prompt_variants
    assert [asking for asking in prompts if "proud" in asking and "your studies" in asking]
    assert set(journals.TOPICS["school"]) < set(prompts)


def test_an_entry_without_labels_answers_a_plain_question(tmp_path: Path):
    prompts = entry(tmp_path, "Answer.t1.food.raw", "Answer.f1.sad.raw", value="FALSE").prompt_variants
    assert prompts == journals.PLAIN


def test_what_else_a_journal_table_holds_reaches_no_sample(tmp_path: Path):
    assert "TRUE" not in repr(entry(tmp_path, "Answer.f1.afraid.raw", "WorkerId"))
    assert entry(tmp_path, "WorkerId").prompt_variants == journals.PLAIN


# Reddit

MINE = "I lost my keys and we looked for them all night."


def posts(folder: Path, *rows: dict[str, object]) -> Path:
    return write(folder, "".join(f"{json.dumps(row)}\n" for row in rows), "a.jsonl")


def post(folder: Path, text: str = MINE, **others: object) -> Sample:
    (sample,) = read("reddit", posts(folder, {"selftext": text, **others}), reddit_first_person=0)
    return sample


def test_a_post_is_what_ada_tells_and_its_title_is_never_hers(tmp_path: Path):
    sample = post(tmp_path, title="My week [25F]", author="<author>", subreddit="r/tifu")
    assert sample.answer == MINE
    assert sample.origin == "a.jsonl:1"
    by_title = [asking for asking in sample.prompt_variants if "My week" in asking]
    assert len(by_title) >= 3
    assert all('"My week [25F]"' in asking for asking in by_title)
    assert set(reddit.BY_SUBREDDIT["tifu"]) < set(sample.prompt_variants)
    assert "<author>" not in repr(sample)


@pytest.mark.parametrize(
    ("title", "quoted"),
    [
        ("TIFU by losing my keys.", '"losing my keys"'),
        ("[Serious] I left", '"I left"'),
        ('They say "no" &amp; mean it', "\"They say 'no' & mean it\""),
    ],
)
def test_a_title_is_quoted_as_it_reads_well(tmp_path: Path, title: str, quoted: str):
    assert f"What happened with {quoted}?" in post(tmp_path, title=title).prompt_variants


@pytest.mark.parametrize("title", [None, "", "  ", "...", "[deleted by user]", "so " * 60])
def test_a_title_that_says_nothing_is_not_quoted(tmp_path: Path, title: str | None):
    assert post(tmp_path, title=title).prompt_variants == reddit.PLAIN
    assert post(tmp_path).prompt_variants == reddit.PLAIN


@pytest.mark.parametrize(
    "text",
    ["[removed]", "[deleted]", "", "  ", " [removed]\n", None, "[deleted by user]", "[ Removed by Reddit ]"],
)
def test_a_post_that_is_gone_is_dropped(tmp_path: Path, text: str | None):
    path = posts(tmp_path, {"title": "Gone", "selftext": text}, {"title": "Here", "selftext": MINE})
    samples, rejections = skipping("reddit", path)
    assert [sample.origin for sample in samples] == ["a.jsonl:2"]
    assert rejections.reasons == {"removed or deleted": 1}


@pytest.mark.parametrize(
    "marked",
    [
        {"over_18": True},
        {"over_18": "True"},
        {"over_18": 1},
        {"subreddit.nsfw": "true"},
        {"nsfw": "1"},
        {"title": "My week (nsfw)"},
    ],
)
def test_a_post_for_adults_is_dropped(tmp_path: Path, marked: dict[str, object]):
    path = posts(tmp_path, {"selftext": MINE}, {"selftext": MINE} | marked)
    assert dropped("reddit", path) == {"NSFW": 1}


@pytest.mark.parametrize("marked", [{"over_18": False}, {"over_18": "false"}, {"nsfw": 0}, {"nsfw": None}])
def test_a_post_for_everybody_is_read(tmp_path: Path, marked: dict[str, object]):
    assert len(read("reddit", posts(tmp_path, {"selftext": MINE} | marked))) == 1


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("I came home", 1 / 3),
        ("I'm home, i’ve got MY keys", 3 / 6),
        ("They came to us and ours", 2 / 6),
        ("Image mine field", 1 / 3),
        ("The news of today: it rains.", 0),
        ("", 0),
        ("…", 0),
    ],
)
def test_how_much_a_text_speaks_of_its_writer(text: str, share: float):
    assert reddit.first_person(text) == pytest.approx(share)


def test_a_post_that_is_not_about_its_writer_is_dropped(tmp_path: Path):
    path = posts(tmp_path, {"selftext": MINE}, {"selftext": "The government has resigned today. " * 9 + MINE})
    assert dropped("reddit", path, reddit_first_person=0.1) == {"not first-person": 1}
    assert not dropped("reddit", path, reddit_first_person=0.01)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ("I &amp; she &lt;3", "I & she <3"),
        ("One.\n\n&amp;#x200B;\n\nTwo.\u200b", "One.\n\nTwo."),
        ("See [this](https://x.org/a_(b)) and ![that](y).", "See this and that."),
        ("One.\n\nEdit: thanks!\n\nTwo.\n\n**EDIT 2**: wow\n\nTL;DR: short.", "One.\n\nTwo."),
        ("One.\nETA: spelling\n\n*Update*: it rained.\n\ntldr it was me", "One."),
        ("Edith came. Editing is my job.\n\nEtage two.", "Edith came. Editing is my job.\n\nEtage two."),
        ("One.  \nTwo. \n\n\n\n\nThree.\r\n", "One.\nTwo.\n\nThree."),
        ("I said [that] (once).", "I said [that] (once)."),
    ],
)
def test_what_belongs_to_reddit_is_no_part_of_the_telling(written: str, message: str):
    assert reddit.tidy(written) == message


@given(text=written_text)
def test_tidying_leaves_text_and_has_nothing_left_to_do(text: str):
    tidy = reddit.tidy(text)
    tidy.encode()
    assert not re.search("\u200b|\n{3}", tidy)
    assert tidy == tidy.strip()


@pytest.mark.parametrize("text", ["[a](" * 20_000, "[" * 50_000, "(" * 50_000, "*" * 50_000, "&" * 50_000])
def test_no_markup_takes_for_ever(text: str):
    reddit.tidy(text)
    assert reddit.first_person(text) < 1


@pytest.mark.parametrize("name", ["selftext", "content", "documents", "body", "text"])
def test_the_text_is_found_by_its_usual_names(tmp_path: Path, name: str):
    row = {"trimmed_title": "My keys", "subreddit.name": "confession", name: MINE}
    (sample,) = read("reddit", posts(tmp_path, row))
    assert sample.answer == MINE
    assert 'What happened with "My keys"?' in sample.prompt_variants
    assert set(reddit.BY_SUBREDDIT["confession"]) < set(sample.prompt_variants)


def test_the_usual_names_have_an_order_and_a_setting_comes_before_them(tmp_path: Path):
    path = posts(tmp_path, {"text": "I am the text.", "selftext": "I am the selftext.", "post": "I am it."})
    assert read("reddit", path)[0].answer == "I am the selftext."
    assert read("reddit", path, reddit_fields={"text": "post"})[0].answer == "I am it."


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.parquet"])
@pytest.mark.parametrize(
    ("fields", "expected"),
    [({}, "selftext or content or documents or body or text"), ({"title": "Head"}, "Head")],
)
def test_a_column_that_is_not_there_is_named_with_those_there_are(
    tmp_path: Path, name: str, fields: dict[str, str], expected: str
):
    row = {"id": "A", "said": MINE} | ({"body": MINE} if fields else {})
    path = tmp_path / name
    if name == "a.parquet":
        parquet.write_table(pyarrow.Table.from_pylist([row]), path)
    else:
        write(tmp_path, json.dumps(row) if name == "a.jsonl" else table([*row], [*row.values()]), name)
    message = refusal("reddit", path, reddit_fields=fields)
    assert message.startswith(f"{path}")
    assert f"no column {expected} for the " in message
    assert f"there are: {', '.join(row)}. " in message
    assert "for example reddit_fields={" in message


@pytest.mark.parametrize("post", ['["A", "It rained."]', '"A"', "null", "3"])
def test_what_is_no_post_is_named_by_its_line(tmp_path: Path, post: str):
    path = write(tmp_path, f"{POST}\n\n{post}\n", "a.jsonl")
    assert refusal("reddit", path).startswith(f"{path}, line 3: this is not a post but a ")


@pytest.mark.parametrize("field", ["title", "selftext"])
@pytest.mark.parametrize("value", [7, ["It rained."], {"a": 1}, "a \0"])
def test_a_field_of_a_post_that_is_no_text_is_named(tmp_path: Path, field: str, value: object):
    path = posts(tmp_path, {"title": "A", "selftext": "B", field: value})
    assert refusal("reddit", path).startswith(f"{path}, line 1: field {field!r} must be text. ")


def test_broken_json_is_named_by_its_line_and_column(tmp_path: Path):
    path = write(tmp_path, POST + '\n{"title": "A", "selftext": \n', "a.jsonl")
    reason = "it is not JSON: Expecting value (character 28 of it)"
    assert refusal("reddit", path).startswith(f"{path}, line 2: {reason}. ")


@pytest.mark.parametrize("name", ["a.json", "a.txt", "posts"])
def test_a_file_of_another_kind_is_refused_with_the_three_there_are(tmp_path: Path, name: str):
    message = refusal("reddit", write(tmp_path, POST, name))
    assert message.startswith(
        f"reddit_path {tmp_path / name}: its name must end in .jsonl, .csv or .parquet. "
    )


def in_parquet(folder: Path, **columns: object) -> Path:
    parquet.write_table(pyarrow.table(columns), folder / "a.parquet", row_group_size=500)
    return folder / "a.parquet"


def test_posts_are_read_from_parquet(tmp_path: Path):
    texts = [f"I lost my key number {n}." for n in range(2500)]
    names, flags = ["r/tifu"] * 2500, [n == 7 for n in range(2500)]
    columns = {"subreddit.name": names, "subreddit.nsfw": flags, "title": [None] * 2500, "author": names}
    samples, rejections = skipping("reddit", in_parquet(tmp_path, selftext=texts, **columns))
    assert [sample.answer for sample in samples] == texts[:7] + texts[8:]
    assert samples[-1].origin == "a.parquet:2500"
    assert set(reddit.BY_SUBREDDIT["tifu"]) < set(samples[0].prompt_variants)
    assert rejections.reasons == {"NSFW": 1}


def test_a_row_of_parquet_that_is_not_utf8_is_named_and_the_others_are_read(tmp_path: Path):
    texts = pyarrow.array([b"I lost my key.", b"caf\xe9", b"I found my key."]).view(pyarrow.string())
    path = in_parquet(tmp_path, selftext=texts)
    assert refusal("reddit", path).startswith(f"{path}, row 2: it is not UTF-8. ")
    samples, rejections = skipping("reddit", path)
    assert [sample.origin for sample in samples] == ["a.parquet:1", "a.parquet:3"]
    assert rejections.reasons == {"bad row": 1}


@pytest.mark.parametrize("damage", ["no parquet", "cut", "empty", "altered"])
def test_a_damaged_parquet_is_named(tmp_path: Path, damage: str):
    content = in_parquet(tmp_path, selftext=[MINE * n for n in range(100)]).read_bytes()
    broken = {"no parquet": b"title,selftext\n", "cut": content[:-9], "empty": b""}
    path = write(tmp_path, broken.get(damage, content[:8] + b"\xff" * 40 + content[48:]), "b.parquet")
    assert refusal("reddit", path).startswith(f"{path} ")


def test_no_more_posts_are_read_than_asked_for(tmp_path: Path):
    path = posts(tmp_path, *[{"selftext": MINE}] * 9)
    assert len(read("reddit", path, reddit_max_rows=4)) == 4


# Reddit from the hub: a folder of data files is loaded by the same call


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for a data set; other ids are asked of a hub that can't be reached."""
    for index in ("huggingface_hub.constants", "datasets.config"):
        monkeypatch.setattr(f"{index}.HF_HUB_OFFLINE", True)
    return tmp_path


def streamed(**settings: object) -> tuple[list[Sample], Rejections]:
    rejections = Rejections(refuse_bad_rows=False)
    return list(reddit.read_samples(TrainingConfig(**settings), rejections)), rejections


def not_streamed(**settings: object) -> str:
    with pytest.raises(ConfigError) as error:
        streamed(**settings)
    return str(error.value)


def test_posts_are_streamed_from_a_data_set(hub: Path):
    rows = [["title", "selftext", "subreddit.name", "subreddit.nsfw"]]
    rows += [["My keys", f"I lost my key number {n}.", "confession", str(n == 3).lower()] for n in range(9)]
    rows += [["My keys", "", "confession", "false"]]
    write(hub, table(*rows))
    samples, rejections = streamed(reddit_dataset=str(hub))
    assert [sample.answer for sample in samples] == [f"I lost my key number {n}." for n in range(9) if n != 3]
    assert samples[0].origin == f"{hub}:1"
    assert set(reddit.BY_SUBREDDIT["confession"]) < set(samples[0].prompt_variants)
    assert rejections.reasons == {"NSFW": 1, "removed or deleted": 1}


def test_of_a_data_set_no_more_is_read_than_asked_for(hub: Path):
    posts(hub, *[{"selftext": MINE}] * 9)
    assert len(streamed(reddit_dataset=str(hub), reddit_max_rows=3)[0]) == 3


def test_a_data_set_without_a_text_says_which_columns_there_are(hub: Path):
    posts(hub, {"id": "A", "message": MINE})
    assert "there are: id, message. " in not_streamed(reddit_dataset=str(hub))
    samples, _ = streamed(reddit_dataset=str(hub), reddit_fields={"text": "message"})
    assert samples[0].answer == MINE


@pytest.mark.parametrize("name", ["SocialGrep/one-million-reddit-confessions", "nobody/nothing", "nothing"])
def test_a_data_set_that_cannot_be_reached_is_named_with_the_remedy(hub: Path, name: str):
    message = not_streamed(reddit_dataset=name)
    assert message.startswith(f"reddit_dataset={name}, reddit_split=train can't be streamed (")
    assert "set reddit_path" in message


def test_a_split_that_there_is_not_is_named(hub: Path):
    posts(hub, {"selftext": MINE})
    message = not_streamed(reddit_dataset=str(hub), reddit_split="tifu")
    assert "reddit_split=tifu can't be streamed (Bad split: tifu. Available splits: ['train'])" in message


def test_a_data_set_that_is_a_script_is_named(hub: Path):
    folder = hub / "reddit_tifu"
    folder.mkdir()
    write(folder, "print('never run')", "reddit_tifu.py")
    message = not_streamed(reddit_dataset=str(folder))
    assert f"reddit_dataset={folder}" in message
    assert "scripts are no longer supported" in message


def test_a_data_set_that_breaks_off_is_named_and_not_repeated(hub: Path):
    write(hub, POST + '\n{"selftext": "my secret', "a.jsonl")
    message = not_streamed(reddit_dataset=str(hub))
    assert f"reddit_dataset={hub}" in message
    assert "breaks off behind post 0" in message
    assert "secret" not in message


def test_a_data_set_of_the_hub_counts_as_found_and_says_what_it_was(hub: Path):
    settings = TrainingConfig(reddit_dataset="nobody/nothing", reddit_split="tifu")
    assert reddit.is_available(settings)
    assert reddit.provenance(settings) == {"dataset": "nobody/nothing", "split": "tifu"}
    assert reddit.provenance(TrainingConfig(reddit_dataset=str(hub)))["dataset"] == str(hub)


# Drew and Ada's conversations

HELLO = [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hello."}]
in_both = pytest.mark.parametrize("name", ["a.json", "a.jsonl"])


def written(folder: Path, item: object, name: str = "a.json") -> Path:
    return write(folder, json.dumps(item if name == "a.jsonl" else [item]), name)


@in_both
def test_a_conversation_keeps_its_turns_and_drops_what_else_stands_there(tmp_path: Path, name: str):
    texts = ["Hello?", " Hello.\n", "And now?", "Now I sew."]
    turns_with_ids = [
        {"role": ("user", "assistant")[index % 2], "content": text, "id": 7}
        for index, text in enumerate(texts)
    ]
    path = written(tmp_path, {"id": 12345, "conversations": turns_with_ids}, name)
    path.write_text(path.read_text().replace("12345", "1" * 5000))  # a number too long for Python's int
    (sample,) = read("conversations", path)
    assert [turn["content"] for turn in sample.turns] == texts
    assert {key for turn in sample.turns for key in turn} == {"role", "content"}
    assert sample.origin == ("a.json:0" if name == "a.json" else "a.jsonl:1")
    assert not sample.prompt_variants


@one_folder
@given(
    texts=st.lists(some_text, min_size=2, max_size=2),
    ascii_only=st.booleans(),
    indent=st.none() | st.integers(0, 3),
    blanks=st.integers(0, 400),
)
def test_any_words_of_a_conversation_reach_its_sample_unchanged(
    tmp_path: Path, texts: list[str], ascii_only: bool, indent: int | None, blanks: int
):
    """Wherever the pieces end in which the file is read."""
    item = turns(("user", texts[0]), ("assistant", texts[1]))
    text = json.dumps([item, item], ensure_ascii=ascii_only, indent=indent)
    path = write(tmp_path, " " * ((1 << 16) - blanks) + text, "a.json")
    samples = read("conversations", path)
    assert [list(sample.turns) for sample in samples] == [item["conversations"]] * 2


@pytest.mark.parametrize(
    "item",
    [
        {"messages": HELLO},
        {"conversations": [{"from": "human", "value": "Hello?"}, {"from": "gpt", "value": "Hello."}]},
        {"conversations": [{"role": "Drew", "content": "Hello?"}, {"role": " ADA ", "content": "Hello."}]},
        {"conversations": [{"role": "Prompter", "content": "Hello?"}, {"role": "Bot", "content": "Hello."}]},
        {"messages": [{"role": "system", "content": ""}, {"role": "developer"}, *HELLO]},
        {"conversations": [{"from": "Tom", "value": "Hello?"}, {"from": "Una", "value": "Hello."}]},
    ],
)
@in_both
def test_other_names_for_the_same_are_known(tmp_path: Path, item: object, name: str):
    (sample,) = read("conversations", written(tmp_path, item, name))
    assert list(sample.turns) == HELLO


def test_of_two_other_names_the_first_to_speak_is_drew_in_each_conversation(tmp_path: Path):
    first = turns(("Tom", "A"), ("Una", "B"), ("Tom", "C"), ("Una", "D"))
    other = turns(("Una", "E"), ("Tom", "F"))
    samples = read("conversations", write(tmp_path, json.dumps([first, other]), "a.json"))
    assert [[turn["content"] for turn in sample.turns if turn["role"] == "user"] for sample in samples] == [
        ["A", "C"],
        ["E"],
    ]


@pytest.mark.parametrize(
    ("roles", "index"),
    [
        (["Tom", "Una", "Sue", "Una"], 0),
        (["user", "Una"], 1),
        (["user", "assistant", "tool", "assistant"], 2),
    ],
)
def test_a_speaker_nobody_knows_is_named_by_place_with_the_setting_that_says_who_it_is(
    tmp_path: Path, roles: list[str], index: int
):
    path = write(tmp_path, talk(*((role, "Words.") for role in roles)), "a.json")
    message = refusal("conversations", path)
    assert message.startswith(
        f"{path}, line 1, conversation 0: turn {index}, field `role` names neither the user nor the persona"
    )
    assert "speakers={" in message
    assert "Una" not in message
    speakers = {"tom": "user", "una": "assistant", "sue": "user", "tool": "user"}
    assert len(read("conversations", path, speakers=speakers)) == 1


def test_a_setting_may_turn_the_usual_names_round(tmp_path: Path):
    path = write(tmp_path, talk(("bot", "Hello?"), ("human", "Hello.")), "a.json")
    assert len(read("conversations", path, speakers={"Bot": "user", "Human": "assistant"})) == 1


def test_the_names_of_another_persona_are_known(tmp_path: Path):
    persona = tmp_path / "persona.toml"
    text = Path("services/persona/persona.toml").read_text(encoding="utf-8")
    persona.write_text(text.replace('user = "Drew"', 'user = "Marta"'), encoding="utf-8")
    path = write(tmp_path, talk(("marta", "Hello?"), ("ada", "Hello.")), "a.json")
    assert len(read("conversations", path, persona=persona)) == 1


def test_broken_json_is_named_by_its_line_and_conversation(tmp_path: Path):
    whole = json.dumps(turns(("user", "A"), ("assistant", "B")))
    path = write(tmp_path, f'[\n  {whole},\n  {{"conversations" []}},\n  {whole}\n]\n', "a.json")
    message = refusal("conversations", path)
    assert message.startswith(
        f"{path}, line 3, conversation 1: it is not JSON: Expecting ':' delimiter (character 18 of it). "
    )
    samples, rejections = skipping("conversations", path)
    assert [sample.origin for sample in samples] == ["a.json:0", "a.json:2"]
    assert rejections.reasons == {"bad row": 1}


@pytest.mark.parametrize("indent", [1, 4])
@pytest.mark.parametrize("flaw", ['"role"', '"', ": ", ",", "{", "["])
@pytest.mark.parametrize("lies", ["first", "in the middle", "last"])
def test_a_broken_conversation_costs_no_other(tmp_path: Path, indent: int, flaw: str, lies: str):
    names = "ABCDE"
    items = [json.dumps(turns(("user", name), ("assistant", name * 80_000)), indent=indent) for name in names]
    index = {"first": 0, "in the middle": 2, "last": 4}[lies]
    items[index] = items[index].replace(flaw, "", 1)
    path = write(tmp_path, "[\n" + ",\n".join(items) + "\n]\n", "a.json")
    samples, rejections = skipping("conversations", path)
    assert [sample.origin for sample in samples] == [f"a.json:{n}" for n in range(5) if n != index]
    assert [sample.turns[0]["content"] for sample in samples] == [n for n in names if n != names[index]]
    assert rejections.reasons == {"bad row": 1}


def test_a_broken_conversation_in_a_list_that_begins_on_its_first_line_costs_no_other(tmp_path: Path):
    items = [json.dumps(turns(("user", name), ("assistant", name))) for name in "ABC"]
    items[1] = items[1].removesuffix("]}")
    samples, rejections = skipping(
        "conversations", write(tmp_path, f"[{f',{chr(10)}'.join(items)}]", "a.json")
    )
    assert [sample.answer for sample in samples] == ["A", "C"]
    assert rejections.reasons == {"bad row": 1}


def test_behind_a_broken_conversation_of_one_line_nothing_can_be_told(tmp_path: Path):
    path = write(tmp_path, talk(("user", "A"), ("assistant", "B")).replace("]", "", 1), "a.json")
    with pytest.raises(ConfigError, match=r"a.json, line 1: .*nothing behind it could be read"):
        skipping("conversations", path)


def test_in_one_line_a_conversation_that_is_not_json_costs_no_other_if_its_brackets_match(tmp_path: Path):
    items = [json.dumps(turns(("user", name), ("assistant", name))) for name in "ABC"]
    items[1] = items[1].replace(":", "", 1)
    samples, rejections = skipping("conversations", write(tmp_path, f"[{','.join(items)}]", "a.json"))
    assert [sample.answer for sample in samples] == ["A", "C"]
    assert rejections.reasons == {"bad row": 1}


@pytest.mark.parametrize("content", ['{"conversations": []}', '"text"', "null", "3", "x"])
def test_a_file_that_holds_no_list_is_named(tmp_path: Path, content: str):
    path = write(tmp_path, content, "a.json")
    assert refusal("conversations", path).startswith(f"{path} holds no list")


def test_blanks_alone_are_an_empty_file(tmp_path: Path):
    path = write(tmp_path, " \n" * 50_000, "a.json")
    assert refusal("conversations", path) == f"{path} is empty. {conversations.REMEDY}"


@pytest.mark.parametrize("content", ["[]", " [ ] \n"])
def test_an_empty_list_has_no_conversation(tmp_path: Path, content: str):
    assert read("conversations", write(tmp_path, content, "a.json")) == []


def test_what_stands_behind_the_list_is_named(tmp_path: Path):
    path = write(tmp_path, talk(("user", "A"), ("assistant", "B")) + "\n[]", "a.json")
    reason = "it stands behind the end of the list and was not read"
    assert f"{path}, line 2, conversation 1: {reason}. " in refusal("conversations", path)
    assert reason in refusal("conversations", write(tmp_path, "[] x", "a.json"))


@pytest.mark.parametrize(
    "item", ["text", None, [], {}, {"messages": []}, {"conversations": "[]"}, {"conversations": [{}]}]
)
@in_both
def test_a_conversation_without_two_turns_is_named_by_its_line(tmp_path: Path, item: object, name: str):
    rows = (json.dumps({"messages": HELLO}).encode(), json.dumps(item).encode())
    path = KINDS[f"conversations.{name[2:]}"].write(tmp_path, *rows)
    where = f"{path}, line 3, conversation 1" if name == "a.json" else f"{path}, line 2"
    message = refusal("conversations", path)
    assert message.startswith(f"{where}: field `conversations` must hold two turns or more. ")


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        (["assistant", "user"], "turn 0, field `role` must be 'user'"),
        (["user", "user"], "turn 1, field `role` must be 'assistant'"),
        (["user", "assistant", "assistant"], "turn 2, field `role` must be 'user'"),
        (["system", "user", "system", "assistant"], "turn 2, field `role` names neither"),
        (["user", "assistant", "user"], "the last turn must be the assistant's"),
        (["system", "system"], "the last turn must be the assistant's"),
        ([None, "assistant"], "turn 0, field `role` must say who speaks"),
    ],
)
def test_turns_out_of_order_are_named_by_their_place(tmp_path: Path, roles: list[str], message: str):
    path = write(tmp_path, talk(*((role, "Words.") for role in roles)), "a.json")
    assert refusal("conversations", path).startswith(f"{path}, line 1, conversation 0: {message}")


@pytest.mark.parametrize("content", ["", " \n", None, 7, ["Hello."], "a \0"])
def test_a_turn_without_words_is_named_by_its_place(tmp_path: Path, content: object):
    path = write(tmp_path, talk(("user", "Hello?"), ("assistant", content)), "a.json")
    message = refusal("conversations", path)
    assert message.startswith(f"{path}, line 1, conversation 0: turn 1, field `content` must be text. ")


@pytest.mark.parametrize("turn", ["Hello.", None, ["user", "Hello"]])
def test_a_turn_in_another_form_is_named_by_its_place(tmp_path: Path, turn: object):
    path = write(tmp_path, json.dumps([{"conversations": [turn, turn]}]), "a.json")
    assert "conversation 0: turn 0, field `role`" in refusal("conversations", path)


@given(roles=st.lists(st.sampled_from(["user", "assistant", "system", "Tom", "Una"]), max_size=6))
@one_folder
def test_no_sample_begins_with_ada_ends_with_drew_or_lets_one_speak_twice(tmp_path: Path, roles: list[str]):
    path = write(tmp_path, talk(*((role, "Words.") for role in roles)), "a.json")
    samples, _ = skipping("conversations", path)
    for sample in samples:
        alternating = [turn["role"] for turn in sample.turns]
        assert alternating == ["user", "assistant"] * (len(alternating) // 2)
        assert alternating


# Null beside its alternative, in every chain of names


def test_null_columns_leave_both_conversations_usable():
    """regressions/null_columns"""
    samples = read("conversations", REGRESSIONS / "null_columns" / "conversations.jsonl")
    assert [sample.turns[0]["content"] for sample in samples] == [
        "What did you do after the storm took the fence down?",
        "Did he come with it that same evening?",
    ]


POSTS = [
    "I told my boss that I would not come on Saturday",
    "I told my sister that I would not come on Sunday",
]


def test_null_columns_leave_both_posts_usable():
    """regressions/null_columns"""
    samples = read("reddit", REGRESSIONS / "null_columns" / "posts.jsonl")
    assert [sample.answer[: len(post)] for sample, post in zip(samples, POSTS, strict=True)] == POSTS


EMPTY = [None, "", "  ", float("nan"), [], {}]


@pytest.mark.parametrize("empty", EMPTY)
@in_both
def test_what_holds_nothing_gives_way_to_its_alternative_in_a_conversation(tmp_path: Path, empty, name: str):
    item = {
        "conversations": empty,
        "messages": [
            {"role": empty, "content": empty, "from": "human", "value": "Hello?"},
            {"role": empty, "content": empty, "from": "gpt", "value": "Hello."},
        ],
    }
    (sample,) = read("conversations", written(tmp_path, item, name))
    assert list(sample.turns) == HELLO


@pytest.mark.parametrize("empty", EMPTY)
def test_what_holds_nothing_gives_way_to_its_alternative_in_a_post(tmp_path: Path, empty: object):
    post = {"selftext": empty, "content": empty, "body": MINE, "title": empty, "trimmed_title": "A boat"}
    post |= {"over_18": empty, "nsfw": False}
    (sample,) = read("reddit", write(tmp_path, json.dumps(post), "a.jsonl"))
    assert sample.answer == MINE
    assert 'What happened with "A boat"?' in sample.prompt_variants
    assert dropped("reddit", write(tmp_path, json.dumps(post | {"nsfw": True}), "a.jsonl")) == {"NSFW": 1}


def test_an_empty_column_gives_way_to_its_alternative_in_csv_and_parquet(tmp_path: Path):
    rows = [{"selftext": None, "body": MINE}, {"selftext": MINE, "body": None}]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "a.parquet")
    write(tmp_path, table(["selftext", "body"], ["", MINE], [MINE, " "]), "a.csv")
    for name in ("a.parquet", "a.csv"):
        assert [sample.answer for sample in read("reddit", tmp_path / name)] == [MINE, MINE]


# Text in parts, and lists that are written as text


def test_openai_parts_are_text_and_a_stringified_list_is_a_list():
    """regressions/openai_parts"""
    parts = read("conversations", REGRESSIONS / "openai_parts" / "d05_parts.json")
    (stringified,) = read("conversations", REGRESSIONS / "openai_parts" / "d07_stringified.jsonl")
    assert parts[0].turns == parts[1].turns == stringified.turns


def test_several_parts_are_lines_as_in_the_api(tmp_path: Path):
    parts = [{"type": "text", "text": "Hello."}, {"type": "output_text", "text": "Again."}]
    (sample,) = read(
        "conversations", write(tmp_path, talk(("user", "Hello?"), ("assistant", parts)), "a.json")
    )
    assert sample.answer == "Hello.\nAgain."
    as_text = talk(("user", "Hello?"), ("assistant", json.dumps(parts)))
    assert read("conversations", write(tmp_path, as_text, "a.json"))[0].answer == sample.answer


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        (
            {"type": "image_url", "image_url": {"url": "x"}},
            "part 1 has the type image_url, and Ada reads text",
        ),
        ({"type": "text", "text": None}, "part 1 must hold its words in `text`"),
        ({"type": "text", "text": "Hello.", "weight": 0}, "part 1 is not to be learned"),
        ("Hello.", "must be text"),
    ],
)
def test_a_part_that_is_no_text_is_named(tmp_path: Path, part: object, expected: str):
    parts = [{"type": "text", "text": "Hello."}, part]
    message = refusal("conversations", write(tmp_path, talk(("user", "A"), ("assistant", parts)), "a.json"))
    assert "conversation 0: turn 1, field `content`" in message
    assert expected in message


@pytest.mark.parametrize("written_as_text", ["Hello", "[{'role': 'user', 'content': 'A'}]", "[" * 5000])
def test_text_in_the_place_of_a_list_is_named_as_that(tmp_path: Path, written_as_text: str):
    path = written(tmp_path, {"conversations": written_as_text})
    assert "field `conversations` holds text in the place of a list" in refusal("conversations", path)


@pytest.mark.parametrize("name", ["system", "developer", "tool", "function"])
def test_of_two_unknown_names_neither_is_taken_for_a_speaker_that_is_none(tmp_path: Path, name: str):
    path = write(tmp_path, talk(("Tom", "A"), (name, "Be kind."), ("Tom", "B"), (name, "C")), "a.json")
    assert "field `role` names neither the user nor the persona" in refusal("conversations", path)


# What is marked as not to be learned


def unlearned(sample: Sample) -> list[str]:
    return [sample.turns[index]["content"] for index in sorted(sample.unlearned)]


@pytest.mark.parametrize("name", ["d06_weight0.jsonl", "d25_trainflags.jsonl"])
def test_weight_zero_keeps_a_turn_from_being_learned(name: str):
    """regressions/weight_zero"""
    samples = read("conversations", REGRESSIONS / "weight_zero" / name)
    assert len(samples) == 2
    assert not any("As an AI language model" in sample.answer for sample in samples)
    marked = [text for sample in samples for text in unlearned(sample)]
    assert marked
    assert all(text.startswith("As an AI language model") for text in marked)


def marked(*flags: dict[str, object], row: dict[str, object] | None = None) -> dict[str, object]:
    """A conversation of as many exchanges as there are flags, which stand on Ada's turns."""
    turns: list[dict[str, object]] = []
    for number, flag in enumerate(flags):
        turns.append({"role": "user", "content": f"Question {number}?"})
        turns.append({"role": "assistant", "content": f"Answer {number}.", **flag})
    return {"messages": turns, **(row or {})}


@pytest.mark.parametrize("flag", LEARN_FLAGS)
@pytest.mark.parametrize("no", [0, 0.0, False])
@in_both
def test_every_such_mark_is_followed(tmp_path: Path, flag: str, no: object, name: str):
    item = marked({flag: no}, {flag: None}, {flag: no}, {flag: 1}, {flag: no})
    (sample,) = read("conversations", written(tmp_path, item, name))
    assert unlearned(sample) == ["Answer 0.", "Answer 2."]
    assert sample.answer == "Answer 1.\n\nAnswer 3."
    assert sample.turns[-1]["content"] == "Answer 3."  # behind it is nothing to learn


def test_a_conversation_of_which_nothing_is_to_be_learned_is_dropped_and_counted(tmp_path: Path):
    items = [marked({"weight": 0}, {"train": False}), marked({}, row={"weight": 0}), marked({"weight": 1})]
    samples, rejections = skipping("conversations", write(tmp_path, json.dumps(items), "a.json"))
    assert [sample.origin for sample in samples] == ["a.json:2"]
    assert rejections.reasons == {"not to be learned": 2}


@pytest.mark.parametrize("value", [0.5, 2, -1, "0", "false", [0], {"a": 1}])
@pytest.mark.parametrize("flag", ["weight", "train", "loss_mask"])
def test_a_mark_that_is_neither_yes_nor_no_is_refused_by_name(tmp_path: Path, flag: str, value: object):
    path = written(tmp_path, marked({}, {flag: value}), "a.jsonl")
    assert refusal("conversations", path).startswith(f"{path}, line 1: turn 3, field `{flag}` must be 0 or 1")
    path = written(tmp_path, marked({}, row={flag: value}), "a.jsonl")
    message = refusal("conversations", path)
    assert message.startswith(f"{path}, line 1: the conversation, field `{flag}` must be 0 or 1")


@pytest.mark.parametrize("key", ["Weight", "train_detail", "loss_scale", "masked", "tool_calls", "mood"])
def test_an_unknown_key_of_a_turn_is_refused_until_a_setting_names_it(tmp_path: Path, key: str):
    path = written(tmp_path, marked({key: [1]}), "a.jsonl")
    message = refusal("conversations", path)
    assert message.startswith(f"{path}, line 1: turn 1 has the unknown key `{key}`")
    assert f"ignored_turn_keys=[{key}]" in message
    assert len(read("conversations", path, ignored_turn_keys=(key,))) == 1
    assert len(read("conversations", written(tmp_path, marked({key: None}), "a.jsonl"))) == 1


@pytest.mark.parametrize("key", ROW_LISTS)
def test_a_list_of_marks_beside_the_turns_is_refused(tmp_path: Path, key: str):
    path = written(tmp_path, marked({}, row={key: [0, 1]}), "a.jsonl")
    assert f"field `{key}` is outside the turns" in refusal("conversations", path)


# Carriage returns alone, and files that could be read for ever


@pytest.mark.parametrize(("source", "rows"), [("hippocorpus", 2), ("journals", 1), ("reddit", 1)])
def test_cr_only_csv_is_read(source: str, rows: int):
    """regressions/cr_only_csv"""
    path = REGRESSIONS / "cr_only_csv" / f"{source}.csv"
    assert len(read(source, path)) == rows
    assert len(skipping(source, path)[0]) == rows


@every_kind
def test_every_kind_of_file_is_read_with_carriage_returns_alone(tmp_path: Path, kind: Kind):
    rows = [kind.row(f"I walked to harbour {n} with my sister.") for n in range(3)]
    path = kind.write(tmp_path, *rows)
    message = [sample.answer for sample in read(kind.source, path)]
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r"))
    assert [sample.answer for sample in read(kind.source, path)] == message
    broken = kind.write(tmp_path, rows[0], rows[1][:-12], rows[2])
    broken.write_bytes(broken.read_bytes().replace(b"\n", b"\r"))
    assert f"line {kind.line}" in refusal(kind.source, broken)


def test_a_table_may_mix_its_line_ends_and_quote_them(tmp_path: Path):
    text = 'story,memType\r"One\rtwo",recalled\n"Three\r\nfour",recalled\r\nFive,recalled'
    path = write(tmp_path, text)
    assert [sample.answer for sample in read("hippocorpus", path)] == ["One\rtwo", "Three\r\nfour", "Five"]


def test_a_carriage_return_between_tokens_of_json_ends_no_line(tmp_path: Path):
    line = json.dumps({"title": "A", "selftext": MINE}).replace(", ", ",\r")
    assert len(read("reddit", write(tmp_path, f"{line}\n{line}\n", "a.jsonl"))) == 2


class CountedLines(rows.Lines):
    """Counts the lines that are read; test_linear_parsers.py counts what is parsed."""

    lines_read = 0

    def __next__(self) -> Line:
        self.lines_read += 1
        return super().__next__()


@pytest.mark.parametrize("end", ["\n", "\r"])
def test_an_open_quote_on_every_line_costs_no_more_than_a_multiple_of_the_file(tmp_path: Path, end: str):
    """Each line goes on with the quote before it: read again from each, they would cost their square."""
    path = write(tmp_path, end.join(["story,memType", *['x","'] * 5_000, "I walked home.,recalled", ""]))
    rejections = Rejections(refuse_bad_rows=False)
    with path.open("rb") as file:
        lines = CountedLines(file, str(path), "", table=True)
        read_rows = [row["story"] for _, row in rows.Table(lines).rows(["story"], rejections)]
    assert lines.lines_read < 40_000
    assert rejections.reasons == {"bad row": 5_000}
    assert read_rows == ["I walked home."]
