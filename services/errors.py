"""The errors that cross package boundaries, each with what its caller can do about it.

AdaError
├── ConfigError              a setting, file or folder is wrong or missing: fix it
├── FieldError               an input is wrong, and `param` names the field
│   ├── UnknownRole          a conversation has a role that Ada's template does not know
│   ├── EntryRejected        a diary entry is invalid: change the entry
│   ├── EntryConflict        an id or Idempotency-Key was used before, or the entry has changed meanwhile
│   ├── NotFound             there is no such entry, job or model
│   ├── InvalidRequest       a body can't be read, or a request to OpenAI's routes is invalid
│   └── UnsupportedMediaType the content type of a body is not JSON
├── SearchCancelled          a search was ended because its client disconnected: ignore it
├── DiaryUnavailable         the diary can't be read or written: Ada answers without it
│   └── LedgerFull           the disk under the ledger is full: free space, then write again
├── Unauthorized             the API key is missing, unknown or revoked
├── RateLimited              a limit is reached: retry after `retry_after_s`
├── ModelUnavailable         vLLM can't be reached: start it, or wait for it
│   ├── ModelTimeout         vLLM did not answer within a deadline: ask for less, or retry
│   ├── ModelFaulty          vLLM failed, or its answer can't be read: retry
│   └── NoVerdict            vLLM answered, but gave no verdict on a pair of passages
└── UpstreamError            vLLM answered with an error of its own, which is passed on

An error that ends a program, and that only the program's entry point reports, is a subclass in the program's
package: NotReady (deployment), DemoFailed (demo), TrainingFailed and WrongMask (trainer). An exception that
controls the flow within one package (ClientGone, NoArray, BadRow, Flaw, Rejected) is not an AdaError, because
it would be a bug if it escaped. The client is a package of its own and raises AdaClientError.
"""


class AdaError(Exception):
    """Base class of every error that Ada raises on purpose."""


class ConfigError(AdaError):
    """A setting, file or folder is wrong; the message names it and the remedy."""


class FieldError(AdaError):
    """An input is invalid; `param` names the field, `code` is OpenAI's code for the reason."""

    def __init__(self, message: str, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class UnknownRole(FieldError):
    """A conversation has a role that Ada's template does not know."""


class EntryRejected(FieldError):
    """A diary entry is invalid."""


class EntryConflict(FieldError):
    """An id or Idempotency-Key was used before for something else, or the entry has another version."""


class NotFound(FieldError):
    """There is no such entry, job or model."""


class InvalidRequest(FieldError):
    """A request to OpenAI's routes is invalid: status 400 instead of 422, as in OpenAI's API."""


class UnsupportedMediaType(FieldError):
    """The content type of a body is not JSON."""


class SearchCancelled(AdaError):
    """A search of the diary was ended because its client disconnected."""


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
    """The model gave no verdict on a pair of passages; another pair may get one."""


class UpstreamError(AdaError):
    """vLLM refused a request: HTTP `status` from 400 to 499, and `body` in OpenAI's error shape."""

    def __init__(self, status: int, body: dict[str, object]) -> None:
        super().__init__(f"the model server answered {status}")
        self.status = status
        self.body = body
