"""Work for a client who may go away: then it ends at once, and with it the generation in vLLM."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.types import Receive

from services.orchestrator.http.later import Later

UNHEARD_S = 0.02  # before this nobody listens whether the client is there: most starts are over by then


class ClientGone(Exception):
    """The client went away before it had its answer. Nobody is left to be told."""


@asynccontextmanager
async def cancel_on_disconnect(receive: Receive) -> AsyncIterator[None]:
    """Run the block as long as the client is there. The request's body must have been read.

    Raises ClientGone. It ends the block as asyncio.timeout does, by cancelling the task that runs it.
    """
    task = asyncio.current_task()
    assert task is not None
    gone = False

    async def listen() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        task.cancel()

    listener = Later(UNHEARD_S, listen)
    try:
        yield
    except asyncio.CancelledError:
        if gone and task.uncancel() == 0:
            raise ClientGone from None
        raise
    finally:
        listener.cancel()
