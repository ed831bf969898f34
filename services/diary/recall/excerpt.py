"""The excerpt of an entry that a prompt shows: all of a short entry, the matching chunks of a long one."""

from collections.abc import Collection, Iterable, Sequence

from services.diary.index.chunking import Span, spans

MAX_ENTRY_CHARACTERS = 1_500
LEFT_OUT = "[…]"


def excerpt(
    text: str,
    ordinals: Sequence[int],
    hidden: Collection[int] = (),
    max_characters: int = MAX_ENTRY_CHARACTERS,
) -> str:
    """The text unchanged if it has at most `max_characters`, else the chunks with these ordinals and their
    neighbours, in the order of the text.

    `ordinals` come best first, and chunks are added as long as they fit. Chunks in `hidden` are never shown.
    """
    is_short = len(text) <= max_characters
    if is_short and not hidden:
        return text
    chunks = spans(text)
    wanted = [n for n in (range(len(chunks)) if is_short else ordinals) if n < len(chunks)] or [0]
    shown: set[int] = set()
    for ordinal in _with_neighbours(wanted):
        if ordinal in hidden:
            continue
        if 0 <= ordinal < len(chunks) and _length(chunks, shown | {ordinal}) <= max_characters:
            shown.add(ordinal)
    if not shown:
        visible = [ordinal for ordinal in wanted if ordinal not in hidden]
        return (
            _render(text, [_truncate(text, chunks[visible[0]][0], max_characters)]) if visible else LEFT_OUT
        )
    return _render(text, _merge(chunks, shown))


def _truncate(text: str, start: int, max_characters: int) -> Span:
    """The beginning of a chunk that is too long by itself, up to the end of a word if there is one."""
    end = start + max_characters
    space = max(text.rfind(mark, start + max_characters // 2, end) for mark in " \n")
    return (start, space if space > 0 and end < len(text) else end)


def _with_neighbours(ordinals: Iterable[int]) -> list[int]:
    """Each ordinal, followed by the next and the previous one, without repetition."""
    return list(dict.fromkeys(near for n in ordinals for near in (n, n + 1, n - 1)))


def _merge(chunks: Sequence[Span], ordinals: Iterable[int]) -> list[Span]:
    """The spans of these chunks, neighbours merged into one."""
    merged: list[Span] = []
    for ordinal in sorted(ordinals):
        if merged and merged[-1][1] == chunks[ordinal - 1][1]:
            merged[-1] = (merged[-1][0], chunks[ordinal][1])
        else:
            merged.append(chunks[ordinal])
    return merged


def _length(chunks: Sequence[Span], ordinals: Iterable[int]) -> int:
    return sum(end - start for start, end in _merge(chunks, ordinals))


def _render(text: str, slices: Sequence[Span]) -> str:
    """The slices of the text, with LEFT_OUT wherever something is missing."""
    shown = f" {LEFT_OUT}\n{LEFT_OUT} ".join(text[start:end] for start, end in slices)
    before = f"{LEFT_OUT} " if text[: slices[0][0]].strip() else ""
    after = f" {LEFT_OUT}" if text[slices[-1][1] :].strip() else ""
    return f"{before}{shown}{after}"
