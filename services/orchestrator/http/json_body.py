"""A JSON body as an object, read strictly: what two readers could take differently is refused."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from email.message import Message
from typing import Any, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute

from services.errors import InvalidRequest, UnsupportedMediaType

MOST_LEVELS = 100  # of lists and objects in one another; what works with a body is recursive
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_TOKENS = re.compile(rb'"((?:[^"\\]|\\.)*)"(\s*:)?|([\[\]{}])', re.DOTALL)
_PLAIN = "application/json"
Json = dict[str, Any]


class JsonRoute(APIRoute):
    """A route of the framework's whose JSON body is read here; the framework still checks its fields."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The framework's handler behind a strict reader."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def read_first(request: Request) -> Response:
            read = _Read(request.scope, request.receive)
            read.found = await json_body(read)
            return await handle(read)

        return read_first


class _Read(Request):
    """A request whose body was read already."""

    found: Json

    async def json(self) -> Json:
        return self.found


async def json_body(request: Request) -> Json:
    """The object in a request's body. Raises NotJson for another content type, and RequestRefused."""
    _check_type(request.headers.get("content-type", ""))
    return json_object(await request.body())


def json_object(body: bytes) -> Json:
    """The object that a body holds. Raises RequestRefused, naming the place of what is wrong."""
    if not body.strip():
        raise InvalidRequest("the body is empty: send a JSON object")
    numbers = _Numbers()
    found = _loaded(body, numbers)
    if not isinstance(found, dict):
        raise InvalidRequest("the body is no JSON object: send {…}")
    # Looked for only where the bytes say that it may be there.
    if body.count(b"[") + body.count(b"{") > MOST_LEVELS:
        _check_levels(found)
    if numbers.too_large:
        _check_numbers(found, numbers.too_large)
    if _SURROGATE.search(body):
        _check_surrogates(found)
    return found


def _check_type(content_type: str) -> None:
    """A page of any other site may have a browser send all types but this one without asking first."""
    if content_type == _PLAIN:
        return
    header = Message()
    header["content-type"] = content_type or "none"
    subtype = header.get_content_subtype()
    if header.get_content_maintype() != "application" or not (subtype == "json" or subtype.endswith("+json")):
        named = content_type[:100] or "not said"
        raise UnsupportedMediaType(
            f"the content type is {named}: send JSON, with Content-Type: {_PLAIN}", "Content-Type"
        )


class _Numbers:
    """Reads numbers, and remembers one that a float can't hold."""

    too_large = ""

    def read(self, digits: str) -> float:
        number = float(digits)
        if math.isinf(number):
            self.too_large = digits
        return number


def _loaded(body: bytes, numbers: _Numbers) -> object:
    try:
        return json.loads(
            body.decode(), object_pairs_hook=_unique, parse_constant=_no_number, parse_float=numbers.read
        )
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body is not UTF-8 (byte {error.start}): send it as UTF-8") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidRequest(f"the body is not JSON ({where}): {error.msg}") from None
    except RecursionError:
        raise _too_deep(_deep_field(body)) from None
    except ValueError as error:  # a number of thousands of digits
        raise InvalidRequest(f"the body is not JSON that can be read: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise InvalidRequest(f"{_shown(twice)}: the field is there twice", _shown(twice))
    return found


def _no_number(word: str) -> NoReturn:
    raise InvalidRequest(f"the body holds {word}, which is no number of JSON's")


def _check_levels(found: Json) -> None:
    for field, level, value in _values(found):
        if level > MOST_LEVELS and isinstance(value, list | dict):
            raise _too_deep(field)


def _too_deep(field: str) -> InvalidRequest:
    return InvalidRequest(
        f"{field}: it is nested more than {MOST_LEVELS} levels deep: send it flatter", field
    )


def _deep_field(body: bytes) -> str:
    """The field of a body that is too deep to be read at all."""
    level, field = 0, b""
    for name, follows, bracket in (token.groups(b"") for token in _TOKENS.finditer(body)):
        if bracket:
            level += 1 if bracket in b"[{" else -1
            if level > MOST_LEVELS:
                break
        elif follows and level == 1:
            field = name
    return _shown(field.decode(errors="replace"))


def _check_numbers(found: Json, digits: str) -> None:
    for field, _, value in _values(found):
        if isinstance(value, float) and math.isinf(value):
            raise InvalidRequest(f"{field}: the number {digits[:50]} is too large to be kept", field)


def _check_surrogates(found: Json) -> None:
    for field, _, value in _values(found):
        for text in value if isinstance(value, dict) else (value,):
            if isinstance(text, str) and not _is_unicode(text):
                raise InvalidRequest(
                    f"{field}: half of a surrogate pair is in it, which is no character", field
                )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _values(found: Json) -> Iterator[tuple[str, int, object]]:
    """All values of an object with the name of the field they are in, and how deep they lie.

    Without recursion, because they may lie deeper than that goes.
    """
    waiting: list[tuple[str, int, object]] = [(_shown(name), 2, value) for name, value in found.items()]
    yield from ((_shown(name), 1, name) for name in found)
    while waiting:
        field, level, value = waiting.pop()
        yield field, level, value
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        waiting.extend((field, level + 1, part) for part in inner)


def _shown(name: str) -> str:
    """A field's name as far as it can be told."""
    return name[:100].encode(errors="replace").decode()
