"""How a process starts: what is wrong is said in one line, with the remedy.

By hand that line is the end, with exit code 2. In a container the process waits and tries again instead:
ended, it would be started over and over, and the line would be lost among its repetitions.
"""

import sys
import time
from collections.abc import Callable
from typing import TypeVar

from services.errors import AdaError

CONFIG_EXIT = 2  # the exit code of who has said what is wrong: starting it again would not help
PATIENT = "--patient"
TRY_EVERY_S = 5.0
Begun = TypeVar("Begun")


def start(name: str, begin: Callable[[], Begun], *, patient: bool) -> Begun:
    """What `begin` returns, once it does; until then each new complaint is one line on stderr.

    Not patient, it raises SystemExit(2) at the first.
    """
    said = ""
    while True:
        try:
            begun = begin()
            if said:
                print(f"{name} can start now", file=sys.stderr, flush=True)
            return begun
        except AdaError as error:
            if str(error) != said:
                said = str(error)
                print(f"{name}: {said}", file=sys.stderr, flush=True)
            if not patient:
                raise SystemExit(CONFIG_EXIT) from None
        time.sleep(TRY_EVERY_S)
