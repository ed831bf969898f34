"""Scripts without spaces between words, such as Chinese, Japanese and Thai: what counts as a word there."""

import re

# Thai, Lao, Myanmar, Khmer; kana, Han with its extensions. Korean has spaces. The ranges of CJK punctuation
# and half-width forms hold both letters and marks: only their letters are listed.
UNSPACED = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff"
    "\uf900-\ufaff\uff66-\uff9f\U00020000-\U000323af"
)
_RUN = re.compile(f"[{UNSPACED}]+")
_WORD = re.compile(rf"[{UNSPACED}]|[^\s{UNSPACED}]+")


def word_spans(text: str, start: int = 0, end: int | None = None) -> list[tuple[int, int]]:
    """The spans of the words; each character of an unspaced script is a word, as it is a token of BERT's."""
    return [word.span() for word in _WORD.finditer(text, start, len(text) if end is None else end)]


def count_words(text: str) -> int:
    """The number of words; each character of an unspaced script is one."""
    return len(text.split()) if text.isascii() else sum(1 for _ in _WORD.finditer(text))


def split_bigrams(text: str) -> str:
    """The text with runs of unspaced scripts as overlapping pairs of characters, for BM25.

    Pairs are what one searches for in such scripts without a dictionary: most words have two characters.
    """
    return _RUN.sub(lambda run: f" {' '.join(_bigrams(run[0]))} ", text)


def _bigrams(run: str) -> list[str]:
    return [run[start : start + 2] for start in range(max(1, len(run) - 1))]
