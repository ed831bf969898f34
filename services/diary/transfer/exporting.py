"""The whole diary as a file, piece by piece, so that importing it gives the same diary again.

Dates, texts, moods, tags and ids come back to the letter. Where an entry came from and when it was written
is told, but an entry that is imported is an imported one, written when it was imported.
"""

import json
from collections.abc import Callable, Iterable, Iterator

from services.diary.entry import Entry
from services.diary.transfer.formats import Format
from services.diary.transfer.headings import END, MARK
from services.diary.transfer.markdown import ESCAPABLE

PIECE = 1 << 16  # characters
MEDIA_TYPES = {
    Format.JSONL: "application/x-ndjson",
    Format.JSON: "application/json",
    Format.MARKDOWN: "text/markdown; charset=utf-8",
}


def export(entries: Iterable[Entry], form: Format) -> Iterator[str]:
    """The entries as text in the format: JSON Lines, a JSON list, or Markdown with dated headings."""
    return _joined(_WRITERS[form](entries))


def _jsonl(entries: Iterable[Entry]) -> Iterator[str]:
    for entry in entries:
        yield _json(entry) + "\n"


def _json_list(entries: Iterable[Entry]) -> Iterator[str]:
    between = "[\n"
    for entry in entries:
        yield between + _json(entry)
        between = ",\n"
    yield "[]\n" if between == "[\n" else "\n]\n"


def _markdown(entries: Iterable[Entry]) -> Iterator[str]:
    for entry in entries:
        about = {name: value for name, value in _fields(entry).items() if name not in ("date", "text")}
        # Within a string of JSON's, and nothing else in it can be a ">", so the comment ends where it should.
        comment = json.dumps(about, ensure_ascii=False).replace(">", "\\u003e")
        lines = ("\\" + line if ESCAPABLE.match(line) else line for line in entry.text.split("\n"))
        yield f"## {entry.date}\n{MARK}{comment}{END}\n\n" + "\n".join(lines) + "\n\n"


_WRITERS: dict[Format, Callable[[Iterable[Entry]], Iterator[str]]] = {
    Format.JSONL: _jsonl,
    Format.JSON: _json_list,
    Format.MARKDOWN: _markdown,
}


def _json(entry: Entry) -> str:
    return json.dumps(_fields(entry), ensure_ascii=False)


def _fields(entry: Entry) -> dict[str, object]:
    """What makes up an entry, and then what is but told about it."""
    return {
        "id": entry.id,
        "date": entry.date,
        "text": entry.text,
        "mood": entry.mood,
        "tags": list(entry.tags),
        "source": entry.source,
        "written_at": entry.written_at,
        **({"origin": entry.origin} if entry.origin else {}),
    }


def _joined(pieces: Iterator[str]) -> Iterator[str]:
    """Small pieces put together, for one write to a connection each would be slow."""
    held: list[str] = []
    size = 0
    for piece in pieces:
        held.append(piece)
        size += len(piece)
        if size >= PIECE:
            yield "".join(held)
            held, size = [], 0
    yield "".join(held)
