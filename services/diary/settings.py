"""The diary's settings, which orchestrator and worker share; read from the environment once at the start."""

from pathlib import Path
from typing import TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from services.errors import ConfigError
from services.logs import Errors, Format, Level
from services.tracing import ENDPOINT

Settings = TypeVar("Settings", bound="DiarySettings")
SECRETS = Path("/run/secrets")  # mounted secrets of a container


class DiarySettings(BaseSettings):
    """Settings by the names in .env.example; the defaults are those of a bare machine."""

    model_config = SettingsConfigDict(
        extra="ignore",
        protected_namespaces=(),
        secrets_dir=SECRETS if SECRETS.is_dir() else None,
    )

    ledger_url: str = Field("sqlite:///data/diary/ledger.sqlite3", validation_alias="LEDGER_URL", repr=False)
    index_path: Path = Field(Path("data/diary/index"), validation_alias="INDEX_PATH")
    embedding_model: str = Field("sentence-transformers/all-MiniLM-L6-v2", validation_alias="EMBEDDING_MODEL")
    # torch, bf16 or onnx-int8; auto selects the fastest of this machine. Searches find the same.
    embedding_backend: str = Field("auto", validation_alias="EMBEDDING_BACKEND")
    embedding_cache: Path = Field(Path("data/diary/encoder"), validation_alias="EMBEDDING_CACHE")
    # The prefixes of queries and documents; unset, those of the model itself. Another document prefix makes
    # other vectors, and requires `make reindex`.
    embedding_query_prefix: str | None = Field(None, validation_alias="EMBEDDING_QUERY_PREFIX")
    embedding_document_prefix: str | None = Field(None, validation_alias="EMBEDDING_DOCUMENT_PREFIX")
    redis_url: str = Field("redis://127.0.0.1:6379/0", validation_alias="REDIS_URL")
    redis_password: str = Field("", validation_alias="REDIS_PASSWORD", repr=False)
    qdrant_url: str = Field("http://127.0.0.1:6333", validation_alias="QDRANT_URL")
    qdrant_api_key: str = Field("", validation_alias="QDRANT_API_KEY", repr=False)
    # text (for a terminal) or json; the lowest level; and whether messages of libraries' exceptions are
    # logged, which may quote a diary.
    log_format: Format = Field("text", validation_alias="LOG_FORMAT")
    log_level: Level = Field("INFO", validation_alias="LOG_LEVEL")
    log_errors: Errors = Field("kinds", validation_alias="LOG_ERRORS")
    # The OTLP endpoint that traces are sent to; empty: no traces.
    otlp_endpoint: str = Field("", validation_alias=ENDPOINT)

    @classmethod
    def load(cls: type[Settings]) -> Settings:
        """Read the environment and the secrets. Raises ConfigError that names the invalid setting."""
        try:
            return cls()
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigError(f"{first['loc'][0]}: {first['msg']}") from None
