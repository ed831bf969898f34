"""Checks that a base model from the Hugging Face hub was downloaded, where the hub can't be reached."""

from collections.abc import Mapping
from pathlib import Path

from services.errors import ConfigError


def check_fetched(model_id: str, environment: Mapping[str, str]) -> None:
    """Raises ConfigError when vLLM may not download `model_id` and it was not downloaded before.

    Looks in the cache of huggingface_hub (HF_HUB_CACHE, else `hub` in HF_HOME), without that library.
    """
    offline = environment.get("HF_HUB_OFFLINE") or environment.get("TRANSFORMERS_OFFLINE") or "0"
    if offline.upper() not in ("1", "ON", "YES", "TRUE"):
        return
    home = environment.get("HF_HOME") or Path(environment.get("XDG_CACHE_HOME", "~/.cache"), "huggingface")
    cache = Path(environment.get("HF_HUB_CACHE") or Path(home, "hub")).expanduser()
    repository = cache / f"models--{model_id.replace('/', '--')}"
    if not any(repository.glob("snapshots/*/config.json")):
        raise ConfigError(
            f"base model {model_id!r} is not in {cache}, and nothing is fetched from here: run `make train`, "
            f"or fetch it alone: `docker compose run --rm trainer hf download {model_id}`"
        )
