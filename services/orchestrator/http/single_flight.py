"""Shares one run of a piece of work between all that ask for it at the same time."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class SingleFlight(Generic[Result]):
    """A call while the work runs waits for its result; a later call runs it again.

    It bounds the public routes: any number of requests cause one run at a time.
    """

    def __init__(self) -> None:
        self._task: asyncio.Task[Result] | None = None

    async def run(self, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """The work's result. A caller that is cancelled cancels the work for nobody else."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(work())
        return await asyncio.shield(self._task)
