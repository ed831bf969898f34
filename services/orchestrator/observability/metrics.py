"""What Prometheus is told. No label holds anything of a client's: neither paths nor owners nor keys."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """One application's, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.first_token = self._seconds("first_token", "from asking vLLM to its first event")
        self.token_gap = self._seconds("token_gap", "between two events of a stream")
        self.recall = self._seconds("recall", "to look up the diary")
        self.queue_wait = self._seconds("queue_wait", "until a place at vLLM was free")
        self.upstream = self._seconds("upstream", "in vLLM, whole")
        self.request_seconds = self._seconds("request", "from a request to its answer's last byte", "route")
        self.requests = self._counter("requests", "Requests that ended", "method", "route", "status")
        self.clients_gone = self._counter("clients_gone", "Clients who left before their answer's end")
        self.tokens = self._counter("tokens", "Tokens read and written", "kind")
        self.ignored_fields = self._counter(
            "ignored_fields", "Fields of requests that were set aside", "field"
        )
        self.streams = self._gauge("streams", "Streams that are open")
        # Read when somebody asks: services/orchestrator/observability/collectors.py.
        self.running = self._gauge("running", "Requests at vLLM")
        self.waiting = self._gauge("waiting", "Requests that wait for a place at vLLM")
        self.breaker = self._gauge("breaker", "1: it is left alone for a while, it failed too often", "name")
        self.diary_entries = self._gauge("diary_entries", "Entries by their way into the index", "state")
        self.queue_jobs = self._gauge("queue_jobs", "Jobs by where they stand in the queue", "state")
        self.up = self._gauge("up", "1: it answered when it was asked for its numbers", "name")

    def count_ignored(self, names: Iterable[str]) -> list[str]:
        """Count fields that were set aside, by names of our own; returns each once."""
        ignored = list(dict.fromkeys(names))
        for name in ignored:
            self.ignored_fields.labels(name).inc()
        return ignored

    def _seconds(self, name: str, what: str, *labels: str) -> Histogram:
        about = f"Seconds {what}."
        return Histogram(f"ada_{name}_seconds", about, labels, buckets=_SECONDS, registry=self.registry)

    def _counter(self, name: str, what: str, *labels: str) -> Counter:
        return Counter(f"ada_{name}", f"{what}.", labels, registry=self.registry)

    def _gauge(self, name: str, what: str, *labels: str) -> Gauge:
        return Gauge(f"ada_{name}", f"{what}.", labels, registry=self.registry)
