"""The mixture: shares by ratio, a draw that hangs on the seed alone, and an account that adds up.

.venv/bin/python -m pytest tests/trainer/data/test_mixture.py
"""

import csv
import hashlib
import json
import random
import subprocess
import sys
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import ConfigError
from trainer.config import TrainingConfig
from trainer.data.cleaning import Cleaners
from trainer.data.mixture import Mixture, apportion, mix
from trainer.data.quota import BottomKSample
from trainer.data.sample import Sample, make_sample
from trainer.data.sources import conversations, hippocorpus, journals, reddit

ROOT = Path(__file__).parents[3]
PATHS = {
    "hippocorpus": "hippocorpus_path",
    "journals": "journal_path",
    "reddit": "reddit_path",
    "conversations": "generated_data_path",
}
REMEDIES = {source.NAME: source.REMEDY for source in (hippocorpus, journals, reddit, conversations)}
RATIOS = ("hippocorpus_ratio", "journal_ratio", "reddit_ratio", "generated_ratio")
ONLY_HIPPOCORPUS = dict(zip(RATIOS, (1, 0, 0, 0), strict=True))


@pytest.fixture
def settings(write_sources, tmp_path: Path) -> dict[str, object]:
    """Twenty samples of each source, and a mixture of twenty by the default ratios."""
    return {**write_sources(tmp_path), "target_size": 20, "eval_size": 5}


def everything(mixture: Mixture) -> list[Sample]:
    return mixture.train + mixture.eval


def answers(samples: list[Sample]) -> list[str]:
    return [sample.answer for sample in samples]


def counts(mixture: Mixture) -> dict[str, int]:
    return dict(Counter(sample.source for sample in everything(mixture)))


def rewrite(path: Path, stories: list[str]) -> None:
    """Another Hippocorpus."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["story", "memType"], *([story, "recalled"] for story in stories)])


def stories(path: Path) -> list[str]:
    with path.open(encoding="utf-8", newline="") as file:
        return [row["story"] for row in csv.DictReader(file)]


def adds_up(mixture: Mixture) -> bool:
    return all(
        share["read"] == share["kept"] + share["not_drawn"] + sum(share["dropped"].values())
        and share["used"] == share["kept"] + share["repeated"]
        and share["asked"] == share["used"] + share["short"]
        for share in mixture.source_stats.values()
    )


# Shares


def test_shares_follow_the_ratios_and_the_target(settings):
    mixture = mix(TrainingConfig(**settings))
    assert counts(mixture) == {"hippocorpus": 8, "journals": 4, "reddit": 4, "conversations": 4}
    assert list(mixture.source_stats) == ["hippocorpus", "journals", "reddit", "conversations"]
    assert adds_up(mixture)


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
    mixture = mix(
        TrainingConfig(**settings | {"target_size": target, **dict(zip(RATIOS, ratios, strict=True))})
    )
    assert tuple(share["used"] for share in mixture.source_stats.values()) == shares
    assert len(everything(mixture)) == target


@given(total=st.integers(0, 10_000), ratios=st.lists(st.floats(0.01, 1), min_size=1, max_size=4))
def test_shares_add_up_and_are_off_by_less_than_one(total: int, ratios: list[float]):
    parts = apportion(total, ratios)
    assert sum(parts) == total
    assert all(
        abs(part - total * ratio / sum(ratios)) < 1.001 for part, ratio in zip(parts, ratios, strict=True)
    )


def test_a_source_with_ratio_0_is_not_read_at_all(settings):
    settings["reddit_path"].unlink()
    mixture = mix(TrainingConfig(**settings | {"reddit_ratio": 0, "generated_ratio": 0.4}))
    assert counts(mixture) == {"hippocorpus": 8, "journals": 4, "conversations": 8}
    assert "reddit" not in mixture.source_stats


# The draw


def test_no_sample_is_drawn_twice(settings):
    sketch = answers(everything(mix(TrainingConfig(**settings))))
    assert len(set(sketch)) == len(sketch)


def test_sources_are_shuffled_among_each_other(settings):
    order = [sample.source for sample in mix(TrainingConfig(**settings)).train]
    changes = sum(1 for first, following in pairwise(order) if first != following)
    assert changes > len(set(order)) - 1


def test_the_same_seed_gives_the_same_samples_in_the_same_order(settings):
    config = TrainingConfig(**settings, diary_share=0.5)
    assert mix(config) == mix(config)


def test_another_run_of_python_gives_the_same_mixture(settings):
    overrides = [f"{name}={value}" for name, value in settings.items()]
    program = """
import sys, hashlib
from trainer.config import load_config
from trainer.data.mixture import mix
mixture = mix(load_config(None, sys.argv[1:]))
print(hashlib.sha256(repr((mixture.train, mixture.eval)).encode()).hexdigest())
"""
    command = [sys.executable, "-c", program, *overrides]
    # This process has a hash seed of its own, which Python chose at random.
    result = subprocess.run(
        command, cwd=ROOT, env={"PYTHONHASHSEED": "1"}, capture_output=True, text=True, check=True
    )
    mixture = mix(TrainingConfig(**settings))
    digest = hashlib.sha256(repr((mixture.train, mixture.eval)).encode()).hexdigest()
    assert result.stdout == f"{digest}\n"


def test_another_seed_gives_other_samples(settings):
    first, other = (answers(everything(mix(TrainingConfig(**settings, seed=seed)))) for seed in (1, 2))
    assert set(first) != set(other)


def test_another_seed_gives_another_order_of_the_same_samples(settings):
    settings |= dict(zip(RATIOS, (0, 0, 0, 1), strict=True))
    first, other = (answers(everything(mix(TrainingConfig(**settings, seed=seed)))) for seed in (1, 2))
    assert sorted(first) == sorted(other)
    assert first != other


def test_the_order_of_a_files_rows_changes_nothing(settings):
    config = TrainingConfig(**settings, diary_share=0.5)
    before = mix(config)
    rewrite(settings["hippocorpus_path"], list(reversed(stories(settings["hippocorpus_path"]))))
    after = mix(config)
    for first, other in zip(everything(before), everything(after), strict=True):
        assert (first.turns, first.recalled) == (other.turns, other.recalled)


def test_many_processes_give_what_one_gives(settings):
    config = TrainingConfig(**settings, diary_share=0.5)
    assert mix(config, lambda config: Cleaners(config, min_parallel=3, min_per_process=2)) == mix(config)


def tellings(numbers: list[int]) -> Iterator[Sample]:
    return (
        make_sample("journals", f"file:{index}", ("Well?",), f"It was {n}.")
        for index, n in enumerate(numbers)
    )


@given(st.lists(st.integers(0, 30)), st.integers(1, 40), st.integers(0, 5), st.randoms(use_true_random=False))
def test_a_draw_in_passes_is_a_draw_at_once_whatever_the_order(
    numbers: list[int], size: int, seed: int, chance: random.Random
):
    whole = BottomKSample(1_000, seed)
    for sample in tellings(numbers):
        whole.offer(sample)
    expected = [(sample.answer, times) for sample, times in whole.candidates()]
    assert Counter(dict(expected)) == Counter(f"It was {n}." for n in numbers)

    candidates, above, exhausted = [], -1, False
    while not exhausted:
        chance.shuffle(numbers)
        sketch = BottomKSample(size, seed, above)
        for sample in tellings(numbers):
            sketch.offer(sample)
        candidates += [(sample.answer, times) for sample, times in sketch.candidates()]
        exhausted = sketch.exhausted
        above = above if exhausted else sketch.highest
    assert candidates == expected


def test_every_telling_is_as_likely_to_be_drawn_however_often_it_stands_there():
    numbers = [*range(30), *([7] * 50)]
    sketch: Counter[str] = Counter()
    for seed in range(600):
        draw = BottomKSample(10, seed)
        for sample in tellings(numbers):
            draw.offer(sample)
        sketch.update(sample.answer for sample, _ in draw.candidates())
    assert all(abs(times - 200) < 60 for times in sketch.values())
    assert len(sketch) == 30


def test_of_two_equal_tellings_the_same_one_stays_whatever_the_order():
    first = make_sample("reddit", "file:1", ('What happened with "A"?',), "It was me.")
    other = make_sample("reddit", "file:2", ('What happened with "B"?',), "It was  ME.")
    for order in ([first, other], [other, first]):
        draw = BottomKSample(5, 0)
        for sample in order:
            draw.offer(sample)
        assert draw.candidates() == [(first, 2)]


def test_a_draw_from_a_long_stream_holds_no_more_than_its_size():
    def peak(rows: int) -> int:
        tracemalloc.start()
        draw = BottomKSample(50, 0)
        for n in range(rows):
            draw.offer(make_sample("reddit", f"file:{n}", ("Well?",), f"It was {n} " * 50))
        _, peak_bytes = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(draw.candidates()) == 50
        return peak_bytes

    assert peak(10_000) < 1.2 * peak(1_000)


def test_another_pass_is_read_when_the_first_had_too_much_that_is_unfit(settings):
    good = stories(settings["hippocorpus_path"])
    rows = [f"Too short {n}." for n in range(400)]
    rows += good
    random.Random(1).shuffle(rows)
    rewrite(settings["hippocorpus_path"], rows)
    mixture = mix(TrainingConfig(**settings | ONLY_HIPPOCORPUS | {"target_size": 18}))
    share = mixture.source_stats["hippocorpus"]
    assert (share["read"], share["kept"], share["repeated"]) == (420, 18, 0)
    assert share["dropped"]["too short"] > 300
    assert set(answers(everything(mixture))) <= set(good)
    assert adds_up(mixture)


# Duplicates


def test_exact_duplicates_stand_once_and_are_counted(settings):
    good = stories(settings["hippocorpus_path"])
    rewrite(settings["hippocorpus_path"], good * 3)
    mixture = mix(TrainingConfig(**settings | ONLY_HIPPOCORPUS))
    share = mixture.source_stats["hippocorpus"]
    assert (share["read"], share["kept"], share["dropped"]) == (60, 20, {"exact duplicate": 40})
    assert adds_up(mixture)


def test_of_near_duplicates_in_two_sources_the_users_own_words_stay(settings):
    talks = json.loads(settings["generated_data_path"].read_text())
    own = [talk["conversations"][-1]["content"] * 4 for talk in talks]
    for talk, words in zip(talks, own, strict=True):
        talk["conversations"] = [
            {"role": "user", "content": "Well?"},
            {"role": "assistant", "content": words},
        ]
    settings["generated_data_path"].write_text(json.dumps(talks))
    foreign = stories(settings["hippocorpus_path"])
    rewrite(settings["hippocorpus_path"], [f"Oh, {words}" for words in own] + foreign)
    config = TrainingConfig(
        **settings | {"generated_ratio": 0.5, "hippocorpus_ratio": 0.1, "target_size": 40}
    )
    mixture = mix(config)
    assert mixture.source_stats["conversations"]["kept"] == 20
    of_hippocorpus = [sample for sample in everything(mixture) if sample.source == "hippocorpus"]
    assert set(answers(of_hippocorpus)) <= set(foreign)
    everything_of_it = mix(TrainingConfig(**settings | {"target_size": 80}))
    assert everything_of_it.source_stats["hippocorpus"]["dropped"]["near duplicate"] > 0
    assert adds_up(everything_of_it)


# A short source


def test_a_short_source_repeats_evenly_and_asks_in_another_way(write_sources, tmp_path: Path):
    files = write_sources(tmp_path, hippocorpus=4)
    settings = {**files, **ONLY_HIPPOCORPUS, "target_size": 9, "eval_size": 1, "diary_share": 0}
    mixture = mix(TrainingConfig(**settings))
    times = Counter(answers(mixture.train))
    assert sorted(times.values()) == [2, 3, 3]
    assert len({(sample.answer, sample.turns[0]["content"]) for sample in mixture.train}) == 8
    share = mixture.source_stats["hippocorpus"]
    assert (share["asked"], share["kept"], share["used"], share["repeated"], share["short"]) == (
        9,
        4,
        9,
        5,
        0,
    )
    assert adds_up(mixture)


@pytest.mark.parametrize(("max_repeats", "used"), [(1, 4), (2, 6), (3, 8), (50, 100)])
def test_no_sample_stands_more_often_than_max_repeats(
    write_sources, tmp_path: Path, max_repeats: int, used: int
):
    files = write_sources(tmp_path, hippocorpus=4)
    settings = {**files, **ONLY_HIPPOCORPUS, "target_size": 100, "eval_size": 2, "max_repeats": max_repeats}
    mixture = mix(TrainingConfig(**settings))
    assert max(Counter(answers(mixture.train)).values()) <= max_repeats
    share = mixture.source_stats["hippocorpus"]
    assert (len(everything(mixture)), share["used"], share["short"]) == (used, used, 100 - used)


def test_the_other_sources_are_as_asked_when_one_is_short(write_sources, tmp_path: Path):
    mixture = mix(TrainingConfig(**write_sources(tmp_path, hippocorpus=2), target_size=20, eval_size=3))
    assert counts(mixture) == {"hippocorpus": 4, "journals": 4, "reddit": 4, "conversations": 4}
    assert {name: share["short"] for name, share in mixture.source_stats.items() if share["short"]} == {
        "hippocorpus": 4
    }


# What is held out


@pytest.mark.parametrize("eval_size", [1, 4, 5, 10, 64])
def test_what_is_held_out_is_never_taught_and_at_most_half(settings, eval_size: int):
    mixture = mix(TrainingConfig(**settings | {"eval_size": eval_size}))
    assert len(mixture.eval) == min(eval_size, 10)
    assert not set(answers(mixture.eval)) & set(answers(mixture.train))
    for source, share in mixture.source_stats.items():
        held_out = sum(sample.source == source for sample in mixture.eval)
        assert held_out == share["held_out"] <= share["kept"] / 2


def test_what_is_held_out_is_not_repeated_nor_shown_in_a_diary_of_what_is_taught(write_sources, tmp_path):
    files = write_sources(tmp_path, hippocorpus=6)
    settings = {**files, **ONLY_HIPPOCORPUS, "target_size": 18, "eval_size": 3, "diary_share": 1}
    mixture = mix(TrainingConfig(**settings))
    assert max(Counter(answers(mixture.eval)).values()) == 1
    recalled_text = " ".join(entry.text for sample in mixture.train for entry in sample.recalled)
    taught, held_out = (
        {answer.split(".")[0] for answer in answers(part)} for part in (mixture.train, mixture.eval)
    )
    assert all(begins in recalled_text for begins in taught)
    assert not any(begins in recalled_text for begins in held_out)


def test_nothing_to_hold_out_is_an_error_that_names_both_settings(settings):
    with pytest.raises(
        ConfigError, match="target_size=1 and eval_size=5 leave 1 samples to learn from and none"
    ):
        mix(TrainingConfig(**settings | {"target_size": 1}))


# Sources that are missing, empty or broken


@pytest.mark.parametrize("source", PATHS)
def test_a_missing_file_raises_before_anything_is_written(settings, tmp_path: Path, source: str):
    path = settings[PATHS[source]]
    path.unlink()
    before = set(tmp_path.iterdir())
    with pytest.raises(ConfigError) as error:
        mix(TrainingConfig(**settings, output_dir=tmp_path / "outputs" / "ada_model"))
    assert str(error.value) == f"no file {path}. {REMEDIES[source]}"
    assert set(tmp_path.iterdir()) == before


def test_all_missing_files_are_named_at_once(settings):
    for source in ("reddit", "journals"):
        settings[PATHS[source]].unlink()
    with pytest.raises(ConfigError) as error:
        mix(TrainingConfig(**settings))
    assert str(settings["journal_path"]) in str(error.value)
    assert str(settings["reddit_path"]) in str(error.value)


def test_without_a_missing_source_the_others_share_its_part(settings):
    settings["reddit_path"].unlink()
    settings["generated_data_path"].unlink()
    mixture = mix(TrainingConfig(**settings, allow_missing=True))
    assert mixture.missing == ["reddit", "conversations"]
    assert counts(mixture) == {"hippocorpus": 13, "journals": 7}
    assert list(mixture.source_stats) == ["hippocorpus", "journals"]


def test_no_source_at_all_is_an_error_even_when_missing_ones_are_allowed(settings):
    for path in PATHS.values():
        settings[path].unlink()
    with pytest.raises(ConfigError, match="nothing to learn from: no file") as error:
        mix(TrainingConfig(**settings, allow_missing=True))
    assert all(str(settings[path]) in str(error.value) for path in PATHS.values())


@pytest.mark.parametrize("source", PATHS)
def test_a_source_without_a_usable_sample_is_named_with_the_reasons(settings, source: str):
    config = TrainingConfig(**settings | {"language": "de"} | dict.fromkeys(RATIOS, 0) | _only(source))
    with pytest.raises(ConfigError) as error:
        mix(config)
    path = settings[PATHS[source]]
    assert str(error.value) == f"{path} holds no usable sample for {source} (20 not de). {REMEDIES[source]}"


@pytest.mark.parametrize("source", PATHS)
def test_a_source_without_rows_is_named(write_sources, tmp_path: Path, source: str):
    files = write_sources(tmp_path, **{source: 0})
    with pytest.raises(ConfigError) as error:
        mix(TrainingConfig(**files))
    assert str(files[PATHS[source]]) in str(error.value)


def test_a_source_without_a_usable_sample_is_missing_where_that_is_allowed(settings):
    rewrite(settings["hippocorpus_path"], ["Too short."] * 3)
    mixture = mix(TrainingConfig(**settings, allow_missing=True))
    assert mixture.missing == ["hippocorpus"]
    assert len(everything(mixture)) == 20
    assert "hippocorpus" not in mixture.source_stats


def test_a_bad_row_ends_the_mixture_unless_it_may_be_skipped(settings):
    path = settings["hippocorpus_path"]
    rows = [f"Too short {n}." for n in range(300)]
    rewrite(path, rows + stories(path))
    path.write_text(path.read_text() + "one,two,three\r\n")
    with pytest.raises(ConfigError, match=f"{path}, line 322.*bad_rows=skip"):
        mix(TrainingConfig(**settings))
    share = mix(TrainingConfig(**settings, bad_rows="skip")).source_stats["hippocorpus"]
    assert (share["read"], share["dropped"]["bad row"]) == (321, 1)
    assert [f"{path}, line 322" in message for message in share["bad_rows"]] == [True]


# The account


def test_the_account_names_each_file_its_hash_and_its_licence(settings):
    account = mix(TrainingConfig(**settings)).source_stats
    assert json.loads(json.dumps(account)) == account
    for source, setting in PATHS.items():
        path = settings[setting]
        assert account[source]["file"] == str(path)
        assert account[source]["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert account[source]["licence"]


def _only(source: str) -> dict[str, float]:
    return {RATIOS[list(PATHS).index(source)]: 1}
