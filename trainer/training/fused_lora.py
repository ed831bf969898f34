"""A linear layer and its LoRA in one differentiable function, with the same weights and the same result.

PEFT computes `base(x) + B(A(x)) * scale` as separate operations, each of which reads and writes an activation
of the layer's full width. Here the low-rank product is accumulated into the base layer's output by the matrix
multiplication itself, forward and backward, and the adapters stay in float32 while everything else is
computed in the activations' precision: an optimiser step late in a cosine is smaller than bfloat16 can hold.

Not covered, and left to PEFT: dropout, bias or DoRA in the adapter, several adapters at once.
"""

from types import MethodType
from typing import Any

import torch
from peft.tuners.lora import LoraLayer

ADAPTER = "default"


def fuse(model: torch.nn.Module) -> int:
    """Replace the forward pass of every plain LoRA layer; returns the number of layers replaced."""
    layers: list[Any] = [
        module for module in model.modules() if isinstance(module, LoraLayer) and _is_plain(module)
    ]
    for layer in layers:
        layer.forward = MethodType(_forward, layer)
    return len(layers)


def _is_plain(layer: LoraLayer) -> bool:
    return (
        isinstance(layer.get_base_layer(), torch.nn.Linear)
        and list(layer.lora_A) == [ADAPTER]
        and not layer.lora_variant
        and not layer.lora_bias[ADAPTER]
        and isinstance(layer.lora_dropout[ADAPTER], torch.nn.Identity)
    )


def _forward(layer: LoraLayer, x: torch.Tensor) -> torch.Tensor:
    if layer.disable_adapters or layer.merged:
        return layer.base_layer(x)
    base = layer.base_layer
    return _LoraLinear.apply(
        x,
        base.weight,
        base.bias,
        layer.lora_A[ADAPTER].weight,
        layer.lora_B[ADAPTER].weight,
        layer.scaling[ADAPTER],
    )


class _LoraLinear(torch.autograd.Function):
    """y = x Wᵀ + bias + scale · (x Aᵀ) Bᵀ with W frozen; W may be packed in 4 bits.

    x is (…, in), y is (…, out), W is (out, in), A is (rank, in), B is (out, rank).
    """

    @staticmethod
    def forward(
        ctx: torch.autograd.function.FunctionCtx,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        a: torch.Tensor,
        b: torch.Tensor,
        scale: float,
    ) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        low = rows @ a.to(x.dtype).t()
        y = torch.nn.functional.linear(rows, _plain(weight, x.dtype), bias)
        y.addmm_(low, b.to(x.dtype).t(), alpha=scale)
        ctx.save_for_backward(rows, low, weight, a, b)
        ctx.scale, ctx.shape = scale, x.shape
        return y.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, grad: torch.Tensor) -> tuple[object, ...]:
        rows, low, weight, a, b = ctx.saved_tensors
        grad = grad.reshape(-1, grad.shape[-1])
        grad_low = (grad @ b.to(grad.dtype)).mul_(ctx.scale)
        grad_a = (grad_low.t() @ rows).to(a.dtype)
        grad_b = (grad.t() @ low).mul_(ctx.scale).to(b.dtype)
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = grad @ _plain(weight, grad.dtype)
            grad_x = grad_x.addmm_(grad_low, a.to(grad.dtype)).view(ctx.shape)
        return grad_x, None, None, grad_a, grad_b, None


def _plain(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    """The layer's weight as a matrix of (out, in), unpacked if it is in 4 bits."""
    state = getattr(weight, "quant_state", None)
    if state is None:
        return weight.to(dtype)
    from bitsandbytes.functional import dequantize_4bit  # only on machines with a card

    return dequantize_4bit(weight, state).to(dtype)
