"""Builds TRL's SFTTrainer for a run: the base model with a LoRA, its arguments, callbacks and kernels.

TRL's trainer has no types that a checker could use, so it is `Any` here.
"""

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset, load_from_disk
from peft import LoraConfig
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProgressCallback,
    TrainerCallback,
    set_seed,
)
from transformers.integrations import TensorBoardCallback
from trl import SFTConfig, SFTTrainer

from services.files import PART
from services.persona.manifest import PERSONA_NAME, TEMPLATE_NAME
from services.persona.persona import load_persona
from trainer.base_model import load_model, load_tokenizer, shape_of, uses_bfloat16
from trainer.config import TrainingConfig
from trainer.runs.checkpoints import CHECKPOINTS
from trainer.runs.folder import EVAL_ROWS, TRAIN_ROWS
from trainer.runs.metrics import ALL_SOURCES
from trainer.training import attention, fused_lora
from trainer.training.callbacks import (
    BestAdapter,
    MetricsFile,
    Progress,
    SampleAnswers,
    Sanity,
    SealedCheckpoints,
)
from trainer.training.plan import GIB, Plan, plan_for_cards, plan_for_cpu

# PyTorch's environment variables for its allocator: the user's own settings take precedence.
ALLOCATOR_SETTINGS = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF")
RESERVE = 1.5 * GIB  # of a card's memory, for its driver, its display and what no estimate covers


def make_plan(config: TrainingConfig, location: str) -> Plan:
    """The plan for this machine's cards, or for the CPU. Raises ConfigError when none fits."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if not torch.cuda.is_available():
        return plan_for_cpu(config, processes)
    card = torch.cuda.get_device_properties(torch.cuda.current_device())
    memory = config.memory_gib * GIB if config.memory_gib else card.total_memory - RESERVE
    shape = shape_of(location, config.lora_rank)
    return plan_for_cards(config, shape, memory, processes, varlen=_is_varlen(config))


def limit_memory(config: TrainingConfig) -> None:
    """Let the allocator reserve what is in use, and no more than `memory_gib` where that is set.

    Rows differ in length, and evaluations and answers in shape: with blocks of fixed size each leaves gaps
    that the next can't fill, and far more is reserved than was ever in use (docs/measurements/training.md).
    """
    if not any(os.environ.get(name) for name in ALLOCATOR_SETTINGS):
        torch.cuda.memory._set_allocator_settings("expandable_segments:True")
    if config.memory_gib:
        total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, config.memory_gib * GIB / total))


def build_trainer(
    folder: Path, location: str, config: TrainingConfig, plan: Plan, metrics: MetricsFile, from_step: int
) -> Any:
    """An SFTTrainer for a prepared run's folder; `from_step` is the checkpoint's step, -1 without one."""
    set_seed(config.seed)  # for the adapter's first weights; the trainer sets it after they are made
    tokenizer = load_tokenizer(location)
    tokenizer.chat_template = (folder / TEMPLATE_NAME).read_text(encoding="utf-8")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    best = BestAdapter(folder)
    trainer: Any = SFTTrainer(
        model=_base(location, config, plan),
        args=_arguments(config, plan, folder),
        train_dataset=load_from_disk(folder / TRAIN_ROWS),
        eval_dataset=_eval_datasets(folder),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=config.lora_rank,
            lora_alpha=config.lora_alpha,
            lora_dropout=config.lora_dropout,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
        callbacks=[
            metrics,
            Sanity(),
            best,
            SealedCheckpoints(),
            _sample_answers(folder, tokenizer, config, from_step),
            *_boards(config, folder),
        ],
    )
    best.trainer = trainer
    trainer.remove_callback(ProgressCallback)
    trainer.add_callback(Progress())
    _speed_up(trainer.model, config)
    if _is_sharded(config):
        _keep_losses_exact(trainer)
    return trainer


def _keep_losses_exact(trainer: Any) -> None:
    """FSDP's mixed precision would round what the model returns to bfloat16: a loss of 12.739 reads 12.75."""
    plugin = getattr(trainer.accelerator.state, "fsdp_plugin", None)  # on CPUs accelerate shards nothing
    if plugin is not None and plugin.mixed_precision_policy is not None:
        plugin.mixed_precision_policy = replace(plugin.mixed_precision_policy, output_dtype=None)


def _base(location: str, config: TrainingConfig, plan: Plan) -> PreTrainedModel:
    kernel = attention.register() if _is_varlen(config) else "sdpa"
    return load_model(location, config, plan.quantization, kernel)


def _is_varlen(config: TrainingConfig) -> bool:
    return config.packing and attention.is_fast_here()


def _speed_up(model: Any, config: TrainingConfig) -> None:
    """Install fused kernels, on cards. docs/measurements/training.md says what each is worth."""
    # FSDP shards one precision; otherwise the adapters are in float32, whose steps bfloat16 could not hold.
    adapters = next(model.parameters()).dtype if _is_sharded(config) else torch.float32
    for weight in model.parameters():
        if weight.requires_grad:
            weight.data = weight.data.to(adapters)
    if not torch.cuda.is_available():
        return
    from liger_kernel.transformers import _apply_liger_kernel_to_instance

    _apply_liger_kernel_to_instance(
        model=model.get_base_model(), cross_entropy=False, fused_linear_cross_entropy=False
    )
    if not _is_sharded(config):
        fused_lora.fuse(model)


def _sample_answers(
    folder: Path, tokenizer: PreTrainedTokenizerBase, config: TrainingConfig, from_step: int
) -> SampleAnswers:
    # Under FSDP no process holds the whole model.
    questions = () if _is_sharded(config) else config.questions
    persona = load_persona(folder / PERSONA_NAME)
    return SampleAnswers(folder, tokenizer, persona, questions, config.answer_tokens, from_step)


def _boards(config: TrainingConfig, folder: Path) -> list[TrainerCallback]:
    if "tensorboard" not in config.report_to:
        return []
    from torch.utils.tensorboard import SummaryWriter

    return [TensorBoardCallback(SummaryWriter(str(folder / "tensorboard")))]


def _eval_datasets(folder: Path) -> dict[str, Dataset]:
    """All evaluation rows, and those of each source."""
    rows = load_from_disk(folder / EVAL_ROWS)
    sources = sorted(set(rows["source"]))
    return {ALL_SOURCES: rows} | {
        name: rows.filter(lambda source, name=name: source == name, input_columns="source")
        for name in sources
    }


def _arguments(config: TrainingConfig, plan: Plan, folder: Path) -> SFTConfig:
    on_cuda = torch.cuda.is_available()
    sharding: dict[str, Any] = {"fsdp": True, "fsdp_config": {"version": 2}} if _is_sharded(config) else {}
    return SFTConfig(
        output_dir=str(folder / CHECKPOINTS),
        per_device_train_batch_size=plan.rows,
        per_device_eval_batch_size=plan.rows,
        gradient_accumulation_steps=plan.accumulation,
        num_train_epochs=config.num_epochs,
        max_steps=config.max_steps,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup_steps,
        optim="adamw_torch_fused" if on_cuda else "adamw_torch",
        gradient_checkpointing=plan.recompute,
        # In NF4 launching kernels is the bottleneck, and the other kind hooks into every tensor.
        gradient_checkpointing_kwargs={"use_reentrant": True} if plan.recompute else None,
        max_length=config.max_seq_length,
        packing=config.packing,
        bf16=on_cuda and uses_bfloat16(config),
        use_cpu=not on_cuda,
        dataloader_pin_memory=on_cuda,
        logging_steps=1,
        logging_nan_inf_filter=False,  # it would replace a NaN by the last good loss
        eval_strategy="steps",
        eval_steps=_interval(config.evaluations),
        save_strategy="steps",
        save_steps=_interval(config.checkpoints),
        save_total_limit=2,  # one to go on from, and the one before it, should a kill tear the last
        report_to=["wandb"] if "wandb" in config.report_to else "none",
        run_name=folder.name.removesuffix(PART),
        ddp_find_unused_parameters=False,
        seed=config.seed,
        **sharding,
    )


def _interval(times: int) -> float:
    """The interval, as a share of all steps, of something that happens `times` times in a run."""
    return min(1 / times, 0.9999)  # 1.0 would read as "every step"


def _is_sharded(config: TrainingConfig) -> bool:
    return config.sharding == "fsdp" and int(os.environ.get("WORLD_SIZE", "1")) > 1
