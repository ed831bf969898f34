"""The user's own conversations of user and persona, of any number of turns: a JSON array or JSONL.

A conversation is `{"conversations": [{"role", "content"}, ...]}`; OpenAI's `messages` and ShareGPT's `from`
and `value` are read too, and content in parts of type `text`. Leading system turns are dropped silently,
because the persona's own system text takes their place. The user begins, the speakers alternate, the persona
ends.
"""

import io
from collections.abc import Iterable, Iterator
from itertools import cycle, dropwhile
from pathlib import Path
from typing import Any

from services.persona.persona import load_persona
from trainer.config import TrainingConfig
from trainer.data.sample import Sample, Turn, alternating_turns
from trainer.data.source import Provenance, Rejections
from trainer.data.sources.foreign import ForeignConversations, own_conversations
from trainer.data.sources.rows import BadRow, Lines, exists, fingerprint, json_items, json_rows, opened
from trainer.data.sources.turns import (
    Flaw,
    check_keys,
    first_filled,
    from_text,
    is_learned,
    is_row_learned,
    speaker,
    words,
)

NAME = "conversations"
LICENCE = "Conversations of user and persona by whoever trained it; those in data/samples: Apache-2.0"
REMEDY = (
    'Write conversations there as [{"conversations": [{"role": "user", "content": "..."}, '
    '{"role": "assistant", "content": "..."}]}], like data/samples/generated_conversations.json, '
    "or one a line in a file whose name ends in .jsonl, or set generated_data_path"
)
ROLES = ("user", "assistant")
SYSTEM = ("system", "developer")
USUAL = dict.fromkeys(("user", "human", "prompter"), "user")
USUAL |= dict.fromkeys(("assistant", "gpt", "bot", "model", "chatgpt"), "assistant")
# Two unknown names are taken for user and persona, unless one of them is one of these.
NEVER_A_SPEAKER = (*SYSTEM, "tool", "function", "observation", "function_call", "ipython", "environment")
LISTS = ("conversations", "messages")


def is_available(config: TrainingConfig) -> bool:
    """Whether the file exists."""
    return exists(config.generated_data_path)


def provenance(config: TrainingConfig) -> Provenance:
    """The file and its hash."""
    return fingerprint(config.generated_data_path)


def read_samples(config: TrainingConfig, rejections: Rejections) -> Iterator[Sample]:
    """Yield one sample per conversation.

    Raises ConfigError that names file, line, conversation, turn and field; both are counted from 0.
    """
    path, speakers = config.generated_data_path, _speakers(config)
    with opened(path, REMEDY) as file:
        for where, origin, conversation in _own(_conversations(file, path, rejections), config):
            try:
                turns, unlearned = _turns(conversation, speakers, config.ignored_turn_keys)
            except (Flaw, BadRow) as error:
                rejections.add_bad_row(f"{where}: {error}. {REMEDY}")
            else:
                if turns:
                    yield Sample(NAME, origin, turns, unlearned=unlearned)
                else:
                    rejections.add("not to be learned")


def _own(
    conversations: Iterator[tuple[str, str, Any]], config: TrainingConfig
) -> Iterator[tuple[str, str, Any]]:
    """The conversations, checked to be of the trained persona unless the config allows others."""
    if config.foreign_conversations == "allow":
        return conversations
    persona = load_persona(config.persona)
    remedy = (
        f"{persona.assistant_name} is trained: write {persona.pronouns.possessive} own by "
        f"`make conversations PERSONA={config.persona}` into another file, set generated_data_path to it, or "
        "set foreign_conversations=allow"
    )
    foreign = ForeignConversations(persona, {*_speakers(config), *SYSTEM})
    return own_conversations(conversations, config.generated_data_path, foreign, remedy)


def _conversations(
    file: io.BufferedReader, path: Path, rejections: Rejections
) -> Iterator[tuple[str, str, Any]]:
    """(position for a message, origin, conversation); an array's items go by number."""
    if path.suffix.lower() == ".jsonl":
        for line, value in json_rows(Lines(file, str(path), REMEDY), rejections):
            yield f"{path}, line {line}", f"{path.name}:{line}", value
    else:
        for number, (line, value) in enumerate(json_items(file, str(path), REMEDY)):
            yield f"{path}, line {line}, conversation {number}", f"{path.name}:{number}", value


def _speakers(config: TrainingConfig) -> dict[str, str]:
    """Role by speaker's name in lower case."""
    persona = load_persona(config.persona)
    own = {persona.user_name: "user", persona.assistant_name: "assistant"}
    return {name.strip().lower(): role for name, role in (USUAL | own | config.speakers).items()}


def _turns(
    conversation: Any, speakers: dict[str, str], ignored: Iterable[str]
) -> tuple[tuple[Turn, ...], frozenset[int]]:
    """The turns up to the last one that carries loss, and the indices of earlier answers that do not."""
    if isinstance(conversation, BadRow):
        raise conversation
    turns = [(index, speaker(index, turn), turn) for index, turn in enumerate(_list(conversation))]
    turns = list(dropwhile(lambda turn: turn[1] in SYSTEM, turns))
    roles = _roles(turns, speakers)
    for (index, name, _), expected in zip(turns, cycle(ROLES), strict=False):
        if roles[name] != expected:
            raise Flaw(
                f"turn {index}, field `role` must be {expected!r}: the user begins, then they take turns"
            )
    if len(turns) < 2 or len(turns) % 2:
        raise Flaw("the last turn must be the assistant's, and field `role` say so")
    dialogue = alternating_turns(*(words(index, turn) for index, _, turn in turns))
    for index, _, turn in turns:
        check_keys(index, turn, ignored)
    learned = [is_learned(index, turn) for index, _, turn in turns]
    answers = [index for index in range(1, len(turns), 2) if learned[index]]
    if not is_row_learned(conversation) or not answers:
        return (), frozenset()
    end = answers[-1] + 1
    return dialogue[:end], frozenset(range(1, end, 2)) - frozenset(answers)


def _list(conversation: Any) -> list[Any]:
    turns = first_filled(conversation, LISTS)
    if isinstance(turns, str) and turns.strip():
        turns = from_text(turns)
        if turns is None:
            raise Flaw(
                "field `conversations` holds text in the place of a list, and the text is no JSON that could "
                "be read as one: write the turns as a list of objects"
            )
    if not isinstance(turns, list) or len(turns) < 2:
        raise Flaw("field `conversations` must hold two turns or more")
    return turns


def _roles(turns: list[tuple[int, str, Any]], speakers: dict[str, str]) -> dict[str, str]:
    """Role by name for these turns; of two unknown names, the first to speak is the user."""
    names = list(dict.fromkeys(name for _, name, _ in turns))
    unknown = [(index, name) for index, name, _ in turns if name not in speakers]
    if len(names) == 2 and not {*speakers, *NEVER_A_SPEAKER} & {*names}:
        return dict(zip(names, ROLES, strict=True))
    if unknown:
        raise Flaw(
            f"turn {unknown[0][0]}, field `role` names neither the user nor the persona: say who it is, "
            "for example speakers={Marta: user}"
        )
    return speakers
