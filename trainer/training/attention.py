"""Attention over packed rows: PyTorch's variable-length flash kernel, known to transformers as `varlen`.

Each document of a packed row attends to itself alone, so that the cost is that of its own length squared.
Measured on an H100 with documents of 320 tokens: 4 % more tokens per second than flex_attention, whose first
step also compiles for a minute (docs/measurements/training.md).
"""

import inspect

import torch
from torch.nn.attention.varlen import varlen_attn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

NAME = "varlen"
# Its arguments differ by release: 2.13 has a flag for grouped queries, 2.11 accepts them without.
_PARAMETERS = inspect.signature(varlen_attn).parameters
_CAUSAL = {"window_size": (-1, 0)} if "window_size" in _PARAMETERS else {"is_causal": True}
_GROUPED = {"enable_gqa": True} if "enable_gqa" in _PARAMETERS else {}


def register() -> str:
    """Register `varlen` with transformers; returns that name for `attn_implementation`."""
    AttentionInterface.register(NAME, _forward)
    AttentionMaskInterface.register(NAME, _no_mask)
    return NAME


def is_fast_here() -> bool:
    """Whether this machine has the kernel: an NVIDIA card of the Ampere generation or later."""
    return bool(torch.cuda.is_available() and torch.cuda.get_device_capability() >= (8, 0))


def _no_mask(*args: object, **kwargs: object) -> None:
    """The borders of documents come as `cu_seq_lens`, from TRL's packing collator."""


def _forward(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: torch.Tensor | None = None,
    cu_seq_lens_k: torch.Tensor | None = None,
    max_length_q: int | None = None,
    max_length_k: int | None = None,
    **kwargs: object,
) -> tuple[torch.Tensor, None]:
    """Queries, keys and values are (1, H, T, D), the output is (1, T, H, D)."""
    if cu_seq_lens_q is None:  # one conversation, as in generation: nothing is packed
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **kwargs
        )
    output = varlen_attn(
        query[0].transpose(0, 1),
        key[0].transpose(0, 1),
        value[0].transpose(0, 1),
        cu_seq_lens_q,
        cu_seq_lens_k,
        max_length_q,
        max_length_k,
        scale=scaling,
        **_CAUSAL,
        **_GROUPED,
    )
    return output.unsqueeze(0), None
