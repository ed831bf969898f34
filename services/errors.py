"""The tree of errors that callers of another room handle; each name says what the caller can do about it.

AdaError
├── ConfigError              a setting, file or folder is wrong or missing: fix it
├── FieldError               an input is wrong, and `param` names the field
│   ├── UnknownRole          a conversation has a role that Ada's template does not know
│   ├── EntryRejected        a diary entry is not acceptable: change the entry
│   ├── EntryConflict        an id or Idempotency-Key was used before, or the entry has changed meanwhile
│   ├── NotFound             there is no such entry, job or model
│   ├── InvalidRequest       a body can't be read, or a request to OpenAI's routes is not acceptable
│   └── UnsupportedMediaType a body is of another type than JSON
├── SearchCancelled          a search was ended because its client has gone: ignore it
├── DiaryUnavailable         the diary can't be read or written now: Ada answers without it
│   └── LedgerFull           the disk under the ledger is full: free space, then write again
├── Unauthorized             the API key is missing, unknown or revoked
├── RateLimited              a limit is reached: retry after `retry_after_s`
├── ModelUnavailable         vLLM can't be reached: start it, or wait for it
│   ├── ModelTimeout         vLLM did not answer within a deadline: ask for less, or retry
│   ├── ModelFaulty          vLLM failed, or its answer can't be read: retry
│   └── NoVerdict            vLLM answered, but gave no verdict on a pair of passages
└── UpstreamError            vLLM answered with an error of its own, which is passed on

An error that ends a program, and that only its own entry point reports, is a subclass in the program's room:
NotReady (deployment), DemoFailed (demo), TrainingFailed and WrongMask (trainer). An exception that steers the
flow within one module (ClientGone, BadRow, Rejected) is no AdaError: if it escaped, that would be a bug. The
client is a package of its own and has AdaClientError.
"""


class AdaError(Exception):
    """Base class of every error that Ada raises on purpose."""


class ConfigError(AdaError):
    """A setting, file or folder is wrong; the message names it and the remedy."""


class FieldError(AdaError):
    """An input is not acceptable; `param` names the field, `code` is OpenAI's word for the reason."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class UnknownRole(FieldError):
    """A conversation has a role that Ada's template does not know."""


class EntryRejected(FieldError):
    """A diary entry is not acceptable as it is."""


class EntryConflict(FieldError):
    """An id or Idempotency-Key was used before for something else, or the entry has another version."""


class NotFound(FieldError):
    """There is no such entry, job or model."""


class InvalidRequest(FieldError):
    """A request to OpenAI's routes is not acceptable: 400 and not 422, as OpenAI's API has it."""


class UnsupportedMediaType(FieldError):
    """A body is of another type than JSON."""


class SearchCancelled(AdaError):
    """A search of the diary was ended because its client has gone."""


class DiaryUnavailable(AdaError):
    """The diary can't be read or written now."""


class LedgerFull(DiaryUnavailable):
    """The disk under the ledger is full; nothing was written."""


class Unauthorized(AdaError):
    """The API key is missing, unknown or revoked."""


class RateLimited(AdaError):
    """A limit is reached; a request can succeed again after `retry_after_s` seconds."""

    def __init__(self, message: str, retry_after_s: float) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ModelUnavailable(AdaError):
    """vLLM can't be reached now; `retry_after_s`, in seconds, is 0 where the next try is not scheduled."""

    def __init__(self, message: str, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s


class ModelTimeout(ModelUnavailable):
    """vLLM did not answer within a deadline."""


class ModelFaulty(ModelUnavailable):
    """vLLM failed, or its answer can't be read."""


class NoVerdict(ModelUnavailable):
    """The model gave no verdict on a pair of passages; on another pair it may."""


class UpstreamError(AdaError):
    """vLLM refused a request: HTTP `status` from 400 to 499, and `body` in OpenAI's error shape."""

    def __init__(self, status: int, body: dict[str, object]) -> None:
        super().__init__(f"the model server answered {status}")
        self.status = status
        self.body = body
