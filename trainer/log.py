"""Where a run says what it does: the terminal for a person, a file for afterwards."""

import logging
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from services.errors import ConfigError
from services.printable import printable

log = logging.getLogger("trainer")


def log_to(folder: Path) -> Path:
    """Open `training_YYYYMMDD_HHMMSS.log` (UTC) in `folder`, for our lines and libraries' warnings.

    Raises ConfigError when it can't be written.
    """
    path = folder / f"training_{datetime.now(UTC):%Y%m%d_%H%M%S}.log"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        append_to(path)
    except OSError as error:
        raise ConfigError(f"log_dir {folder}: can't write there ({error.strerror})") from None
    return path


def append_to(path: Path) -> None:
    """Add this process' lines to a log file that may have other writers."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logging.getLogger().addHandler(handler)
    logging.captureWarnings(True)
    log.setLevel(logging.DEBUG)


def setup_console() -> None:
    """Plain lines on the terminal: what is told on stdout, what went wrong on stderr."""
    said, wrong = _Terminal("stdout"), _Terminal("stderr")
    said.setLevel(logging.INFO)
    said.addFilter(lambda record: record.levelno < logging.ERROR)
    wrong.setLevel(logging.ERROR)
    log.handlers[:] = [said, wrong]  # whoever speaks twice is heard once
    log.setLevel(logging.DEBUG)


class _Terminal(logging.StreamHandler):
    """Writes to what sys.stdout or sys.stderr is at that moment, not to what it was."""

    def __init__(self, name: str) -> None:
        logging.Handler.__init__(self)
        self.where = name

    def format(self, record: logging.LogRecord) -> str:
        return printable(super().format(record))

    @property
    def stream(self) -> TextIO:
        return getattr(sys, self.where)
