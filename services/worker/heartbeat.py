"""Signs of life while something is waited for that takes long and tells nothing of itself."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

EVERY_S = 5.0  # a health check calls a worker dead that gave none for 60


@contextmanager
def heartbeat(turned: Callable[[], None]) -> Iterator[None]:
    """Call `turned` every few seconds, in a thread of its own, as long as the block runs.

    Only for what ends by a timeout of its own: a worker that hangs here would look alive.
    """
    over = threading.Event()

    def give() -> None:
        while not over.wait(EVERY_S):
            turned()

    thread = threading.Thread(target=give, name="signs of life", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
