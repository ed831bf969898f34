"""The mixture: so many samples of each source, drawn and shuffled by the run's seed."""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from services.errors import ConfigError
from services.persona.manifest import file_sha256
from trainer.config import TrainingConfig
from trainer.sample import Sample
from trainer.sources import conversations, hippocorpus, journals, reddit


@dataclass(frozen=True)
class Share:
    """One source's part of the mixture."""

    source: str
    path: Path
    read: Callable[[Path, int], Iterator[Sample]]
    asked: int


@dataclass(frozen=True)
class Mixture:
    """Shuffled samples, and for each source how many were asked for, found and used."""

    samples: list[Sample]
    account: dict[str, dict[str, object]]


def mix(config: TrainingConfig) -> Mixture:
    """Draw `target_size` samples by the four ratios.

    A source that has fewer than its share gives all it has, and the account says so. Raises
    ConfigError for a missing or malformed file, before anything is written.
    """
    samples: list[Sample] = []
    account: dict[str, dict[str, object]] = {}
    for share in _shares(config):
        found = list(share.read(share.path, config.seed))
        if not found:
            raise ConfigError(f"{share.path} holds no usable sample for {share.source}")
        drawn = random.Random(config.seed).sample(found, min(share.asked, len(found)))
        samples += drawn
        account[share.source] = {
            "asked": share.asked,
            "found": len(found),
            "used": len(drawn),
            "file": str(share.path),
            "sha256": file_sha256(share.path),
        }
    random.Random(config.seed).shuffle(samples)
    return Mixture(samples, account)


def _shares(config: TrainingConfig) -> list[Share]:
    sources = (
        ("hippocorpus", config.hippocorpus_path, hippocorpus.read, config.hippocorpus_ratio),
        ("journals", config.journal_path, journals.read, config.journal_ratio),
        ("reddit", config.reddit_path, reddit.read, config.reddit_ratio),
        ("conversations", config.generated_data_path, conversations.read, config.generated_ratio),
    )
    wanted = [source for source in sources if source[3] > 0]
    asked = _apportion(config.target_size, [ratio for *_, ratio in wanted])
    return [
        Share(source, path, read, count) for (source, path, read, _), count in zip(wanted, asked, strict=True)
    ]


def _apportion(total: int, ratios: list[float]) -> list[int]:
    """Whole numbers in the proportions of `ratios` that add up to `total` (largest remainder)."""
    exact = [total * ratio / sum(ratios) for ratio in ratios]
    counts = [int(share) for share in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])
    for place in by_remainder[: total - sum(counts)]:
        counts[place] += 1
    return counts
