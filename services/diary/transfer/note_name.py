"""The day that a note's name tells: Obsidian's 2023-05-08.md, Logseq's 2023_05_08.md or May 8th, 2023.md."""

from datetime import UTC, datetime
from pathlib import PurePosixPath

from services.diary.dates import parse_date
from services.diary.transfer.headings import Heading
from services.diary.transfer.spelled import spelled

_LONGEST = 80


def heading_of_name(name: str) -> Heading | None:
    """The heading that a file's name is; none when it is no date."""
    stem = PurePosixPath(name.replace("\\", "/")).stem
    if len(stem) > _LONGEST:
        return None
    for date in (stem, stem[:10]):  # and 2023-05-08 Monday, 2023-05-08-the-dog
        try:
            date_text = spelled(date)
            span = parse_date(date_text, datetime.now(UTC).date())
        except ValueError:
            continue
        if span.first_day == span.last_day:
            return Heading(1, 0, date_text, span=span)
    return None
