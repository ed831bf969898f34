"""One card, one user: real processes that hold it, are killed, and become others.

.venv/bin/python -m pytest tests/process/test_gpu_lock.py
"""

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from manifests import make_manifest

from services.errors import ConfigError
from services.model.__main__ import prepare
from services.persona.manifest import file_sha256
from services.persona.persona import DEFAULT_PERSONA
from services.process.gpu_lock import DEFAULT, hold, lock_path

ROOT = Path(__file__).parents[2]
HOLD = (
    "import sys, pathlib; from services.process.gpu_lock import hold;"
    " hold(pathlib.Path(sys.argv[1]), sys.argv[2]);"
)
TELL = "print('held', flush=True);"
AND_STAY = HOLD + TELL + "sys.stdin.read()"
AND_BECOME_ANOTHER = HOLD + TELL + "import os; os.execvp('sleep', ['sleep', '60'])"


@contextmanager
def holder(lock: Path, who: str, program: str = AND_STAY) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lock, for as long as it lives."""
    command = [sys.executable, "-c", program, str(lock), who]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def lock(tmp_path: Path) -> Path:
    return tmp_path / "room" / "gpu.lock"


def refusal(lock: Path) -> str:
    with pytest.raises(ConfigError) as error:
        hold(lock, "second")
    return str(error.value)


def can_be_had(lock: Path) -> bool:
    """By a process of its own, because who has it here would keep it."""
    command = [sys.executable, "-c", HOLD, str(lock), "next"]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=30, check=False)
    return answer.returncode == 0


def test_the_second_is_refused_with_the_holders_name_and_the_remedy(lock: Path):
    with holder(lock, "trainer"):
        message = refusal(lock)
    assert message.startswith("the GPU is in use by the trainer since 20")
    assert "docker compose stop vllm" in message
    assert "ADA_GPU_LOCK= (empty)" in message
    assert "\n" not in message


def test_being_refused_takes_nothing_from_the_holder(lock: Path):
    with holder(lock, "trainer"):
        assert refusal(lock) == refusal(lock)
        assert not can_be_had(lock)


@pytest.mark.parametrize("killed", [False, True])
def test_the_lock_is_free_when_its_holder_has_ended_or_was_killed(lock: Path, killed: bool):
    with holder(lock, "trainer") as process:
        if killed:
            process.kill()
        process.stdin.close()
        assert process.wait(timeout=10) == -9 * killed
        assert can_be_had(lock)


def test_the_name_of_an_earlier_holder_is_forgotten(lock: Path):
    with holder(lock, "somebody with a very long name indeed"):
        pass
    with holder(lock, "trainer"):
        message = refusal(lock)
    assert "the trainer since" in message
    assert "long name" not in message
    assert lock.read_text().count("\n") == 1


def test_what_the_holder_becomes_by_exec_holds_on(lock: Path):
    with holder(lock, "model server", AND_BECOME_ANOTHER) as process:
        wait_until_it_is("sleep", process.pid)
        assert "the model server since" in refusal(lock)
        process.kill()
        process.wait(timeout=10)
        assert can_be_had(lock)


def wait_until_it_is(name: str, pid: int) -> None:
    end = time.monotonic() + 10
    while Path(f"/proc/{pid}/comm").read_text().strip() != name:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_two_locks_are_two_cards(lock: Path):
    with holder(lock, "trainer"):
        assert can_be_had(lock.with_name("another.lock"))


def test_whoever_comes_next_as_another_user_can_open_the_lock(lock: Path):
    before = os.umask(0o077)
    try:
        with holder(lock, "trainer"):
            assert lock.stat().st_mode & 0o777 == 0o666
    finally:
        os.umask(before)


@pytest.mark.parametrize("path", [".", "a-file/lock"])
def test_a_lock_that_can_not_be_made_there_is_told_by_its_variable(tmp_path: Path, path: str):
    (tmp_path / "a-file").touch()
    with pytest.raises(ConfigError, match="ADA_GPU_LOCK"):
        hold(tmp_path / path, "trainer")


class TestWhereItIs:
    def test_on_a_gpu_it_has_its_place(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.chdir(tmp_path)
        assert lock_path({}, on_gpu=True) == tmp_path / DEFAULT

    def test_without_a_gpu_there_is_none(self):
        assert lock_path({}, on_gpu=False) is None

    @pytest.mark.parametrize("on_gpu", [True, False])
    def test_empty_turns_it_off(self, on_gpu: bool):
        assert lock_path({"ADA_GPU_LOCK": ""}, on_gpu=on_gpu) is None

    @pytest.mark.parametrize("on_gpu", [True, False])
    def test_the_environment_has_the_last_word(self, on_gpu: bool):
        assert lock_path({"ADA_GPU_LOCK": "/run/gpu/lock"}, on_gpu=on_gpu) == Path("/run/gpu/lock")

    def test_a_relative_place_stays_the_same_after_a_change_of_folder(self, tmp_path: Path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        path = lock_path({"ADA_GPU_LOCK": "here"}, on_gpu=False)
        monkeypatch.chdir("/")
        assert path == tmp_path / "here"


# Who uses it


def test_the_trainer_is_refused_in_one_line_before_it_loads_trl_or_makes_anything(lock: Path, tmp_path: Path):
    (tmp_path / "trl.py").write_text("raise SystemExit('trl is loaded before the card is held')")
    output = tmp_path / "outputs" / "ada_model"
    command = [sys.executable, "-m", "trainer", "--config", "trainer/configs/bare.yaml"]
    environment = {**os.environ, "ADA_GPU_LOCK": str(lock), "PYTHONPATH": str(tmp_path)}
    with holder(lock, "model server"):
        answer = subprocess.run(
            [*command, f"output_dir={output}"],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert answer.returncode == 2
    (line,) = answer.stderr.splitlines()
    assert line.startswith("trainer: the GPU is in use by the model server since")
    assert not output.parent.exists()


needs_vllm = pytest.mark.skipif(not importlib.util.find_spec("vllm"), reason="vLLM is not installed here")


@pytest.fixture
def serving(tmp_path: Path, lock: Path) -> dict[str, str]:
    """The environment of a model server that has everything: an adapter, its base model and a port."""
    base, run = tmp_path / "base", tmp_path / "run"
    base.mkdir()
    (base / "config.json").write_text("{}")
    run.mkdir()
    (run / "adapter_model.safetensors").write_bytes(b"weights")
    (run / "chat_template.jinja").write_text("template")
    (run / "persona.toml").write_bytes(DEFAULT_PERSONA.read_bytes())
    (run / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(base)}))
    make_manifest(
        base_model=str(base),
        template_sha256=file_sha256(run / "chat_template.jinja"),
        weights_sha256=file_sha256(run / "adapter_model.safetensors"),
    ).write(run)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return {"ADA_ADAPTER": str(run), "MODEL_PORT": str(port), "ADA_GPU_LOCK": str(lock)}


@needs_vllm
def test_the_model_server_is_refused_while_somebody_trains(serving: dict[str, str], lock: Path):
    with (
        holder(lock, "trainer"),
        pytest.raises(ConfigError, match="the GPU is in use by the trainer since"),
    ):
        prepare(serving)


@needs_vllm
def test_the_model_server_holds_the_card_once_it_is_prepared(serving: dict[str, str], lock: Path):
    program = "import os; from services.model.__main__ import prepare; prepare(os.environ);" + TELL
    command = [sys.executable, "-c", program + "input()"]
    with subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, **serving},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout.readline() == "held\n"
        message = refusal(lock)
        process.communicate("\n", timeout=10)
    assert "the model server since" in message


@needs_vllm
def test_a_model_server_that_can_not_start_leaves_the_card_alone(serving: dict[str, str], lock: Path):
    (Path(serving["ADA_ADAPTER"]) / "adapter_model.safetensors").write_bytes(b"other weights")
    with pytest.raises(ConfigError, match="damaged"):
        prepare(serving)
    assert not lock.exists()
