"""Ada as the author of her own diary: the served model is asked, and its answer is read with care."""

import json
import secrets
from typing import Any

import httpx

from services.chat_markup import strip_markup
from services.errors import EntryRejected, ModelUnavailable
from services.tracing import outgoing_headers, request_id

_COMPLETIONS = "/v1/chat/completions"
MOST_BYTES = 4 << 20  # of an answer, which is a few sentences
_COMES_BACK = {404, 408, 425, 429}  # 404: vLLM is up and Ada's adapter is not loaded yet


class CompletionClient:
    """A client of the model server at `url`. Timeouts in seconds."""

    def __init__(
        self, url: str, connect_timeout_s: float = 5.0, silence_timeout_s: float = 300.0, api_key: str = ""
    ) -> None:
        timeout = httpx.Timeout(silence_timeout_s, connect=connect_timeout_s)
        key = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        self._client = httpx.Client(
            base_url=url, headers=key, timeout=timeout, trust_env=False
        )  # past any proxy

    def write(self, request: dict[str, Any]) -> str:
        """What Ada answers to a chat completion request, without a trace of its template.

        Raises ModelUnavailable when it is worth another try, EntryRejected when the answer is no entry.
        """
        answer = self._post({**request, "stream": False})
        match answer:
            case {
                "choices": [{"finish_reason": reason, "message": {"content": str() | None as content}}, *_]
            }:
                pass
            case _:
                raise EntryRejected("the model server's answer is no chat completion")
        if reason != "stop":
            raise EntryRejected(f"the answer was cut off (finish_reason {reason!r:.40}): retry its job")
        text = strip_markup(content or "")
        if not text:
            raise EntryRejected("the answer is empty")
        return text

    def close(self) -> None:
        """Let go of the connections."""
        self._client.close()

    def _post(self, body: dict[str, Any]) -> Any:
        try:
            with self._client.stream("POST", _COMPLETIONS, json=body, headers=_story()) as response:
                content = _read(response)
        except httpx.HTTPError as error:
            raise ModelUnavailable(f"the model server can't be reached: {_kind(error)}") from error
        if response.status_code in _COMES_BACK or response.status_code >= 500:
            raise ModelUnavailable(f"the model server answered {response.status_code}")
        if response.status_code >= 400:
            raise EntryRejected(f"the model server refused ({response.status_code}): {_said(content)}")
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise ModelUnavailable("the model server's answer is not JSON") from None


def _read(response: httpx.Response) -> bytes:
    """A response's body. Raises EntryRejected for one that is no answer by its size alone."""
    content = b""
    for piece in response.iter_bytes():
        content += piece
        if len(content) > MOST_BYTES:
            raise EntryRejected(f"the model server's answer is longer than {MOST_BYTES} bytes")
    return content


def _kind(error: httpx.HTTPError) -> str:
    """What went wrong, without the bytes of an answer that a protocol error quotes."""
    is_quoting = isinstance(error, httpx.ProtocolError | httpx.DecodingError)
    return type(error).__name__ if is_quoting else str(error) or type(error).__name__


def _story() -> dict[str, str]:
    """Whose work this is, for vLLM's log. A job may be tried again, and vLLM keys its work by this id."""
    mine = request_id.get()
    return {**outgoing_headers(), **({"X-Request-Id": f"{mine}-{secrets.token_hex(4)}"} if mine else {})}


def _said(content: bytes) -> str:
    """The message in OpenAI's error body, or the body's first words."""
    try:
        return str(json.loads(content)["error"]["message"])[:500]
    except (ValueError, KeyError, TypeError, RecursionError):
        return content[:200].decode("utf-8", "replace")
