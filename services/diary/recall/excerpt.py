"""What of an entry is shown: all of a short one, of a long one what was found with what stands around it."""

from collections.abc import Collection, Iterable, Sequence

from services.diary.index.chunking import Span, spans

MAX_ENTRY_CHARACTERS = 1_500
LEFT_OUT = "[…]"


def excerpt(
    text: str, found: Sequence[int], hidden: Collection[int] = (), most: int = MAX_ENTRY_CHARACTERS
) -> str:
    """The text to the letter if it has at most `most` characters, else its chunks at the places `found`, best
    first, and those before and after them, as many as fit, in the order of the text. Chunks that are hidden
    are never shown.
    """
    is_short = len(text) <= most
    if is_short and not hidden:
        return text
    pieces = spans(text)
    wanted = [place for place in (range(len(pieces)) if is_short else found) if place < len(pieces)] or [0]
    kept: set[int] = set()
    for place in _outwards(wanted):
        if place in hidden:
            continue
        if 0 <= place < len(pieces) and _length(pieces, kept | {place}) <= most:
            kept.add(place)
    if not kept:
        visible = [place for place in wanted if place not in hidden]
        return _marked(text, [_cut(text, pieces[visible[0]][0], most)]) if visible else LEFT_OUT
    return _marked(text, _runs(pieces, kept))


def _cut(text: str, start: int, most: int) -> Span:
    """The beginning of a piece that is too long by itself, up to the end of a word if there is one."""
    end = start + most
    space = max(text.rfind(mark, start + most // 2, end) for mark in " \n")
    return (start, space if space > 0 and end < len(text) else end)


def _outwards(found: Iterable[int]) -> list[int]:
    """The places in the order in which they are wanted: each one with the one after and the one before."""
    return list(dict.fromkeys(place for one in found for place in (one, one + 1, one - 1)))


def _runs(pieces: Sequence[Span], kept: Iterable[int]) -> list[Span]:
    """What is kept, with neighbours as one slice of the text."""
    runs: list[Span] = []
    for place in sorted(kept):
        if runs and runs[-1][1] == pieces[place - 1][1]:
            runs[-1] = (runs[-1][0], pieces[place][1])
        else:
            runs.append(pieces[place])
    return runs


def _length(pieces: Sequence[Span], kept: Iterable[int]) -> int:
    return sum(end - start for start, end in _runs(pieces, kept))


def _marked(text: str, runs: Sequence[Span]) -> str:
    """The slices, with a mark wherever something is left out."""
    shown = f" {LEFT_OUT}\n{LEFT_OUT} ".join(text[start:end] for start, end in runs)
    before = f"{LEFT_OUT} " if text[: runs[0][0]].strip() else ""
    after = f" {LEFT_OUT}" if text[runs[-1][1] :].strip() else ""
    return f"{before}{shown}{after}"
