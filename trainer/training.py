"""The recipe: a LoRA on all linear layers, loss on Ada's words alone, by TRL's SFTTrainer and PEFT."""

import json
import math
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from trl import SFTConfig, SFTTrainer

from services.errors import AdaError
from services.persona.persona import Persona
from services.persona.prompt import build_messages
from trainer.base_model import uses_bfloat16
from trainer.config import TrainingConfig
from trainer.sample import Sample

END_OF_TURN = "<|im_end|>"


class TrainingFailed(AdaError):
    """The run learned nothing that may be served; the message says what went wrong."""


@dataclass(frozen=True)
class Outcome:
    """What a finished run measured: held-out loss before and after, seconds, GiB, optimiser steps."""

    loss_before: float
    loss_after: float
    seconds: float
    peak_memory_gib: float
    steps: int


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    template: str,
    persona: Persona,
    samples: list[Sample],
    config: TrainingConfig,
    folder: Path,
) -> Outcome:
    """Train an adapter and save it, with metrics.jsonl, into `folder`.

    The first `eval_size` samples are held out. Raises TrainingFailed when the loss is not a number or
    no end of turn carries loss.
    """
    tokenizer.chat_template = template
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    held_out, taught = samples[: config.eval_size], samples[config.eval_size :]
    trainer = SFTTrainer(
        model=model,
        args=_arguments(config, folder),
        train_dataset=dataset(persona, taught),
        eval_dataset=dataset(persona, held_out),
        processing_class=tokenizer,
        peft_config=LoraConfig(
            r=config.lora_rank,
            lora_alpha=config.lora_alpha,
            lora_dropout=config.lora_dropout,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
        callbacks=[MetricsFile(folder / "metrics.jsonl")],
    )
    _check_mask(trainer.train_dataset, tokenizer)
    started = time.monotonic()
    loss_before = trainer.evaluate()["eval_loss"]
    trainer.train()
    loss_after = trainer.evaluate()["eval_loss"]
    trainer.save_model(str(folder))
    return Outcome(
        loss_before=loss_before,
        loss_after=loss_after,
        seconds=time.monotonic() - started,
        peak_memory_gib=peak_memory_gib(),
        steps=trainer.state.global_step,
    )


def dataset(persona: Persona, samples: list[Sample]) -> Dataset:
    """Samples as TRL's conversational data set, each beginning with who Ada is."""
    return Dataset.from_list([{"messages": build_messages(persona, s.turns)} for s in samples])


def _arguments(config: TrainingConfig, folder: Path) -> SFTConfig:
    on_cuda = torch.cuda.is_available()
    return SFTConfig(
        output_dir=str(folder / "checkpoints"),
        per_device_train_batch_size=config.batch_size,
        gradient_accumulation_steps=config.gradient_accumulation_steps,
        num_train_epochs=config.num_epochs,
        max_steps=config.max_steps,
        learning_rate=config.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=config.warmup_steps,
        gradient_checkpointing=config.gradient_checkpointing,
        per_device_eval_batch_size=config.batch_size,
        max_length=config.max_seq_length,
        packing=config.packing,
        assistant_only_loss=True,
        bf16=on_cuda and uses_bfloat16(config),
        use_cpu=not on_cuda,
        dataloader_pin_memory=on_cuda,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        seed=config.seed,
    )


def _check_mask(train_dataset: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
    """An Ada who never learned to stop looks healthy in the loss: see that ends of turn carry it."""
    stop = tokenizer.convert_tokens_to_ids(END_OF_TURN)
    if not any(stop in labels for labels in train_dataset["labels"]):
        raise TrainingFailed(f"no {END_OF_TURN} carries loss in any row: Ada would never stop")


class MetricsFile(TrainerCallback):
    """Writes one JSON line a step, and ends a run whose loss is not a number."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started = time.monotonic()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        if not logs or not {"loss", "eval_loss"} & logs.keys():
            return
        loss = float(logs.get("loss", logs.get("eval_loss", math.nan)))
        if not math.isfinite(loss):
            raise TrainingFailed(f"the loss is {loss} at step {state.global_step}: lower learning_rate")
        seconds = round(time.monotonic() - self.started, 2)
        line = {"step": state.global_step, "of": state.max_steps, "seconds": seconds, **logs}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def peak_memory_gib() -> float:
    """Peak of reserved CUDA memory, or of this process' resident memory on the CPU."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved() / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
