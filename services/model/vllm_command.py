"""The command line and environment with which vLLM serves the adapter that the manifest describes."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path

from services.errors import ConfigError
from services.model.settings import HOST, ModelSettings
from services.persona.base_model import locate
from services.persona.manifest import TEMPLATE_NAME, Manifest

_ROOT = Path(__file__).parents[2]
_PLUGIN = Path(__file__).with_name("cpu_plugin")
BASE_NAME = "base"  # the researcher's control: no adapter
ADA_NAME = "ada"
# The values that vLLM accepts for --max-lora-rank; an adapter of a rank in between is padded to the next one.
MAX_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
# Defaults for requests that set none; the same values as AdaChat's InferenceConfig (a test compares).
# Here and not in the orchestrator, because vLLM also cuts max_new_tokens to what the context leaves.
GENERATION_DEFAULTS = {"max_new_tokens": 512, "temperature": 0.7, "top_p": 0.8, "top_k": 20}


def vllm_command(manifest: Manifest, folder: Path, settings: ModelSettings, *, on_cpu: bool) -> list[str]:
    """argv of vLLM's OpenAI server for a run's own folder (not the link: vLLM's prefix cache is
    keyed by the adapter's path, so another run must come under another path)."""
    adapter = {"name": ADA_NAME, "path": str(folder), "base_model_name": BASE_NAME}
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server"]
    command += ["--model", locate(manifest.base_model, settings.model_cache)]
    command += ["--served-model-name", BASE_NAME]
    command += ["--enable-lora", "--max-loras", "1"]
    command += ["--max-lora-rank", str(_room_for(manifest.lora_rank))]
    command += ["--lora-modules", json.dumps(adapter)]
    command += ["--chat-template", str(folder / TEMPLATE_NAME)]
    command += ["--chat-template-content-format", "string"]
    command += ["--generation-config", "vllm"]  # not the base model's own
    command += ["--override-generation-config", json.dumps(GENERATION_DEFAULTS)]
    command += ["--host", settings.host, "--port", str(settings.port)]
    command += ["--max-model-len", str(settings.max_model_len)]
    command += ["--middleware", "services.model.guard.Guard"]
    command += ["--shutdown-timeout", "20", "--enable-request-id-headers"]
    command += ["--disable-access-log-for-endpoints", "/health,/metrics,/tokenize,/v1/models"]
    if settings.quantization:
        command += ["--quantization", settings.quantization]
    if on_cpu:
        # The default of 0.92 counts memory that other processes of a bare machine need.
        command += ["--gpu-memory-utilization", "0.2", "--dtype", "bfloat16"]
    return command


def _room_for(rank: int) -> int:
    room = next((ranks for ranks in MAX_LORA_RANKS if ranks >= rank), None)
    if room is None:
        raise ConfigError(f"the adapter has rank {rank}, and vLLM serves {MAX_LORA_RANKS[-1]} at most")
    return room


def vllm_environment(
    environment: Mapping[str, str], settings: ModelSettings, *, base_is_local: bool, on_cpu: bool
) -> dict[str, str]:
    """The environment for vLLM: no telemetry, no hub look-ups for a local model, all cores on a CPU."""
    added = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}
    # For the guard, which reads the key itself: it is on no command line.
    for_guard = {HOST: settings.host}
    if base_is_local:
        added["HF_HUB_OFFLINE"] = "1"
    if on_cpu:
        added["VLLM_CPU_KVCACHE_SPACE"] = str(settings.cpu_kv_cache_gib)
        # By default vLLM keeps one core free; on two cores that halves the speed (measured: 37 → 22 tok/s).
        added["VLLM_CPU_NUM_OF_RESERVED_CPU"] = "0"
    # vLLM's processes find services.model.guard, and cpu_lora by the folder of its entry point.
    paths = [str(_ROOT), str(_PLUGIN)] if on_cpu else [str(_ROOT)]
    paths += [environment["PYTHONPATH"]] if environment.get("PYTHONPATH") else []
    return {**added, **environment, **for_guard, "PYTHONPATH": os.pathsep.join(paths)}
