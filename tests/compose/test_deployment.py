"""The real deployment on a real Docker engine, seen and attacked from outside. The tests go in order.

make test-compose
"""

import hashlib
import json
import os
import re
import shutil
import time

import httpx
import pytest
from deployment import SERVICES, Deployment, Writer, until
from openai import OpenAI

pytestmark = [pytest.mark.compose, pytest.mark.filterwarnings("default::ResourceWarning")]
RECOVERY_S = 180  # a guard against hanging; what it took is printed
COUNT_JOBS = """
from services.diary.job_queue import diary_queue, queue_connection
from services.diary.settings import DiarySettings
settings = DiarySettings.load()
print(diary_queue(queue_connection(settings.redis_url, settings.redis_password)).count)
"""


def test_the_services_image_is_small_and_no_image_holds_build_tools(ada: Deployment):
    sizes = {}
    for name in ("SERVICES", "MODEL", "TRAINER"):
        image = ada.environment[f"ADA_{name}_IMAGE"]
        sizes[name] = int(ada.docker("image", "inspect", "--format", "{{.Size}}", image)) / 1e9
        tools = ada.docker(
            "run", "--rm", "--entrypoint", "sh", image, "-c", "command -v gcc cc make git uv; true"
        )
        assert not tools
    ada.say(", ".join(f"{name.lower()} image {size:.2f} GB" for name, size in sizes.items()))
    assert sizes["SERVICES"] <= 1.2


def test_without_an_adapter_up_reports_it_and_the_other_services_run(ada: Deployment):
    done = ada.make("up")
    assert done.returncode != 0
    last = done.stderr.strip().splitlines()[-2]  # the last line is make's own
    assert "model: no adapter in /app/outputs/ada_model" in last
    assert "run `make train`" in last
    for service in ("orchestrator", "worker", "redis", "qdrant"):
        until(lambda service=service: ada.is_healthy(service), RECOVERY_S, f"{service} is healthy")
    assert "make train" in ada.checks()["adapter"]
    assert ada.ask("Are you there?")["error"]["code"] == "not_configured"
    assert ada.write("The first page, before she could speak.")
    assert ada.inspect("vllm", "{{.RestartCount}} {{.State.Status}}") == "0 running"


def test_after_a_few_training_steps_in_the_container_ada_is_ready(ada: Deployment):
    with ada.timed("make train, 4 steps"):
        done = ada.make("train", "SET=max_steps=4 target_size=24 eval_size=4 publish=true")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "training in the trainer's container, on the CPU" in done.stdout
    manifest = json.loads((ada.folder / "outputs/ada_model/MANIFEST.json").read_text())
    assert manifest["steps"] == 4
    assert re.fullmatch("[0-9a-f]{40}", manifest["code_revision"]) or not (ada.folder / ".git").exists()
    ada.say(f"ready {until(ada.is_ready, RECOVERY_S, 'ready after the training'):.1f} s after the training")


def test_a_second_up_finds_ada_ready_and_suggests_what_to_try(ada: Deployment):
    ada.make("down")
    with ada.timed("make up, from built images"):
        done = ada.make("up")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the CPU stack" in done.stdout
    assert f"up at {ada.url}. Try:" in done.stdout
    assert set(ada.checks()) == {"adapter", "model", "template", "ledger", "index", "queue"}
    assert ada.is_ready()


def test_plain_docker_compose_is_enough(ada: Deployment):
    assert "COMPOSE_FILE" not in ada.environment  # it stands in .env
    done = ada.run("docker", "compose", "up", "--detach", "--wait")
    assert done.returncode == 0, done.stderr


def test_the_openai_client_chats_and_streams_through_the_published_port(ada: Deployment):
    messages = [{"role": "user", "content": "Good morning, Ada."}]
    with OpenAI(base_url=f"{ada.url}/v1", api_key="none", timeout=120) as client:
        assert {model.id for model in client.models.list()} == {"ada", "base"}
        whole = client.chat.completions.with_raw_response.create(
            model="ada", messages=messages, max_tokens=12
        )
        assert whole.headers["ai-disclosure"]
        assert whole.parse().choices[0].message.content
        chunks = list(
            client.chat.completions.create(model="ada", messages=messages, max_tokens=12, stream=True)
        )
    assert len(chunks) > 3
    assert "AI persona" in chunks[-1].model_extra["ada"]["disclosure"]


def test_two_hundred_entries_are_queued_and_recalled(ada: Deployment):
    places = [
        f"{street} {number}"
        for street in ("Quay Street", "Shop Street", "Mill Road", "Eyre Square")
        for number in range(50)
    ]
    with ada.timed("200 entries accepted and indexed"):
        ids = {
            ada.write(f"I met a cousin at {street_address} and we talked for an hour.")
            for street_address in places
        }
        assert None not in ids
        until(lambda: ada.all_indexed(ids), RECOVERY_S, "200 entries indexed")
    strange = ada.write("A heron stood on the bonnet of the postman's van this morning.")
    until(lambda: ada.all_indexed({strange}), RECOVERY_S, "the heron indexed")
    assert ada.search("bird on a vehicle")[0]["id"] == strange
    diary = ada.ask("Which bird stood on the van?")["ada"]["diary"]
    assert diary["status"] == "used"
    assert strange in [entry["id"] for entry in diary["entries"]]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_killed_under_load_recovers_and_nothing_is_lost(ada: Deployment, service: str):
    before = int(ada.inspect(service, "{{.RestartCount}}"))
    with Writer(ada, f"while {service} dies") as writer:
        time.sleep(2)
        ada.kill(service)
        until(lambda: int(ada.inspect(service, "{{.RestartCount}}")) > before, 60, f"{service} started again")
        recovery = until(lambda: ada.is_ready(), RECOVERY_S, f"ready without {service} for a moment")
        time.sleep(2)
    indexed = until(lambda: ada.all_indexed(writer.accepted), RECOVERY_S, "all accepted entries indexed")
    until(lambda: ada.is_healthy(service), RECOVERY_S, f"{service} healthy")
    assert len(writer.accepted) > 10
    ada.say(
        f"{service} killed: ready again after {recovery:.1f} s; {len(writer.accepted)} entries accepted, "
        f"{writer.rejected} not, the last indexed {indexed:.1f} s later"
    )


def test_the_queue_survives_a_restart_of_redis(ada: Deployment):
    ada.compose("stop", "worker")
    try:
        ids = {ada.write(f"Written while the scribe slept, {number}") for number in range(20)}
        ada.compose("restart", "redis", "qdrant")
        until(ada.is_ready, RECOVERY_S, "ready after the restarts")
        states = ada.states()
        assert {states[entry_id] for entry_id in ids} == {"queued"}
        assert ada.inside("orchestrator", f'python -c "{COUNT_JOBS}"').strip() == "20"
    finally:
        ada.compose("start", "worker")
    until(lambda: ada.all_indexed(ids), RECOVERY_S, "what was queued before the restart is indexed")


def test_a_lost_index_is_filled_again_from_the_ledger(ada: Deployment):
    everything = set(ada.states())
    ada.compose("rm", "--stop", "--force", "qdrant")
    ada.docker("volume", "rm", f"{ada.project}_qdrant")
    assert ada.ask("Which bird stood on the van?")["ada"]["diary"]["status"] == "unavailable"
    ada.compose("up", "--detach", "--no-build", "qdrant")
    took = until(
        lambda: ada.is_ready() and ada.all_indexed(everything), RECOVERY_S, "the index is whole again"
    )
    assert "heron" in ada.search("bird on a vehicle")[0]["text"]
    ada.say(f"index lost and filled again with {len(everything)} entries in {took:.1f} s")


@pytest.mark.parametrize(
    ("service", "check", "effect"),
    [
        ("qdrant", "index", {"diary": "unavailable"}),
        ("redis", "queue", {"diary": "used"}),
        ("vllm", "model", {"error": "model_unavailable"}),
    ],
)
def test_a_service_recovers_from_a_network_failure(
    ada: Deployment, service: str, check: str, effect: dict[str, str]
):
    network, container = f"{ada.project}_inside", ada.container(service)
    ada.docker("network", "disconnect", network, container)
    try:
        answer = ada.ask("Which bird stood on the van?")
        if "error" in effect:
            assert answer["error"]["code"] == effect["error"]
        else:
            assert answer["ada"]["diary"]["status"] == effect["diary"]
        assert ada.checks()[check] != "ok"
        entry = ada.write(f"Written while {service} was cut off.")
        assert entry
    finally:
        ada.docker("network", "connect", "--alias", service, network, container)
    healed = until(ada.is_ready, RECOVERY_S, f"{service} is reached again")
    until(lambda: ada.all_indexed({entry}), RECOVERY_S, "written meanwhile, indexed now")
    ada.say(f"network to {service} cut and healed: ready after {healed:.1f} s")


def test_the_trainer_does_not_start_while_the_model_server_uses_the_gpu(ada: Deployment):
    done = ada.make("train", "SET=max_steps=4")
    assert done.returncode != 0
    assert "trainer: the GPU is in use by the model server since" in done.stderr + done.stdout
    assert ada.is_ready()


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        ("weights", "adapter_model.safetensors is damaged"),
        ("base", "names the base model"),
        ("hub", "base model 'Qwen/Qwen3-8B' is not in /models/hub"),
        ("template", "is not the template that Ada was trained with"),
    ],
)
def test_an_adapter_that_cannot_be_served_is_rejected_in_one_line(ada: Deployment, damage: str, line: str):
    outputs = ada.folder / f"outputs-{damage}"
    shutil.copytree((ada.folder / "outputs/ada_model").resolve(), outputs / "ada_model")
    _damage(outputs / "ada_model", damage)
    done = ada.run(
        *("docker", "compose", "run", "--rm", "--no-TTY", "--no-deps"),
        *("--volume", f"{outputs}:/app/outputs:ro", "vllm", "python3", "-m", "services.model"),
    )
    assert done.returncode == 2, done.stderr
    lines = [text for text in done.stderr.splitlines() if text.startswith("model: ")]
    assert len(lines) == 1
    assert line in lines[0]
    assert "Traceback" not in done.stderr


def _damage(folder, damage: str) -> None:
    manifest, adapter = folder / "MANIFEST.json", folder / "adapter_config.json"
    if damage == "weights":
        with (folder / "adapter_model.safetensors").open("r+b") as file:
            file.seek(1000)
            file.write(b"\0\1\2\3")
    if damage == "template":
        (folder / "chat_template.jinja").write_text("{{ messages }}")
    if damage in ("base", "hub"):
        values = json.loads(manifest.read_text())
        manifest.write_text(json.dumps(values | {"base_model": "Qwen/Qwen3-8B"}))
    if damage == "hub":
        values = json.loads(adapter.read_text())
        adapter.write_text(json.dumps(values | {"base_model_name_or_path": "Qwen/Qwen3-8B"}))
        record = json.loads(manifest.read_text()) | {
            "adapter_config_sha256": hashlib.sha256(adapter.read_bytes()).hexdigest()
        }
        manifest.write_text(json.dumps(record))


def test_everything_survives_down_and_up(ada: Deployment):
    before = ada.states()
    assert ada.make("down").returncode == 0
    assert not ada.compose("ps", "--all", "--quiet")
    assert ada.make("up").returncode == 0
    assert ada.states().keys() == before.keys()
    assert "heron" in ada.search("bird on a vehicle")[0]["text"]


def test_no_secret_is_in_an_inspection_a_history_an_environment_or_a_log(ada: Deployment):
    values = ada.secrets()
    assert len(values) == 4
    texts = {"logs": ada.compose("logs", "--no-color")}
    for service in SERVICES:
        container = ada.container(service)
        texts[f"inspect {service}"] = ada.docker("inspect", container)
        image = ada.docker("inspect", "--format", "{{.Image}}", container)
        texts[f"history {service}"] = ada.docker("history", "--no-trunc", image) + ada.docker(
            "inspect", image
        )
        texts[f"env {service}"] = ada.inside(service, "env; cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline")
        assert "PATH=" in texts[f"env {service}"]
    for source, text in texts.items():
        for name, value in values.items():
            assert value not in text, f"{name} is in {source}"


def test_nothing_but_adas_own_port_is_open_and_only_on_loopback(ada: Deployment):
    published = {}
    for service in SERVICES:
        ports = json.loads(ada.inspect(service, "{{json .NetworkSettings.Ports}}")) or {}
        published |= {f"{service} {port}": bindings for port, bindings in ports.items() if bindings}
    assert published == {"orchestrator 8080/tcp": [{"HostIp": "127.0.0.1", "HostPort": str(ada.port)}]}


def test_the_inner_services_cannot_reach_the_internet(ada: Deployment):
    probe = "python3 -c \"import socket; socket.create_connection(('1.1.1.1', 53), 3)\""
    for service in ("vllm", "worker"):
        assert "unreachable" in ada.inside(service, probe)


@pytest.mark.parametrize("service", SERVICES)
def test_no_container_runs_as_root_or_can_write_its_image(ada: Deployment, service: str):
    assert int(ada.inside(service, "id -u")) >= 999
    for path in ("/ada-was-here", "/etc/ada-was-here", "/app/ada-was-here", "/usr/ada-was-here"):
        output = ada.inside(service, f"touch {path} && echo written")
        assert "written" not in output
    status = dict(line.split(":\t", 1) for line in ada.inside(service, "cat /proc/self/status").splitlines())
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapInh")} == {0}
    assert status["NoNewPrivs"] == "1"


def test_the_services_that_serve_the_adapter_cannot_write_it(ada: Deployment):
    for service in ("vllm", "orchestrator"):
        assert "Read-only" in ada.inside(service, "touch /app/outputs/ada-was-here")
    assert "Read-only" in ada.inside("vllm", "touch /models/ada-was-here")


def test_a_stopped_worker_shuts_down_in_order(ada: Deployment):
    with ada.timed("docker compose stop worker"):
        ada.compose("stop", "worker")
    assert ada.inspect("worker", "{{.State.ExitCode}}") == "0"
    ada.compose("start", "worker")


def test_a_port_in_use_is_named_before_anything_is_started(ada: Deployment):
    done = ada.make("up", COMPOSE_PROJECT_NAME=f"{ada.project}-second")
    assert done.returncode != 0
    assert f"up: ADA_PORT {ada.port} on 127.0.0.1 can't be used" in done.stderr
    assert not ada.docker("ps", "--all", "--quiet", "--filter", f"name={ada.project}-second")


def test_without_keys_the_orchestrator_does_not_serve_other_machines(ada: Deployment):
    done = ada.run(
        *("docker", "compose", "run", "--rm", "--no-TTY", "--no-deps", "--env", "ADA_PUBLISH=0.0.0.0"),
        *("orchestrator", "python", "-m", "services.orchestrator"),
    )
    assert done.returncode == 2
    assert "orchestrator: ADA_PUBLISH is '0.0.0.0': without API keys only loopback is served" in done.stderr


def test_a_key_made_and_revoked_on_the_host_counts_in_the_running_container(ada: Deployment):
    def status(key: str) -> int:
        headers = {"Authorization": f"Bearer {key}"}
        return httpx.get(f"{ada.url}/v1/diary/entries", headers=headers, timeout=60).status_code

    assert status("none") == 200
    key = ada.make("-s", "key", "OWNER=local").stdout.strip()
    try:
        until(lambda: status("none") == 401, 5, "the door is closed")
        assert status(key) == 200
        assert "Read-only" in ada.inside("orchestrator", "touch /run/keys/ada-was-here")
        assert key not in ada.compose("logs", "orchestrator") + ada.inside("orchestrator", "cat /run/keys/*")
        assert ada.make("key", "REVOKE=local").returncode == 0
        until(lambda: status(key) == 401, 5, "the key is revoked")
        assert ada.is_healthy("orchestrator")
    finally:
        (ada.folder / "secrets/keys/keys.json").unlink()
        ada.compose("restart", "orchestrator")
        complaint = "set ADA_WITHOUT_KEYS=true"
        until(lambda: complaint in ada.compose("logs", "--tail", "5", "orchestrator"), 60, "keys are missed")
        with (ada.folder / ".env").open("a") as settings:
            settings.write("ADA_WITHOUT_KEYS=true\n")
        ada.compose("up", "--detach", "--no-build", "--no-deps", "orchestrator")
        until(ada.is_ready, RECOVERY_S, "ready without keys")


def test_a_nearly_full_disk_stops_the_start_in_one_line(ada: Deployment):
    done = ada.run(
        *("docker", "run", "--rm", "--tmpfs", "/var/lib/ada:size=50m,uid=10001"),
        *("--env", "LEDGER_URL=sqlite:////var/lib/ada/ledger.sqlite3", ada.environment["ADA_SERVICES_IMAGE"]),
        *("python", "-m", "services.orchestrator"),
    )
    assert done.returncode == 2
    assert done.stderr.strip() == "orchestrator: /var/lib/ada has less than 200 MiB free: free some disk"


def test_a_qdrant_of_another_version_is_named_and_ada_answers_without_it(ada: Deployment):
    if not ada.environment["QDRANT_IMAGE"].startswith("ada-test/"):
        pytest.skip("only the stand-in can pretend to be of another version")
    (ada.folder / "older.yaml").write_text("services: {qdrant: {environment: {STANDIN_VERSION: 1.12.4}}}")
    files = ("-f", "compose.yaml", "-f", "docker/compose.cpu.yaml")
    ada.compose(*files, "-f", "older.yaml", "up", "--detach", "--no-build", "--no-deps", "--wait", "qdrant")
    complaint = "is version 1.12.4, and this Ada speaks to 1.20.0 and its neighbours: set QDRANT_IMAGE"
    assert complaint in ada.checks()["index"]
    until(lambda: complaint in ada.compose("logs", "worker"), 60, "the worker says so too")
    assert ada.ask("Are you well?")["choices"]
    ada.compose(*files, "up", "--detach", "--no-build", "--no-deps", "--wait", "qdrant")
    until(ada.is_ready, RECOVERY_S, "ready with the right Qdrant")


def test_a_waiting_container_reports_its_problem_once_and_is_not_restarted(ada: Deployment):
    adapter = ada.folder / "outputs/ada_model"
    target = os.readlink(adapter)
    adapter.unlink()
    ada.compose("restart", "vllm")
    until(lambda: "no adapter" in ada.compose("logs", "--tail", "1", "vllm"), 60, "the complaint")
    time.sleep(12)
    lines = ada.compose("logs", "--no-log-prefix", "--since", "20s", "vllm").splitlines()
    assert len([line for line in lines if "no adapter" in line]) == 1
    assert ada.inspect("vllm", "{{.State.Status}} {{.RestartCount}}") == "running 0"
    adapter.symlink_to(target)
    ada.say(
        f"ready {until(ada.is_ready, RECOVERY_S, 'the adapter is back'):.1f} s after the adapter came back"
    )


def test_every_answer_has_the_disclosure_for_httpx(ada: Deployment):
    for path in ("/healthz", "/readyz", "/v1/models", "/v1/diary/entries", "/nothing"):
        assert httpx.get(f"{ada.url}{path}", timeout=60).headers["ai-disclosure"]
