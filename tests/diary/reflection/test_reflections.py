"""Conversations that Ada writes about: each once, of what is new, and nothing that the diary says already.

.venv/bin/python -m pytest tests/diary/reflection/test_reflections.py
"""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from services.diary.entry import EntryDraft
from services.diary.ledger.ledger import Ledger, LedgerOptions
from services.diary.reflection.reflections import (
    DONE,
    FAILED,
    QUEUED,
    Reflections,
    entry_text,
    ids_of,
)
from services.diary.reflection.repetition import without_repetition
from services.diary.word_ngrams import QUOTATION_WORDS
from services.errors import NotFound

OWNER = "drew"


def turns_of(*texts: str) -> list[dict[str, str]]:
    """Turns, the user's first."""
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]


HELLO = turns_of("Hello", "Hi, Drew.", "It rained.", "All day.")
REQUEST = {"model": "ada"}


@pytest.fixture
def ledger_url(either_ledger_url: str) -> str:
    """These tests run over SQLite and over PostgreSQL."""
    return either_ledger_url


@pytest.fixture
def reflections(ledger: Ledger) -> Reflections:
    return Reflections(ledger)


def due(reflections: Reflections) -> list[str]:
    """The ids of those that may be tried now."""
    return [attempt.id for attempt in reflections.due(10)]


class TestIds:
    def test_a_conversation_is_known_by_its_turns_its_roles_and_its_owner(self):
        ids = ids_of(OWNER, HELLO)
        assert len(set(ids)) == 4
        assert ids_of(OWNER, HELLO[:2]) == ids[:2]
        assert not set(ids) & set(ids_of("somebody else", HELLO))
        swapped = [{**HELLO[0], "role": "assistant"}, *HELLO[1:]]
        assert not set(ids) & set(ids_of(OWNER, swapped))

    def test_where_a_turn_ends_makes_a_difference(self):
        assert ids_of(OWNER, turns_of("ab", "c"))[-1] != ids_of(OWNER, turns_of("a", "bc"))[-1]

    def test_half_a_character_is_no_obstacle(self):
        assert len(ids_of(OWNER, turns_of("\ud800"))[-1]) == 64


class TestTheLedgersPart:
    def test_twice_is_once(self, reflections: Reflections):
        first = reflections.add(OWNER, HELLO, 4, {"model": "ada"}, "2026-11-22")
        again = reflections.add(OWNER, HELLO, 4, {"model": "other"}, "2026-11-23")
        assert first == again
        assert (first.state, first.turns, first.date, first.attempts) == (QUEUED, HELLO, "2026-11-22", 0)
        assert due(reflections) == [first.id]

    def test_of_a_conversation_that_has_grown_the_beginning_is_known(self, reflections: Reflections):
        assert reflections.reflected_turns(OWNER, HELLO) == 0
        reflections.add(OWNER, HELLO[:2], 2, REQUEST, "2026-11-22")
        assert reflections.reflected_turns(OWNER, HELLO) == 2
        assert reflections.reflected_turns("somebody else", HELLO) == 0
        rest = reflections.add(OWNER, HELLO, 2, REQUEST, "2026-11-22")
        assert rest.turns == HELLO[2:]
        assert reflections.reflected_turns(OWNER, HELLO) == 4
        assert reflections.get_by_turns(OWNER, HELLO) == rest

    def test_one_of_another_owner_is_not_there(self, reflections: Reflections):
        reflection = reflections.add(OWNER, HELLO, 4, REQUEST, "2026-11-22")
        with pytest.raises(NotFound):
            reflections.get("somebody else", reflection.id)
        assert reflections.with_state("somebody else", QUEUED) == []
        assert reflections.with_state(OWNER, QUEUED) == [reflection]

    def test_one_that_is_done_stays_so(self, reflections: Reflections):
        reflection = reflections.add(OWNER, HELLO, 4, REQUEST, "2026-11-22")
        reflections.mark_done(reflection, "reflection-1")
        reflections.mark_failed(reflection, "too late")
        stored = reflections.get(OWNER, reflection.id)
        assert (stored.state, stored.entry_id, stored.reason) == (DONE, "reflection-1", None)
        assert reflections.due(10) == []
        assert reflections.retry(OWNER, reflection.id).state == DONE

    def test_it_is_tried_again_later_and_fails_for_good_after_the_last_time(self, reflections: Reflections):
        retries = len(LedgerOptions().reflection_backoff_s)
        reflection = reflections.add(OWNER, HELLO, 4, REQUEST, "2026-11-22")
        states = []
        for _ in range(retries + 1):
            states.append(reflections.defer(reflection, "the model server is away"))
            assert reflections.due(10) == []
            reflection = reflections.get(OWNER, reflection.id)
        assert states == [QUEUED] * retries + [FAILED]
        assert (reflection.state, reflection.reason) == (FAILED, "the model server is away")
        assert reflections.with_state(OWNER, FAILED) == [reflection]

    def test_a_clock_that_was_set_back_keeps_none_waiting(self, reflections: Reflections, ledger: Ledger):
        reflection = reflections.add(OWNER, HELLO, 4, REQUEST, "2026-11-22")
        with ledger.transaction() as connection:
            connection.execute(text("UPDATE reflections SET retry_at = '2999-01-01T00:00:00.000000+00:00'"))
        assert due(reflections) == [reflection.id]

    def test_a_failed_one_can_be_tried_again_from_the_beginning(self, reflections: Reflections):
        reflection = reflections.add(OWNER, HELLO, 4, REQUEST, "2026-11-22")
        reflections.mark_failed(reflection, "cut off")
        again = reflections.retry(OWNER, reflection.id)
        assert (again.state, again.reason, again.attempts) == (QUEUED, None, 0)
        assert due(reflections) == [again.id]
        with pytest.raises(NotFound):
            reflections.retry(OWNER, "0" * 64)


EXISTING = "On the eighth of June a stray dog followed me home along the prom, and I called him Postscript."


class TestWithoutRepetition:
    @pytest.mark.parametrize(
        ("text", "left"),
        [
            (EXISTING, ""),
            (EXISTING.upper().replace(",", " –"), ""),
            (f"Drew called. {EXISTING} We laughed.", "Drew called. We laughed."),
            ("I told him how a stray dog followed me home along the prom. He laughed!", "He laughed!"),
            (
                "A stray dog followed me home, and Drew laughed.",
                "A stray dog followed me home, and Drew laughed.",
            ),
            (
                "“A stray dog followed me home along the prom.” So I said.\n\nThen tea.",
                "So I said.\n\nThen tea.",
            ),
            # regressions/near_duplicates: all but a negation, a number or a name
            *(
                (text, text)
                for text in (
                    "A stray dog followed me home along the prom, and I did not call him.",
                    "A stray dog followed me home along the prom, and I called him Rex.",
                    "A stray dog followed me home along the prom 3 times.",
                )
            ),
            ("A stray dog. Followed me home. Along the prom, and I.", ""),
            ("Drew called? Drew called! Drew… called.", "Drew called? Drew called! Drew… called."),
            ("", ""),
            ("  \n Tea at 3.30 p.m. with Mr. Kelly.  ", "Tea at 3.30 p.m. with Mr. Kelly."),
        ],
    )
    def test_sentences_that_the_diary_says_already_are_left_out(self, text: str, left: str):
        assert without_repetition(text, ["Nothing much.", EXISTING]) == left

    def test_what_is_new_stays_to_the_letter(self):
        text = "I walked.\n\n  Far,  and  far. \u202eX\x00 日本語。"
        assert without_repetition(text, [EXISTING]) == text

    @settings(max_examples=200, deadline=None)
    @given(
        before=st.lists(st.sampled_from("abcdef"), max_size=6),
        known=st.lists(st.sampled_from("stuvwxyz"), min_size=QUOTATION_WORDS, max_size=14),
        after=st.lists(st.sampled_from("abcdef"), max_size=6),
    )
    def test_no_run_of_eight_words_is_ever_written_twice(self, before, known, after):
        text = ". ".join(
            " ".join(words) for words in (before, [*before[:2], *known, *after[:2]], after) if words
        )
        left = without_repetition(text + ".", [" ".join(["x", *known, "y"])])
        words = left.replace(".", "").split()
        runs = {tuple(known[n : n + QUOTATION_WORDS]) for n in range(len(known) - QUOTATION_WORDS + 1)}
        assert not runs & {tuple(words[n : n + QUOTATION_WORDS]) for n in range(len(words))}

    def test_the_whole_diary_is_looked_through_but_not_somebody_elses(self, ledger: Ledger):
        ledger.for_owner("somebody else").add(EntryDraft(text=EXISTING))
        assert entry_text(ledger.for_owner(OWNER), EXISTING) == EXISTING
        ledger.for_owner(OWNER).add(EntryDraft(text=f"Long ago. {EXISTING}", date="1998"))
        assert entry_text(ledger.for_owner(OWNER), f"{EXISTING} And so to bed.") == "And so to bed."
