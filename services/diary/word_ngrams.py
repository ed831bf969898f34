"""Word n-grams, by which a text is found where another one quotes it."""

from collections.abc import Iterator, Sequence

QUOTATION_WORDS = 8  # words in a row that nobody writes twice by chance


def word_ngrams(words: Sequence[str], length: int = QUOTATION_WORDS) -> Iterator[tuple[str, ...]]:
    """Every run of `length` words, in order; none when there are fewer words."""
    for start in range(len(words) - length + 1):
        yield tuple(words[start : start + length])
