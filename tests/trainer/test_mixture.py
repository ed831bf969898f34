"""The mixture: shares by ratio, one order a seed, and an account of what was asked, found and used.

.venv/bin/python -m pytest tests/trainer/test_mixture.py
"""

import hashlib
from collections import Counter
from itertools import pairwise
from pathlib import Path

import pytest

from services.errors import ConfigError
from trainer.config import TrainingConfig
from trainer.mixture import mix
from trainer.sample import Sample


@pytest.fixture
def settings(write_sources, tmp_path: Path) -> dict[str, object]:
    """Twenty samples of each source, and a mixture of twenty by the seed's ratios."""
    return {**write_sources(tmp_path), "target_size": 20}


def answers(samples: list[Sample]) -> list[str]:
    return [sample.turns[-1]["content"] for sample in samples]


def counts(samples: list[Sample]) -> dict[str, int]:
    return dict(Counter(sample.source for sample in samples))


def test_shares_follow_the_ratios_and_the_target(settings):
    mixture = mix(TrainingConfig(**settings))
    assert counts(mixture.samples) == {"hippocorpus": 8, "journals": 4, "reddit": 4, "conversations": 4}


@pytest.mark.parametrize(
    ("target", "ratios", "shares"),
    [
        (10, (0.4, 0.2, 0.2, 0.2), (4, 2, 2, 2)),
        (20, (0.25, 0.25, 0.25, 0.25), (5, 5, 5, 5)),
        (7, (0, 0, 0, 1), (7,)),
    ],
)
def test_other_ratios_make_other_shares(
    settings, target: int, ratios: tuple[float, ...], shares: tuple[int, ...]
):
    names = ("hippocorpus_ratio", "journal_ratio", "reddit_ratio", "generated_ratio")
    settings |= {"target_size": target, **dict(zip(names, ratios, strict=True))}
    mixture = mix(TrainingConfig(**settings))
    assert tuple(share["used"] for share in mixture.account.values()) == shares
    assert len(mixture.samples) == target


def test_no_sample_is_drawn_twice(settings):
    samples = mix(TrainingConfig(**settings)).samples
    assert len(set(answers(samples))) == len(samples)


def test_sources_are_shuffled_among_each_other(settings):
    order = [sample.source for sample in mix(TrainingConfig(**settings)).samples]
    changes = sum(1 for one, following in pairwise(order) if one != following)
    assert changes > len(set(order)) - 1


def test_the_same_seed_gives_the_same_samples_in_the_same_order(settings):
    assert mix(TrainingConfig(**settings)) == mix(TrainingConfig(**settings))


def test_another_seed_gives_other_samples(settings):
    one, other = (answers(mix(TrainingConfig(**settings, seed=seed)).samples) for seed in (1, 2))
    assert set(one) != set(other)


def test_another_seed_gives_another_order_of_the_same_samples(settings):
    settings |= {"hippocorpus_ratio": 0, "journal_ratio": 0, "reddit_ratio": 0, "generated_ratio": 1}
    one, other = (answers(mix(TrainingConfig(**settings, seed=seed)).samples) for seed in (1, 2))
    assert sorted(one) == sorted(other)
    assert one != other


def test_a_short_source_gives_all_it_has_and_the_account_says_so(write_sources, tmp_path: Path):
    files = write_sources(tmp_path, hippocorpus=3)
    mixture = mix(TrainingConfig(**files, target_size=20))
    assert counts(mixture.samples) == {"hippocorpus": 3, "journals": 4, "reddit": 4, "conversations": 4}
    share = mixture.account["hippocorpus"]
    assert (share["asked"], share["found"], share["used"]) == (8, 3, 3)
    share = mixture.account["journals"]
    assert (share["asked"], share["found"], share["used"]) == (4, 20, 4)


def test_the_account_names_each_file_and_its_hash(settings):
    account = mix(TrainingConfig(**settings)).account
    for source, setting in (
        ("hippocorpus", "hippocorpus_path"),
        ("journals", "journal_path"),
        ("reddit", "reddit_path"),
        ("conversations", "generated_data_path"),
    ):
        path = settings[setting]
        assert account[source]["file"] == str(path)
        assert account[source]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_source_with_ratio_0_is_not_read_at_all(settings):
    settings["reddit_path"].unlink()
    config = TrainingConfig(**settings | {"reddit_ratio": 0, "generated_ratio": 0.4})
    mixture = mix(config)
    assert counts(mixture.samples) == {"hippocorpus": 8, "journals": 4, "conversations": 8}
    assert "reddit" not in mixture.account


@pytest.mark.parametrize(
    "setting", ["hippocorpus_path", "journal_path", "reddit_path", "generated_data_path"]
)
def test_a_missing_file_raises_before_anything_is_written(settings, tmp_path: Path, setting: str):
    settings[setting].unlink()
    before = set(tmp_path.iterdir())
    with pytest.raises(ConfigError) as error:
        mix(TrainingConfig(**settings, output_dir=tmp_path / "outputs" / "ada_model"))
    assert str(settings[setting]) in str(error.value)
    assert set(tmp_path.iterdir()) == before


@pytest.mark.parametrize("source", ["hippocorpus", "journals", "reddit", "conversations"])
def test_a_source_without_a_usable_sample_is_named(write_sources, tmp_path: Path, source: str):
    files = write_sources(tmp_path, **{source: 0})
    with pytest.raises(ConfigError, match=f"holds no usable sample for {source}"):
        mix(TrainingConfig(**files))


@pytest.mark.parametrize("target", [1, 3, 4, 8])
def test_the_shares_add_up_to_the_target(settings, target: int):
    mixture = mix(TrainingConfig(**settings | {"target_size": target}))
    assert len(mixture.samples) == target
