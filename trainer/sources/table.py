"""Reading text files and CSV tables with errors that name the file, the line and the column."""

import csv
from collections.abc import Iterator
from pathlib import Path

from services.errors import ConfigError

# A story is a few KiB; csv's own limit of 128 KiB a field is raised so that a long one is no error.
csv.field_size_limit(1 << 24)


def lines(path: Path, remedy: str) -> Iterator[str]:
    """Yield the lines of a file in UTF-8, with or without a byte order mark, line ends kept.

    Raises ConfigError when the file can't be read or a line is not UTF-8.
    """
    number = 1
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file, start=1):
                yield raw.decode("utf-8-sig" if number == 1 else "utf-8")
    except FileNotFoundError:
        raise ConfigError(f"no file {path}. {remedy}") from None
    except OSError as error:
        raise ConfigError(f"{path} can't be read ({error.strerror}). {remedy}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}, line {number}: byte {error.start} is not UTF-8. {remedy}") from None


def rows(path: Path, columns: tuple[str, ...], remedy: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, row) of a CSV file in UTF-8 with a header.

    Raises ConfigError when the file can't be read, lacks a column or has a torn row.
    """
    reader = csv.DictReader(lines(path, remedy), strict=True)
    try:
        missing = [name for name in columns if name not in (reader.fieldnames or [])]
        if missing:
            raise ConfigError(f"{path}, line 1: no column {missing[0]!r}. {remedy}")
        for row in reader:
            if None in row or None in row.values():
                raise ConfigError(
                    f"{path}, line {reader.line_num}: the row has not as many fields as the header. {remedy}"
                )
            yield reader.line_num, row
    except csv.Error as error:
        # DictReader's own line_num stands at the last good row.
        raise ConfigError(f"{path}, line {reader.reader.line_num}: {error}. {remedy}") from None
