"""How a process starts: by hand it ends at the first complaint, in a container it waits until that is mended.

.venv/bin/python -m pytest tests/test_start.py
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

import services.process.start as how_to_start
from services.errors import ConfigError, DiaryUnavailable
from services.process.start import start

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(how_to_start, "TRY_EVERY_S", 0.001)


def begins_after(*complaints: Exception) -> Callable[[], str]:
    """Raises one complaint a call, then begins."""
    left = list(complaints)

    def begin() -> str:
        if left:
            raise left.pop(0)
        return "begun"

    return begin


@pytest.mark.parametrize("patient", [True, False])
def test_what_can_begin_begins_without_a_word(capfd, patient: bool):
    assert start("voice", begins_after(), patient=patient) == "begun"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("complaint", [ConfigError("no adapter"), DiaryUnavailable("no adapter")])
def test_by_hand_the_first_complaint_is_one_line_and_the_end(capfd, complaint: Exception):
    with pytest.raises(SystemExit) as end:
        start("voice", begins_after(complaint), patient=False)
    assert end.value.code == 2
    assert capfd.readouterr() == ("", "voice: no adapter\n")


@pytest.mark.parametrize(
    ("complaints", "said"),
    [("port", "port"), ("port port port", "port"), ("port port disk disk port", "port disk port")],
    ids=["one", "the same", "what is new and what is back again"],
)
def test_a_patient_one_says_each_complaint_once_and_that_it_is_mended(capfd, complaints: str, said: str):
    begin = begins_after(*map(ConfigError, complaints.split()))
    assert start("voice", begin, patient=True) == "begun"
    expected = [*(f"voice: {complaint}" for complaint in said.split()), "voice can start now"]
    assert capfd.readouterr().err.splitlines() == expected


def test_a_patient_one_waits_between_two_tries(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(how_to_start, "TRY_EVERY_S", 0.05)
    began = time.monotonic()
    start("voice", begins_after(ConfigError("a"), ConfigError("a")), patient=True)
    assert time.monotonic() - began >= 0.1


@pytest.mark.parametrize("patient", [True, False])
def test_what_nobody_raised_on_purpose_is_no_complaint_and_gets_through(patient: bool):
    with pytest.raises(ZeroDivisionError):
        start("voice", begins_after(ZeroDivisionError()), patient=patient)


def model_server(folder: Path, *given: str) -> subprocess.Popen[str]:
    """The model's own process, in a folder where there is no adapter."""
    command = [sys.executable, "-m", "services.model", *given]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)


def test_the_model_server_started_by_hand_says_in_one_line_what_is_missing(tmp_path: Path):
    with model_server(tmp_path) as process:
        _, said = process.communicate(timeout=30)
    assert process.returncode == 2
    (line,) = said.splitlines()
    assert line.startswith(f"model: no adapter in {tmp_path}/outputs/ada_model")
    assert line.endswith("run `make train`")


def test_the_model_server_in_a_container_says_it_and_lives(tmp_path: Path):
    with model_server(tmp_path, "--patient") as process:
        line = process.stderr.readline()
        time.sleep(0.2)
        still_alive = process.poll() is None
        process.terminate()
        rest = process.stderr.read()
    assert still_alive
    assert line.startswith("model: no adapter")
    assert rest == ""
