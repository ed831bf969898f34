"""`python -m trainer.synthetic`, whole, against a server over real HTTP.

.venv/bin/python -m pytest tests/trainer/synthetic/test_synthetic_command.py
"""

import json
import re
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest
from model_server import ModelServer, completion, role
from starlette.responses import Response

from trainer.config import TrainingConfig
from trainer.data.source import Rejections
from trainer.data.sources import conversations
from trainer.synthetic.__main__ import main

ROOT = Path(__file__).parents[3]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out.json"


@pytest.fixture
def author(server: ModelServer, out: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    """Runs the command in this process; returns exit code, table and complaint."""

    def run(*arguments: str) -> tuple[int, dict[str, int], str]:
        monkeypatch.setattr(sys, "argv", ["author", *paths(server, out), *arguments])
        code = main()
        output = capsys.readouterr()
        return code, table(output.out), output.err

    return run


def paths(server: ModelServer, out: Path) -> list[str]:
    return ["--out", str(out), "--url", server.url]


def start(server: ModelServer, out: Path, *arguments: str, **more) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "trainer.synthetic", *paths(server, out), *arguments]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, **more)


def table(text: str) -> dict[str, int]:
    rows = re.findall(r"^ *(.+?) +([\d,]+)$", text, re.MULTILINE)
    return {name: int(count.replace(",", "")) for name, count in rows}


def read(out: Path) -> list[dict]:
    return json.loads(out.read_text(encoding="utf-8"))


def lines(out: Path) -> list[dict]:
    """What is on disk of a run that goes on."""
    path = out.with_name("out.json.part.jsonl")
    content = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in content.splitlines(keepends=True)[1:] if line.endswith("\n")]


def hers(item: dict) -> str:
    return " ".join(turn["content"] for turn in item["conversations"] if turn["role"] == "assistant")


def test_as_many_conversations_as_asked_and_each_keeps_to_its_plan(author, out: Path, server: ModelServer):
    code, counts, message = author("--number", "12")
    items = read(out)
    assert (code, message) == (0, "")
    assert (counts["asked"], counts["written"], counts["given up"]) == (12, 12, 0)
    assert [item["plan"]["number"] for item in items] == list(range(12))
    for item in items:
        turns = item["conversations"]
        assert [turn["role"] for turn in turns] == ["user", "assistant"] * item["plan"]["exchanges"]
        assert (item["model"], item["seed"]) == ("novelist", 3407)
        assert item["topic"]
        assert item["mood"]
    requests = Counter(map(role, server.requests))
    exchanges = sum(item["plan"]["exchanges"] for item in items)
    assert requests == {"drew": exchanges, "ada": exchanges, "judge": 12}
    assert counts["tokens read"] == 100 * len(server.requests)


def test_the_trainer_reads_what_was_written(author, out: Path):
    author("--number", "5")
    rejections = Rejections(refuse_bad_rows=True)
    samples = list(conversations.read_samples(TrainingConfig(generated_data_path=out), rejections))
    assert [list(sample.turns) for sample in samples] == [item["conversations"] for item in read(out)]
    assert not rejections.reasons


def test_prompts_hold_the_facts_the_mood_and_the_talk_so_far(author, out: Path, server: ModelServer, persona):
    author("--number", "8", "--concurrency", "1")
    for body in server.requests:
        prompt = body["messages"][0]["content"]
        if role(body) == "ada":
            assert persona.system_text in prompt
            assert "My father, Tom," in prompt
            assert [turn["role"] for turn in body["messages"]][-1] == "user"
        if role(body) == "drew":
            assert "at a pub quiz in Galway" in prompt
    items = {hers(item): item for item in read(out)}
    judged = [body["messages"][0]["content"] for body in server.requests if role(body) == "judge"]
    for message, prompt in zip(items, judged, strict=True):
        assert all(part in prompt for part in message.split(". "))


def test_new_ones_are_added_behind_the_old_ones_and_differ(author, out: Path):
    own = [{"conversations": [{"role": "user", "content": "Hm?"}, {"role": "assistant", "content": "Aye."}]}]
    out.write_text(json.dumps(own))
    author("--number", "3")
    author("--number", "2")
    items = read(out)
    assert items[:1] == own
    assert [item["plan"]["number"] for item in items[1:]] == [0, 1, 2, 3, 4]


def spoil(server: ModelServer, words: str, *, whose: str = "ada", times: int = 1) -> None:
    """The first so many lines of a speaker are these words."""
    remaining = [words] * times

    def answer(body: dict) -> str:
        return remaining.pop() if remaining and role(body) == whose else server.write(body)

    server.answer = answer


def lost() -> Response:
    """What a proxy says when there is no server behind it."""
    return Response("", status_code=502, headers={"retry-after-ms": "1"})


LONG_ENOUGH = " and so it went on" * 12


@pytest.mark.parametrize(
    ("whose", "words", "reason"),
    [
        (
            "ada",
            "My father, Jim, was a postman" + LONG_ENOUGH,
            "contradicts the backstory (name of the father)",
        ),
        ("ada", "I was born in Sligo in 1990" + LONG_ENOUGH, "contradicts the backstory (year of birth)"),
        (
            "drew",
            "How is your brother Declan?" + LONG_ENOUGH[:40],
            "contradicts the backstory (name of the brother)",
        ),
        ("ada", "As an AI, I have no father" + LONG_ENOUGH, "speaks as an AI"),
        ("ada", "Dear [name]" + LONG_ENOUGH, "a placeholder left open"),
        ("ada", "Drew: And then?", "empty"),
        ("ada", "Aye.", "too short for its plan"),
        ("ada", LONG_ENOUGH * 20, "too long for its plan"),
        ("judge", "Yes, 3.", "contradicts the backstory (judge)"),
        ("judge", "Perhaps.", "no yes or no from the judge"),
    ],
)
def test_a_bad_line_throws_its_conversation_away_and_it_is_written_again(
    author, out: Path, server: ModelServer, whose: str, words: str, reason: str
):
    spoil(server, words, whose=whose)
    code, counts, _ = author("--number", "2", "--concurrency", "1")
    assert code == 0
    assert (counts["written"], counts["thrown away"], counts[reason]) == (2, 1, 1)
    assert words not in out.read_text(encoding="utf-8")
    assert [item["plan"]["number"] for item in read(out)] == [0, 1]


def test_an_answer_that_is_cut_off_is_thrown_away(author, out: Path, server: ModelServer):
    truncated = [completion("I was swim", "length")]
    server.answer = lambda body: truncated.pop() if truncated else server.write(body)
    assert author("--number", "1")[1]["cut off"] == 1
    assert "I was swim" not in out.read_text()


def test_what_is_bad_every_time_is_given_up_and_counted(author, out: Path, server: ModelServer):
    spoil(server, "As an AI, I swim" + LONG_ENOUGH, times=4)
    code, counts, _ = author("--number", "3", "--concurrency", "1")
    assert code == 0
    assert (counts["written"], counts["given up"], counts["speaks as an AI"]) == (2, 1, 4)
    assert [item["plan"]["number"] for item in read(out)] == [1, 2]


def test_what_was_given_up_is_not_tried_again_by_a_run_that_goes_on(author, out: Path, server: ModelServer):
    spoil(server, "As an AI, I swim" + LONG_ENOUGH, times=4)
    spoiled = server.answer
    server.answer = lambda body: spoiled(body) if len(server.requests) < 20 else lost()
    assert author("--number", "5", "--concurrency", "1")[0] == 2
    server.answer = server.write
    _, counts, _ = author("--number", "5", "--concurrency", "1")
    assert (counts["given up"], counts["thrown away"]) == (1, 0)
    assert [item["plan"]["number"] for item in read(out)] == [1, 2, 3, 4]


def test_when_all_are_given_up_no_file_is_made(author, out: Path, server: ModelServer):
    spoil(server, "As an AI, I swim" + LONG_ENOUGH, times=100)
    code, counts, _ = author("--number", "2")
    assert (code, counts["written"], counts["given up"]) == (0, 0, 2)
    assert list(out.parent.iterdir()) == []


def test_near_duplicates_are_thrown_away_also_against_what_the_file_held(author, out, server: ModelServer):
    same = " ".join(f"same{number}" for number in range(45))
    server.answer = lambda body: same if role(body) == "ada" else server.write(body)
    assert author("--number", "1")[1]["written"] == 1
    code, counts, _ = author("--number", "2", "--seed", "5")
    assert (code, counts["written"], counts["given up"]) == (0, 0, 2)
    assert counts["near-duplicate"] == 8
    assert sum(role(body) == "judge" for body in server.requests) == 1  # nobody judges what is thrown away
    assert len(read(out)) == 1


def test_two_of_a_kind_written_at_once_are_one(author, out: Path, server: ModelServer):
    same = " ".join(f"same{number}" for number in range(45))
    server.answer = lambda body: same if role(body) == "ada" else server.write(body)
    server.delay = 0.02
    _, counts, _ = author("--number", "4", "--concurrency", "4")
    assert counts["written"] == len(read(out)) == 1


def test_without_a_judge_nobody_is_asked_and_another_judge_can_be(author, out: Path, server: ModelServer):
    author("--number", "2", "--no-judge")
    assert "judge" not in map(role, server.requests)
    author("--number", "2", "--judge-model", "other", "--model", "novelist")
    judges = {body["model"] for body in server.requests if role(body) == "judge"}
    assert judges == {"other"}


def test_another_persona_speaks_under_its_own_names(
    author, out: Path, server: ModelServer, someone_else: Path
):
    author("--number", "4", "--persona", str(someone_else))
    prompts = " ".join(body["messages"][0]["content"] for body in server.requests)
    assert "You are Jonas, a lighthouse keeper" in prompts
    assert not re.search(r"\b(?:Ada|Drew)\b", prompts)
    assert len(read(out)) == 4


# Ended in the middle


def test_kills_in_the_middle_lose_nothing_and_double_nothing(
    tmp_path: Path, server: ModelServer, author, out
):
    server.delay = 0.01
    number, numbers = 40, {}
    for goal in (3, 12, 22):
        process = start(server, out, "--number", str(number))
        try:
            end = time.monotonic() + 60
            while len(lines(out)) < goal and process.poll() is None and time.monotonic() < end:
                time.sleep(0.01)
        finally:
            process.kill()
            process.communicate()
        assert process.returncode == -9
        assert not out.exists()
        finished = {line["number"]: line["item"] for line in lines(out)}
        assert goal <= len(finished) < number
        assert {**finished, **numbers} == finished
        numbers = finished
    server.delay = 0
    code, counts, _ = author("--number", str(number))
    assert (code, counts["written before"]) == (0, len(numbers))
    assert counts["written"] == number - len(numbers)
    items = read(out)
    assert [item["plan"]["number"] for item in items] == list(range(number))
    assert all(items[position] == item for position, item in numbers.items())
    assert list(tmp_path.iterdir()) == [out]

    straight = tmp_path / "straight.json"
    author("--number", str(number), "--out", str(straight))
    assert [item["plan"] for item in items] == [item["plan"] for item in read(straight)]


def test_ctrl_c_is_one_line_and_keeps_what_was_finished(server: ModelServer, out: Path):
    server.delay = 0.01
    process = start(server, out, "--number", "50")
    try:
        while not lines(out) and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        printed, message = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert message == "author: interrupted; what was finished is kept, the same command goes on\n"
    assert printed == ""
    assert lines(out)


def test_a_full_disk_is_one_line_and_keeps_what_was_finished(server: ModelServer, out: Path, author):
    def small_disk() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))

    process = start(server, out, "--number", "30", preexec_fn=small_disk)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 2
    (line,) = message.splitlines()
    assert line.startswith(f"author: {out}.part.jsonl can't be written (")
    finished = {item["number"]: item["item"] for item in lines(out)}
    assert finished
    author("--number", "30")
    items = read(out)
    assert [item["plan"]["number"] for item in items] == list(range(30))
    assert all(items[position] == item for position, item in finished.items())


def test_a_server_that_goes_away_is_one_line_and_keeps_what_was_finished(
    author, out: Path, server: ModelServer
):
    server.answer = lambda body: server.write(body) if len(server.requests) < 30 else lost()
    code, _, message = author("--number", "20")
    assert code == 2
    assert message == f"author: {server.url} fails with 502: see the server's log\n"
    finished = len(lines(out))
    assert 0 < finished < 20
    server.answer = server.write
    assert author("--number", "20")[1]["written before"] == finished
    assert len(read(out)) == 20


# Mistakes


def mistake(author, *arguments: str) -> str:
    code, _, message = author("--number", "1", *arguments)
    assert code == 2
    (line,) = message.splitlines()
    return line


def test_no_server_is_one_line_and_leaves_nothing(author, out: Path, port: int):
    message = mistake(author, "--url", f"http://127.0.0.1:{port}/v1")
    assert message == f"author: no server answers at http://127.0.0.1:{port}/v1: start it, or set --url"
    assert list(out.parent.iterdir()) == []


def test_a_key_that_is_not_there_is_one_line(author, monkeypatch: pytest.MonkeyPatch, server: ModelServer):
    assert "--key-env NO_SUCH_KEY: no such variable is set" in mistake(author, "--key-env", "NO_SUCH_KEY")
    monkeypatch.setenv("MY_KEY", "secret")
    assert author("--number", "1", "--key-env", "MY_KEY")[0] == 0
    assert server.keys == {"Bearer secret"}


def test_a_server_that_lists_no_model_needs_a_name(author, server: ModelServer):
    server.listed = []
    assert "lists no models: name one with --model" in mistake(author)
    assert author("--number", "1", "--model", "novelist")[0] == 0


def test_a_file_of_another_format_is_told_before_the_server_is_asked(author, out: Path, server: ModelServer):
    out.write_text("{}")
    assert "holds no list" in mistake(author)
    assert server.requests == []


def test_a_persona_without_facts_is_one_line(author, someone_else: Path):
    someone_else.write_text(someone_else.read_text().partition("[[facts]]")[0])
    assert "has no [[facts]]" in mistake(author, "--persona", str(someone_else))


@pytest.mark.parametrize("arguments", [["--number", "0"], ["--number", "some"], ["--concurrency", "-1"], []])
def test_a_number_that_is_none_is_told(arguments: list[str], server: ModelServer, out: Path):
    process = start(server, out, *arguments)
    _, message = process.communicate(timeout=30)
    assert process.returncode == 2
    assert "--number" in message
