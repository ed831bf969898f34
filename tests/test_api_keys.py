"""The file of API keys: what is written is read, nothing is lost, and what is broken is named.

.venv/bin/python -m pytest tests/test_api_keys.py
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from services.api_keys import Key, add_key, digest, read_keys, revoke_keys
from services.errors import ConfigError, FieldError

ROOT = Path(__file__).parents[1]
GOOD = {"sha256": "a" * 64, "owner": "drew", "created_at": "2026-11-23T01:20:00Z"}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def make(file: Path, owner: str = "drew", requests: int | None = None, tokens: int | None = None) -> str:
    return add_key(file, owner, requests, tokens, 0o600)[0]


def owners(file: Path) -> list[str]:
    return [key.owner for key in read_keys(file)]


def test_no_file_is_not_the_same_as_a_file_without_keys(file: Path):
    assert read_keys(file) is None
    make(file)
    revoke_keys(file, "drew", 0o600)
    assert read_keys(file) == []


def test_what_was_made_is_read(file: Path):
    key = make(file, "drew", 60, 0)
    (result,) = read_keys(file)
    assert result == Key(digest(key), "drew", result.created_at, 60, 0)
    assert result.id == digest(key)[:12]


def test_a_key_is_long_random_and_not_in_the_file(file: Path):
    keys = {make(file) for _ in range(20)}
    assert len(keys) == 20
    for key in keys:
        assert key.startswith("ada-")
        assert len(key) == 4 + 43  # 32 bytes in base64
        assert key[4:] not in file.read_text()


@pytest.mark.parametrize("mode", [0o600, 0o444])
def test_the_file_has_the_mode_that_was_asked_for_and_leaves_no_other_behind(file: Path, mode: int):
    for _ in range(2):
        add_key(file, "drew", None, None, mode)
    revoke_keys(file, read_keys(file)[0].id, mode)
    assert file.stat().st_mode & 0o7777 == mode
    assert list(file.parent.iterdir()) == [file]


def test_one_key_is_revoked_by_its_id_and_all_by_their_owner(file: Path):
    for owner in ("drew", "drew", "mila", "drew"):
        make(file, owner)
    first = read_keys(file)[0]
    assert revoke_keys(file, first.id, 0o600) == [first]
    assert owners(file) == ["drew", "mila", "drew"]
    assert len(revoke_keys(file, "drew", 0o600)) == 2
    assert owners(file) == ["mila"]


def test_who_has_no_key_can_lose_none(file: Path):
    make(file)
    with pytest.raises(FieldError, match="no key and no owner of one"):
        revoke_keys(file, "dre", 0o600)
    assert owners(file) == ["drew"]


@pytest.mark.parametrize(
    "owner", ["", " ", "-drew", "drew smith", "dréw", "a/b", "a" * 65, "0123456789ab", "a\n"]
)
def test_an_owner_is_a_plain_name_that_is_no_id(file: Path, owner: str):
    with pytest.raises(FieldError, match="OWNER"):
        make(file, owner)
    assert not file.exists()


@pytest.mark.parametrize("owner", ["d", "Drew", "drew.smith-2@example.org", "a" * 64])
def test_names_and_addresses_are_owners(file: Path, owner: str):
    make(file, owner)
    assert owners(file) == [owner]


def test_commands_at_once_lose_nothing(file: Path):
    code = "from pathlib import Path; from services.api_keys import add_key\n"
    code += f"for _ in range(10): add_key(Path({str(file)!r}), 'drew', None, None, 0o600)"
    running = [subprocess.Popen([sys.executable, "-c", code], cwd=ROOT) for _ in range(4)]
    assert [process.wait() for process in running] == [0] * 4
    assert len({key.id for key in read_keys(file)}) == 40


@pytest.mark.parametrize(
    ("content", "position"),
    [
        ('{"keys": [\n{', "line 2, column 2"),
        ("", "line 1, column 1"),
        ("[]", '"keys"'),
        ('{"keys": {}}', '"keys"'),
        ('{"keys": [], "more": 1}', '"keys"'),
        ('{"keys": [1]}', r"keys\[0\] is no object"),
        ('{"keys": [' + "[" * 100_000, "recursion"),
        (json.dumps({"keys": [GOOD, GOOD | {"sha256": "A" * 64}]}), r"keys\[1\]\.sha256"),
        (json.dumps({"keys": [GOOD | {"owner": "no one"}]}), r"keys\[0\]\.owner"),
        (json.dumps({"keys": [GOOD | {"created_at": None}]}), r"keys\[0\]\.created_at"),
        (json.dumps({"keys": [GOOD | {"requests_a_minute": -1}]}), r"keys\[0\]\.requests_a_minute"),
        (json.dumps({"keys": [GOOD | {"tokens_a_minute": True}]}), r"keys\[0\]\.tokens_a_minute"),
        (json.dumps({"keys": [GOOD | {"requests_per_minute": 9}]}), "unknown field 'requests_per_minute'"),
        (json.dumps({"keys": [GOOD, GOOD | {"owner": "mila"}]}), "the same key is there twice"),
    ],
)
def test_a_broken_file_is_named_with_place_and_remedy_and_stays_so(file: Path, content: str, position: str):
    file.write_text(content)
    for ask in (lambda: read_keys(file), lambda: make(file), lambda: revoke_keys(file, "drew", 0o600)):
        with pytest.raises(ConfigError, match=f"{file}: .*{position}.*make key OWNER="):
            ask()
    assert file.read_text() == content


def test_a_file_that_is_not_utf_8_is_named_with_the_byte(file: Path):
    file.write_bytes(b'{"keys": "\xff')
    with pytest.raises(ConfigError, match="byte 10 is not UTF-8"):
        read_keys(file)


def test_what_is_no_file_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match="it is no regular file"):
        read_keys(tmp_path)
    with pytest.raises(ConfigError, match="nowhere: No such file"):
        make(tmp_path / "nowhere" / "keys.json")


def test_a_time_zone_is_written_where_there_is_one_so_that_an_older_ada_reads_the_rest(file: Path):
    make(file)
    add_key(file, "kiri", None, None, 0o600, "Pacific/Auckland")
    first, second = json.loads(file.read_text())["keys"]
    assert "timezone" not in first
    assert second["timezone"] == "Pacific/Auckland"
    assert [key.timezone for key in read_keys(file)] == [None, "Pacific/Auckland"]


def test_a_time_zone_that_is_none_is_refused_when_a_key_is_made_and_when_it_is_read(file: Path):
    with pytest.raises(FieldError, match=r"TIMEZONE is wrong: 'Auckland' is no time zone"):
        add_key(file, "kiri", None, None, 0o600, "Auckland")
    assert read_keys(file) is None
    for timezone in ("Auckland", 12, ""):
        file.write_text(json.dumps({"keys": [{**GOOD, "timezone": timezone}]}))
        with pytest.raises(ConfigError, match=r"keys\[0\].timezone: .* is no time zone"):
            read_keys(file)
