"""A house in a temporary folder, for benchmarks: API, worker and embedded index in one process, and a Valkey.

As `services.embedded` keeps it, without a model: everything of the diary works. Linux only.
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

from services.embedded import HOUSE, valkey_command
from services.process.supervisor import end_with_parent

READY_WITHIN_S = 120


@dataclass(frozen=True)
class AllInOneServer:
    """Where it is reached, and its processes by name."""

    url: str
    processes: dict[str, subprocess.Popen[bytes]]

    def cpu_s(self) -> float:
        """Seconds of one core that all processes have used, their start included."""
        return sum(_cpu_s(process.pid) for process in self.processes.values())

    def peaks_mb(self) -> dict[str, int]:
        """The most memory that each process ever held at once; together that is no less than their peak."""
        return {name: _peak_mb(process.pid) for name, process in self.processes.items()}


def environment(folder: Path) -> dict[str, str]:
    """The settings of a house in a folder; the developer's own for the embedder are kept."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("ADA_", "REDIS_"))}
    return {
        **kept,
        "ADA_PORT": str(free_port()),
        "LEDGER_URL": f"sqlite:///{folder}/ledger.sqlite3",
        "INDEX_PATH": f"{folder}/index",
        "REDIS_URL": f"unix://{folder}/valkey.sock",
    }


@contextmanager
def all_in_one_server(folder: Path, settings: dict[str, str]) -> Iterator[AllInOneServer]:
    """A house that answers; at the end of the context it is ended in order. Raises RuntimeError."""
    commands = {
        "valkey": valkey_command(folder / "valkey.sock"),
        "ada": [sys.executable, "-m", "services.embedded", HOUSE],
    }
    processes: dict[str, subprocess.Popen[bytes]] = {}
    with (folder / "log").open("ab") as log:
        try:
            for name, command in commands.items():
                processes[name] = subprocess.Popen(
                    command, env=settings, stdout=log, stderr=log, preexec_fn=end_with_parent
                )
            server = AllInOneServer(f"http://127.0.0.1:{settings['ADA_PORT']}", processes)
            _wait(server, folder / "log")
            yield server
        finally:
            for process in reversed(processes.values()):
                process.terminate()
                process.wait(30)


def _wait(server: AllInOneServer, log: Path) -> None:
    ends = time.monotonic() + READY_WITHIN_S
    while time.monotonic() < ends and server.processes["ada"].poll() is None:
        try:
            if httpx.get(f"{server.url}/healthz", timeout=5, trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(0.1)
    raise RuntimeError(f"the server did not start: {log.read_text(errors='replace')[-1000:]}")


def _peak_mb(pid: int) -> int:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    kibibytes = next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM"))
    return round(int(kibibytes) * 1024 / 1e6)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def free_port() -> int:
    """A port that is free on this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
