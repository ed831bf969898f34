"""The days that a question names.

.venv/bin/python -m pytest tests/diary/recall/test_temporal_query.py
"""

from datetime import date as Date
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.diary.recall.temporal_query import QueryDates, bm25_text

FRIDAY = Date(2023, 9, 1)
BIRTHDAY = (3, 14)


@pytest.fixture(scope="module")
def dates() -> QueryDates:
    return QueryDates(BIRTHDAY)


def read(dates: QueryDates, question: str, as_of: Date = FRIDAY) -> list[tuple[str, str]]:
    return [(days.first.isoformat(), days.last.isoformat()) for days in dates.parse(question, as_of)]


@pytest.mark.parametrize(
    ("question", "first", "last"),
    [
        # written out
        ("What did you do on 5 May 2023?", "2023-05-05", "2023-05-05"),
        ("What did you do on May 5th, 2023?", "2023-05-05", "2023-05-05"),
        ("And on the 5th of May, 2023?", "2023-05-05", "2023-05-05"),
        ("Who came in May, 2023?", "2023-05-01", "2023-05-31"),
        ("Who came in Feb 2024?", "2024-02-01", "2024-02-29"),
        ("What happened on 2023-05-08?", "2023-05-08", "2023-05-08"),
        ("How was 2023-05?", "2023-05-01", "2023-05-31"),
        ("Where were you in 2019?", "2019-01-01", "2019-12-31"),
        ("Had you a garden back in 1998?", "1998-01-01", "1998-12-31"),
        ("What was it like in the 1990s?", "1990-01-01", "1999-12-31"),
        ("Who lived here between 2010 and 2012?", "2010-01-01", "2012-12-31"),
        ("What of the time from May 2010 to June 2012?", "2010-05-01", "2012-06-30"),
        # without a year: the latest
        ("What happened in March?", "2023-03-01", "2023-03-31"),
        ("What happened in November?", "2022-11-01", "2022-11-30"),
        ("How was it in September?", "2023-09-01", "2023-09-30"),
        ("How was it last September?", "2022-09-01", "2022-09-30"),
        ("What happened on 3 June?", "2023-06-03", "2023-06-03"),
        ("What happened on December the 3rd?", "2022-12-03", "2022-12-03"),
        ("What did you do on 29 February?", "2020-02-29", "2020-02-29"),
        ("Did you march in March of last year?", "2022-03-01", "2022-03-31"),
        # seasons and feasts
        ("What did you plant last spring?", "2023-03-01", "2023-05-31"),
        ("What did you plant in the spring of 2021?", "2021-03-01", "2021-05-31"),
        ("Were you cold last winter?", "2022-12-01", "2023-02-28"),
        ("Did you swim this summer?", "2023-06-01", "2023-08-31"),
        ("Did you swim in the summer?", "2023-06-01", "2023-08-31"),
        ("Where did you go during the fall?", "2023-09-01", "2023-11-30"),
        ("Where did you go in the summer of last year?", "2022-06-01", "2022-08-31"),
        ("What did you cook at Christmas?", "2022-12-25", "2022-12-25"),
        ("What did you cook for Christmas 2020?", "2020-12-25", "2020-12-25"),
        ("Where were you on New Year’s Eve?", "2022-12-31", "2022-12-31"),
        # birthdays
        ("What did you do on your birthday?", "2023-03-14", "2023-03-14"),
        ("Who came on my last birthday?", "2023-03-14", "2023-03-14"),
        ("Who came on your birthday in 2019?", "2019-03-14", "2019-03-14"),
        ("Who came on your birthday last year?", "2022-03-14", "2022-03-14"),
        # counted from the day
        ("What did you do today?", "2023-09-01", "2023-09-01"),
        ("What did you eat yesterday?", "2023-08-31", "2023-08-31"),
        ("And the day before yesterday?", "2023-08-30", "2023-08-30"),
        ("Did you dream last night?", "2023-08-31", "2023-08-31"),
        ("Whom did you meet three days ago?", "2023-08-29", "2023-08-29"),
        ("Did you see Mum two weeks ago?", "2023-08-15", "2023-08-21"),
        ("What was a couple of weeks ago?", "2023-08-15", "2023-08-21"),
        ("Where were you 4 months ago?", "2023-05-01", "2023-05-31"),
        ("Where were you a year ago?", "2022-01-01", "2022-12-31"),
        ("Who wrote last week?", "2023-08-21", "2023-08-27"),
        ("What are you doing this week?", "2023-08-28", "2023-09-03"),
        ("Who came last weekend?", "2023-08-26", "2023-08-27"),
        ("Who comes this weekend?", "2023-09-02", "2023-09-03"),
        ("What did you read last month?", "2023-08-01", "2023-08-31"),
        ("What did you read this year?", "2023-01-01", "2023-12-31"),
        ("What did you say on Tuesday?", "2023-08-29", "2023-08-29"),
        ("What did you say last Friday?", "2023-08-25", "2023-08-25"),
        ("What have you bound in the last 3 months?", "2023-06-01", "2023-09-01"),
        ("What did you do the week before August 30, 2023?", "2023-08-20", "2023-08-26"),
    ],
)
def test_a_phrase_means_these_days(dates: QueryDates, question: str, first: str, last: str):
    assert read(dates, question) == [(first, last)]


@pytest.mark.parametrize(
    "question",
    [
        "What is your favourite book?",
        "May I march with you to the spring?",
        "Did you fall off the second ladder in a week?",
        "What happened on 05/06/2023?",  # the fifth of June, or the sixth of May
        "What did you do on 31 November?",
        "What did you do on 29 February 2023?",
        "What did you do in the year 0?",
        "Do you remember the 12 days of rain?",
        "Is 2019 a prime number?",
        "Are you 1984's reader?",
        "",
    ],
)
def test_what_names_no_day_or_two_is_passed_over(dates: QueryDates, question: str):
    assert read(dates, question) == []


def test_several_times_are_all_read(dates: QueryDates):
    mentions = dates.parse("Was it warmer in June or in July 2022, or yesterday?", FRIDAY)
    assert {(days.phrase, str(days.first)) for days in mentions} == {
        ("in June", "2023-06-01"),
        ("July 2022", "2022-07-01"),
        ("yesterday", "2023-08-31"),
    }


def test_without_a_birthday_nobody_was_born():
    assert read(QueryDates(), "What did you do on your birthday?") == []
    assert read(QueryDates(), "What did you do on your birthday in 2019?") == [("2019-01-01", "2019-12-31")]


def test_a_birthday_on_the_29th_of_february_is_the_last_one_that_there_was():
    assert read(QueryDates((2, 29)), "on my birthday", Date(2023, 9, 1)) == [("2020-02-29", "2020-02-29")]


def test_a_birthday_today_is_today_and_the_last_one_a_year_ago():
    dates = QueryDates((9, 1))
    assert read(dates, "on your birthday") == [("2023-09-01", "2023-09-01")]


@pytest.mark.parametrize(
    ("question", "for_words_alone"),
    [
        ("Whom did you meet yesterday?", "Whom did you meet ? 31 August 2023"),
        ("Did you see Mum two weeks ago?", "Did you see Mum ?"),
        ("Where were you 4 months ago?", "Where were you ? May 2023"),
        ("Where did you camp last summer?", "Where did you camp last summer?"),
        ("What was it in 2019?", "What was it in 2019? 2019"),
        ("What happened on May 5th, 2023?", "What happened on May 5th, 2023? 5 May 2023"),
        ("What is your favourite book?", "What is your favourite book?"),
    ],
)
def test_words_are_searched_with_days_spelled_out(dates: QueryDates, question: str, for_words_alone: str):
    assert " ".join(bm25_text(question, dates.parse(question, FRIDAY)).split()) == for_words_alone


PHRASES = st.sampled_from(
    [
        *("yesterday", "today", "last week", "this week", "last weekend", "this weekend", "last Tuesday"),
        *("last month", "this year", "last year", "on my birthday", "two weeks ago", "999 years ago"),
        *("12 days ago", "a couple of months ago", "in the last 5 years", "last spring", "this winter"),
        *("in the summer", "in March", "last May", "on 29 February", "on 3 June", "at Christmas", "in 2019"),
        *("on New Year's Eve last year", "in 1000", "in 2999", "the 2990s", "5 May 2023"),
        *("from 2010 to 1990", "the week before 1 January 1000"),
    ]
)
NOT_AFTER_TODAY = {"yesterday", "last week", "last weekend", "last month", "last spring", "on my birthday"}


class TestAlways:
    @given(PHRASES, st.dates())
    def test_a_span_begins_before_it_ends_whatever_the_day(self, dates: QueryDates, phrase: str, as_of: Date):
        for days in dates.parse(f"What did you do {phrase}?", as_of):
            assert days.first <= days.last
            assert days.phrase in phrase

    @given(PHRASES, st.dates(Date(1100, 1, 1), Date(2900, 1, 1)))
    def test_what_is_past_is_past(self, dates: QueryDates, phrase: str, as_of: Date):
        for days in dates.parse(f"What did you do {phrase}?", as_of):
            if phrase in NOT_AFTER_TODAY:
                assert days.first <= as_of

    @given(
        st.dates(Date(1000, 1, 1), Date(2999, 12, 31)), st.sampled_from(["%d %B %Y", "%B %d, %Y", "%Y-%m-%d"])
    )
    def test_every_day_that_is_written_out_is_that_day(self, dates: QueryDates, day: Date, form: str):
        phrase = day.strftime(form.replace("%Y", f"{day.year:04}"))
        assert read(dates, f"What happened on {phrase}?", day) == [(day.isoformat(), day.isoformat())]

    @given(st.integers(1, 400), st.dates(Date(1700, 1, 1), Date(2900, 1, 1)))
    def test_so_many_days_ago_is_that_day(self, dates: QueryDates, number: int, as_of: Date):
        day = (as_of - timedelta(number)).isoformat()
        assert read(dates, f"What did you do {number} days ago?", as_of) == [(day, day)]

    @given(st.text(max_size=60), st.dates())
    def test_no_question_breaks_it(self, dates: QueryDates, question: str, as_of: Date):
        dates.parse(question, as_of)

    @given(
        st.lists(
            PHRASES | st.sampled_from(["of", "in", "the", "5", "May", "last", "ago", "weeks"]), max_size=8
        )
    )
    def test_no_heap_of_phrases_breaks_it(self, dates: QueryDates, phrases: list[str]):
        for days in dates.parse(" ".join(phrases), FRIDAY):
            assert days.first <= days.last
