"""Leaves out sentences of Ada's entries that the diary has already; they are found by runs of words.

A sentence that repeats everything but a negation, a number or a name is news, and stays: "I will not sell the
house".

Without this, an entry that was recalled into a conversation would become a second memory, and be recalled
twice as often from then on. Words are separated by spaces and punctuation: texts in scripts without them are
not compared.
"""

import re
import unicodedata
from collections.abc import Iterable

from services.diary.word_ngrams import QUOTATION_WORDS, word_ngrams

_WORD = re.compile(r"[^\W_]+")
_SENTENCE = re.compile(r".+?(?:(?<![.!?…])[.!?…]++[\"'’”)]*(?=\s|$)|$)\s*", re.DOTALL)
_NEGATIONS = frozenset("not no never none nobody nothing neither nor without cannot t longer hardly".split())  # noqa: SIM905
_FEW = 2  # new words at most, with which a sentence is still a repetition unless one of them is a name
Run = tuple[str, ...]


def without_repetition(text: str, existing: Iterable[str]) -> str:
    """The sentences of `text` that repeat no run of words from the existing texts; they stay unchanged."""
    sentences = _SENTENCE.findall(text)
    repeated = _repeated([_word_list(sentence) for sentence in sentences], existing)
    return "".join(sentence for number, sentence in enumerate(sentences) if number not in repeated).strip()


def _repeated(sentences: list[list[str]], existing: Iterable[str]) -> set[int]:
    """The numbers of the sentences that contain a repeated run and no news, or only repeated words."""
    words = [(word.casefold(), number) for number, sentence in enumerate(sentences) for word in sentence]
    runs: dict[Run, list[int]] = {}
    for start, run in enumerate(word_ngrams([word for word, _ in words])):
        runs.setdefault(run, []).append(start)
    starts = [start for run in _runs_in(existing, runs) for start in runs[run]]
    covered = {position for start in starts for position in range(start, start + QUOTATION_WORDS)}
    whole = {words[start][1] for start in starts if words[start][1] == words[start + QUOTATION_WORDS - 1][1]}
    new_words: dict[int, list[str]] = {}
    original = [word for sentence in sentences for word in sentence]
    for position, (_, number) in enumerate(words):
        if position not in covered:
            new_words.setdefault(number, []).append(original[position])
    candidates = whole & new_words.keys()
    news = {number for number in candidates if _is_news(new_words[number], sentences[number][0])}
    overlapping = {words[position][1] for position in covered}
    return (whole - news) | (overlapping - new_words.keys())


def _is_news(new_words: list[str], first: str) -> bool:
    """Whether the new words of a sentence, whose first word is `first`, change what it says."""
    if any(word.casefold() in _NEGATIONS or any(map(str.isdigit, word)) for word in new_words):
        return True
    return len(new_words) <= _FEW and any(word[0].isupper() and word != first for word in new_words)


def _runs_in(texts: Iterable[str], runs: Iterable[Run]) -> set[Run]:
    """The runs that occur in one of the texts."""
    targets, result = set(runs), set[Run]()
    beginnings = {run[0] for run in targets}
    if not targets:
        return result
    for text in texts:
        words = _words(text)
        for start, word in enumerate(words):
            if word in beginnings and (run := tuple(words[start : start + QUOTATION_WORDS])) in targets:
                result.add(run)
    return result


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _word_list(text)]


def _word_list(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text))
