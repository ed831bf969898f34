"""How fast training is, beside the stacks that people would otherwise use, on this machine, in one go.

python -m trainer.bench [--model ID or folder] [--steps 12] [--only NAME ...] [name=value ...]

Every recipe trains a LoRA of rank 64 on the same random tokens, in samples as long as the real mixture's
(log-normal, mean about 320 tokens), in a process of its own. Prints a table, writes outputs/bench/train.json.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from services.errors import AdaError
from services.persona.base_model import DEFAULT_MODEL_CACHE
from services.process import gpu_lock

if TYPE_CHECKING:
    from torch import Tensor
    from trl import SFTTrainer

WARM_UP = 3  # steps that are not counted: kernels are compiled, memory is reserved
RESULT = "BENCH "
ON_A_SMALL_CARD = "Ada on a 16 GB card"
SPEED = {"Ada": {}, ON_A_SMALL_CARD: {"memory_gib": 14.0, "quantization": "nf4"}}
OTHERS = ("plain TRL", "packed TRL", "Unsloth")
LEARNING = {"learning_rate": 5e-5, "warmup_steps": 0, "seed": 3407}
NOT_INSTALLED = "not installed"
OPTIONAL = ("unsloth", "bitsandbytes")
_BAR = re.compile(r" *\d+%\|[^|]*\|[^\[\]]*\[[^\]]*\]")
Row = dict[str, float | str]


def main() -> int:
    """Entry point; a recipe without its packages is named and left out, one that fails is exit code 1."""
    parser = argparse.ArgumentParser(prog="python -m trainer.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="Qwen/Qwen3-8B")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--tokens", type=int, default=2048, help="a row")
    parser.add_argument("--rank", type=int, default=64)
    parser.add_argument("--only", action="append", choices=[*SPEED, *OTHERS])
    parser.add_argument("--out", type=Path, default=Path("outputs/bench/train.json"))
    parser.add_argument("overrides", nargs="*", metavar="name=value", help="for Ada, such as batch_size=8")
    parser.add_argument("--here", help=argparse.SUPPRESS)  # run this one recipe in this process
    arguments = parser.parse_args()
    if arguments.steps <= WARM_UP:
        parser.error(f"--steps {arguments.steps}: the first {WARM_UP} are not counted, ask for more")
    if arguments.here:
        return _here(arguments)
    on_cuda = _on_cuda()
    if lock := gpu_lock.lock_path(os.environ, on_gpu=on_cuda):
        gpu_lock.hold(lock, "bench")
    rows = [
        _in_its_own_process(name)
        for name in arguments.only or (*SPEED, *OTHERS)
        if on_cuda or name != ON_A_SMALL_CARD
    ]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")
    print(table(rows), f"\n{arguments.out}", sep="\n")
    return int(any("failed" in row and not str(row["failed"]).startswith(NOT_INSTALLED) for row in rows))


def _here(arguments: argparse.Namespace) -> int:
    """Measure one recipe in this process; why it can't be is a result too, told beside no progress bar."""
    try:
        row = measure(arguments.here, arguments)
    except ModuleNotFoundError as error:
        row = {"failed": f"{NOT_INSTALLED}: {error.name}" if error.name in OPTIONAL else _words(error)}
        traceback.print_exc()
    except Exception as error:
        row = {"failed": _words(error)}
        traceback.print_exc()
    print(f"\n{RESULT}{json.dumps(row)}", flush=True)
    return int("failed" in row)


def _words(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def _in_its_own_process(name: str, command: Sequence[str] = ()) -> Row:
    command = command or [sys.executable, "-m", "trainer.bench", *sys.argv[1:], "--here", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    results = [line for line in done.stdout.splitlines() if line.startswith(RESULT)]
    row = json.loads(results[-1].removeprefix(RESULT)) if results else {"failed": _last_words(done)}
    if reason := row.get("failed"):
        print(f"{name}: not measured ({reason[:200]})", flush=True)
        if not reason.startswith(NOT_INSTALLED):
            print(without_bars(done.stderr), file=sys.stderr, flush=True)
        return {"recipe": name, "failed": reason}
    print(f"{name}: {row['tokens_per_s']:,.0f} tokens/s", flush=True)
    return row


def _last_words(done: subprocess.CompletedProcess[str]) -> str:
    """Of a process that left no result: a signal ended it, or something that Python could not catch."""
    ended = f"killed by signal {-done.returncode}" if done.returncode < 0 else f"exit code {done.returncode}"
    lines = without_bars(done.stderr).splitlines()
    return ": ".join([ended, *lines[-1:]])


def without_bars(text: str) -> str:
    """What was said on a terminal, without what progress bars wrote over themselves."""
    lines = (_BAR.sub("", line).rstrip() for line in text.splitlines())
    return "\n".join(line for line in lines if line)


def table(rows: list[Row]) -> str:
    """One line a recipe; what could not be measured says so."""
    lines = [f"{'recipe':22} {'tokens/s':>9} {'s/step':>7} {'GiB':>6} {'first loss':>10} {'last loss':>10}"]
    for row in rows:
        if "failed" in row:
            lines.append(f"{row['recipe']:22} not measured: {str(row['failed'])[:70]}")
            continue
        lines.append(
            f"{row['recipe']:22} {row['tokens_per_s']:>9,.0f} {row['s_per_step']:>7.2f} "
            f"{row['peak_gib']:>6.2f} {row['first_loss']:>10.4f} {row['last_loss']:>10.4f}  {row['plan']}"
        )
    return "\n".join(lines)


def measure(name: str, arguments: argparse.Namespace) -> Row:
    """Train by one recipe; tokens a second of the median step after the warm-up, peak memory in GiB."""
    if name == "Unsloth":
        import unsloth  # noqa: F401  it must be imported before what it replaces
    from trainer.base_model import prepare

    location = prepare(arguments.model, Path(os.environ.get("ADA_MODEL_CACHE", DEFAULT_MODEL_CACHE)))
    with tempfile.TemporaryDirectory(prefix="ada-bench-") as place:
        if name in SPEED:
            return _ours(name, location, Path(place), arguments)
        return _others(name, location, place, arguments)


def _samples(arguments: argparse.Namespace, vocabulary: int) -> list[np.ndarray]:
    """Enough for the steps, and the same ones for every recipe."""
    chance = np.random.default_rng(0)
    lengths = np.clip(
        chance.lognormal(5.6, 0.6, 48 * (arguments.steps + 4)).astype(int), 32, arguments.tokens
    )
    return [chance.integers(1000, vocabulary, length, dtype=np.int32) for length in lengths]


def _ours(name: str, location: str, place: Path, arguments: argparse.Namespace) -> Row:
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
    config_file = place / run_folder.CONFIG_NAME
    config_file.write_text(yaml.safe_dump(settings))
    config = load_config(config_file, arguments.overrides)
    config_file.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    ids = _samples(arguments, AutoConfig.from_pretrained(location).vocab_size)
    rows = Dataset.from_dict({"input_ids": ids, "labels": ids, "source": ["random"] * len(ids)})
    rows.select(range(16)).save_to_disk(place / run_folder.EVAL_ROWS)
    rows.select(range(16, len(rows))).save_to_disk(place / run_folder.TRAIN_ROWS)
    (place / PERSONA_NAME).write_text(DEFAULT_PERSONA.read_text(encoding="utf-8"), encoding="utf-8")
    (place / TEMPLATE_NAME).write_text(template_for(load_persona()), encoding="utf-8")
    outcome = train_on_all_cards(place, location, place / "log")
    steps = [line for line in read_lines(place / METRICS) if "loss" in line]
    return _row(
        name,
        seconds=[line["seconds"] for line in steps],
        tokens=[line["num_tokens"] for line in steps],
        losses=[line["loss"] for line in steps],
        plan=outcome.plan,
        peak_gib=outcome.peak_memory_gib,
    )


def _others(name: str, location: str, place: str, arguments: argparse.Namespace) -> Row:
    """The stacks as their documentation has them; the seed's batch of 1 x 4 where nothing is packed."""
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
            output_dir=place, max_steps=arguments.steps, max_length=arguments.tokens, packing=packed,
            per_device_train_batch_size=4 if packed else 1, gradient_accumulation_steps=1 if packed else 4,
            bf16=_on_cuda(), use_cpu=not _on_cuda(), logging_steps=1, save_strategy="no", report_to="none",
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


def _trl(location: str, arguments: argparse.Namespace) -> tuple[object, object, object]:
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
        location, dtype=torch.bfloat16, quantization_config=nf4 if _on_cuda() else None
    )
    adapter = LoraConfig(
        r=arguments.rank, lora_alpha=2 * arguments.rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    return model, AutoTokenizer.from_pretrained(location), adapter


def _unsloth(location: str, arguments: argparse.Namespace) -> tuple[object, object, None]:
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


def _count_tokens(trainer: "SFTTrainer") -> list[int]:
    """Tokens so far after each batch, padding not counted. Unsloth's trainer logs none."""
    tokens: list[int] = []
    real = trainer.compute_loss

    def counted(model: object, inputs: dict[str, "Tensor"], *args: object, **kwargs: object) -> object:
        mask = inputs.get("attention_mask")
        here = inputs["input_ids"].numel() if mask is None else int((mask != 0).sum())
        tokens.append((tokens[-1] if tokens else 0) + here)
        return real(model, inputs, *args, **kwargs)

    trainer.compute_loss = counted
    return tokens


def _clock(seconds: list[float]) -> object:
    """A callback that notes when each step ended."""
    import time

    from transformers import TrainerCallback

    class Clock(TrainerCallback):
        def on_step_end(self, *args: object, **kwargs: object) -> None:
            if _on_cuda():
                import torch

                torch.cuda.synchronize()
            seconds.append(time.monotonic())

    return Clock()


def _row(
    name: str, seconds: list[float], tokens: list[float], losses: list[float], plan: str, peak_gib: float
) -> Row:
    taken = np.diff(seconds)[WARM_UP - 1 :]  # the median: a kernel compiled late is not the recipe's speed
    return {
        "recipe": name,
        "tokens_per_s": float(np.median(np.diff(tokens)[WARM_UP - 1 :] / taken)),
        "s_per_step": float(np.median(taken)),
        "peak_gib": peak_gib,
        "first_loss": losses[0],
        "last_loss": losses[-1],
        "plan": plan,
    }


def _on_cuda() -> bool:
    import torch

    return torch.cuda.is_available()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except AdaError as error:
        print(f"bench: {error}", file=sys.stderr)
        sys.exit(2)
