"""Prometheus metrics. No label holds anything of a client's: no path, no owner, no key."""

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache

from anyio.to_thread import run_sync
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from services.errors import AdaError
from services.orchestrator.http.single_flight import SingleFlight

log = logging.getLogger("ada.orchestrator")
SCRAPE_TIMEOUT_S = 1.0  # Prometheus itself gives up after 10 s
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
# Counts by state, read from another server; it blocks and may raise AdaError.
ReadCounts = Callable[[], Mapping[str, int]]


class Metrics:
    """One application's metrics, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.first_token = self._histogram("first_token", "from a request to vLLM until its first event")
        self.token_gap = self._histogram("token_gap", "between two events of a stream")
        self.recall = self._histogram("recall", "to look up the diary")
        self.queue_wait = self._histogram("queue_wait", "until a slot at vLLM was free")
        self.upstream = self._histogram("upstream", "in vLLM in total")
        self.request_seconds = self._histogram("request", "from a request to its answer's last byte", "route")
        self.requests = self._counter("requests", "Requests that ended", "method", "route", "status")
        self.clients_gone = self._counter(
            "clients_gone", "Clients that disconnected before their answer's end"
        )
        self.tokens = self._counter("tokens", "Tokens read and written", "kind")
        self.ignored_fields = self._counter("ignored_fields", "Fields of requests that were ignored", "field")
        self.streams = self._gauge("streams", "Streams that are open")
        # Set when Prometheus scrapes: by Collectors and by health.py.
        self.running = self._gauge("running", "Requests at vLLM")
        self.waiting = self._gauge("waiting", "Requests that wait for a slot at vLLM")
        self.breaker = self._gauge("breaker", "1 while the circuit breaker is open", "name")
        self.diary_entries = self._gauge(
            "diary_entries", "Diary entries by their state in the index", "state"
        )
        self.queue_jobs = self._gauge("queue_jobs", "Jobs by their state in the queue", "state")
        self.up = self._gauge("up", "1 if the dependency answered this scrape", "name")
        # Looking a child up by its labels is slow; routes, methods and statuses are few.
        self._request_labels = lru_cache(maxsize=1024)(self._labelled_request)

    def count_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a request that has ended."""
        requests, request_seconds = self._request_labels(method, route, status)
        requests.inc()
        request_seconds.observe(seconds)

    def _labelled_request(self, method: str, route: str, status: int) -> tuple[Counter, Histogram]:
        return self.requests.labels(method, route, status), self.request_seconds.labels(route)

    def count_ignored(self, names: Iterable[str]) -> list[str]:
        """Count fields that were ignored, under names of our own; returns each name once."""
        ignored = list(dict.fromkeys(names))
        for name in ignored:
            self.ignored_fields.labels(name).inc()
        return ignored

    def _histogram(self, name: str, interval: str, *labels: str) -> Histogram:
        text = f"Seconds {interval}."
        return Histogram(f"ada_{name}_seconds", text, labels, buckets=_SECONDS, registry=self.registry)

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"ada_{name}", f"{text}.", labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"ada_{name}", f"{text}.", labels, registry=self.registry)


class Collector:
    """A gauge by state, read from another server at each scrape.

    A server that hangs occupies one thread, however often it is scraped.
    """

    def __init__(self, name: str, read: ReadCounts, gauge: Gauge, up: Gauge, timeout_s: float) -> None:
        self._name = name
        self._read = read
        self._gauge = gauge
        self._up = up.labels(name)
        self._timeout_s = timeout_s
        self._task: asyncio.Task[Mapping[str, int]] | None = None

    async def refresh(self) -> None:
        """Set the gauge, or clear it: an old number would pass for a current one. Raises nothing."""
        task = self._task = self._task or asyncio.create_task(
            self._read_in_thread(), name=f"counts of the {self._name}"
        )
        done, _ = await asyncio.wait({task}, timeout=self._timeout_s)
        counts = self._result(task) if done else {}
        self._up.set(bool(counts))
        self._gauge.clear()
        for state, count in counts.items():
            self._gauge.labels(state).set(count)

    async def _read_in_thread(self) -> Mapping[str, int]:
        return await run_sync(self._read, abandon_on_cancel=True)

    def _result(self, task: asyncio.Task[Mapping[str, int]]) -> Mapping[str, int]:
        self._task = None
        try:
            return task.result()
        except AdaError as error:
            log.debug("no counts of the %s: %s", self._name, error)
        except Exception:  # the boundary of a scrape: the other numbers are still reported
            log.exception("no counts of the %s", self._name)
        return {}


class Collectors:
    """Everything that is read at a scrape. Concurrent scrapes share one reading."""

    def __init__(
        self, metrics: Metrics, ledger: ReadCounts, queue: ReadCounts, timeout_s: float = SCRAPE_TIMEOUT_S
    ) -> None:
        self._registry = metrics.registry
        self._collectors = [
            Collector("ledger", ledger, metrics.diary_entries, metrics.up, timeout_s),
            Collector("queue", queue, metrics.queue_jobs, metrics.up, timeout_s),
        ]
        self._scrape = SingleFlight[bytes]()

    async def text(self, set_local: Callable[[], None]) -> bytes:
        """Every metric in Prometheus' text format; takes little more than `timeout_s` at most.

        `set_local` sets the gauges of this process, last of all, so that they are of one moment.
        """
        return await self._scrape.run(lambda: self._text(set_local))

    async def _text(self, set_local: Callable[[], None]) -> bytes:
        await asyncio.gather(*(collector.refresh() for collector in self._collectors))
        set_local()
        return await run_sync(generate_latest, self._registry)
