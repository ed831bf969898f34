"""The processes that are measured, each pinned to one core where there are two; all end with their parent."""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import TypeVar

import httpx
import psutil

from services.api_keys import add_key
from services.bench.server_process import AllInOneServer, all_in_one_server, environment, free_port
from services.persona.manifest import PERSONA_NAME, TEMPLATE_NAME, Manifest
from services.persona.persona import DEFAULT_PERSONA, load_persona
from services.persona.template import template_for, template_sha256
from services.process.supervisor import end_with_parent

CLIENTS_CORE, GATEWAY_CORE = 0, 1
READY_WITHIN_S = 120
Server = TypeVar("Server")
NO_LIMIT = 10**8  # a limit that is counted and never reached


@contextmanager
def on_core(core: int) -> Iterator[None]:
    """Pins what is started in the block to one core, where there are several."""
    before = os.sched_getaffinity(0)
    if len(before) > 1:
        os.sched_setaffinity(0, {sorted(before)[core]})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def pinned(core: int, server: AbstractContextManager[Server]) -> Iterator[Server]:
    """A server that is started on one core; its parent may use others."""
    with ExitStack() as stack:
        with on_core(core):
            running = stack.enter_context(server)
        yield running


@contextmanager
def on_all_cores(pid: int) -> Iterator[None]:
    """Lets a pinned process use all cores within the block."""
    before = os.sched_getaffinity(pid)
    try:
        _pin_threads(pid, os.sched_getaffinity(0))
        yield
    finally:
        _pin_threads(pid, before)


def _pin_threads(pid: int, cores: set[int]) -> None:
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), cores)


@contextmanager
def stub(module: str = "stub") -> Iterator[int]:
    """Runs the model server `module` of services/bench/gateway; yields its port."""
    port = free_port()
    command = [sys.executable, "-m", f"services.bench.gateway.{module}", str(port)]
    with pinned(CLIENTS_CORE, running_process(command, port)):
        yield port


@contextmanager
def ada(folder: Path, upstream: int) -> Iterator[tuple[AllInOneServer, int, str]]:
    """Ada with keys, limits, metrics, request ids and logs; yields the server, its port and an API key."""
    key, _ = add_key(folder / "keys.json", "bench", NO_LIMIT, NO_LIMIT, 0o600)
    settings = {
        **environment(folder),
        "KEYS_FILE": str(folder / "keys.json"),
        "ADA_ADAPTER": str(adapter(folder / "bench")),
        "MODEL_URL": f"http://127.0.0.1:{upstream}",
        "LOG_FORMAT": "json",
    }
    with pinned(GATEWAY_CORE, all_in_one_server(folder, settings)) as server:
        yield server, int(settings["ADA_PORT"]), key


@contextmanager
def passthrough_proxy(upstream: int) -> Iterator[int]:
    """Runs the proxy that only passes requests on; yields its port."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "services.bench.gateway.passthrough_proxy",
        str(port),
        f"http://127.0.0.1:{upstream}",
    ]
    with proxy(command, port):
        yield port


@contextmanager
def proxy(command: Sequence[str], port: int, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """Runs another gateway on the core that Ada has in her measurement."""
    with pinned(GATEWAY_CORE, running_process(command, port, **settings)) as process:
        yield process


@contextmanager
def running_process(command: Sequence[str], port: int, **settings: str) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a process that answers on a port. Raises RuntimeError."""
    process = subprocess.Popen(
        command, env={**os.environ, **settings}, stdout=subprocess.DEVNULL, preexec_fn=end_with_parent
    )
    try:
        _wait_until_ready(process, port)
        yield process
    finally:
        process.terminate()
        process.wait(30)


def adapter(folder: Path) -> Path:
    """A run's directory as far as the orchestrator reads it; there are no weights."""
    folder.mkdir()
    template = template_for(load_persona())
    shutil.copy(DEFAULT_PERSONA, folder / PERSONA_NAME)
    (folder / TEMPLATE_NAME).write_text(template, encoding="utf-8")
    Manifest(
        run_id=folder.name,
        created_at="2026-01-01T00:00:00+00:00",
        base_model="none",
        lora_rank=64,
        lora_alpha=128,
        user_name="Drew",
        assistant_name="Ada",
        template_sha256=template_sha256(template),
        weights_sha256="",
        seed=0,
        dataset={},
        versions={},
        timings_s={},
        peak_memory_gib=0,
        steps=0,
        loss_before=0,
        loss_after=0,
    ).write(folder)
    return folder


def resident_mb(pid: int) -> float:
    """The memory that a process uses now, in MB."""
    return float(psutil.Process(pid).memory_info().rss / 1e6)


def _wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(f"http://127.0.0.1:{port}/v1/models", timeout=5, trust_env=False)
            return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise RuntimeError(f"{process.args!r} did not start")
