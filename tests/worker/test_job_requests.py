"""The worker's lines name the requests that queued the jobs, and quote nobody.

.venv/bin/python -m pytest tests/worker/test_job_requests.py
"""

from services.diary.reflection.reflections import Reflections
from services.tracing import request_id

TURNS = [{"role": "user", "content": "It rained."}]


def accept(harness, name: str, text: str = "one") -> None:
    """As the orchestrator does it in a request of this id."""
    token = request_id.set(name)
    harness.accept(text)
    request_id.reset(token)


def about_indexing(log) -> list[dict]:
    return [line for line in log.lines("ada.worker") if line["message"].startswith("indexed")]


def test_the_line_about_a_job_names_the_request_that_queued_it(harness, until, log):
    accept(harness, "req-1")
    with harness.running():
        until(lambda: about_indexing(log))
    [line] = about_indexing(log)
    assert (line["message"], line["request_id"]) == ("indexed 1 entries", "req-1")
    assert request_id.get() == ""


def test_what_was_done_in_the_same_batch_is_named_too(harness, until, log):
    for name in ("req-1", "req-2", "req-3"):
        accept(harness, name, f"text of {name}")
    with harness.running():
        until(harness.all_indexed)
        until(lambda: about_indexing(log))
    [line] = about_indexing(log)
    others = line["message"].removeprefix("indexed 3 entries, also for ").split(", ")
    assert sorted([line["request_id"], *others]) == ["req-1", "req-2", "req-3"]


def test_a_job_that_nobody_asked_for_names_nobody(harness, until, log):
    harness.accept("one")
    with harness.running():
        until(lambda: about_indexing(log))
    assert "request_id" not in about_indexing(log)[0]


def test_what_vllm_says_to_a_conversation_is_in_the_ledger_and_not_in_the_log(harness, model, log):
    reflections = Reflections(harness.ledger)
    reflection = reflections.add("ada", TURNS, 1, {"model": "ada", "messages": TURNS}, "2026-01-02")
    model.status, model.body = 400, b'{"error": {"message": "It rained. is no prompt"}}'
    harness.handlers.reflect("ada", reflection.id)
    assert "It rained." in (reflections.get("ada", reflection.id).reason or "")
    assert "EntryRejected" in log.text
    assert "rained" not in log.text
