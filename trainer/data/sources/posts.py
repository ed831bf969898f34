"""Posts, read from a JSONL, CSV or Parquet file or streamed from a data set of the hub."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any

from services.errors import ConfigError
from trainer.config import TrainingConfig
from trainer.data.source import Rejections
from trainer.data.sources.rows import BadRow, Lines, Table, is_blank, is_text, json_rows, listed, opened

REMEDY = (
    'Put posts into a file, one JSON object a line: {"title": ..., "selftext": ...}, or CSV or Parquet, and '
    "set reddit_path; or set reddit_dataset to another id; or set reddit_ratio=0 and let the other ratios "
    "sum to 1"
)
# The columns of each field in known data sets: the first that is not blank counts.
FIELDS = {
    "text": ("selftext", "content", "documents", "body", "text"),
    "title": ("title", "trimmed_title"),
    "subreddit": ("subreddit", "subreddit.name", "subreddit_name_prefixed"),
    "nsfw": ("over_18", "subreddit.nsfw", "nsfw"),
}
BATCH = 1024  # rows of a Parquet file
Fields = dict[str, tuple[str, ...]]
Rows = Iterator[tuple[str, str, Any]]  # the position for a message, the origin, the row


@dataclass(frozen=True)
class Post:
    """A post and its origin; what the data does not say is blank."""

    origin: str
    text: str
    title: str
    subreddit: str
    nsfw: bool


def read_posts(config: TrainingConfig, rejections: Rejections) -> Iterator[Post]:
    """Yield the posts of at most `reddit_max_rows` rows.

    Raises ConfigError that names the file and line, or the data set, and the field.
    """
    fields = FIELDS | {field: (name,) for field, name in config.reddit_fields.items()}
    for where, origin, row in islice(_rows(config, fields, rejections), config.reddit_max_rows):
        if flaw := _flaw(row, fields):
            rejections.add_bad_row(f"{where}: {flaw}. {REMEDY}")
        else:
            text, title, subreddit, nsfw = (_value(row, fields[field]) for field in FIELDS)
            subreddit = subreddit if is_text(subreddit) else ""
            yield Post(origin, text or "", title or "", subreddit, str(nsfw).lower() in ("true", "1", "1.0"))


def _rows(config: TrainingConfig, fields: Fields, rejections: Rejections) -> Rows:
    path = config.reddit_path
    if path is None:
        return _with_fields(_from_hub(config), fields)
    match path.suffix.lower():
        case ".jsonl":
            return _from_jsonl(path, fields, rejections)
        case ".csv":
            return _from_csv(path, fields, rejections)
        case ".parquet":
            return _from_parquet(path, fields)
    raise ConfigError(f"reddit_path {path}: its name must end in .jsonl, .csv or .parquet. {REMEDY}")


def _from_jsonl(path: Path, fields: Fields, rejections: Rejections) -> Rows:
    with opened(path, REMEDY) as file:
        rows = json_rows(Lines(file, str(path), REMEDY), rejections)
        positioned = ((f"{path}, line {line}", f"{path.name}:{line}", row) for line, row in rows)
        yield from _with_fields(positioned, fields)


def _from_csv(path: Path, fields: Fields, rejections: Rejections) -> Rows:
    with opened(path, REMEDY) as file:
        table = Table(Lines(file, str(path), REMEDY, table=True))
        _need(table.columns, fields, f"{path}, line {table.first_line}")
        for line, row in table.rows(chain(*fields.values()), rejections):
            yield f"{path}, line {line}", f"{path.name}:{line}", row


def _from_parquet(path: Path, fields: Fields) -> Rows:
    import pyarrow
    from pyarrow import parquet

    with opened(path, REMEDY) as file:
        if not file.peek(1):
            raise ConfigError(f"{path} is empty. {REMEDY}")
        try:
            # A row group may be larger than memory, so its columns are read through a buffer.
            table = parquet.ParquetFile(file, buffer_size=1 << 20, pre_buffer=False)
            _need(table.schema_arrow.names, fields, str(path))
            columns = [name for name in chain(*fields.values()) if name in table.schema_arrow.names]
            batches = table.iter_batches(BATCH, columns=columns)
            for number, row in enumerate((row for batch in batches for row in _unpacked(batch)), start=1):
                yield f"{path}, row {number}", f"{path.name}:{number}", row
        except pyarrow.ArrowException as error:
            raise ConfigError(
                f"{path} is no Parquet that can be read ({_first_line(error)}). {REMEDY}"
            ) from None


def _unpacked(batch: Any) -> list[Any]:
    """Rows of a record batch. Arrow decodes text only here; a row that is not UTF-8 becomes a BadRow."""
    try:
        return list(batch.to_pylist())
    except UnicodeDecodeError:
        if len(batch) == 1:
            return [BadRow("it is not UTF-8")]
        return [row for index in range(len(batch)) for row in _unpacked(batch.slice(index, 1))]


def _from_hub(config: TrainingConfig) -> Rows:
    """Rows streamed from the hub. The remedy is the same for whatever the libraries below raise."""
    from datasets import load_dataset  # takes a second

    name, split = config.reddit_dataset, config.reddit_split
    where = f"reddit_dataset={name}, reddit_split={split}"
    try:
        stream = load_dataset(name, split=split, streaming=True)
    except Exception as error:
        raise ConfigError(f"{where} can't be streamed ({_first_line(error)}). {REMEDY}") from None
    number = 0
    try:
        for number, row in enumerate(stream, start=1):
            yield f"{where}, post {number}", f"{name}:{number}", row
    except Exception as error:  # its message may repeat a row
        raise ConfigError(
            f"{where} breaks off behind post {number} ({type(error).__name__}). {REMEDY}"
        ) from None


def _with_fields(rows: Rows, fields: Fields) -> Rows:
    """The rows, after the first has shown that the needed columns exist."""
    for number, (where, origin, row) in enumerate(rows):
        if not number and isinstance(row, dict):
            _need(row, fields, where)
        yield where, origin, row


def _need(columns: Iterable[str], fields: Fields, where: str) -> None:
    """Raise ConfigError when the text, or a column that `reddit_fields` names, is missing."""
    for field, names in fields.items():
        is_configured = names != FIELDS[field]
        if (is_configured or field == "text") and not set(names) & set(columns):
            what = f"no column {' or '.join(names)} for the {field} of a post, there are: {listed(columns)}"
            example = f"Say which one it is, for example reddit_fields={{{field}: {names[0]}}}"
            raise ConfigError(f"{where}: {what}. {example}. {REMEDY}")


def _flaw(row: Any, fields: Fields) -> str:
    if isinstance(row, BadRow):
        return str(row)
    if not isinstance(row, dict):
        return f"this is not a post but a {type(row).__name__}"
    for field in ("text", "title"):
        value = _value(row, fields[field])
        if value is not None and not is_text(value):
            return f"field {_name(row, fields[field])!r} must be text"
    return ""


def _value(row: dict[str, Any], names: tuple[str, ...]) -> Any:
    """The value of the first of these columns that is not blank; None when all are."""
    value = row.get(_name(row, names))
    return None if is_blank(value) else value


def _name(row: dict[str, Any], names: tuple[str, ...]) -> str:
    return next((name for name in names if not is_blank(row.get(name))), names[0])


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)[:200]
