"""How a step is computed in the available memory; none of these choices changes what is learned.

A step always learns from `batch_size * gradient_accumulation_steps` rows. The plan decides how many of them a
card processes at once, whether activations are stored or recomputed in the backward pass, and, under
`quantization: auto`, whether the frozen base is in bfloat16 or in 4-bit NF4. The constants and the order of
plans were measured on Qwen3-8B and an H100 (docs/measurements/training.md).
"""

from dataclasses import dataclass
from math import gcd

from services.errors import ConfigError
from trainer.base_model import Shape
from trainer.config import TrainingConfig

GIB = 2**30
NF4_BYTES = 0.5625  # per weight, with its block's scale in float32
ADAPTER_BYTES = 16  # per weight: itself, its gradient and AdamW's two moments, in float32


@dataclass(frozen=True)
class Plan:
    """What one card computes in one step."""

    quantization: str  # nf4 or none
    rows: int  # B, of max_seq_length tokens each, in one forward pass
    accumulation: int  # forward passes per step
    recompute: bool  # gradient checkpointing: activations are recomputed
    estimate_gib: float | None = None  # None on the CPU, whose memory is not planned

    def __str__(self) -> str:
        base = "bfloat16" if self.quantization == "none" else "NF4"
        activations = "computed again" if self.recompute else "kept"
        rows = f"{self.rows} rows at once, {self.accumulation} times a step"
        memory = f", about {self.estimate_gib:.1f} GiB" if self.estimate_gib else ""
        return f"base in {base}, {rows}, activations {activations}{memory}"


def plan_for_cpu(config: TrainingConfig, processes: int = 1) -> Plan:
    """One batch_size at once, as configured; activations are stored unless the config says otherwise."""
    share = _share(config, processes)
    rows = config.rows_at_once or gcd(config.batch_size, share)
    return Plan("none", rows, _times(share, rows), bool(config.gradient_checkpointing))


def plan_for_cards(
    config: TrainingConfig, shape: Shape, memory: float, cards: int = 1, *, varlen: bool = True
) -> Plan:
    """The fastest plan that fits `memory`, in bytes of one card.

    Without the kernel for rows of varying length (`varlen`), attention needs more memory. Raises ConfigError
    when no plan fits, with the settings to change.
    """
    share = _share(config, cards)
    plans = [
        Plan(quantization, rows, _times(share, rows), recompute)
        # Many rows first: measured in NF4, one row at once is 2.6 times slower than four.
        for rows in ([config.rows_at_once] if config.rows_at_once else _divisors(share))
        for quantization, recompute in _by_speed(config)
    ]
    if not plans:
        raise ConfigError("sharding fsdp is for a bfloat16 base: set quantization=none, or sharding=ddp")
    shards = cards if config.sharding == "fsdp" else 1
    for plan in plans:
        needed = estimate(plan, shape, config.max_seq_length, shards)
        needed += 0 if varlen else masked_attention(plan, shape, config.max_seq_length, packed=config.packing)
        if needed <= memory:
            return Plan(plan.quantization, plan.rows, plan.accumulation, plan.recompute, needed / GIB)
    raise ConfigError(
        f"this run needs about {needed / GIB:.1f} GiB and the plan is for {memory / GIB:.1f}: "
        "set max_seq_length=1024 or lora_rank=32, and leave quantization, rows_at_once and "
        "gradient_checkpointing to the plan"
    )


def estimate(plan: Plan, shape: Shape, row_tokens: int, shards: int = 1) -> float:
    """Bytes that PyTorch will reserve: weights, adapters and activations, plus 3 % and 0.25 GiB.

    With T = rows × `row_tokens`, a layer stores 2·T·(7·hidden + 4·key_value + 3·intermediate) bytes in
    bfloat16, or its input alone, 2·T·hidden, when it is recomputed; half of a layer more is in use meanwhile.
    On Qwen3-8B with 4 rows of 2,048 this gives 13.0 GiB in NF4 (12.5 measured), and 58.0 in bfloat16 with all
    activations stored (57.0 measured). `expandable_segments` keeps the reserved memory at what is in use:
    without them, unpacked samples reserved 32.6 GiB of which 13.5 were in use.
    """
    per_weight = NF4_BYTES if plan.quantization == "nf4" else 2
    weights = shape.linear_weights * per_weight + shape.other_weights * 2
    static = (weights + shape.adapter_weights * ADAPTER_BYTES) / shards
    tokens = plan.rows * row_tokens
    stored = 2 * tokens * (7 * shape.hidden + 4 * shape.key_value + 3 * shape.intermediate)
    inputs = 2 * tokens * shape.hidden * shape.layers
    activations = inputs + 1.5 * stored if plan.recompute else stored * shape.layers
    return (static + activations) * 1.03 + 0.25 * GIB


def masked_attention(plan: Plan, shape: Shape, row_tokens: int, *, packed: bool) -> float:
    """Further bytes of PyTorch's plain attention: keys and values copied per query, and a mask per layer.

    Packed rows are concatenated under one mask. On Qwen2.5-1.5B with 4 rows of 2,048 and all activations
    stored this gives 4.8 GiB more than with the kernel for rows of varying length (4.6 measured).
    """
    tokens = plan.rows * row_tokens
    masks = tokens**2 if packed else tokens * row_tokens
    layers = 1 if plan.recompute else shape.layers
    return 2 * layers * (2 * tokens * shape.query + masks)


def _by_speed(config: TrainingConfig) -> list[tuple[str, bool]]:
    """(quantization, recompute), the fastest first, as measured on an H100."""
    order = [("none", False), ("nf4", False), ("none", True), ("nf4", True)]
    return [
        (quantization, recompute)
        for quantization, recompute in order
        if config.quantization in ("auto", quantization)
        and config.gradient_checkpointing in (None, recompute)
        and (config.sharding == "ddp" or quantization == "none")
    ]


def _share(config: TrainingConfig, processes: int) -> int:
    """One card's rows of a step."""
    rows = config.batch_size * config.gradient_accumulation_steps
    if rows % processes:
        raise ConfigError(
            f"batch_size * gradient_accumulation_steps = {rows} rows a step can't be shared evenly by "
            f"{processes} cards: make it a multiple, or choose the cards with CUDA_VISIBLE_DEVICES"
        )
    return rows // processes


def _times(share: int, rows: int) -> int:
    if share % rows:
        raise ConfigError(f"rows_at_once={rows} does not divide the {share} rows of one card's step")
    return share // rows


def _divisors(share: int) -> list[int]:
    return [rows for rows in range(share, 0, -1) if share % rows == 0]
