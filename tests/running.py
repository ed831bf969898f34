"""A real Ada for the tests: a small adapter trained here, vLLM on the CPU, Valkey, worker and API."""

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

ROOT = Path(__file__).parents[1]


@dataclass
class Running:
    """An Ada under one roof, and where everything of hers is."""

    home: Path
    url: str
    model_url: str
    model_key: str
    environment: dict[str, str]
    process: subprocess.Popen[bytes]

    @property
    def log(self) -> str:
        return (self.home / "log").read_text(errors="replace")

    def child(self, name: str) -> int:
        """The process id of the newest child with this name."""
        lines = [line for line in self.log.splitlines() if f"{name} is process" in line]
        return int(lines[-1].split()[-1])


def wait(done: Callable[[], bool], seconds: float, what: str) -> None:
    deadline = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < deadline, what
        time.sleep(0.2)


def answers(url: str, status: int = 200) -> bool:
    try:
        return httpx.get(url, timeout=30).status_code == status
    except httpx.HTTPError:
        return False


def is_ready(process: subprocess.Popen[bytes], url: str) -> bool:
    assert process.poll() is None, "Ada ended, as her log says"
    return answers(f"{url}/readyz")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def train(home: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trainer", "--config", "trainer/configs/bare.yaml"]
    command += [f"output_dir={home}/outputs/ada_model", f"log_dir={home}/logs", *overrides]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def train_a_little(home: Path) -> None:
    """An adapter that has learned something in a dozen steps."""
    short = ("target_size=24", "eval_size=4", "max_steps=12", "learning_rate=0.003", "questions=[]")
    result = train(home, *short, "publish=true")  # so few steps at that rate may leave it worse than its base
    assert result.returncode == 0, result.stderr


@contextmanager
def started(home: Path, **settings: str) -> Iterator[Running]:
    """Ada with the adapter of `home`, on ports of her own, until the block ends."""
    port, model_port = free_port(), free_port()
    environment = {
        **os.environ,
        "ADA_PORT": str(port),
        "ADA_ADAPTER": str(home / "outputs/ada_model"),
        "MODEL_PORT": str(model_port),
        "MODEL_URL": f"http://127.0.0.1:{model_port}",
        "MODEL_API_KEY": secrets.token_urlsafe(),
        "MODEL_LOG": f"{home}/vllm.log",
        "LEDGER_URL": f"sqlite:///{home}/diary/ledger.sqlite3",
        "INDEX_PATH": f"{home}/diary/index",
        **settings,
    }
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.embedded"], env=environment, stdout=log, stderr=log, cwd=ROOT
        )
    url = f"http://127.0.0.1:{port}"
    try:
        wait(lambda: is_ready(process, url), 180, f"Ada is not ready, see {home}/log")
        model = environment["MODEL_URL"], environment["MODEL_API_KEY"]
        yield Running(home, url, *model, environment, process)
    finally:
        process.terminate()
        process.wait(60)
