"""An entry in pieces that fit the embedder, each as it stands in the text.

MiniLM reads 256 tokens and silently drops the rest, so a long entry embedded whole is lost to search
from its second page on (measured on LoCoMo: recall@5 46 whole, 68 by pieces). A line is a piece of its own,
because people change the subject with the line; what it loses of its context, recall gives back.

In scripts without spaces each character counts as a word, as it does for the embedder.
"""

import re
from itertools import pairwise

from services.diary.index.scripts import count_words, word_spans

WORDS_A_CHUNK = 120  # about 160 tokens of English
MANY_CHUNKS = 256  # an entry of more lines is somebody's list: its lines are put together
_BREAK = re.compile(r"[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]\s*")
_SENTENCE_END = re.compile(
    r"(?<=[.!?…])\s+|(?<=[.!?…][\"'”’)\]])\s+|(?<=[。！？｡])\s*(?![\s。！？｡」』”’）])|(?<=[。！？][」』”’）])\s*"
)
_GOES_ON = (",", ";", ":", "-", "–")

Span = tuple[int, int]  # first character and the one after the last


def chunks(text: str) -> list[str]:
    """The pieces of a text in their order: lines, long ones cut at sentence ends."""
    return [text[start:end] for start, end in spans(text)]


def spans(text: str) -> list[Span]:
    """Where the pieces stand, of at most WORDS_A_CHUNK words. Every word of the text is in one of them."""
    pieces = [
        piece for line in _lines(text) for piece in _joined(text, _sentences(text, line), WORDS_A_CHUNK)
    ]
    for fewest in (8, 32, WORDS_A_CHUNK):
        if len(pieces) > MANY_CHUNKS:
            pieces = _joined(text, pieces, fewest)
    return pieces


def _lines(text: str) -> list[Span]:
    """The lines that have a word. A line that goes on in lower case was only wrapped."""
    ends = []
    for space in _BREAK.finditer(text):
        one_break = len(f"{space[0]}.".splitlines()) == 2
        before, after = (
            text[max(0, space.start() - 8) : space.start()].rstrip()[-1:],
            text[space.end() : space.end() + 1],
        )
        if not (one_break and after.islower() and (before.isalnum() or before in _GOES_ON)):
            ends.append(space.span())
    return _between(text, (0, len(text)), ends)


def _sentences(text: str, line: Span) -> list[Span]:
    """The sentences of a line, one of more than WORDS_A_CHUNK words cut between words."""
    ends = [space.span() for space in _SENTENCE_END.finditer(text, *line)]
    return [piece for sentence in _between(text, line, ends) for piece in _short(text, sentence)]


def _short(text: str, sentence: Span) -> list[Span]:
    if sentence[1] - sentence[0] <= WORDS_A_CHUNK:  # most are: a word has at least one character
        return [sentence]
    words = word_spans(text, *sentence)
    if len(words) <= WORDS_A_CHUNK:
        return [sentence]
    lasts = words[WORDS_A_CHUNK - 1 :: WORDS_A_CHUNK]
    return _between(text, sentence, [(end, end) for _, end in lasts])


def _between(text: str, whole: Span, ends: list[Span]) -> list[Span]:
    """What stands between the spaces given, without those that surround it."""
    edges = [whole[0], *(edge for end in ends for edge in end), whole[1]]
    cuts = list(pairwise(edges))[::2]
    return [span for cut in cuts if (span := _stripped(text, cut))]


def _stripped(text: str, span: Span) -> Span | None:
    piece = text[slice(*span)]
    start = span[0] + len(piece) - len(piece.lstrip())
    return (start, start + len(piece.strip())) if piece.strip() else None


def _joined(text: str, pieces: list[Span], fewest: int) -> list[Span]:
    """Neighbours put together while the first has fewer than `fewest` words and both fit one chunk."""
    if len(pieces) < 2:
        return pieces
    joined: list[Span] = []
    sizes: list[int] = []
    for piece in pieces:
        size = count_words(text[slice(*piece)])
        if joined and sizes[-1] < fewest and sizes[-1] + size <= WORDS_A_CHUNK:
            joined[-1] = (joined[-1][0], piece[1])
            sizes[-1] += size
        else:
            joined.append(piece)
            sizes.append(size)
    return joined
