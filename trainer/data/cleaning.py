"""What is fit to learn from: encoding mended, length and language checked, nobody's address or number kept.

Patterns find e-mail addresses, telephone numbers, links and the like. Not covered: names, places and
whatever else only a reader would recognise.
"""

import re
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cache, lru_cache
from multiprocessing import get_context
from typing import TYPE_CHECKING

import ftfy

from services.errors import ConfigError
from services.process.cpu_count import available_cpus
from trainer.config import TrainingConfig
from trainer.data.sample import Sample

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

TOO_SHORT, TOO_LONG = "too short", "too long"

# Of 8,000 English sentences py3langid took 50 of up to eight words for another language, and no longer one.
FEW_WORDS = 12
# It knows 140 languages: 1/140 is knowing nothing. Foreign sentences lie below this, English ones above.
HARDLY_LIKELY = 0.001

A_LONG_WORD = 20  # characters; what has longer words all through is no prose, and patterns take ages over it

IN_PROCESSES = 2_000  # samples; below, starting processes takes longer than it saves
A_PROCESS = 1_000  # samples that a process must find to do
A_TASK = 50  # samples handed over at once

_BLANKS = re.compile(r"[^\S\n]+")
_INVISIBLE = re.compile("[\u00ad\u200b\u2060\ufeff]")
_LINE_EDGES = re.compile(r" ?\n ?")
_EMPTY_LINES = re.compile(r"\n{3,}")


class Cleaner:
    """Cleans one sample after another; the same text always comes out the same."""

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self._in_language = _language_check(config.language) if config.language else None
        self._scrub = Scrubber().scrub if config.scrub_pii else str

    def clean(self, sample: Sample) -> Sample | str:
        """The sample with all its words cleaned, or the reason why Ada does not learn from it."""
        turns = tuple({**turn, "content": mend(turn["content"])} for turn in sample.turns)
        askings = tuple(map(_mend_asking, sample.askings))
        mended = replace(sample, turns=turns, askings=askings, gist=mend(sample.gist))
        return self._unfit(mended) or self._scrubbed(mended)

    def _unfit(self, sample: Sample) -> str:
        if not all(turn["content"] for turn in sample.turns):
            return TOO_SHORT
        words = len(sample.answer.split())
        if sample.askings and words < self.config.min_words:
            return TOO_SHORT
        if sample.askings and max(words, len(sample.answer) / A_LONG_WORD) > self.config.max_words:
            return TOO_LONG
        if self._in_language and not self._in_language(sample.answer):
            return f"not {self.config.language}"
        return ""

    def _scrubbed(self, sample: Sample) -> Sample:
        turns = tuple({**turn, "content": self._scrub(turn["content"])} for turn in sample.turns)
        askings = tuple(self._scrub(asking) for asking in sample.askings if asking)
        return replace(sample, turns=turns, askings=askings, gist=self._scrub(sample.gist))


def mend(text: str) -> str:
    """`text` with broken encodings and HTML entities mended, and its spaces and line ends in order."""
    text = _INVISIBLE.sub("", ftfy.fix_text(text, unescape_html=True))
    text = _LINE_EDGES.sub("\n", _BLANKS.sub(" ", text))
    return _EMPTY_LINES.sub("\n\n", text).strip()


# A source asks for all its tellings in the same few ways.
_mend_asking = lru_cache(maxsize=10_000)(mend)


# Language


@cache
def _identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # its model takes half a second to load

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _language_check(language: str) -> Callable[[str], bool]:
    """Says of a text whether it is in `language`. Raises ConfigError for one that can't be told."""
    identifier = _identifier()
    if language not in identifier.labels:
        raise ConfigError(f"language: {language!r} can't be recognised; leave it empty to take any language")

    def check(text: str) -> bool:
        if len(text.split()) < FEW_WORDS:
            return dict(identifier.rank(text))[language] >= HARDLY_LIKELY
        return identifier.classify(text)[0] == language

    return check


# What belongs to somebody

# What stands in for it: reserved for examples by RFC 2606 and RFC 5737, or by those who give the numbers out.
STAND_INS = {
    "EMAIL_ADDRESS": "name@example.com",
    "URL": "https://example.com",
    "DOMAIN": "example.com",
    "PHONE_NUMBER": "555-0100",
    "IP_ADDRESS": "192.0.2.1",
    "CREDIT_CARD": "4242 4242 4242 4242",
    "IBAN_CODE": "GB82 WEST 1234 5698 7654 32",
    "US_SSN": "987-65-4320",
    "HANDLE": "@someone",
    "REDDITOR": "u/someone",
}
# Presidio's own pattern of links takes any two words around a full stop for one: "I went home.My sister".
_LINK = r"(?i)\b(?:https?://|www\.)[^\s<>()\[\]\"']*[^\s<>()\[\]\"'.,;:!?*_…]"
_DOMAIN = (
    r"(?<![\w@.-])(?:[A-Za-z0-9][A-Za-z0-9-]*\.)+"
    r"(?:(?:com|net|org|edu|gov|info|biz|io|ie|co\.uk|org\.uk|ac\.uk|com\.au)(?![\w-])|(?:ly|gl|be|it|me|co|gg)(?=/\w))"
    r"(?:/[^\s<>()\[\]\"']*[^\s<>()\[\]\"'.,;:!?*_…])?"
)
_HANDLE = r"(?<![\w@./])@(?!(?:all|home|least|my|night|school|the|work)\b)[A-Za-z_][\w.]*\w"
_REDDITOR = r"(?<![\w/])/?u/[\w-]{3,20}(?![\w-])"
# Where English is spoken: by German rules, 07.07.1966 is a telephone number.
_REGIONS = ("US", "GB", "IE", "CA", "AU", "NZ", "IN")
_PHONE_DIGITS = 7
_DATE = re.compile(r"\d\d?([. /-])\d\d?\1(?:19|20)\d\d")
# Below it lie Presidio's guesses: nine digits that might be anything.
_CONFIDENCE = 0.4
# Whatever is found has one of these; most sentences have none, and are not searched by ten recognisers.
_SUSPECT = re.compile(r"[\d@/:]|\.\w")


class Scrubber:
    """Replaces what points at somebody by what belongs to nobody; found by Presidio's patterns and ours."""

    def __init__(self) -> None:
        with _without("torch", "transformers"):
            self._recognizers = _recognizers()

    def scrub(self, text: str) -> str:
        """`text` with stand-ins; all else is left as it was."""
        if not _SUSPECT.search(text):
            return text
        pieces, place = [], 0
        for start, end, kind in self._found(text):
            if start >= place:  # of two that overlap the first and longest counts
                pieces += [text[place:start], STAND_INS[kind]]
                place = end
        return "".join([*pieces, text[place:]])

    def _found(self, text: str) -> list[tuple[int, int, str]]:
        found = [
            (hit.start, hit.end, hit.entity_type)
            for recognizer in self._recognizers
            for hit in recognizer.analyze(text, recognizer.supported_entities)
            if hit.score >= _CONFIDENCE and _is_plausible(hit.entity_type, text[hit.start : hit.end])
        ]
        return sorted(found, key=lambda hit: (hit[0], -hit[1]))


def _is_plausible(kind: str, text: str) -> bool:
    """Some countries have telephone numbers as short as a year, or written as a date with its hour is."""
    if kind != "PHONE_NUMBER":
        return True
    return sum(map(str.isdigit, text)) >= _PHONE_DIGITS and not _DATE.search(text)


def _recognizers() -> list[object]:
    from presidio_analyzer import Pattern, PatternRecognizer
    from presidio_analyzer import predefined_recognizers as presidio
    from tldextract import TLDExtract

    suffixes = TLDExtract(suffix_list_urls=(), cache_dir=None)

    class EmailRecognizer(presidio.EmailRecognizer):
        """Presidio's own asks the network for the list of public suffixes."""

        def validate_result(self, pattern_text: str) -> bool:
            return bool(suffixes(pattern_text).fqdn)

    ours = {"URL": _LINK, "DOMAIN": _DOMAIN, "HANDLE": _HANDLE, "REDDITOR": _REDDITOR}
    return [
        EmailRecognizer(),
        presidio.PhoneRecognizer(supported_regions=_REGIONS),
        presidio.IpRecognizer(),
        presidio.CreditCardRecognizer(),
        presidio.IbanRecognizer(),
        presidio.UsSsnRecognizer(),
        *(
            # No flags: Presidio's default would let a pattern's capitals match anything.
            PatternRecognizer(kind, patterns=[Pattern(kind, regex, 1.0)], global_regex_flags=re.NOFLAG)
            for kind, regex in ours.items()
        ),
    ]


@contextmanager
def _without(*modules: str) -> Iterator[None]:
    """Keep `modules` from being imported, unless they are already.

    Presidio takes torch and transformers along where they are installed, for recognisers that are not used
    here: 4 s and 400 MB in every process.
    """
    absent = [name for name in modules if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


# Many samples


class Cleaners:
    """Cleans many samples, in processes where that is faster; the outcome and its order are the same.

    A context: the processes are started when they are first needed, and ended with it.
    """

    def __init__(self, config: TrainingConfig) -> None:
        self.config = config
        self._here: Cleaner | None = None
        self._processes: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Cleaners":
        return self

    def __exit__(self, *error: object) -> None:
        if self._processes:
            self._processes.shutdown(cancel_futures=True)

    def clean(self, samples: list[Sample]) -> Iterable[Sample | str]:
        """Each sample cleaned, or why it is left out. Raises ConfigError for an unknown language."""
        self._here = self._here or Cleaner(self.config)
        wanted = min(available_cpus(), len(samples) // A_PROCESS)
        if not self._processes and (len(samples) <= IN_PROCESSES or wanted < 2):
            return map(self._here.clean, samples)
        self._processes = self._processes or ProcessPoolExecutor(
            wanted, get_context("spawn"), initializer=_begin, initargs=(self.config,)
        )
        with _deaf_to_interrupts():
            return self._processes.map(_clean, samples, chunksize=A_TASK)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """What is started in here leaves an interrupt to be answered by the one who started it, afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin(config: TrainingConfig) -> None:
    """What a process does first."""
    global _cleaner
    _cleaner = Cleaner(config)


def _clean(sample: Sample) -> Sample | str:
    return _cleaner.clean(sample)


_cleaner: Cleaner
