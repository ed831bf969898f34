"""The mixture: samples of each source by ratio, drawn by the run's seed, cleaned and de-duplicated."""

import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from services.errors import ConfigError
from trainer.config import TrainingConfig
from trainer.data.cleaning import Cleaners
from trainer.data.dialogue import to_dialogue
from trainer.data.duplicates import Duplicates, compared_words
from trainer.data.quota import SourceQuota, SourceStats
from trainer.data.sample import Sample
from trainer.data.source import Source
from trainer.data.sources import conversations, hippocorpus, journals, reddit
from trainer.log import log

SOURCES: tuple[Source, ...] = (hippocorpus, journals, reddit, conversations)
# Of two near duplicates in two sources, the earlier source's stays: the user's own words come first.
DEDUP_PRIORITY: tuple[Source, ...] = (conversations, hippocorpus, journals, reddit)
# The settings of each source's ratio and location.
_FIELDS = {
    "hippocorpus": ("hippocorpus_ratio", "hippocorpus_path"),
    "journals": ("journal_ratio", "journal_path"),
    "reddit": ("reddit_ratio", "reddit_path"),
    "conversations": ("generated_ratio", "generated_data_path"),
}


@dataclass(frozen=True)
class Mixture:
    """Shuffled samples for training and for evaluation, and each source's statistics (`SourceQuota.stats`).

    `missing` names the sources that gave nothing and were left out; `seconds` has the time of each stage.
    """

    train: list[Sample]
    eval: list[Sample]
    source_stats: dict[str, SourceStats]
    missing: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict, compare=False)


def mix(config: TrainingConfig, make_cleaners: Callable[[TrainingConfig], Cleaners] = Cleaners) -> Mixture:
    """Draw `target_size` samples by the four ratios; the same files and config give the same mixture.

    A source with fewer samples than its quota repeats them, each at most `max_repeats` times in all, and its
    statistics say what is still short. Raises ConfigError for a source that is malformed, and for one that is
    missing or has no usable sample, unless `allow_missing` lets the others share its part.
    """
    wanted = _wanted(config)
    missing = check_sources(config)
    complaints = [_no_file(source, config) for source in missing]
    while present := [source for source in wanted if source not in missing]:
        quotas = _quotas(config, present)
        with make_cleaners(config) as cleaners:
            seconds = _fill(quotas, cleaners, config)
        unusable = [quota for quota in quotas if not quota.accepted]
        if not unusable:
            return _mixture(config, quotas, [source.NAME for source in missing], seconds)
        missing += [quota.source for quota in unusable]  # the others share their part: all is drawn anew
        complaints += [quota.no_usable_sample() for quota in unusable]
    raise ConfigError(f"nothing to learn from: {'; '.join(complaints)}")


def check_sources(config: TrainingConfig) -> list[Source]:
    """The sources without a file. Raises ConfigError unless `allow_missing` is set."""
    missing = [source for source in _wanted(config) if not source.is_available(config)]
    if missing and not config.allow_missing:
        raise ConfigError("; ".join(_no_file(source, config) for source in missing))
    return missing


def _wanted(config: TrainingConfig) -> list[Source]:
    return [source for source in SOURCES if _ratio(source, config) > 0]


def _no_file(source: Source, config: TrainingConfig) -> str:
    return f"no file {_location(source, config)}. {source.REMEDY}"


def _ratio(source: Source, config: TrainingConfig) -> float:
    return float(getattr(config, _FIELDS[source.NAME][0]))


def _location(source: Source, config: TrainingConfig) -> object:
    return getattr(config, _FIELDS[source.NAME][1]) or config.reddit_dataset


def apportion(total: int, ratios: list[float]) -> list[int]:
    """Whole numbers in the proportions of `ratios` that add up to `total` (largest remainder method)."""
    exact = [total * ratio / sum(ratios) for ratio in ratios]
    counts = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda index: counts[index] - exact[index])
    for index in by_remainder[: total - sum(counts)]:
        counts[index] += 1
    return counts


def _quotas(config: TrainingConfig, sources: list[Source]) -> list[SourceQuota]:
    ratios = [_ratio(source, config) for source in sources]
    sizes = zip(
        sources, apportion(config.target_size, ratios), apportion(config.eval_size, ratios), strict=True
    )
    return [
        SourceQuota(source, config, _location(source, config), requested, eval_size)
        for source, requested, eval_size in sizes
        if requested
    ]


def _fill(quotas: list[SourceQuota], cleaners: Cleaners, config: TrainingConfig) -> dict[str, float]:
    """Fill all quotas in the order of DEDUP_PRIORITY; returns the seconds spent reading and cleaning."""
    seconds = {"read": 0.0, "clean": 0.0}
    duplicates = Duplicates(config.near_duplicates)
    for quota in sorted(quotas, key=lambda quota: DEDUP_PRIORITY.index(quota.source)):
        quota.fill(cleaners, duplicates, seconds)
        if not quota.accepted and not config.allow_missing:
            raise ConfigError(quota.no_usable_sample())
        log.info("%s: %d of %d rows drawn", quota.source.NAME, len(quota.accepted), quota.rows_read)
    return seconds


def _mixture(
    config: TrainingConfig, quotas: list[SourceQuota], missing: list[str], seconds: dict[str, float]
) -> Mixture:
    """Make dialogues of all samples. Raises ConfigError when none can be held out for evaluation."""
    eval_rows = [(sample, 0) for quota in quotas for sample in quota.eval_samples()]
    train_rows = [row for quota in quotas for row in quota.train_rows()]
    if not eval_rows:
        raise ConfigError(
            f"target_size={config.target_size} and eval_size={config.eval_size} leave {len(train_rows)} "
            "samples to learn from and none to measure loss on: bring more data, or raise target_size"
        )
    distractors = [sample for sample, repetition in train_rows if not repetition]
    started = time.monotonic()
    train, evaluation = (_dialogues(rows, distractors, config) for rows in (train_rows, eval_rows))
    return Mixture(
        train=train,
        eval=evaluation,
        source_stats={quota.source.NAME: quota.stats() for quota in quotas},
        missing=missing,
        seconds={**seconds, "tell": time.monotonic() - started},
    )


def _dialogues(
    rows: list[tuple[Sample, int]], distractors: list[Sample], config: TrainingConfig
) -> list[Sample]:
    """Each row as a dialogue, in an order fixed by the seed.

    Each has a random generator of its own, so that no dialogue depends on the others.
    """
    dialogues = [
        to_dialogue(
            sample,
            random.Random(f"{config.seed} {repetition} {compared_words(sample)}"),
            repetition,
            config,
            distractors,
        )
        for sample, repetition in rows
    ]
    random.Random(config.seed).shuffle(dialogues)
    return dialogues
