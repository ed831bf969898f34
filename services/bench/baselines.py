"""What Ada's recall is measured beside: plain BM25, MiniLM alone, and three ways to put both together.

They rank the turns of a conversation for a question, with nothing of Ada's but the embedder.
"""

import math
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from services.bench.locomo import Conversation, Turn
from services.diary.embedding.embedder import Embedder

Scores = NDArray[np.float64]  # one row a question, one column a turn
BM25, MINILM = "BM25", "MiniLM"
RRF, MINMAX, PREVIOUS = "both by ranks", "both by min-max", "min-max and previous turn"
_WORD = re.compile(r"[a-z0-9']+")
K1, B, EPSILON, RANK = 1.5, 0.75, 0.25, 60  # as in rank_bm25, and as usual for reciprocal ranks


def scores(conversation: Conversation, embedder: Embedder) -> dict[str, Scores]:
    """Every baseline's scores, the higher the better."""
    questions = [question.text for question in conversation.questions]
    by_words = _bm25(_dated(conversation), questions)
    asked = np.array([embedder.embed_query(question) for question in questions])
    by_meaning = asked @ np.array(embedder.embed_documents(list(map(_said, conversation.turns)))).T
    with_previous = asked @ np.array(embedder.embed_documents(_with_previous(conversation))).T
    both = _min_max((by_meaning + with_previous) / 2)
    return {
        BM25: by_words,
        MINILM: by_meaning,
        RRF: _reciprocal(by_meaning) + _reciprocal(by_words),
        MINMAX: _min_max(by_meaning) + _min_max(by_words),
        PREVIOUS: both + _min_max(by_words),
    }


def _said(turn: Turn) -> str:
    return f"{turn.speaker}: {turn.text}" + (f" [shares {turn.caption}]" if turn.caption else "")


def _dated(conversation: Conversation) -> list[str]:
    return [
        f"({session.said_at}) {_said(turn)}" for session in conversation.sessions for turn in session.turns
    ]


def _with_previous(conversation: Conversation) -> list[str]:
    texts = [list(map(_said, session.turns)) for session in conversation.sessions]
    return [f"{said[place - 1]} {one}" if place else one for said in texts for place, one in enumerate(said)]


def _bm25(documents: Sequence[str], questions: Sequence[str]) -> Scores:
    """Okapi BM25 over lower-case words, as rank_bm25 has it."""
    counts = [Counter(_WORD.findall(document.lower())) for document in documents]
    lengths = np.array([count.total() for count in counts], float)
    weight = _idf(counts)
    found = np.zeros((len(questions), len(documents)))
    for row, question in zip(found, questions, strict=True):
        for word in _WORD.findall(question.lower()):
            often = np.array([count[word] for count in counts], float)
            norm = K1 * (1 - B + B * lengths / lengths.mean())
            row += weight.get(word, 0.0) * often * (K1 + 1) / (often + norm)
    return found


def _idf(counts: Sequence[Counter[str]]) -> dict[str, float]:
    """How rare a word is; one that is in more than half of all documents counts a little all the same."""
    within = Counter(word for count in counts for word in count)
    rare = {word: math.log((len(counts) - n + 0.5) / (n + 0.5)) for word, n in within.items()}
    floor = EPSILON * sum(rare.values()) / len(rare)
    return {word: weight if weight >= 0 else floor for word, weight in rare.items()}


def _min_max(found: Scores) -> Scores:
    low, high = found.min(axis=1, keepdims=True), found.max(axis=1, keepdims=True)
    return np.asarray((found - low) / np.maximum(high - low, 1e-12))


def _reciprocal(found: Scores) -> Scores:
    ranks = np.argsort(np.argsort(-found, axis=1, kind="stable"), axis=1)
    return np.asarray(1.0 / (RANK + 1 + ranks))
