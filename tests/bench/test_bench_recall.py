"""The bench of recall: a file in, a table and a report out, by Ada's real pipeline and the real MiniLM.

.venv/bin/python -m pytest tests/bench/test_bench_recall.py
"""

import json
from pathlib import Path
from typing import Any

import pytest
from compass import Compass
from locomo_file import read

from services.bench import locomo_diary, recall
from services.bench.locomo import Session, Turn
from services.diary.index.chunking import chunks


def run(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    monkeypatch.setattr("sys.argv", ["recall", *map(str, arguments)])
    return recall.main()


def test_a_file_gives_a_table_and_a_report(
    file: Path, conversation: dict[str, Any], tmp_path: Path, monkeypatch, capsys
):
    read(file, conversation)  # writes it
    out = tmp_path / "bench" / "recall.json"
    assert run(monkeypatch, file, "--out", out) == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    assert list(report) == [
        "BM25",
        "MiniLM",
        "both by ranks",
        "both by min-max",
        "min-max and previous turn",
        "Ada",
    ]
    for retriever in report.values():
        assert retriever["recall@10"] == 100.0  # there are seven turns
        assert retriever["categories"]["single-hop"] == {"recall@5": 100.0, "recall@10": 100.0, "n": 1}
        assert retriever["conversations"]["conv-x"]["n"] == 3
    assert report["Ada"]["categories"]["temporal"]["recall@5"] == 100.0
    assert 0 < report["Ada"]["p50_ms"] <= report["Ada"]["p95_ms"]
    printed = capsys.readouterr().out
    assert "multi-hop, n=1" in printed
    assert "below BM25" in printed
    assert str(out) in printed


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "can't be read: No such file"),
        ("[]", "is an empty list"),
        ('{"qa": []}', '"conversation" should be dict and is missing: is this a LoCoMo file?'),
    ],
)
def test_a_wrong_file_is_said_and_nothing_written(
    file: Path, tmp_path: Path, content: str | None, complaint: str, monkeypatch, capsys
):
    if content is not None:
        file.write_text(content, encoding="utf-8")
    assert run(monkeypatch, file, "--out", tmp_path / "out.json") == 1
    assert complaint in capsys.readouterr().err
    assert not (tmp_path / "out.json").exists()


def test_without_a_file_it_says_what_to_name(monkeypatch, capsys):
    assert run(monkeypatch) == 1
    assert "name a LoCoMo file: make bench-recall FILE=" in capsys.readouterr().err


def test_a_file_without_questions_is_refused(file: Path, conversation: dict[str, Any], monkeypatch, capsys):
    conversation["qa"] = []
    read(file, conversation)
    assert run(monkeypatch, file) == 1
    assert "has no question with evidence" in capsys.readouterr().err


def test_recall_is_the_part_of_the_evidence_that_is_found(file: Path, conversation: dict[str, Any]):
    (loaded,) = read(file, conversation)
    question = loaded.questions[2]
    assert recall._result(loaded, question, ["D1:1"]).recall == (0.5, 0.5)
    late = ["D1:2"] * 5 + ["D1:1", "D2:1"]
    assert recall._result(loaded, question, late).recall == (0.0, 1.0)


def test_conversations_do_not_see_each_other(file: Path, conversation: dict[str, Any]):
    """Twice the same conversation, each in its own diary: each finds as much as it does alone."""
    alone = recall.measure(read(file, [conversation]), Compass())["Ada"]
    twice = recall.measure(read(file, [conversation, conversation | {"sample_id": "conv-y"}]), Compass())[
        "Ada"
    ]
    assert twice["conversations"]["conv-y"] == alone["conversations"]["conv-x"]
    assert twice["recall@5"] == alone["recall@5"]


def test_falling_below_bm25_is_said():
    def report(temporal: float) -> dict[str, Any]:
        return {"categories": {"temporal": {"recall@5": temporal, "recall@10": 60.0}}}

    assert recall._below_bm25({"BM25": report(50), "Ada": report(49)}) == "below BM25: temporal at 5"
    assert recall._below_bm25({"BM25": report(50), "Ada": report(50)}) == "below BM25 in no category"


def test_a_turn_that_is_more_than_one_chunk_is_still_one_turn(file: Path, conversation: dict[str, Any]):
    (loaded,) = read(file, conversation)
    long = Turn("D1:2", "Piet", "How many? " * 200, "")
    first, _, *rest = loaded.sessions[0].turns
    session = Session(1, "", loaded.sessions[0].at, [first, long, *rest])
    places = [turn.id for turn in locomo_diary._turn_of_each_chunk(session)]
    assert places == ["D1:1", *["D1:2"] * (len(places) - 3), "D1:3", "D1:4"]
    assert len(places) == len(chunks(locomo_diary._text(session.turns))) > 5
