"""The log of every process of ours: lines for a terminal, or JSON for whoever collects them (LOG_FORMAT).

Each line names the request that it is about. None holds a word of a prompt or a diary: code of ours writes
none, and of an exception that is not ours only the kind and the place are told, because what it says may be
a value that was sent. LOG_ERRORS=whole tells that, too.
"""

import json
import logging
import sys
import traceback
from types import TracebackType
from typing import Literal, TextIO

from pythonjsonlogger.json import JsonFormatter

from services.errors import AdaError
from services.printable import printable
from services.tracing import request_id

Format = Literal["text", "json"]
Level = Literal["DEBUG", "INFO", "WARNING", "ERROR"]
Errors = Literal["kinds", "whole"]
# Libraries whose messages quote exceptions from their second line on: a task that nobody waited for, a job.
_QUOTING = ("asyncio", "rq")
_Raised = (
    tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]
)  # as logging has it


def set_up(form: Format, level: Level, errors: Errors = "kinds", stream: TextIO | None = None) -> None:
    """Log to stderr from now on. `level` is that of our own loggers, libraries are heard from WARNING on."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(_named)
    handler.setFormatter(_Json(errors) if form == "json" else _Text(errors))
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("ada").setLevel(level)


def _named(record: logging.LogRecord) -> bool:
    """Name the request."""
    record.request_id = request_id.get()
    if record.name.partition(".")[0] in _QUOTING:
        record.msg, record.args = record.getMessage().partition("\n")[0], ()
    return True


class _Text(logging.Formatter):
    def __init__(self, errors: Errors) -> None:
        super().__init__("%(asctime)s %(name)s %(message)s", datefmt="%H:%M:%S")
        self._whole = errors == "whole"

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:
        line = super().formatMessage(record)
        named: str = getattr(record, "request_id", "")
        return f"{line} [{named}]" if named else line

    def formatException(self, ei: _Raised) -> str:
        return raised(ei[1], whole=self._whole)


class _Json(JsonFormatter):
    def __init__(self, errors: Errors) -> None:
        super().__init__(
            ["levelname", "name", "message", "request_id"],
            rename_fields={"levelname": "level", "name": "logger", "exc_info": "error"},
            timestamp="time",
            json_serializer=_serialised,
        )
        self._whole = errors == "whole"

    def formatException(self, ei: _Raised) -> str:
        return raised(ei[1], whole=self._whole)


def _serialised(fields: dict[str, object], **_: object) -> str:
    return json.dumps({name: value for name, value in fields.items() if value != ""}, default=str)


def raised(error: BaseException | None, *, whole: bool = False) -> str:
    """How an exception came about: the places in the code, and what it says when it is ours, or `whole`."""
    if whole or error is None:
        return "".join(traceback.format_exception(error)).rstrip()
    lines = traceback.format_tb(error.__traceback__)
    says = f": {error}" if isinstance(error, AdaError) else ""
    text = "".join(["Traceback (most recent call last):\n", *lines, type(error).__name__, says])
    if isinstance(error, BaseExceptionGroup):
        text = "\n\n".join([text, *map(raised, error.exceptions)])
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return f"{raised(before)}\n\n{text}" if before else text
