"""A sample: one conversation between Drew and Ada, and where it came from."""

from dataclasses import dataclass

Turn = dict[str, str]


@dataclass(frozen=True)
class Sample:
    """Alternating user and assistant turns, ending with the assistant; `origin` is file:row."""

    source: str
    origin: str
    turns: tuple[Turn, ...]


def is_utf8(text: str) -> bool:
    """Whether `text` can be written: JSON may hold half a surrogate pair, which no tokenizer takes."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def told(source: str, origin: str, question: str, answer: str) -> Sample:
    """A sample in which Drew asks once and Ada tells."""
    return Sample(
        source,
        origin,
        ({"role": "user", "content": question}, {"role": "assistant", "content": answer}),
    )
