"""Keeps processes running: restarts them when they die, and ends them in order.

Linux and macOS. Only on Linux do they also end when this process is killed with -9.
"""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from threading import Event

from services.errors import ConfigError
from services.process.start import CONFIG_EXIT

log = logging.getLogger("ada.supervisor")
END_WITHIN_S = 25.0  # answers in progress have DRAIN_S; vLLM ignores signals while it loads
_PR_SET_PDEATHSIG = 1


def keep_running(
    plan: Mapping[str, list[str]],
    environment: dict[str, str],
    stopping: Event,
    outputs: Mapping[str, Path] | None = None,
) -> None:
    """Run the commands of `plan`, name → argv, until `stopping` is set; then end them.

    The output of a process named in `outputs` is appended to that file; other processes inherit ours. The
    first process ends last, because the others may need it to finish. Raises ConfigError when a process ends
    with CONFIG_EXIT.
    """
    outputs = outputs or {}
    children: list[Child] = []
    try:
        for name, command in plan.items():
            children.append(Child(name, command, environment, outputs.get(name)))
        while not stopping.wait(0.2):
            for child in children:
                child.restart_if_exited()
    finally:
        for group in (children[1:], children[:1]):
            for child in group:
                child.terminate()
            for child in group:
                child.end(END_WITHIN_S)


def end_with_parent() -> None:
    """Between fork and exec: SIGTERM for the child when its parent dies, however it dies (Linux only)."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


class Child:
    """A process in a process group of its own, restarted when it dies."""

    def __init__(
        self, name: str, command: list[str], environment: dict[str, str], output: Path | None = None
    ) -> None:
        self.name = name
        self._command = command
        self._environment = environment
        self._output = output
        self._delay = 0.5  # seconds before the next start, doubled by each early death
        self._start_at = 0.0
        self._start()

    def _start(self) -> None:
        self._started = time.monotonic()
        with self._output.open("ab") if self._output else nullcontext() as file:
            self._process: subprocess.Popen[bytes] | None = subprocess.Popen(
                self._command,
                env=self._environment,
                stdout=file,
                stderr=file and subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches the supervisor alone, which ends them in order
                preexec_fn=end_with_parent,
            )
        log.info("%s is process %d", self.name, self._process.pid)

    def restart_if_exited(self) -> None:
        """Restart the process if it has ended. Raises ConfigError when it ended with CONFIG_EXIT."""
        if self._process is None:
            if time.monotonic() >= self._start_at:
                self._start()
            return
        code = self._process.poll()
        if code is None:
            return
        self._end_group()
        self._process = None
        if code == CONFIG_EXIT:
            raise ConfigError(self._last_line() or f"{self.name} refused to start, as it says above")
        if time.monotonic() - self._started > 60:
            self._delay = 0.5
        where = f", see {self._output}" if self._output else ""
        log.warning("%s died (%s%s), restarting it in %.1f s", self.name, code, where, self._delay)
        self._start_at = time.monotonic() + self._delay
        self._delay = min(30.0, self._delay * 2)

    def _last_line(self) -> str:
        """The last line of the output file, if there is one."""
        if not self._output:
            return ""
        lines = self._output.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "")

    def terminate(self) -> None:
        """Send SIGTERM without waiting."""
        if self._process:
            self._process.terminate()

    def end(self, timeout_s: float) -> None:
        """Wait for the process to end after `terminate`, then kill what is left of its group."""
        if not self._process:
            return
        try:
            self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            log.warning("%s did not end in %.0f s and is killed", self.name, timeout_s)
        self._end_group()

    def _end_group(self) -> None:
        # vLLM's engine and workers outlive a killed API server, with gigabytes of memory (measured).
        assert self._process
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
