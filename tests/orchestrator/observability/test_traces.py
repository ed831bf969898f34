"""Traces, sent to a real little OTLP receiver: a request is one story, and nobody is quoted."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from api import CHAT, HELLO, Api, FailingLimits
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from services import tracing
from services.errors import ConfigError

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
MARKER = "Zwergseeschwalbe"


@dataclass
class Collector:
    """What came over HTTP, as OpenTelemetry's own protobuf has it."""

    url: str = ""
    paths: set[str] = field(default_factory=set)
    services: set[str] = field(default_factory=set)
    spans: list[Span] = field(default_factory=list)

    def take(self, path: str, body: bytes) -> None:
        self.paths.add(path)
        for of_one in ExportTraceServiceRequest.FromString(body).resource_spans:
            names = [
                attribute.value.string_value
                for attribute in of_one.resource.attributes
                if attribute.key == "service.name"
            ]
            self.services.update(names)
            self.spans += [span for scope in of_one.scope_spans for span in scope.spans]

    def named(self, name: str) -> Span:
        [match] = [span for span in self.spans if span.name == name]
        return match


@pytest.fixture
def collector() -> Iterator[Collector]:
    recorded = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            recorded.take(self.path, self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing is logged."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    recorded.url = f"http://127.0.0.1:{server.server_port}"
    yield recorded
    tracing.switch_off()
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("stream", [False, True])
async def test_a_chat_is_one_trace_from_the_client_to_vllm(api: Api, collector: Collector, stream: bool):
    await api.write("The heron was at the pond.")
    tracing.switch_on(collector.url, "ada-orchestrator")
    sent = {"X-Request-Id": "mine", "traceparent": f"00-{TRACE}-{PARENT}-01"}
    answer = await api.client.post(CHAT, json={**HELLO, "stream": stream}, headers=sent)
    assert answer.status_code == 200
    tracing.switch_off()
    assert (collector.paths, collector.services) == ({"/v1/traces"}, {"ada-orchestrator"})
    request, upstream = collector.named(f"POST {CHAT}"), collector.named("upstream")
    assert {span.trace_id.hex() for span in collector.spans} == {TRACE}
    assert request.parent_span_id.hex() == PARENT
    assert {collector.named("recall").parent_span_id, upstream.parent_span_id} == {request.span_id}
    attributes = {
        attribute.key: attribute.value.string_value or attribute.value.int_value
        for attribute in request.attributes
    }
    assert (attributes["ada.request_id"], attributes["http.response.status_code"]) == ("mine", 200)
    # vLLM goes on with it.
    assert api.model.headers[-1]["traceparent"] == f"00-{TRACE}-{upstream.span_id.hex()}-01"


async def test_no_span_contains_text_of_a_request(api: Api, collector: Collector):
    tracing.switch_on(collector.url, "ada-orchestrator")
    chat = {"model": "ada", "messages": [{"role": "user", "content": MARKER}]}
    await api.client.post(f"{CHAT}?q={MARKER}", json=chat)
    await api.client.get(f"/v1/diary/entries/{MARKER}")
    api.override(rate_limits=FailingLimits(MARKER))
    await api.client.post(CHAT, json=chat)
    tracing.switch_off()
    assert len(collector.spans) >= 4
    assert MARKER not in str(collector.spans)
    assert "ValueError" in str(collector.spans)


async def test_a_job_continues_the_trace_of_its_request(collector: Collector):
    tracing.switch_on(collector.url, "ada")
    with tracing.span("request"):
        meta = tracing.carried()
    with tracing.carrying("index entry", meta):
        pass
    tracing.switch_off()
    job, request = collector.named("index entry"), collector.named("request")
    assert (job.trace_id, job.parent_span_id) == (request.trace_id, request.span_id)


async def test_without_an_endpoint_nothing_is_traced(api: Api):
    tracing.switch_on("", "ada")
    await api.client.post(CHAT, json=HELLO)
    assert "traceparent" not in api.model.headers[-1]
    assert tracing.outgoing_headers() == tracing.carried() == {}
    with tracing.span("recall") as span:
        assert span is None


def test_without_opentelemetry_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="`tracing`"):
        tracing.switch_on("http://127.0.0.1:4318", "ada")


async def test_an_unreachable_collector_does_not_affect_an_answer(api: Api, port: int):
    tracing.switch_on(f"http://127.0.0.1:{port}", "ada")
    assert (await api.client.post(CHAT, json=HELLO)).status_code == 200
    tracing.switch_off()
