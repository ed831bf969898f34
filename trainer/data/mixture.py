"""The mixture: so many samples of each source, drawn by the run's seed, cleaned, without duplicates."""

import hashlib
import heapq
import random
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice, repeat
from typing import Protocol

from services.errors import ConfigError
from trainer.config import TrainingConfig
from trainer.data.cleaning import Cleaners
from trainer.data.dialogue import tell
from trainer.data.duplicates import EXACT, Duplicates, words_told
from trainer.data.rejections import Rejections
from trainer.data.sample import Sample
from trainer.data.sources import conversations, hippocorpus, journals, reddit
from trainer.log import log


class Source(Protocol):
    """What a module in `sources/` offers."""

    NAME: str
    LICENCE: str
    REMEDY: str

    def read(self, config: TrainingConfig, drops: Rejections) -> Iterator[Sample]: ...
    def found(self, config: TrainingConfig) -> bool: ...
    def provenance(self, config: TrainingConfig) -> dict[str, object]: ...


SOURCES: tuple[Source, ...] = (hippocorpus, journals, reddit, conversations)
# Of two near duplicates in two sources the first one's stays: the user's own words before anybody else's.
BY_CLAIM: tuple[Source, ...] = (conversations, hippocorpus, journals, reddit)
# Where the config says how much of a source is asked for, and where it lies.
_FIELDS = {
    "hippocorpus": ("hippocorpus_ratio", "hippocorpus_path"),
    "journals": ("journal_ratio", "journal_path"),
    "reddit": ("reddit_ratio", "reddit_path"),
    "conversations": ("generated_ratio", "generated_data_path"),
}


@dataclass(frozen=True)
class Mixture:
    """Shuffled samples to learn from, others to measure loss on, and for each source what became of it.

    `missing` names the sources that had nothing to give and were left out; `seconds` is what each part took.
    """

    taught: list[Sample]
    held_out: list[Sample]
    account: dict[str, dict[str, object]]
    missing: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict, compare=False)


def mix(config: TrainingConfig) -> Mixture:
    """Draw `target_size` samples by the four ratios; the same files and config give the same mixture.

    A source that has fewer than its share repeats what it has, each at most `max_repeats` times in all, and
    the account says what is still short. Raises ConfigError for a source that is malformed, and for one that
    is missing or without a usable sample unless the others may share its part.
    """
    wanted = _wanted(config)
    missing = check_sources(config)
    complaints = [_no_file(source, config) for source in missing]
    while present := [source for source in wanted if source not in missing]:
        shares = _shares(config, present)
        seconds = _draw(shares, config)
        unusable = [share for share in shares if not share.kept]
        if not unusable:
            return _mixture(config, shares, [source.NAME for source in missing], seconds)
        missing += [share.source for share in unusable]  # their part is the others': all is drawn anew
        complaints += [share.complaint() for share in unusable]
    raise ConfigError(f"nothing to learn from: {'; '.join(complaints)}")


def check_sources(config: TrainingConfig) -> list[Source]:
    """The sources that have no file. Raises ConfigError, unless the others may share their part."""
    missing = [source for source in _wanted(config) if not source.found(config)]
    if missing and not config.allow_missing:
        raise ConfigError("; ".join(_no_file(source, config) for source in missing))
    return missing


def _wanted(config: TrainingConfig) -> list[Source]:
    return [source for source in SOURCES if _ratio(source, config) > 0]


def _no_file(source: Source, config: TrainingConfig) -> str:
    return f"no file {_place(source, config)}. {source.REMEDY}"


def _ratio(source: Source, config: TrainingConfig) -> float:
    return getattr(config, _FIELDS[source.NAME][0])


def _place(source: Source, config: TrainingConfig) -> object:
    return getattr(config, _FIELDS[source.NAME][1]) or config.reddit_dataset


def apportion(total: int, ratios: list[float]) -> list[int]:
    """Whole numbers in the proportions of `ratios` that add up to `total` (largest remainder)."""
    exact = [total * ratio / sum(ratios) for ratio in ratios]
    counts = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda place: counts[place] - exact[place])
    for place in by_remainder[: total - sum(counts)]:
        counts[place] += 1
    return counts


# One source's part


class SourceQuota:
    """What one source is asked for, and what it gives: different samples, in the order of their priority."""

    def __init__(self, source: Source, config: TrainingConfig, asked: int, held_out: int) -> None:
        self.source, self.config, self.asked = source, config, asked
        self._to_hold_out = held_out
        self.drops = Rejections(refuse_bad_rows=config.bad_rows == "refuse")
        self.read = 0
        self.kept: list[Sample] = []

    def draw(self, cleaners: Cleaners, duplicates: Duplicates, seconds: Counter[str]) -> None:
        """Read the source until as many samples as asked are kept, or it has no more.

        One pass holds twice what is still needed, so that a second one is rare. Raises ConfigError for a
        source that can't be read.
        """
        above = -1
        while len(self.kept) < self.asked:
            started = time.monotonic()
            size = max(self.asked, 2 * (self.asked - len(self.kept)))
            drawn = self._pass(BottomKSample(size, self.config.seed, above))
            read = time.monotonic()
            self._keep(drawn, cleaners, duplicates)
            seconds["read"] += read - started
            seconds["clean"] += time.monotonic() - read
            if drawn.exhausted:
                break
            above = drawn.highest

    def _pass(self, draw: "BottomKSample") -> "BottomKSample":
        """Read the source once. What it holds and leaves out is counted the first time."""
        first = not self.read
        drops = self.drops if first else Rejections(refuse_bad_rows=self.config.bad_rows == "refuse")
        for sample in self.source.read(self.config, drops):
            draw.offer(sample)
            self.read += first
        if first:
            self.read += drops.reasons.total()
        return draw

    def _keep(self, drawn: "BottomKSample", cleaners: Cleaners, duplicates: Duplicates) -> None:
        """Take what is fit and new, lowest priority first, until there is enough."""
        candidates = iter(drawn.candidates())
        while batch := list(islice(candidates, self.asked - len(self.kept))):
            cleaned = cleaners.clean([sample for sample, _ in batch])
            for sample, (_, times) in zip(cleaned, batch, strict=True):
                self.drops.reasons[EXACT] += times - 1
                reason = sample if isinstance(sample, str) else duplicates.find(sample)
                if reason:
                    self.drops.drop(reason)
                else:
                    self.kept.append(sample)

    def held_out(self) -> list[Sample]:
        """Samples to measure loss on: none of them is taught, and at most half of what was kept."""
        return self.kept[: min(self._to_hold_out, len(self.kept) // 2)]

    def taught(self) -> list[tuple[Sample, int]]:
        """Samples with how often each stood there before: all stand twice before any stands thrice."""
        held = len(self.held_out())
        different = self.kept[held:]
        rows = min(self.asked - held, self.config.max_repeats * len(different))
        return [(different[row % len(different)], row // len(different)) for row in range(rows)]

    def account(self) -> dict[str, object]:
        """What was asked for and what came of it: every row read was kept, dropped or not drawn."""
        held, taught = len(self.held_out()), len(self.taught())
        dropped = {reason: count for reason, count in sorted(self.drops.reasons.items()) if count}
        return {
            "asked": self.asked,
            "read": self.read,
            "kept": len(self.kept),
            "used": taught + held,
            "repeated": taught + held - len(self.kept),
            "held_out": held,
            "short": self.asked - taught - held,
            "dropped": dropped,
            "not_drawn": self.read - len(self.kept) - sum(dropped.values()),
            "bad_rows": self.drops.bad_rows,
            "licence": self.source.LICENCE,
            **self.source.provenance(self.config),
        }

    def complaint(self) -> str:
        """Why there is nothing to learn from it."""
        counted = self.drops.reasons.most_common()
        reasons = ", ".join(f"{count} {reason}" for reason, count in counted if count) or "no rows"
        place, name = _place(self.source, self.config), self.source.NAME
        return f"{place} holds no usable sample for {name} ({reasons}). {self.source.REMEDY}"


def _shares(config: TrainingConfig, sources: list[Source]) -> list[SourceQuota]:
    ratios = [_ratio(source, config) for source in sources]
    asked, held_out = apportion(config.target_size, ratios), apportion(config.eval_size, ratios)
    return [
        SourceQuota(*part) for part in zip(sources, repeat(config), asked, held_out, strict=False) if part[2]
    ]


def _draw(shares: list[SourceQuota], config: TrainingConfig) -> dict[str, float]:
    """Fill all shares, the first claim first; returns the seconds that it took to read and to clean."""
    seconds: Counter[str] = Counter(read=0, clean=0)
    duplicates = Duplicates(config.near_duplicates)
    with Cleaners(config) as cleaners:
        for share in sorted(shares, key=lambda share: BY_CLAIM.index(share.source)):
            share.draw(cleaners, duplicates, seconds)
            if not share.kept and not config.allow_missing:
                raise ConfigError(share.complaint())
            log.info("%s: %d of %d rows drawn", share.source.NAME, len(share.kept), share.read)
    return dict(seconds)


class BottomKSample:
    """The samples of lowest priority in a stream, held in constant memory: a bottom-k sketch.

    The priority is a hash of what is told, so that the draw is uniform, hangs on the seed and not on the
    order of the rows, and meets exact duplicates as equals (Cohen and Kaplan, PODC 2007).
    """

    def __init__(self, size: int, seed: int, above: int = -1) -> None:
        self.size, self.above = size, above
        self.exhausted = True  # nothing in the stream had to be turned away
        self._key = str(seed).encode()
        self._highest_first: list[int] = []  # priorities, negated
        self._held: dict[int, tuple[Sample, int]] = {}

    def offer(self, sample: Sample) -> None:
        """Hold the sample if its priority is among the lowest above `above`."""
        priority = self._priority(sample)
        if priority in self._held:
            held, times = self._held[priority]
            self._held[priority] = (min(held, sample, key=_told), times + 1)
        elif priority > self.above:
            self._hold(priority, sample)

    def _hold(self, priority: int, sample: Sample) -> None:
        heapq.heappush(self._highest_first, -priority)
        self._held[priority] = (sample, 1)
        if len(self._held) > self.size:
            self.exhausted = False
            del self._held[-heapq.heappop(self._highest_first)]

    def _priority(self, sample: Sample) -> int:
        words = words_told(sample).encode(errors="surrogatepass")
        return int.from_bytes(hashlib.blake2b(words, digest_size=8, key=self._key).digest())

    @property
    def highest(self) -> int:
        """The priority behind which the next pass begins."""
        return -self._highest_first[0]

    def candidates(self) -> list[tuple[Sample, int]]:
        """The samples held, by priority, and how often each was met."""
        return [self._held[priority] for priority in sorted(self._held)]


def _told(sample: Sample) -> tuple[object, ...]:
    """Which of two samples with the same words stands for both, wherever they lie in the file."""
    return (*(turn["content"] for turn in sample.turns), sample.askings, sample.gist, sample.origin)


# All sources' dialogues


def _mixture(
    config: TrainingConfig, shares: list[SourceQuota], missing: list[str], seconds: dict[str, float]
) -> Mixture:
    """Make dialogues of what was drawn. Raises ConfigError when none can be held out."""
    held_out = [(sample, 0) for share in shares for sample in share.held_out()]
    taught = [row for share in shares for row in share.taught()]
    if not held_out:
        raise ConfigError(
            f"target_size={config.target_size} and eval_size={config.eval_size} leave {len(taught)} samples "
            "to learn from and none to measure loss on: bring more data, or raise target_size"
        )
    companions = [sample for sample, repetition in taught if not repetition]
    started = time.monotonic()
    dialogues = [_dialogues(rows, companions, config) for rows in (taught, held_out)]
    seconds["tell"] = time.monotonic() - started
    return Mixture(*dialogues, {share.source.NAME: share.account() for share in shares}, missing, seconds)


def _dialogues(
    rows: list[tuple[Sample, int]], companions: list[Sample], config: TrainingConfig
) -> list[Sample]:
    """Each with a chance of its own, so that none hangs on the others; in an order that the seed decides."""
    told = [
        tell(
            sample,
            random.Random(f"{config.seed} {repetition} {words_told(sample)}"),
            repetition,
            config,
            companions,
        )
        for sample, repetition in rows
    ]
    random.Random(config.seed).shuffle(told)
    return told
