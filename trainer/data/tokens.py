"""What the model is shown of a sample: its token ids, and which of them carry loss."""

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
    """What would carry loss is not exactly Ada's part: she would learn Drew's, or never to stop."""


def encode(
    samples: list[Sample],
    persona: Persona,
    tokenizer: PreTrainedTokenizerBase,
    template: str,
    max_tokens: int,
) -> tuple[Dataset, Counter[str]]:
    """Samples as rows of `input_ids` (at most `max_tokens`), `labels` and `source`, and what had to be cut.

    Nothing is cut inside a turn: first the diary block goes, then the last exchanges, then the sample.
    Raises WrongMask when anything but Ada's words and her end of turn would carry loss.
    """
    encoder = _Encoder(persona, tokenizer, template)
    columns: dict[str, list[object]] = {"input_ids": [], "labels": [], "source": []}
    cut: Counter[str] = Counter()
    for sample in samples:
        ids, labels, reason = _fitting(encoder, sample, max_tokens)
        if reason:
            cut[reason] += 1
        if len(ids):
            columns["input_ids"].append(ids)
            columns["labels"].append(labels)
            columns["source"].append(sample.source)
    return Dataset.from_dict(columns), cut


def _fitting(encoder: "_Encoder", sample: Sample, max_tokens: int) -> tuple[np.ndarray, np.ndarray, str]:
    """Ids and labels of as much of a sample as fits, and what had to be left out for that."""
    for shorter, reason in _ever_shorter(sample):
        ids, labels = encoder.encode(shorter)
        if len(ids) <= max_tokens:
            return ids, labels, reason
    return ids[:0], labels[:0], "longer than max_seq_length"


def _ever_shorter(sample: Sample) -> list[tuple[Sample, str]]:
    """The sample, then what may be left of it, each with the words for what was left out."""
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
    """The mask without the answers at these places: its stretches are Ada's turns, every second one."""
    kept = np.asarray(mask, dtype=bool)
    edges = np.flatnonzero(np.diff(kept, prepend=False, append=False)).reshape(-1, 2)
    for answer, (start, end) in enumerate(edges):
        if 2 * answer + 1 in unlearned:
            kept[start:end] = False
    return kept


class _Encoder:
    """Renders through Ada's template and holds the mask against what it must be."""

    def __init__(self, persona: Persona, tokenizer: PreTrainedTokenizerBase, template: str) -> None:
        self.persona, self.tokenizer, self.template = persona, tokenizer, template
        header = f"{IM_START}{persona.assistant_name}\n"
        self.header = tokenizer(header, add_special_tokens=False)["input_ids"]
        self.end_of_turn = tokenizer.convert_tokens_to_ids(IM_END)

    def encode(self, sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        """Token ids and labels, both int32 and of one length."""
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
        """Each of Ada's turns carries loss from behind her header to her end of turn, and nothing else does.

        An Ada who never learned to stop looks healthy in the loss.
        """
        answers = sum(turn["role"] == "assistant" for turn in sample.turns)
        place, runs = 0, 0
        for carries_loss, run in groupby(mask):
            end = place + sum(1 for _ in run)
            if carries_loss:
                runs += 1
                if ids[end - 1] != self.end_of_turn:
                    raise WrongMask(f"{sample.origin}: no {IM_END} carries loss: Ada would never stop")
                before = ids[max(0, place - len(self.header)) : place]
                if before != self.header or self.end_of_turn in ids[place : end - 1]:
                    raise WrongMask(f"{sample.origin}: more than Ada's own words carries loss")
            place = end
        if runs != answers:
            raise WrongMask(f"{sample.origin}: {runs} of {answers} answers carry loss")
