"""The Makefile passes every value on unchanged, and its commands follow the settings.

.venv/bin/python -m pytest tests/test_makefile.py
"""

import os
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).parents[1] / "Makefile"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout whose Python prints its arguments, one per line, and Ada's address."""
    for name in ("pyproject.toml", "uv.lock", "install.sh"):
        (tmp_path / name).touch()
    python = tmp_path / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    script = 'for word; do echo "$word"; done\necho "port ${ADA_PORT-unset} url ${ADA_URL-unset}"'
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    (tmp_path / ".venv/ready").touch()
    return tmp_path


def make(checkout: Path, *words: str, **environment: str) -> list[str]:
    result = subprocess.run(
        ["make", "-s", "-f", MAKEFILE, *words],
        cwd=checkout,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.splitlines()


HOSTILE = "$(shell touch pwned) `touch pwned` $(touch pwned) ; touch pwned"


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("chat", "ARGS"),
        ("verify-diary", "ARGS"),
        ("reindex", "ARGS"),
        ("data", "SET"),
        ("train", "SET"),
        ("sweep", "SET"),
        ("conversations", "ARGS"),
        ("bench-train", "ARGS"),
        ("bench-ingest", "ARGS"),
        ("bench-voice", "ARGS"),
    ],
)
def test_values_with_several_words_are_split_as_in_a_shell_and_never_executed(
    checkout: Path, target: str, name: str
):
    words = make(checkout, target, f"{name}=one 'two words' \"three of them\" * {HOSTILE}", "LOCAL=1")
    assert words[-15:-1] == [
        *("one", "two words", "three of them", "*", "$(shell", "touch", "pwned)", "`touch", "pwned`"),
        *("$(touch", "pwned)", ";", "touch", "pwned"),
    ]
    assert not (checkout / "pwned").exists()


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("publish", "RUN"),
        ("data", "CONFIG"),
        ("train", "CONFIG"),
        ("sweep", "CONFIG"),
        ("conversations", "N"),
        ("bench-recall", "FILE"),
        ("bench-ingest", "FILE"),
    ],
)
def test_a_single_value_is_one_argument(checkout: Path, target: str, name: str):
    value = f'a "b" {HOSTILE}'
    assert value in make(checkout, target, f"{name}={value}", "LOCAL=1")
    assert value in make(checkout, target, "LOCAL=1", **{name: value})
    assert not (checkout / "pwned").exists()


def test_unbalanced_quotes_are_an_error(checkout: Path):
    with pytest.raises(subprocess.CalledProcessError):
        make(checkout, "train", "SET=persona='mine", "LOCAL=1")


@pytest.mark.parametrize("target", ["chat", "reindex", "verify-diary", "serve", "demo"])
def test_the_port_comes_from_the_command_line_the_environment_or_the_env_file(checkout: Path, target: str):
    assert make(checkout, target)[-1] == "port unset url unset"
    (checkout / ".env").write_text("ADA_PORT='7070' # mine\n")
    assert make(checkout, target)[-1] == "port 7070 url unset"
    assert make(checkout, target, ADA_PORT="8181")[-1] == "port 8181 url unset"
    assert make(checkout, target, "ADA_PORT=9090", ADA_PORT="8181")[-1] == "port 9090 url unset"
    assert make(checkout, target, "ADA_URL=http://ada.example")[-1] == "port 7070 url http://ada.example"


def test_a_dry_run_executes_nothing(checkout: Path):
    (checkout / ".venv/bin/python").write_text("#!/bin/sh\ntouch ran\n")
    for target in ("train", "bench"):
        make(checkout, "-n", target, "LOCAL=1", "LOCOMO=file")
    assert not (checkout / "ran").exists()
