"""A JSON array, item by item, with the line at which each begins: no more than one item is held."""

import codecs
import io
import json
import re
from collections.abc import Iterator
from typing import Any

from services.errors import ConfigError
from trainer.data.sample import is_utf8
from trainer.data.sources.rows import JSON, LONGEST, BadRow, TornRow, text_in

PIECE = 1 << 16  # bytes read at a time
_BLANK = re.compile(r"[ \t\r\n]*")
_SOMETHING = "…"
_NO_CHARACTER = re.compile("[\udc80-\udcff]")  # what surrogateescape makes of bytes that are not UTF-8


def items(file: io.BufferedReader, where: str, remedy: str) -> Iterator[tuple[int, Any]]:
    """(line, item) for every item of the array; one that can't be read is given as the BadRow it is.

    Whoever goes on after a broken one gets the next that begins a line. Raises ConfigError when the file
    holds no array, or a broken item in one line with others, because its end can't be known.
    """
    array = _Array(file, where, remedy)
    array.begin()
    while not array.ended:
        line = array.line
        try:
            item = array.item()
        except BadRow as error:
            yield error.line, error
            if isinstance(error, TornRow):
                array.go_on(error)
        else:
            yield line, item


class _Array:
    """The text of the file from `place` on, as far as it has been read."""

    def __init__(self, file: io.BufferedReader, where: str, remedy: str) -> None:
        self.where, self.remedy = where, remedy
        self.file = text_in(file, where, remedy)
        utf8 = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        # No string in JSON holds a bare line end, so that each may be read as a line feed.
        self.decoder = io.IncrementalNewlineDecoder(utf8, translate=True)
        self.buffer, self.place, self.line = "", 0, 1
        self.margin = ""  # what stands on the line before `place`, as far as that is blank
        self.begun = ""  # the margin at which the item begins
        self.sound: str | None = None  # that of one that could be read
        self.ended = False

    def begin(self) -> None:
        first = self._peek()
        if first != "[":
            what = "holds no list" if first else "is empty"
            raise ConfigError(f"{self.where} {what}. {self.remedy}")
        self._pass(self.place + 1)
        if self._peek() == "]":
            try:
                self._end()
            except TornRow as error:
                raise self._refusal(error) from None

    def item(self) -> Any:
        """The item that begins here. Raises BadRow, or TornRow where its end is not known."""
        self.begun = self.margin
        value, end = self._value()
        flaw = self._flaw(end)
        self._pass(end)
        mark = self._peek()
        if mark == "]":
            self._end()
        elif mark == ",":
            self._pass(self.place + 1)
            self._peek()
        else:
            raise TornRow(self.line, "Expecting ',' delimiter")
        if not self.begun.strip():
            self.sound = self.begun
        if flaw:
            raise flaw
        return value

    def go_on(self, error: BadRow) -> None:
        """To the next object that begins a line as an item does: no string in JSON holds a line end."""
        if self.begun.strip():
            raise self._refusal(BadRow(error.line, f"{error}, and what follows can't be told from it"))
        margin = rf"[ \t]{{0,{len(self.begun)}}}" if self.sound is None else self.sound
        begins = re.compile(rf"\n{margin}\{{")
        while not (found := begins.search(self.buffer, self.place)):
            self._pass(max(self.place, len(self.buffer) - len(self.sound or self.begun) - 2))
            if not self._more():
                self._pass(len(self.buffer))
                self.ended = True
                return
        self._pass(found.end() - 1)
        self.margin = found.group()[1:-1]

    def _refusal(self, error: BadRow) -> ConfigError:
        return ConfigError(f"{self.where}, line {error.line}: {error}. {self.remedy}")

    def _end(self) -> None:
        self._pass(self.place + 1)
        if self._peek():
            raise TornRow(self.line, "the list ends before the file does")
        self.ended = True

    def _value(self) -> tuple[Any, int]:
        while True:
            try:
                value, end = JSON.raw_decode(self.buffer, self.place)
            except json.JSONDecodeError as error:
                if len(self.buffer) - self.place > LONGEST or not self._more():
                    raise self._torn(error) from None
            except RecursionError:
                raise TornRow(self.line, "it is nested too deeply") from None
            else:
                # A number at the end of what was read may go on.
                if end < len(self.buffer) or not self._more():
                    return value, end

    def _torn(self, error: json.JSONDecodeError) -> TornRow:
        if len(self.buffer) - self.place > LONGEST:
            return TornRow(self.line, "it is longer than 16 MiB, or broken")
        line = self.line + self.buffer.count("\n", self.place, error.pos)
        return TornRow(line, f"{error.msg} (character {error.pos - self.place} of it)")

    def _flaw(self, end: int) -> BadRow | None:
        if end - self.place > LONGEST:
            return BadRow(self.line, "it is longer than 16 MiB")
        if is_utf8(self.buffer[self.place : end]):
            return None
        byte = _NO_CHARACTER.search(self.buffer, self.place)
        return BadRow(self.line + self.buffer.count("\n", self.place, byte.start()), "it is not UTF-8")

    def _peek(self) -> str:
        """The next character that is not blank, or nothing at the end of the file."""
        while True:
            blank = _BLANK.match(self.buffer, self.place)
            _, newline, behind = blank.group().rpartition("\n")
            margin = behind if newline else self.margin + behind
            self._pass(blank.end())
            self.margin = margin
            if self.place < len(self.buffer):
                return self.buffer[self.place]
            if not self._more():
                return ""

    def _pass(self, end: int) -> None:
        self.line += self.buffer.count("\n", self.place, end)
        self.place, self.margin = end, _SOMETHING

    def _more(self) -> bool:
        """Read on, twice as far each time, so that a long item is not parsed again and again."""
        raw = self.file.read(max(PIECE, len(self.buffer) - self.place))
        piece = self.decoder.decode(raw, final=not raw)
        if piece:
            self.buffer, self.place = self.buffer[self.place :] + piece, 0
        return bool(raw or piece)
