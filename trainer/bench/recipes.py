"""The recipes that the benchmark compares: Ada's training, plain TRL, packed TRL, and Unsloth."""

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from services.persona.base_model import model_cache

WARM_UP = 3  # steps that are not measured: kernels are compiled, memory is reserved
ON_A_SMALL_CARD = "Ada on a 16 GB card"
SPEED: dict[str, dict[str, object]] = {
    "Ada": {},
    ON_A_SMALL_CARD: {"memory_gib": 14.0, "quantization": "nf4"},
}
OTHERS = ("plain TRL", "packed TRL", "Unsloth")
LEARNING: dict[str, Any] = {"learning_rate": 5e-5, "warmup_steps": 0, "seed": 3407}
Row = dict[str, Any]


def measure(name: str, arguments: argparse.Namespace) -> Row:
    """Train by one recipe: tokens per second of the median step after the warm-up, and peak memory in GiB."""
    if name == "Unsloth":
        import unsloth  # noqa: F401  it must be imported before what it replaces
    from trainer.base_model import prepare

    location = prepare(arguments.model, model_cache(os.environ))
    with tempfile.TemporaryDirectory(prefix="ada-bench-") as folder:
        if name in SPEED:
            return _ours(name, location, Path(folder), arguments)
        return _others(name, location, folder, arguments)


def _samples(arguments: argparse.Namespace, vocabulary: int) -> list[np.ndarray]:
    """Random token ids for all steps, the same for every recipe."""
    chance = np.random.default_rng(0)
    lengths = np.clip(
        chance.lognormal(5.6, 0.6, 48 * (arguments.steps + 4)).astype(int), 32, arguments.tokens
    )
    return [chance.integers(1000, vocabulary, length, dtype=np.int32) for length in lengths]


def _ours(name: str, location: str, folder: Path, arguments: argparse.Namespace) -> Row:
    import yaml
    from datasets import Dataset
    from transformers import AutoConfig

    from services.persona.manifest import PERSONA_NAME, TEMPLATE_NAME
    from services.persona.persona import DEFAULT_PERSONA, load_persona
    from services.persona.template import template_for
    from trainer.config import load_config
    from trainer.runs import folder as run_folder
    from trainer.runs.metrics import METRICS, read_lines
    from trainer.training.train import train_on_all_cards

    settings = {
        "model_name": location, "max_seq_length": arguments.tokens, "lora_rank": arguments.rank,
        "max_steps": arguments.steps, "evaluations": 1, "checkpoints": 1, "questions": [],
        **LEARNING, **SPEED[name],
    }  # fmt: skip
    config_file = folder / run_folder.CONFIG_NAME
    config_file.write_text(yaml.safe_dump(settings))
    config = load_config(config_file, arguments.overrides)
    config_file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    ids = _samples(arguments, AutoConfig.from_pretrained(location).vocab_size)
    rows = Dataset.from_dict({"input_ids": ids, "labels": ids, "source": ["random"] * len(ids)})
    rows.select(range(16)).save_to_disk(folder / run_folder.EVAL_ROWS)
    rows.select(range(16, len(rows))).save_to_disk(folder / run_folder.TRAIN_ROWS)
    (folder / PERSONA_NAME).write_text(DEFAULT_PERSONA.read_text(encoding="utf-8"), encoding="utf-8")
    (folder / TEMPLATE_NAME).write_text(template_for(load_persona()), encoding="utf-8")
    outcome = train_on_all_cards(folder, location, folder / "log")
    steps = [line for line in read_lines(folder / METRICS) if "loss" in line]
    return _row(
        name,
        seconds=[line["seconds"] for line in steps],
        tokens=[int(line["num_tokens"]) for line in steps],
        losses=[line["loss"] for line in steps],
        plan=outcome.plan,
        peak_gib=outcome.peak_memory_gib,
    )


def _others(name: str, location: str, folder: str, arguments: argparse.Namespace) -> Row:
    """The other stacks as documented; a batch of 1 x 4 where nothing is packed."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from trainer.training.train import peak_memory_gib

    packed = name != "plain TRL"
    model, tokenizer, adapter = (
        _unsloth(location, arguments) if name == "Unsloth" else _trl(location, arguments)
    )
    ids = _samples(arguments, model.config.vocab_size)[16:]
    seconds: list[float] = []
    trainer = SFTTrainer(
        model=model,
        processing_class=tokenizer,
        peft_config=adapter,
        train_dataset=Dataset.from_dict({"input_ids": ids}),
        callbacks=[_clock(seconds)],
        args=SFTConfig(
            output_dir=folder, max_steps=arguments.steps, max_length=arguments.tokens, packing=packed,
            per_device_train_batch_size=4 if packed else 1, gradient_accumulation_steps=1 if packed else 4,
            bf16=on_cuda(), use_cpu=not on_cuda(), logging_steps=1, save_strategy="no", report_to="none",
            gradient_checkpointing_kwargs={"use_reentrant": False}, lr_scheduler_type="cosine", **LEARNING,
        ),
    )  # fmt: skip
    tokens = _count_tokens(trainer)
    trainer.train()
    batches = trainer.args.gradient_accumulation_steps
    return _row(
        name,
        seconds,
        tokens=tokens[batches - 1 :: batches],
        losses=[line["loss"] for line in trainer.state.log_history if "loss" in line],
        plan="as its documentation has it",
        peak_gib=peak_memory_gib(),
    )


def _trl(location: str, arguments: argparse.Namespace) -> tuple[Any, Any, Any]:
    import torch
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    nf4 = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model = AutoModelForCausalLM.from_pretrained(
        location, dtype=torch.bfloat16, quantization_config=nf4 if on_cuda() else None
    )
    adapter = LoraConfig(
        r=arguments.rank, lora_alpha=2 * arguments.rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    return model, AutoTokenizer.from_pretrained(location), adapter


def _unsloth(location: str, arguments: argparse.Namespace) -> tuple[Any, Any, None]:
    import torch
    from unsloth import FastLanguageModel

    model, tokenizer = FastLanguageModel.from_pretrained(
        location, max_seq_length=arguments.tokens, load_in_4bit=True, dtype=torch.bfloat16
    )
    layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    model = FastLanguageModel.get_peft_model(
        model,
        r=arguments.rank,
        lora_alpha=2 * arguments.rank,
        target_modules=layers,
        use_gradient_checkpointing="unsloth",
    )
    return model, tokenizer, None


def _count_tokens(trainer: Any) -> list[int]:
    """Tokens so far after each batch, without padding: Unsloth's trainer logs none."""
    tokens: list[int] = []
    original = trainer.compute_loss

    def compute_loss(model: object, inputs: dict[str, Any], *args: object, **kwargs: object) -> object:
        mask = inputs.get("attention_mask")
        count = inputs["input_ids"].numel() if mask is None else int((mask != 0).sum())
        tokens.append((tokens[-1] if tokens else 0) + count)
        return original(model, inputs, *args, **kwargs)

    trainer.compute_loss = compute_loss
    return tokens


def _clock(seconds: list[float]) -> Any:
    """A callback that records when each step ended."""
    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_step_end(self, *args: object, **kwargs: object) -> None:
            if on_cuda():
                import torch

                torch.cuda.synchronize()
            seconds.append(time.monotonic())

    return Clock()


def _row(
    name: str, seconds: list[float], tokens: list[int], losses: list[float], plan: str, peak_gib: float
) -> Row:
    durations = np.diff(seconds)[
        WARM_UP - 1 :
    ]  # the median: a kernel compiled late is not the recipe's speed
    return {
        "recipe": name,
        "tokens_per_s": float(np.median(np.diff(tokens)[WARM_UP - 1 :] / durations)),
        "s_per_step": float(np.median(durations)),
        "peak_gib": peak_gib,
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "plan": plan,
    }


def on_cuda() -> bool:
    """Whether PyTorch sees a card."""
    import torch

    return bool(torch.cuda.is_available())
