"""The platform says on every response that the persona it serves is an AI. No setting turns it off.

The header is the one of draft-abaris-aicdh-01 (an expired IETF draft; no RFC exists), a dictionary of
structured fields (RFC 9651).
"""

from functools import lru_cache
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.errors import ConfigError

HEADER = "AI-Disclosure"
# The rest of what every response has keeps browsers from taking a text for something else, and other sites'
# pages from showing one of ours as a part of theirs.
_BROWSER_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
)
MODEL = "ada"  # as clients name the model, whoever the persona is


class Disclosure:
    """What is said about a persona: `sentence` for people, `header` for programs."""

    def __init__(self, name: str) -> None:
        self.sentence = (
            f"{name} is an AI persona: a language model that plays a fictional person, for research. "
            "You are not talking with a human being."
        )
        self.header = f'mode=machine-generated, model="{MODEL}"'
        if name.casefold() != MODEL:  # else the model's name is the persona's
            self.header += f", persona={_structured(name)}"
        self.headers = ((HEADER.lower().encode(), self.header.encode()), *_BROWSER_HEADERS)


@lru_cache(maxsize=8)
def disclosure_about(name: str) -> Disclosure:
    """The disclosure for a persona of this name."""
    return Disclosure(name)


# Ada's own, and the platform's as long as no adapter is published.
DEFAULT = disclosure_about("Ada")
DISCLOSURE, HEADER_VALUE = DEFAULT.sentence, DEFAULT.header


def disclosure_of(app: Any) -> Disclosure:
    """The disclosure for the persona that an application serves; it never fails."""
    state = getattr(app.state, "ada", None)
    try:
        return disclosure_about(state.adapter().persona.assistant_name) if state else DEFAULT
    except ConfigError:
        return DEFAULT


def _structured(name: str) -> str:
    """A String where ASCII is enough, else a Display String: no header carries other characters safely."""
    if name.isascii() and not set(name) & set('"\\'):
        return f'"{name}"'
    escaped = "".join(chr(b) if 0x20 <= b < 0x7F and b not in b'%"' else f"%{b:02x}" for b in name.encode())
    return f'%"{escaped}"'


class DisclosureMiddleware:
    """Writes these headers on every HTTP response, errors included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def disclosing(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *disclosure_of(scope["app"]).headers]
            await send(message)

        await self._app(scope, receive, disclosing)
