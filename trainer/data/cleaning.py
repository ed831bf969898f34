"""Cleaning: repairs encodings, checks length and language, and replaces personal data.

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
from typing import TYPE_CHECKING, Any

import ftfy

from services.errors import ConfigError
from services.process.cpu_count import available_cpus
from trainer.config import TrainingConfig
from trainer.data.sample import Sample

if TYPE_CHECKING:
    from py3langid.langid import LanguageIdentifier

TOO_SHORT, TOO_LONG = "too short", "too long"

# Of 8,000 English sentences py3langid mistook 50 of up to eight words for another language, and none longer.
FEW_WORDS = 12
# It knows 140 languages, so 1/140 is a blind guess. Foreign sentences score below this, English ones above.
MIN_PROBABILITY = 0.001

LONG_WORD = 20  # characters; a text of longer words is no prose, and patterns take minutes over it

# Samples. With fewer than MIN_PARALLEL, starting processes takes longer than it saves.
MIN_PARALLEL = 2_000
MIN_PER_PROCESS = 1_000
CHUNK_SIZE = 50

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
        """The sample with all its text cleaned, or the reason why it is rejected."""
        turns = tuple({**turn, "content": normalize(turn["content"])} for turn in sample.turns)
        prompt_variants = tuple(map(_normalize_prompt, sample.prompt_variants))
        normalized = replace(
            sample, turns=turns, prompt_variants=prompt_variants, summary=normalize(sample.summary)
        )
        return self._rejection(normalized) or self._scrubbed(normalized)

    def _rejection(self, sample: Sample) -> str:
        if not all(turn["content"] for turn in sample.turns):
            return TOO_SHORT
        words = len(sample.answer.split())
        if sample.prompt_variants and words < self.config.min_words:
            return TOO_SHORT
        if sample.prompt_variants and max(words, len(sample.answer) / LONG_WORD) > self.config.max_words:
            return TOO_LONG
        if self._in_language and not self._in_language(sample.answer):
            return f"not {self.config.language}"
        return ""

    def _scrubbed(self, sample: Sample) -> Sample:
        turns = tuple({**turn, "content": self._scrub(turn["content"])} for turn in sample.turns)
        prompt_variants = tuple(self._scrub(prompt) for prompt in sample.prompt_variants if prompt)
        return replace(
            sample, turns=turns, prompt_variants=prompt_variants, summary=self._scrub(sample.summary)
        )


def normalize(text: str) -> str:
    """`text` with broken encodings and HTML entities repaired, and spaces and line ends normalized."""
    text = _INVISIBLE.sub("", ftfy.fix_text(text, unescape_html=True))
    text = _LINE_EDGES.sub("\n", _BLANKS.sub(" ", text))
    return _EMPTY_LINES.sub("\n\n", text).strip()


# All narratives of a source share a few prompts.
_normalize_prompt = lru_cache(maxsize=10_000)(normalize)


# Language


@cache
def _identifier() -> "LanguageIdentifier":
    from py3langid.langid import MODEL_FILE, LanguageIdentifier  # its model takes half a second to load

    return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)


def _language_check(language: str) -> Callable[[str], bool]:
    """A predicate: whether a text is in `language`. Raises ConfigError for a language that is unknown."""
    identifier = _identifier()
    if language not in identifier.labels:
        raise ConfigError(f"language: {language!r} can't be recognised; leave it empty to take any language")

    def check(text: str) -> bool:
        if len(text.split()) < FEW_WORDS:
            return bool(dict(identifier.rank(text))[language] >= MIN_PROBABILITY)
        return bool(identifier.classify(text)[0] == language)

    return check


# Personal data

# Replacements: reserved for examples by RFC 2606 and RFC 5737, or by those who assign the numbers.
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
# Presidio's own pattern of links matches any two words around a full stop: "I went home.My sister".
_LINK = r"(?i)\b(?:https?://|www\.)[^\s<>()\[\]\"']*[^\s<>()\[\]\"'.,;:!?*_…]"
_DOMAIN = (
    r"(?<![\w@.-])(?:[A-Za-z0-9][A-Za-z0-9-]*\.)+"
    r"(?:(?:com|net|org|edu|gov|info|biz|io|ie|co\.uk|org\.uk|ac\.uk|com\.au)(?![\w-])|(?:ly|gl|be|it|me|co|gg)(?=/\w))"
    r"(?:/[^\s<>()\[\]\"']*[^\s<>()\[\]\"'.,;:!?*_…])?"
)
_HANDLE = r"(?<![\w@./])@(?!(?:all|home|least|my|night|school|the|work)\b)[A-Za-z_][\w.]*\w"
_REDDITOR = r"(?<![\w/])/?u/[\w-]{3,20}(?![\w-])"
# English-speaking regions: by German rules, 07.07.1966 is a telephone number.
_REGIONS = ("US", "GB", "IE", "CA", "AU", "NZ", "IN")
_PHONE_DIGITS = 7
_DATE = re.compile(r"\d\d?([. /-])\d\d?\1(?:19|20)\d\d")
# Lower scores are Presidio's guesses: nine digits that might be anything.
_CONFIDENCE = 0.4
# Every match contains one of these; most sentences have none, and skip the ten recognisers.
_SUSPECT = re.compile(r"[\d@/:]|\.\w")


class Scrubber:
    """Replaces personal data by stand-ins that belong to nobody; found by Presidio's patterns and ours."""

    def __init__(self) -> None:
        with _without("torch", "transformers"):
            self._recognizers = _recognizers()

    def scrub(self, text: str) -> str:
        """`text` with stand-ins; everything else is unchanged."""
        if not _SUSPECT.search(text):
            return text
        pieces: list[str] = []
        position = 0
        for start, end, kind in self._matches(text):
            if start >= position:  # of two that overlap, the first and longest counts
                pieces += [text[position:start], STAND_INS[kind]]
                position = end
        return "".join([*pieces, text[position:]])

    def _matches(self, text: str) -> list[tuple[int, int, str]]:
        matches = [
            (hit.start, hit.end, hit.entity_type)
            for recognizer in self._recognizers
            for hit in recognizer.analyze(text, recognizer.supported_entities)
            if hit.score >= _CONFIDENCE and _is_plausible(hit.entity_type, text[hit.start : hit.end])
        ]
        return sorted(matches, key=lambda hit: (hit[0], -hit[1]))


def _is_plausible(kind: str, text: str) -> bool:
    """Some countries have telephone numbers as short as a year, or written like a date with its hour."""
    if kind != "PHONE_NUMBER":
        return True
    return sum(map(str.isdigit, text)) >= _PHONE_DIGITS and not _DATE.search(text)


def _recognizers() -> list[Any]:
    """Presidio's recognizers and ours; not typed, because their base class requires NLP artifacts."""
    from presidio_analyzer import Pattern, PatternRecognizer
    from presidio_analyzer import predefined_recognizers as presidio
    from tldextract import TLDExtract

    suffixes = TLDExtract(suffix_list_urls=(), cache_dir=None)

    class EmailRecognizer(presidio.EmailRecognizer):
        """Presidio's own downloads the list of public suffixes."""

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
    """Keep `modules` from being imported, unless they already are.

    Presidio imports torch and transformers where they are installed, for recognisers that are not used here:
    4 s and 400 MB in every process.
    """
    absent = [name for name in modules if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]  # the documented way to block an import
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


# Many samples


class Cleaners:
    """Cleans many samples, in several processes where that is faster; results and their order are the same.

    A context manager: processes are started when they are first needed and end with the context.
    """

    def __init__(
        self,
        config: TrainingConfig,
        *,
        min_parallel: int = MIN_PARALLEL,
        min_per_process: int = MIN_PER_PROCESS,
    ) -> None:
        self.config, self.min_parallel, self.min_per_process = config, min_parallel, min_per_process
        self._local: Cleaner | None = None
        self._processes: ProcessPoolExecutor | None = None

    def __enter__(self) -> "Cleaners":
        return self

    def __exit__(self, *error: object) -> None:
        if self._processes:
            self._processes.shutdown(cancel_futures=True)

    def clean(self, samples: list[Sample]) -> Iterable[Sample | str]:
        """Each sample cleaned, or why it is rejected. Raises ConfigError for an unknown language."""
        self._local = self._local or Cleaner(self.config)
        workers = min(available_cpus(), len(samples) // self.min_per_process)
        if not self._processes and (len(samples) <= self.min_parallel or workers < 2):
            return map(self._local.clean, samples)
        self._processes = self._processes or ProcessPoolExecutor(
            workers, get_context("spawn"), initializer=_start_worker, initargs=(self.config,)
        )
        with _interrupts_blocked():
            return self._processes.map(_clean, samples, chunksize=CHUNK_SIZE)


@contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Processes started in here never see SIGINT; this process handles it afterwards."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_worker(config: TrainingConfig) -> None:
    """The initializer of a worker process."""
    global _cleaner
    _cleaner = Cleaner(config)


def _clean(sample: Sample) -> Sample | str:
    return _cleaner.clean(sample)


_cleaner: Cleaner
