"""The recipe: a LoRA on all linear layers, loss on Ada's words alone, by TRL's SFTTrainer and PEFT.

A run's folder holds all that it needs, so a run that was killed is taken up by doing the same again.
On several cards `accelerate launch -m trainer.training.train FOLDER MODEL` runs this in every process.
"""

import json
import os
import resource
import subprocess
import sys
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import torch
from datasets import Dataset, disable_progress_bars, load_from_disk
from peft import LoraConfig
from transformers import (
    PreTrainedModel,
    PreTrainedTokenizerBase,
    ProgressCallback,
    TrainerCallback,
    set_seed,
)
from transformers.integrations import TensorBoardCallback
from transformers.utils.logging import enable_propagation
from trl import SFTConfig, SFTTrainer

from services.errors import AdaError
from services.files import write_atomic
from services.persona.manifest import PERSONA_NAME, TEMPLATE_NAME
from services.persona.persona import load_persona
from trainer.base_model import load_model, load_tokenizer, shape_of, uses_bfloat16
from trainer.config import TrainingConfig, load_config
from trainer.log import append_to, log, setup_console
from trainer.runs.checkpoints import CHECKPOINTS, step_of
from trainer.runs.folder import (
    BEST,
    CONFIG_NAME,
    EVAL_ROWS,
    FAILURE,
    OUTCOME,
    TRAIN_ROWS,
    best_loss,
    best_step,
    last_checkpoint,
)
from trainer.runs.metrics import (
    ALL_SOURCES,
    EVAL_LOSS,
    METRICS,
    eval_losses,
    losses_at,
    median_speed,
    read_lines,
)
from trainer.training import attention, fused_lora
from trainer.training.callbacks import (
    BestAdapter,
    MetricsFile,
    Progress,
    SampleAnswers,
    Sanity,
    SealedCheckpoints,
    TrainingFailed,
)
from trainer.training.plan import GIB, Plan, plan_for_cards, plan_for_cpu

ALLOCATOR_SETTINGS = (
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_CUDA_ALLOC_CONF",
)  # of PyTorch: the user's own come first
RESERVE = 1.5 * GIB  # of a card's memory, for its driver, its display and what no estimate sees


@dataclass(frozen=True)
class Outcome:
    """What a finished run measured: held-out loss (by source: before, after), steps, tokens, seconds, GiB."""

    loss_before: float
    loss_after: float  # of the last step's adapter
    loss_by_source: dict[str, list[float]]
    steps: int
    tokens: int
    seconds: float
    tokens_per_s: float
    peak_memory_gib: float
    plan: str
    best_step: int | None = None  # of the adapter in `best/`
    best_losses: dict[str, float] = field(default_factory=dict)  # its held-out loss, whole and by source


def train_on_all_cards(folder: Path, location: str, log_file: Path) -> Outcome:
    """Train in this process, or, where there are several cards, in one process a card.

    Does nothing more for a folder whose training has ended. Raises as `train` does.
    """
    if (folder / OUTCOME).exists():
        return Outcome(**json.loads((folder / OUTCOME).read_text(encoding="utf-8")))
    cards = torch.cuda.device_count()
    if cards <= 1:
        return train(folder, location)
    launch = ["accelerate.commands.launch", "--multi_gpu", "--num_processes", str(cards)]
    launch += ["--num_machines", "1", "--mixed_precision", "no", "--dynamo_backend", "no"]
    launch += ["--main_process_port", "0"]
    command = [
        sys.executable,
        "-m",
        *launch,
        "-m",
        "trainer.training.train",
        str(folder),
        location,
        str(log_file),
    ]
    (folder / FAILURE).unlink(missing_ok=True)
    code = subprocess.run(command, check=False).returncode
    if code and (folder / FAILURE).exists():
        raise TrainingFailed((folder / FAILURE).read_text(encoding="utf-8"))
    if code:
        raise TrainingFailed(
            f"a training process ended with code {code}: its words are in {log_file} or above"
        )
    return Outcome(**json.loads((folder / OUTCOME).read_text(encoding="utf-8")))


def train(folder: Path, location: str) -> Outcome:
    """Train what `folder` was prepared for, on the base model at `location`, and save the adapter into it.

    Goes on from the last checkpoint in the folder. Raises TrainingFailed when nothing is learned or memory
    runs out, ConfigError when the plan can't be made.
    """
    disable_progress_bars()
    enable_propagation()  # of transformers' warnings, to the log file
    config = load_config(folder / CONFIG_NAME, [])
    plan = _plan(config, location)
    log.info("plan: %s", plan)
    if torch.cuda.is_available():
        _keep_to_memory(config)
    try:
        return _train(folder, location, config, plan)
    except torch.OutOfMemoryError:
        raise TrainingFailed(
            f"out of memory at {peak_memory_gib():.1f} GiB, planned as {plan}: set max_seq_length=1024, "
            f"lora_rank=32 or rows_at_once=1, or give other programs' memory on this card back"
        ) from None


def _train(folder: Path, location: str, config: TrainingConfig, plan: Plan) -> Outcome:
    checkpoint = last_checkpoint(folder)
    from_step = step_of(checkpoint) if checkpoint else -1
    metrics = MetricsFile(folder / METRICS, from_step)
    trainer = _trainer(folder, location, config, plan, metrics, from_step)
    # Not by evaluate(): that would leave accelerate with a model that it takes for prepared, and several
    # cards would then train one adapter each, without a word.
    trainer.args.eval_on_start = checkpoint is None
    trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    if _last_evaluation(folder) != trainer.state.global_step:
        trainer.evaluate()
    trainer.save_model(str(folder))
    outcome = _outcome(folder, trainer, metrics.seconds, plan)
    if _is_first_process():
        write_atomic(folder / OUTCOME, json.dumps(asdict(outcome)))
    return outcome


def _trainer(
    folder: Path, location: str, config: TrainingConfig, plan: Plan, metrics: MetricsFile, from_step: int
) -> SFTTrainer:
    set_seed(config.seed)  # for the adapter's first weights; the trainer sets it after they are made
    tokenizer = load_tokenizer(location)
    tokenizer.chat_template = (folder / TEMPLATE_NAME).read_text(encoding="utf-8")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    best = BestAdapter(folder)
    trainer = SFTTrainer(
        model=_base(location, config, plan),
        args=_arguments(config, plan, folder),
        train_dataset=load_from_disk(folder / TRAIN_ROWS),
        eval_dataset=_held_out(folder),
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


def _keep_losses_exact(trainer: SFTTrainer) -> None:
    """FSDP's mixed precision would round what the model returns to bfloat16: a loss of 12.739 reads 12.75."""
    plugin = getattr(trainer.accelerator.state, "fsdp_plugin", None)  # on CPUs accelerate shards nothing
    if plugin is not None and plugin.mixed_precision_policy is not None:
        plugin.mixed_precision_policy = replace(plugin.mixed_precision_policy, output_dtype=None)


def _base(location: str, config: TrainingConfig, plan: Plan) -> PreTrainedModel:
    kernel = attention.register() if _is_varlen(config) else "sdpa"
    return load_model(location, config, plan.quantization, kernel)


def _is_varlen(config: TrainingConfig) -> bool:
    return config.packing and attention.is_fast_here()


def _speed_up(model: torch.nn.Module, config: TrainingConfig) -> None:
    """Fused kernels, on cards. docs/measurements/training.md has what each is worth."""
    # FSDP shards one precision; else the adapters are in float32, whose steps bfloat16 could not hold.
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
    # FSDP has no process that holds the whole model.
    questions = () if _is_sharded(config) else config.questions
    persona = load_persona(folder / PERSONA_NAME)
    return SampleAnswers(folder, tokenizer, persona, questions, config.answer_tokens, from_step)


def _boards(config: TrainingConfig, folder: Path) -> list[TrainerCallback]:
    if "tensorboard" not in config.report_to:
        return []
    from torch.utils.tensorboard import SummaryWriter

    return [TensorBoardCallback(SummaryWriter(str(folder / "tensorboard")))]


def _held_out(folder: Path) -> dict[str, Dataset]:
    """All held-out rows, and those of each source."""
    rows = load_from_disk(folder / EVAL_ROWS)
    sources = sorted(set(rows["source"]))
    return {ALL_SOURCES: rows} | {
        name: rows.filter(lambda source, name=name: source == name, input_columns="source")
        for name in sources
    }


def _plan(config: TrainingConfig, location: str) -> Plan:
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if not torch.cuda.is_available():
        return plan_for_cpu(config, processes)
    card = torch.cuda.get_device_properties(torch.cuda.current_device())
    memory = config.memory_gib * GIB if config.memory_gib else card.total_memory - RESERVE
    shape = shape_of(location, config.lora_rank)
    return plan_for_cards(config, shape, memory, processes, varlen=_is_varlen(config))


def _keep_to_memory(config: TrainingConfig) -> None:
    """Let the allocator reserve what is in use, and no more than `memory_gib` where that is set.

    Rows differ in length, and evaluations and answers in shape: in blocks of fixed size each leaves gaps that
    the next can't fill, and far more is reserved than was ever in use (docs/measurements/training.md).
    """
    if not any(os.environ.get(name) for name in ALLOCATOR_SETTINGS):
        torch.cuda.memory._set_allocator_settings("expandable_segments:True")
    if config.memory_gib:
        total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
        torch.cuda.set_per_process_memory_fraction(min(1.0, config.memory_gib * GIB / total))


def _arguments(config: TrainingConfig, plan: Plan, folder: Path) -> SFTConfig:
    on_cuda = torch.cuda.is_available()
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
        logging_nan_inf_filter=False,  # it would put the last good loss in the place of a NaN
        eval_strategy="steps",
        eval_steps=_every(config.evaluations),
        save_strategy="steps",
        save_steps=_every(config.checkpoints),
        save_total_limit=2,  # one to go on from, and the one before it, should a kill tear the last
        report_to=["wandb"] if "wandb" in config.report_to else "none",
        run_name=folder.name.removesuffix(".part"),
        ddp_find_unused_parameters=False,
        **({"fsdp": True, "fsdp_config": {"version": 2}} if _is_sharded(config) else {}),
        seed=config.seed,
    )


def _every(times: int) -> float:
    """So many times a run, as the share of its steps that lies between two."""
    return min(1 / times, 0.9999)  # 1.0 would read as "every step"


def _last_evaluation(folder: Path) -> int:
    return int(max(line["step"] for line in read_lines(folder / METRICS) if EVAL_LOSS in line))


def _outcome(folder: Path, trainer: SFTTrainer, seconds: float, plan: Plan) -> Outcome:
    lines = read_lines(folder / METRICS)
    losses = eval_losses(lines)
    before, after = losses.pop(ALL_SOURCES)
    best = best_step(folder / BEST)
    best_losses = {} if best is None else losses_at(lines, best) | {ALL_SOURCES: best_loss(folder / BEST)}
    return Outcome(
        loss_before=before,
        loss_after=after,
        loss_by_source=losses,
        steps=trainer.state.global_step,
        tokens=int(max((line["num_tokens"] for line in lines if "num_tokens" in line), default=0)),
        seconds=seconds,
        tokens_per_s=median_speed(lines),
        peak_memory_gib=peak_memory_gib(),
        plan=str(plan),
        best_step=best,
        best_losses=best_losses,
    )


def peak_memory_gib() -> float:
    """Peak of reserved CUDA memory, or of this process' resident memory on the CPU."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_reserved() / GIB
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def _is_sharded(config: TrainingConfig) -> bool:
    return config.sharding == "fsdp" and int(os.environ.get("WORLD_SIZE", "1")) > 1


def _is_first_process() -> bool:
    return os.environ.get("RANK", "0") == "0"


def main() -> int:
    """One process of several; the first one speaks, and leaves the words of a failure in the folder."""
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
