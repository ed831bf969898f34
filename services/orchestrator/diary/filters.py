"""Filters of entries by day, phrase, tag and source, in a query string or in a body."""

from typing import Annotated

from fastapi import Depends, Query
from pydantic import BaseModel, ConfigDict, Field

from services.diary.dates import iso_day, parse_date
from services.diary.entry import Source
from services.diary.ledger.paging import EntryFilter
from services.errors import FieldError
from services.local_time import LocalTime
from services.orchestrator.dependencies import OwnerDep, StateDep
from services.orchestrator.timezones import Timezone

_FROM = "only entries of this day or later: YYYY-MM-DD, or any date that an entry may have"
_TO = "only entries of this day or earlier"
_Q = "only entries that contain this phrase, ignoring case"
_TAG = "only entries with exactly this tag"
_SOURCE = "only entries that were written, that were imported, or that are the persona's reflections"


class EntryFilterQuery(BaseModel):
    """A filter in a body; an empty one matches every entry."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    first: str | None = Field(None, alias="from", max_length=40, description=_FROM)
    last: str | None = Field(None, alias="to", max_length=40, description=_TO)
    q: str = Field("", max_length=1000, description=_Q)
    tag: str = Field("", max_length=64, description=_TAG)
    source: Source | None = Field(None, description=_SOURCE)
    timezone: Timezone | None = None

    def filter(self, local: LocalTime) -> EntryFilter:
        """The ledger's filter. Raises FieldError for invalid dates."""
        return _filter(local, self.first, self.last, self.q, self.tag, self.source)


def _query_filter(
    state: StateDep,
    owner: OwnerDep,
    first: Annotated[str | None, Query(alias="from", max_length=40, description=_FROM)] = None,
    last: Annotated[str | None, Query(alias="to", max_length=40, description=_TO)] = None,
    q: Annotated[str, Query(max_length=1000, description=_Q)] = "",
    tag: Annotated[str, Query(max_length=64, description=_TAG)] = "",
    source: Annotated[Source | None, Query(description=_SOURCE)] = None,
    timezone: Annotated[Timezone | None, Query()] = None,
) -> EntryFilter:
    return _filter(state.local_time(owner, timezone), first, last, q, tag, source)


def _filter(
    local: LocalTime, first: str | None, last: str | None, q: str, tag: str, source: Source | None
) -> EntryFilter:
    return EntryFilter(first_day(first, "from", local), last_day(last, "to", local), q, tag, source)


FilterDep = Annotated[EntryFilter, Depends(_query_filter)]


def first_day(date: str | None, param: str, local: LocalTime) -> str:
    """The first day of a date, YYYY-MM-DD; "" for none. Raises FieldError."""
    return _days(date, param, local)[0] if date else ""


def last_day(date: str | None, param: str, local: LocalTime) -> str:
    """The last day of a date, YYYY-MM-DD; "" for none. Raises FieldError."""
    return _days(date, param, local)[1] if date else ""


def _days(date: str, param: str, local: LocalTime) -> tuple[str, str]:
    """A bound's ISO date may be of any year; other dates are read as an entry's date is."""
    try:
        day = iso_day(date, local).isoformat()
        return day, day
    except ValueError:
        pass
    try:
        when = parse_date(date, local.today(), local)
    except ValueError as error:
        raise FieldError(f"{param}: {error}", param) from None
    return when.first_day, when.last_day
