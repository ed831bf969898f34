"""Ada may be trained after the API has started: until then it says so, and the diary is open already.

.venv/bin/python -m pytest tests/orchestrator/test_adapter.py
"""

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from api import CHAT, HELLO, MANIFEST, TEMPLATE, FakeVllm, open_client, open_state
from redis import Redis

import services.orchestrator.settings as orchestrator_settings
from services.api_keys import add_key
from services.diary.index.engine import IndexEngine
from services.diary.ledger.ledger import Ledger
from services.errors import ConfigError
from services.orchestrator.adapter import AdapterLoader
from services.orchestrator.dependencies import AppState
from services.orchestrator.settings import OrchestratorSettings
from services.persona.persona import DEFAULT_PERSONA

ROOT = Path(__file__).parents[2]


@pytest.fixture
def link(tmp_path: Path) -> Path:
    return tmp_path / "outputs" / "ada_model"


def trained(link: Path, run_id: str = "run-1") -> Path:
    """A run as the trainer leaves it, as far as the API reads it."""
    folder = link.parent / "runs" / run_id
    folder.mkdir(parents=True)
    (folder / "persona.toml").write_bytes(DEFAULT_PERSONA.read_bytes())
    (folder / "chat_template.jinja").write_text(TEMPLATE, encoding="utf-8")
    replace(MANIFEST, run_id=run_id).write(folder)
    return folder


def publish(link: Path, folder: Path) -> None:
    """Switch the link in one step, as the trainer does."""
    new = link.with_name(".new")
    new.symlink_to(Path("runs") / folder.name)
    os.replace(new, link)


class TestPublished:
    def test_before_training_the_error_names_make_train(self, link: Path):
        with pytest.raises(ConfigError, match=r"no adapter in .*make train"):
            AdapterLoader(link).adapter()

    def test_an_adapter_published_later_is_loaded_by_the_next_request(self, link: Path):
        published = AdapterLoader(link)
        with pytest.raises(ConfigError):
            published.adapter()
        publish(link, trained(link))
        adapter = published.adapter()
        assert adapter.manifest.run_id == "run-1"
        assert adapter.template == TEMPLATE
        assert adapter.persona.assistant_name == "Ada"

    def test_the_loaded_adapter_stays_when_the_link_changes(self, link: Path):
        publish(link, trained(link, "run-1"))
        published = AdapterLoader(link)
        first = published.adapter()
        publish(link, trained(link, "run-2"))
        assert published.adapter() is first
        assert AdapterLoader(link).adapter().manifest.run_id == "run-2"

    def test_a_link_changed_before_the_first_request_is_followed(self, link: Path):
        publish(link, trained(link, "run-1"))
        published = AdapterLoader(link)
        publish(link, trained(link, "run-2"))
        assert published.adapter().manifest.run_id == "run-2"

    def test_an_incomplete_run_is_not_an_adapter(self, link: Path):
        folder = trained(link)
        publish(link, folder)
        (folder / "MANIFEST.json").unlink()
        with pytest.raises(ConfigError, match=r"MANIFEST\.json is missing.*make train"):
            AdapterLoader(link).adapter()

    @pytest.mark.parametrize("name", ["persona.toml", "chat_template.jinja"])
    @pytest.mark.parametrize("content", [None, b"\xff"])
    def test_a_missing_or_binary_file_is_named(self, link: Path, name: str, content):
        folder = trained(link)
        publish(link, folder)
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_bytes(content)
        with pytest.raises(ConfigError, match=re.escape(name)):
            AdapterLoader(link).adapter()


class TestReach:
    @pytest.fixture(autouse=True, params=[False, True], ids=["by hand", "in a container"])
    def counts(self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
        """The name of the setting that counts: a container is where there is a folder of secrets."""
        secrets = tmp_path if request.param else tmp_path / "none"
        monkeypatch.setattr(orchestrator_settings, "SECRETS", secrets)
        return "ADA_PUBLISH" if request.param else "ADA_HOST"

    @pytest.mark.parametrize("address", ["127.0.0.1", "::1", "localhost"])
    def test_loopback_is_served_whatever_the_other_setting_is(self, counts: str, address: str):
        given = {"ADA_HOST": "0.0.0.0", "ADA_PUBLISH": "0.0.0.0", counts: address}
        OrchestratorSettings(**given).check_reach()

    @pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.168.1.7", "ada.example.org"])
    def test_any_other_address_is_refused_by_the_settings_name(self, counts: str, address: str):
        given = {"ADA_HOST": "127.0.0.1", "ADA_PUBLISH": "127.0.0.1", counts: address}
        with pytest.raises(ConfigError, match=f"^{counts} is '{re.escape(address)}'.*only loopback"):
            OrchestratorSettings(**given).check_reach()

    @pytest.mark.parametrize("keys", ['{"keys": []}', None], ids=["all revoked", "no file"])
    def test_without_a_key_the_error_says_how_to_make_one(
        self, counts: str, tmp_path: Path, keys: str | None
    ):
        given = {counts: "0.0.0.0", "KEYS_FILE": tmp_path / "keys.json"}
        if keys:
            (tmp_path / "keys.json").write_text(keys)
        settings = OrchestratorSettings(**{"ADA_PUBLISH": "127.0.0.1", **given})
        with pytest.raises(ConfigError, match=f"^{counts} is '0.0.0.0'.*`make key OWNER=…`"):
            settings.check_reach()

    def test_with_a_key_any_address_is_served(self, counts: str, tmp_path: Path):
        add_key(tmp_path / "keys.json", "drew", None, None, 0o600)
        given = {"ADA_PUBLISH": "127.0.0.1", counts: "0.0.0.0", "KEYS_FILE": tmp_path / "keys.json"}
        OrchestratorSettings(**given).check_reach()

    def test_broken_keys_are_refused_on_loopback_too(self, tmp_path: Path):
        (tmp_path / "keys.json").write_text("{")
        with pytest.raises(ConfigError, match=r"keys\.json: line 1, column 2"):
            OrchestratorSettings(KEYS_FILE=tmp_path / "keys.json").check_reach()


class TestSettings:
    def test_the_settings_come_from_the_environment(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("ADA_HOST", "0.0.0.0")
        monkeypatch.setenv("ADA_PUBLISH", "127.0.0.1")
        monkeypatch.setenv("ADA_PORT", "9090")
        settings = OrchestratorSettings.load()
        assert (settings.host, settings.publish, settings.port) == ("0.0.0.0", "127.0.0.1", 9090)

    @pytest.mark.parametrize(("name", "value"), [("ADA_PORT", "x"), ("MODEL_CONNECT_TIMEOUT_S", "0")])
    def test_an_invalid_setting_is_refused_by_name(self, monkeypatch, name: str, value: str):
        monkeypatch.setenv(name, value)
        with pytest.raises(ConfigError, match=name):
            OrchestratorSettings.load()

    def test_host_and_port_of_other_programs_are_ignored(self, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("HOST", "my-laptop")
        monkeypatch.setenv("PORT", "5000")
        settings = OrchestratorSettings.load()
        assert (settings.host, settings.port) == ("127.0.0.1", 8080)

    def test_a_refused_start_prints_one_line(self):
        answer = subprocess.run(
            [sys.executable, "-m", "services.orchestrator"],
            cwd=ROOT,
            env={**os.environ, "ADA_HOST": "0.0.0.0", "ADA_PUBLISH": "0.0.0.0"},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert answer.returncode == 2
        (line,) = answer.stderr.splitlines()
        assert re.match(r"orchestrator: ADA_\w+ is '0\.0\.0\.0'", line)


@pytest.fixture
async def client(
    link: Path, redis: Redis, ledger: Ledger, index: IndexEngine
) -> AsyncIterator[httpx.AsyncClient]:
    """The API as `python -m services.orchestrator` builds it, before anybody has trained."""
    settings = OrchestratorSettings(ADA_ADAPTER=link)

    @asynccontextmanager
    async def opener() -> AsyncIterator[AppState]:
        async with open_state(FakeVllm(), settings, ledger, redis, index) as state:
            yield state

    async with open_client(opener) as client:
        yield client


class TestBeforeAnybodyHasTrained:
    @pytest.mark.parametrize("name", ["ada", "base"])
    @pytest.mark.parametrize("stream", [True, False])
    async def test_a_chat_is_503_and_says_what_to_do(self, client, name: str, stream: bool):
        answer = await client.post(CHAT, json={**HELLO, "model": name, "stream": stream})
        assert answer.status_code == 503
        error = answer.json()["error"]
        assert error["code"] == "not_configured"
        assert "make train" in error["message"]

    async def test_the_models_are_503_too(self, client):
        answer = await client.get("/v1/models")
        assert answer.status_code == 503
        assert "make train" in answer.json()["error"]["message"]

    async def test_readyz_names_the_adapter(self, client):
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert answer.json()["status"] == "not ready"
        checks = answer.json()["checks"]
        assert "make train" in checks["adapter"]
        assert (checks["ledger"], checks["index"], checks["queue"]) == ("ok", "ok", "ok")

    async def test_the_process_is_alive_all_the_same(self, client):
        assert (await client.get("/healthz")).status_code == 200

    async def test_entries_are_accepted_and_found_again(self, client):
        accepted = await client.post("/v1/diary/entries", json={"text": "I planted garlic."})
        assert accepted.status_code == 202
        entry = (await client.get(f"/v1/diary/entries/{accepted.json()['id']}")).json()
        assert entry["text"] == "I planted garlic."

    async def test_ada_answers_after_training_without_a_restart(self, client, link: Path):
        assert (await client.post(CHAT, json=HELLO)).status_code == 503
        publish(link, trained(link))
        answer = await client.post(CHAT, json=HELLO)
        assert answer.json()["ada"]["adapter"] == "run-1"
        ready = await client.get("/readyz")
        assert (ready.status_code, ready.json()["status"]) == (200, "ready")

    async def test_readyz_names_an_adapter_without_its_template(self, client, link: Path):
        folder = trained(link)
        publish(link, folder)
        (folder / "chat_template.jinja").unlink()
        answer = await client.get("/readyz")
        assert answer.status_code == 503
        assert "chat_template.jinja" in answer.json()["checks"]["adapter"]
