"""The orchestrator's settings, read from the environment once, at the start."""

from pathlib import Path

from pydantic import Field

from services.diary.settings import SECRETS, DiarySettings
from services.errors import ConfigError

LOOPBACK = ("127.0.0.1", "::1", "localhost")


class OrchestratorSettings(DiarySettings):
    """The diary's settings and the voice's own."""

    host: str = Field("127.0.0.1", validation_alias="ADA_HOST")
    port: int = Field(8080, ge=1, le=65535, validation_alias="ADA_PORT")
    # A container listens on all its addresses; what counts is where its port is published.
    publish: str = Field("", validation_alias="ADA_PUBLISH")
    adapter: Path = Field(Path("outputs/ada_model"), validation_alias="ADA_ADAPTER")
    model_url: str = Field("http://127.0.0.1:8000", validation_alias="MODEL_URL")
    connect_timeout_s: float = Field(5.0, gt=0, validation_alias="MODEL_CONNECT_TIMEOUT_S")
    silence_timeout_s: float = Field(300.0, gt=0, validation_alias="MODEL_SILENCE_TIMEOUT_S")
    # Of what the model reads at once (MODEL_MAX_LEN, 4096), so much at most is the diary's.
    budget_tokens: int = Field(1500, ge=0, validation_alias="DIARY_BUDGET_TOKENS")
    # So long after the last word of a chat Ada writes an entry of her own about it. 0: never by herself.
    reflect_after_s: float = Field(0.0, ge=0, validation_alias="REFLECT_AFTER_S")

    def check_reach(self) -> None:
        """Raises ConfigError when others than this machine could ask Ada: there are no API keys yet."""
        in_container = bool(self.publish) and SECRETS.is_dir()
        name, address = ("ADA_PUBLISH", self.publish) if in_container else ("ADA_HOST", self.host)
        if address not in LOOPBACK:
            raise ConfigError(f"{name} is {address!r}: without API keys only loopback is served")
