"""A sample: one conversation between Drew and Ada, where it came from, and what she recalls in it."""

from dataclasses import dataclass

from services.persona.prompt import RecalledBlock

Turn = dict[str, str]


@dataclass(frozen=True)
class Sample:
    """Alternating user and assistant turns, ending with the assistant; `origin` is file:row.

    A telling is one question and one answer; `askings` are the ways in which Drew may ask for it, of which
    the question is one, and `gist` is what its writer said of it in short, where a source has that.
    `unlearned` are the places of those of Ada's turns that carry no loss; the last one always does.
    """

    source: str
    origin: str
    turns: tuple[Turn, ...]
    askings: tuple[str, ...] = ()
    gist: str = ""
    recalled: tuple[RecalledBlock, ...] = ()
    unlearned: frozenset[int] = frozenset()

    @property
    def answer(self) -> str:
        """All that Ada learns to say in it."""
        answers = ((place, turn) for place, turn in enumerate(self.turns) if turn["role"] == "assistant")
        return "\n\n".join(turn["content"] for place, turn in answers if place not in self.unlearned)


def dialogue(*contents: str) -> tuple[Turn, ...]:
    """Turns that Drew and Ada take in this order, Drew first."""
    roles = ("user", "assistant")
    return tuple({"role": roles[place % 2], "content": content} for place, content in enumerate(contents))


def told(source: str, origin: str, askings: tuple[str, ...], answer: str, gist: str = "") -> Sample:
    """A sample in which Drew asks once and Ada tells."""
    return Sample(source, origin, dialogue(askings[0], answer), askings, gist)


def is_utf8(text: str) -> bool:
    """Whether `text` can be written: JSON may hold half a surrogate pair, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
