"""The compose files as Compose reads them, on a machine without any Docker.

.venv/bin/python -m pytest tests/compose/test_compose_files.py
"""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMPOSE = Path(sys.executable).with_name("docker-compose")
GPU, CPU = ["compose.yaml"], ["compose.yaml", "docker/compose.cpu.yaml"]
IMAGES = {"${PYTHON_IMAGE}", "${VLLM_IMAGE}", "scratch"}
NEEDED = {"REDIS_PASSWORD": "a", "QDRANT_API_KEY": "b", "QDRANT_READ_ONLY_API_KEY": "c", "MODEL_API_KEY": "d"}


def compose(files: list[str], *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Compose without the .env that the developer may have."""
    chosen = [word for file in files for word in ("-f", file)]
    return subprocess.run(
        [COMPOSE, "--env-file", "/dev/null", *chosen, *arguments],
        cwd=ROOT,
        env={"HOME": "/nonexistent", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def services(files: list[str], **environment: str) -> dict:
    answer = compose(files, "--profile", "*", "config", "--format", "json", **(NEEDED | environment))
    assert answer.returncode == 0, answer.stderr
    return json.loads(answer.stdout)["services"]


@pytest.mark.parametrize("files", [GPU, CPU], ids=["gpu", "cpu"])
@pytest.mark.parametrize("profile", ["", "train", "*"])
def test_every_profile_is_valid(files: list[str], profile: str):
    answer = compose(files, "--profile", profile, "config", "--quiet", **NEEDED)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.parametrize("missing", NEEDED)
def test_a_missing_secret_stops_the_start_and_is_named(missing: str):
    for value in ({}, {missing: ""}):
        settings = {name: secret for name, secret in NEEDED.items() if name != missing} | value
        answer = compose(GPU, "config", **settings)
        assert answer.returncode != 0
        assert missing in answer.stderr
        assert "make init" in answer.stderr


@pytest.mark.parametrize("files", [GPU, CPU], ids=["gpu", "cpu"])
def test_every_service_is_safe_by_default(files: list[str]):
    for name, service in services(files).items():
        assert service["read_only"], name
        assert service["cap_drop"] == ["ALL"], name
        assert "cap_add" not in service, name
        assert not service.get("privileged"), name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        assert service["init"], name
        assert service["pids_limit"], name
        assert int(service["mem_limit"]), name
        assert service["logging"]["options"]["max-size"], name
        assert not str(service.get("user", "10001")).startswith("0"), name


@pytest.mark.parametrize("files", [GPU, CPU], ids=["gpu", "cpu"])
def test_only_the_orchestrator_is_published_and_only_on_loopback(files: list[str]):
    published = {name: service["ports"] for name, service in services(files).items() if "ports" in service}
    assert list(published) == ["orchestrator"]
    assert [port["host_ip"] for port in published["orchestrator"]] == ["127.0.0.1"]


def test_no_secret_is_in_an_environment_or_a_command():
    secret = {name: f"secret-of-{name}" for name in NEEDED}
    for name, service in services(GPU, **secret).items():
        settings = json.dumps([service.get("environment"), service.get("command"), service.get("build")])
        assert "secret-of" not in settings, name


def test_orchestrator_may_read_the_index_and_the_worker_may_write_it():
    by_name = services(GPU)
    key = {
        name: [s["source"] for s in service.get("secrets", []) if s["target"].endswith("QDRANT_API_KEY")]
        for name, service in by_name.items()
    }
    assert key["orchestrator"] == ["QDRANT_READ_ONLY_API_KEY"]
    assert key["worker"] == ["QDRANT_API_KEY"]
    assert not any(key[name] for name in ("vllm", "redis", "trainer"))


def test_the_model_server_and_its_clients_share_a_key():
    for name, service in services(GPU).items():
        has_it = any(s["source"] == "MODEL_API_KEY" for s in service.get("secrets", []))
        assert has_it is (name in ("orchestrator", "worker", "vllm")), name


def test_only_without_the_cpu_file_a_gpu_is_reserved():
    for name in ("vllm", "trainer"):
        assert services(GPU)[name]["deploy"]["resources"]["reservations"]["devices"][0]["driver"] == "nvidia"
        assert not services(CPU)[name].get("deploy", {}).get("resources")


def test_both_services_that_use_the_gpu_share_one_lock():
    by_name = services(GPU)
    for name in ("vllm", "trainer"):
        assert by_name[name]["environment"]["ADA_GPU_LOCK"] == "/run/gpu/lock"
        assert any(v["source"] == "gpu" and v["target"] == "/run/gpu" for v in by_name[name]["volumes"])


def test_the_adapter_is_read_only_for_all_but_the_trainer():
    for name, service in services(GPU).items():
        for volume in service.get("volumes", []):
            if volume["target"] == "/app/outputs":
                assert volume.get("read_only", False) is (name != "trainer"), name


def test_only_the_orchestrator_can_read_the_api_keys_and_none_can_write_them():
    for name, service in services(GPU).items():
        mounts = [v for v in service.get("volumes", []) if str(v["source"]).endswith("secrets/keys")]
        targets = [(v["target"], v["read_only"]) for v in mounts]
        assert targets == ([("/run/keys", True)] if name == "orchestrator" else []), name
    assert services(GPU)["orchestrator"]["environment"]["KEYS_FILE"] == "/run/keys/keys.json"


def test_only_the_worker_waits_for_other_services():
    waits = {name: sorted(s.get("depends_on", {})) for name, s in services(GPU).items()}
    assert {name: on for name, on in waits.items() if on} == {"worker": ["qdrant", "redis"]}


def test_a_worker_has_more_time_to_stop_than_a_job_may_take():
    from services.diary.jobs import JOB_TIMEOUT_S

    seconds = services(GPU)["worker"]["stop_grace_period"]
    assert re.fullmatch(r"2m10s", seconds)
    assert JOB_TIMEOUT_S < 130


def test_every_image_can_be_replaced_by_a_variable_and_is_pinned_to_a_tag():
    text = (ROOT / "compose.yaml").read_text()
    images = re.findall(r"\$\{([A-Z_]+IMAGE):-([^}]+)\}", text)
    assert len(images) == 7
    for name, image in images:
        assert re.fullmatch(r"[\w./-]+:[\w.-]*\d[\w.-]*", image), name


def test_images_are_pinned_in_compose_yaml_and_nowhere_else():
    pinned = re.findall(r":-([\w./-]+:[\w.-]+)\}", (ROOT / "compose.yaml").read_text())
    for file in (ROOT / "docker").glob("*.Dockerfile"):
        text = file.read_text()
        assert not re.search(r"^ARG \w+_IMAGE=", text, re.M), file
        assert all(image not in text for image in pinned), file
        stages = set(re.findall(r" AS (\w+)$", text, re.M))
        assert set(re.findall(r"^FROM (\S+)", text, re.M)) - stages <= IMAGES, file


def test_the_variables_of_the_compose_files_are_in_env_example():
    example = (ROOT / ".env.example").read_text()
    for file in CPU:
        for name in re.findall(r"\$\{([A-Z_]+)", (ROOT / file).read_text()):
            assert re.search(rf"^#? ?{name}=", example, re.M), name


def test_files_copied_into_an_image_are_readable_whatever_the_umask():
    """A clone under umask 077 gave images whose user could read nothing [umask_077]."""
    copied = []
    for dockerfile in (*ROOT.glob("docker/*.Dockerfile"), *ROOT.glob("tests/compose/*.Dockerfile")):
        stages = re.split(r"^FROM ", dockerfile.read_text(), flags=re.M)[1:]
        shipped = [stage for stage in stages if not re.match(r".* AS packages$", stage, re.M)]
        copied += [line for stage in shipped for line in re.findall(r"^COPY (?!--from).*", stage, re.M)]
    assert len(copied) >= 9
    assert [line for line in copied if "--chmod=755" not in line] == []


def test_bind_mounts_are_labelled_for_selinux():
    for name, service in services(GPU).items():
        for volume in service.get("volumes", []):
            if volume["type"] == "bind":
                assert volume["bind"]["selinux"] == "z", (name, volume["target"])


def imported(module: Path) -> set[Path]:
    """Files of services/ that a module of ours imports by itself."""
    paths = set()
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "services":
            base = ROOT / str(node.module).replace(".", "/")
            paths |= {base.with_suffix(".py"), *(base / f"{name.name}.py" for name in node.names)}
    return {path for path in paths if path.is_file()}


@pytest.mark.parametrize("room", ["trainer", "model"])
def test_an_image_has_every_file_of_services_that_its_code_imports(room: str):
    """A leaf that was added to a room and not to its image ends the container at its start."""
    lines = re.findall(r"^COPY --chmod=755 (.*)$", (ROOT / f"docker/{room}.Dockerfile").read_text(), re.M)
    sources = [ROOT / word for line in lines for word in line.split()[:-1]]
    copied = {file for path in sources for file in (path.rglob("*.py") if path.is_dir() else [path])}
    needed = {file for module in copied if module.suffix == ".py" for file in imported(module)}
    assert {str(path.relative_to(ROOT)) for path in needed - copied} == set()
