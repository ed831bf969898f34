"""A model's encoder computed by ONNX Runtime, with weights of 8 bits.

Made from the model itself, so that any model of the BERT family will do: exported, its attention fused,
its weights quantized channel by channel. Without the channels, cosines with the original fall from 0.99
to 0.94 (measured on MiniLM). The making takes 10 s and a gigabyte, so it has a process of its own, and what
it made is kept:

    python -m services.diary.embedding.onnx_encoder MODEL FILE
"""

import hashlib
import logging
import shutil
import subprocess
import sys
import tempfile
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from services.errors import ConfigError
from services.files import atomic_file

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

log = logging.getLogger("ada.diary")
_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_OUTPUT = "last_hidden_state"


def convert(model: "SentenceTransformer", name: str, cache: Path | None) -> None:
    """Let ONNX Runtime compute the encoder of `model` from now on; `name` is what it was loaded from.

    The file is kept in the folder `cache`, if that can be written. Raises ConfigError.
    """
    transformer = model[0]
    kept = _kept(transformer.auto_model, cache) if cache else None
    if kept and kept.exists():
        transformer.model = OnnxEncoder(kept, transformer.config)
        return
    with tempfile.TemporaryDirectory(prefix="ada-onnx-") as room:
        made = Path(room) / "made.onnx"
        make_apart(name, made)
        transformer.model = OnnxEncoder(made, transformer.config)
        if kept:
            _keep(made, kept)


class OnnxEncoder(torch.nn.Module):
    """Stands where sentence-transformers expects a model of transformers. Safe to share between threads."""

    def __init__(self, path: Path, config: Any) -> None:
        """Load an ONNX file."""
        import onnxruntime

        super().__init__()
        self.config = config
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1  # every batch has a thread of its own already
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def forward(self, **features: Any) -> dict[str, torch.Tensor]:
        """Token vectors of a batch, shape (texts, tokens, dimension)."""
        ids = features["input_ids"]
        given = {name: features.get(name, torch.zeros_like(ids)).numpy() for name in _INPUTS}
        [tokens] = self._session.run([_OUTPUT], given)
        return {_OUTPUT: torch.from_numpy(tokens)}

    def __deepcopy__(self, memo: dict[int, Any]) -> "OnnxEncoder":
        return self


def _kept(encoder: torch.nn.Module, cache: Path) -> Path:
    """Where these weights' file is kept, as these versions make it."""
    digest = hashlib.sha256(f"{version('torch')} {version('onnxruntime')}".encode())
    for name, weights in encoder.state_dict().items():
        digest.update(name.encode() + weights.numpy().tobytes())
    return cache / f"{digest.hexdigest()[:32]}.int8.onnx"


def _keep(made: Path, kept: Path) -> None:
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        with made.open("rb") as source, atomic_file(kept) as target:  # others may read or write it now
            shutil.copyfileobj(source, target)
    except OSError as error:
        log.warning("EMBEDDING_CACHE: the encoder is not kept for the next start: %s", error)


def make_apart(name: str, path: Path) -> None:
    """Write the file by a process of its own. Raises ConfigError."""
    command = [sys.executable, "-m", __name__, name, str(path)]
    done = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=False)
    if done.returncode:
        reason = "".join(done.stderr.strip().splitlines()[-1:])
        raise ConfigError(f"EMBEDDING_BACKEND onnx-int8 can't be made of {name!r}: {reason}")


def make(name: str, path: Path) -> None:
    """Write the encoder of a model as an ONNX file with weights of 8 bits."""
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers.optimizer import optimize_model
    from sentence_transformers import SentenceTransformer

    encoder: Any = SentenceTransformer(name, device="cpu")[0].auto_model
    plain, fused = path.with_suffix(".plain"), path.with_suffix(".fused")
    _export(encoder, plain)
    heads, size = encoder.config.num_attention_heads, encoder.config.hidden_size
    optimized = optimize_model(str(plain), "bert", num_heads=heads, hidden_size=size, opt_level=0)
    optimized.save_model_to_file(str(fused))
    floats = {"DefaultTensorType": 1}  # onnx.TensorProto.FLOAT, of what the fused nodes hand on
    quantize_dynamic(fused, path, weight_type=QuantType.QInt8, per_channel=True, extra_options=floats)


def _export(encoder: Any, path: Path) -> None:
    encoder.set_attn_implementation("eager")  # the only one whose attention the optimizer knows to fuse
    tokens = torch.ones(2, 8, dtype=torch.long)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter that needs no further package is the older one
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
    """Takes by position what the exporter hands over so."""

    def __init__(self, encoder: Any) -> None:
        super().__init__()
        self._encoder = encoder

    def forward(self, ids: torch.Tensor, mask: torch.Tensor, types: torch.Tensor) -> torch.Tensor:
        """Token vectors of a batch."""
        found = self._encoder(input_ids=ids, attention_mask=mask, token_type_ids=types)
        tokens: torch.Tensor = found.last_hidden_state
        return tokens


if __name__ == "__main__":
    make(sys.argv[1], Path(sys.argv[2]))
