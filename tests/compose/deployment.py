"""A deployment as its user has it: a fresh copy of the checkout, `make`, `docker`, and HTTP from outside."""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[2]
SERVICES = ("orchestrator", "worker", "vllm", "qdrant", "redis")


class Deployment:
    """One compose project of its own, with its own folder, volumes, network and port."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.project = f"ada-test-{secrets.token_hex(3)}"
        self.folder = Path(tempfile.mkdtemp(prefix="ada-compose-"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        images = {f"ADA_{n}_IMAGE": f"ada-test/{n.lower()}:0" for n in ("SERVICES", "MODEL", "TRAINER")}
        # The lock is for a GPU; here it is held without one, to see that it is.
        self.environment = {**os.environ, **images, "COMPOSE_PROJECT_NAME": self.project}
        self.environment |= {"ADA_PORT": str(self.port), "ADA_GPU_LOCK": "/run/gpu/lock"}
        self.environment.setdefault("QDRANT_IMAGE", "ada-test/qdrant-standin:0")
        _copy_checkout(self.folder)

    def say(self, line: str) -> None:
        """A line of the report, with the time since the start."""
        print(f"[{time.monotonic() - self.started:6.1f} s] {line}", flush=True)

    @contextmanager
    def timed(self, part: str) -> Iterator[None]:
        """Say how long a part took."""
        started = time.monotonic()
        yield
        self.say(f"{part}: {time.monotonic() - started:.1f} s")

    def make(self, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return self.run("make", *words, **environment)

    def compose(self, *words: str) -> str:
        """A docker compose command that must succeed; its output."""
        done = self.run("docker", "compose", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def docker(self, *words: str) -> str:
        """A docker command that must succeed; its output."""
        done = self.run("docker", *words)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.strip()

    def run(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment | environment,
            capture_output=True,
            text=True,
            check=False,
        )

    def container(self, service: str) -> str:
        return self.compose("ps", "--all", "--quiet", service)

    def inside(self, service: str, command: str) -> str:
        """What a shell command prints in a service's container."""
        done = self.run("docker", "compose", "exec", "--no-TTY", service, "sh", "-c", command)
        return done.stdout + done.stderr

    def inspect(self, service: str, form: str) -> str:
        return self.docker("inspect", "--format", form, self.container(service))

    def kill(self, service: str) -> None:
        """kill -9 of the container's main process: unlike `docker kill`, that is no order to stop."""
        os.kill(int(self.inspect(service, "{{.State.Pid}}")), signal.SIGKILL)

    def is_healthy(self, service: str) -> bool:
        return self.inspect(service, "{{.State.Status}} {{.State.Health.Status}}") == "running healthy"

    def checks(self) -> dict[str, str]:
        """/readyz by dependency; an orchestrator that does not answer is one of them."""
        try:
            return httpx.get(f"{self.url}/readyz", timeout=60).json()["checks"]
        except (httpx.HTTPError, ValueError) as error:
            return {"orchestrator": str(error)}

    def is_ready(self) -> bool:
        return set(self.checks().values()) == {"ok"}

    def ask(self, question: str, **extra: object) -> dict:
        """One answer of Ada's, as JSON."""
        body = {"model": "ada", "max_tokens": 8, "messages": [{"role": "user", "content": question}], **extra}
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=300).json()

    def write(self, text: str) -> str | None:
        """Queue a diary entry; its id when it was accepted."""
        try:
            answer = httpx.post(f"{self.url}/v1/diary/entries", json={"text": text}, timeout=30)
        except httpx.HTTPError:
            return None
        return answer.json()["id"] if answer.status_code == 202 else None

    def states(self) -> dict[str, str]:
        """Entry id → queued, indexed or failed."""
        answer = httpx.get(f"{self.url}/v1/diary/entries", params={"limit": 1000}, timeout=60).json()
        return {entry["id"]: entry["status"] for entry in answer["data"]}

    def all_indexed(self, ids: set[str]) -> bool:
        states = self.states()
        return all(states[entry_id] == "indexed" for entry_id in ids)

    def search(self, query: str) -> list[dict]:
        body = {"query": query, "top_k": 5}
        return httpx.post(f"{self.url}/v1/diary/search", json=body, timeout=60).json()["data"]

    def secrets(self) -> dict[str, str]:
        """The random values in .env."""
        lines = (self.folder / ".env").read_text().splitlines()
        values = dict(line.split("=", 1) for line in lines if "=" in line)
        return {name: value for name, value in values.items() if name.endswith(("_PASSWORD", "_KEY"))}

    def remove(self) -> None:
        """Everything of this project, volumes too; the images stay for the next time."""
        self.run(
            "docker", "compose", "--profile", "*", "down", "--volumes", "--remove-orphans", "--timeout", "5"
        )
        shutil.rmtree(self.folder, ignore_errors=True)


class Writer:
    """Somebody who goes on writing diary entries, five a second, and remembers which were accepted."""

    def __init__(self, deployment: Deployment, about: str) -> None:
        self._deployment = deployment
        self._about = about
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._write, daemon=True)
        self.accepted: set[str] = set()
        self.rejected = 0

    def _write(self) -> None:
        number = 0
        while not self._stop.wait(0.2):
            entry_id = self._deployment.write(f"{self._about}, note {number}")
            if entry_id:
                self.accepted.add(entry_id)
            else:
                self.rejected += 1
            number += 1

    def __enter__(self) -> "Writer":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def until(holds: Callable[[], object], within_s: float, what: str) -> float:
    """Wait until something holds; how long it took."""
    started = time.monotonic()
    while not holds():
        assert time.monotonic() < started + within_s, f"not within {within_s} s: {what}"
        time.sleep(0.5)
    return time.monotonic() - started


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def flat(value: object) -> str:
    return json.dumps(value)


def _copy_checkout(folder: Path) -> None:
    """What git would clone, changes that are not committed too, readable by its owner alone [umask_077]."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for name in listed:
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    for path in folder.rglob("*"):  # as under umask 077: the containers' users read it all the same
        path.chmod(path.stat().st_mode & 0o700)
