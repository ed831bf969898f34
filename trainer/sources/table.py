"""Reading CSV tables with errors that name the file, the line and the column."""

import csv
from collections.abc import Iterator
from pathlib import Path

from services.errors import ConfigError

# A story is a few KiB; csv's own limit of 128 KiB a field is raised so that a long one is no error.
csv.field_size_limit(1 << 24)


def rows(path: Path, columns: tuple[str, ...], remedy: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, row) of a CSV file in UTF-8 with a header.

    Raises ConfigError when the file is missing, is not UTF-8, lacks a column or has a torn row.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            missing = [name for name in columns if name not in (reader.fieldnames or [])]
            if missing:
                raise ConfigError(f"{path}, line 1: no column {missing[0]!r}. {remedy}")
            for row in reader:
                if any(row[name] is None for name in columns):
                    raise ConfigError(f"{path}, line {reader.line_num}: the row is cut short. {remedy}")
                yield reader.line_num, row
    except FileNotFoundError:
        raise ConfigError(f"no file {path}. {remedy}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path} is not UTF-8 (byte {error.start}). {remedy}") from None
    except csv.Error as error:
        raise ConfigError(f"{path}, line {reader.line_num}: {error}. {remedy}") from None
