"""Words that are taken for dates, and words that are not.

.venv/bin/python -m pytest tests/diary/recall/test_date_words.py
"""

import subprocess
import sys
from datetime import date as Date
from pathlib import Path

import pytest

from services.diary.recall.temporal_query import MAX_CHARACTERS, MAX_MENTIONS, QueryDates, truncate_query

FRIDAY = Date(2026, 11, 27)


@pytest.fixture(scope="module")
def dates() -> QueryDates:
    return QueryDates()


@pytest.mark.parametrize(
    "question",
    [
        # regressions/may_is_no_month
        "Is there any food that may hurt you?",
        "Did this fall hurt you?",
        "Did you march 4 miles?",
        "a walk of august company",
        # may
        "I may come. Will you?",
        "May I ask you something?",
        "What may 4 friends do in such a town?",
        "May 4 people come to supper?",
        "May 2 come along?",
        "There are 12 may be more.",
        "The 12th may come as well.",
        "All 20 may be sold.",
        "Who may in such weather go out?",
        "This may be the last time.",
        "THIS MAY HURT YOU",
        "I'm late may I come in?",
        "May the 4 of us come?",
        # march, mar, jan, dec, sun, sat, second
        "Did you march 2000 miles?",
        "Did you march in line?",
        "Were you tired during the march?",
        "What hurt in the march on Washington?",
        "Did all 12 march to London?",
        "Was it hours of march through mud?",
        "Did rain mar 3 of the prints?",
        "Do you like to march, or to walk?",
        "Did you stand on the deck in the sun?",
        "Who sat with you?",
        "Just a second, who was the second?",
        "Is Jan's house warm in Jan's way?",
        "What did the 12 august guests eat?",
        "Was that august lady kind?",
        # fall, spring, summer, winter
        "Did your last fall hurt?",
        "Did you fall last night's ladder?",
        "Did you break your hip in the fall?",
        "What did you learn from the fall of Rome?",
        "Did you see the fall of snow in the fall of snow?",
        "Did the mattress spring break?",
        "Do you drink of spring water?",
        "Is it a bottle of spring water in the spring water crate?",
        "Was this spring broken when you bought the bed?",
        "Did you walk in winter boots?",
        "Do you own that winter coat still?",
        "What of summer dresses?",
        # counts, not years
        "Tell me in 2000 words.",
        "Tell me in 2000 or 3000 words.",
        "Say it in 2000 short words.",
        "Walk with me in 1999 steps.",
        "Is it a book of 1200 pages?",
        "Did you swim from 1500 to 2000 metres?",
        "Were you one of 1500 people?",
        "Did she win by 2000 votes?",
        "Was it one in 1000 cases?",
        "Had she a herd of 1100 sheep?",
        "Did the fall 2000 feet from the top kill him?",
        "I may 2000 times ask you.",
        "An essay of 2000-word length?",
        "Did prices rise by 1000%?",
        "Did prices rise by 1000 € or more?",
        "Were there from 1000 to 1500 guests?",
        "Was it built in 1200 BC?",
    ],
)
def test_a_word_that_only_looks_like_a_date_names_no_day(dates: QueryDates, question: str):
    phrases = {days.phrase for days in dates.parse(question, FRIDAY)} - {"last night"}
    assert phrases == set()


@pytest.mark.parametrize(
    ("question", "first", "last"),
    [
        ("What did you paint in May?", "2026-05-01", "2026-05-31"),
        ("what did you paint in may?", "2026-05-01", "2026-05-31"),
        ("WHAT DID YOU PAINT IN MAY?", "2026-05-01", "2026-05-31"),
        ("What did you paint in May with Marta?", "2026-05-01", "2026-05-31"),
        ("In May I was away. Were you?", "2026-05-01", "2026-05-31"),
        ("Do you remember May 2021?", "2021-05-01", "2021-05-31"),
        ("do you remember may 2021?", "2021-05-01", "2021-05-31"),
        ("do you remember the end of may?", "2026-05-01", "2026-05-31"),
        ("How was it at the end of May?", "2026-05-01", "2026-05-31"),
        ("what happened on 12 may?", "2026-05-12", "2026-05-12"),
        ("What happened on 12 May?", "2026-05-12", "2026-05-12"),
        ("What happened on May 12?", "2026-05-12", "2026-05-12"),
        ("what happened on may 12?", "2026-05-12", "2026-05-12"),
        ("What happened on the 12th of May?", "2026-05-12", "2026-05-12"),
        ("What happened on 12 may 2020?", "2020-05-12", "2020-05-12"),
        ("Were you well this May?", "2026-05-01", "2026-05-31"),
        ("were you well this may?", "2026-05-01", "2026-05-31"),
        ("And last May?", "2026-05-01", "2026-05-31"),
        ("Who came on the 4th of March?", "2026-03-04", "2026-03-04"),
        ("who came on the 4th of march?", "2026-03-04", "2026-03-04"),
        ("Who came on March 4?", "2026-03-04", "2026-03-04"),
        ("who came on march 4th?", "2026-03-04", "2026-03-04"),
        ("Who came in March 2020?", "2020-03-01", "2020-03-31"),
        ("who came in march?", "2026-03-01", "2026-03-31"),
        ("Did you march in March?", "2026-03-01", "2026-03-31"),
        ("March 4: who came?", "2026-03-04", "2026-03-04"),
        ("Did you swim this August?", "2026-08-01", "2026-08-31"),
        ("did you swim in august?", "2026-08-01", "2026-08-31"),
        ("Did you swim in early August?", "2026-08-01", "2026-08-31"),
        ("What did you plant last fall?", "2025-09-01", "2025-11-30"),
        ("What did you plant this fall?", "2026-09-01", "2026-11-30"),
        ("What did you plant in fall 2020?", "2020-09-01", "2020-11-30"),
        ("What did you plant in the fall of 2020?", "2020-09-01", "2020-11-30"),
        ("What did you plant in the fall?", "2026-09-01", "2026-11-30"),
        ("What did you do last spring?", "2026-03-01", "2026-05-31"),
        ("What did you do in the spring?", "2026-03-01", "2026-05-31"),
        ("What did you do in spring with Marta?", "2026-03-01", "2026-05-31"),
        ("What did you do in spring 2021?", "2021-03-01", "2021-05-31"),
        ("What was this spring like?", "2026-03-01", "2026-05-31"),
        ("Where were you in the summer holidays?", "2026-06-01", "2026-08-31"),
        ("Where did you live in 2019?", "2019-01-01", "2019-12-31"),
        ("In 2019 did you keep bees?", "2019-01-01", "2019-12-31"),
        ("Did you in 2019 write 2000 words?", "2019-01-01", "2019-12-31"),
        ("Where were you in 2000?", "2000-01-01", "2000-12-31"),
        ("Did you march in 2019?", "2019-01-01", "2019-12-31"),
        ("Did you fall in 2019?", "2019-01-01", "2019-12-31"),
        ("Did you fall last year?", "2025-01-01", "2025-12-31"),
        ("You may in 2019 have been ill?", "2019-01-01", "2019-12-31"),
        ("Did this fall hurt as the one in January did?", "2026-01-01", "2026-01-31"),
        ("What did you do on 2 Jan?", "2026-01-02", "2026-01-02"),
        ("What did you do on Dec 24?", "2025-12-24", "2025-12-24"),
        ("What did you do on Sunday?", "2026-11-22", "2026-11-22"),
    ],
)
def test_a_date_is_read_as_ever(dates: QueryDates, question: str, first: str, last: str):
    mentions = dates.parse(question, FRIDAY)
    assert [(days.first.isoformat(), days.last.isoformat()) for days in mentions] == [(first, last)]


_IN_ANOTHER_LOCALE = """
import calendar
calendar.month_name = calendar.month_abbr = ["", *(f"mois{n}" for n in range(1, 13))]
calendar.day_name = calendar.day_abbr = [f"jour{n}" for n in range(7)]
from datetime import date
from services.diary.recall.temporal_query import QueryDates
from services.diary.index.bm25 import spell_out_days
for days in QueryDates((3, 14)).parse("In March, on Monday, or on your birthday?", date(2026, 11, 27)):
    print(days.first)
print(spell_out_days(date(2026, 3, 14), date(2026, 3, 14)))
"""


def test_months_and_weekdays_are_english_whatever_the_locale():
    """The names are those that `calendar` gives under LC_TIME=fr_FR, which few machines have installed."""
    command = [sys.executable, "-c", _IN_ANOTHER_LOCALE]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    assert done.stdout.split("\n")[:4] == ["2026-03-14", "2026-03-01", "2026-11-23", "14 March 2026"]


class TestTheWorkIsBounded:
    """attack/chat_dates_156k.json: a chat whose one turn names tens of thousands of dates."""

    def test_a_span_is_found_once_however_often_it_is_named(self, dates: QueryDates):
        assert [days.phrase for days in dates.parse("in 2026 " * 20_000, FRIDAY)] == ["in 2026"]

    def test_only_so_many_spans_are_found(self, dates: QueryDates):
        question = " ".join(f"in {year}" for year in range(1000, 3000))
        assert len(dates.parse(question, FRIDAY)) == MAX_MENTIONS

    @pytest.mark.parametrize("length", [MAX_CHARACTERS, MAX_CHARACTERS + 1, 10**5])
    def test_of_a_long_question_its_beginning_and_its_end_are_searched_for(self, length: int):
        question = "What did you do last spring?" + "x" * (length - 56) + "And who was with you there??"
        assert len(question) == length
        short = truncate_query(question)
        assert len(short) <= MAX_CHARACTERS
        assert short.startswith("What did you do last spring?")
        assert short.endswith("And who was with you there??")
