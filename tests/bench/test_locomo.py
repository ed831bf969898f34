"""LoCoMo's files, read and checked.

.venv/bin/python -m pytest tests/bench/test_locomo.py
"""

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from locomo_file import read

from services.bench import locomo
from services.errors import ConfigError


def test_one_conversation_is_read_as_a_list_of_one(file: Path, conversation: dict[str, Any]):
    assert read(file, conversation) == read(file, [conversation])


def test_sessions_are_in_their_order_with_their_dates(file: Path, conversation: dict[str, Any]):
    (loaded,) = read(file, conversation)
    assert (loaded.name, [session.number for session in loaded.sessions]) == ("conv-x", [1, 2])
    assert loaded.sessions[0].at == datetime(2023, 5, 8, 13, 56)
    assert [turn.id for turn in loaded.turns] == ["D1:1", "D1:2", "D1:3", "D1:4", "D2:1", "D2:2", "D2:3"]


def test_a_turn_is_one_line(file: Path, conversation: dict[str, Any]):
    (loaded,) = read(file, conversation)
    assert loaded.turns[-1] == locomo.Turn("D2:3", "Nora", "A dentist from Cork.", "a man with a rope")


def test_questions_without_evidence_are_left_out_and_broken_ids_mended(
    file: Path, conversation: dict[str, Any]
):
    (loaded,) = read(file, conversation)
    assert [(q.category, sorted(q.evidence)) for q in loaded.questions] == [
        ("single-hop", ["D1:4"]),
        ("temporal", ["D2:3"]),
        ("multi-hop", ["D1:1", "D2:1"]),
    ]


@pytest.mark.parametrize("evidence", [["D:1:4"], ["D1:04"], ["D1:4"], ["D1:4 D1:4"], ["(D1:4)"]])
def test_an_id_means_its_turn_however_it_is_written(file: Path, conversation: dict[str, Any], evidence):
    conversation["qa"] = [{"question": "?", "evidence": evidence, "category": 5}]
    (loaded,) = read(file, conversation)
    assert loaded.questions == [locomo.Question("?", "adversarial", frozenset({"D1:4"}))]


def without(row: dict[str, Any], *path: str) -> dict[str, Any]:
    """The same, less what is at the path."""
    copy = json.loads(json.dumps(row))
    node = copy
    for key in path[:-1]:
        node = node[int(key)] if isinstance(node, list) else node[key]
    del node[path[-1]]
    return copy


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        (["conversation"], '"conversation" should be dict and is missing'),
        (["qa"], '"qa" should be list and is missing'),
        (["conversation", "session_1_date_time"], '"session_1_date_time" should be str and is missing'),
        (
            ["conversation", "session_1", "0", "text"],
            '"session_1", turn 1: "text" should be str and is missing',
        ),
        (["conversation", "session_1", "2", "dia_id"], '"session_1", turn 3: "dia_id" should be str'),
        (["qa", "1", "question"], '"qa" 2: "question" should be str and is missing'),
        (["qa", "0", "category"], '"qa" 1: "category" should be int and is missing'),
    ],
)
def test_what_is_missing_is_named_with_its_place(
    file: Path, conversation: dict[str, Any], path: list[str], complaint: str
):
    with pytest.raises(ConfigError) as error_info:
        read(file, [conversation, without(conversation, *path)])
    assert f"{file}, conversation 2" in str(error_info.value)
    assert complaint in str(error_info.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ([], "is an empty list"),
        (["text"], "conversation 1 is no object, but str: is this a LoCoMo file?"),
        (7, "conversation 1 is no object, but int"),
        ({"conversation": {}, "qa": []}, 'has no "session_1"'),
        (
            {"conversation": {"session_1": [1], "session_1_date_time": "1:56 pm on 8 May, 2023"}, "qa": []},
            "turn 1 is no object",
        ),
        (
            {"conversation": {"session_1": "x", "session_1_date_time": "1:56 pm on 8 May, 2023"}, "qa": []},
            "is no list of turns",
        ),
    ],
)
def test_what_is_no_locomo_file_is_refused(file: Path, content: Any, complaint: str):
    with pytest.raises(ConfigError) as error_info:
        read(file, content)
    assert complaint in str(error_info.value)


def test_a_date_in_another_form_is_shown_the_right_one(file: Path, conversation: dict[str, Any]):
    conversation["conversation"]["session_1_date_time"] = "2023-05-08"
    with pytest.raises(ConfigError, match=r"has the date '2023-05-08': it should be like \"1:56 pm on 8 May"):
        read(file, conversation)


def test_a_category_that_locomo_does_not_have_is_refused(file: Path, conversation: dict[str, Any]):
    conversation["qa"][0]["category"] = 6
    with pytest.raises(ConfigError, match=r"\"qa\" 1 has the category 6: LoCoMo has \[1, 2, 3, 4, 5\]"):
        read(file, conversation)


def test_what_is_no_json_or_no_file_is_said(file: Path, tmp_path: Path):
    with pytest.raises(ConfigError, match=r"locomo\.json can't be read: No such file"):
        locomo.load(file)
    file.write_text("{", encoding="utf-8")
    with pytest.raises(ConfigError, match="is no JSON"):
        locomo.load(file)
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is no JSON"):
        locomo.load(file)
    with pytest.raises(ConfigError, match="can't be read"):
        locomo.load(tmp_path)
