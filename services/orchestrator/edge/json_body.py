"""A JSON body as an object, read strictly: what two readers could take differently is refused."""

import json
import re
from collections import Counter
from typing import Any, NoReturn

from services.errors import RequestRefused

_SURROGATE = re.compile(rb"\\u[dD][89abAB]")
Json = dict[str, Any]


def json_object(body: bytes) -> Json:
    """The object that a body holds. Raises RequestRefused, naming the place of what is wrong."""
    found = _loaded(body)
    if not isinstance(found, dict):
        raise RequestRefused("the body is no JSON object")
    if _SURROGATE.search(body):
        _check_surrogates(found)
    return found


def _loaded(body: bytes) -> object:
    try:
        return json.loads(body.decode(), object_pairs_hook=_unique, parse_constant=_no_number)
    except UnicodeDecodeError as error:
        raise RequestRefused(f"the body is not UTF-8 (byte {error.start}): send it as UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise RequestRefused(f"the body is not JSON ({where}): {error.msg}") from None
    except (ValueError, RecursionError) as error:  # a number of thousands of digits; too many brackets
        raise RequestRefused(f"the body is not JSON that can be read: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise RequestRefused(f"{twice}: the field is there twice", twice[:100])
    return found


def _no_number(word: str) -> NoReturn:
    raise RequestRefused(f"the body holds {word}, which is no number of JSON's")


def _check_surrogates(found: Json) -> None:
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise RequestRefused("the body holds half of a surrogate pair, which is no character") from None
