"""Ada's all-in-one server in a temporary directory, for benchmarks: API, worker, embedded index and a Valkey.

It runs as `services.embedded` does, but without a model; everything of the diary works. Linux only.
"""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from services.embedded import SERVER, valkey_command
from services.process.supervisor import end_with_parent

READY_WITHIN_S = 120


@dataclass(frozen=True)
class AllInOneServer:
    """A running server: its URL, and its processes by name."""

    url: str
    processes: dict[str, subprocess.Popen[bytes]]

    def cpu_s(self) -> float:
        """Seconds of one CPU that all processes have used since they started."""
        times = [psutil.Process(process.pid).cpu_times() for process in self.processes.values()]
        return float(sum(cpu.user + cpu.system for cpu in times))

    def peaks_mb(self) -> dict[str, int]:
        """The peak memory of each process in MB; their sum is at least the peak of all together."""
        return {name: _peak_mb(process.pid) for name, process in self.processes.items()}


def environment(folder: Path) -> dict[str, str]:
    """The settings of a server in `folder`; the developer's own settings of the embedder are kept."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("ADA_", "REDIS_"))}
    return {
        **inherited,
        "ADA_PORT": str(free_port()),
        "LEDGER_URL": f"sqlite:///{folder}/ledger.sqlite3",
        "INDEX_PATH": f"{folder}/index",
        "REDIS_URL": f"unix://{folder}/valkey.sock",
    }


@contextmanager
def all_in_one_server(folder: Path, settings: dict[str, str]) -> Iterator[AllInOneServer]:
    """A server that is ready; it is stopped when the context ends. Raises RuntimeError."""
    commands = {
        "valkey": valkey_command(folder / "valkey.sock"),
        "ada": [sys.executable, "-m", "services.embedded", SERVER],
    }
    processes: dict[str, subprocess.Popen[bytes]] = {}
    with (folder / "log").open("ab") as log:
        try:
            for name, command in commands.items():
                processes[name] = subprocess.Popen(
                    command, env=settings, stdout=log, stderr=log, preexec_fn=end_with_parent
                )
            server = AllInOneServer(f"http://127.0.0.1:{settings['ADA_PORT']}", processes)
            _wait_until_ready(server, folder / "log")
            yield server
        finally:
            for process in reversed(processes.values()):
                process.terminate()
                process.wait(30)


def _wait_until_ready(server: AllInOneServer, log: Path) -> None:
    deadline = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < deadline and server.processes["ada"].poll() is None:
        try:
            if httpx.get(f"{server.url}/healthz", timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise RuntimeError(f"the server did not start: {log.read_text(errors='replace')[-1000:]}")


def _peak_mb(pid: int) -> int:
    # psutil has no peak of another process.
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    kibibytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return round(int(kibibytes) * 1024 / 1e6)


def free_port() -> int:
    """A port that is free on this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
