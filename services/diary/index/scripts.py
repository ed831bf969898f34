"""Scripts that put no spaces between words: what stands for a word there."""

import re

# Thai, Lao, Myanmar, Khmer; kana, Han with its extensions. Korean has spaces. The ranges of CJK punctuation
# and half-width forms hold both: only their letters are taken.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U000323af"
)
_RUN = re.compile(f"[{UNSPACED}]+")
_UNIT = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")


def word_spans(text: str, start: int = 0, end: int | None = None) -> list[tuple[int, int]]:
    """Where the words stand, each character of an unspaced script as one, as BERT's tokens are there."""
    return [unit.span() for unit in _UNIT.finditer(text, start, len(text) if end is None else end)]


def count_words(text: str) -> int:
    """How many words a text has, each character of an unspaced script as one."""
    return len(text.split()) if text.isascii() else sum(1 for _ in _UNIT.finditer(text))


def split_bigrams(text: str) -> str:
    """The text with spaces between pairs of neighbours in unspaced scripts, for a search by words.

    Pairs are what a reader of such scripts looks for without a dictionary: most words have two characters.
    """
    return _RUN.sub(lambda run: f" {' '.join(_pairs(run[0]))} ", text)


def _pairs(run: str) -> list[str]:
    return [run[place : place + 2] for place in range(max(1, len(run) - 1))]
