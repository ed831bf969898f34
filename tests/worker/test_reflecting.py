"""Conversations become entries of Ada's own: once, from the conversation alone, and never in silence.

.venv/bin/python -m pytest tests/worker/test_reflecting.py
"""

import time

import pytest
from fake_model import completion

from services.diary import reflections
from services.diary.entry import IndexState, Source
from services.diary.job_names import reflection_job_id
from services.diary.reflections import Reflection, Reflections
from services.errors import DiaryUnavailable, NotFound
from services.worker import alive, tasks

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
    entry = house.ledger.of("ada").get(done.entry_id)
    assert (done.state, entry.text, entry.date) == ("done", "Rain all day, and good talk.", "2026-01-02")
    assert entry.source == Source.REFLECTION
    assert entry.origin == {"turns": TURNS, "reflection": wish.id}
    assert model.asked == [{**REQUEST, "stream": False}]
    assert house.jobs.waits(entry)


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
        assert len(list(house.ledger.every_current())) == 1

    def test_a_worker_is_killed_between_the_entry_and_the_note_that_it_is_written(
        self, house, model, kept, wish: Reflection, monkeypatch: pytest.MonkeyPatch
    ):
        with monkeypatch.context() as patch:
            patch.setattr(Reflections, "mark_done", lambda *_: None)
            reflect(house, wish)
        model.body = completion("Something else entirely.")
        reflect(house, wish)
        assert [entry.text for entry in house.ledger.every_current()] == ["A quiet day."]
        assert kept.get("ada", wish.id).state == "done"
        assert len(model.asked) == 1

    def test_an_entry_that_was_removed_does_not_come_back(self, house, model, kept, wish: Reflection):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Reflections, "mark_done", lambda *_: None)
            reflect(house, wish)
        [entry] = house.ledger.every_current()
        house.ledger.of("ada").remove(entry.id)
        reflect(house, wish)
        with pytest.raises(NotFound):
            house.ledger.of("ada").get(entry.id)


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
        assert list(house.ledger.every_current()) == []

    def test_an_answer_without_anything_new_is_no_entry(self, house, model, kept, wish: Reflection):
        said = "We walked along the prom until the lamps came on and the rain stopped."
        house.note(said)
        model.body = completion(said)
        reflect(house, wish)
        done = kept.get("ada", wish.id)
        assert (done.state, done.entry_id) == ("done", None)
        assert "already" in done.reason

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
