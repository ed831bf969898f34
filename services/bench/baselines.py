"""Baselines for Ada's recall: BM25, MiniLM, and three ways to combine them.

They rank the turns of a conversation for a question and use nothing of Ada's but the embedder.
"""

import re
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from rank_bm25 import BM25Okapi

from services.bench.locomo import Conversation, Turn
from services.diary.embedding.embedder import Embedder

Scores = NDArray[np.float64]  # (questions, turns)
BM25, MINILM = "BM25", "MiniLM"
RRF, MINMAX, PREVIOUS = "both by ranks", "both by min-max", "min-max and previous turn"
RRF_K = 60  # Cormack et al., SIGIR 2009
_WORD = re.compile(r"[a-z0-9']+")


def scores(conversation: Conversation, embedder: Embedder) -> dict[str, Scores]:
    """Every baseline's scores, (questions, turns), the higher the better."""
    questions = [question.text for question in conversation.questions]
    sparse = _bm25(_dated_texts(conversation), questions)
    queries = np.array([embedder.embed_query(question) for question in questions])
    dense = queries @ np.array(embedder.embed_documents(list(map(_turn_text, conversation.turns)))).T
    with_previous = queries @ np.array(embedder.embed_documents(_texts_with_previous(conversation))).T
    return {
        BM25: sparse,
        MINILM: dense,
        RRF: _reciprocal_ranks(dense) + _reciprocal_ranks(sparse),
        MINMAX: _min_max(dense) + _min_max(sparse),
        PREVIOUS: _min_max((dense + with_previous) / 2) + _min_max(sparse),
    }


def _turn_text(turn: Turn) -> str:
    return f"{turn.speaker}: {turn.text}" + (f" [shares {turn.caption}]" if turn.caption else "")


def _dated_texts(conversation: Conversation) -> list[str]:
    return [
        f"({session.date_time}) {_turn_text(turn)}"
        for session in conversation.sessions
        for turn in session.turns
    ]


def _texts_with_previous(conversation: Conversation) -> list[str]:
    """Each turn's text after that of the turn before it in its session."""
    texts = []
    for session in conversation.sessions:
        turns = list(map(_turn_text, session.turns))
        texts += turns[:1] + [f"{previous} {text}" for previous, text in pairwise(turns)]
    return texts


def _bm25(documents: Sequence[str], questions: Sequence[str]) -> Scores:
    """Okapi BM25 over lower-case words, with the parameters of rank_bm25: k1 1.5, b 0.75, epsilon 0.25."""
    bm25 = BM25Okapi([_words(document) for document in documents])
    return np.array([bm25.get_scores(_words(question)) for question in questions], dtype=np.float64)


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())


def _min_max(values: Scores) -> Scores:
    low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
    return np.asarray((values - low) / np.maximum(high - low, 1e-12))


def _reciprocal_ranks(values: Scores) -> Scores:
    ranks = np.argsort(np.argsort(-values, axis=1, kind="stable"), axis=1)
    return np.asarray(1.0 / (RRF_K + 1 + ranks))
