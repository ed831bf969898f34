"""Settings of the model server: the adapter, vLLM's address and its API key."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from services.errors import ConfigError
from services.persona.base_model import model_cache

HOST, API_KEY = "MODEL_HOST", "MODEL_API_KEY"
SECRETS = Path("/run/secrets")  # where containers mount secrets


@dataclass(frozen=True)
class ModelSettings:
    """Read once from the environment; every field has a default that suits a bare machine."""

    adapter: Path
    model_cache: Path
    host: str
    port: int
    max_model_len: int  # tokens, prompt and answer together
    cpu_kv_cache_gib: int
    quantization: str  # of the base model, by vLLM's name for it; empty: as stored

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> "ModelSettings":
        """Read the settings. Raises ConfigError naming a variable that is not a valid number."""
        return cls(
            adapter=Path(environment.get("ADA_ADAPTER", "outputs/ada_model")).absolute(),
            model_cache=model_cache(environment),
            host=environment.get(HOST, "127.0.0.1"),
            port=_whole(environment, "MODEL_PORT", 8000),
            max_model_len=_whole(environment, "MODEL_MAX_LEN", 4096),
            cpu_kv_cache_gib=_whole(environment, "MODEL_CPU_KV_GIB", 1),
            quantization=environment.get("MODEL_QUANTIZATION", ""),
        )


def api_key(environment: Mapping[str, str], secrets: Path = SECRETS) -> str:
    """The key that every request must have, from the environment or a container's secret; empty: none."""
    path = secrets / API_KEY
    return environment.get(API_KEY) or (path.read_text(encoding="utf-8").strip() if path.is_file() else "")


def _whole(environment: Mapping[str, str], name: str, default: int) -> int:
    value = environment.get(name, str(default))
    if not value.isdecimal() or int(value) == 0:
        raise ConfigError(f"{name} is {value!r}: it must be a whole number above 0")
    return int(value)
