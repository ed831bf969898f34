"""The orchestrator's settings, read from the environment once, at the start."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class OrchestratorSettings(BaseSettings):
    """Named as in .env.example; every field has a default that suits a bare machine."""

    model_config = SettingsConfigDict(extra="ignore", protected_namespaces=(), populate_by_name=True)

    host: str = Field("127.0.0.1", validation_alias="ADA_HOST")
    port: int = Field(8080, ge=1, le=65535, validation_alias="ADA_PORT")
    adapter: Path = Field(Path("outputs/ada_model"), validation_alias="ADA_ADAPTER")
    model_url: str = Field("http://127.0.0.1:8000", validation_alias="MODEL_URL")
    ledger_url: str = Field("sqlite:///data/diary/ledger.sqlite3", validation_alias="LEDGER_URL")
    index_path: Path = Field(Path("data/diary/index"), validation_alias="INDEX_PATH")
    redis_url: str = Field("redis://127.0.0.1:6379/0", validation_alias="REDIS_URL")
    embedding_model: str = Field("sentence-transformers/all-MiniLM-L6-v2", validation_alias="EMBEDDING_MODEL")
    connect_timeout_s: float = Field(5.0, gt=0, validation_alias="MODEL_CONNECT_TIMEOUT_S")
    silence_timeout_s: float = Field(300.0, gt=0, validation_alias="MODEL_SILENCE_TIMEOUT_S")
