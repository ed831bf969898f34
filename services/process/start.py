"""How a process starts: an error of the user's is reported in one line that names the remedy.

Started by hand, the process then ends with exit code 2. In a container it waits and tries again instead: if
it ended, the container would be restarted over and over, and the line would be lost among its repetitions.
"""

import sys
import time
from collections.abc import Callable
from typing import TypeVar

from services.errors import AdaError

CONFIG_EXIT = 2  # the exit code after a reported error: starting again would not help
WAIT_FLAG = "--patient"
RETRY_EVERY_S = 5.0
Prepared = TypeVar("Prepared")


def run_until_configured(
    name: str,
    prepare: Callable[[], Prepared],
    *,
    wait: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> Prepared:
    """Call `prepare` until it succeeds and return its result; each new error is one line on stderr.

    Without `wait` the first error raises SystemExit(2). Only an AdaError is retried or reported.
    """
    reported = ""
    while True:
        try:
            prepared = prepare()
            if reported:
                print(f"{name} can start now", file=sys.stderr, flush=True)
            return prepared
        except AdaError as error:
            if str(error) != reported:
                reported = str(error)
                print(f"{name}: {reported}", file=sys.stderr, flush=True)
            if not wait:
                raise SystemExit(CONFIG_EXIT) from None
        sleep(RETRY_EVERY_S)
