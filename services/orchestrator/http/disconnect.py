"""Cancels work whose client has gone away, and with it the generation in vLLM."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Receive

# Seconds until the first look for a disconnect. Most requests have got as far as vLLM by then, and for the
# others a timer that is cancelled is cheaper than a task that is.
GRACE_S = 0.02


class ClientGone(Exception):
    """The client went away before it had its answer. Nobody is left to receive an error."""


@asynccontextmanager
async def cancel_on_disconnect(receive: Receive) -> AsyncIterator[None]:
    """Run the block while the client is connected. The request's body must have been read.

    Raises ClientGone. It ends the block as asyncio.timeout does, by cancelling the task that runs it.
    """
    task = asyncio.current_task()
    assert task is not None
    is_gone = False
    listener: asyncio.Task[None] | None = None

    async def listen() -> None:
        nonlocal is_gone
        while (await receive())["type"] != "http.disconnect":
            pass
        is_gone = True
        task.cancel()

    def start_listener() -> None:
        nonlocal listener
        listener = asyncio.create_task(listen())

    timer = asyncio.get_running_loop().call_later(GRACE_S, start_listener)
    try:
        yield
    except asyncio.CancelledError:
        if is_gone and task.uncancel() == 0:
            raise ClientGone from None
        raise
    finally:
        timer.cancel()
        if listener:
            listener.cancel()
