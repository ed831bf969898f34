"""Splits an entry into chunks that fit the embedder, each a verbatim slice of the text.

MiniLM reads 256 tokens and silently drops the rest, so the end of a long entry that is embedded whole cannot
be found (measured on LoCoMo: recall@5 46 whole, 68 in chunks). A line is a chunk of its own, because people
change the subject with the line; recall adds the context of neighbouring chunks.

In scripts without spaces each character counts as a word, as it does for the embedder.
"""

import re
from itertools import pairwise

from services.diary.index.unspaced_scripts import count_words, word_spans

MAX_WORDS_PER_CHUNK = 120  # about 160 tokens of English
MANY_CHUNKS = 256  # an entry with more lines is a list: its lines are joined
_BREAK = re.compile(r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")
_SENTENCE_END = re.compile(
    r"(?<=[.!?…])\s+|(?<=[.!?…][\"'”’)\]])\s+|(?<=[。！？｡])\s*(?![\s。！？｡」』”’）])|(?<=[。！？][」』”’）])\s*"
)
_CONTINUES = (",", ";", ":", "-", "–")

Span = tuple[int, int]  # the first character and the one after the last


def chunks(text: str) -> list[str]:
    """The chunks of a text in order: its lines, long ones split at ends of sentences."""
    return [text[start:end] for start, end in spans(text)]


def spans(text: str) -> list[Span]:
    """The spans of the chunks, of at most MAX_WORDS_PER_CHUNK words. Every word is in exactly one of them."""
    pieces = [
        piece for line in _lines(text) for piece in _join(text, _sentences(text, line), MAX_WORDS_PER_CHUNK)
    ]
    for min_words in (8, 32, MAX_WORDS_PER_CHUNK):
        if len(pieces) > MANY_CHUNKS:
            pieces = _join(text, pieces, min_words)
    return pieces


def _lines(text: str) -> list[Span]:
    """The lines that are not blank. A line that continues in lower case was only wrapped."""
    breaks = []
    for space in _BREAK.finditer(text):
        is_single = len(f"{space[0]}.".splitlines()) == 2
        before = text[max(0, space.start() - 8) : space.start()].rstrip()[-1:]
        after = text[space.end() : space.end() + 1]
        if not (is_single and after.islower() and (before.isalnum() or before in _CONTINUES)):
            breaks.append(space.span())
    return _between(text, (0, len(text)), breaks)


def _sentences(text: str, line: Span) -> list[Span]:
    """The sentences of a line; one of more than MAX_WORDS_PER_CHUNK words is split between words."""
    breaks = [space.span() for space in _SENTENCE_END.finditer(text, *line)]
    return [piece for sentence in _between(text, line, breaks) for piece in _split_long(text, sentence)]


def _split_long(text: str, sentence: Span) -> list[Span]:
    if sentence[1] - sentence[0] <= MAX_WORDS_PER_CHUNK:  # most are: a word has at least one character
        return [sentence]
    words = word_spans(text, *sentence)
    if len(words) <= MAX_WORDS_PER_CHUNK:
        return [sentence]
    last_words = words[MAX_WORDS_PER_CHUNK - 1 :: MAX_WORDS_PER_CHUNK]
    return _between(text, sentence, [(end, end) for _, end in last_words])


def _between(text: str, whole: Span, breaks: list[Span]) -> list[Span]:
    """The spans between the breaks, without surrounding white space; blank ones are left out."""
    edges = [whole[0], *(edge for span in breaks for edge in span), whole[1]]
    pieces = list(pairwise(edges))[::2]
    return [span for piece in pieces if (span := _strip(text, piece))]


def _strip(text: str, span: Span) -> Span | None:
    piece = text[slice(*span)]
    start = span[0] + len(piece) - len(piece.lstrip())
    return (start, start + len(piece.strip())) if piece.strip() else None


def _join(text: str, pieces: list[Span], min_words: int) -> list[Span]:
    """Neighbours joined while the first has fewer than `min_words` words and both fit one chunk."""
    if len(pieces) < 2:
        return pieces
    joined: list[Span] = []
    sizes: list[int] = []
    for piece in pieces:
        size = count_words(text[slice(*piece)])
        if joined and sizes[-1] < min_words and sizes[-1] + size <= MAX_WORDS_PER_CHUNK:
            joined[-1] = (joined[-1][0], piece[1])
            sizes[-1] += size
        else:
            joined.append(piece)
            sizes.append(size)
    return joined
