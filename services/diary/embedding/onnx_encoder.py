"""A model's encoder in ONNX Runtime, with weights of 8 bits.

sentence-transformers' own `export_dynamic_quantized_onnx_model` is not used: it needs optimum-onnx, all of
whose versions require transformers below 4.58.

The file is converted from the model itself, so any model of the BERT family will do: exported, its attention
fused, its weights quantized per channel. With one scale per matrix, cosines with the original fall from 0.99
to 0.94 (measured on MiniLM). The conversion takes 10 s and a gigabyte, so it has a process of its own, and
its result is stored:

    python -m services.diary.embedding.onnx_encoder MODEL FILE
"""

import hashlib
import logging
import shutil
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from services.errors import ConfigError
from services.files import atomic_file

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

log = logging.getLogger("ada.diary")
Builder = Callable[[str, Path], None]  # writes the ONNX file of a model
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_OUTPUT = "last_hidden_state"


def build_in_process(name: str, path: Path) -> None:
    """Write the file in a process of its own. Raises ConfigError."""
    command = [sys.executable, "-m", __name__, name, str(path)]
    process = subprocess.run(
        command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False
    )
    if process.returncode:
        reason = "".join(process.stderr.strip().splitlines()[-1:])
        raise ConfigError(f"EMBEDDING_BACKEND onnx-int8: {name!r} can't be converted: {reason}")


def convert(
    model: "SentenceTransformer", name: str, cache: Path | None, build: Builder = build_in_process
) -> None:
    """Replace the encoder of `model` with its ONNX version; `name` is the hub id or directory of the model.

    The file is stored in the directory `cache`, if that can be written. `build` writes it. Raises
    ConfigError.
    """
    transformer = model[0]
    cached = _cache_path(transformer.auto_model, cache) if cache else None
    if cached and cached.exists():
        transformer.model = OnnxEncoder(cached, transformer.config)
        return
    with tempfile.TemporaryDirectory(prefix="ada-onnx-") as folder:
        path = Path(folder) / "encoder.onnx"
        build(name, path)
        transformer.model = OnnxEncoder(path, transformer.config)
        if cached:
            _store(path, cached)


class OnnxEncoder(torch.nn.Module):
    """Takes the place of a transformers model in sentence-transformers. Safe to share between threads."""

    def __init__(self, path: Path, config: Any) -> None:
        """Load an ONNX file."""
        import onnxruntime

        super().__init__()
        self.config = config
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # each batch has its own thread already
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def forward(self, **features: Any) -> dict[str, torch.Tensor]:
        """Token vectors of a batch: float32, (texts, tokens, dimension)."""
        ids = features["input_ids"]
        inputs = {name: features.get(name, torch.zeros_like(ids)).numpy() for name in _INPUTS}
        [tokens] = self._session.run([_OUTPUT], inputs)
        return {_OUTPUT: torch.from_numpy(tokens)}

    def __deepcopy__(self, memo: dict[int, Any]) -> "OnnxEncoder":
        return self


def _cache_path(encoder: torch.nn.Module, cache: Path) -> Path:
    """The file for these weights, as these versions of torch and onnxruntime convert them."""
    digest = hashlib.sha256(f"{version('torch')} {version('onnxruntime')}".encode())
    for name, weights in encoder.state_dict().items():
        digest.update(name.encode() + weights.numpy().tobytes())
    return cache / f"{digest.hexdigest()[:32]}.int8.onnx"


def _store(path: Path, cached: Path) -> None:
    try:
        cached.parent.mkdir(parents=True, exist_ok=True)
        with path.open("rb") as source, atomic_file(cached) as target:  # others may read or write it now
            shutil.copyfileobj(source, target)
    except OSError as error:
        log.warning("EMBEDDING_CACHE: the encoder can't be stored for the next start: %s", error)


def write_onnx(name: str, path: Path) -> None:
    """Write the encoder of a model to an ONNX file with weights of 8 bits."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers.optimizer import optimize_model
    from sentence_transformers import SentenceTransformer

    encoder: Any = SentenceTransformer(name, device="cpu")[0].auto_model
    plain, fused = path.with_suffix(".plain"), path.with_suffix(".fused")
    _export(encoder, plain)
    heads, size = encoder.config.num_attention_heads, encoder.config.hidden_size
    optimized = optimize_model(str(plain), "bert", num_heads=heads, hidden_size=size, opt_level=0)
    optimized.save_model_to_file(str(fused))
    floats = {"DefaultTensorType": 1}  # onnx.TensorProto.FLOAT, the type of what the fused nodes output
    quantize_dynamic(fused, path, weight_type=QuantType.QInt8, per_channel=True, extra_options=floats)


def _export(encoder: Any, path: Path) -> None:
    encoder.set_attn_implementation("eager")  # the only implementation that the optimizer can fuse
    tokens = torch.ones(2, 8, dtype=torch.long)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older exporter needs no further package, and warns
        torch.onnx.export(
            _Positional(encoder),
            (tokens, tokens, torch.zeros_like(tokens)),
            str(path),
            input_names=list(_INPUTS),
            output_names=[_OUTPUT],
            dynamic_axes={name: {0: "texts", 1: "tokens"} for name in (*_INPUTS, _OUTPUT)},
            opset_version=17,
            dynamo=False,
        )


class _Positional(torch.nn.Module):
    """Takes its inputs by position, as the exporter passes them."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self._encoder = encoder

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        """Token vectors of a batch: float32, (texts, tokens, dimension)."""
        output = self._encoder(input_ids=ids, attention_mask=mask, token_type_ids=types)
        tokens: torch.Tensor = output.last_hidden_state
        return tokens


if __name__ == "__main__":
    write_onnx(sys.argv[1], Path(sys.argv[2]))
