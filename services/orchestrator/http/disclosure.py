"""The platform discloses on every response that the persona it serves is an AI. No setting turns it off.

The header is the one of draft-abaris-aicdh-01 (an expired IETF draft; no RFC exists), a dictionary of
structured fields (RFC 9651).
"""

from functools import lru_cache
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from services.errors import ConfigError

HEADER = "AI-Disclosure"
# On every response, too: browsers must not guess another content type, nor show one in another site's page.
_BROWSER_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
)
MODEL = "ada"  # the model's name for clients, whatever the persona is called


class Disclosure:
    """A persona's disclosure: `sentence` for people, `header` for programs, `headers` as ASGI sends them."""

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
def disclosure_for(name: str) -> Disclosure:
    """The disclosure for a persona of this name."""
    return Disclosure(name)


# Ada's own, and the platform's while no adapter is published.
DEFAULT = disclosure_for("Ada")
DISCLOSURE, HEADER_VALUE = DEFAULT.sentence, DEFAULT.header


def served_disclosure(app: Any) -> Disclosure:
    """The disclosure for the persona that an application serves. Raises nothing."""
    state = getattr(app.state, "ada", None)
    try:
        return disclosure_for(state.adapter().persona.assistant_name) if state else DEFAULT
    except ConfigError:
        return DEFAULT


def _structured(name: str) -> str:
    """A String where ASCII is enough, else a Display String: other characters are not safe in a header."""
    if name.isascii() and not set(name) & set('"\\'):
        return f'"{name}"'
    escaped = "".join(chr(b) if 0x20 <= b < 0x7F and b not in b'%"' else f"%{b:02x}" for b in name.encode())
    return f'%"{escaped}"'


class DisclosureMiddleware:
    """Writes the disclosure's headers on every HTTP response, errors included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_disclosed(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *served_disclosure(scope["app"]).headers]
            await send(message)

        await self._app(scope, receive, send_disclosed)
