"""Fixtures of the author: a model server, Ada, and somebody else."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from model_server import ModelServer, running

from services.persona.persona import Persona, load_persona


@pytest.fixture
def server() -> Iterator[ModelServer]:
    """A model server that runs."""
    with running() as model:
        yield model


@pytest.fixture
def persona() -> Persona:
    """Ada as she is."""
    return load_persona()


@pytest.fixture
def someone_else(tmp_path: Path) -> Path:
    """A persona who has nothing in common with Ada."""
    path = tmp_path / "persona.toml"
    path.write_text(SOMEONE_ELSE, encoding="utf-8")
    return path


SOMEONE_ELSE = """
[names]
user = "Mina"
assistant = "Jonas"
[system]
text = "You are Jonas, a lighthouse keeper. You are talking with Mina."
[[facts]]
date = "1961-10-02"
topic = "birth"
text = "I was born in Husum in October 1961."
[[facts]]
date = "1970"
topic = "family"
text = "My sister Frauke taught me to whistle."
[[facts]]
date = "2001-05"
topic = "work"
text = "I have kept the light since May 2001, with my dog, Skipper, for company."
"""
