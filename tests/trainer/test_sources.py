"""The four sources: what reaches a sample, what never does, and what a broken file says.

.venv/bin/python -m pytest tests/trainer/test_sources.py
"""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from services.errors import ConfigError
from trainer.sample import Sample
from trainer.sources import conversations, hippocorpus, journals, reddit

SAMPLES = Path(__file__).parents[2] / "data" / "samples"
SEED = 3407
# Each example of a property writes its file anew, so that one folder serves all of them.
one_folder = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
written_text = st.text(st.characters(codec="utf-8"))
some_text = written_text.filter(str.strip)

# The columns of Microsoft's hippoCorpusV2.csv, in its order, with a mark in each that names it.
COLUMNS = (
    "AssignmentId WorkTimeInSeconds WorkerId annotatorAge annotatorGender annotatorRace distracted draining "
    "frequency importance logTimeSinceEvent mainEvent memType mostSurprising openness recAgnPairId "
    "recImgPairId similarity similarityReason story stressful summary timeSinceEvent"
)
OFFICIAL = COLUMNS.split()
READERS: dict[str, Callable[[Path, int], Iterator[Sample]]] = {
    "hippocorpus": hippocorpus.read,
    "journals": journals.read,
    "reddit": reddit.read,
    "conversations": conversations.read,
}


def read(source: str, path: Path, seed: int = SEED) -> list[Sample]:
    return list(READERS[source](path, seed))


def refusal(source: str, path: Path) -> str:
    """What a broken file says."""
    with pytest.raises(ConfigError) as error:
        read(source, path)
    return str(error.value)


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "narratives"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def table(*rows: list[str]) -> str:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue()


def story_table(*stories: str) -> str:
    return table(["story", "memType"], *([story, "recalled"] for story in stories))


def talk(*turns: tuple[str, object]) -> str:
    return json.dumps([{"conversations": [{"role": role, "content": text} for role, text in turns]}])


# What every source promises


@pytest.mark.parametrize(
    ("source", "file", "count"),
    [
        ("hippocorpus", "hippocorpus.csv", 200),
        ("journals", "journal_entries.csv", 200),
        ("conversations", "generated_conversations.json", 60),
    ],
)
def test_the_committed_samples_are_read_whole(source: str, file: str, count: int):
    samples = read(source, SAMPLES / file)
    assert len(samples) == count
    assert {sample.source for sample in samples} == {source}
    assert len({sample.origin for sample in samples}) == count
    for sample in samples:
        roles = [turn["role"] for turn in sample.turns]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        assert all(turn["content"].strip() for turn in sample.turns)


@pytest.mark.parametrize(
    ("source", "file"), [("hippocorpus", "hippocorpus.csv"), ("journals", "journal_entries.csv")]
)
def test_a_seed_fixes_drews_questions(source: str, file: str):
    assert read(source, SAMPLES / file, 1) == read(source, SAMPLES / file, 1)
    assert read(source, SAMPLES / file, 1) != read(source, SAMPLES / file, 2)


@pytest.mark.parametrize(
    ("source", "setting"),
    [
        ("hippocorpus", "hippocorpus_path"),
        ("journals", "journal_path"),
        ("reddit", "reddit_path"),
        ("conversations", "generated_data_path"),
    ],
)
def test_a_missing_file_is_named_with_the_setting_that_mends_it(tmp_path: Path, source: str, setting: str):
    said = refusal(source, tmp_path / "nowhere")
    assert said.startswith(f"no file {tmp_path / 'nowhere'}. ")
    assert f"set {setting}" in said


@pytest.mark.parametrize("source", READERS)
def test_a_file_that_is_not_utf8_is_named(tmp_path: Path, source: str):
    said = refusal(source, write(tmp_path, b"caf\xe9"))
    assert str(tmp_path / "narratives") in said
    assert "utf-8" in said.lower()


@pytest.mark.parametrize(
    "source",
    [
        "hippocorpus",
        pytest.param(
            "journals",
        ),
        "reddit",
        "conversations",
    ],
)
@one_folder
@example(rest=b"x\n")
@given(rest=st.binary() | written_text.map(str.encode))
def test_whatever_a_file_holds_it_is_read_or_refused_by_name(tmp_path: Path, source: str, rest: bytes):
    head = {"hippocorpus": b"story,memType\n", "journals": b"Answer,Answer.t1.food.raw\n"}.get(source, b"")
    path = write(tmp_path, head + rest)
    said = str(path)
    try:
        read(source, path)
    except ConfigError as error:
        said = str(error)
    assert str(path) in said


@pytest.mark.parametrize("source", READERS)
def test_a_folder_in_place_of_a_file_is_named(tmp_path: Path, source: str):
    assert str(tmp_path) in refusal(source, tmp_path)


@pytest.mark.parametrize("source", ["reddit", "conversations"])
def test_text_that_utf8_cannot_write_is_refused_here(tmp_path: Path, source: str):
    half = "cut \ud83d"
    post = json.dumps({"title": "A", "selftext": half})
    refusal(source, write(tmp_path, post if source == "reddit" else talk(("user", "A"), ("assistant", half))))


# Hippocorpus


def official(story: str = "We went to the sea.") -> str:
    return table(OFFICIAL, [story if name == "story" else f"<{name}>" for name in OFFICIAL])


@pytest.mark.parametrize("column", [name for name in OFFICIAL if name != "story"])
def test_of_the_official_table_only_the_story_reaches_a_sample(tmp_path: Path, column: str):
    (sample,) = read("hippocorpus", write(tmp_path, official()))
    assert sample.turns[1] == {"role": "assistant", "content": "We went to the sea."}
    assert f"<{column}>" not in repr(sample)


def test_a_story_answers_one_of_drews_questions(tmp_path: Path):
    (sample,) = read("hippocorpus", write(tmp_path, story_table("We went to the sea.")))
    assert sample.turns[0]["role"] == "user"
    assert sample.turns[0]["content"] in hippocorpus.QUESTIONS


@one_folder
@given(story=some_text)
def test_any_story_reaches_its_sample_unchanged_but_for_outer_space(tmp_path: Path, story: str):
    (sample,) = read("hippocorpus", write(tmp_path, story_table(story)))
    assert sample.turns[1]["content"] == story.strip()


@one_folder
@given(stories=st.lists(some_text, max_size=5))
def test_stories_keep_their_number_and_order(tmp_path: Path, stories: list[str]):
    samples = read("hippocorpus", write(tmp_path, story_table(*stories)))
    assert [sample.turns[1]["content"] for sample in samples] == [story.strip() for story in stories]


def test_quoted_commas_quotes_and_line_ends_belong_to_the_story(tmp_path: Path):
    text = 'story,memType\n"First, ""we"" ate.\nThen,\r\nwe left.",recalled\n'
    (sample,) = read("hippocorpus", write(tmp_path, text))
    assert sample.turns[1]["content"] == 'First, "we" ate.\nThen,\r\nwe left.'


def test_a_byte_order_mark_is_no_part_of_the_first_column(tmp_path: Path):
    (sample,) = read("hippocorpus", write(tmp_path, b"\xef\xbb\xbf" + story_table("Once.").encode()))
    assert sample.turns[1]["content"] == "Once."


def test_a_story_longer_than_csvs_own_limit_is_read(tmp_path: Path):
    (sample,) = read("hippocorpus", write(tmp_path, story_table("x" * 200_000)))
    assert len(sample.turns[1]["content"]) == 200_000


def test_an_empty_story_is_no_sample(tmp_path: Path):
    samples = read("hippocorpus", write(tmp_path, story_table("  ", "Once.", "")))
    assert [sample.origin for sample in samples] == ["narratives:3"]


@pytest.mark.parametrize(
    ("source", "header", "column"),
    [
        ("hippocorpus", "story,summary", "memType"),
        ("hippocorpus", "memType,summary", "story"),
        ("hippocorpus", "", "story"),
        ("journals", "answer,Answer.t1.food.raw", "Answer"),
    ],
)
def test_a_missing_column_is_named_with_its_file_and_the_remedy(
    tmp_path: Path, source: str, header: str, column: str
):
    path = write(tmp_path, f"{header}\n" if header else "")
    assert refusal(source, path) == f"{path}, line 1: no column {column!r}. {_remedy(source)}"


def test_a_row_cut_short_is_named_by_its_line(tmp_path: Path):
    path = write(tmp_path, "memType,story\nrecalled,Once.\nimagined\n")
    assert (
        refusal("hippocorpus", path)
        == f"{path}, line 3: the row has not as many fields as the header. {hippocorpus.REMEDY}"
    )


@pytest.mark.parametrize(
    ("row", "said"),
    [('recalled,"Once', "unexpected end of data"), ('recalled,"a"b', "',' expected after '\"'")],
)
def test_broken_quotes_are_refused(tmp_path: Path, row: str, said: str):
    path = write(tmp_path, f"memType,story\n{row}\n")
    message = refusal("hippocorpus", path)
    assert message.startswith(f"{path}, line ")
    assert f"{said}. {hippocorpus.REMEDY}" in message


def test_broken_quotes_are_named_by_their_own_line(tmp_path: Path):
    path = write(tmp_path, 'memType,story\nrecalled,Once.\nrecalled,"a"b\nrecalled,Twice.\n')
    assert f"{path}, line 3: " in refusal("hippocorpus", path)


def test_a_byte_that_is_not_utf8_is_found_far_into_a_file(tmp_path: Path):
    before = story_table(*["Once upon a time."] * 2000).encode()
    path = write(tmp_path, before + b"caf\xe9,recalled\n")
    assert f"{path}, line 2002: byte 3 is not UTF-8" in refusal("hippocorpus", path)


# Journals


@pytest.mark.parametrize("topic", journals.QUESTIONS)
def test_a_topic_phrases_drews_question(tmp_path: Path, topic: str):
    text = table(["Answer", f"Answer.t1.{topic}.raw"], *[["I wrote this.", "TRUE"]] * 30)
    asked = {sample.turns[0]["content"] for sample in read("journals", write(tmp_path, text))}
    assert asked == {*journals.QUESTIONS[topic], journals.PLAIN[0]}


def test_an_entry_without_a_topic_answers_a_plain_question(tmp_path: Path):
    text = table(["Answer", "Answer.t1.food.raw"], *[["I wrote this.", "FALSE"]] * 30)
    asked = {sample.turns[0]["content"] for sample in read("journals", write(tmp_path, text))}
    assert asked == set(journals.PLAIN)


def test_feelings_and_labels_reach_no_sample(tmp_path: Path):
    text = table(["Answer", "Answer.f1.afraid.raw", "WorkerId"], ["I wrote this.", "<afraid>", "<worker>"])
    (sample,) = read("journals", write(tmp_path, text))
    assert sample.turns[1]["content"] == "I wrote this."
    assert "<" not in repr(sample)


# Reddit


def test_a_post_is_drews_title_and_adas_text(tmp_path: Path):
    path = write(tmp_path, '{"title": " My week ", "selftext": "It rained.\\n", "author": "<author>"}\n')
    (sample,) = read("reddit", path)
    assert sample == Sample(
        "reddit",
        "narratives:1",
        ({"role": "user", "content": "My week"}, {"role": "assistant", "content": "It rained."}),
    )


@pytest.mark.parametrize("text", ["[removed]", "[deleted]", "", "  ", " [removed]\n"])
def test_a_post_that_is_gone_is_skipped(tmp_path: Path, text: str):
    posts = [{"title": "Gone", "selftext": text}, {"title": "Here", "selftext": "It rained."}]
    samples = read("reddit", write(tmp_path, "\n\n".join(map(json.dumps, posts))))
    assert [sample.origin for sample in samples] == ["narratives:3"]


@pytest.mark.parametrize(
    ("post", "said"),
    [
        ('{"title": "A", "selftext": ', "Expecting value"),
        ('{"selftext": "It rained."}', "'title'"),
        ('{"title": "A"}', "'selftext'"),
        ('["A", "It rained."]', "is no post"),
        ('"A"', "is no post"),
    ],
)
def test_a_broken_post_is_named_by_its_line_and_field(tmp_path: Path, post: str, said: str):
    path = write(tmp_path, '{"title": "A", "selftext": "B"}\n' + post + "\n")
    message = refusal("reddit", path)
    assert message.startswith(f"{path}, line 2: ")
    assert said in message
    assert message.endswith(reddit.REMEDY)


@pytest.mark.parametrize("field", ["title", "selftext"])
def test_a_field_of_a_post_that_is_no_text_is_named(tmp_path: Path, field: str):
    path = write(tmp_path, json.dumps({"title": "A", "selftext": "B", field: None}))
    assert field in refusal("reddit", path).removesuffix(reddit.REMEDY)


def test_the_words_of_a_post_are_not_repeated_in_an_error(tmp_path: Path):
    path = write(tmp_path, b'{"title": "A", "selftext": "my secret caf\xe9"}')
    assert "secret" not in refusal("reddit", path)


def test_a_post_without_a_title_gives_no_silent_drew(tmp_path: Path):
    path = write(tmp_path, '{"title": " ", "selftext": "It rained."}')
    assert all(sample.turns[0]["content"] for sample in read("reddit", path))


# Drew and Ada's conversations


def test_a_conversation_keeps_its_turns_and_drops_what_else_stands_there(tmp_path: Path):
    turns = [
        {"role": "user", "content": "Hello?", "id": 7},
        {"role": "assistant", "content": " Hello.\n"},
        {"role": "user", "content": "And now?"},
        {"role": "assistant", "content": "Now I sew."},
    ]
    (sample,) = read("conversations", write(tmp_path, json.dumps([{"id": 1, "conversations": turns}])))
    assert [turn["content"] for turn in sample.turns] == ["Hello?", " Hello.\n", "And now?", "Now I sew."]
    assert {key for turn in sample.turns for key in turn} == {"role", "content"}
    assert sample.origin == "narratives:0"


@one_folder
@given(texts=st.lists(some_text, min_size=2, max_size=2), ascii_only=st.booleans())
def test_any_words_of_a_conversation_reach_its_sample_unchanged(
    tmp_path: Path, texts: list[str], ascii_only: bool
):
    turns = [{"role": role, "content": text} for role, text in zip(("user", "assistant"), texts, strict=True)]
    path = write(tmp_path, json.dumps([{"conversations": turns}], ensure_ascii=ascii_only))
    (sample,) = read("conversations", path)
    assert list(sample.turns) == turns


def test_broken_json_is_named_by_its_line_and_column(tmp_path: Path):
    path = write(tmp_path, '[\n  {"conversations": []},\n  {"conversations" []}\n]\n')
    message = refusal("conversations", path)
    assert message.startswith(f"{path}, line 3, column 20: Expecting ':' delimiter. ")
    assert message.endswith(conversations.REMEDY)


@pytest.mark.parametrize("content", ['{"conversations": []}', '"text"', "null", "3"])
def test_a_file_that_holds_no_list_is_named(tmp_path: Path, content: str):
    path = write(tmp_path, content)
    assert refusal("conversations", path) == f"{path} holds no list. {conversations.REMEDY}"


@pytest.mark.parametrize(
    "item", ["text", None, [], {}, {"messages": []}, {"conversations": "Hello"}, {"conversations": [{}]}]
)
def test_a_conversation_without_two_turns_is_named_by_its_number(tmp_path: Path, item: object):
    whole = json.loads(talk(("user", "Hello?"), ("assistant", "Hello.")))
    path = write(tmp_path, json.dumps([*whole, item]))
    message = refusal("conversations", path)
    assert message.startswith(f"{path}, conversation 1: field `conversations` must hold two turns or more. ")
    assert message.endswith(conversations.REMEDY)


@pytest.mark.parametrize(
    ("roles", "place", "expected"),
    [
        (["assistant", "user"], 0, "user"),
        (["system", "user", "assistant"], 0, "user"),
        (["user", "user"], 1, "assistant"),
        (["user", "assistant", "assistant"], 2, "user"),
        (["user", "tool"], 1, "assistant"),
    ],
)
def test_turns_out_of_order_are_named_by_their_place(
    tmp_path: Path, roles: list[str], place: int, expected: str
):
    path = write(tmp_path, talk(*((role, "Words.") for role in roles)))
    message = refusal("conversations", path)
    assert message.startswith(f"{path}, conversation 0, turn {place}: field `role` must be {expected!r}. ")


@pytest.mark.parametrize("content", ["", " \n", None, 7, ["Hello."]])
def test_a_turn_without_words_is_named_by_its_place(tmp_path: Path, content: object):
    path = write(tmp_path, talk(("user", "Hello?"), ("assistant", content)))
    message = refusal("conversations", path)
    assert message.startswith(f"{path}, conversation 0, turn 1: field `content` must be text. ")
    assert message.endswith(conversations.REMEDY)


@pytest.mark.parametrize("turn", ["Hello.", None, ["user", "Hello"], {"from": "human", "value": "Hello."}])
def test_a_turn_in_another_form_is_named_by_its_place(tmp_path: Path, turn: object):
    path = write(tmp_path, json.dumps([{"conversations": [turn, turn]}]))
    assert f"{path}, conversation 0, turn 0: field `role`" in refusal("conversations", path)


def test_a_conversation_that_ends_with_drew_never_ends_a_sample_with_him(tmp_path: Path):
    path = write(tmp_path, talk(("user", "Hello?"), ("assistant", "Hello."), ("user", "Bye.")))
    try:
        samples = read("conversations", path)
    except ConfigError:
        samples = []
    assert all(sample.turns[-1]["role"] == "assistant" for sample in samples)


def test_a_byte_order_mark_before_the_conversations_is_no_error(tmp_path: Path):
    text = talk(("user", "Hello?"), ("assistant", "Hello."))
    assert len(read("conversations", write(tmp_path, b"\xef\xbb\xbf" + text.encode()))) == 1


def _remedy(source: str) -> str:
    return {"hippocorpus": hippocorpus.REMEDY, "journals": journals.REMEDY}[source]
