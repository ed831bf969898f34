"""Which day it is where the diarist is.

Moments are kept in UTC. Days are not: an evening in London is the next morning in Auckland. Whoever means a
day asks a LocalTime, which has the time zone and the clock.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from datetime import date as Date
from zoneinfo import ZoneInfo

_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_+-]{0,31}(?:/[A-Za-z0-9_+-]{1,31}){0,2}", re.ASCII)
Clock = Callable[[], datetime]


def utc_now() -> datetime:
    """The present moment."""
    return datetime.now(UTC)


def read_zone(name: str) -> ZoneInfo:
    """A time zone by its IANA name. Raises ValueError that says what to write."""
    try:
        if _NAME.fullmatch(name):
            return ZoneInfo(name)
    except (ValueError, KeyError, OSError):  # KeyError: there is no such zone; OSError: it is a folder
        pass
    raise ValueError(f"{name[:80]!r} is no time zone: write an IANA name such as Pacific/Auckland, or UTC")


@dataclass(frozen=True)
class LocalTime:
    """A time zone and a clock."""

    zone: tzinfo = UTC
    clock: Clock = utc_now

    def today(self) -> Date:
        """The day that the calendar shows there now."""
        return self.day_of(self.clock())

    def day_of(self, moment: datetime) -> Date:
        """The day on which a moment falls there."""
        return moment.astimezone(self.zone).date()

    def wall(self, moment: datetime) -> datetime:
        """What clocks showed, without a zone, at a moment that somebody wrote down.

        A moment without an offset, or with one of its own, was written by a clock that showed it. One in UTC
        was written by a program, and is read off the clocks there.
        """
        if moment.utcoffset() is not None and not moment.utcoffset():
            try:
                moment = moment.astimezone(self.zone)
            except OverflowError:  # in the first or last hours of the calendar
                pass
        return moment.replace(tzinfo=None)

    def elsewhere(self, zone: tzinfo) -> "LocalTime":
        """The same clock in another zone."""
        return LocalTime(zone, self.clock)


IN_UTC = LocalTime()
