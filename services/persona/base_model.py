"""Locates a base model: a hub id, a local folder, or weights from a package.

`package:NAME` stands for a folder NAME under the model cache, which `trainer/base_model.py` fills once.
The same name means the same weights to the trainer and to vLLM, on whatever machine each runs.
"""

from collections.abc import Mapping
from pathlib import Path

from services.errors import ConfigError

PACKAGE_PREFIX = "package:"
_DEFAULT_CACHE = ".cache/models"


def model_cache(environment: Mapping[str, str]) -> Path:
    """The folder of weights from packages: ADA_MODEL_CACHE, else .cache/models."""
    return Path(environment.get("ADA_MODEL_CACHE", _DEFAULT_CACHE)).absolute()


def locate(base_model: str, cache: Path) -> str:
    """The hub id or existing folder to pass to transformers or vLLM for `base_model`.

    Raises ConfigError when a packaged or local model is not there.
    """
    if base_model.startswith(PACKAGE_PREFIX):
        folder = cache / base_model.removeprefix(PACKAGE_PREFIX)
        if not (folder / "config.json").is_file():
            raise ConfigError(f"base model {base_model!r} is not in {cache}: run `make train`")
        return str(folder)
    if base_model.startswith(("/", "./", "../", "~")):
        folder = Path(base_model).expanduser()
        if not (folder / "config.json").is_file():
            raise ConfigError(f"base model {base_model!r}: there is no config.json in {folder}")
        return str(folder)
    return base_model
