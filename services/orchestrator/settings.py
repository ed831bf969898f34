"""The orchestrator's settings, read from the environment once, at startup."""

import json
from pathlib import Path

from pydantic import Field, field_validator

from services.api_keys import KEYS_FILE, read_keys
from services.diary.settings import SECRETS, DiarySettings
from services.errors import ConfigError
from services.local_time import IN_UTC, LocalTime, read_zone
from services.orchestrator.http.body import DEFAULT_LIMITS
from services.orchestrator.http.cors import origin_of
from services.orchestrator.persona_guard import Policy
from services.orchestrator.vllm.client import Deadlines
from services.urls import LOOPBACK


class OrchestratorSettings(DiarySettings):
    """The diary's settings and the orchestrator's own."""

    host: str = Field("127.0.0.1", validation_alias="ADA_HOST")
    port: int = Field(8080, ge=1, le=65535, validation_alias="ADA_PORT")
    # A container listens on all its addresses; where its port is published decides who reaches it.
    publish: str = Field("", validation_alias="ADA_PUBLISH")
    # Pages of these origins may send requests: https://chat.example,tauri://localhost, or a JSON list.
    # `*` is every origin; a key is needed all the same.
    cors: str = Field("", validation_alias="ADA_CORS_ORIGINS")
    # The API keys, made by `make key OWNER=…`. Without this file every request of this machine is `local`'s.
    keys_file: Path = Field(KEYS_FILE, validation_alias="KEYS_FILE")
    # Serve without keys over a ledger that was used with keys; otherwise their loss is an error.
    without_keys: bool = Field(False, validation_alias="ADA_WITHOUT_KEYS")
    # For each key without limits of its own. 0: no limit.
    key_requests_a_minute: int = Field(0, ge=0, validation_alias="KEY_REQUESTS_A_MINUTE")
    key_tokens_a_minute: int = Field(0, ge=0, validation_alias="KEY_TOKENS_A_MINUTE")
    adapter: Path = Field(Path("outputs/ada_model"), validation_alias="ADA_ADAPTER")
    model_url: str = Field("http://127.0.0.1:8000", validation_alias="MODEL_URL")
    # The model server's key. `make serve` makes a new one at each start when this is empty.
    model_api_key: str = Field("", validation_alias="MODEL_API_KEY", repr=False)
    connect_timeout_s: float = Field(5.0, gt=0, validation_alias="MODEL_CONNECT_TIMEOUT_S")
    # Seconds to wait for vLLM: for a stream's first token, for each next one, and for a whole answer.
    first_token_timeout_s: float = Field(120.0, gt=0, validation_alias="MODEL_FIRST_TOKEN_TIMEOUT_S")
    silence_timeout_s: float = Field(60.0, gt=0, validation_alias="MODEL_SILENCE_TIMEOUT_S")
    whole_timeout_s: float = Field(900.0, gt=0, validation_alias="MODEL_WHOLE_TIMEOUT_S")
    # Requests at vLLM at once, requests that wait for a slot, and seconds that one waits; beyond that 429.
    max_running: int = Field(1024, ge=1, validation_alias="MODEL_MAX_RUNNING")
    max_waiting: int = Field(256, ge=0, validation_alias="MODEL_MAX_WAITING")
    queue_timeout_s: float = Field(30.0, gt=0, validation_alias="MODEL_QUEUE_TIMEOUT_S")
    # Seconds without an event until a stream carries a comment, for proxies that close silent connections.
    keep_alive_s: float = Field(15.0, gt=0, validation_alias="STREAM_KEEP_ALIVE_S")
    # Seconds after which a client that reads nothing of its answer is disconnected.
    send_timeout_s: float = Field(30.0, gt=0, validation_alias="SEND_TIMEOUT_S")
    # Of a request's body; an imported file may be larger.
    max_body_bytes: int = Field(DEFAULT_LIMITS.max_bytes, ge=1024, validation_alias="MAX_BODY_BYTES")
    # Imports that run at once, in all and of each owner; another one is refused with 429.
    imports_at_once: int = Field(4, ge=1, validation_alias="IMPORTS_AT_ONCE")
    imports_an_owner: int = Field(2, ge=1, validation_alias="IMPORTS_AN_OWNER")
    # Bytes of an imported file; seconds for its upload, and again for reading it.
    import_max_bytes: int = Field(2**30, ge=1024, validation_alias="IMPORT_MAX_BYTES")
    import_timeout_s: float = Field(900.0, gt=0, validation_alias="IMPORT_TIMEOUT_S")
    # The prompts of one request times the answers to each prompt.
    max_answers: int = Field(256, ge=1, validation_alias="MAX_ANSWERS_A_REQUEST")
    # Seconds that answers in progress get to finish on SIGTERM.
    drain_s: float = Field(20.0, ge=0, validation_alias="DRAIN_S")
    # Seconds that an answer waits for the diary; then it is given without it, and says so.
    diary_deadline_s: float = Field(0.3, gt=0, validation_alias="DIARY_DEADLINE_S")
    # Tokens of the diary's block in a prompt, out of the model's context (MODEL_MAX_LEN, 4096).
    budget_tokens: int = Field(1500, ge=0, validation_alias="DIARY_BUDGET_TOKENS")
    # Whether a persona may read and write a diary that belongs to another.
    diary_of_another_persona: Policy = Field("refuse", validation_alias="DIARY_OF_ANOTHER_PERSONA")
    # The time zone of requests where neither they nor their key name one. Empty: TZ's, else UTC.
    timezone: str = Field("", validation_alias="ADA_TIMEZONE")
    system_timezone: str = Field("", validation_alias="TZ")
    # Seconds of silence after which Ada writes an entry about a chat by herself. 0: never.
    reflect_after_s: float = Field(0.0, ge=0, validation_alias="REFLECT_AFTER_S")

    @field_validator("cors")
    @classmethod
    def _check_origins(cls, value: str) -> str:
        """The origins as browsers write them, separated by commas."""
        is_json = value.lstrip().startswith("[")
        origins = json.loads(value) if is_json else filter(None, map(str.strip, value.split(",")))
        return ",".join(origin_of(str(origin)) for origin in origins)

    @property
    def cors_origins(self) -> tuple[str, ...]:
        """The origins whose pages may send requests."""
        return tuple(filter(None, self.cors.split(",")))

    @property
    def deadlines(self) -> Deadlines:
        """The timeouts for vLLM."""
        return Deadlines(
            self.connect_timeout_s, self.first_token_timeout_s, self.silence_timeout_s, self.whole_timeout_s
        )

    @property
    def local_time(self) -> LocalTime:
        """The deployment's time zone. TZ may hold anything: what is not an IANA name is ignored."""
        try:
            return LocalTime(read_zone(self.timezone or self.system_timezone.removeprefix(":")))
        except ValueError:
            return IN_UTC

    @field_validator("timezone")
    @classmethod
    def _check_timezone(cls, name: str) -> str:
        if name:
            read_zone(name)
        return name

    @property
    def is_on_loopback(self) -> bool:
        """Whether only this machine can reach the API."""
        return self._published_address()[1] in LOOPBACK

    def check_reach(self, *, had_keys: bool = False) -> None:
        """Raises ConfigError when other machines could do without a key, or keys are lost or invalid."""
        keys = read_keys(self.keys_file)
        if keys and self.without_keys:
            raise ConfigError(
                f"ADA_WITHOUT_KEYS is set, and {self.keys_file} holds keys: unset it, or move the file away"
            )
        if not keys and not self.is_on_loopback:
            name, address = self._published_address()
            raise ConfigError(
                f"{name} is {address!r}: without API keys only loopback is served; "
                "make one by `make key OWNER=…`"
            )
        if keys is None and had_keys and not self.without_keys:
            raise ConfigError(
                f"{self.keys_file} is gone, and this ledger was used with API keys: restore the file, "
                "make a key by `make key OWNER=…`, or set ADA_WITHOUT_KEYS=true to serve without any"
            )

    def _published_address(self) -> tuple[str, str]:
        """The setting that decides who reaches the API, and its value."""
        in_container = bool(self.publish) and SECRETS.is_dir()
        return ("ADA_PUBLISH", self.publish) if in_container else ("ADA_HOST", self.host)
