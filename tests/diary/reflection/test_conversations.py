"""Chats that are kept until they have gone quiet: one that goes on is one, however much of it a client sends.

.venv/bin/python -m pytest tests/diary/reflection/test_conversations.py
"""

from collections.abc import Sequence
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from services.diary.ledger.ledger import Ledger, LedgerOptions
from services.diary.reflection.conversations import Conversation, Conversations, continued_by
from services.diary.reflection.reflections import Reflections

OWNER = "drew"


def turns_of(*texts: str) -> list[dict[str, str]]:
    """Turns, the user's first."""
    return [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]


def stored(turns: Sequence[dict[str, str]], written: int = 0) -> Conversation:
    return Conversation(OWNER, "c", list(turns), written, "")


def whole(turns_of: Conversation | None) -> list[dict[str, str]] | None:
    return turns_of and turns_of.turns


LONG = turns_of(*(f"turn {n}" for n in range(12)))


@pytest.fixture
def ledger_url(either_ledger_url: str) -> str:
    """These tests run over SQLite and over PostgreSQL."""
    return either_ledger_url


@pytest.fixture
def conversations(ledger: Ledger) -> Conversations:
    return Conversations(ledger)


def quiet(conversations: Conversations) -> list[list[str]]:
    return [[turn["content"] for turn in conversation.turns] for conversation in conversations.idle(0, 100)]


class TestOneTalk:
    def test_it_goes_on_with_all_of_its_turns_or_with_the_last_ones(self):
        for begin in (0, 4, 6):
            assert whole(continued_by(stored(LONG[:8]), LONG[begin:10])) == LONG[:10]

    def test_another_beginning_is_another_talk(self):
        assert continued_by(stored(LONG[:8]), turns_of("Something else", "Yes?")) is None
        assert continued_by(stored(LONG[:8]), [LONG[0], *turns_of("Something else")]) is None

    def test_an_answer_that_was_asked_for_again_belongs_to_it(self):
        again = [*LONG[:7], {"role": "assistant", "content": "another answer"}]
        assert whole(continued_by(stored(LONG[:8]), again)) == again
        first = [LONG[0], {"role": "assistant", "content": "another answer"}]
        assert whole(continued_by(stored(LONG[:2]), first)) == first

    def test_what_a_client_no_longer_has_is_no_part_of_it(self):
        appended = [*LONG[:4], *turns_of("Now a summary.", "They said four things.")]
        assert whole(continued_by(stored(appended), LONG[:6])) == LONG[:6]
        written = continued_by(stored(appended, written=6), LONG[:6])
        assert written is not None
        assert written.written == 4, "what took its place has not been written about"

    def test_an_earlier_request_that_comes_again_takes_nothing_away(self):
        assert whole(continued_by(stored(LONG[:8]), LONG[:6])) == LONG[:8]

    def test_the_same_greeting_on_another_day_is_a_new_talk(self):
        greeted = [LONG[0], {"role": "assistant", "content": "another answer"}]
        assert continued_by(stored(LONG[:2], written=2), greeted) is None

    @given(
        length=st.integers(2, 10).map(lambda n: n - n % 2),
        more=st.integers(1, 2),
        window=st.integers(3, 12),
    )
    def test_whatever_a_client_still_has_nothing_is_lost_or_doubled(
        self, length: int, more: int, window: int
    ):
        now = LONG[: length + more]
        request = now[-max(window, more + 2) :]
        assert whole(continued_by(stored(LONG[:length]), request)) == now


class TestGrowth:
    """Only a talk that goes on from Ada's own answer is a conversation."""

    @staticmethod
    def grown(before: Sequence[dict[str, str]], now: Sequence[dict[str, str]]) -> bool:
        conversation = continued_by(stored(before), now)
        return conversation is not None and conversation.grown

    def test_it_has_grown_when_a_request_goes_on_from_the_answer(self):
        assert not stored(LONG[:2]).grown
        assert self.grown(LONG[:2], LONG[:3])
        assert self.grown(LONG[:6], LONG[2:8])

    @pytest.mark.parametrize(
        "sent_back", [" turn  1\n", "turn", "Ada: turn 1"], ids=["white space", "its end cut", "a name"]
    )
    def test_clients_that_alter_the_answer_a_little_go_on_from_it(self, sent_back: str):
        assert self.grown(LONG[:2], [LONG[0], {"role": "assistant", "content": sent_back}, LONG[2]])

    def test_an_answer_that_is_asked_for_again_is_no_growth(self):
        assert not self.grown(LONG[:2], turns_of("turn 0", "another answer"))

    def test_a_question_that_is_edited_is_no_growth(self):
        assert not self.grown(LONG[:4], [*LONG[:2], *turns_of("another question", "another answer")])

    def test_nor_are_worked_examples_with_another_question_at_their_end(self):
        examples = turns_of("2 + 2?", "4", "3 + 3?", "6")
        first = [*examples, *turns_of("4 + 4?", "8")]
        assert not self.grown(first, [*examples, *turns_of("5 + 5?", "10")])

    def test_nor_a_prompt_that_holds_an_earlier_question_with_somebody_elses_answer(self):
        before = turns_of("2 + 2?", "I never learned to add.")
        assert not self.grown(before, turns_of("2 + 2?", "4", "3 + 3?", "6"))

    def test_an_empty_answer_is_gone_on_from_by_nobody(self):
        assert not self.grown(turns_of("Hello"), turns_of("Hello", "Hi", "It rained."))


class TestTheLedgersPart:
    def test_a_talk_that_grows_is_one(self, conversations: Conversations):
        for length in (2, 4, 6):
            conversations.record(OWNER, LONG[:length])
        assert quiet(conversations) == [[f"turn {n}" for n in range(6)]]

    def test_talks_of_two_owners_never_meet(self, conversations: Conversations):
        conversations.record(OWNER, LONG[:2])
        conversations.record("somebody else", LONG[:4])
        assert sorted(map(len, quiet(conversations))) == [2, 4]

    def test_one_that_goes_on_is_not_quiet(self, conversations: Conversations):
        conversations.record(OWNER, LONG[:2])
        assert conversations.idle(60, 10) == []
        assert len(conversations.idle(0, 10)) == 1

    def test_it_is_reflected_on_once_and_later_only_what_is_new(self, conversations, ledger: Ledger):
        conversations.record(OWNER, LONG[:4])
        (conversation,) = conversations.idle(0, 10)
        (seen_by_another,) = Conversations(ledger).idle(0, 10)
        first = conversations.reflect(conversation, 4)
        assert first is not None
        assert (first.turns, first.date) == (LONG[:4], conversation.changed_at[:10])
        assert Conversations(ledger).reflect(seen_by_another, 4) is None
        assert conversations.idle(0, 10) == []
        conversations.record(OWNER, LONG[:4])  # the same request again
        assert conversations.idle(0, 10) == []
        conversations.record(OWNER, LONG[2:8])
        (conversation,) = conversations.idle(0, 10)
        assert (conversation.turns, conversation.written) == (LONG[:8], 4)
        second = conversations.reflect(conversation, 4)
        assert second is not None
        assert second.turns == LONG[4:8]
        assert len(Reflections(ledger).unprepared(10)) == 2

    def test_one_that_went_on_meanwhile_is_not_taken(self, conversations: Conversations, ledger: Ledger):
        conversations.record(OWNER, LONG[:4])
        (conversation,) = conversations.idle(0, 10)
        conversations.record(OWNER, LONG[:6])
        assert conversations.reflect(conversation, 4) is None
        assert Reflections(ledger).unprepared(10) == []
        assert len(conversations.idle(0, 10)) == 1

    def test_one_that_is_passed_over_is_not_looked_at_again_until_it_grows(
        self, conversations: Conversations
    ):
        conversations.record(OWNER, LONG[:2])
        conversations.skip(conversations.idle(0, 10)[0])
        assert conversations.idle(0, 10) == []
        conversations.record(OWNER, LONG[:4])
        (conversation,) = conversations.idle(0, 10)
        assert (conversation.turns, conversation.written, conversation.grown) == (LONG[:4], 0, True)

    @pytest.mark.parametrize("content", ["{", "[]", "{}", '{"turns": [{"role": "user"}], "written": 0}'])
    def test_a_damaged_row_keeps_nobody_elses_talk_waiting(
        self, conversations: Conversations, ledger: Ledger, log, content: str
    ):
        conversations.record(OWNER, LONG[:2])
        with ledger.transaction() as connection:
            damaged = text("UPDATE conversations SET messages = :content")
            connection.execute(damaged, {"content": content})
        conversations.record(OWNER, turns_of("Hello", "Hi"))
        assert quiet(conversations) == [["Hello", "Hi"]]
        assert "is damaged" in log.text
        assert quiet(conversations) == [["Hello", "Hi"]]
        assert log.text.count("is damaged") == 1

    def test_what_was_reflected_on_is_erased_when_it_will_not_go_on(
        self, conversations: Conversations, ledger_url: str
    ):
        conversations.record(OWNER, turns_of("Not yet", "reflected on"))
        conversations.record(OWNER, LONG[:2])
        conversations.reflect(conversations.idle(0, 10)[1], 2)
        conversations.delete_old()
        conversations.record(OWNER, LONG[:4])
        conversation = conversations.idle(0, 10)[1]
        assert (len(conversation.turns), conversation.written) == (4, 2)
        conversations.reflect(conversation, 2)
        expired = LedgerOptions(conversation_retention=timedelta(seconds=-1))
        with Ledger(ledger_url, expired) as later:
            Conversations(later).delete_old()
        conversations.record(OWNER, LONG[:6])
        assert [
            (len(conversation.turns), conversation.written) for conversation in conversations.idle(0, 10)
        ] == [(2, 0), (6, 0)]
