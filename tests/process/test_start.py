"""How a process starts: by hand it ends at the first error, in a container it waits until that is fixed.

.venv/bin/python -m pytest tests/process/test_start.py
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from services.errors import ConfigError, DiaryUnavailable
from services.process.start import RETRY_EVERY_S, run_until_configured

ROOT = Path(__file__).parents[2]


def run(prepare: Callable[[], str], *, wait: bool) -> str:
    return run_until_configured("voice", prepare, wait=wait, sleep=lambda _: None)


def fails_with(*errors: Exception) -> Callable[[], str]:
    """Raises one error a call, then returns."""
    remaining = list(errors)

    def prepare() -> str:
        if remaining:
            raise remaining.pop(0)
        return "prepared"

    return prepare


@pytest.mark.parametrize("wait", [True, False])
def test_a_start_without_errors_prints_nothing(capfd, wait: bool):
    assert run(fails_with(), wait=wait) == "prepared"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("error", [ConfigError("no adapter"), DiaryUnavailable("no adapter")])
def test_by_hand_the_first_error_is_one_line_and_the_end(capfd, error: Exception):
    with pytest.raises(SystemExit) as end:
        run(fails_with(error), wait=False)
    assert end.value.code == 2
    assert capfd.readouterr() == ("", "voice: no adapter\n")


@pytest.mark.parametrize(
    ("errors", "lines"),
    [("port", "port"), ("port port port", "port"), ("port port disk disk port", "port disk port")],
    ids=["one", "the same", "a new one and one that is back again"],
)
def test_a_waiting_process_reports_each_error_once_and_that_it_is_fixed(capfd, errors: str, lines: str):
    assert run(fails_with(*map(ConfigError, errors.split())), wait=True) == "prepared"
    expected = [*(f"voice: {error}" for error in lines.split()), "voice can start now"]
    assert capfd.readouterr().err.splitlines() == expected


def test_a_waiting_process_pauses_between_two_tries():
    pauses: list[float] = []
    prepare = fails_with(ConfigError("a"), ConfigError("a"))
    run_until_configured("voice", prepare, wait=True, sleep=pauses.append)
    assert pauses == [RETRY_EVERY_S, RETRY_EVERY_S]
    assert RETRY_EVERY_S > 0


@pytest.mark.parametrize("wait", [True, False])
def test_an_unexpected_exception_is_neither_reported_nor_retried(wait: bool):
    with pytest.raises(ZeroDivisionError):
        run(fails_with(ZeroDivisionError()), wait=wait)


def model_server(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """The model's own process, in a folder where there is no adapter."""
    command = [sys.executable, "-m", "services.model", *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


def test_a_model_server_started_by_hand_reports_a_missing_adapter_in_one_line(tmp_path: Path):
    with model_server(tmp_path) as process:
        _, errors = process.communicate(timeout=30)
    assert process.returncode == 2
    (line,) = errors.splitlines()
    assert line.startswith(f"model: no adapter in {tmp_path}/outputs/ada_model")
    assert line.endswith("run `make train`")


def test_a_model_server_in_a_container_reports_it_and_keeps_running(tmp_path: Path):
    with model_server(tmp_path, "--patient") as process:
        line = process.stderr.readline()
        time.sleep(0.2)
        still_alive = process.poll() is None
        process.terminate()
        rest = process.stderr.read()
    assert still_alive
    assert line.startswith("model: no adapter")
    assert rest == ""
