"""Parses a JSON body strictly: what two parsers could read differently is refused."""

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

MAX_DEPTH = 100  # of nested lists and objects: the code that handles a body is recursive
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_TOKENS = re.compile(rb'"((?:[^"\\]|\\.)*)"(\s*:)?|([\[\]{}])', re.DOTALL)
_PLAIN = "application/json"
Json = dict[str, Any]


class JsonRoute(APIRoute):
    """A FastAPI route whose JSON body is parsed here; the framework still validates its fields."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The framework's handler behind the strict parser."""
        handle = super().get_route_handler()
        if self.body_field is None:
            return handle

        async def parse_first(request: Request) -> Response:
            parsed = _ParsedRequest(request.scope, request.receive)
            parsed.body_object = await json_body(parsed)
            return await handle(parsed)

        return parse_first


class _ParsedRequest(Request):
    """A request whose body has been parsed."""

    body_object: Json

    async def json(self) -> Json:
        return self.body_object


async def json_body(request: Request) -> Json:
    """The object in a request's body. Raises UnsupportedMediaType, or InvalidRequest as `json_object`."""
    _check_type(request.headers.get("content-type", ""))
    return json_object(await request.body())


def json_object(body: bytes) -> Json:
    """The object in a body. Raises InvalidRequest, naming the field or position at fault."""
    if not body.strip():
        raise InvalidRequest("the body is empty: send a JSON object")
    numbers = _Numbers()
    value = _parse(body, numbers)
    if not isinstance(value, dict):
        raise InvalidRequest("the body is not a JSON object: send {…}")
    # Each check walks the whole object, so it runs only when the bytes show that it may find something.
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH:
        _check_depth(value)
    if numbers.too_large:
        _check_numbers(value, numbers.too_large)
    if _SURROGATE.search(body):
        _check_surrogates(value)
    return value


def _check_type(content_type: str) -> None:
    """Only JSON: browsers send most other types for any site's page without a preflight request."""
    if content_type == _PLAIN:
        return
    header = Message()
    header["content-type"] = content_type or "none"
    subtype = header.get_content_subtype()
    if header.get_content_maintype() != "application" or not (subtype == "json" or subtype.endswith("+json")):
        sent = content_type[:100] or "missing"
        raise UnsupportedMediaType(
            f"the content type is {sent}: send JSON, with Content-Type: {_PLAIN}", "Content-Type"
        )


class _Numbers:
    """Parses numbers, and remembers one that a float can't hold."""

    too_large = ""

    def parse(self, digits: str) -> float:
        number = float(digits)
        if math.isinf(number):
            self.too_large = digits
        return number


def _parse(body: bytes, numbers: _Numbers) -> object:
    try:
        return json.loads(
            body.decode(),
            object_pairs_hook=_unique,
            parse_constant=_reject_constant,
            parse_float=numbers.parse,
        )
    except UnicodeDecodeError as error:
        raise InvalidRequest(f"the body is not UTF-8 (byte {error.start}): send it as UTF-8") from None
    except json.JSONDecodeError as error:
        position = f"line {error.lineno}, column {error.colno}"
        raise InvalidRequest(f"the body is not JSON ({position}): {error.msg}") from None
    except RecursionError:
        raise _too_deep(_deepest_field(body)) from None
    except ValueError as error:  # a number of thousands of digits
        raise InvalidRequest(f"the body can't be parsed as JSON: {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> Json:
    value = dict(pairs)
    if len(value) != len(pairs):
        duplicate = _printable(Counter(name for name, _ in pairs).most_common(1)[0][0])
        raise InvalidRequest(f"{duplicate}: the field occurs twice", duplicate)
    return value


def _reject_constant(name: str) -> NoReturn:
    raise InvalidRequest(f"the body contains {name}, which is not a JSON number")


def _check_depth(body: Json) -> None:
    for field, depth, value in _values(body):
        if depth > MAX_DEPTH and isinstance(value, list | dict):
            raise _too_deep(field)


def _too_deep(field: str) -> InvalidRequest:
    return InvalidRequest(
        f"{field}: the value is nested more than {MAX_DEPTH} levels deep: flatten it", field
    )


def _deepest_field(body: bytes) -> str:
    """The field in which a body exceeds the depth, when it is too deep to be parsed."""
    depth, field = 0, b""
    for name, follows, bracket in (token.groups(b"") for token in _TOKENS.finditer(body)):
        if bracket:
            depth += 1 if bracket in b"[{" else -1
            if depth > MAX_DEPTH:
                break
        elif follows and depth == 1:
            field = name
    return _printable(field.decode(errors="replace"))


def _check_numbers(body: Json, digits: str) -> None:
    for field, _, value in _values(body):
        if isinstance(value, float) and math.isinf(value):
            raise InvalidRequest(f"{field}: the number {digits[:50]} is too large", field)


def _check_surrogates(body: Json) -> None:
    for field, _, value in _values(body):
        for text in value if isinstance(value, dict) else (value,):
            if isinstance(text, str) and not _is_unicode(text):
                raise InvalidRequest(
                    f"{field}: it contains half of a surrogate pair, which is not a character", field
                )


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _values(body: Json) -> Iterator[tuple[str, int, object]]:
    """Every value of an object as (name of its top-level field, depth, value).

    Iterative: the nesting may be deeper than Python's recursion limit.
    """
    waiting: list[tuple[str, int, object]] = [(_printable(name), 2, value) for name, value in body.items()]
    yield from ((_printable(name), 1, name) for name in body)
    while waiting:
        field, depth, value = waiting.pop()
        yield field, depth, value
        inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        waiting.extend((field, depth + 1, part) for part in inner)


def _printable(name: str) -> str:
    """A field's name, cut and encodable, for an error message."""
    return name[:100].encode(errors="replace").decode()
