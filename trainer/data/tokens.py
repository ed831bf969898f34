"""Tokens of a sample as the model sees it: ids and labels, with loss on Ada's words alone."""

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from itertools import groupby

import numpy as np
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from services.chat_markup import IM_END, IM_START
from services.errors import AdaError
from services.persona.persona import Persona
from services.persona.prompt import build_messages
from trainer.data.sample import Sample

NO_LOSS = -100  # PyTorch's cross entropy ignores it


class WrongMask(AdaError):
    """The loss mask is not exactly Ada's part: she would learn the user's words, or never to stop."""


def encode(
    samples: list[Sample],
    persona: Persona,
    tokenizer: PreTrainedTokenizerBase,
    template: str,
    max_tokens: int,
) -> tuple[Dataset, Counter[str]]:
    """Encode samples as rows of `input_ids`, `labels` and `source`; also counts shortened ones by reason.

    `input_ids` and `labels` are int32 of shape (T,), T at most `max_tokens`; a label is the token's own id or
    NO_LOSS (the model shifts them). A sample that is too long loses its diary block first, then its last
    exchanges; it is dropped when its first exchange does not fit. Nothing is cut inside a turn.

    Raises WrongMask when anything but Ada's words and her end of turn would carry loss.
    """
    encoder = _Encoder(persona, tokenizer, template)
    columns: dict[str, list[object]] = {"input_ids": [], "labels": [], "source": []}
    shortened: Counter[str] = Counter()
    for sample in samples:
        ids, labels, reason = _fitting(encoder, sample, max_tokens)
        if reason:
            shortened[reason] += 1
        if len(ids):
            columns["input_ids"].append(ids)
            columns["labels"].append(labels)
            columns["source"].append(sample.source)
    return Dataset.from_dict(columns), shortened


def _fitting(encoder: "_Encoder", sample: Sample, max_tokens: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Ids and labels (T,) of as much of a sample as fits, and the reason why it was shortened, or nothing."""
    for shorter, reason in _shortenings(sample):
        ids, labels = encoder.encode(shorter)
        if len(ids) <= max_tokens:
            return ids, labels, reason
    return ids[:0], labels[:0], "longer than max_seq_length"


def _shortenings(sample: Sample) -> list[tuple[Sample, str]]:
    """The sample, then ever shorter forms of it, each with the reason that is counted."""
    shorter = [(sample, "")]
    if sample.recalled:
        sample = replace(sample, recalled=())
        shorter.append((sample, "diary block left out"))
    while len(sample.turns) > 2:
        sample = replace(sample, turns=sample.turns[:-2])
        if len(sample.turns) - 1 not in sample.unlearned:
            shorter.append((sample, "last turns left out"))
    return shorter


def _without(unlearned: Collection[int], mask: list[int]) -> np.ndarray:
    """The mask (T,) without the answers at these indices: each of its runs is one of Ada's turns."""
    loss_mask = np.asarray(mask, dtype=bool)
    edges = np.flatnonzero(np.diff(loss_mask, prepend=False, append=False)).reshape(-1, 2)
    for answer, (start, end) in enumerate(edges):
        if 2 * answer + 1 in unlearned:
            loss_mask[start:end] = False
    return loss_mask


class _Encoder:
    """Renders samples through Ada's template and checks each loss mask."""

    def __init__(self, persona: Persona, tokenizer: PreTrainedTokenizerBase, template: str) -> None:
        self.persona, self.tokenizer, self.template = persona, tokenizer, template
        header = f"{IM_START}{persona.assistant_name}\n"
        self.header = tokenizer(header, add_special_tokens=False)["input_ids"]
        self.end_of_turn = tokenizer.convert_tokens_to_ids(IM_END)

    def encode(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        """Token ids and labels, both int32 of shape (T,)."""
        encoding = self.tokenizer.apply_chat_template(
            build_messages(self.persona, sample.turns, sample.recalled),
            chat_template=self.template,
            return_dict=True,
            return_assistant_tokens_mask=True,
        )
        ids, mask = encoding["input_ids"], encoding["assistant_masks"]
        self._check(sample, ids, mask)
        ids = np.asarray(ids, dtype=np.int32)
        return ids, np.where(_without(sample.unlearned, mask), ids, np.int32(NO_LOSS))

    def _check(self, sample: Sample, ids: list[int], mask: list[int]) -> None:
        """Raise WrongMask unless exactly Ada's turns carry loss, each from her header to her end of turn.

        The loss does not show an Ada who never learns to stop.
        """
        answers = sum(turn["role"] == "assistant" for turn in sample.turns)
        start, runs = 0, 0
        for carries_loss, run in groupby(mask):
            end = start + sum(1 for _ in run)
            if carries_loss:
                runs += 1
                if ids[end - 1] != self.end_of_turn:
                    raise WrongMask(f"{sample.origin}: no {IM_END} carries loss: Ada would never stop")
                before = ids[max(0, start - len(self.header)) : start]
                if before != self.header or self.end_of_turn in ids[start : end - 1]:
                    raise WrongMask(f"{sample.origin}: more than Ada's own words would carry loss")
            start = end
        if runs != answers:
            raise WrongMask(f"{sample.origin}: {runs} of {answers} answers carry loss")
