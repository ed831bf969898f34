"""The log of a run: plain lines on the terminal, and a file with all details."""

import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from services.errors import ConfigError
from services.printable import printable

log = logging.getLogger("trainer")


def log_to(folder: Path) -> Path:
    """Open `training_YYYYMMDD_HHMMSS.log` (UTC) in `folder` for our lines and libraries' warnings.

    Returns its path. Raises ConfigError when it can't be written.
    """
    path = folder / f"training_{datetime.now(UTC):%Y%m%d_%H%M%S}.log"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        append_to(path)
    except OSError as error:
        raise ConfigError(f"log_dir {folder}: can't write there ({error.strerror})") from None
    return path


def append_to(path: Path) -> None:
    """Append this process's log to a file that other processes may write too."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.captureWarnings(True)
    log.setLevel(logging.DEBUG)


def setup_console() -> None:
    """Log plain lines to the terminal: errors to stderr, everything else to stdout."""
    out, err = _Terminal("stdout"), _Terminal("stderr")
    out.setLevel(logging.INFO)
    out.addFilter(lambda record: record.levelno < logging.ERROR)
    err.setLevel(logging.ERROR)
    log.handlers[:] = [out, err]  # a second call replaces the handlers of the first
    log.setLevel(logging.DEBUG)


class _Terminal(logging.StreamHandler[TextIO]):
    """Writes to the present sys.stdout or sys.stderr, also after it was replaced."""

    def __init__(self, name: str) -> None:
        logging.Handler.__init__(self)
        self.stream_name = name

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))

    @property
    def stream(self) -> TextIO:  # type: ignore[override]
        return sys.stdout if self.stream_name == "stdout" else sys.stderr
