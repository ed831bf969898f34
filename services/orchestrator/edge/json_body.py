"""A JSON body as an object, read strictly: what two readers could take differently is refused."""

import json
import re
from collections import Counter
from collections.abc import Callable, Coroutine
from email.message import Message
from typing import Any, NoReturn

from fastapi import Request, Response
from fastapi.routing import APIRoute

from services.errors import NotJson, RequestRefused

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
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
        raise RequestRefused("the body is empty: send a JSON object")
    found = _loaded(body)
    if not isinstance(found, dict):
        raise RequestRefused("the body is no JSON object: send {…}")
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
        raise NotJson(f"the content type is {named}: send JSON, with Content-Type: {_PLAIN}", "Content-Type")


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
        raise RequestRefused(f"{_shown(twice)}: the field is there twice", _shown(twice))
    return found


def _no_number(word: str) -> NoReturn:
    raise RequestRefused(f"the body holds {word}, which is no number of JSON's")


def _check_surrogates(found: Json) -> None:
    for name, value in found.items():
        try:
            json.dumps({name: value}, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            field = _shown(name)
            raise RequestRefused(
                f"{field}: half of a surrogate pair is in it, which is no character", field
            ) from None


def _shown(name: str) -> str:
    """A field's name as far as it can be told."""
    return name[:100].encode(errors="replace").decode()
