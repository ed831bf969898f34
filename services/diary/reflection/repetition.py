"""What Ada writes and the diary says already: it is found by runs of words, and left out.

What repeats all but a negation, a number or a name is news, and stays: "I will not sell the house".

Without this, what was recalled into a conversation would come back as a memory of its own, and be recalled
twice as often from then on. Words are what spaces and marks divide: texts in scripts without them are not
looked at.
"""

import re
import unicodedata
from collections.abc import Iterable

RUN = 8  # words in a row that nobody writes twice by chance
_WORD = re.compile(r"[^\W_]+")
_SENTENCE = re.compile(r".+?(?:(?<![.!?…])[.!?…]++[\"'’”)]*(?=\s|$)|$)\s*", re.DOTALL)
_NEGATIONS = frozenset("not no never none nobody nothing neither nor without cannot t longer hardly".split())  # noqa: SIM905
_FEW = 2  # words, beside which the rest of a sentence is one that is known
Run = tuple[str, ...]


def without_repetition(text: str, known: Iterable[str]) -> str:
    """The sentences of `text` that repeat no RUN words of what is known; what stays does so to the letter."""
    sentences = _SENTENCE.findall(text)
    repeated = _repeated([_spelled(sentence) for sentence in sentences], known)
    return "".join(sentence for place, sentence in enumerate(sentences) if place not in repeated).strip()


def _repeated(sentences: list[list[str]], known: Iterable[str]) -> set[int]:
    """The places of sentences that hold a whole run and no news beside it, or of which every word belongs to
    one."""
    words = [(word.casefold(), place) for place, sentence in enumerate(sentences) for word in sentence]
    runs: dict[Run, list[int]] = {}
    for start in range(len(words) - RUN + 1):
        runs.setdefault(tuple(word for word, _ in words[start : start + RUN]), []).append(start)
    starts = [start for run in _runs_in(known, runs) for start in runs[run]]
    covered = {place for start in starts for place in range(start, start + RUN)}
    whole = {words[start][1] for start in starts if words[start][1] == words[start + RUN - 1][1]}
    bare: dict[int, list[str]] = {}
    spelled = [word for sentence in sentences for word in sentence]
    for place, (_, sentence) in enumerate(words):
        if place not in covered:
            bare.setdefault(sentence, []).append(spelled[place])
    news = {place for place in whole & bare.keys() if _is_news(bare[place], sentences[place][0])}
    touched = {words[place][1] for place in covered}
    return (whole - news) | (touched - bare.keys())


def _is_news(bare: list[str], first: str) -> bool:
    """Whether the words of a sentence that are not known say something else than the known ones."""
    if any(word.casefold() in _NEGATIONS or any(map(str.isdigit, word)) for word in bare):
        return True
    return len(bare) <= _FEW and any(word[0].isupper() and word != first for word in bare)


def _runs_in(known: Iterable[str], runs: Iterable[Run]) -> set[Run]:
    """Those of the runs that stand in one of the texts."""
    wanted, found = set(runs), set[Run]()
    beginnings = {run[0] for run in wanted}
    if not wanted:
        return found
    for text in known:
        words = _words(text)
        for start, word in enumerate(words):
            if word in beginnings and (run := tuple(words[start : start + RUN])) in wanted:
                found.add(run)
    return found


def _words(text: str) -> list[str]:
    return [word.casefold() for word in _spelled(text)]


def _spelled(text: str) -> list[str]:
    return _WORD.findall(unicodedata.normalize("NFKC", text))
