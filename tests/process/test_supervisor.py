"""Processes that are kept running, and where their lines go."""

import sys
import threading
from pathlib import Path

import pytest

from services.errors import ConfigError
from services.process.supervisor import keep_running

EXIT_2 = "import sys; print('model: no adapter: run `make train`', file=sys.stderr); sys.exit(2)"


def run(code: str, **outputs: Path) -> None:
    keep_running({"model": [sys.executable, "-c", code]}, {}, threading.Event(), outputs)


def test_a_process_that_refuses_to_start_ends_all_with_its_own_words(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"^model: no adapter: run `make train`$"):
        run(EXIT_2, model=tmp_path / "log")


def test_without_a_file_its_words_are_above(capfd: pytest.CaptureFixture[str]):
    with pytest.raises(ConfigError, match="model refused to start, as it says above"):
        run(EXIT_2)
    assert "run `make train`" in capfd.readouterr().err


def test_what_is_printed_before_and_after_a_death_is_all_in_the_file(tmp_path: Path):
    """A first start that dies, a second one that refuses: the file has both."""
    died = tmp_path / "died"
    code = f"import pathlib, sys; p = pathlib.Path({str(died)!r}); again = p.exists(); p.touch(); "
    code += "print('second' if again else 'first'); sys.exit(2 if again else 1)"
    with pytest.raises(ConfigError, match=r"^second$"):
        run(code, model=tmp_path / "log")
    assert (tmp_path / "log").read_text() == "first\nsecond\n"
