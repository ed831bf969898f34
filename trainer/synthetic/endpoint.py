"""The endpoint: any server that speaks OpenAI's API, with its errors in plain words."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

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
from services.loopback import is_loopback
from trainer.data.sample import Turn
from trainer.synthetic.rejection_reasons import CUT_OFF, REFUSED, Rejected
from trainer.synthetic.stats import Stats

RETRIES = 4  # with openai's own pauses between them, ten seconds in all
# Most servers say it by 404, some by 400.
_UNKNOWN_MODEL = re.compile(r"(?:invalid|unknown|not a valid) model|model .*(?:not found|not exist)", re.I)
# What newer models call the limit that they refuse under its old name.
_RENAMED = {"max_tokens": "max_completion_tokens"}


@dataclass(frozen=True)
class CompletionRequest:
    """What a model is asked for; servers differ in what of it they take."""

    max_tokens: int
    temperature: float
    seed: int
    stop: tuple[str, ...] = ()


class Endpoint:
    """One server; counts the tokens that it used. Close it with `async with`."""

    def __init__(self, url: str, key: str, tally: Stats) -> None:
        _check_url(url)
        self.url, self.tally = url, tally
        self._client = AsyncOpenAI(base_url=url, api_key=key, max_retries=RETRIES, http_client=_http(url))
        self._refused: set[str] = set()

    async def __aenter__(self) -> "Endpoint":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._client.close()

    async def models(self) -> list[str]:
        """What the server lists, in its order; nothing when it keeps no list.

        Raises ConfigError or ModelUnavailable when it can't be reached or refuses the key.
        """
        try:
            listed = await self._client.with_options(max_retries=0).models.list()
        except NotFoundError:
            return []
        except (APIError, ValueError) as error:
            raise self._told(error) from None
        return [model.id for model in getattr(listed, "data", None) or []]

    async def ask(self, model: str, messages: list[Turn], wish: CompletionRequest) -> str:
        """The model's words.

        Raises Rejected when they were cut off or the server won't take these messages, and ConfigError or
        ModelUnavailable for whatever would fail the next time as well.
        """
        response = await self._complete(model, messages, wish)
        try:
            usage, choice = response.usage, response.choices[0]
            reason, words = choice.finish_reason, choice.message.content
        except (AttributeError, TypeError, IndexError) as error:  # openai checks no answer's form
            raise self._told(error) from None
        if usage:
            self.tally.prompt_tokens += usage.prompt_tokens or 0
            self.tally.answer_tokens += usage.completion_tokens or 0
        if reason in ("length", "content_filter"):
            raise Rejected(CUT_OFF)
        return words or ""

    async def _complete(self, model: str, messages: list[Turn], wish: CompletionRequest) -> ChatCompletion:
        while True:
            given = self._given(wish)
            try:
                return await self._client.chat.completions.create(model=model, messages=messages, **given)
            except (BadRequestError, UnprocessableEntityError) as error:
                said = " ".join(error.response.text.split())  # servers differ in where they say it
                if _UNKNOWN_MODEL.search(said):
                    raise await self._unknown(model) from None
                if not self._learns(said, given):
                    self.tally.refusal = self.tally.refusal or said[:200]
                    raise Rejected(REFUSED) from None
            except NotFoundError:
                raise await self._unknown(model) from None
            except (APIError, ValueError) as error:
                raise self._told(error) from None

    def _given(self, wish: CompletionRequest) -> dict[str, object]:
        names = {name: _RENAMED.get(name, name) if name in self._refused else name for name in vars(wish)}
        given = {names[name]: value for name, value in vars(wish).items() if value != ()}
        return {name: value for name, value in given.items() if name not in self._refused}

    def _learns(self, said: str, given: dict[str, object]) -> bool:
        """Whether the server won't take one of the settings; it is then never sent again."""
        if not re.search("support|permitted|unknown|unrecognized|extra", said, re.IGNORECASE):
            return False
        # Of two settings that it names, the one that it refuses stands first.
        named = [name for name in given if re.search(rf"\b{name}\b", said)]
        self._refused.update(sorted(named, key=said.index)[:1])
        return bool(named)

    async def _unknown(self, model: str) -> ConfigError:
        served = await self.models()
        remedy = f"it serves {', '.join(served[:8])}" if served else "does the address end in /v1?"
        return ConfigError(f"model {model} is not known at {self.url}: {remedy}")

    def _told(self, error: Exception) -> AdaError:
        """The same error for a person; what a server says of a key may hold part of it and is left out."""
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
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        raise ConfigError(f"--url {url!r} is no address: write it like http://127.0.0.1:8000/v1")
