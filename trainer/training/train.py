"""Training: LoRA on all linear layers with loss on Ada's words alone, by TRL's SFTTrainer and PEFT.

A run's folder holds all that training needs, so that a killed run is resumed by doing the same again.
On several cards `accelerate launch -m trainer.training.train FOLDER MODEL LOG` runs this in every process.
"""

import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from datasets import disable_progress_bars
from transformers.utils.logging import enable_propagation

from services.errors import AdaError
from services.files import write_atomic
from trainer.config import TrainingConfig, load_config
from trainer.log import append_to, log, setup_console
from trainer.runs.checkpoints import step_of
from trainer.runs.folder import BEST, CONFIG_NAME, FAILURE, OUTCOME, best_loss, best_step, last_checkpoint
from trainer.runs.metrics import (
    ALL_SOURCES,
    EVAL_LOSS,
    METRICS,
    eval_losses,
    losses_at,
    median_speed,
    read_lines,
)
from trainer.training.callbacks import MetricsFile, TrainingFailed
from trainer.training.plan import GIB, Plan
from trainer.training.sft import build_trainer, limit_memory, make_plan


@dataclass(frozen=True)
class Outcome:
    """The measurements of a finished run; losses are on held-out samples, in nats per token."""

    loss_before: float
    loss_after: float  # of the last step's adapter
    loss_by_source: dict[str, list[float]]  # before, after
    steps: int
    tokens: int
    seconds: float
    tokens_per_s: float
    peak_memory_gib: float
    plan: str
    best_step: int | None = None  # of the adapter in `best/`
    best_losses: dict[str, float] = field(default_factory=dict)  # its held-out losses: all, and by source


def train_on_all_cards(folder: Path, location: str, log_file: Path) -> Outcome:
    """Train in this process, or, with several cards, in one process per card.

    Returns at once for a folder whose training has ended. Raises as `train` does.
    """
    if (folder / OUTCOME).exists():
        return _read_outcome(folder)
    cards = torch.cuda.device_count()
    if cards <= 1:
        return train(folder, location)
    (folder / FAILURE).unlink(missing_ok=True)
    code = subprocess.run(_launch_command(cards, folder, location, log_file), check=False).returncode
    if code and (folder / FAILURE).exists():
        raise TrainingFailed((folder / FAILURE).read_text(encoding="utf-8"))
    if code:
        raise TrainingFailed(
            f"a training process ended with code {code}: its messages are in {log_file} or above"
        )
    return _read_outcome(folder)


def _launch_command(cards: int, folder: Path, location: str, log_file: Path) -> list[str]:
    launch = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", str(cards)]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    launch += ["--main_process_port", "0"]
    arguments = ["-m", "trainer.training.train", str(folder), location, str(log_file)]
    return [sys.executable, "-m", *launch, *arguments]


def _read_outcome(folder: Path) -> Outcome:
    return Outcome(**json.loads((folder / OUTCOME).read_text(encoding="utf-8")))


def _train(folder: Path, location: str, config: TrainingConfig, plan: Plan) -> Outcome:
    checkpoint = last_checkpoint(folder)
    from_step = step_of(checkpoint) if checkpoint else -1
    metrics = MetricsFile(folder / METRICS, from_step)
    trainer = build_trainer(folder, location, config, plan, metrics, from_step)
    # Not by evaluate(): accelerate would then take the model for prepared, and several cards would silently
    # train one adapter each.
    trainer.args.eval_on_start = checkpoint is None
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if _last_evaluation(folder) != trainer.state.global_step:
        trainer.evaluate()
    trainer.save_model(str(folder))
    outcome = _outcome(folder, trainer.state.global_step, metrics.seconds, plan)
    if _is_first_process():
        write_atomic(folder / OUTCOME, json.dumps(asdict(outcome)))
    return outcome


def train(
    folder: Path,
    location: str,
    fit: Callable[[Path, str, TrainingConfig, Plan], Outcome] = _train,
) -> Outcome:
    """Train in a prepared folder, on the base model at `location`, and save the adapter into the folder.

    Resumes from the folder's last checkpoint. `fit` does the training once the plan is made. Raises
    TrainingFailed when nothing is learned or memory runs out, ConfigError when no plan fits.
    """
    disable_progress_bars()
    enable_propagation()  # of transformers' warnings, to the log file
    config = load_config(folder / CONFIG_NAME, [])
    plan = make_plan(config, location)
    log.info("plan: %s", plan)
    if torch.cuda.is_available():
        limit_memory(config)
    try:
        return fit(folder, location, config, plan)
    except torch.OutOfMemoryError:
        raise TrainingFailed(
            f"out of memory at {peak_memory_gib():.1f} GiB, planned as {plan}: set max_seq_length=1024, "
            "lora_rank=32 or rows_at_once=1, or free the memory that other programs use on this card"
        ) from None


def _last_evaluation(folder: Path) -> int:
    return int(max(line["step"] for line in read_lines(folder / METRICS) if EVAL_LOSS in line))


def _outcome(folder: Path, steps: int, seconds: float, plan: Plan) -> Outcome:
    lines = read_lines(folder / METRICS)
    losses = eval_losses(lines)
    before, after = losses.pop(ALL_SOURCES)
    best = best_step(folder / BEST)
    best_losses = {} if best is None else losses_at(lines, best) | {ALL_SOURCES: best_loss(folder / BEST)}
    return Outcome(
        loss_before=before,
        loss_after=after,
        loss_by_source=losses,
        steps=steps,
        tokens=int(max((line["num_tokens"] for line in lines if "num_tokens" in line), default=0)),
        seconds=seconds,
        tokens_per_s=median_speed(lines),
        peak_memory_gib=peak_memory_gib(),
        plan=str(plan),
        best_step=best,
        best_losses=best_losses,
    )


def peak_memory_gib() -> float:
    """The peak of reserved CUDA memory, or of this process's resident memory on the CPU."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_reserved() / GIB)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _is_first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def main() -> int:
    """One process of several; the first one logs, and writes the message of a failure into the folder."""
    folder, location, log_file = sys.argv[1:]
    if _is_first_process():
        setup_console()
        append_to(Path(log_file))
    try:
        train(Path(folder), location)
    except AdaError as error:
        if _is_first_process():
            (Path(folder) / FAILURE).write_text(str(error), encoding="utf-8")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
