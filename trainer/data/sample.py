"""A sample: one training conversation, its origin, and the diary entries that are recalled in it."""

from dataclasses import dataclass

from services.persona.prompt import RecalledBlock

Turn = dict[str, str]  # role and content


@dataclass(frozen=True)
class Sample:
    """Turns that alternate between user and assistant and end with the assistant; `origin` is file:row.

    A narrative has one question and one answer. Its `prompt_variants` are the ways to ask for it (the
    question is one of them), and `summary` is its writer's own summary, where the source has one.
    `unlearned` holds the indices of assistant turns that carry no loss; the last turn always carries loss.
    """

    source: str
    origin: str
    turns: tuple[Turn, ...]
    prompt_variants: tuple[str, ...] = ()
    summary: str = ""
    recalled: tuple[RecalledBlock, ...] = ()
    unlearned: frozenset[int] = frozenset()

    @property
    def answer(self) -> str:
        """All that Ada learns to say in it."""
        answers = ((index, turn) for index, turn in enumerate(self.turns) if turn["role"] == "assistant")
        return "\n\n".join(turn["content"] for index, turn in answers if index not in self.unlearned)


def alternating_turns(*contents: str) -> tuple[Turn, ...]:
    """Turns of user and assistant by turns, the user first."""
    roles = ("user", "assistant")
    return tuple({"role": roles[index % 2], "content": content} for index, content in enumerate(contents))


def make_sample(
    source: str, origin: str, prompt_variants: tuple[str, ...], answer: str, summary: str = ""
) -> Sample:
    """A narrative as a sample of one question, the first of `prompt_variants`, and one answer."""
    turns = alternating_turns(prompt_variants[0], answer)
    return Sample(source, origin, turns, prompt_variants, summary)


def is_utf8(text: str) -> bool:
    """Whether `text` can be encoded: JSON may hold half a surrogate pair, which no tokenizer accepts."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
