"""The client of vLLM, where no server answers.

.venv/bin/python -m pytest tests/orchestrator/vllm/test_client.py
"""

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from services.errors import ModelTimeout, ModelUnavailable
from services.orchestrator.dependencies import build_concurrency_limiter
from services.orchestrator.observability.metrics import Metrics
from services.orchestrator.settings import OrchestratorSettings
from services.orchestrator.vllm.client import CHAT, Deadlines, open_vllm_client


@pytest.fixture
def unresponsive_port() -> Iterator[int]:
    """A port whose backlog is full: further connections get no answer, as from a host that was cut off."""
    with ExitStack() as stack:
        server = stack.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        port = server.getsockname()[1]
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield port


async def test_a_connection_that_is_not_established_in_time_means_that_vllm_is_unavailable(unresponsive_port):
    url = f"http://127.0.0.1:{unresponsive_port}"
    limiter = build_concurrency_limiter(OrchestratorSettings())
    async with open_vllm_client(url, Deadlines(connect_s=0.2), limiter, Metrics()) as client:
        with pytest.raises(ModelUnavailable, match="can't be reached") as error:
            await client.complete(CHAT, {"messages": []})
    assert not isinstance(error.value, ModelTimeout)
