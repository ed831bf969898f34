"""Conversations become entries of Ada's own: once, from the conversation alone, and never in silence.

.venv/bin/python -m pytest tests/worker/test_reflection_handler.py
"""

import json
import time

import pytest
from fake_model import completion
from rq.timeouts import JobTimeoutException
from sqlalchemy import text

from services.diary.entry import EntryDraft, IndexState, Source
from services.diary.job_ids import reflection_job_id
from services.diary.ledger.owner_ledger import OwnerLedger
from services.diary.ledger.persona_record import PersonaRecord
from services.diary.reflection.reflections import INTERRUPTED, Reflection, Reflections
from services.errors import DiaryUnavailable, LedgerFull, NotFound
from services.worker import tasks

TURNS = [{"role": "user", "content": "It rained."}, {"role": "assistant", "content": "All day, here too."}]
REQUEST = {"model": "ada", "messages": [*TURNS, {"role": "user", "content": "Write."}], "max_tokens": 200}


@pytest.fixture
def reflections(harness) -> Reflections:
    return Reflections(harness.ledger)


@pytest.fixture
def reflection(reflections: Reflections) -> Reflection:
    return reflections.add("ada", TURNS, 2, REQUEST, "2026-01-02")


def reflect(harness, reflection: Reflection) -> None:
    tasks.reflect(reflection.owner, reflection.id)


def test_what_ada_writes_becomes_an_entry_with_the_turns_it_came_from(
    harness, model, reflections, reflection: Reflection
):
    model.body = completion("<think>\nHm.\n</think>\n\nRain all day, and good talk.<|im_end|>")
    reflect(harness, reflection)
    done = reflections.get("ada", reflection.id)
    entry = harness.ledger.for_owner("ada").get(done.entry_id)
    assert (done.state, entry.text, entry.date) == ("done", "Rain all day, and good talk.", "2026-01-02")
    assert entry.source == Source.REFLECTION
    assert entry.origin == {"turns": TURNS, "reflection": reflection.id}
    assert model.requests == [{**REQUEST, "stream": False}]
    assert harness.jobs.is_pending(entry)


def test_a_queued_reflection_ends_as_an_indexed_entry(harness, until, reflection: Reflection):
    name = harness.jobs.submit_reflection("ada", reflection.id)
    assert harness.jobs.report("ada", name).status == "queued"
    with harness.running():
        until(lambda: harness.jobs.report("ada", name).status == "finished")
        until(harness.all_indexed)
    report = harness.jobs.report("ada", name)
    assert harness.indexed() == [(report.entry_id, 1)]


def test_a_reflection_that_was_never_queued_is_found_by_the_relay(
    harness, until, reflections, reflection: Reflection
):
    with harness.running():
        until(lambda: reflections.get("ada", reflection.id).state == "done")


def test_the_worker_shows_progress_while_the_model_answers(harness, model, reflection: Reflection):
    harness.build(handlers={"heartbeat_s": 0.01})
    model.pause_s = 0.3
    reflect(harness, reflection)
    heartbeats = harness.progress_calls
    assert heartbeats >= 2
    time.sleep(0.1)
    assert harness.progress_calls == heartbeats, "they continue after the job"


class TestNeverTwice:
    def test_the_job_is_done_again(self, harness, model, reflections, reflection: Reflection):
        reflect(harness, reflection)
        reflect(harness, reflection)
        assert len(model.requests) == 1
        assert len(list(harness.ledger.iter_current())) == 1

    def test_a_worker_is_killed_between_the_entry_and_the_note_that_it_is_written(
        self, harness, model, reflections, reflection: Reflection, monkeypatch: pytest.MonkeyPatch
    ):
        with monkeypatch.context() as patch:
            patch.setattr(Reflections, "mark_done", lambda *_: None)
            reflect(harness, reflection)
        model.body = completion("Something else entirely.")
        reflect(harness, reflection)
        assert [entry.text for entry in harness.ledger.iter_current()] == ["A quiet day."]
        assert reflections.get("ada", reflection.id).state == "done"
        assert len(model.requests) == 1

    def test_an_entry_that_was_removed_does_not_come_back(
        self, harness, model, reflections, reflection: Reflection
    ):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Reflections, "mark_done", lambda *_: None)
            reflect(harness, reflection)
        [entry] = harness.ledger.iter_current()
        harness.ledger.for_owner("ada").remove(entry.id)
        reflect(harness, reflection)
        with pytest.raises(NotFound):
            harness.ledger.for_owner("ada").get(entry.id)


class TestWhenItCannotBeDone:
    def test_a_model_that_is_away_is_asked_again_later(
        self, harness, model, reflections, reflection: Reflection
    ):
        model.status = 503
        reflect(harness, reflection)
        deferred = reflections.get("ada", reflection.id)
        assert (deferred.state, deferred.attempts) == ("queued", 1)
        assert deferred.reason == "the model server answered 503"
        assert reflections.due(9) == []

    def test_after_six_attempts_it_has_failed_and_can_be_retried(
        self, no_backoff: None, harness, model, reflections, reflection: Reflection
    ):
        model.status = 503
        for _ in range(6):
            reflect(harness, reflection)
        name = reflection_job_id("ada", reflection.id)
        [report] = harness.jobs.list("ada", "failed").jobs
        assert (report.id, report.kind, report.reason) == (
            name,
            "reflection",
            "the model server answered 503",
        )
        model.status = 200
        assert harness.jobs.retry("ada", name).status == "queued"
        reflect(harness, reflection)
        assert harness.jobs.report("ada", name).status == "finished"

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (completion("It was a dark and", "length"), "cut off"),
            (completion(""), "empty"),
            (completion("x" * 40_000), "bytes"),
        ],
    )
    def test_an_answer_that_is_no_entry_fails_with_its_reason(
        self, harness, model, reflections, reflection: Reflection, body: bytes, reason: str
    ):
        model.body = body
        reflect(harness, reflection)
        failed = reflections.get("ada", reflection.id)
        assert failed.state == "failed"
        assert reason in failed.reason
        assert list(harness.ledger.iter_current()) == []

    def test_an_answer_without_anything_new_is_no_entry(
        self, harness, model, reflections, reflection: Reflection
    ):
        sentence = "We walked along the prom until the lamps came on and the rain stopped."
        harness.add(sentence)
        model.body = completion(sentence)
        reflect(harness, reflection)
        done = reflections.get("ada", reflection.id)
        assert (done.state, done.entry_id) == ("done", None)
        assert "already" in done.reason

    def test_what_nobody_said_is_never_quoted(self, harness, model, reflections):
        system = "You are Ada, a bookbinder with a small workshop in Galway."
        messages = [{"role": "system", "content": system}, *REQUEST["messages"]]
        reflection = reflections.add("ada", TURNS, 2, {**REQUEST, "messages": messages}, "2026-01-02")
        model.body = completion(f"It rained. {system} We talked of it.")
        reflect(harness, reflection)
        [entry] = harness.ledger.iter_current()
        assert entry.text == "It rained. We talked of it."

    def test_a_reflection_that_is_gone_is_no_trouble(self, harness, model):
        tasks.reflect("ada", "0" * 64)
        assert model.requests == []

    def test_while_the_queue_is_away_the_entry_is_kept_and_waits(
        self, harness, valkey, reflections, reflection: Reflection
    ):
        valkey.terminate()
        reflect(harness, reflection)
        assert reflections.get("ada", reflection.id).state == "done"
        assert [entry.state for entry in harness.ledger.due(9)] == [IndexState.QUEUED]

    def test_while_the_ledger_is_away_it_stays_queued(
        self, harness, reflections, reflection: Reflection, monkeypatch
    ):
        def away(*_: object) -> None:
            raise DiaryUnavailable("the ledger is away")

        with monkeypatch.context() as patch:
            patch.setattr(Reflections, "begin", away)
            reflect(harness, reflection)
        assert reflections.get("ada", reflection.id) == reflection


def test_while_another_persona_is_served_it_waits_and_nobody_is_asked(
    harness, model, reflections, reflection: Reflection
):
    harness.ledger.for_owner("ada").add(EntryDraft(text="It rained.", date="2026-01-02"))
    record = PersonaRecord(harness.ledger)
    record.register("ada", "Ada", shared=False)
    record.register("tomás", "Tomás", shared=False)
    reflect(harness, reflection)
    waits = reflections.get("ada", reflection.id)
    assert (waits.state, waits.attempts) == ("queued", 1)
    assert waits.reason.startswith("the diary is Ada's and Tomás is served")
    assert model.requests == []


SECRET = "the heron's name is Augustine"
ODD = {
    "a list as content": {"choices": [{"finish_reason": "stop", "message": {"content": [SECRET]}}]},
    "an object as content": {"choices": [{"finish_reason": "stop", "message": {"content": {"a": SECRET}}}]},
    "a number as content": {"choices": [{"finish_reason": "stop", "message": {"content": 7}}]},
    "no message": {"choices": [{"finish_reason": "stop", "message": None}]},
    "an object as choices": {"choices": {"0": SECRET}},
    "a list": [SECRET],
    "a text": SECRET,
    "an odd reason": {"choices": [{"finish_reason": [SECRET * 99], "message": {"content": SECRET}}]},
}
BROKEN = {
    "nested too deep": b"[" * 100_000,
    "no UTF-8": b'{"choices": "\xff"}',
    "half a character": completion("x").replace(b'"x"', b'"The heron\\ud800"'),
    "too long": b'{"choices": "' + b"x" * (5 << 20) + b'"}',
}


class TestOddAnswers:
    """Whatever a model server answers, the attempt is counted and nothing of it is logged."""

    @pytest.mark.parametrize("body", [*ODD.values(), *BROKEN.values()], ids=[*ODD, *BROKEN])
    def test_an_attempt_is_counted_and_told_by_its_job(
        self, harness, model, reflections, reflection, log, body: object
    ):
        model.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        reflect(harness, reflection)
        after = reflections.get("ada", reflection.id)
        assert after.attempts == 1
        assert after.state in ("queued", "failed")
        assert after.reason
        assert reflections.due(9) == [], "it would be asked again at once"
        [job] = harness.jobs.list("ada", after.state).jobs
        assert (job.attempts, job.reason) == (1, after.reason)
        assert "heron" not in log.text
        assert list(harness.ledger.iter_current()) == []

    def test_an_entry_that_is_too_long_is_refused_without_quoting_it(
        self, harness, model, reflections, reflection, log
    ):
        model.body = completion(f"{SECRET}. " * 2000)
        reflect(harness, reflection)
        assert reflections.get("ada", reflection.id).reason.startswith("text: ")
        assert "heron" not in reflections.get("ada", reflection.id).reason
        assert "heron" not in log.text


class TestAttempts:
    def test_one_that_always_ends_its_worker_is_not_tried_for_ever(
        self, harness, reflections, reflection: Reflection
    ):
        for _ in range(6):
            assert reflections.begin("ada", reflection.id) is not None  # and then the process is killed
            assert reflections.due(9) == []
        reflect(harness, reflection)
        failed = reflections.get("ada", reflection.id)
        assert (failed.state, failed.reason) == ("failed", INTERRUPTED)

    def test_one_that_takes_too_long_is_counted(
        self, harness, reflections, reflection: Reflection, monkeypatch
    ):
        monkeypatch.setattr(harness.client, "complete", raising(JobTimeoutException("over 900 seconds")))
        reflect(harness, reflection)
        assert (reflections.get("ada", reflection.id).attempts, reflections.due(9)) == (1, [])

    def test_an_entry_that_finds_no_room_on_the_disk_is_counted(
        self, harness, reflections, reflection, monkeypatch
    ):
        monkeypatch.setattr(OwnerLedger, "add", raising(LedgerFull("the ledger's disk is full")))
        reflect(harness, reflection)
        deferred = reflections.get("ada", reflection.id)
        assert (deferred.attempts, deferred.reason) == (1, "the ledger's disk is full")

    def test_one_that_raises_keeps_no_other_waiting(
        self, harness, until, reflections, log, monkeypatch: pytest.MonkeyPatch
    ):
        harness.build(outbox={"interval_s": 0.05})
        bad = reflections.add("ada", [{"role": "user", "content": SECRET}], 1, REQUEST, "2026-01-02")
        good = [reflections.add(owner, TURNS, 2, REQUEST, "2026-01-02") for owner in ("ada", "drew")]
        complete = harness.client.complete
        first = iter([RuntimeError(SECRET)])

        def picky(request: dict) -> str:
            for error in first:
                raise error
            return complete(request)

        monkeypatch.setattr(harness.client, "complete", picky)
        reflect(harness, bad)
        with harness.running():
            until(lambda: all(reflections.get(row.owner, row.id).state == "done" for row in good))
        after = reflections.get("ada", bad.id)
        assert (after.state, after.attempts) == ("queued", 1)
        assert after.reason == "an unforeseen error: RuntimeError"
        assert "RuntimeError" in log.text
        assert "heron" not in log.text

    def test_a_row_that_cannot_be_read_is_counted_and_stands_in_nobodys_way(
        self, harness, until, reflections, reflection: Reflection
    ):
        with harness.ledger.transaction() as connection:
            connection.execute(text("UPDATE reflections SET turns = '{'"))
        good = reflections.add("drew", TURNS, 2, REQUEST, "2026-01-02")
        with harness.running():
            until(lambda: reflections.get("drew", good.id).state == "done")
        with harness.ledger.reading() as connection:
            attempts = connection.execute(text("SELECT attempts FROM reflections WHERE owner = 'ada'"))
            assert attempts.scalar() == 1


def raising(error: Exception):
    def call(*_: object, **__: object) -> None:
        raise error

    return call
