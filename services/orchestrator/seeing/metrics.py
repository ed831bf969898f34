"""What Prometheus is told."""

from prometheus_client import CollectorRegistry, Counter, Histogram

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
        self.tokens = Counter("ada_tokens", "tokens read and written", ["kind"], registry=self.registry)

    def _seconds(self, name: str, what: str) -> Histogram:
        return Histogram(f"ada_{name}_seconds", f"Seconds {what}.", buckets=_SECONDS, registry=self.registry)
