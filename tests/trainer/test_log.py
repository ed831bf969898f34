"""Where a run says what it does: a file for afterwards, stdout for what is told, stderr for what went wrong.

.venv/bin/python -m pytest tests/trainer/test_log.py
"""

import logging
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from services.errors import ConfigError
from trainer.log import append_to, log, log_to, setup_console


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Loggers belong to the process: what a test opens is closed again."""
    loggers = (logging.getLogger(), log)
    before = [list(logger.handlers) for logger in loggers]
    level = log.level
    yield
    logging.captureWarnings(False)
    log.setLevel(level)
    for logger, handlers in zip(loggers, before, strict=True):
        for handler in set(logger.handlers) - set(handlers):
            logger.removeHandler(handler)
            handler.close()


def test_the_file_is_named_by_the_time_and_its_folder_is_made(tmp_path: Path):
    path = log_to(tmp_path / "deep" / "logs")
    assert path.parent == tmp_path / "deep" / "logs"
    assert re.fullmatch(r"training_20\d{6}_\d{6}\.log", path.name)


def test_every_line_has_its_time_its_level_and_who_speaks(tmp_path: Path):
    path = log_to(tmp_path)
    log.info("plan: %s", "née")
    log.debug("fine")
    logging.getLogger("peft").warning("a library's")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert [re.sub(r"^[\d-]{10} [\d:]{8},\d{3} ", "", line) for line in lines] == [
        "INFO    trainer: plan: née",
        "DEBUG   trainer: fine",
        "WARNING peft: a library's",
    ]


def test_what_transformers_says_is_in_the_file(tmp_path: Path):
    from transformers.utils.logging import disable_propagation, enable_propagation

    path = log_to(tmp_path)
    enable_propagation()  # as training does
    logging.getLogger("transformers.trainer").warning("a library's")
    disable_propagation()
    assert "a library's" in path.read_text(encoding="utf-8")


def test_warnings_go_to_the_file_too(tmp_path: Path):
    logging.captureWarnings(False)  # another test may have left it on
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        path = log_to(tmp_path)
        warnings.warn("this will be gone", FutureWarning, stacklevel=1)
        logging.captureWarnings(False)
    assert "FutureWarning: this will be gone" in path.read_text(encoding="utf-8")


def test_a_second_writer_adds_to_the_file(tmp_path: Path):
    path = tmp_path / "training.log"
    path.write_text("of another process\n", encoding="utf-8")
    append_to(path)
    log.info("of this one")
    assert path.read_text(encoding="utf-8").startswith("of another process\n")
    assert path.read_text(encoding="utf-8").endswith("of this one\n")


@pytest.mark.parametrize("path", ["taken", "taken/deeper"])
def test_a_folder_that_cant_be_written_is_named_by_its_setting(tmp_path: Path, path: str):
    (tmp_path / "taken").write_text("a file where a folder should be")
    with pytest.raises(
        ConfigError, match=rf"^log_dir {re.escape(str(tmp_path / path))}: can't write there \("
    ):
        log_to(tmp_path / path)


def test_what_is_told_goes_to_stdout_and_what_went_wrong_to_stderr(capsys: pytest.CaptureFixture[str]):
    setup_console()
    log.debug("for the file alone")
    log.info("told")
    log.warning("a warning is told too")
    log.error("went wrong")
    message = capsys.readouterr()
    assert message.out == "told\na warning is told too\n"
    assert message.err == "went wrong\n"


def test_libraries_do_not_speak_on_the_terminal(capsys: pytest.CaptureFixture[str]):
    setup_console()
    logging.getLogger("transformers.trainer").info("chatter")
    assert capsys.readouterr() == ("", "")
