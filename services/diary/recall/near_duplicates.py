"""Entries that say the same: somebody imported them twice, or a program wrote them in another typography.

Two texts say the same when their words, numbers and signs are the same in the same order. Case, punctuation
and spacing make no difference. A likeness in degrees is not enough: "I will sell the house" and "I will not
sell the house" share all their words but one, as do two doses of one pill.
"""

import re
import unicodedata
from typing import Generic, TypeVar

# A number keeps its sign and its inner marks, because -5 is not 5 and 1.5 is not 1 and 5.
_TOKEN = re.compile(r"(?:(?<![^\W_])[-+])?\d+(?:[.,:/-]\d+)*|[^\W_]+(?:'[^\W_]+)*|\S")
_APOSTROPHES = str.maketrans({"’": "'", "ʼ": "'", "−": "-"})
_DROPPED = "PZC"  # Unicode's punctuation, separators and control characters
_MARKUP = frozenset("`^")  # Markdown's, which Unicode counts as symbols

Thing = TypeVar("Thing")
Words = tuple[str, ...]


class Deduplicator(Generic[Thing]):
    """Puts things with the same words into one group. A thing without words has a group of its own."""

    def __init__(self) -> None:
        self.all: list[list[Thing]] = []  # each in the order in which its things were put in
        self._by_words: dict[Words, list[Thing]] = {}

    def put(self, thing: Thing, text: str) -> None:
        """Add `thing` to the group of its text."""
        words = normalized_tokens(text)
        if words and (group := self._by_words.get(words)):
            group.append(thing)
            return
        self._by_words[words] = [thing]
        self.all.append(self._by_words[words])


def is_duplicate(a: str, b: str) -> bool:
    """Whether two texts say the same. Texts without words never do."""
    return bool(normalized_tokens(a)) and normalized_tokens(a) == normalized_tokens(b)


def normalized_tokens(text: str) -> Words:
    """The words, numbers and signs of a text, by which it is compared.

    Marks of scripts that write vowels as marks belong to their words. A question mark counts: "You sold the
    house?" is no statement.
    """
    plain = unicodedata.normalize("NFKC", text.translate(_APOSTROPHES)).casefold()
    return tuple(token for token in _TOKEN.findall(plain) if _counts(token))


def _counts(token: str) -> bool:
    if len(token) > 1 or token == "?":
        return True
    return unicodedata.category(token)[0] not in _DROPPED and token not in _MARKUP
