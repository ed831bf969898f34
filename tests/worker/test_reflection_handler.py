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
from services.diary.reflection import reflections
from services.diary.reflection.reflections import Reflection, Reflections
from services.errors import DiaryUnavailable, LedgerFull, NotFound
from services.worker import heartbeat as alive
from services.worker import outbox as sweep
from services.worker import tasks

TURNS = [{"role": "user", "content": "It rained."}, {"role": "assistant", "content": "All day, here too."}]
REQUEST = {"model": "ada", "messages": [*TURNS, {"role": "user", "content": "Write."}], "max_tokens": 200}


@pytest.fixture
def kept(house) -> Reflections:
    return Reflections(house.ledger)


@pytest.fixture
def wish(kept: Reflections) -> Reflection:
    return kept.add("ada", TURNS, 2, REQUEST, "2026-01-02")


def reflect(house, wish: Reflection) -> None:
    tasks.reflect(wish.owner, wish.id)


def test_what_ada_writes_becomes_an_entry_with_the_turns_it_came_from(house, model, kept, wish: Reflection):
    model.body = completion("<think>\nHm.\n</think>\n\nRain all day, and good talk.<|im_end|>")
    reflect(house, wish)
    done = kept.get("ada", wish.id)
    entry = house.ledger.for_owner("ada").get(done.entry_id)
    assert (done.state, entry.text, entry.date) == ("done", "Rain all day, and good talk.", "2026-01-02")
    assert entry.source == Source.REFLECTION
    assert entry.origin == {"turns": TURNS, "reflection": wish.id}
    assert model.asked == [{**REQUEST, "stream": False}]
    assert house.jobs.is_pending(entry)


def test_the_whole_way_from_the_queue_into_the_index(house, until, wish: Reflection):
    name = house.jobs.submit_reflection("ada", wish.id)
    assert house.jobs.report("ada", name).status == "queued"
    with house.at_work():
        until(lambda: house.jobs.report("ada", name).status == "finished")
        until(house.all_indexed)
    report = house.jobs.report("ada", name)
    assert house.indexed() == [(report.entry_id, 1)]


def test_a_wish_that_never_came_into_the_queue_is_found_by_the_sweep(house, until, kept, wish: Reflection):
    with house.at_work():
        until(lambda: kept.get("ada", wish.id).state == "done")


def test_the_worker_gives_signs_of_life_while_the_model_thinks(
    house, model, wish: Reflection, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(alive, "EVERY_S", 0.01)
    model.pause_s = 0.3
    reflect(house, wish)
    signs = house.turns
    assert signs >= 2
    time.sleep(0.1)
    assert house.turns == signs, "they go on after the job"


class TestNeverTwice:
    def test_the_job_is_done_again(self, house, model, kept, wish: Reflection):
        reflect(house, wish)
        reflect(house, wish)
        assert len(model.asked) == 1
        assert len(list(house.ledger.iter_current())) == 1

    def test_a_worker_is_killed_between_the_entry_and_the_note_that_it_is_written(
        self, house, model, kept, wish: Reflection, monkeypatch: pytest.MonkeyPatch
    ):
        with monkeypatch.context() as patch:
            patch.setattr(Reflections, "mark_done", lambda *_: None)
            reflect(house, wish)
        model.body = completion("Something else entirely.")
        reflect(house, wish)
        assert [entry.text for entry in house.ledger.iter_current()] == ["A quiet day."]
        assert kept.get("ada", wish.id).state == "done"
        assert len(model.asked) == 1

    def test_an_entry_that_was_removed_does_not_come_back(self, house, model, kept, wish: Reflection):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Reflections, "mark_done", lambda *_: None)
            reflect(house, wish)
        [entry] = house.ledger.iter_current()
        house.ledger.for_owner("ada").remove(entry.id)
        reflect(house, wish)
        with pytest.raises(NotFound):
            house.ledger.for_owner("ada").get(entry.id)


class TestWhenItCannotBeDone:
    def test_a_model_that_is_away_is_asked_again_later(self, house, model, kept, wish: Reflection):
        model.status = 503
        reflect(house, wish)
        put_off = kept.get("ada", wish.id)
        assert (put_off.state, put_off.attempts) == ("queued", 1)
        assert put_off.reason == "the model server answered 503"
        assert kept.due(9) == []

    def test_after_six_attempts_it_has_failed_and_can_be_retried(
        self, house, model, kept, wish: Reflection, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(reflections, "BACKOFF_S", (0,) * 5)
        model.status = 503
        for _ in range(6):
            reflect(house, wish)
        name = reflection_job_id("ada", wish.id)
        [report] = house.jobs.list("ada", "failed").jobs
        assert (report.id, report.kind, report.reason) == (
            name,
            "reflection",
            "the model server answered 503",
        )
        model.status = 200
        assert house.jobs.retry("ada", name).status == "queued"
        reflect(house, wish)
        assert house.jobs.report("ada", name).status == "finished"

    @pytest.mark.parametrize(
        ("body", "reason"),
        [
            (completion("It was a dark and", "length"), "cut off"),
            (completion(""), "empty"),
            (completion("x" * 40_000), "bytes"),
        ],
    )
    def test_an_answer_that_is_no_entry_fails_with_its_reason(
        self, house, model, kept, wish: Reflection, body: bytes, reason: str
    ):
        model.body = body
        reflect(house, wish)
        failed = kept.get("ada", wish.id)
        assert failed.state == "failed"
        assert reason in failed.reason
        assert list(house.ledger.iter_current()) == []

    def test_an_answer_without_anything_new_is_no_entry(self, house, model, kept, wish: Reflection):
        said = "We walked along the prom until the lamps came on and the rain stopped."
        house.note(said)
        model.body = completion(said)
        reflect(house, wish)
        done = kept.get("ada", wish.id)
        assert (done.state, done.entry_id) == ("done", None)
        assert "already" in done.reason

    def test_what_nobody_said_is_never_quoted(self, house, model, kept):
        told = "You are Ada, a bookbinder with a small workshop in Galway."
        messages = [{"role": "system", "content": told}, *REQUEST["messages"]]
        wish = kept.add("ada", TURNS, 2, {**REQUEST, "messages": messages}, "2026-01-02")
        model.body = completion(f"It rained. {told} We talked of it.")
        reflect(house, wish)
        [entry] = house.ledger.iter_current()
        assert entry.text == "It rained. We talked of it."

    def test_a_reflection_that_is_gone_is_no_trouble(self, house, model):
        tasks.reflect("ada", "0" * 64)
        assert model.asked == []

    def test_while_the_queue_is_away_the_entry_is_kept_and_waits(self, house, valkey, kept, wish: Reflection):
        valkey.terminate()
        reflect(house, wish)
        assert kept.get("ada", wish.id).state == "done"
        assert [entry.state for entry in house.ledger.due(9)] == [IndexState.QUEUED]

    def test_while_the_ledger_is_away_it_stays_queued(self, house, kept, wish: Reflection, monkeypatch):
        def away(*_: object) -> None:
            raise DiaryUnavailable("the ledger is away")

        with monkeypatch.context() as patch:
            patch.setattr(Reflections, "begin", away)
            reflect(house, wish)
        assert kept.get("ada", wish.id) == wish


def test_while_another_persona_is_served_it_waits_and_nobody_is_asked(house, model, kept, wish: Reflection):
    house.ledger.for_owner("ada").add(EntryDraft(text="It rained.", date="2026-01-02"))
    record = PersonaRecord(house.ledger)
    record.register("ada", "Ada", shared=False)
    record.register("tomás", "Tomás", shared=False)
    reflect(house, wish)
    waits = kept.get("ada", wish.id)
    assert (waits.state, waits.attempts) == ("queued", 1)
    assert waits.reason.startswith("the diary is Ada's and Tomás is served")
    assert model.asked == []


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
    def test_an_attempt_is_counted_and_told_by_its_job(self, house, model, kept, wish, log, body: object):
        model.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        reflect(house, wish)
        after = kept.get("ada", wish.id)
        assert after.attempts == 1
        assert after.state in ("queued", "failed")
        assert after.reason
        assert kept.due(9) == [], "it would be asked again at once"
        [job] = house.jobs.list("ada", after.state).jobs
        assert (job.attempts, job.reason) == (1, after.reason)
        assert "heron" not in log.text
        assert list(house.ledger.iter_current()) == []

    def test_an_entry_that_is_too_long_is_refused_without_quoting_it(self, house, model, kept, wish, log):
        model.body = completion(f"{SECRET}. " * 2000)
        reflect(house, wish)
        assert kept.get("ada", wish.id).reason.startswith("text: ")
        assert "heron" not in kept.get("ada", wish.id).reason
        assert "heron" not in log.text


class TestAttempts:
    def test_one_that_always_ends_its_worker_is_not_tried_for_ever(self, house, kept, wish: Reflection):
        for _ in range(6):
            assert kept.begin("ada", wish.id) is not None  # and then the process is killed
            assert kept.due(9) == []
        reflect(house, wish)
        failed = kept.get("ada", wish.id)
        assert (failed.state, failed.reason) == ("failed", reflections.INTERRUPTED)

    def test_one_that_takes_too_long_is_counted(self, house, kept, wish: Reflection, monkeypatch):
        monkeypatch.setattr(house.author, "write", raising(JobTimeoutException("over 900 seconds")))
        reflect(house, wish)
        assert (kept.get("ada", wish.id).attempts, kept.due(9)) == (1, [])

    def test_an_entry_that_finds_no_room_on_the_disk_is_counted(self, house, kept, wish, monkeypatch):
        monkeypatch.setattr(OwnerLedger, "add", raising(LedgerFull("the ledger's disk is full")))
        reflect(house, wish)
        put_off = kept.get("ada", wish.id)
        assert (put_off.attempts, put_off.reason) == (1, "the ledger's disk is full")

    def test_one_that_raises_keeps_no_other_waiting(
        self, house, until, kept, log, monkeypatch: pytest.MonkeyPatch
    ):
        monkeypatch.setattr(sweep, "SWEEP_EVERY_S", 0.05)
        bad = kept.add("ada", [{"role": "user", "content": SECRET}], 1, REQUEST, "2026-01-02")
        good = [kept.add(owner, TURNS, 2, REQUEST, "2026-01-02") for owner in ("ada", "drew")]
        write = house.author.write
        first = iter([RuntimeError(SECRET)])

        def picky(request: dict) -> str:
            for error in first:
                raise error
            return write(request)

        monkeypatch.setattr(house.author, "write", picky)
        reflect(house, bad)
        with house.at_work():
            until(lambda: all(kept.get(one.owner, one.id).state == "done" for one in good))
        after = kept.get("ada", bad.id)
        assert (after.state, after.attempts) == ("queued", 1)
        assert after.reason == "an unforeseen error: RuntimeError"
        assert "RuntimeError" in log.text
        assert "heron" not in log.text

    def test_a_row_that_cannot_be_read_is_counted_and_stands_in_nobodys_way(
        self, house, until, kept, wish: Reflection
    ):
        with house.ledger.transaction() as connection:
            connection.execute(text("UPDATE reflections SET turns = '{'"))
        good = kept.add("drew", TURNS, 2, REQUEST, "2026-01-02")
        with house.at_work():
            until(lambda: kept.get("drew", good.id).state == "done")
        with house.ledger.reading() as connection:
            attempts = connection.execute(text("SELECT attempts FROM reflections WHERE owner = 'ada'"))
            assert attempts.scalar() == 1


def raising(error: Exception):
    def call(*_: object, **__: object) -> None:
        raise error

    return call
