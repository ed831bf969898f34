"""Work that many ask for at the same time and that is done once."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

Result = TypeVar("Result")


class SingleFlight(Generic[Result]):
    """Whoever asks while the work is done waits for its result; whoever asks later has it done again.

    Routes that are open to all are so bounded: any number of requests is one piece of work at a time.
    """

    def __init__(self) -> None:
        self._task: asyncio.Task[Result] | None = None

    async def run(self, work: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
        """The result of the work. Who is cancelled ends it for nobody else."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(work())
        return await asyncio.shield(self._task)
