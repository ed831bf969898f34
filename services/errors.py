"""What can go wrong, as one tree; each name says what the caller can do about it.

AdaError
├── ConfigError          a setting, file or folder is wrong or not there yet: mend it
├── FieldError           an input is wrong, and `param` names the field
│   ├── UnknownRole      a conversation holds a role that Ada's template does not know
│   ├── EntryRejected    a diary entry is not acceptable: change the entry
│   ├── EntryConflict    an id or Idempotency-Key was used before, or an entry was changed meanwhile
│   ├── NotFound         there is no such entry, job or model
│   ├── RequestRefused   a body can't be read, or a request to OpenAI's routes is not acceptable
│   └── NotJson          a body is of another type than JSON
├── SearchCancelled      a search was ended because nobody waits for it: ignore it
├── DiaryUnavailable     the diary can't be read or written now: Ada answers without it
│   └── LedgerFull       the disk under the ledger is full: free some, then write again
├── NotAllowed           the API key is missing, unknown or revoked
├── TooMuch              a limit is reached: ask again after `retry_after_s`
├── ModelUnavailable     vLLM can't be reached: start it, or wait for it
│   ├── ModelTimeout     vLLM did not answer within a deadline: ask for less, or again
│   ├── ModelFaulty      vLLM failed, or what it answered is no answer: ask again
│   └── NoVerdict        vLLM answered, and gave no verdict on a pair of passages
└── ModelRefused         vLLM answered with an error of its own, which is passed on
"""


class AdaError(Exception):
    """Root of everything Ada raises on purpose."""


class ConfigError(AdaError):
    """A setting, file or folder is wrong; the message names it and the remedy."""


class FieldError(AdaError):
    """An input is not acceptable; `param` names the field at fault, `code` says why in a word of OpenAI's."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class UnknownRole(FieldError):
    """A conversation holds a role that Ada's template does not know."""


class EntryRejected(FieldError):
    """A diary entry is not acceptable as it is."""


class EntryConflict(FieldError):
    """An id or Idempotency-Key was used before for something else, or the entry has another version."""


class NotFound(FieldError):
    """There is no such entry, job or model."""


class InvalidRequest(FieldError):
    """A request is not acceptable as OpenAI's API has it: 400 and not 422."""


class UnsupportedMediaType(FieldError):
    """A body is of another type than JSON."""


class SearchCancelled(AdaError):
    """A search of the diary was ended because nobody waits for what it finds."""


class DiaryUnavailable(AdaError):
    """The diary can't be read or written now."""


class LedgerFull(DiaryUnavailable):
    """The disk under the ledger is full; nothing of what was to be written is there."""


class Unauthorized(AdaError):
    """The API key is missing, unknown or revoked."""


class RateLimited(AdaError):
    """A limit is reached; it has room again after `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ModelUnavailable(AdaError):
    """vLLM can't be reached now; `retry_after_s` where it is known when it is tried again."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ModelTimeout(ModelUnavailable):
    """vLLM did not answer within a deadline."""


class ModelFaulty(ModelUnavailable):
    """vLLM failed, or its answer is none that a client could read."""


class NoVerdict(ModelUnavailable):
    """The model gave no verdict on a pair of passages; on another pair it may."""


class UpstreamError(AdaError):
    """vLLM refused a request: HTTP `status` from 400 to 499, and `body` in OpenAI's error shape."""

    def __init__(self, status: int, body: dict[str, object]) -> None:
        super().__init__(f"the model server answered {status}")
        self.status = status
        self.body = body
