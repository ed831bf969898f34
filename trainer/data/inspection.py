"""Samples as the model sees them: encoded, decoded back into turns for a reader, and measured in tokens."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from services.chat_markup import IM_END, IM_START
from services.persona.persona import load_persona
from services.persona.template import template_for
from trainer.config import TrainingConfig
from trainer.data.sample import Sample

if TYPE_CHECKING:
    from datasets import Dataset

BATCH = 1_000  # samples whose tokens are in memory at once, by default
MAX_BARS = 16  # of a histogram


@dataclass(frozen=True)
class EncodedTurn:
    """One turn as the model sees it: its context, its text with loss, and whether its end carries loss."""

    speaker: str
    context: str
    learned: str
    learns_to_stop: bool


class Encoder:
    """Turns samples into tokens, and tokens back into readable turns.

    Raises ConfigError when the base model or the persona can't be loaded.
    """

    def __init__(self, config: TrainingConfig, cache: Path) -> None:
        # torch and transformers take seconds to import: a mistake in the data is reported before that.
        from trainer import base_model
        from trainer.data import tokens

        self._encode, self._no_loss = tokens.encode, tokens.NO_LOSS
        self.persona = load_persona(config.persona)
        self.template, self.max_tokens = template_for(self.persona), config.max_seq_length
        self.tokenizer = base_model.load_tokenizer(base_model.prepare(config.model_name, cache))

    def encode(self, samples: list[Sample]) -> tuple["Dataset", Counter[str]]:
        """Rows of `input_ids`, `labels` and `source`, and the counts of shortened samples by reason."""
        return self._encode(samples, self.persona, self.tokenizer, self.template, self.max_tokens)

    def turns(self, input_ids: list[int], labels: list[int]) -> Iterator[EncodedTurn]:
        """Split a row of tokens into its turns, at the marks that no user text can contain."""
        ids, learned_ids = np.asarray(input_ids), np.asarray(labels)
        start = self.tokenizer.convert_tokens_to_ids(IM_START)
        borders = [*np.flatnonzero(ids == start), len(ids)]
        for begin, end in pairwise(borders):
            learned = learned_ids[begin:end] != self._no_loss
            context = self.tokenizer.decode(ids[begin + 1 : end][~learned[1:]])
            speaker, _, context = context.partition("\n")
            text = self.tokenizer.decode(ids[begin:end][learned])
            yield EncodedTurn(
                speaker=speaker,
                context=context.strip().removesuffix(IM_END),
                learned=text.removesuffix(IM_END),
                learns_to_stop=text.endswith(IM_END),
            )


@dataclass(frozen=True)
class Lengths:
    """The samples' lengths in tokens by source, and the counts of shortened samples by reason."""

    by_source: dict[str, list[int]]
    shortened: Counter[str]

    def of_source(self, source: str) -> list[int]:
        return self.by_source.get(source, [])

    @property
    def total(self) -> list[int]:
        """The lengths of all samples."""
        return [length for lengths in self.by_source.values() for length in lengths]


def measure(samples: list[Sample], encoder: Encoder, batch: int = BATCH) -> Lengths:
    """Encode all samples, a batch at a time: only their lengths stay in memory."""
    lengths = Lengths({}, Counter())
    for start in range(0, len(samples), batch):
        rows, shortened = encoder.encode(samples[start : start + batch])
        lengths.shortened.update(shortened)
        for source, ids in zip(rows["source"], rows["input_ids"], strict=True):
            lengths.by_source.setdefault(source, []).append(len(ids))
    return lengths


def summary(lengths: list[int]) -> dict[str, int]:
    """Tokens in all, and per sample: the median, the 90th percentile, the longest."""
    if not lengths:
        return {"tokens": 0, "median": 0, "p90": 0, "longest": 0}
    median, p90 = np.percentile(lengths, [50, 90]).round().astype(int).tolist()
    return {"tokens": sum(lengths), "median": median, "p90": p90, "longest": max(lengths)}


def histogram(lengths: list[int]) -> list[tuple[int, int, int]]:
    """(from, to, samples) in steps of a power of two, at most MAX_BARS of them."""
    shortest, longest, step = min(lengths, default=0), max(lengths, default=0), 8
    while longest // step - shortest // step >= MAX_BARS:
        step *= 2
    counts = Counter(length // step for length in lengths)
    bars = range(shortest // step, longest // step + 1)
    return [(bar * step, bar * step + step - 1, counts[bar]) for bar in bars]
