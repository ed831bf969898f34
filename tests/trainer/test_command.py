"""`python -m trainer`: a mistake of the user's is one line on stderr, exit code 2, and nothing on disk.

.venv/bin/python -m pytest tests/trainer/test_command.py
"""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainer.run import _code_revision

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(write_sources, tmp_path: Path) -> dict[str, object]:
    """A run that nothing but its base model keeps from starting."""
    files = write_sources(tmp_path / "data")
    places = {"output_dir": tmp_path / "outputs" / "ada_model", "log_dir": tmp_path / "logs"}
    return {**files, **places, "model_name": "package:gpt-9"}


def arguments(settings: dict[str, object]) -> list[str]:
    return [f"{name}={value}" for name, value in settings.items()]


def trainer(*given: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trainer", *given]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def told(result: subprocess.CompletedProcess[str]) -> str:
    """The one line of a run that was refused."""
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("trainer: ")
    return line


@pytest.mark.parametrize(
    "setting", ["hippocorpus_path", "journal_path", "reddit_path", "generated_data_path"]
)
def test_a_missing_training_file_ends_the_command_before_it_makes_anything(settings, tmp_path, setting: str):
    settings[setting].unlink()
    result = trainer(*arguments(settings))
    assert f"no file {settings[setting]}" in told(result)
    assert result.stdout == ""
    assert not (tmp_path / "outputs").exists()


def test_a_missing_training_file_is_told_before_torch_is_imported(settings):
    settings["reddit_path"].unlink()
    program = "import sys; from trainer.__main__ import main; print(main(), 'torch' in sys.modules)"
    command = [sys.executable, "-c", program, *arguments(settings)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout == "2 False\n"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["lora_rank=48"], "command line: lora_rank: Input should be 1, 8, 16, 32, 64, 128 or 256"),
        (["lora_rank"], "argument 'lora_rank': write name=value"),
        (["--config", "no/such.yaml"], "no config at no/such.yaml"),
        (["persona=no/such.toml"], "no persona at no/such.toml"),
    ],
)
def test_a_wrong_setting_is_one_line(given: list[str], said: str):
    assert said in told(trainer(*given))


def test_an_interrupted_command_says_that_nothing_was_published(settings, tmp_path: Path):
    settings["hippocorpus_path"].unlink()
    os.mkfifo(settings["hippocorpus_path"])
    command = [sys.executable, "-m", "trainer", *arguments(settings)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            pipe = open_when_read(settings["hippocorpus_path"])
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=30)
            os.close(pipe)
        finally:
            process.kill()
    assert process.returncode == 130
    assert said == "trainer: interrupted; nothing was published\n"
    assert not (tmp_path / "outputs").exists()


def test_broken_yaml_is_one_line(tmp_path: Path):
    (tmp_path / "run.yaml").write_text("lora_rank: [1\n")
    assert "run.yaml is not valid YAML" in told(trainer("--config", str(tmp_path / "run.yaml")))


def test_a_machine_without_git_loses_no_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert _code_revision({}) == ""


def open_when_read(fifo: Path) -> int:
    """Open a pipe for writing as soon as somebody reads it, so that the reader waits on it."""
    end = time.monotonic() + 30
    while True:
        try:
            return os.open(fifo, os.O_WRONLY | os.O_NONBLOCK)
        except OSError as error:
            if error.errno != errno.ENXIO or time.monotonic() > end:
                raise
            time.sleep(0.02)
