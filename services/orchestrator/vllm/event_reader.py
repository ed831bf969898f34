"""Server-sent events as the HTML standard defines them, read with a limit on each one's size."""

from collections.abc import AsyncIterator

from services.errors import ModelFaulty

DATA, END = b"data: ", b"\n\n"
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
RawEvent = tuple[bytes, bytes]  # its name, empty where none was given, and its data


async def read_events(pieces: AsyncIterator[bytes], most_bytes: int) -> AsyncIterator[RawEvent]:
    """The events that have data; comments, ids and unknown fields are left out, as the standard has it.

    Raises ModelFaulty for an event of more than `most_bytes`.
    """
    line_ends, buffer, begun = _LineEnds(), bytearray(), False
    async for piece in pieces:
        if not buffer and not line_ends.cut and _is_one_event(piece):
            begun = True
            yield b"", piece[len(DATA) : -len(END)]
            continue
        searched = max(0, len(buffer) - 1)  # the end may lie half in what was searched before
        buffer += line_ends.normalized(piece)
        if not begun and len(buffer) >= len(_BYTE_ORDER_MARK):
            begun = True
            if buffer.startswith(_BYTE_ORDER_MARK):
                del buffer[: len(_BYTE_ORDER_MARK)]
        start = 0
        while (end := buffer.find(END, max(start, searched))) >= 0:
            block = bytes(buffer[start:end])
            start = end + len(END)
            if event := _event(block):
                yield event
        del buffer[:start]
        if len(buffer) > most_bytes:
            raise ModelFaulty(f"an event of the model server's stream is larger than {most_bytes} bytes")


def _is_one_event(piece: bytes) -> bool:
    """As vLLM writes nearly all of them, one a piece and in one line."""
    return piece.startswith(DATA) and piece.endswith(END) and piece.count(b"\n") == 2 and b"\r" not in piece


def _event(block: bytes) -> RawEvent | None:
    name, data = b"", []
    for line in block.split(b"\n"):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return (name, b"\n".join(data)) if data else None


class _LineEnds:
    """Lines may end in LF, CRLF or CR, and the network may cut a CRLF in two."""

    cut = False  # behind a CR

    def normalized(self, piece: bytes) -> bytes:
        """With LF alone."""
        if not piece:
            return piece
        if self.cut:
            piece = piece.removeprefix(b"\n")
        self.cut = piece.endswith(b"\r")
        return piece.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in piece else piece
