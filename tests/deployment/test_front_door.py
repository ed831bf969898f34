"""The front door before a `docker` that was told what to answer: what is wrong is one line, with the remedy.

The deployment itself is started and attacked by tests/compose.

.venv/bin/python -m pytest tests/deployment/test_front_door.py
"""

import itertools
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import services.deployment.__main__ as front_door
import services.deployment.readiness as readiness
from services.deployment.engine import CPU_FILES, GPU_FILES

ROOT = Path(__file__).parents[2]
SECRETS = "REDIS_PASSWORD=a\nQDRANT_API_KEY=b\nQDRANT_READ_ONLY_API_KEY=c\nMODEL_API_KEY=d\n"
WAITS = "model: no adapter in /app/outputs/ada_model (MANIFEST.json is missing): run `make train`"
ANOTHERS = ("COMPOSE_FILE", "SSL_CERT_FILE", "PIP_FIND_LINKS", "http_proxy", "no_proxy", "NO_PROXY")


class FakeDocker:
    """An executable named docker: answers each command as it was told, and notes what it was asked."""

    def __init__(self, room: Path) -> None:
        self.room = room
        self.bin = room / "bin"
        self.bin.mkdir(parents=True)
        (room / "asked").touch()
        self.info = {"ServerVersion": "28.2.2", "DockerRootDir": str(room), "Runtimes": {"runc": {}}}
        self._answers: dict[str, str] = {}
        self.answer("info", json.dumps(self.info))
        self.answer("compose version --short", "2.40.1\n")
        self.answer("compose config --images", "ada-services:0.1.0\nredis:8\n")

    def answer(self, question: str, out: str = "", err: str = "", code: int = 0) -> None:
        """What to say when asked something that begins like this; nothing at all is success too."""
        output = f"printf %s {shlex.quote(out)}; printf %s {shlex.quote(err)} >&2; exit {code}"
        self._answers[question] = f"{shlex.quote(question)}*) {output};;"
        note = f'printf \'%s|%s\\n\' "$COMPOSE_FILE" "$*" >> {shlex.quote(str(self.room / "asked"))}'
        branches = "\n".join(self._answers.values())
        self.add_program("docker", f'{note}\ncase "$*" in\n{branches}\nesac')

    def engine_is(self, **info: object) -> None:
        self.answer("info", json.dumps(self.info | info))

    def add_program(self, name: str, script: str = "") -> None:
        """Another executable beside it."""
        (self.bin / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.bin / name).chmod(0o755)

    def container(self, service: str, state: str, *, health: str = "", output: str = "", restarts: int = 0):
        """The only container that there is."""
        about = {"Service": service, "State": state, "Health": health, "ID": f"id-of-{service}"}
        self.answer("compose ps --all --format json", json.dumps(about) + "\n")
        self.answer(
            f"compose logs --no-log-prefix --no-color --tail 1 {service}", f"{output}\n" if output else ""
        )
        self.answer(f"inspect --format {{{{.RestartCount}}}} id-of-{service}", f"{restarts}\n")

    def commands(self, beginning: str) -> list[tuple[str, str]]:
        """COMPOSE_FILE and command of each question that begins like this."""
        lines = (self.room / "asked").read_text().splitlines()
        questions = [tuple(line.split("|", 1)) for line in lines]
        return [(files, question) for files, question in questions if question.startswith(beginning)]


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder in which the front door is asked, with nothing of this machine in reach."""
    folder = tmp_path / "ada"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PATH", str(tmp_path / "docker" / "bin"))
    monkeypatch.delenv("KEYS_FILE")
    for name in ANOTHERS:
        monkeypatch.delenv(name, raising=False)
    return folder


class ImpatientClock:
    """A second of waiting is a hundredth."""

    monotonic = staticmethod(time.monotonic)

    @staticmethod
    def sleep(seconds: float) -> None:
        time.sleep(seconds / 100)


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness, "time", ImpatientClock)
    monkeypatch.setattr(readiness, "SETTLED_S", 0.05)


@pytest.fixture
def docker(tmp_path: Path) -> FakeDocker:
    """An engine that can do all that is needed, on a machine without a card."""
    return FakeDocker(tmp_path / "docker")


@pytest.fixture
def settings(checkout: Path, port: int) -> Path:
    """A .env with all that is needed."""
    (checkout / ".env").write_text(f"{SECRETS}ADA_PORT={port}\n")
    return checkout / ".env"


def ask(*words: str) -> int:
    """`python3 -m services.deployment WORDS`, in this process."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["services.deployment", *words])
        return front_door.main()


def refusal(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    """The one line in which a verb says why not."""
    capfd.readouterr()
    assert ask(*words) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"{words[0]}: ")
    return line.removeprefix(f"{words[0]}: ")


# What is needed of Docker

VERBS = ("up", "down", "logs", "ps")


@pytest.mark.parametrize("verb", VERBS)
def test_without_docker_every_verb_names_the_way_that_needs_none(settings, capfd, verb: str):
    output = refusal(capfd, verb)
    assert output.startswith("Docker is not installed here")
    assert "make serve" in output


DENIED = (
    "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock"
)
STOPPED = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"


def cannot_ask(docker: FakeDocker, reason: str, *, in_json: bool) -> None:
    """Docker's command writes its reason to stderr or into the JSON, which it prints all the same."""
    nothing_known = {"ID": "", "Containers": 0, "Driver": "", "Plugins": {"Volume": None}}
    errors = {"ServerErrors": [reason]} if in_json else {}
    docker.answer("info", json.dumps(nothing_known | errors), "" if in_json else f"{reason}\n", code=1)


@pytest.mark.parametrize("in_json", [True, False])
@pytest.mark.parametrize("verb", VERBS)
def test_who_may_not_ask_the_engine_is_told_of_its_group(settings, docker, capfd, verb: str, in_json: bool):
    cannot_ask(docker, DENIED, in_json=in_json)
    output = refusal(capfd, verb)
    assert output.startswith("no permission to ask the Docker engine")
    assert "usermod -aG docker" in output


@pytest.mark.parametrize("in_json", [True, False])
@pytest.mark.parametrize("verb", VERBS)
def test_an_engine_that_does_not_run_is_told_with_docker_s_own_words(settings, docker, capfd, verb, in_json):
    cannot_ask(docker, STOPPED, in_json=in_json)
    output = refusal(capfd, verb)
    assert STOPPED in output
    assert "systemctl start docker" in output


def test_an_engine_that_gives_no_reason_is_told_all_the_same(settings, docker, capfd):
    docker.answer("info", code=1)
    assert "does not answer (no reason given)" in refusal(capfd, "up")


@pytest.mark.parametrize("version", ["24.0.9", "20.10.24+dfsg1", "", "dev"])
def test_an_engine_that_is_too_old_is_told_with_its_version(settings, docker, capfd, version: str):
    docker.engine_is(ServerVersion=version)
    output = refusal(capfd, "up")
    assert output == f"Docker Engine here is {version or 'unknown'}: 25.0 or later is needed"


def test_a_docker_without_compose_names_the_package(settings, docker, capfd):
    docker.answer("compose version --short", err="unknown flag: --short\n", code=125)
    assert "docker-compose-plugin" in refusal(capfd, "up")


@pytest.mark.parametrize("version", ["2.23.3", "1.29.2", "v2.1.0-rc.1"])
def test_a_compose_that_is_too_old_is_told_with_its_version(settings, docker, capfd, version: str):
    docker.answer("compose version --short", f"{version}\n")
    assert refusal(capfd, "up") == f"Docker Compose here is {version}: 2.24 or later is needed"


@pytest.mark.parametrize(("engine", "compose"), [("25.0.0", "2.24.0"), ("28.2.2", "v2.40.3-desktop.1")])
def test_what_is_new_enough_is_taken(docker, engine: str, compose: str):
    docker.engine_is(ServerVersion=engine)
    docker.answer("compose version --short", f"{compose}\n")
    assert ask("ps") == 0


# What is needed of the place


def test_without_an_env_up_says_make_init(docker, capfd):
    assert refusal(capfd, "up") == "there is no .env: run `make init`"


@pytest.mark.parametrize("missing", SECRETS.splitlines())
@pytest.mark.parametrize("verb", ["up", "train"])
def test_a_half_filled_env_is_told_by_the_name_that_is_missing(docker, settings, capfd, verb, missing: str):
    name = missing.split("=")[0]
    for instead in ("", f"{name}=\n", f"# {missing}\n", f'{name}=""\n'):
        settings.write_text(SECRETS.replace(f"{missing}\n", instead))
        output = refusal(capfd, verb)
        assert output.startswith(f"{name} in .env is missing or empty")
        assert "make init" in output
    assert docker.commands("compose up") == docker.commands("compose run") == []


def test_a_port_that_is_taken_is_told_before_anything_is_built(docker, settings, capfd, port: int):
    with socket.create_server(("127.0.0.1", port)):
        output = refusal(capfd, "up")
    assert output.startswith(f"ADA_PORT {port} on 127.0.0.1 can't be used (Address already in use)")
    assert docker.commands("compose up") == []


@pytest.mark.parametrize("comment", ["", " # as always"])
@pytest.mark.parametrize("nonsense", ["eighty", "0", "65536", "-1", "80.5", "8080/tcp"])
def test_a_port_that_is_none_is_told_by_its_setting(docker, settings, capfd, nonsense: str, comment: str):
    settings.write_text(f"{SECRETS}ADA_PORT={nonsense}{comment}\n")
    output = refusal(capfd, "up")
    assert output == f"ADA_PORT is {nonsense!r}: it must be a whole number from 1 to 65535"


def test_the_environment_goes_before_the_env_as_compose_has_it(docker, settings, capfd, monkeypatch):
    monkeypatch.setenv("ADA_PORT", "eighty")
    assert "ADA_PORT is 'eighty'" in refusal(capfd, "up")


def test_a_disk_without_room_for_the_images_is_told_before_they_are_built(
    docker, settings, capfd, monkeypatch
):
    monkeypatch.setitem(front_door.BUILD_GIB, CPU_FILES, 10**9)
    docker.answer("image inspect", code=1)
    output = refusal(capfd, "up")
    assert output.startswith(f"{docker.room} has ")
    assert "Ada's images need 1000000000: free some disk" in output
    assert docker.commands("compose up") == []


def test_a_disk_without_room_to_write_is_told_although_the_images_are_there(
    docker, settings, capfd, monkeypatch
):
    monkeypatch.setattr(front_door, "RUN_GIB", 10**9)
    assert "Ada needs 1000000000 to write: free some disk" in refusal(capfd, "up")


def test_images_that_are_there_need_no_room_to_be_built(docker, settings, capfd, monkeypatch):
    monkeypatch.setitem(front_door.BUILD_GIB, CPU_FILES, 10**9)
    docker.answer("compose up", code=1)
    assert "docker compose up failed" in refusal(capfd, "up")
    assert [question for _, question in docker.commands("image inspect")] == [
        "image inspect ada-services:0.1.0",
        "image inspect redis:8",
    ]


def test_the_disk_of_an_engine_on_another_machine_is_not_looked_at(docker, settings, capfd, monkeypatch):
    monkeypatch.setattr(front_door, "RUN_GIB", 10**9)
    docker.engine_is(DockerRootDir="/nowhere/on/this/machine")
    docker.answer("compose up", code=1)
    assert "docker compose up failed" in refusal(capfd, "up")


# Which compose files


@pytest.mark.parametrize(("runtimes", "files"), [(["runc"], CPU_FILES), (["runc", "nvidia"], GPU_FILES)])
@pytest.mark.parametrize(
    ("verb", "question"), [("ps", "compose ps"), ("down", "compose --profile train down")]
)
def test_the_engines_runtime_picks_the_compose_files(docker, runtimes, files: str, verb: str, question: str):
    docker.engine_is(Runtimes={name: {} for name in runtimes})
    assert ask(verb) == 0
    assert [seen for seen, _ in docker.commands(question)] == [files]


def test_a_hook_of_nvidias_is_as_good_as_a_runtime(docker):
    docker.add_program("nvidia-container-runtime-hook")
    ask("ps")
    assert docker.commands("compose ps") == [(GPU_FILES, "compose ps --all")]


@pytest.mark.parametrize(
    ("exported", "written", "used"),
    [
        ("mine.yaml", "", "mine.yaml"),
        ("", "mine.yaml", "mine.yaml"),
        ("mine.yaml", "another.yaml", "mine.yaml"),
        (GPU_FILES, "", CPU_FILES),
        ("", GPU_FILES, CPU_FILES),
    ],
)
def test_a_compose_file_of_ones_own_goes_before_what_is_found(
    docker, checkout: Path, monkeypatch, exported: str, written: str, used: str
):
    monkeypatch.setenv("COMPOSE_FILE", exported)
    (checkout / ".env").write_text(f"COMPOSE_FILE={written}\n")
    ask("ps")
    assert docker.commands("compose ps") == [(used, "compose ps --all")]


@pytest.mark.parametrize(("runtimes", "files"), [(["runc"], CPU_FILES), (["runc", "nvidia"], GPU_FILES)])
def test_init_writes_them_down_for_plain_docker_compose(docker, checkout: Path, capfd, runtimes, files: str):
    docker.engine_is(Runtimes={name: {} for name in runtimes})
    assert ask("init") == 0
    assert f"COMPOSE_FILE={files}" in (checkout / ".env").read_text().splitlines()
    assert f"plain `docker compose` uses {files} here" in capfd.readouterr().out


def test_init_needs_no_engine(checkout: Path):
    assert ask("init") == 0
    assert f"COMPOSE_FILE={CPU_FILES}" in (checkout / ".env").read_text().splitlines()


def test_up_says_when_it_takes_the_cpu(docker, settings, capfd):
    docker.answer("compose up", code=1)
    ask("up")
    assert "Docker has no NVIDIA runtime here: the CPU stack" in capfd.readouterr().out
    assert [files for files, _ in docker.commands("compose up")] == [CPU_FILES]


# Where to train


def where_to_train(capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = ask("can-train")
    out, err = capfd.readouterr()
    assert err == ""
    (line,) = out.splitlines()
    return code, line


def test_without_docker_training_is_local_and_says_why(settings, capfd):
    code, output = where_to_train(capfd)
    assert code == 1
    assert output.startswith("training in the local environment (Docker is not installed here")


def test_without_an_env_training_is_local_and_says_how_it_would_not_be(docker, capfd):
    code, output = where_to_train(capfd)
    assert code == 1
    assert output.startswith("training in the local environment")
    assert "make init" in output


def test_with_an_nvidia_runtime_training_is_in_the_container_on_the_gpu(docker, settings, capfd):
    docker.engine_is(Runtimes={"nvidia": {}})
    assert where_to_train(capfd) == (0, "training in the trainer's container, on the GPU")


def test_a_card_that_docker_can_not_reach_is_used_locally(docker, settings, capfd):
    docker.add_program("nvidia-smi")
    code, output = where_to_train(capfd)
    assert code == 1
    assert output.startswith("training in the local environment, on the GPU")


def test_without_any_card_training_is_in_the_container_on_the_cpu(docker, settings, capfd):
    code, output = where_to_train(capfd)
    assert code == 0
    assert output.startswith("training in the trainer's container, on the CPU")


# Training in the container


@pytest.mark.parametrize(
    ("runtimes", "files", "config"),
    [(["runc"], CPU_FILES, "bare.yaml"), (["runc", "nvidia"], GPU_FILES, "ada.yaml")],
)
def test_the_machine_picks_the_configuration(
    docker, settings, runtimes, files: str, config: str, checkout: Path
):
    (checkout / "trainer" / "configs").mkdir(parents=True)
    (checkout / "trainer" / "configs" / config).touch()
    docker.engine_is(Runtimes={name: {} for name in runtimes})
    assert ask("train", "lora_rank=8") == 0
    ((seen, command),) = docker.commands("compose run")
    assert seen == files
    assert command.endswith(f"trainer python -m trainer --config trainer/configs/{config} lora_rank=8")


@pytest.mark.parametrize("config", ["--config my.yaml", "--config=my.yaml"])
def test_ones_own_files_are_shown_to_the_container_under_the_same_names(
    docker, settings, checkout: Path, config: str
):
    for name in ("my.yaml", "me.toml"):
        (checkout / name).touch()
    assert ask("train", *config.split(), "persona=me.toml") == 0
    ((_, command),) = docker.commands("compose run")
    assert re.search(r"--volume \S+-my\.yaml:/app/my\.yaml:ro,z ", command)
    assert re.search(r"--volume \S+-me\.toml:/app/me\.toml:ro,z ", command)
    assert command.endswith(f"python -m trainer {config} persona=me.toml")


@pytest.mark.parametrize(
    "given", ["--config no.yaml", "--config=no.yaml", "--config my.yaml persona=no.yaml"]
)
def test_a_file_that_is_not_there_is_told_by_name(docker, settings, checkout: Path, capfd, given: str):
    (checkout / "my.yaml").touch()
    assert refusal(capfd, "train", *given.split()) == "there is no file no.yaml"
    assert docker.commands("compose run") == []


def test_an_image_that_can_not_be_built_ends_it(docker, settings, capfd):
    docker.answer("compose build trainer", code=17)
    assert "the trainer's image can't be built" in refusal(capfd, "train")


def test_the_trainers_own_exit_code_is_passed_on(docker, settings, checkout: Path):
    (checkout / "my.yaml").touch()
    docker.answer("compose run", code=130)
    assert ask("train", "--config", "my.yaml") == 130


# Until she is ready


@contextmanager
def voice(port: int, *answers: tuple[int, dict]) -> Iterator[None]:
    """Answers /readyz with one after the other, and stays with the last."""
    left = list(answers)

    class Voice(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = left.pop(0) if len(left) > 1 else left[0]
            content = json.dumps(body).encode()
            self.send_response(status if self.path == "/readyz" else 404)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", port), Voice) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


READY = (200, {"status": "ready"})
NOT_READY = (503, {"checks": {"adapter": "no adapter", "model": "can't be reached", "ledger": "ok"}})


@pytest.fixture
def she_runs(docker: FakeDocker, settings: Path) -> FakeDocker:
    """Her containers are up already, so her port is hers."""
    docker.answer("compose ps --quiet --status running orchestrator", "2f1c\n")
    return docker


def test_who_is_ready_is_told_with_what_to_try(she_runs, capfd, port: int):
    with voice(port, READY):
        assert ask("up") == 0
    out, err = capfd.readouterr()
    assert err == ""
    assert "ready after " in out
    assert f"Ada, an AI persona, is up at http://127.0.0.1:{port}" in out
    assert [question for _, question in she_runs.commands("compose up")] == [
        "compose up --detach --build --remove-orphans"
    ]


@pytest.mark.parametrize("has_keys", [True, False])
def test_where_there_are_keys_what_to_try_sends_one(she_runs, capfd, port: int, has_keys: bool):
    if has_keys:
        ask("key", "OWNER=drew")
    with voice(port, READY):
        ask("up")
    assert capfd.readouterr().out.count("YOUR_KEY") == (3 if has_keys else 0)


def test_what_she_waits_for_is_told_and_waited_for(she_runs, capfd, port: int):
    with voice(port, NOT_READY, READY):
        assert ask("up") == 0
    out = capfd.readouterr().out
    assert "waiting for: adapter, model\n" in out
    assert "ledger" not in out
    assert "ready after " in out


def test_a_deployment_that_can_not_be_started_is_told(docker, settings, capfd):
    docker.answer("compose up", code=1)
    assert refusal(capfd, "up") == "docker compose up failed, as it says above"


def test_a_containers_complaint_ends_the_waiting_with_its_line(she_runs, capfd, port: int):
    she_runs.container("vllm", "running", health="starting", output=WAITS)
    with voice(port, NOT_READY):
        assert refusal(capfd, "up").startswith(f"Ada is not ready: {WAITS}")


def test_a_complaint_that_is_mended_meanwhile_does_not_end_the_waiting(she_runs, monkeypatch, port: int):
    heard = itertools.cycle([[("model", WAITS)], []])
    monkeypatch.setattr(readiness, "_complaints", lambda files: next(heard))
    with voice(port, *[NOT_READY] * 20, READY):  # four times as long as a complaint has to stand
        assert ask("up") == 0


@pytest.mark.parametrize("who", ["model", "orchestrator", "worker"])
def test_each_of_ours_can_complain(she_runs, capfd, who: str):
    she_runs.container(who, "running", health="unhealthy", output=f"{who}: something is wrong")
    assert f"{who}: something is wrong" in refusal(capfd, "up")


def test_a_port_published_to_all_is_up_to_the_orchestrator(docker, settings, capfd, port: int):
    settings.write_text(f"{SECRETS}ADA_PORT={port}\nADA_PUBLISH=0.0.0.0\n")
    line = "orchestrator: ADA_PUBLISH is '0.0.0.0': without API keys only loopback is served"
    docker.container("orchestrator", "running", health="starting", output=line)
    assert line in refusal(capfd, "up")
    assert len(docker.commands("compose up")) == 1


@pytest.mark.parametrize("restarts", [3, 12])
def test_who_is_started_over_and_over_ends_the_waiting_with_its_last_words(she_runs, capfd, restarts: int):
    she_runs.container("qdrant", "restarting", output="Panic: no space left", restarts=restarts)
    output = refusal(capfd, "up")
    assert (
        f"qdrant keeps ending, started again {restarts} times; its last words: Panic: no space left" in output
    )


@pytest.mark.parametrize("state", ["exited", "dead"])
def test_who_has_ended_ends_the_waiting(she_runs, capfd, state: str):
    she_runs.container("redis", state, output="Bye bye...")
    assert "redis keeps ending" in refusal(capfd, "up")


@pytest.mark.parametrize(
    "container",
    [
        {
            "service": "vllm",
            "state": "running",
            "health": "starting",
            "output": "INFO Loading weights took 3 s",
        },
        {"service": "vllm", "state": "running", "health": "starting", "output": "the model: quite large"},
        {"service": "vllm", "state": "running", "health": "starting"},
        {"service": "vllm", "state": "restarting", "output": "Killed", "restarts": 2},
        {"service": "worker", "state": "running", "health": "healthy", "output": "worker: no adapter"},
        {"service": "trainer", "state": "exited", "output": "Killed", "restarts": 9},
    ],
    ids=lambda container: " ".join(str(part) for part in container.values()),
)
def test_what_is_no_complaint_is_waited_through(she_runs, port: int, container: dict):
    she_runs.container(**container)
    with voice(port, NOT_READY, READY):
        assert ask("up") == 0


def test_the_waiting_has_an_end(she_runs, capfd, monkeypatch: pytest.MonkeyPatch, port: int):
    monkeypatch.setattr(readiness, "READY_WITHIN_S", 0.3)
    with voice(port, NOT_READY):
        output = refusal(capfd, "up")
    assert output == "Ada was not ready within 0.3 s (adapter, model): see `make logs`"


def test_a_voice_that_does_not_answer_yet_is_named_as_what_is_waited_for(she_runs, capfd, monkeypatch):
    monkeypatch.setattr(readiness, "READY_WITHIN_S", 0.3)
    assert "(the orchestrator)" in refusal(capfd, "up")


# As a command


@pytest.mark.parametrize(
    "words", ["", "help", "ups", *(f"{verb} please" for verb in (*VERBS, "init", "can-train", "pin-images"))]
)
def test_what_is_no_verb_and_a_word_too_many_are_answered_with_the_verbs(docker, settings, capfd, words: str):
    assert ask(*words.split()) == 2
    assert "init | up | down | logs | ps | can-train | train" in capfd.readouterr().err
    assert docker.commands("") == []


def test_up_needs_no_installed_package_and_no_proxy_for_what_is_on_this_machine(she_runs, port: int):
    nowhere = dict.fromkeys(("http_proxy", "HTTP_PROXY", "all_proxy"), "http://127.0.0.1:9")
    with voice(port, READY):
        answer = subprocess.run(
            [sys.executable, "-S", "-m", "services.deployment", "up"],
            env={**os.environ, "PYTHONPATH": str(ROOT), **nowhere},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert answer.returncode == 0, answer.stderr
    assert f"is up at http://127.0.0.1:{port}" in answer.stdout


def test_base_images_are_pinned_by_the_digest_that_the_registry_gives(
    capfd: pytest.CaptureFixture[str], docker: FakeDocker, settings: Path
):
    shutil.copy(ROOT / "compose.yaml", "compose.yaml")
    settings.write_text(settings.read_text() + f"REDIS_IMAGE=redis:7@sha256:{'0' * 64}\n")
    digest = f"sha256:{'ab' * 32}"
    docker.answer("buildx imagetools inspect", f"{digest}\n")
    assert ask("pin-images") == 0
    lines = settings.read_text().splitlines()
    assert f"VLLM_IMAGE=vllm/vllm-openai:v0.33.0@{digest}" in lines
    assert [line for line in lines if line.startswith("REDIS_IMAGE")] == [f"REDIS_IMAGE=redis:7@{digest}"]
    assert len([line for line in lines if digest in line]) == 4
    assert "VLLM_IMAGE=" in capfd.readouterr().out


def test_an_image_without_a_digest_is_named_and_nothing_is_pinned(
    capfd: pytest.CaptureFixture[str], docker: FakeDocker, settings: Path
):
    shutil.copy(ROOT / "compose.yaml", "compose.yaml")
    before = settings.read_text()
    docker.answer("buildx imagetools inspect", err="ERROR: not found\n", code=1)
    assert "python:3.11.14-slim-bookworm: its registry gives no digest (ERROR: not found)" in refusal(
        capfd, "pin-images"
    )
    assert settings.read_text() == before
