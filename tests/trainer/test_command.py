"""`python -m trainer`: a mistake of the user's is one line on stderr, exit code 2, and nothing on disk.

.venv/bin/python -m pytest tests/trainer/test_command.py
"""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from services.errors import ConfigError
from trainer.config import TrainingConfig
from trainer.data.report import report
from trainer.run import check_reports

ROOT = Path(__file__).parents[2]


@pytest.fixture
def settings(write_sources, tmp_path: Path) -> dict[str, object]:
    """A run that nothing but its base model keeps from starting."""
    files = write_sources(tmp_path / "data")
    places = {"output_dir": tmp_path / "outputs" / "ada_model", "log_dir": tmp_path / "logs"}
    return {**files, **places, "model_name": "package:gpt-9"}


def arguments(settings: dict[str, object]) -> list[str]:
    return [f"{name}={value}" for name, value in settings.items()]


def trainer(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "trainer", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def error_line(result: subprocess.CompletedProcess[str]) -> str:
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
    assert f"no file {settings[setting]}" in error_line(result)
    assert result.stdout.startswith("configuration: defaults, and hippocorpus_path=")
    assert result.stdout.count("\n") == 1
    assert not (tmp_path / "outputs").exists()


def test_a_missing_training_file_is_told_before_torch_is_imported(settings):
    settings["reddit_path"].unlink()
    program = "import sys; from trainer.__main__ import main; print(main(), 'torch' in sys.modules)"
    command = [sys.executable, "-c", program, *arguments(settings)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert result.stdout.endswith("\n2 False\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["lora_rank=0"], "command line: lora_rank: Input should be greater than or equal to 1"),
        (["lora_rank=513"], "command line: lora_rank: Input should be less than or equal to 512"),
        (["lora_rank"], "argument 'lora_rank': write name=value"),
        (["--config", "no/such.yaml"], "no config at no/such.yaml"),
        (["persona=no/such.toml"], "no persona at no/such.toml"),
    ],
)
def test_a_wrong_setting_is_one_line(arguments: list[str], message: str):
    assert message in error_line(trainer(*arguments))


def test_an_interrupted_command_says_that_nothing_was_published(settings, tmp_path: Path):
    settings["model_name"] = str(model_of_config_alone(tmp_path / "model"))
    settings["hippocorpus_path"].unlink()
    os.mkfifo(settings["hippocorpus_path"])
    command = [sys.executable, "-m", "trainer", *arguments(settings)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        try:
            pipe = open_when_read(settings["hippocorpus_path"])
            process.send_signal(signal.SIGINT)
            _, message = process.communicate(timeout=30)
            os.close(pipe)
        finally:
            process.kill()
    assert process.returncode == 130
    assert message == "trainer: interrupted; nothing was published\n"
    assert not (tmp_path / "outputs").exists()


def test_broken_yaml_is_one_line(tmp_path: Path):
    (tmp_path / "run.yaml").write_text("lora_rank: [1\n")
    assert "run.yaml is not valid YAML" in error_line(trainer("--config", str(tmp_path / "run.yaml")))


def model_of_config_alone(folder: Path) -> Path:
    """As much of a base model as is looked at before the mixture is made."""
    folder.mkdir()
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "vocab_size": 32, **shape}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_missing_base_model_is_told_before_the_mixture_is_made(settings, tmp_path: Path):
    """The pipe would be waited for without end."""
    settings["hippocorpus_path"].unlink()
    os.mkfifo(settings["hippocorpus_path"])
    assert "model_name package:gpt-9 is unknown" in error_line(trainer(*arguments(settings)))
    with pytest.raises(ConfigError, match="model_name package:gpt-9 is unknown"):
        report(TrainingConfig(**settings), tmp_path / "cache")


def test_a_report_to_wandb_without_a_login_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(ConfigError, match=r"^report_to=\[wandb\] needs a login\. Run `wandb login`"):
        check_reports(("wandb",), {})
    check_reports(("wandb",), {"WANDB_MODE": "offline"})
    check_reports(("tensorboard",), {})


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
