"""From a sample to the dialogue that Ada learns: the question, continuations, and a diary block."""

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from itertools import chain, cycle, groupby

from services.persona.prompt import RecalledBlock
from trainer.config import TrainingConfig
from trainer.data.sample import Sample, alternating_turns

# What the user says between two parts of a long narrative.
CONTINUATIONS = (
    "And then?",
    "Go on, I'm listening.",
    "And after that?",
    "Keep going.",
    "Tell me the rest.",
    "I'm still here, go on.",
    "Don't stop there.",
    "Mm. Go on.",
    "And how did it go on?",
    "I'm all ears.",
    "Right. And then?",
    "Carry on, I want to hear all of it.",
)

SHORT_END = 5  # a remainder below a fifth of a turn joins the turn before it: "Edit: thank you all"

# Serving shows at most 6 entries, of 1,500 characters each and 6,000 together (diary/recall/recall.py).
DISTRACTORS = 5
OWN_CHARACTERS = 600
OTHER_CHARACTERS = 300
# The share of diary blocks that hold what the answer tells; the others teach her to ignore what does not fit.
RELEVANT_SHARE = 0.75
FIRST_DAY, LAST_DAY = date(2019, 1, 1), date(2026, 12, 31)

_SENTENCE_END = re.compile(r"(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bDr)(?<!\bSt)[.!?…][\"')\]]*(?=\s[^a-z])")


def to_dialogue(
    sample: Sample,
    rng: random.Random,
    repetition: int,
    config: TrainingConfig,
    distractors: Sequence[Sample],
) -> Sample:
    """The dialogue of a sample at its `repetition`th occurrence in the mixture, counted from 0.

    A narrative is asked for by another prompt each time and split into turns; a conversation stays as it is.
    Either may get a diary block, whose irrelevant entries come from `distractors`.
    """
    if sample.prompt_variants:
        prompt = _shuffled_prompts(sample, config.seed)[repetition % len(sample.prompt_variants)]
        parts = split(sample.answer, config.turn_words)
        continuations = cycle(rng.sample(CONTINUATIONS, len(CONTINUATIONS)))
        exchanges = zip(chain([prompt], continuations), parts, strict=False)
        sample = replace(sample, turns=alternating_turns(*chain.from_iterable(exchanges)))
    if rng.random() < config.diary_share:
        sample = replace(sample, recalled=recalled_entries(sample, rng, distractors))
    return sample


def _shuffled_prompts(sample: Sample, seed: int) -> list[str]:
    """The prompts in an order that depends on the sample alone, so that no two repetitions share a prompt."""
    prompts = sample.prompt_variants
    return random.Random(f"{seed} {sample.answer}").sample(prompts, len(prompts))


# Turns


def split(text: str, turn_words: int) -> list[str]:
    """Split a text of more than `turn_words` words at paragraph borders into parts of similar length.

    A part is longer than `turn_words` only where one paragraph is, or where it includes a short remainder.
    """
    border = "\n\n" if "\n\n" in text else "\n"
    paragraphs = text.split(border)
    lengths = [len(paragraph.split()) for paragraph in paragraphs]
    parts = _part_numbers(lengths, turn_words)
    grouped = groupby(zip(parts, paragraphs, strict=True), key=lambda numbered: numbered[0])
    return [border.join(paragraph for _, paragraph in group) for _, group in grouped]


def _part_numbers(lengths: list[int], max_words: int) -> list[int]:
    """The part of each paragraph: a part ends when it has its share of words, or the next would not fit."""
    remaining = sum(lengths)
    share = remaining / max(-(-remaining // max_words), 1)
    numbers, part, words = [], 0, 0
    for length in lengths:
        if words and (words >= share or words + length > max_words) and remaining * SHORT_END > max_words:
            part, words = part + 1, 0
        numbers.append(part)
        words, remaining = words + length, remaining - length
    return numbers


# The diary


def recalled_entries(
    sample: Sample, rng: random.Random, distractors: Sequence[Sample]
) -> tuple[RecalledBlock, ...]:
    """Diary entries as serving would show them with a sample's last question, newest last.

    Three of four blocks hold what the answer tells, among entries that do not matter.
    """
    others = _distractor_texts(sample, rng, distractors)
    is_relevant = rng.random() < RELEVANT_SHARE or not others
    texts = [_own_entry(sample), *others] if is_relevant else others
    days = (rng.randint(FIRST_DAY.toordinal(), LAST_DAY.toordinal()) for _ in texts)
    entries = [
        RecalledBlock(date.fromordinal(day).isoformat(), text) for day, text in zip(days, texts, strict=False)
    ]
    return tuple(sorted(entries, key=lambda entry: entry.date))


def _own_entry(sample: Sample) -> str:
    """What she may have written about her last answer: its summary, or about the first half of it.

    The whole answer would teach her to read her diary aloud.
    """
    if sample.summary:
        return leading_sentences(sample.summary, OWN_CHARACTERS, OWN_CHARACTERS)
    answer = sample.turns[-1]["content"]
    return leading_sentences(answer, min(OWN_CHARACTERS, len(answer) // 2), OWN_CHARACTERS)


def _distractor_texts(sample: Sample, rng: random.Random, distractors: Sequence[Sample]) -> list[str]:
    """Up to five entries of other samples."""
    candidates = rng.sample(distractors, min(DISTRACTORS + 1, len(distractors)))
    others = [other for other in candidates if (other.source, other.origin) != (sample.source, sample.origin)]
    texts = [other.summary or other.turns[-1]["content"] for other in others[: rng.randint(1, DISTRACTORS)]]
    return [leading_sentences(text, OTHER_CHARACTERS, OTHER_CHARACTERS) for text in texts]


def leading_sentences(text: str, characters: int, max_characters: int) -> str:
    """The first sentences of `text` that fit into `characters`, at least one of them.

    A single sentence of more than `max_characters` is cut at a word.
    """
    text = " ".join(text.split())
    ends = [*(match.end() for match in _SENTENCE_END.finditer(text)), len(text)]
    end = max((end for end in ends if end <= characters), default=ends[0])
    if end <= max_characters:
        return text[:end]
    shortened = text[: max_characters - 2]
    return (shortened.rpartition(" ")[0] or shortened) + " …"
