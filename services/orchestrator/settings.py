"""The orchestrator's settings, read from the environment once, at the start."""

import json
from pathlib import Path

from pydantic import Field, field_validator

from services.api_keys import KEYS_FILE, read_keys
from services.diary.settings import SECRETS, DiarySettings
from services.errors import ConfigError
from services.local_time import IN_UTC, LocalTime, read_zone
from services.loopback import LOOPBACK
from services.orchestrator.http.cors import origin_of
from services.orchestrator.persona_guard import Policy
from services.orchestrator.vllm.client import Deadlines

MAX_BODY_BYTES = 4 << 20


class OrchestratorSettings(DiarySettings):
    """The diary's settings and the voice's own."""

    host: str = Field("127.0.0.1", validation_alias="ADA_HOST")
    port: int = Field(8080, ge=1, le=65535, validation_alias="ADA_PORT")
    # A container listens on all its addresses; what counts is where its port is published.
    publish: str = Field("", validation_alias="ADA_PUBLISH")
    # Pages of these origins may ask from a browser: https://chat.example,tauri://localhost, or a JSON list.
    # `*` is every origin, for those who have a key.
    cors: str = Field("", validation_alias="ADA_CORS_ORIGINS")
    # Who may ask: `make key OWNER=…`. Without this file everybody on this machine is the one owner `local`.
    keys_file: Path = Field(KEYS_FILE, validation_alias="KEYS_FILE")
    # Whether she is to go on without keys over a ledger that had them; without this their loss stops her.
    without_keys: bool = Field(False, validation_alias="ADA_WITHOUT_KEYS")
    # For each key that has no limits of its own. 0: none.
    key_requests_a_minute: int = Field(0, ge=0, validation_alias="KEY_REQUESTS_A_MINUTE")
    key_tokens_a_minute: int = Field(0, ge=0, validation_alias="KEY_TOKENS_A_MINUTE")
    adapter: Path = Field(Path("outputs/ada_model"), validation_alias="ADA_ADAPTER")
    model_url: str = Field("http://127.0.0.1:8000", validation_alias="MODEL_URL")
    # What the model server asks for. `make serve` makes a new one at each start when this is left out.
    model_api_key: str = Field("", validation_alias="MODEL_API_KEY", repr=False)
    connect_timeout_s: float = Field(5.0, gt=0, validation_alias="MODEL_CONNECT_TIMEOUT_S")
    # Seconds to wait for vLLM: the first token of a stream, each next one, and a whole answer.
    first_token_timeout_s: float = Field(120.0, gt=0, validation_alias="MODEL_FIRST_TOKEN_TIMEOUT_S")
    silence_timeout_s: float = Field(60.0, gt=0, validation_alias="MODEL_SILENCE_TIMEOUT_S")
    whole_timeout_s: float = Field(900.0, gt=0, validation_alias="MODEL_WHOLE_TIMEOUT_S")
    # So many requests are at vLLM at once, so many wait before it and so long (seconds); beyond that 429.
    max_running: int = Field(1024, ge=1, validation_alias="MODEL_MAX_RUNNING")
    max_waiting: int = Field(256, ge=0, validation_alias="MODEL_MAX_WAITING")
    queue_timeout_s: float = Field(30.0, gt=0, validation_alias="MODEL_QUEUE_TIMEOUT_S")
    # After so many seconds without an event a stream carries a comment, for proxies that cut what is silent.
    keep_alive_s: float = Field(15.0, gt=0, validation_alias="STREAM_KEEP_ALIVE_S")
    # A client who takes nothing of its answer for so many seconds is let go.
    send_timeout_s: float = Field(30.0, gt=0, validation_alias="SEND_TIMEOUT_S")
    # Of a request's body; a file that is imported may be larger.
    max_body_bytes: int = Field(MAX_BODY_BYTES, ge=1024, validation_alias="MAX_BODY_BYTES")
    # So many imports are read at once, of each owner and in all; another one is refused with 429.
    imports_at_once: int = Field(4, ge=1, validation_alias="IMPORTS_AT_ONCE")
    imports_an_owner: int = Field(2, ge=1, validation_alias="IMPORTS_AN_OWNER")
    # Of a file that is imported, and seconds for its upload, and again for reading it.
    import_max_bytes: int = Field(2**30, ge=1024, validation_alias="IMPORT_MAX_BYTES")
    import_timeout_s: float = Field(900.0, gt=0, validation_alias="IMPORT_TIMEOUT_S")
    # The prompts of one request times the answers to each.
    most_answers: int = Field(256, ge=1, validation_alias="MAX_ANSWERS_A_REQUEST")
    # On SIGTERM answers that are under way get so many seconds to end.
    drain_s: float = Field(20.0, ge=0, validation_alias="DRAIN_S")
    # So long an answer waits for the diary; then Ada answers without it, and says so.
    diary_deadline_s: float = Field(0.3, gt=0, validation_alias="DIARY_DEADLINE_S")
    # Of what the model reads at once (MODEL_MAX_LEN, 4096), so much at most is the diary's.
    budget_tokens: int = Field(1500, ge=0, validation_alias="DIARY_BUDGET_TOKENS")
    # Whether a persona may read and write the diary that belongs to another.
    diary_of_another_persona: Policy = Field("refuse", validation_alias="DIARY_OF_ANOTHER_PERSONA")
    # The time zone whose days are meant where neither request nor key names one. Empty: TZ's, else UTC.
    timezone: str = Field("", validation_alias="ADA_TIMEZONE")
    system_timezone: str = Field("", validation_alias="TZ")
    # So long after the last word of a chat Ada writes an entry of her own about it. 0: never by herself.
    reflect_after_s: float = Field(0.0, ge=0, validation_alias="REFLECT_AFTER_S")

    @field_validator("cors")
    @classmethod
    def _are_origins(cls, value: str) -> str:
        """Each as browsers write it, separated by commas."""
        is_json = value.lstrip().startswith("[")
        given = json.loads(value) if is_json else filter(None, map(str.strip, value.split(",")))
        return ",".join(origin_of(str(origin)) for origin in given)

    @property
    def cors_origins(self) -> tuple[str, ...]:
        """The origins whose pages may ask."""
        return tuple(filter(None, self.cors.split(",")))

    @property
    def deadlines(self) -> Deadlines:
        """How long vLLM is waited for."""
        return Deadlines(
            self.connect_timeout_s, self.first_token_timeout_s, self.silence_timeout_s, self.whole_timeout_s
        )

    @property
    def local_time(self) -> LocalTime:
        """The deployment's time zone. Of TZ what is no IANA name is passed over, since it may be anything."""
        try:
            return LocalTime(read_zone(self.timezone or self.system_timezone.removeprefix(":")))
        except ValueError:
            return IN_UTC

    @field_validator("timezone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        if name:
            read_zone(name)
        return name

    @property
    def is_on_loopback(self) -> bool:
        """Whether only this machine can ask Ada."""
        return self._reached_at()[1] in LOOPBACK

    def check_reach(self, *, had_keys: bool = False) -> None:
        """Raises ConfigError when others could ask without a key, keys were lost, or they are bad."""
        keys = read_keys(self.keys_file)
        if keys and self.without_keys:
            raise ConfigError(
                f"ADA_WITHOUT_KEYS is set, and {self.keys_file} holds keys: unset it, or move the file away"
            )
        if not keys and not self.is_on_loopback:
            name, address = self._reached_at()
            raise ConfigError(
                f"{name} is {address!r}: without API keys only loopback is served; "
                "make one by `make key OWNER=…`"
            )
        if keys is None and had_keys and not self.without_keys:
            raise ConfigError(
                f"{self.keys_file} is gone, and the ledger is of a time with API keys: bring the file back, "
                "make a key by `make key OWNER=…`, or set ADA_WITHOUT_KEYS=true to serve without any"
            )

    def _reached_at(self) -> tuple[str, str]:
        """The setting that counts, and its address."""
        in_container = bool(self.publish) and SECRETS.is_dir()
        return ("ADA_PUBLISH", self.publish) if in_container else ("ADA_HOST", self.host)
