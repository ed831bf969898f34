"""From two scores of a chunk to one that can be explained.

.venv/bin/python -m pytest tests/diary/recall/test_ranking.py
"""

from datetime import date as Date
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.diary.index.types import DENSE, SPARSE, Hit, ends_in_question
from services.diary.recall.ranking import (
    ANSWER_WEIGHT,
    BM25_FULL_SCORE,
    DATE_WEIGHT,
    DENSE_WEIGHT,
    ENTRY_WEIGHT,
    NEIGHBOUR_RADIUS,
    NEIGHBOUR_WEIGHT,
    RECENCY_WEIGHT,
    TemporalQuery,
    rank,
)
from services.diary.recall.temporal_query import DateMention

TODAY = Date(2026, 6, 1)
NO_TIMES = TemporalQuery(TODAY)


def hit(
    dense: float = 0.0,
    words: float = 0.0,
    *,
    entry: str = "a",
    ordinal: int = 0,
    text: str = "Rain.",
    day: str = "2026-05-01",
    last: str = "",
) -> Hit:
    return Hit(entry, 1, ordinal, ends_in_question(text), day, last or day, {DENSE: dense, SPARSE: words})


SCORE = st.floats(-1, 1)
DAY = st.dates(Date(1660, 1, 1), Date(2030, 1, 1)).map(Date.isoformat)
HITS = st.lists(
    st.builds(
        hit,
        SCORE,
        st.floats(0, 30),
        entry=st.sampled_from("abc"),
        ordinal=st.integers(0, 6),
        text=st.sampled_from(["Rain.", "Why?", "Why? Because.", ""]),
        day=DAY,
    ),
    max_size=12,
    unique_by=lambda chunk: (chunk.entry_id, chunk.ordinal),
)
NAMED = st.lists(
    st.tuples(st.dates(), st.dates()).map(lambda days: DateMention("then", min(days), max(days))), max_size=2
)
TIMES = st.builds(TemporalQuery, st.dates(), NAMED, st.sampled_from([0.0, 1.0, 365.0]))


class TestAlways:
    @given(HITS, TIMES)
    def test_every_chunk_comes_once_and_best_first(self, hits: list[Hit], times: TemporalQuery):
        scored = rank(hits, times)
        assert sorted(map(id, hits)) == sorted(id(chunk.hit) for chunk in scored)
        scores = [chunk.score for chunk in scored]
        assert scores == sorted(scores, reverse=True)

    @given(HITS, TIMES)
    def test_a_score_is_the_sum_of_its_parts_and_no_part_takes_away(
        self, hits: list[Hit], times: TemporalQuery
    ):
        for chunk in rank(hits, times):
            assert chunk.score == pytest.approx(sum(chunk.parts.values()))
            assert all(part >= 0 for part in chunk.parts.values())

    @given(HITS, TIMES)
    def test_the_order_of_the_candidates_changes_nothing(self, hits: list[Hit], times: TemporalQuery):
        assert rank(hits[::-1], times) == rank(hits, times)

    @given(HITS, TIMES)
    def test_a_chunk_that_was_found_twice_counts_once(self, hits: list[Hit], times: TemporalQuery):
        assert rank([*hits, *hits], times) == rank(hits, times)

    @given(HITS, NAMED)
    def test_days_that_are_named_leave_nothing_out(self, hits: list[Hit], mentions: list[DateMention]):
        assert len(rank(hits, TemporalQuery(TODAY, mentions))) == len(hits)

    def test_of_nothing_comes_nothing(self):
        assert rank([], NO_TIMES) == []


class TestOwnScores:
    def test_words_count_as_a_share_of_the_best_and_meaning_over_the_least(self):
        best, other = rank([hit(0.5, 16.0, entry="a"), hit(0.2, 4.0, entry="b")], NO_TIMES)
        assert best.parts[SPARSE] == 1.0
        assert best.parts[DENSE] == pytest.approx(DENSE_WEIGHT * 0.3)
        assert (other.parts[SPARSE], other.parts[DENSE]) == (0.25, 0.0)

    def test_the_best_match_by_words_counts_for_less_when_it_is_a_poor_one(self):
        (chunk,) = rank([hit(0.5, BM25_FULL_SCORE / 4)], NO_TIMES)
        assert chunk.parts[SPARSE] == 0.25

    def test_without_a_word_in_common_meaning_decides(self):
        near, far = hit(0.5, entry="a"), hit(0.2, entry="b")
        assert [chunk.hit for chunk in rank([far, near], NO_TIMES)] == [near, far]

    def test_of_equals_the_newest_comes_first(self):
        days = ["2026-01-05", "2026-03-01", "2025-12-31"]
        hits = [hit(0.5, entry=f"e{number}", day=day) for number, day in enumerate(days)]
        assert [chunk.hit.first_day for chunk in rank(hits, NO_TIMES)] == sorted(days, reverse=True)


class TestWhatStandsAround:
    def parts(self, *hits: Hit) -> dict[int, dict[str, float]]:
        return {chunk.hit.ordinal: chunk.parts for chunk in rank(hits, NO_TIMES) if chunk.hit.entry_id == "a"}

    def test_an_answer_takes_over_from_the_question_before_it(self):
        parts = self.parts(
            hit(0, BM25_FULL_SCORE, ordinal=3, text="Where did it rain?"), hit(ordinal=4, text="In Cork.")
        )
        assert parts[4]["neighbours"] == ANSWER_WEIGHT * 1.0

    @pytest.mark.parametrize(
        "text", ['Mel said, "Where?"', 'Mel said, "Where?" [shares a photo]', "Why?!?", "Eh?)"]
    )
    def test_a_question_is_one_whatever_closes_it(self, text: str):
        assert (
            self.parts(hit(0, BM25_FULL_SCORE, ordinal=3, text=text), hit(ordinal=4))[4]["neighbours"]
            == ANSWER_WEIGHT
        )

    @pytest.mark.parametrize("text", ["Where? In Cork.", "In Cork", "", "Where? Oh…"])
    def test_a_question_that_goes_on_is_none(self, text: str):
        assert (
            self.parts(hit(0, BM25_FULL_SCORE, ordinal=3, text=text), hit(ordinal=4))[4]["neighbours"]
            == NEIGHBOUR_WEIGHT
        )

    def test_the_question_after_it_is_a_neighbour_like_others(self):
        parts = self.parts(hit(ordinal=3), hit(0, BM25_FULL_SCORE, ordinal=4, text="Where?"))
        assert parts[3]["neighbours"] == NEIGHBOUR_WEIGHT

    @pytest.mark.parametrize("distance", range(1, NEIGHBOUR_RADIUS + 3))
    def test_neighbours_count_as_far_as_they_reach(self, distance: int):
        parts = self.parts(hit(0, BM25_FULL_SCORE, ordinal=5), hit(ordinal=5 + distance))
        assert parts[5 + distance]["neighbours"] == (NEIGHBOUR_WEIGHT if distance <= NEIGHBOUR_RADIUS else 0)

    def test_another_entry_is_no_neighbour(self):
        parts = self.parts(hit(ordinal=1), hit(0, BM25_FULL_SCORE, entry="b", ordinal=2))
        assert parts[1]["neighbours"] == 0
        assert parts[1]["entry"] == 0

    def test_another_version_is_no_neighbour(self):
        old = Hit("a", 0, 2, False, "2026-05-01", "2026-05-01", {DENSE: 0.0, SPARSE: BM25_FULL_SCORE})
        new = next(chunk for chunk in rank([hit(ordinal=1), old], NO_TIMES) if chunk.hit.version == 1)
        assert new.parts["neighbours"] == 0

    def test_all_chunks_of_an_entry_take_over_from_its_best(self):
        parts = self.parts(hit(0, BM25_FULL_SCORE, ordinal=0), hit(0, 2, ordinal=50))
        assert parts[0]["entry"] == parts[50]["entry"] == ENTRY_WEIGHT * 1.0


class TestTimes:
    MAY = DateMention("in May", Date(2026, 5, 1), Date(2026, 5, 31))

    def bonus(self, part: str, times: TemporalQuery, **fields: str) -> float:
        (chunk,) = rank([hit(**fields)], times)
        return chunk.parts[part]

    @pytest.mark.parametrize(
        ("first", "last", "share"),
        [
            ("2026-05-01", "2026-05-01", 1.0),
            ("2026-05-31", "2026-05-31", 1.0),
            ("2026-01-01", "2026-12-31", 1.0),
            ("2026-04-30", "2026-04-30", 0.0),
            ("2026-06-01", "2026-06-01", 0.5),
            ("2026-06-07", "2026-06-07", 0.5),
            ("2026-06-08", "2026-06-08", 0.0),
        ],
    )
    def test_days_that_are_named_count_and_the_week_after_half(self, first: str, last: str, share: float):
        assert (
            self.bonus("dates", TemporalQuery(TODAY, [self.MAY]), day=first, last=last) == DATE_WEIGHT * share
        )

    def test_the_nearest_of_several_times_counts(self):
        far = DateMention("long ago", Date(1660, 1, 1), Date(1660, 12, 31))
        assert self.bonus("dates", TemporalQuery(TODAY, [far, self.MAY]), day="2026-05-05") == DATE_WEIGHT

    def test_the_end_of_the_calendar_is_no_end(self):
        last = DateMention("then", Date.max - timedelta(1), Date.max)
        assert self.bonus("dates", TemporalQuery(TODAY, [last]), day="9999-12-31") == DATE_WEIGHT

    def test_what_is_newest_is_favoured_by_half_as_much_each_half_life(self):
        """Generative Agents' published code decays from the other end, and favours the oldest."""
        times = TemporalQuery(TODAY, half_life=10)
        assert self.bonus("recency", times, day="2026-06-01") == RECENCY_WEIGHT
        assert self.bonus("recency", times, day="2026-05-22") == RECENCY_WEIGHT / 2
        assert self.bonus("recency", times, day="2026-05-12") == RECENCY_WEIGHT / 4
        assert (
            self.bonus("recency", times, day="2026-07-01") == RECENCY_WEIGHT
        )  # the future is not newer than new

    def test_without_recency_a_day_is_like_another(self):
        assert self.bonus("recency", NO_TIMES, day="1660-01-01") == 0.0
