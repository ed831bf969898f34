"""BM25 vectors of texts: stemmed English terms without stop words, the same for both engines.

A document term t with frequency f in a chunk of n terms has the weight

    f · (K1 + 1) / (f + K1 · (1 - B + B · n / AVERAGE_LENGTH))

(Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009), and the engine multiplies it by the
term's inverse document frequency among the owner's chunks. Measured on three conversations of LoCoMo
(recall@5 / @10): without stemming 48 / 56, with it 60 / 67. K1 from 0.6 to 1.8, B from 0 to 0.75 and
AVERAGE_LENGTH from 20 to 256 end within two points of each other, and at the end of recall within one.
"""

import calendar
from datetime import date as Date

import qdrant_edge
from qdrant_edge import Bm25, Bm25Config

from services.diary.date_names import MONTH_NAMES
from services.diary.index.types import SparseVector
from services.diary.index.unspaced_scripts import split_bigrams

K1 = 1.2  # the higher, the more a term's second occurrence counts
B = 0.4  # how much long chunks are penalised
AVERAGE_LENGTH = 40.0  # terms of a chunk: a full one has about 55, a line 12
_BM25 = Bm25(Bm25Config(k=K1, b=B, avg_len=AVERAGE_LENGTH, language="english", ascii_folding=True))


def document_vector(text: str) -> SparseVector:
    """The distinct terms of a chunk with their weights."""
    return _vector(_BM25.embed_document(split_bigrams(text)))


def query_vector(text: str) -> SparseVector:
    """The distinct terms of a question, each with the weight 1."""
    return _vector(_BM25.embed_query(split_bigrams(text)))


def spell_out_days(first: Date, last: Date) -> str:
    """A day, a whole month or a whole year as people ask for it: "5 May 2023"; "" for any other span."""
    if first == last:
        return f"{first.day} {MONTH_NAMES[first.month - 1]} {first.year}"
    if (first.year, first.month, first.day, last.day) == (last.year, last.month, 1, _month_length(last)):
        return f"{MONTH_NAMES[first.month - 1]} {first.year}"
    whole_year = (first, last) == (Date(first.year, 1, 1), Date(first.year, 12, 31))
    return str(first.year) if whole_year else ""


def _month_length(day: Date) -> int:
    return calendar.monthrange(day.year, day.month)[1]


def _vector(vector: qdrant_edge.SparseVector) -> SparseVector:
    return SparseVector(list(vector.indices), list(vector.values))
