"""A client of any OpenAI-compatible server, whose errors name the address and the remedy."""

import re
from dataclasses import dataclass
from typing import Any, cast

from openai import (
    APIConnectionError,
    APIError,
    APIStatusError,
    AsyncOpenAI,
    AuthenticationError,
    BadRequestError,
    DefaultAsyncHttpxClient,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
    UnprocessableEntityError,
)
from openai.types.chat import ChatCompletion

from services.errors import AdaError, ConfigError, ModelUnavailable
from services.urls import is_http_url, is_loopback
from trainer.data.sample import Turn
from trainer.synthetic.rejection_reasons import CUT_OFF, REFUSED, Rejected
from trainer.synthetic.stats import Stats

RETRIES = 4  # with openai's own pauses between them, ten seconds in all
# Most servers say it by 404, some by 400.
_UNKNOWN_MODEL = re.compile(r"(?:invalid|unknown|not a valid) model|model .*(?:not found|not exist)", re.I)
# Newer models reject the limit's old name.
_RENAMED = {"max_tokens": "max_completion_tokens"}


@dataclass(frozen=True)
class CompletionRequest:
    """The settings of a completion; servers differ in which of them they accept."""

    max_tokens: int
    temperature: float
    seed: int
    stop: tuple[str, ...] = ()


class Endpoint:
    """One server; counts the tokens used. Close it with `async with`."""

    def __init__(self, url: str, key: str, stats: Stats) -> None:
        _check_url(url)
        self.url, self.stats = url, stats
        self._client = AsyncOpenAI(base_url=url, api_key=key, max_retries=RETRIES, http_client=_http(url))
        self._rejected_settings: set[str] = set()

    async def __aenter__(self) -> "Endpoint":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def models(self) -> list[str]:
        """The models that the server lists, in its order; none when it has no list.

        Raises ConfigError or ModelUnavailable when it can't be reached or refuses the key.
        """
        try:
            listed = await self._client.with_options(max_retries=0).models.list()
        except NotFoundError:
            return []
        except (APIError, ValueError) as error:
            raise self._translated(error) from None
        return [model.id for model in getattr(listed, "data", None) or []]

    async def complete(self, model: str, messages: list[Turn], request: CompletionRequest) -> str:
        """The model's answer to `messages`.

        Raises Rejected when it was cut off or the server refuses these messages, and ConfigError or
        ModelUnavailable for whatever would fail the next time as well.
        """
        response = await self._complete(model, messages, request)
        try:
            usage, choice = response.usage, response.choices[0]
            reason, words = choice.finish_reason, choice.message.content
        except (AttributeError, TypeError, IndexError) as error:  # openai checks no answer's form
            raise self._translated(error) from None
        if usage:
            self.stats.prompt_tokens += usage.prompt_tokens or 0
            self.stats.answer_tokens += usage.completion_tokens or 0
        if reason in ("length", "content_filter"):
            raise Rejected(CUT_OFF)
        return words or ""

    async def _complete(self, model: str, messages: list[Turn], request: CompletionRequest) -> ChatCompletion:
        while True:
            settings = self._settings(request)
            try:
                # The settings that a server accepts are known at run time only.
                create: Any = self._client.chat.completions.create
                return cast(ChatCompletion, await create(model=model, messages=messages, **settings))
            except (BadRequestError, UnprocessableEntityError) as error:
                message = " ".join(error.response.text.split())  # its field differs by server
                if _UNKNOWN_MODEL.search(message):
                    raise await self._unknown(model) from None
                if not self._drop_setting(message, settings):
                    self.stats.refusal = self.stats.refusal or message[:200]
                    raise Rejected(REFUSED) from None
            except NotFoundError:
                raise await self._unknown(model) from None
            except (APIError, ValueError) as error:
                raise self._translated(error) from None

    def _settings(self, request: CompletionRequest) -> dict[str, object]:
        """The settings by the names that the server accepts, without those that it does not."""
        rejected = self._rejected_settings
        settings = {
            _RENAMED.get(name, name) if name in rejected else name: value
            for name, value in vars(request).items()
            if value != ()
        }
        return {name: value for name, value in settings.items() if name not in rejected}

    def _drop_setting(self, message: str, settings: dict[str, object]) -> bool:
        """Whether the server's `message` rejects one of the settings, which is then not sent again."""
        if not re.search("support|permitted|unknown|unrecognized|extra", message, re.IGNORECASE):
            return False
        # Of two settings in the message, the rejected one comes first.
        mentioned = [name for name in settings if re.search(rf"\b{name}\b", message)]
        self._rejected_settings.update(sorted(mentioned, key=message.index)[:1])
        return bool(mentioned)

    async def _unknown(self, model: str) -> ConfigError:
        served = await self.models()
        remedy = f"it serves {', '.join(served[:8])}" if served else "does the address end in /v1?"
        return ConfigError(f"model {model} is not known at {self.url}: {remedy}")

    def _translated(self, error: Exception) -> AdaError:
        """The error in plain words; a server's message on a key may contain part of it and is left out."""
        match error:
            case AuthenticationError() | PermissionDeniedError():
                return ConfigError(f"{self.url} refuses the key: --key-env NAME says which variable holds it")
            case RateLimitError():
                return ModelUnavailable(f"{self.url} asks for fewer requests: lower --concurrency, or wait")
            case APIStatusError():
                return ModelUnavailable(f"{self.url} fails with {error.status_code}: see the server's log")
            case APIConnectionError():
                return ModelUnavailable(f"no server answers at {self.url}: start it, or set --url")
        return ConfigError(f"--url {self.url} answers, but not as OpenAI's API does ({type(error).__name__})")


def _http(url: str) -> DefaultAsyncHttpxClient:
    """This machine's own servers are reached directly, all others as the environment's proxies say."""
    try:
        return DefaultAsyncHttpxClient(trust_env=not is_loopback(url))
    except (ImportError, ValueError) as error:
        raise ConfigError(f"a proxy variable (HTTP_PROXY, ALL_PROXY, …) can't be used: {error}") from None


def _check_url(url: str) -> None:
    if not is_http_url(url):
        raise ConfigError(f"--url {url!r} is no address: write it like http://127.0.0.1:8000/v1")
