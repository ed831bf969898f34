"""A base model of the hub's is asked for before vLLM is, where the hub can't be reached.

.venv/bin/python -m pytest tests/model/test_base_weights.py
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from services.errors import ConfigError
from services.model.base_weights import check_fetched

QWEN = "Qwen/Qwen3-8B"


def fetched(cache: Path, model_id: str = QWEN, file: str = "config.json") -> Path:
    """What huggingface_hub leaves of a model: a snapshot whose files are links to blobs."""
    repository = cache / f"models--{model_id.replace('/', '--')}"
    blob, snapshot = repository / "blobs" / "5f3c", repository / "snapshots" / "b968826d"
    blob.parent.mkdir(parents=True)
    blob.write_text("{}")
    snapshot.mkdir(parents=True)
    (snapshot / file).symlink_to(Path("../../blobs/5f3c"))
    return blob


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "hf"


@pytest.fixture
def offline(home: Path) -> dict[str, str]:
    return {"HF_HUB_OFFLINE": "1", "HF_HOME": str(home)}


def test_a_model_that_is_not_here_is_refused_with_both_remedies(home: Path, offline: dict[str, str]):
    with pytest.raises(ConfigError) as error:
        check_fetched(QWEN, offline)
    message = str(error.value)
    assert "\n" not in message
    assert f"base model 'Qwen/Qwen3-8B' is not in {home}/hub" in message
    assert "make train" in message
    assert "docker compose run --rm trainer hf download Qwen/Qwen3-8B" in message


@pytest.mark.parametrize("model_id", [QWEN, "gpt2"])
def test_a_model_that_was_fetched_is_accepted(home: Path, offline: dict[str, str], model_id: str):
    fetched(home / "hub", model_id)
    check_fetched(model_id, offline)


def test_another_model_is_not_this_one(home: Path, offline: dict[str, str]):
    fetched(home / "hub", "Qwen/Qwen3-8B-Base")
    with pytest.raises(ConfigError, match="Qwen3-8B'"):
        check_fetched(QWEN, offline)


@pytest.mark.parametrize(("file", "finished"), [("tokenizer.json", True), ("config.json", False)])
def test_neither_a_tokenizer_alone_nor_a_link_to_nothing_is_a_model(home, offline, file: str, finished: bool):
    blob = fetched(home / "hub", file=file)
    if not finished:
        blob.unlink()
    with pytest.raises(ConfigError):
        check_fetched(QWEN, offline)


def test_a_cache_named_by_itself_goes_before_the_home(tmp_path: Path, home: Path, offline: dict[str, str]):
    fetched(home / "hub")
    with pytest.raises(ConfigError, match=str(tmp_path / "elsewhere")):
        check_fetched(QWEN, {**offline, "HF_HUB_CACHE": str(tmp_path / "elsewhere")})
    fetched(tmp_path / "elsewhere")
    check_fetched(QWEN, {**offline, "HF_HUB_CACHE": str(tmp_path / "elsewhere")})


def test_the_users_own_cache_is_where_it_is_looked_for_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(ConfigError, match=str(tmp_path / ".cache" / "huggingface" / "hub")):
        check_fetched(QWEN, {"HF_HUB_OFFLINE": "1"})
    fetched(tmp_path / ".cache" / "huggingface" / "hub")
    check_fetched(QWEN, {"HF_HUB_OFFLINE": "1"})


@pytest.mark.parametrize("name", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
@pytest.mark.parametrize("value", ["1", "true", "TRUE", "on", "Yes"])
def test_every_yes_of_the_hubs_library_is_a_yes(home: Path, name: str, value: str):
    with pytest.raises(ConfigError):
        check_fetched(QWEN, {name: value, "HF_HOME": str(home)})


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"HF_HUB_OFFLINE": "0"},
        {"HF_HUB_OFFLINE": ""},
        {"HF_HUB_OFFLINE": "0", "TRANSFORMERS_OFFLINE": "1"},
    ],
)
def test_where_the_hub_can_be_reached_nothing_is_asked(home: Path, environment: dict[str, str]):
    check_fetched(QWEN, {**environment, "HF_HOME": str(home)})


@pytest.mark.parametrize(
    "setting",
    [
        {},
        {"HF_HOME": "/somewhere/hf"},
        {"HF_HUB_CACHE": "/somewhere/cache"},
        {"HF_HOME": "~/hf"},
        {"XDG_CACHE_HOME": "/somewhere/xdg"},
        {"XDG_CACHE_HOME": "/somewhere/xdg", "HF_HOME": "/somewhere/hf"},
        {"HF_HUB_CACHE": "~/cache"},
    ],
    ids=str,
)
def test_it_looks_where_the_hubs_library_would(setting: dict[str, str]):
    environment = {"HF_HUB_OFFLINE": "1", "HOME": os.environ["HOME"], **setting}
    program = "from huggingface_hub.constants import HF_HUB_CACHE as cache; print(cache)"
    command = [sys.executable, "-c", program]
    answer = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    with pytest.raises(ConfigError) as error:
        check_fetched("no/such-model", environment)
    assert f" is not in {answer.stdout.strip()}, " in str(error.value)
