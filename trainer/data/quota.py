"""One source's part of the mixture: its samples are drawn by priority, cleaned and de-duplicated."""

import hashlib
import heapq
import time
from itertools import islice
from typing import Any

from trainer.config import TrainingConfig
from trainer.data.cleaning import Cleaners
from trainer.data.duplicates import EXACT, Duplicates, compared_words
from trainer.data.sample import Sample
from trainer.data.source import Rejections, Source

SourceStats = dict[str, Any]


class SourceQuota:
    """How many samples a source should give, and the different ones it gave, in order of priority.

    `location` is the source's file or data set, as messages name it.
    """

    def __init__(
        self, source: Source, config: TrainingConfig, location: object, requested: int, eval_size: int
    ) -> None:
        self.source, self.config, self.location = source, config, location
        self.requested = requested
        self._eval_size = eval_size
        self.rejections = self._new_rejections()
        self.rows_read = 0
        self.accepted: list[Sample] = []

    def fill(self, cleaners: Cleaners, duplicates: Duplicates, seconds: dict[str, float]) -> None:
        """Read the source until `requested` samples are accepted or it has no more; adds to `seconds`.

        One pass holds twice the number still needed, so that a second pass is rare. Raises ConfigError for a
        source that can't be read.
        """
        above = -1
        while len(self.accepted) < self.requested:
            started = time.monotonic()
            size = max(self.requested, 2 * (self.requested - len(self.accepted)))
            sketch = self._scan(BottomKSample(size, self.config.seed, above))
            scanned = time.monotonic()
            self._accept(sketch, cleaners, duplicates)
            seconds["read"] += scanned - started
            seconds["clean"] += time.monotonic() - scanned
            if sketch.exhausted:
                break
            above = sketch.highest

    def _new_rejections(self) -> Rejections:
        return Rejections(refuse_bad_rows=self.config.bad_rows == "refuse")

    def _scan(self, sketch: "BottomKSample") -> "BottomKSample":
        """Read the source once. Rows and rejections are counted in the first pass only."""
        is_first = not self.rows_read
        rejections = self.rejections if is_first else self._new_rejections()
        for sample in self.source.read_samples(self.config, rejections):
            sketch.offer(sample)
            self.rows_read += is_first
        if is_first:
            self.rows_read += rejections.reasons.total()
        return sketch

    def _accept(self, sketch: "BottomKSample", cleaners: Cleaners, duplicates: Duplicates) -> None:
        """Accept what is fit and new, lowest priority first, until there is enough."""
        candidates = iter(sketch.candidates())
        while batch := list(islice(candidates, self.requested - len(self.accepted))):
            cleaned = cleaners.clean([sample for sample, _ in batch])
            for result, (_, times) in zip(cleaned, batch, strict=True):
                self.rejections.reasons[EXACT] += times - 1
                if isinstance(result, str):
                    self.rejections.add(result)
                elif duplicate := duplicates.find(result):
                    self.rejections.add(duplicate)
                else:
                    self.accepted.append(result)

    def eval_samples(self) -> list[Sample]:
        """The samples that measure loss: none is trained on, and they are at most half of the accepted."""
        return self.accepted[: min(self._eval_size, len(self.accepted) // 2)]

    def train_rows(self) -> list[tuple[Sample, int]]:
        """(sample, repetition from 0) for each row: all occur twice before any occurs three times."""
        held_out = len(self.eval_samples())
        different = self.accepted[held_out:]
        rows = min(self.requested - held_out, self.config.max_repeats * len(different))
        return [(different[row % len(different)], row // len(different)) for row in range(rows)]

    def stats(self) -> SourceStats:
        """The source's entry in mixture.json and in the manifest.

        read = kept + dropped + not_drawn, used = kept + repeated, asked = used + short.
        """
        eval_count, train_count = len(self.eval_samples()), len(self.train_rows())
        used = train_count + eval_count
        dropped = {reason: count for reason, count in sorted(self.rejections.reasons.items()) if count}
        return {
            "asked": self.requested,
            "read": self.rows_read,
            "kept": len(self.accepted),
            "used": used,
            "repeated": used - len(self.accepted),
            "held_out": eval_count,
            "short": self.requested - used,
            "dropped": dropped,
            "not_drawn": self.rows_read - len(self.accepted) - sum(dropped.values()),
            "bad_rows": self.rejections.bad_rows,
            "licence": self.source.LICENCE,
            **self.source.provenance(self.config),
        }

    def no_usable_sample(self) -> str:
        """The message for a source that gave nothing: its location, the reasons and the remedy."""
        by_reason = self.rejections.reasons.most_common()
        reasons = ", ".join(f"{count} {reason}" for reason, count in by_reason if count) or "no rows"
        name, remedy = self.source.NAME, self.source.REMEDY
        return f"{self.location} holds no usable sample for {name} ({reasons}). {remedy}"


class BottomKSample:
    """A bottom-k sketch: the `size` samples of lowest priority in a stream, in constant memory.

    The priority is a keyed hash of a sample's words. So the sample is uniform, depends on the seed and not on
    the order of the rows, and exact duplicates have one priority (Cohen and Kaplan, PODC 2007).
    """

    def __init__(self, size: int, seed: int, above: int = -1) -> None:
        self.size, self.above = size, above
        self.exhausted = True  # the sketch holds every sample of the stream
        self._key = str(seed).encode()
        self._highest_first: list[int] = []  # a heap of negated priorities
        self._samples: dict[int, tuple[Sample, int]] = {}

    def offer(self, sample: Sample) -> None:
        """Hold the sample if its priority is among the lowest above `above`."""
        priority = self._priority(sample)
        if priority in self._samples:
            earlier, times = self._samples[priority]
            self._samples[priority] = (min(earlier, sample, key=_tie_break), times + 1)
        elif priority > self.above:
            self._hold(priority, sample)

    def _hold(self, priority: int, sample: Sample) -> None:
        heapq.heappush(self._highest_first, -priority)
        self._samples[priority] = (sample, 1)
        if len(self._samples) > self.size:
            self.exhausted = False
            del self._samples[-heapq.heappop(self._highest_first)]

    def _priority(self, sample: Sample) -> int:
        words = compared_words(sample).encode(errors="surrogatepass")
        return int.from_bytes(hashlib.blake2b(words, digest_size=8, key=self._key).digest())

    @property
    def highest(self) -> int:
        """The highest priority held; the next pass begins above it."""
        return -self._highest_first[0]

    def candidates(self) -> list[tuple[Sample, int]]:
        """(sample, how often it occurred), by priority."""
        return [self._samples[priority] for priority in sorted(self._samples)]


def _tie_break(sample: Sample) -> tuple[object, ...]:
    """Orders samples of the same words, so that one of them stands for all wherever they are in the file."""
    return (
        *(turn["content"] for turn in sample.turns),
        sample.prompt_variants,
        sample.summary,
        sample.origin,
    )
