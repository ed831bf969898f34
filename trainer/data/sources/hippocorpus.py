"""Hippocorpus: short autobiographical stories (Sap et al., ACL 2020; O-UDA 1.0).

Reads the official `hippoCorpusV2.csv` or `hcV3-stories.csv`, unpacked or in the official zip, by five
columns alone: those about the writers (worker id, age, gender, race) are ignored.
"""

import io
import re
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any

from services.errors import ConfigError
from services.files import DAMAGED_ZIP
from trainer.config import TrainingConfig
from trainer.data.sample import Sample, make_sample
from trainer.data.source import Provenance, Rejections
from trainer.data.sources.rows import Lines, Table, exists, fingerprint, listed, opened

NAME = "hippocorpus"
LICENCE = (
    "Hippocorpus (Sap, Horvitz, Choi, Smith and Pennebaker, ACL 2020; Microsoft), "
    "Open Use of Data Agreement 1.0 (O-UDA-1.0)"
)
REMEDY = (
    "Hippocorpus no longer loads from the hub: download hippocorpus-u20220112.zip from "
    "https://www.microsoft.com/en-us/download/details.aspx?id=105291, unpack hippoCorpusV2.csv to "
    "this path, or set hippocorpus_path to the zip or the CSV"
)
COLUMNS = ("story", "memType", "summary", "mainEvent", "timeSinceEvent")
MEMBERS = ("hippoCorpusV2.csv", "hcV3-stories.csv")

PLAIN = (
    "Tell me about something that happened to you.",
    "Can you share a memory with me?",
    "What's a day you still think about?",
    "Tell me a story from your life.",
    "Has anything happened lately that stayed with you?",
    "I'd like to hear about a time that mattered to you.",
)
TIMED = (
    "Tell me about something that happened {when}.",
    "Something happened to you {when}, didn't it? Tell me.",
    "What were you up to {when}?",
    "Cast your mind back: what happened {when}?",
    "Do you remember anything from {when}?",
)
ABOUT = (
    "Tell me about {event}.",
    "What was it like, {event}?",
    "Do you still think about {event}?",
    "Remind me of {event}. How was it?",
)
NUMBERS = (
    *("no", "one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
)
# Name, its length in days, and the number of days up to which it is used.
UNITS = (("week", 7, 25), ("month", 30.4, 350), ("year", 365, 12.5 * 365))

# A phrase reads well after "Tell me about" when it is a noun phrase of hers or an activity: "my sister's
# wedding", "getting lost in Rome". A clause ("I got married") or a bare noun ("concert") does not.
_EVENT = re.compile(r"(?:(?:my|our|a|an|the)|[a-z]{2,}ing)(?: [\w'’-]+){1,7}", re.IGNORECASE)
_NOT_DONE = re.compile(r"(?:during|evening|everything|morning|nothing|something|wedding)\b", re.IGNORECASE)
_CLAUSE = re.compile(r"\b(?:i|i'm|he|she|it|we|they|was|were|is|are|am|had|got|went)\b", re.IGNORECASE)
_HERS = {"my": "your", "our": "your", "me": "you", "us": "you", "mine": "yours", "ours": "yours"}
_HERS |= {"myself": "yourself", "ourselves": "yourselves"}


def is_available(config: TrainingConfig) -> bool:
    """Whether the file exists."""
    return exists(config.hippocorpus_path)


def provenance(config: TrainingConfig) -> Provenance:
    """The file and its hash."""
    return fingerprint(config.hippocorpus_path)


def read_samples(config: TrainingConfig, rejections: Rejections) -> Iterator[Sample]:
    """Yield one sample per story. Raises ConfigError that names file, line and column."""
    path, chosen = config.hippocorpus_path, config.hippocorpus_mem_types
    with _lines(path) as lines:
        table = Table(lines)
        for column in ("story", "memType") if chosen else ("story",):
            table.need(column)
        for line, row in table.rows(COLUMNS, rejections):
            if chosen and row["memType"].strip() not in chosen:
                rejections.add("memType not chosen")
            elif not (story := row["story"].strip()):
                rejections.add("empty")
            else:
                yield make_sample(
                    NAME, f"{path.name}:{line}", _prompts(row), story, row.get("summary", "").strip()
                )


@contextmanager
def _lines(path: Path) -> Iterator[Lines]:
    with opened(path, REMEDY) as file:
        if path.suffix.lower() != ".zip":
            yield Lines(file, str(path), REMEDY, table=True)
            return
        with _translated_damage(path):
            archive = zipfile.ZipFile(file)
            member = archive.open(_member(path, archive))
        with archive, member:
            reader: io.BufferedReader = io.BufferedReader(_Member(path, member))
            yield Lines(reader, f"{path} ({member.name})", REMEDY, table=True)


class _Member(io.RawIOBase):
    """A file in a zip. Reading raises ConfigError where the archive is damaged."""

    def __init__(self, path: Path, member: IO[bytes]) -> None:
        self._path = path
        self._member = member

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer; returns the number of bytes, 0 at the end."""
        with _translated_damage(self._path):
            content = self._member.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)


@contextmanager
def _translated_damage(path: Path) -> Iterator[None]:
    try:
        yield
    except DAMAGED_ZIP as error:
        raise ConfigError(f"{path} is no zip that can be read ({error}). {REMEDY}") from None


def _member(path: Path, archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    """The stories' table in a zip, in whatever folder it is."""
    members = {PurePosixPath(info.filename).name: info for info in archive.infolist()}
    for name in MEMBERS:
        if name in members:
            if members[name].flag_bits & 1:
                raise ConfigError(f"{path} is locked by a password: unpack {name} yourself. {REMEDY}")
            return members[name]
    raise ConfigError(f"{path} holds neither {' nor '.join(MEMBERS)}, but: {listed(members)}. {REMEDY}")


def _prompts(row: dict[str, str]) -> tuple[str, ...]:
    """The ways to ask for this story: by its time, by its event, or without either."""
    when, event = _when(row.get("timeSinceEvent", "")), _event(row.get("mainEvent", ""))
    timed = tuple(prompt.format(when=when) for prompt in TIMED if when)
    return timed + tuple(prompt.format(event=event) for prompt in ABOUT if event) + PLAIN


def _when(days: str) -> str:
    """`90.0` days as a friend would say it, around three months ago; blank for what is no number."""
    try:
        since = float(days)
    except ValueError:
        return ""
    if 0 < since < 5:
        return "a few days ago"
    for unit, days_in_unit, limit in UNITS:
        if 0 < since < limit:
            number = max(1, round(since / days_in_unit))
            return f"around {NUMBERS[number]} {unit}s ago" if number > 1 else f"around a {unit} ago"
    return ""


def _event(phrase: str) -> str:
    """The main event as the user would say it (`my` becomes `your`); blank where that reads ill."""
    phrase = phrase.strip().rstrip(".")
    if not _EVENT.fullmatch(phrase) or _NOT_DONE.match(phrase) or _CLAUSE.search(phrase):
        return ""
    first, *rest = phrase.split()
    return " ".join(_HERS.get(word.lower(), word) for word in (first.lower(), *rest))
