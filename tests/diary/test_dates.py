"""Which dates are understood, what they span, and what is asked back.

.venv/bin/python -m pytest tests/diary/test_dates.py
"""

import calendar
from datetime import date as Date
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from services.diary.dates import DateSpan, check_iso_date, parse_date

TODAY = Date(2026, 11, 22)
days = st.dates(min_value=Date(1000, 1, 1), max_value=TODAY)
MONTHS = list(calendar.month_name)[1:]


def span(text: str) -> tuple[str, str]:
    when = parse_date(text, TODAY)
    return when.first_day, when.last_day


def asked_back(text: str) -> str:
    with pytest.raises(ValueError, match=r".") as refused:
        parse_date(text, TODAY)
    return str(refused.value)


def understood(text: str, today: Date) -> DateSpan | str:
    """What a date means, or why it was refused."""
    try:
        return parse_date(text, today)
    except ValueError as refused:
        return str(refused)


class TestWhatIsUnderstood:
    @pytest.mark.parametrize(
        ("text", "first", "last"),
        [
            ("1998-05-03", "1998-05-03", "1998-05-03"),
            ("2024-02-29", "2024-02-29", "2024-02-29"),
            ("1660-01-01", "1660-01-01", "1660-01-01"),
            ("1998-02", "1998-02-01", "1998-02-28"),
            ("2000-02", "2000-02-01", "2000-02-29"),
            ("1998", "1998-01-01", "1998-12-31"),
            ("1000", "1000-01-01", "1000-12-31"),
            ("May 1998", "1998-05-01", "1998-05-31"),
            ("may, 1998", "1998-05-01", "1998-05-31"),
            ("MAY of 1998", "1998-05-01", "1998-05-31"),
            ("Feb. 1996", "1996-02-01", "1996-02-29"),
            ("Sept 1998", "1998-09-01", "1998-09-30"),
            ("spring 1998", "1998-03-01", "1998-05-31"),
            ("Summer of 1998", "1998-06-01", "1998-08-31"),
            ("autumn 1998", "1998-09-01", "1998-11-30"),
            ("fall, 1998", "1998-09-01", "1998-11-30"),
            ("winter 1998", "1998-12-01", "1999-02-28"),
            ("winter 1999", "1999-12-01", "2000-02-29"),
            ("May 3, 1998", "1998-05-03", "1998-05-03"),
            ("May 3 1998", "1998-05-03", "1998-05-03"),
            ("May 3rd, 1998", "1998-05-03", "1998-05-03"),
            ("3 May 1998", "1998-05-03", "1998-05-03"),
            ("3rd of May, 1998", "1998-05-03", "1998-05-03"),
            ("the 3rd of May 1998", "1998-05-03", "1998-05-03"),
            ("January 1st 1660", "1660-01-01", "1660-01-01"),
            ("Sunday, May 3, 1998", "1998-05-03", "1998-05-03"),
            ("Sun. 3 May 1998", "1998-05-03", "1998-05-03"),
            ("2027-11-22", "2027-11-22", "2027-11-22"),
            ("winter 2026", "2026-12-01", "2027-02-28"),
        ],
    )
    def test_a_date_spans_its_days(self, text: str, first: str, last: str):
        assert span(text) == (first, last)

    @pytest.mark.parametrize(
        ("text", "moment"),
        [
            ("2026-01-02T10:00", "2026-01-02T10:00:00.000000"),
            ("2026-01-02 10:00", "2026-01-02T10:00:00.000000"),
            ("2026-01-02T10:00:00Z", "2026-01-02T10:00:00.000000"),
            ("2026-01-02T23:30:00-05:00", "2026-01-02T23:30:00.000000"),
            ("2026-01-02T00:30:00+14:00", "2026-01-02T00:30:00.000000"),
            ("2026-01-02T10:00:00.250000-03:30", "2026-01-02T10:00:00.250000"),
        ],
    )
    def test_a_date_and_time_belongs_to_its_day_as_written(self, text: str, moment: str):
        """Whoever writes at half past eleven at night in Boston writes of that day, not of Greenwich's."""
        assert parse_date(text, TODAY) == DateSpan("2026-01-02", "2026-01-02", moment)

    @given(days)
    def test_every_way_to_write_a_day_means_that_day(self, day: Date):
        month, year = MONTHS[day.month - 1], f"{day.year:04}"
        ways = (
            day.isoformat(),
            f"{month} {day.day}, {year}",
            f"{day.day} {month[:3].lower()} {year}",
            f"{calendar.day_name[day.weekday()]}, {month.upper()} {day.day} {year}",
        )
        assert {span(way) for way in ways} == {(day.isoformat(), day.isoformat())}

    @given(days)
    def test_year_month_and_season_hold_the_days_that_they_name(self, day: Date):
        year, month = f"{day.year:04}", f"{day.year:04}-{day.month:02}"
        season = ("winter", "spring", "summer", "autumn")[day.month % 12 // 3]
        its_year = day.year - (day.month < 3)
        texts = [year, month, f"{MONTHS[day.month - 1]} {year}"]
        for text in texts + [f"{season} {its_year:04}"] * (its_year >= 1000):
            first, last = span(text)
            assert first <= day.isoformat() <= last
            assert Date.fromisoformat(first) <= Date.fromisoformat(last)

    @given(
        st.datetimes(min_value=datetime(1000, 1, 1), max_value=datetime(2027, 1, 1)),
        st.integers(min_value=-23 * 60, max_value=23 * 60),
    )
    def test_every_moment_in_every_zone_is_understood_and_keeps_its_order(self, moment: datetime, zone: int):
        local_time = moment.replace(tzinfo=timezone(timedelta(minutes=zone)))
        when = parse_date(local_time.isoformat(), TODAY)
        assert when.first_day == when.last_day == moment.date().isoformat()
        assert when.timestamp > when.first_day
        assert when.timestamp < (moment + timedelta(microseconds=1)).isoformat(timespec="microseconds")


class TestWhatIsAskedBack:
    @pytest.mark.parametrize("text", ["03/04/1998", "3.4.1998", "04-03-1998"])
    def test_day_and_month_in_either_order_are_not_guessed(self, text: str):
        assert "not clear about day and month" in asked_back(text)
        assert "1998-04-03" in asked_back(text)
        assert "1998-03-04" in asked_back(text)

    @pytest.mark.parametrize(
        ("text", "remedy"),
        [("13/04/1998", "1998-04-13"), ("04.13.1998", "1998-04-13"), ("1998/04/13", "1998-04-13"),
         ("2026-1-2", "2026-01-02"), ("05/05/1998", "1998-05-05")],
    )  # fmt: skip
    def test_other_ways_to_write_a_day_are_answered_with_that_day(self, text: str, remedy: str):
        assert asked_back(text).endswith(f"write {remedy}")

    @pytest.mark.parametrize(
        "text",
        ["98", "'98", "May 98", "May '98", "3 May 98", "May 3rd, 98", "3/4/98", "03.04.98", "spring 98"],
    )
    def test_two_digits_are_no_year(self, text: str):
        assert "a year of two digits" in asked_back(text)
        assert "YYYY-MM-DD" in asked_back(text)

    @pytest.mark.parametrize(
        ("text", "why"),
        [
            ("2023-02-29", "February 2023 has 28 days"),
            ("2023-02-30", "February 2023 has 28 days"),
            ("April 31, 1998", "April 1998 has 30 days"),
            ("0 May 1998", "May 1998 has 31 days"),
            ("1998-13", "a year has 12 months"),
            ("1998-00-10", "a year has 12 months"),
            ("2026-13-01T00:00", "no date of the calendar"),
            ("2026-01-02T25:00", "no date of the calendar"),
            ("2026-01-02T", "no date of the calendar"),
        ],
    )
    def test_days_in_no_calendar_are_refused(self, text: str, why: str):
        assert why in asked_back(text)
        assert "write YYYY-MM-DD" in asked_back(text)

    @pytest.mark.parametrize(
        "text", ["0999-12-31", "0001-01-01", "10000-01-01", "998", "May 12000", "0987-01-01T10:00"]
    )
    def test_years_have_four_digits(self, text: str):
        assert "is no year from 1000 to 9999" in asked_back(text)

    @pytest.mark.parametrize(
        "text", ["2027-11-24", "2028", "9999-12-31", "May 2028", "winter 2027", "2027-11-24T00:00:00Z"]
    )
    def test_what_is_more_than_a_year_ahead_is_refused(self, text: str):
        assert "more than a year ahead" in asked_back(text)

    def test_a_weekday_that_was_another_is_asked_back(self):
        assert "was a Sunday" in asked_back("Monday, May 3, 1998")

    def test_weekdays_of_the_julian_calendar_are_not_called_wrong(self):
        """The first day of Pepys' diary was a Sunday to him; by today's calendar it would be a Thursday."""
        assert span("Sunday, January 1, 1660") == ("1660-01-01", "1660-01-01")

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "yesterday",
            "last spring",
            "Christmas 1998",
            "about 1998",
            "1998?",
            "1998-1999",
            "1990s",
            "early May 1998",
            "Mai 1998",
            "20260102",
            "20260102T100000",
            "2026-W01-5",
            "2026-W01-5T10:00",
            "2026-002",
            "2026-01-02\n",
            " 2026-01-02",
            "May  1998",
            "1998\n",
            "٢٠٢٦-٠١-٠٢",
            "May ١٩٩٨",
            "1998-05-03x10:00",
            "1998-05-03\x0010:00",
        ],
    )
    def test_what_is_no_date_is_refused_with_the_remedy(self, text: str):
        assert "write YYYY-MM-DD" in asked_back(text)

    @given(st.text(max_size=40) | st.from_regex(r"[0-9a-z ,./'-]{1,14}[0-9]{0,4}", fullmatch=True))
    @example("winter 9999")
    @example("99/99/9999")
    @example("00/00/0000")
    @example("0000/0/0")
    def test_whatever_is_written_is_understood_or_refused_and_never_breaks_anything(self, text: str):
        when = understood(text, TODAY)
        if isinstance(when, str):
            assert repr(text) in when
        else:
            assert Date.fromisoformat(when.first_day) <= Date.fromisoformat(when.last_day)
            assert when.timestamp.startswith(when.first_day)

    @given(st.dates(), st.sampled_from(["9999-12-31", "winter 9999", "1000", "May 3, 1998"]))
    def test_any_day_may_be_today(self, today: Date, text: str):
        when = understood(text, today)
        assert isinstance(when, DateSpan) or text in when


class TestIsoDates:
    """What searches take as limits: days and moments alone."""

    @given(st.dates())
    def test_every_day_of_the_calendar_is_taken(self, day: Date):
        assert check_iso_date(day.isoformat()) == day.isoformat()

    @pytest.mark.parametrize("value", ["1998", "spring 1998", "2023-02-29", "20260102", "2026-01-02T25:00"])
    def test_anything_else_is_refused(self, value: str):
        with pytest.raises(ValueError, match="no date of the calendar: write YYYY-MM-DD or"):
            check_iso_date(value)
