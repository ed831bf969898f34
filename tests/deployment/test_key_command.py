"""`make key`: made once, listed, taken away; only the new key itself is on stdout.

.venv/bin/python -m pytest tests/deployment/test_key_command.py
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_front_door import ROOT, ask, refusal

from services.api_keys import KEYS_FILE, digest, read_keys


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("KEYS_FILE")
    return tmp_path


def make(capfd: pytest.CaptureFixture[str], *words: str) -> str:
    """A new key, as a pipe would have it."""
    capfd.readouterr()
    assert ask("key", *words) == 0
    return capfd.readouterr().out.removesuffix("\n")


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def test_a_key_is_made_and_its_hash_kept(capfd):
    key = make(capfd, "OWNER=drew", "RPM=60", "TPM=", "REVOKE=")
    (content,) = read_keys(KEYS_FILE)
    assert (content.sha256, content.owner) == (digest(key), "drew")
    assert (content.requests_a_minute, content.tokens_a_minute) == (60, None)


def test_the_file_is_readable_to_a_container_in_a_folder_for_its_owner_alone(capfd):
    make(capfd, "OWNER=drew")
    assert (mode(Path("secrets")), mode(KEYS_FILE.parent), mode(KEYS_FILE)) == (0o700, 0o755, 0o444)


def test_a_file_of_ones_own_is_for_its_owner_alone(capfd, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("KEYS_FILE", str(folder / "mine.json"))
    make(capfd, "OWNER=drew")
    assert mode(folder / "mine.json") == 0o600
    assert not Path("secrets").exists()


def test_the_first_key_says_whose_the_diary_written_before_is(capfd):
    """Whoever makes a first key for another name would miss all that was written before."""
    assert ask("key", "OWNER=drew") == 0
    assert "written without keys is `local`'s: make key OWNER=local" in capfd.readouterr().err
    assert ask("key", "OWNER=mila") == 0
    assert "local" not in capfd.readouterr().err


def test_the_list_tells_ids_owners_and_limits_and_no_key(capfd):
    keys = [make(capfd, "OWNER=drew"), make(capfd, "OWNER=mila", "RPM=0", "TPM=1000")]
    first, second = make(capfd).splitlines()
    assert first.split()[:2] == [digest(keys[0])[:12], "drew"]
    assert first.endswith("the default limits")
    assert second.endswith("any requests a minute, 1000 tokens a minute")
    assert not any(key in first + second for key in keys)


def test_without_keys_the_list_says_who_is_served(capfd):
    assert ask("key") == 0
    assert "the one owner `local`" in capfd.readouterr().err


def test_the_last_key_that_is_revoked_leaves_nobody_and_says_so(capfd):
    for owner in ("drew", "mila"):
        make(capfd, f"OWNER={owner}")
    ask("key", "REVOKE=drew")
    assert "nobody gets in" not in capfd.readouterr().err
    ask("key", f"REVOKE={read_keys(KEYS_FILE)[0].id}")
    assert "no key is left: nobody gets in" in capfd.readouterr().err
    assert read_keys(KEYS_FILE) == []


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("OWNER=no one",), "OWNER is 'no one'"),
        (("RPM=3",), "add its owner"),
        (("OWNER=drew", "RPM=many"), "RPM is 'many'"),
        (("OWNER=drew", "TPM=-1"), "TPM is '-1'"),
        (("OWNER=drew", "TPM=1000000000"), "a whole number up to 999999999"),
        (("OWNER=drew", "REVOKE=mila"), "REVOKE stands alone"),
        (("REVOKE=mila",), "no key and no owner of one"),
        (("drew",), "drew is unknown here"),
    ],
)
def test_what_can_not_be_done_is_one_line_and_does_nothing(capfd, words: tuple[str, ...], why: str):
    assert why in refusal(capfd, "key", *words)
    assert not KEYS_FILE.exists()


def test_a_broken_file_is_one_line(capfd):
    make(capfd, "OWNER=drew")
    KEYS_FILE.chmod(0o600)
    KEYS_FILE.write_text("{")
    assert "keys.json: line 1, column 2" in refusal(capfd, "key", "OWNER=drew")


@pytest.mark.parametrize(
    "value",
    [
        "$(shell touch pwned)",
        "$$(touch pwned)",
        "`touch pwned`",
        '"; touch pwned; "',
        "'; touch pwned; '",
        "a\ntouch pwned",
        "$(touch pwned)",
    ],
)
@pytest.mark.parametrize("name", ["OWNER", "ADA_PORT", "ADA_URL"])
def test_neither_make_nor_a_shell_runs_what_a_value_says(folder: Path, name: str, value: str):
    words = {"OWNER": "drew", name: value}
    command = ["make", "-s", "-f", ROOT / "Makefile", "key", *(f"{n}={v}" for n, v in words.items())]
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert not (folder / "pwned").exists()
    if name == "OWNER":
        assert "key: OWNER is" in done.stderr


def test_make_hands_the_words_on_and_needs_nothing_installed(folder: Path):
    """On a host with Docker there is a python3 and nothing else: no packages are in reach here."""
    (folder / "python3").write_text(f'#!/bin/sh\nexec {sys.executable} -IS -c "{BARE}" "$@"\n')
    (folder / "python3").chmod(0o755)
    path = {"PATH": f"{folder}:{os.environ['PATH']}"}
    command = ["make", "-s", "-f", ROOT / "Makefile", "key", "OWNER=drew", "TPM=5"]
    done = subprocess.run(command, env=path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (content,) = read_keys(KEYS_FILE)
    assert (digest(done.stdout.strip()), content.tokens_a_minute) == (content.sha256, 5)


BARE = f"import runpy, sys; sys.path.insert(0, {str(ROOT)!r}); sys.argv[:] = ['', *sys.argv[3:]]; "
BARE += "runpy.run_module('services.deployment', run_name='__main__')"
