"""Lines of a file, with a look at those that follow: what is underlined, and where a code fence ends."""

import re
from collections import defaultdict, deque
from collections.abc import Iterator

from services.tabular.lines import Line

_WINDOW = 64 << 10  # characters: an entry has at most 32 KiB, so a fence that is longer is in none
_LONGEST_RUN = 10  # of the marks that make a fence; what is longer counts as this
_FENCE = re.compile(r"[ \t]*+(?:[-*+][ \t]++)?(`{3,}+|~{3,}+)([^\r\n]*+)\r?\n?")
_Kind = tuple[str, int]


class Lookahead(Iterator[Line]):
    """The lines, one by one. Each is looked at ahead of its time once, however often it is asked about."""

    def __init__(self, given: Iterator[Line]) -> None:
        self._given = given
        self._held: deque[Line] = deque()
        self._size = 0  # characters held
        self._closers: dict[_Kind, deque[int]] = defaultdict(deque)  # lines that can end a fence

    def __next__(self) -> Line:
        if not self._held and not self._read():
            raise StopIteration
        line = self._held.popleft()
        self._size -= len(line.text)
        return line

    def peek(self, offset: int = 0) -> Line | None:
        """The line that comes after `place` others; none at the end of the file."""
        while len(self._held) <= offset:
            if not self._read():
                return None
        return self._held[offset]

    def fence_end(self, line: Line) -> int:
        """The number of the line that ends the code fence that `line` begins.

        0 when it begins none. A fence that is never closed is none: it would take the days behind it along.
        """
        fence = _FENCE.fullmatch(line.text)
        if fence is None or (fence[1][0] == "`" and "`" in fence[2]):
            return 0
        while self._size < _WINDOW and self._read():
            pass
        mark, least = fence[1][0], min(len(fence[1]), _LONGEST_RUN)
        ends = [self._closer((mark, run), line.number) for run in range(least, _LONGEST_RUN + 1)]
        return min(filter(None, ends), default=0)

    def _read(self) -> bool:
        line = next(self._given, None)
        if line is None:
            return False
        self._held.append(line)
        self._size += len(line.text)
        fence = _FENCE.fullmatch(line.text)
        if fence and not fence[2].strip():
            self._closers[fence[1][0], min(len(fence[1]), _LONGEST_RUN)].append(line.number)
        return True

    def _closer(self, kind: _Kind, behind: int) -> int:
        """The first line of a kind that can end a fence, behind a line; 0 for none in sight."""
        closers = self._closers[kind]
        while closers and closers[0] <= behind:
            closers.popleft()
        return closers[0] if closers else 0
