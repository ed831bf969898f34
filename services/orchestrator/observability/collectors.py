"""Numbers that others keep, read when Prometheus asks: what stands in the ledger and in the queue."""

import asyncio
import logging
from collections.abc import Callable, Mapping

from anyio.to_thread import run_sync
from prometheus_client import Gauge, generate_latest

from services.diary.jobs import Jobs
from services.diary.ledger.ledger import Ledger
from services.errors import AdaError
from services.orchestrator.http.single_flight import SingleFlight
from services.orchestrator.observability.metrics import Metrics

log = logging.getLogger("ada.orchestrator")
PATIENCE_S = 1.0  # Prometheus itself gives up after 10 s
_Read = Callable[[], Mapping[str, int]]


class Collector:
    """A gauge by state. Who does not answer in time is asked by one thread, however often it is scraped."""

    def __init__(self, name: str, read: _Read, gauge: Gauge, up: Gauge) -> None:
        self._read = read
        self._gauge = gauge
        self._up = up.labels(name)
        self._name = name
        self._task: asyncio.Task[Mapping[str, int]] | None = None

    async def refresh(self) -> None:
        """Set the gauge, or clear it: an old number would be taken for today's. Raises nothing."""
        task = self._task = self._task or asyncio.create_task(
            self._ask(), name=f"numbers of the {self._name}"
        )
        done, _ = await asyncio.wait({task}, timeout=PATIENCE_S)
        numbers = self._numbers(task) if done else {}
        self._up.set(bool(numbers))
        self._gauge.clear()
        for state, number in numbers.items():
            self._gauge.labels(state).set(number)

    async def _ask(self) -> Mapping[str, int]:
        return await run_sync(self._read, abandon_on_cancel=True)

    def _numbers(self, task: asyncio.Task[Mapping[str, int]]) -> Mapping[str, int]:
        self._task = None
        try:
            return task.result()
        except AdaError as error:
            log.debug("no numbers of the %s: %s", self._name, error)
        except Exception:  # the boundary of a scrape: the other numbers are told all the same
            log.exception("no numbers of the %s", self._name)
        return {}


class Collectors:
    """All that is read when Prometheus asks. However many ask at once, it is read once for them."""

    def __init__(self, metrics: Metrics, ledger: Ledger, jobs: Jobs) -> None:
        self._registry = metrics.registry
        self._readings = [
            Collector("ledger", ledger.counts, metrics.diary_entries, metrics.up),
            Collector("queue", jobs.queue.counts, metrics.queue_jobs, metrics.up),
        ]
        self._shared = SingleFlight[bytes]()

    async def text(self, set_others: Callable[[], None]) -> bytes:
        """Every number of the registry in Prometheus' format; takes little more than a second at most.

        `set_others` sets the numbers that are known at once, last of all, so that they are of one moment.
        """
        return await self._shared.run(lambda: self._text(set_others))

    async def _text(self, set_others: Callable[[], None]) -> bytes:
        await asyncio.gather(*(reading.refresh() for reading in self._readings))
        set_others()
        return await run_sync(generate_latest, self._registry)
