"""Where there were API keys, the loss of their file opens nothing.

.venv/bin/python -m pytest tests/orchestrator/http/test_key_history.py
"""

from pathlib import Path

import pytest
from api import open_state

from services.api_keys import add_key
from services.diary.entry import EntryDraft
from services.diary.ledger.ledger import Ledger
from services.errors import ConfigError, Unauthorized
from services.orchestrator.dependencies import check_keys
from services.orchestrator.http.auth import LOCAL, ApiKeyStore, KeyHistory
from services.orchestrator.settings import OrchestratorSettings


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "keys.json"


@pytest.fixture
def settings(file: Path) -> OrchestratorSettings:
    return OrchestratorSettings(KEYS_FILE=file)


def make(file: Path, owner: str = "drew") -> str:
    file.parent.mkdir(exist_ok=True)
    return add_key(file, owner, None, None, 0o600)[0]


def run_once(settings: OrchestratorSettings, ledger: Ledger) -> None:
    """A start of hers, with the file as it is now."""
    check_keys(settings, ledger)
    ApiKeyStore(settings.keys_file, open_without_keys=True, history=KeyHistory(ledger))


def test_a_ledger_that_never_had_keys_admits_this_machine(settings, ledger):
    for _ in range(2):
        run_once(settings, ledger)


def test_the_api_does_not_start_when_the_key_file_is_missing(settings, ledger, file: Path):
    make(file)
    run_once(settings, ledger)
    file.unlink()
    file.parent.rmdir()
    with pytest.raises(ConfigError, match=r"keys\.json is gone.*make key OWNER.*ADA_WITHOUT_KEYS"):
        check_keys(settings, ledger)


def test_keys_made_while_the_api_ran_are_remembered_too(settings, ledger, file: Path):
    ring = ApiKeyStore(file, open_without_keys=True, history=KeyHistory(ledger))
    make(file)
    ring.reload()
    file.unlink()
    with pytest.raises(ConfigError, match="is gone"):
        check_keys(settings, ledger)


def test_entries_of_an_owner_prove_keys_even_without_the_note(settings, ledger):
    ledger.for_owner("mila").add(EntryDraft(text="A heron."))
    with pytest.raises(ConfigError, match="is gone"):
        check_keys(settings, ledger)


def test_entries_of_the_owner_without_keys_prove_no_keys(settings, ledger):
    ledger.for_owner(LOCAL).add(EntryDraft(text="A heron."))
    check_keys(settings, ledger)


def test_a_new_key_allows_the_start(settings, ledger, file: Path):
    make(file)
    run_once(settings, ledger)
    file.unlink()
    make(file, "mila")
    run_once(settings, ledger)


def test_the_setting_for_no_keys_allows_the_start(settings, ledger, file: Path):
    make(file)
    run_once(settings, ledger)
    file.unlink()
    check_keys(OrchestratorSettings(KEYS_FILE=file, ADA_WITHOUT_KEYS=True), ledger)


def test_the_setting_for_no_keys_is_refused_when_keys_exist(ledger, file: Path):
    make(file)
    with pytest.raises(ConfigError, match="ADA_WITHOUT_KEYS is set"):
        check_keys(OrchestratorSettings(KEYS_FILE=file, ADA_WITHOUT_KEYS=True), ledger)


async def test_a_key_file_lost_between_check_and_start_admits_nobody(
    settings, ledger, file: Path, model, redis, index
):
    make(file)
    run_once(settings, ledger)
    file.unlink()
    async with open_state(model, settings, ledger, redis, index) as state:
        with pytest.raises(Unauthorized):
            state.api_keys.caller(None)
