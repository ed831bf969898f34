"""Which format a file has: as it is asked for, else by its name, else by its content type."""

from enum import StrEnum
from pathlib import PurePath

from services.errors import EntryRejected


class Format(StrEnum):
    """The formats of whole diaries."""

    JSONL = "jsonl"
    JSON = "json"
    CSV = "csv"
    MARKDOWN = "md"
    JRNL = "jrnl"
    ZIP = "zip"


_BY_SUFFIX = {
    ".jsonl": Format.JSONL,
    ".ndjson": Format.JSONL,
    ".json": Format.JSON,
    ".csv": Format.CSV,
    ".tsv": Format.CSV,
    ".md": Format.MARKDOWN,
    ".markdown": Format.MARKDOWN,
    ".txt": Format.JRNL,
    ".jrnl": Format.JRNL,
    ".zip": Format.ZIP,
}
_BY_TYPE = {
    "application/jsonl": Format.JSONL,
    "application/x-ndjson": Format.JSONL,
    "application/x-jsonlines": Format.JSONL,
    "application/json": Format.JSON,
    "text/csv": Format.CSV,
    "text/tab-separated-values": Format.CSV,
    "text/markdown": Format.MARKDOWN,
    "application/zip": Format.ZIP,
    "application/x-zip-compressed": Format.ZIP,
}
_REMEDY = "say ?format=jsonl, json, csv or md (or jrnl, or zip)"


def format_of(requested: str | None, name: str, content_type: str) -> Format:
    """The format of a file called `name`. Raises EntryRejected when nothing tells."""
    if requested:
        try:
            return Format(requested.lower())
        except ValueError:
            raise EntryRejected(f"there is no format {requested!r}: {_REMEDY}", "format") from None
    form = _BY_SUFFIX.get(PurePath(name).suffix.lower())
    form = form or _BY_TYPE.get(content_type.partition(";")[0].strip().lower())
    if form is None:
        what = f"neither the name {name!r} nor the type {content_type!r} tells the file's format"
        raise EntryRejected(f"{what}: {_REMEDY}", "format")
    return form
