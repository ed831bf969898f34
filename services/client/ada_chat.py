"""A Python client for Ada: chat with her, write diary entries and read the diary.

ada = AdaChat(InferenceConfig(diary_path="ada_diary.json"))
print(ada.generate_response("Hey Ada, how are you?"))
ada.add_diary_entry("Today was a good day.")
print(ada.read_diary(n=5))
"""

import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
from openai import BadRequestError, DefaultHttpxClient, OpenAI, OpenAIError, Stream
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam

from services.client.local_files import FileMismatch, check_served, import_diary
from services.urls import is_http_url

TOO_LONG = "context_length_exceeded"  # OpenAI's code for it


class AdaClientError(Exception):
    """Ada can't be reached, or rejected the request; the message says what to do."""


@dataclass(frozen=True)
class InferenceConfig:
    """Ada's address, the sampling settings, and the speakers' names for display.

    The terminal shows the served persona's names in place of the default ones.
    `model_path` and `diary_path` are paths on this machine. The adapter in `model_path` must be the one that
    Ada serves; a diary is imported once, however often its file is passed.
    """

    base_url: str = "http://127.0.0.1:8080"  # with or without /v1 at its end
    api_key: str = "none"
    model: str = "ada"
    max_new_tokens: int = 512
    temperature: float = 0.7
    top_p: float = 0.8
    top_k: int = 20
    user_name: str = "Drew"
    assistant_name: str = "Ada"
    timeout_s: float = 600.0
    timezone: str | None = None  # for dates in texts; None: your key's, else the deployment's
    model_path: str | Path | None = None
    diary_path: str | Path | None = None


def url_of(environment: Mapping[str, str]) -> str:
    """Ada's URL: ADA_URL, or ADA_PORT on this machine."""
    port = environment.get("ADA_PORT")
    here = f"http://127.0.0.1:{port}" if port else InferenceConfig.base_url
    return environment.get("ADA_URL") or here


def key_of(environment: Mapping[str, str]) -> str:
    """The API key from ADA_KEY; unlike a command line, other users of the machine can't see it."""
    return environment.get("ADA_KEY") or InferenceConfig.api_key


def timezone_of(environment: Mapping[str, str], localtime: Path = Path("/etc/localtime")) -> str | None:
    """This machine's time zone from ADA_TIMEZONE, TZ or /etc/localtime; None if it is UTC or unknown."""
    linked = str(localtime.resolve()).partition("/zoneinfo/")[2]
    name = environment.get("ADA_TIMEZONE") or environment.get("TZ", "").removeprefix(":") or linked
    try:
        return None if not name or name.endswith("UTC") else ZoneInfo(name).key
    except (ValueError, KeyError, OSError):
        return None


class AdaChat:
    """One conversation with Ada; the diary persists after it ends."""

    def __init__(self, config: InferenceConfig | None = None) -> None:
        self.config = config or InferenceConfig()
        self.url = _server(self.config.base_url)
        if not (self.config.api_key.isascii() and self.config.api_key.isprintable()):
            raise AdaClientError("the API key contains a character that no key has: check ADA_KEY")
        self.history: list[ChatCompletionMessageParam] = []
        self.about: dict[str, object] = {}  # the `ada` field of the newest answer
        self.dropped_turns = 0  # removed from the history so that the newest question and its answer fit
        # Proxies named in the environment are ignored; SSL_CERT_FILE is honoured.
        certificates = ssl.create_default_context()
        self._http = httpx.Client(
            trust_env=False,
            verify=certificates,
            base_url=self.url,
            headers={"Authorization": f"Bearer {self.config.api_key}"},
            timeout=self.config.timeout_s,
        )
        self._openai = OpenAI(
            base_url=f"{self.url}/v1",
            api_key=self.config.api_key,
            timeout=self.config.timeout_s,
            http_client=DefaultHttpxClient(trust_env=False, verify=certificates),
        )

        self.imported: dict[str, object] | None = None  # the report on `diary_path`
        try:
            self._take_files()
        except BaseException:
            self.close()
            raise

    def generate_response(self, message: str) -> str:
        """Return Ada's complete answer. Raises AdaClientError."""
        return "".join(self.stream_response(message))

    def stream_response(self, message: str) -> Iterator[str]:
        """Yield Ada's answer piece by piece; both turns join the history once it is complete.

        If the conversation exceeds the model's context, the oldest turns are removed from the history, and
        `dropped_turns` is their number. Raises AdaClientError.
        """
        turn: ChatCompletionMessageParam = {"role": "user", "content": _sendable(message)}
        parts: list[str] = []
        self.dropped_turns = 0
        tokens, is_cut = 0, False
        try:
            with self._opened(turn) as stream:  # closing it early stops the generation
                for chunk in stream:
                    self.about = (chunk.model_extra or {}).get("ada", self.about)
                    tokens = chunk.usage.completion_tokens if chunk.usage else tokens
                    if chunk.choices:
                        is_cut = is_cut or chunk.choices[0].finish_reason == "length"
                        if text := chunk.choices[0].delta.content:
                            parts.append(text)
                            yield text
        except OpenAIError as error:
            raise AdaClientError(_reason(error)) from error
        self.history += [turn, {"role": "assistant", "content": "".join(parts)}]
        if (
            is_cut and 0 < tokens < self.config.max_new_tokens
        ):  # cut off by the end of the context, not by max_tokens
            self._keep(_without_oldest(self.history))

    def _opened(self, turn: ChatCompletionMessageParam) -> Stream[ChatCompletionChunk]:
        """Open the stream of an answer, dropping the oldest turns until it fits. Raises OpenAIError."""
        history = self.history
        while True:
            try:
                stream = self._openai.chat.completions.create(
                    model=self.config.model,
                    messages=[*history, turn],
                    max_tokens=self.config.max_new_tokens,
                    temperature=self.config.temperature,
                    top_p=self.config.top_p,
                    extra_body={"top_k": self.config.top_k, **self._options()},
                    stream=True,
                    stream_options={"include_usage": True},
                )
            except BadRequestError as error:
                if error.code != TOO_LONG or not history:
                    raise
                history = _without_oldest(history)
            else:
                self._keep(history)
                return stream

    def _keep(self, history: list[ChatCompletionMessageParam]) -> None:
        """Continue with these newest turns of the history."""
        self.dropped_turns += len(self.history) - len(history)
        self.history = history

    def close(self) -> None:
        """Close the connections; `with AdaChat() as ada:` does so at its end."""
        self._http.close()
        self._openai.close()

    def __enter__(self) -> "AdaChat":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def clear(self) -> None:
        """Start a new conversation."""
        self.history.clear()

    def add_diary_entry(self, text: str, date: str | None = None) -> dict[str, object]:
        """Queue a diary entry; returns its `id` and `job_id`. Raises AdaClientError."""
        fields = {"text": _sendable(text), "date": date, "timezone": self.config.timezone}
        entry = {name: value for name, value in fields.items() if value is not None}
        return self._ask("POST", "/v1/diary/entries", json=entry)

    def read_diary(self, n: int = 5) -> list[dict[str, object]]:
        """Return the newest `n` entries, newest first. Raises AdaClientError."""
        entries = self._ask("GET", f"/v1/diary/entries?limit={n}")["data"]
        assert isinstance(entries, list)
        return entries

    def job(self, name: str) -> dict[str, object]:
        """A job's status: queued, started, finished, or failed with a reason. Raises AdaClientError."""
        return self._ask("GET", f"/v1/jobs/{name}")

    def reindex_diary(self) -> str:
        """Rebuild the index from the ledger; returns the job's id. Raises AdaClientError."""
        return str(self._ask("POST", "/v1/diary/reindex")["job_id"])

    def verify_diary(self) -> list[dict[str, object]]:
        """Return the differences between ledger and index: entry_id, kind, what. Raises AdaClientError."""
        differences = self._ask("GET", "/v1/diary/verify")["data"]
        assert isinstance(differences, list)
        return differences

    def disclosure(self) -> str:
        """Return the platform's statement of what Ada is. Raises AdaClientError."""
        return str(self._ask("GET", "/healthz")["disclosure"])

    def persona(self) -> dict[str, str]:
        """Return the served persona: `name`, `user_name` and `pronouns`. Raises AdaClientError."""
        about = self._ask("GET", f"/v1/models/{self.config.model}").get("ada")
        persona = about.get("persona") if isinstance(about, dict) else None
        return {name: str(value) for name, value in persona.items()} if isinstance(persona, dict) else {}

    def _options(self) -> dict[str, object]:
        """The `ada` field of a chat request; nothing without a time zone."""
        return {"ada": {"timezone": self.config.timezone}} if self.config.timezone else {}

    def _take_files(self) -> None:
        try:
            if self.config.model_path is not None:
                check_served(Path(self.config.model_path).expanduser(), self._ask)
            if self.config.diary_path is not None:
                self.imported = import_diary(Path(self.config.diary_path).expanduser(), self._ask)
        except FileMismatch as error:
            raise AdaClientError(str(error)) from None

    def _ask(self, method: str, path: str, **content: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, **content)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise AdaClientError(f"no Ada at {self.url} ({error}): is the server up?") from error
        try:
            body = response.json()
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise AdaClientError(
                f"no Ada at {self.url}: the answer from there ({response.status_code}) is not JSON"
            )
        if response.is_error:
            error_body = body.get("error")
            raise AdaClientError(str(error_body["message"] if isinstance(error_body, dict) else body))
        return body


def _sendable(text: str) -> str:
    """Raises AdaClientError for text that UTF-8 can't encode, such as bytes decoded as the wrong encoding."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        what = f"U+{ord(text[error.start]):04X} at character {error.start}"
        raise AdaClientError(
            f"the text contains {what}, which is not a character: read it as UTF-8"
        ) from None
    return text


def _server(url: str) -> str:
    """The address without /v1. Raises AdaClientError when it is not an HTTP URL."""
    server = url.strip().rstrip("/").removesuffix("/v1").rstrip("/")
    if not is_http_url(server):
        raise AdaClientError(f"{url!r} is not an address of Ada: write it like http://127.0.0.1:8080")
    return server


def _without_oldest(history: list[ChatCompletionMessageParam]) -> list[ChatCompletionMessageParam]:
    """The history without its oldest quarter, so that not every further question has to drop turns."""
    return history[2 * max(1, len(history) // 8) :]


def _reason(error: OpenAIError) -> str:
    body = getattr(error, "body", None)
    return str(body["message"]) if isinstance(body, dict) and "message" in body else str(error)
