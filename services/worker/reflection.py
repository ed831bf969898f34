"""Reflections: the served model writes an entry from a conversation, and the entry is saved once."""

import json
import logging
import secrets
from contextlib import suppress
from typing import Any

import httpx
from pydantic import ValidationError
from rq.timeouts import JobTimeoutException

from services.chat_markup import strip_markup
from services.diary.entry import EntryDraft, Source
from services.diary.jobs import Jobs
from services.diary.ledger.ledger import Ledger
from services.diary.ledger.persona_record import PersonaRecord
from services.diary.reflection.reflections import Attempt, Reflection, Reflections, entry_text
from services.diary.transfer.row import rejection
from services.errors import DiaryUnavailable, EntryConflict, EntryRejected, ModelUnavailable, NotFound
from services.tracing import outgoing_headers, request_id

log = logging.getLogger("ada.worker")
NOTHING_NEW = "all that was written stands in the diary already"
MAX_ANSWER_BYTES = 4 << 20  # an entry is a few sentences
_COMPLETIONS = "/v1/chat/completions"
_RETRYABLE = {404, 408, 425, 429}  # 404: vLLM is up, and Ada's adapter is not loaded yet


class CompletionClient:
    """A client of the model server at `url`. Timeouts in seconds."""

    def __init__(
        self, url: str, connect_timeout_s: float = 5.0, silence_timeout_s: float = 300.0, api_key: str = ""
    ) -> None:
        timeout = httpx.Timeout(silence_timeout_s, connect=connect_timeout_s)
        headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
        # trust_env=False: a proxy of the environment is not used.
        self._client = httpx.Client(base_url=url, headers=headers, timeout=timeout, trust_env=False)

    def complete(self, request: dict[str, Any]) -> str:
        """The model's answer to a chat completion request, without any mark of the chat template.

        Raises ModelUnavailable when another attempt may succeed, EntryRejected when the answer is no entry.
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
        """Close the connections."""
        self._client.close()

    def _post(self, body: dict[str, Any]) -> Any:
        try:
            with self._client.stream("POST", _COMPLETIONS, json=body, headers=_headers()) as response:
                content = _body(response)
        except httpx.HTTPError as error:
            raise ModelUnavailable(f"the model server can't be reached: {_reason(error)}") from error
        if response.status_code in _RETRYABLE or response.status_code >= 500:
            raise ModelUnavailable(f"the model server answered {response.status_code}")
        if response.status_code >= 400:
            raise EntryRejected(
                f"the model server refused ({response.status_code}): {_error_message(content)}"
            )
        try:
            return json.loads(content)
        except (ValueError, RecursionError):
            raise ModelUnavailable("the model server's answer is not JSON") from None


def _body(response: httpx.Response) -> bytes:
    """The body of a response. Raises EntryRejected when it is too long for an answer."""
    content = b""
    for piece in response.iter_bytes():
        content += piece
        if len(content) > MAX_ANSWER_BYTES:
            raise EntryRejected(f"the model server's answer is longer than {MAX_ANSWER_BYTES} bytes")
    return content


def _reason(error: httpx.HTTPError) -> str:
    """The error's message, or its type alone when the message may quote bytes of an answer."""
    may_quote = isinstance(error, httpx.ProtocolError | httpx.DecodingError)
    return type(error).__name__ if may_quote else str(error) or type(error).__name__


def _headers() -> dict[str, str]:
    """The trace, and the request's id for vLLM's log.

    A job may be tried again, and vLLM keys its work by this id, so each attempt has a suffix of its own.
    """
    origin = request_id.get()
    ids = {"X-Request-Id": f"{origin}-{secrets.token_hex(4)}"} if origin else {}
    return {**outgoing_headers(), **ids}


def _error_message(content: bytes) -> str:
    """The message in OpenAI's error body, or the beginning of the body."""
    try:
        return str(json.loads(content)["error"]["message"])[:500]
    except (ValueError, KeyError, TypeError, RecursionError):
        return content[:200].decode("utf-8", "replace")


class ReflectionHandler:
    """Runs reflection jobs: asks the model for an entry, and saves it."""

    def __init__(self, ledger: Ledger, jobs: Jobs, client: CompletionClient) -> None:
        self._ledger = ledger
        self._jobs = jobs
        self._client = client
        self._reflections = Reflections(ledger)
        self._persona = PersonaRecord(ledger)

    def reflect(self, owner: str, reflection_id: str) -> None:
        """Let Ada write an entry from a conversation. Raises DiaryUnavailable.

        Any other error concerns this reflection alone: the attempt is counted, and the next one is deferred.
        """
        attempt = self._reflections.begin(owner, reflection_id)
        if attempt is None:
            log.info("reflection %s is not queued, nothing to write", reflection_id)
            return
        try:
            self._write_entry(attempt)
        except DiaryUnavailable as error:
            with suppress(DiaryUnavailable):
                self._reflections.defer(attempt, str(error))
            raise
        except (ModelUnavailable, JobTimeoutException) as error:
            self._defer(attempt, str(error))
        except (EntryRejected, ValidationError) as error:
            reason = rejection(error) if isinstance(error, ValidationError) else error
            self._reflections.mark_failed(attempt, str(reason))
            # vLLM's message may repeat the conversation: it is in the ledger, for the owner alone.
            log.warning("reflection %s failed: %s", attempt.id, type(error).__name__)
        except Exception as error:  # the boundary of a reflection: counted, and shown by its job
            log.exception("reflection %s could not be written", attempt.id)
            self._defer(attempt, f"an unforeseen error: {type(error).__name__}")

    def _write_entry(self, attempt: Attempt) -> None:
        reflection = self._reflections.get(attempt.owner, attempt.id)
        entry_id = f"reflection-{reflection.id[:16]}"
        if self._exists(reflection.owner, entry_id):
            self._reflections.mark_done(attempt, entry_id)
            return
        if refusal := self._persona.refusal():
            raise ModelUnavailable(refusal)  # another persona would answer: a later attempt may succeed
        answer = self._client.complete(reflection.request)
        text = entry_text(self._ledger.for_owner(reflection.owner), answer, reflection.request)
        if text:
            self._save(reflection, EntryDraft(text=text, date=reflection.date, id=entry_id))
        else:
            self._reflections.mark_done(attempt, None, NOTHING_NEW)

    def _exists(self, owner: str, entry_id: str) -> bool:
        """Whether a worker before this one has saved the entry, even if it was removed since."""
        try:
            self._ledger.current(owner, entry_id)
        except NotFound:
            return False
        return True

    def _defer(self, attempt: Attempt, reason: str) -> None:
        state = self._reflections.defer(attempt, reason)
        log.warning("reflection %s is %s after attempt %d", attempt.id, state, attempt.attempts + 1)

    def _save(self, reflection: Reflection, draft: EntryDraft) -> None:
        origin = {"turns": reflection.turns, "reflection": reflection.id}
        with suppress(EntryConflict):  # another worker has saved its entry first
            ledger = self._ledger.for_owner(reflection.owner)
            entry = ledger.add(draft, source=Source.REFLECTION, origin=origin)
            with suppress(DiaryUnavailable):  # the outbox relay queues it
                self._jobs.submit(entry)
        self._reflections.mark_done(reflection, draft.id)
