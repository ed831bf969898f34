"""The names of collections: `<model>-<dimension>-f<format>~<number>`."""

import re

from services.errors import ConfigError

# The format of a collection's content: payload, chunking, BM25 terms. Raise it when the meaning of one of
# them changes: the next start creates a new collection in place of the old one, and the ledger fills it.
FORMAT = 3
_FORMAT = re.compile(r"-f\d+(~\d+)?$")


def collection_name(model: str, dimension: int) -> str:
    """The name for vectors of one embedding model, without a number, so that models never mix."""
    return f"{re.sub(r'[^A-Za-z0-9.]+', '-', model)}-{dimension}-f{FORMAT}"


def numbered_collection(name: str, previous: str = "") -> str:
    """`name` with the number after that of the collection `previous`, or 1."""
    number = re.search(r"~(\d+)$", previous)
    return f"{name}~{int(number[1]) + 1 if number else 1}"


def check_current(current: str, name: str, model: str) -> None:
    """Raises ConfigError when the collection `current` holds vectors of another model than `name`.

    A collection of the same model in an older format is replaced.
    """
    if current and _FORMAT.sub("", current) != _FORMAT.sub("", name):
        raise ConfigError(
            f"EMBEDDING_MODEL {model!r} would search {name}, but the diary is indexed as "
            f"{current.split('~')[0]}: set EMBEDDING_MODEL back, or make the index anew by "
            "`python -m services.diary.index.reindexing`"
        )
