"""JSON in pieces, cut at the marks that give it its structure; what stands in strings is no mark."""

import re
from collections.abc import Iterable, Iterator

TORN = "torn"  # the mark for a line end within a string: a quote was never closed, for JSON allows none
_OUTSIDE = re.compile(r'["\[\]{},\n]')
_IN_STRING = re.compile(r'\\[^\n]|["\n]')


def marks(pieces: Iterable[str]) -> Iterator[tuple[str, str]]:
    """(text, mark) pairs that are the whole of the pieces again; the mark is one of `[]{},`, a line end,
    TORN, or nothing where a piece ended."""
    in_string, held = False, ""
    for piece in pieces:
        text = held + piece
        held = "\\" if _ends_in_escape(text) else ""
        text = text[: len(text) - len(held)]
        begins = place = 0
        while match := (_IN_STRING if in_string else _OUTSIDE).search(text, place):
            mark, place = match.group(), match.end()
            if mark == '"':
                in_string = not in_string
            elif not in_string or mark == "\n":
                yield text[begins : match.start()], TORN if in_string else mark
                in_string, begins = False, place
        yield text[begins:], ""
    yield held, ""


def _ends_in_escape(text: str) -> bool:
    return (len(text) - len(text.rstrip("\\"))) % 2 == 1
