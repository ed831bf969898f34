"""From a sample to the dialogue that Ada learns: how Drew asks, where he says go on, what she recalls."""

import random
import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from itertools import chain, cycle, groupby

from services.persona.prompt import RecalledBlock
from trainer.config import TrainingConfig
from trainer.data.sample import Sample, dialogue

GO_ON = (
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

SHORT_END = 5  # the fifth part of a turn is none of its own: "Edit: thank you all"

# Serving shows at most 6 entries, of 1,500 characters each and 6,000 together (diary/recall/recall.py).
OTHER_ENTRIES = 5
OWN_CHARACTERS = 600
OTHER_CHARACTERS = 300
# So many diary blocks hold what the answer tells; the others teach her to leave what does not fit.
FITTING = 0.75
FIRST_DAY, LAST_DAY = date(2019, 1, 1), date(2026, 12, 31)

_SENTENCE_END = re.compile(r"(?<!\bMr)(?<!\bMrs)(?<!\bMs)(?<!\bDr)(?<!\bSt)[.!?…][\"')\]]*(?=\s[^a-z])")


def tell(
    sample: Sample,
    chance: random.Random,
    repetition: int,
    config: TrainingConfig,
    companions: Sequence[Sample],
) -> Sample:
    """The dialogue that a sample becomes when it stands in the mixture for the `repetition`th time, from 0.

    A conversation stays as it is. Either may get a diary block; `companions` lend entries that do not fit.
    """
    if sample.askings:
        asking = _ways_to_ask(sample, config.seed)[repetition % len(sample.askings)]
        parts = split(sample.answer, config.turn_words)
        go_on = cycle(chance.sample(GO_ON, len(GO_ON)))
        exchanges = zip(chain([asking], go_on), parts, strict=False)
        sample = replace(sample, turns=dialogue(*chain.from_iterable(exchanges)))
    if chance.random() < config.diary_share:
        sample = replace(sample, recalled=recollections(sample, chance, companions))
    return sample


def _ways_to_ask(sample: Sample, seed: int) -> list[str]:
    """The askings in an order that hangs on the sample alone, so that no repetition asks what another did."""
    return random.Random(f"{seed} {sample.answer}").sample(sample.askings, len(sample.askings))


# Turns


def split(text: str, turn_words: int) -> list[str]:
    """Cut a telling of more than `turn_words` words at paragraph borders into parts of about one length.

    A part is longer than `turn_words` only where one paragraph is, or where it takes a short end along.
    """
    border = "\n\n" if "\n\n" in text else "\n"
    paragraphs = text.split(border)
    lengths = [len(paragraph.split()) for paragraph in paragraphs]
    places = _places(lengths, turn_words)
    grouped = groupby(zip(places, paragraphs, strict=True), key=lambda placed: placed[0])
    return [border.join(paragraph for _, paragraph in part) for _, part in grouped]


def _places(lengths: list[int], most: int) -> list[int]:
    """Which part each paragraph goes to: a part is closed when it holds its share, or the next won't fit."""
    left = sum(lengths)
    share = left / max(-(-left // most), 1)
    places, part, held = [], 0, 0
    for length in lengths:
        if held and (held >= share or held + length > most) and left * SHORT_END > most:
            part, held = part + 1, 0
        places.append(part)
        held, left = held + length, left - length
    return places


# The diary


def recollections(
    sample: Sample, chance: random.Random, companions: Sequence[Sample]
) -> tuple[RecalledBlock, ...]:
    """Diary entries as serving would show them with a sample's last question, newest last.

    In three of four there is what she then tells, among entries that are beside the point.
    """
    others = _others(sample, chance, companions)
    fits = chance.random() < FITTING or not others
    texts = [_entry(sample), *others] if fits else others
    days = (chance.randint(FIRST_DAY.toordinal(), LAST_DAY.toordinal()) for _ in texts)
    dated = [
        RecalledBlock(date.fromordinal(day).isoformat(), text) for day, text in zip(days, texts, strict=False)
    ]
    return tuple(sorted(dated, key=lambda entry: entry.date))


def _entry(sample: Sample) -> str:
    """What she may have written down of her last answer: its gist, or how it begins, some half of it.

    The whole of it would teach her to read her diary out.
    """
    if sample.gist:
        return opening(sample.gist, OWN_CHARACTERS, OWN_CHARACTERS)
    answer = sample.turns[-1]["content"]
    return opening(answer, min(OWN_CHARACTERS, len(answer) // 2), OWN_CHARACTERS)


def _others(sample: Sample, chance: random.Random, companions: Sequence[Sample]) -> list[str]:
    """Up to five entries of other samples."""
    drawn = chance.sample(companions, min(OTHER_ENTRIES + 1, len(companions)))
    others = [one for one in drawn if (one.source, one.origin) != (sample.source, sample.origin)]
    told = [one.gist or one.turns[-1]["content"] for one in others[: chance.randint(1, OTHER_ENTRIES)]]
    return [opening(text, OTHER_CHARACTERS, OTHER_CHARACTERS) for text in told]


def opening(text: str, characters: int, at_most: int) -> str:
    """The first sentences of `text` that fit into so many characters, at least one of them.

    What is longer than `at_most` characters even so is cut at a word.
    """
    text = " ".join(text.split())
    ends = [*(end.end() for end in _SENTENCE_END.finditer(text)), len(text)]
    end = max((end for end in ends if end <= characters), default=ends[0])
    if end <= at_most:
        return text[:end]
    cut = text[: at_most - 2]
    return (cut.rpartition(" ")[0] or cut) + " …"
