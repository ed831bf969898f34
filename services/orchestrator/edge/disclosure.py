"""The platform says on every response that Ada is an AI persona. No setting turns it off.

The header is the one of draft-abaris-aicdh-01 (an expired IETF draft; no RFC exists).
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

DISCLOSURE = (
    "Ada is an AI persona: a language model that plays a fictional person, for research. "
    "You are not talking with a human being."
)
HEADER = "AI-Disclosure"
HEADER_VALUE = 'mode=machine-generated, model="ada"'
# What every response has. The rest keeps browsers from taking a text for something else, and other sites'
# pages from showing one of ours as a part of theirs.
HEADERS = (
    (HEADER.lower().encode(), HEADER_VALUE.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"frame-ancestors 'none'"),
)


class DisclosureMiddleware:
    """Writes these headers on every HTTP response, errors included."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def disclosing(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *HEADERS]
            await send(message)

        await self._app(scope, receive, disclosing)
